"""Tables for linear baselines on the same inputs: what a ridge or logistic regression sees of an item."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from features.standard_mesh import standard_mesh
from features.traits.items import TraitItems

SIDE = 8  # parts along a side that volumes are averaged over
PIECE = 16  # subjects read at a time
PARCELS = 42  # of a hemisphere


def linear_tables(items: TraitItems) -> dict[str, NDArray[np.float64]]:
    """[G, P] by baseline: `linear_NAME` of every input, and `linear` of all together; NaN where a subject lacks one.

    Volumes are averaged over 8 x 8 x 8 parts of equal size, meshes over 42 parcels of each hemisphere; vectors are
    taken as they are.
    """
    found = {f"linear_{name}": _table(items, name) for name in items.names}
    if len(found) > 1:
        found["linear"] = np.concatenate(list(found.values()), axis=1)
    return found


def sees(items: TraitItems) -> Mapping[str, str]:
    """What each of them sees, in words."""
    parts = {4: f", averaged over {SIDE}^3 parts", 2: f", averaged over {2 * PARCELS} parcels"}
    each = {name: name + parts.get(len(items.shapes[name]), "") for name in items.names}
    return {f"linear_{name}": text for name, text in each.items()} | {"linear": "; ".join(each.values())}


def _table(items: TraitItems, name: str) -> NDArray[np.float64]:
    data = items.data[name]
    rows = np.flatnonzero(data.observed)
    parts = [_flat(data.read(rows[start : start + PIECE])) for start in range(0, len(rows), PIECE)]
    values = np.concatenate(parts).astype(np.float64)
    table = np.full((len(data.observed), values.shape[1]), np.nan)
    table[rows] = values
    return table


def _flat(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """[B, C, X, Y, Z] -> means over parts [B, C x parts]; [B, V, C] -> means over parcels; [B, P] as they are."""
    if values.ndim == 3:
        return _parcelled(values)
    for axis in (2, 3, 4) if values.ndim == 5 else ():
        cuts = np.linspace(0, values.shape[axis], min(SIDE, values.shape[axis]) + 1).astype(int)
        values = np.stack([part.mean(axis) for part in np.split(values, cuts[1:-1], axis)], axis)
    return values.reshape(len(values), -1)


def _parcelled(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """[B, V, C] of nodes, the last column their mask -> [B, parcels x (C - 1)] means over the nodes in the mask."""
    nodes = values.shape[1]
    parcel = standard_mesh(nodes).parcels(min(PARCELS, nodes // 2))
    member = (parcel[None] == np.arange(parcel.max() + 1)[:, None]).astype(np.float32)  # [parcels, V]
    inside = values[..., -1:]
    total = member @ (values[..., :-1] * inside)
    return np.asarray(total / np.maximum(member @ inside, 1)).reshape(len(values), -1)
