"""Tables for linear baselines on the same inputs: what a ridge or logistic regression sees of an item."""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from features.standard_mesh import standard_mesh
from features.subject_data.functional_connectivity import fisher
from features.subject_data.series_files import Series
from features.traits.items import TraitItems
from meshgnn.sockets import WindowedItems

SIDE = 8  # parts along a side that volumes are averaged over
TOGETHER = 5  # the same, for parts whose connectivity is taken: a pair has a column
PIECE = 16  # subjects read at a time
PARCELS = 42  # of a hemisphere


def linear_tables(items: TraitItems) -> dict[str, NDArray[np.float64]]:
    """[G, P] by baseline: `linear_NAME` of every input that is not the same as one before, and `linear` of all
    together; NaN where a subject lacks one.

    Volumes are averaged over 8 x 8 x 8 parts of equal size, meshes over 42 parcels of each hemisphere; vectors are
    taken as they are. Of runs over time it sees, as means over all windows of a subject, how much those parts change
    (the logarithm of their standard deviation) and how 5 x 5 x 5 larger parts change together (Fisher's z of their
    correlations, in the last channel); of series of regions, their functional connectivity.
    """
    # Inputs that are read from the same data by other networks are one to a linear model.
    found: dict[str, NDArray[np.float64]] = {}
    keys: set[str] = set()
    for name in items.names:
        if (key := items.data[name].key()) in keys:
            continue
        keys.add(key)
        table = _table(items, name)
        if not any(_alike(table, other) for other in found.values()):
            found[f"linear_{name}"] = table
    if len(found) > 1:
        found["linear"] = np.concatenate(list(found.values()), axis=1)
    return found


def _alike(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether two tables differ in the units of their columns at most."""
    if one.shape != other.shape or not np.array_equal(np.isnan(one), np.isnan(other)):
        return False
    known = ~np.isnan(one).any(1)
    both = [(each - each.mean(0)) / np.maximum(each.std(0), 1e-9) for each in (one[known], other[known])]
    return np.allclose(both[0], both[1], atol=1e-3)


def sees(items: TraitItems, among: Collection[str] | None = None) -> Mapping[str, str]:
    """What each of them sees, in words.

    Args:
        among: names of those that there are; all inputs have one if None.
    """
    parts = {
        4: f", averaged over {SIDE}^3 parts", 2: f", averaged over {2 * PARCELS} parcels",
        5: f", change over time of {SIDE}^3 parts and connectivity of {TOGETHER}^3",
    }  # fmt: skip
    each = {name: name + parts.get(len(items.shapes[name]), "") for name in items.names}
    for name in items.names:
        if isinstance(items.data[name], WindowedItems) and len(items.shapes[name]) == 2:
            each[name] = f"{name}, functional connectivity"
    found = {f"linear_{name}": text for name, text in each.items()}
    return found | {"linear": "; ".join(text for name, text in found.items() if among is None or name in among)}


def _table(items: TraitItems, name: str) -> NDArray[np.float64]:
    data = items.data[name]
    rows = np.flatnonzero(data.observed)
    if isinstance(data, WindowedItems):
        values = np.stack([_over_time(data, int(row)) for row in rows])
    else:
        parts = [_flat(data.read(rows[start : start + PIECE])) for start in range(0, len(rows), PIECE)]
        values = np.concatenate(parts).astype(np.float64)
    table = np.full((len(data.observed), values.shape[1]), np.nan)
    table[rows] = values
    return table


def _over_time(data: WindowedItems, row: int) -> NDArray[np.float64]:
    """[P] means over the windows of a subject: of change and connectivity of parts, or of connectivity."""
    found = []
    for start in data.starts(row).tolist():
        window = data.read_at(np.array([row]), np.array([start]))
        if window.ndim == 6:
            frames = np.moveaxis(window[0], -1, 0)
            change = np.log(_flat(frames).std(0) + 1e-3)
            found.append(np.concatenate([change, _connectivity(_flat(frames[:, -1:], TOGETHER))]))
        elif window.ndim == 3:
            found.append(_connectivity(window[0, :-1, window[0, -1] > 0]))
        else:
            found.append(window[0].ravel())
    return np.asarray(np.mean(found, axis=0), np.float64)


def _connectivity(series: NDArray[np.float32]) -> NDArray[np.float64]:
    """[T, R] -> [R (R - 1) / 2] Fisher's z, the upper triangle row by row."""
    z = fisher(Series(values=series.astype(np.float64), names=(), tr_s=0.0), "pearson")
    return z[np.triu_indices(len(z), 1)]


def _flat(values: NDArray[np.float32], side: int = SIDE) -> NDArray[np.float32]:
    """[B, C, X, Y, Z] -> means over parts [B, C x parts]; [B, V, C] -> means over parcels; [B, P] as they are."""
    if values.ndim == 3:
        return _parcelled(values)
    for axis in (2, 3, 4) if values.ndim == 5 else ():
        cuts = np.linspace(0, values.shape[axis], min(side, values.shape[axis]) + 1).astype(int)
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
