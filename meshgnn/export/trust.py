"""How far an area map is to be believed, kept in a file beside its probabilities: `tables/trust.safetensors` of a run.

Arrays by brain: `NAME.unmapped_p` [V], how usual every node is among annotated ones, and `NAME.set_least` [1], the
least probability with which an area is in the set that holds the true one (see `AreaMap`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.store import read_arrays, write_arrays

FILE = "trust.safetensors"


@dataclass(frozen=True, kw_only=True, eq=False)
class Trust:
    """What is known of the map of one brain; None where it is not known. Fields as in `AreaMap`."""

    unmapped_p: NDArray[np.float32] | None = None
    set_least: float | None = None

    def of(self, area_map: AreaMap) -> AreaMap:
        """The map with it. Raises InputError when the numbers of nodes differ."""
        return replace(area_map, unmapped_p=self.unmapped_p, set_least=self.set_least)


def save_trust(path: Path, found: Mapping[str, Trust]) -> None:
    """Write what is known of each brain's map."""
    arrays: dict[str, NDArray[np.float32]] = {}
    for name, one in found.items():
        if one.unmapped_p is not None:
            arrays[f"{name}.unmapped_p"] = one.unmapped_p
        if one.set_least is not None:
            arrays[f"{name}.set_least"] = np.array([one.set_least], np.float32)
    write_arrays(path, arrays)


def load_trust(path: Path, brain: str) -> Trust:
    """What is known of the map of `brain`; nothing where a run of before kept none. Raises InputError if damaged."""
    if not path.is_file():
        return Trust()
    arrays = read_arrays(path)
    least = arrays.get(f"{brain}.set_least")
    if least is not None and (least.shape != (1,) or not 0 <= least[0] <= 1):
        raise InputError(f"{path}: does not hold a probability for {brain}")
    return Trust(unmapped_p=arrays.get(f"{brain}.unmapped_p"), set_least=None if least is None else float(least[0]))
