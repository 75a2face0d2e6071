"""Where numba keeps compiled code.

numba keeps it in the folder of the source, or else in the user's cache folder. Where it may write to neither (a
read-only installation and home, as in containers and on clusters), it refuses to import a function; then a folder for
temporary files takes their place. What is kept there is loaded as code, so nobody else may own it.
"""

import atexit
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path


def place_cache(package: Path) -> None:
    """Set NUMBA_CACHE_DIR if numba would find no other place for the code of the package in this folder."""
    wanted = os.environ.get("NUMBA_CACHE_DIR")
    usual = Path.home() / "Library" / "Caches" if sys.platform == "darwin" else Path.home() / ".cache"
    places = [Path(wanted)] if wanted else []
    places += [package / "__pycache__", Path(os.environ.get("XDG_CACHE_HOME") or usual)]
    if any(map(_may_write, places)):
        return
    folder = str(_own_folder())
    os.environ["NUMBA_CACHE_DIR"] = folder
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = folder


def _may_write(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _own_folder() -> Path:
    """The same one for all runs of this user if it is safe, else one for this process."""
    folder = Path(tempfile.gettempdir()) / f"meshgnn-compiled-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        about = folder.lstat()
        if stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid() and not about.st_mode & 0o077:
            return folder
    except OSError:
        pass
    folder = Path(tempfile.mkdtemp(prefix="meshgnn-compiled-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
