"""Lock of an output folder: one run or sweep at a time."""

import contextlib
import errno
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout

from traces.shared.interruption import remove_on_forced_exit

LOCK = ".lock"
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)


class FolderTakenError(ValueError):
    """Another process writes to the folder.

    The message is one line that names the folder.
    """


def take(folder: Path) -> Callable[[], None]:
    """Create and lock a folder; return a function that releases it.

    The system drops the lock when the process ends, however it ends. On a file system without locks there is none, and
    a line on stderr says so.

    Raises:
        FolderTakenError: Another process holds the lock.
        OSError: The folder cannot be created or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    # The fallback of filelock, the mere existence of the file, would outlive a process killed on another machine.
    lock = FileLock(path, timeout=0, fallback_to_soft=False, on_acquired=_write_owner)
    try:
        lock.acquire()
    except Timeout:
        raise FolderTakenError(f"{folder} is in use by {_owner(path)}") from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        print(f"warning: {folder} cannot be locked here: do not write to it twice at a time", file=sys.stderr)
    cancel_removal = remove_on_forced_exit(path)

    def release() -> None:
        cancel_removal()
        with contextlib.suppress(PermissionError):  # Windows: it is open, and removed with the lock
            path.unlink(missing_ok=True)
        lock.release()

    return release


def _write_owner(file: int) -> None:
    os.ftruncate(file, 0)
    os.write(file, f"process {os.getpid()} on {socket.gethostname()}".encode())


def _owner(path: Path) -> str:
    with contextlib.suppress(OSError):  # its owner has just removed it; Windows: a locked file cannot be read
        return path.read_text(encoding="utf-8", errors="replace")[:100].strip() or "another process"
    return "another process"
