"""Maps of attributions as one record: means over subjects and areas, and their likeness to random weights.

V nodes, S subjects.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from meshgnn.graph import MeshGraph
from meshgnn.mesh.record import HEMISPHERES
from meshgnn.results import AreaAttribution, AttributionMap

LEAST = 0.25  # likeness of random maps that is always reckoned with
Nodes = Mapping[str, tuple[NDArray[np.int64], NDArray[np.int64]]]


def by_area(graph: MeshGraph) -> Nodes:
    """Nodes of every area in cortex, left and right, by name; areas without one are left out."""
    found = {}
    for number, name in enumerate(graph.areas.names):
        here = graph.cortex & (graph.labels == number)
        if here.any():
            found[name] = tuple(np.flatnonzero(here & (graph.hemisphere == side)) for side in HEMISPHERES)
    return found  # type: ignore[return-value]


def map_record(
    target: str,
    name: str,
    method: str,
    values: Mapping[str, NDArray[np.float32]],
    areas: Nodes,
    planted: tuple[str, ...] | None,
    alike: float,
    tells: bool,
) -> AttributionMap:
    """The record of one map.

    Args:
        target, name, method: of the map; name is the input's.
        values: [S, V] trained/magnitude, trained/signed, random/magnitude and other/magnitude (of two draws of random
            weights); NaN outside the volume.
        areas: see `by_area`.
        planted: areas where the trait was planted; None where that is not known.
        alike: share of the likeness of two maps of random weights from which the map has failed.
        tells: whether the network predicts the target.
    """
    size, signed, random = (values[key] for key in ("trained/magnitude", "trained/signed", "random/magnitude"))
    cortex = np.concatenate([np.concatenate(sides) for sides in areas.values()])
    rows = []
    for area, (left, right) in areas.items():
        both = np.concatenate([left, right])
        each = _mean(size[:, both], 1)
        rows.append(
            AreaAttribution(
                rank=0, area=area, nodes=len(both), magnitude=float(_mean(each, 0)), sd=float(np.nanstd(each)),
                left=float(_mean(size[:, left], None)) if len(left) else None,
                right=float(_mean(size[:, right], None)) if len(right) else None,
                signed=float(_mean(signed[:, both], None)), random=float(_mean(random[:, both], None)),
                planted=None if planted is None else area in planted,
            )
        )  # fmt: skip
    rows = [row for row in rows if np.isfinite(row.magnitude)]
    rows.sort(key=lambda row: -row.magnitude)
    ranked = tuple(AreaAttribution(**{**row.__dict__, "rank": k}) for k, row in enumerate(rows, 1))
    trained, first, second = (
        _mean(values[f"{kind}/magnitude"][:, cortex], 0) for kind in ("trained", "random", "other")
    )
    r = (likeness(trained, first) + likeness(trained, second)) / 2
    among = likeness(first, second)
    return AttributionMap(
        target=target, input=name, method=method, subjects=len(size), random_r=r, random_among=among,
        passed=r < alike * max(among, LEAST), tells=tells,
        areas=ranked,
    )  # fmt: skip


def likeness(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Spearman's rank correlation over the nodes where both are known; 1 for maps that are the same everywhere."""
    both = np.isfinite(one) & np.isfinite(other)
    if both.sum() < 3 or np.ptp(one[both]) == 0 or np.ptp(other[both]) == 0:
        return 1.0  # a constant map is no map
    return float(spearmanr(one[both], other[both]).statistic)


def _mean(values: NDArray[np.floating], axis: int | None) -> NDArray[np.float64]:
    """Mean of what is known; NaN where nothing is."""
    known = np.isfinite(values)
    count = known.sum(axis)
    total = np.where(known, values, 0).sum(axis, dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
