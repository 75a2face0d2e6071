"""Networks that a user wrote outside this package: found again in a worker, and when their stored models are loaded.

A worker is told by its parent where the class of the config is defined, and imports that module. A stored model names a
class alone: it is built if the package knows it, or if this process has imported it already. No file makes anything be
imported.
"""

import importlib
import runpy
import sys
from functools import lru_cache, reduce
from operator import or_
from typing import Any, get_args

from meshgnn.nn import NetworkConfig, TrunkConfig
from meshgnn.nn.residual import ResidualConfig


def where_defined(kind: type) -> dict[str, str]:
    """What `imported` needs to know of a class, JSON-ready."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None) or ""
    return {"module": kind.__module__, "file": file if kind.__module__ == "__main__" else "", "name": kind.__qualname__}


def imported(place: dict[str, str]) -> Any:
    """The class that the parent process spoke of; its script is run as a module if the class is defined there."""
    if place["module"] != "__main__":
        return reduce(getattr, place["name"].split("."), importlib.import_module(place["module"]))
    first, *rest = place["name"].split(".")
    return reduce(getattr, rest, _script(place["file"])[first])


@lru_cache(maxsize=1)
def _script(file: str) -> dict[str, Any]:
    return runpy.run_path(
        file, run_name="__mp_main__"
    )  # as multiprocessing does: not "__main__", so that it only defines


def networks() -> Any:
    """The union of all networks that may stand in a stored model: the package's and those imported by now."""
    found = list(get_args(NetworkConfig))
    waiting: list[type[TrunkConfig]] = [TrunkConfig]
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        if kind not in (TrunkConfig, ResidualConfig, *found):
            found.append(kind)
    return reduce(or_, found)
