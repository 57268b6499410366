"""One run or sweep at a time writes into a folder."""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path

from traces.shared.interruption import remove_at_last

LOCK = ".lock"


class FolderTakenError(ValueError):
    """Another process writes into the folder; the message is one line and says which."""


def take(folder: Path) -> Callable[[], None]:
    """Take a folder, which is made if it is not there, for this process; call what is returned to give it back.

    The lock is the kernel's, so that it ends with the process, whatever ends that. A file system that has no locks
    goes without.

    Raises:
        FolderTakenError: Another process has it.
        OSError: The folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    while True:
        file = open(path, "a+", encoding="utf-8")  # noqa: SIM115  # it is the lock, as long as it is open
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                break
            file.seek(0)
            owner = file.read(100).strip() or "another process"
            file.close()
            raise FolderTakenError(f"{folder} is taken by {owner}") from None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                break
        file.close()  # its owner has just given it back and removed it
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()

    forget = remove_at_last(path)

    def give_back() -> None:
        forget()
        path.unlink(missing_ok=True)
        file.close()

    return give_back
