"""Memory of a CPU engine: what was freed is kept, as the caching allocator of a GPU keeps it."""

import ctypes
import sys

# Parameters of glibc's mallopt, malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MOST = 1 << 25  # the most that it takes


def keep_freed_memory() -> bool:
    """Let glibc return no memory to the operating system; else every large tensor is paged in again.

    Returns:
        Whether the C library is glibc and does so.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not hasattr(libc, "gnu_get_libc_version"):
        return False
    return all(libc.mallopt(name, _MOST) == 1 for name in (_TRIM_THRESHOLD, _MMAP_THRESHOLD))
