"""What all commands share: exit codes, and errors of the user's side as a single line instead of a traceback."""

import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from meshgnn.errors import InputError
from meshgnn.store import drop_asides

# What goes wrong with files through no fault of this program: rights, space, size, media, names.
_NAMES = (
    "EACCES", "EDQUOT", "EFBIG", "EIO", "EISDIR", "ELOOP", "EMFILE", "ENAMETOOLONG", "ENFILE", "ENOENT", "ENOSPC",
    "ENOTDIR", "EPERM", "EROFS", "ESTALE",
)  # fmt: skip
_FILES = frozenset(getattr(errno, name) for name in _NAMES if hasattr(errno, name))


_CUT = re.compile(r"requested and \d+ written")  # numpy's message when the disk is full


def guarded(work: Callable[[], int], *, stopped: str = "stopped") -> int:
    """Do the work of a command; returns its exit code.

    0 done, 2 wrong input or files that cannot be read or written (one line on stderr), 130 stopped by Ctrl-C. A fault
    of ours stays an exception. A process that is told to end (SIGTERM) first removes what it was writing.

    Args:
        work: returns an exit code.
        stopped: what to print after Ctrl-C.
    """
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _end)
    try:
        return work()
    except InputError as error:
        return _refused(str(error))
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        print(stopped, file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno is None and _CUT.search(str(error)):
            error.errno, error.strerror = errno.ENOSPC, os.strerror(errno.ENOSPC)
        if error.errno not in _FILES:
            raise
        return _refused(disk_error_text(error))


def disk_error_text(error: OSError) -> str:
    """The error in one line: which file, what is wrong with it, what to do."""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    remedy = {
        errno.ENOSPC: "; make room, then the same command goes on",
        errno.EDQUOT: "; make room, then the same command goes on",
        errno.EACCES: "; check the rights of file and folder",
    }.get(error.errno or 0, "")
    return f"{' -> '.join(names) or 'a file'}: {error.strerror}{remedy}"


def _refused(text: str) -> int:
    print(f"error: {text}", file=sys.stderr)
    return 2


def _end(number: int, _: FrameType | None) -> None:
    drop_asides()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
