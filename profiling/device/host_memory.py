"""Host memory of an engine on a CPU.

glibc keeps freed memory, as the caching allocator does on a GPU.
"""

import ctypes
import sys

# Parameters of glibc's mallopt, malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MAX = 1 << 25  # the largest value that glibc accepts


def keep_freed_memory() -> bool:
    """Make glibc keep freed memory.

    Otherwise every large tensor is paged in again.

    Returns:
        Whether the C library is glibc and accepted the settings.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not hasattr(libc, "gnu_get_libc_version"):
        return False
    return all(libc.mallopt(name, _MAX) == 1 for name in (_TRIM_THRESHOLD, _MMAP_THRESHOLD))
