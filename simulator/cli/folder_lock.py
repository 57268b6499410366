"""Lock of an output folder: one run or sweep at a time."""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path

from traces.shared.interruption import remove_on_forced_exit

LOCK = ".lock"


class FolderTakenError(ValueError):
    """Another process writes to the folder.

    The message is one line that names the folder.
    """


def take(folder: Path) -> Callable[[], None]:
    """Create and lock a folder; return a function that releases it.

    The kernel drops the lock when the process ends, however it ends. On a file system without locks there is none.

    Raises:
        FolderTakenError: Another process holds the lock.
        OSError: The folder cannot be created or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    while True:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115  # locked while open
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                break
            file.seek(0)
            owner = file.read(100).strip() or "another process"
            file.close()
            raise FolderTakenError(f"{folder} is in use by {owner}") from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()  # its owner has just released and removed it
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()

    cancel_removal = remove_on_forced_exit(path)

    def release() -> None:
        cancel_removal()
        path.unlink(missing_ok=True)
        file.close()

    return release
