"""Memory that a training uses again instead of giving it back to the system between two steps."""

import ctypes
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Of mallopt(3) of the GNU C library, with its defaults.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
DEFAULT_TRIM, DEFAULT_MMAPS = 128 * 1024, 65536
_LOCK = threading.Lock()
_depth = 0  # of contexts that are open in this process


@contextmanager
def memory_kept() -> Iterator[None]:
    """While it is open, memory that is freed stays with the process.

    Steps on volumes ask for the same tens of megabytes again and again. The GNU C library gives each back to the system
    and has it cleared anew, which takes as long as the arithmetic of small networks does. Other C libraries are left as
    they are; numbers do not change.
    """
    global _depth
    library = _gnu()
    with _LOCK:
        _depth += 1
        if library is not None and _depth == 1:
            library.mallopt(MMAP_MAX, 0)
            library.mallopt(TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        with _LOCK:
            _depth -= 1
            if library is not None and not _depth:
                library.mallopt(MMAP_MAX, DEFAULT_MMAPS)
                library.mallopt(TRIM_THRESHOLD, DEFAULT_TRIM)
                library.malloc_trim(0)


def _gnu() -> ctypes.CDLL | None:
    """The C library of this process, if it is GNU's."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") and hasattr(library, "mallopt") else None
