"""Node inputs: features at several scales of smoothing, standardised within each hemisphere, and coordinates.

Standardising within a hemisphere looks at the features of the test part, never at its labels: it is what lets a model
meet another brain or another scanner. V nodes, C features, S scales.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from meshgnn.config import Config as BaseConfig
from meshgnn.data.derived import RIM_PREFIX, scaled_rounds
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import MeshGraph
from meshgnn.mesh.align import IDENTITY, MIRROR, Similarity, align_points
from meshgnn.mesh.operators import one_ring_average
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.registration.brains import REGISTERED
from meshgnn.registration.match import RADIUS_MM

Alignment = Literal["auto", "mirror", "rigid", "similarity", "registered"]
# Known features that were embedded over both hemispheres together; a report must say so.
TRANSDUCTIVE = frozenset({"histG1", "histG2"})


@dataclass(frozen=True, kw_only=True, eq=False)
class RawFeatures:
    """All chosen columns of a graph's tables, side by side.

    Args:
        values: [V, C] float32; a row without a value holds the mean over its known neighbourhood.
        known: [V] bool, in cortex and with a value in every column.
        names: C names.
    """

    values: NDArray[np.float32]
    known: NDArray[np.bool_]
    names: tuple[str, ...]


def check_rounds(rounds: Sequence[int]) -> None:
    """Raises SettingError when the scales of a config's `rounds` do not ascend, or are too many or too wide."""
    if any(later <= earlier for earlier, later in zip((0, *rounds), rounds)):
        raise SettingError(f"<rounds> must ascend from 1, got {list(rounds)[:9]}")
    if len(rounds) > 64 or max(rounds, default=0) > 100_000:
        raise SettingError("<rounds> may name at most 64 scales of 100000 rounds")


class NodeInputs:
    """Chooses features and makes arrays of them."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            coordinates: give the model midthickness coordinates (mirrored between hemispheres).
            exclude: features to leave out.
            only: features to use, all if empty.
            rounds: scales of smoothing, in rounds of one-ring averages on a mesh of 10,000 nodes per hemisphere;
                finer meshes get proportionally more, so that a scale means the same area of cortex.
            scaling: how a feature is standardised within a hemisphere: by rank to a normal distribution, or by mean
                and standard deviation.
            rim: add the share of cortex around each node at several scales, if there is a cortex mask.
            check: leave out features that relate differently to the others in the training and the test part.
            align: how another hemisphere's coordinates are brought into the frame of the training part. auto chooses
                between mirror and rigid on validation nodes; registered takes places on the registered sphere, in mm at
                radius 100 mm, in place of midthickness coordinates.
        """

        coordinates: bool = True
        exclude: tuple[str, ...] = ()
        only: tuple[str, ...] = ()
        rounds: tuple[int, ...] = (5, 15, 40, 80, 160)
        scaling: Literal["rank", "zscore"] = "rank"
        rim: bool = True
        check: bool = True
        align: Alignment = "auto"

        def __post_init__(self) -> None:
            check_rounds(self.rounds)

        def build(self) -> "NodeInputs":
            return NodeInputs(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def names(self, graph: MeshGraph) -> tuple[str, ...]:
        """The features in use. Raises InputError when `exclude` or `only` names one that is not there."""
        there = [name for table in graph.tables.values() for name in table.columns]
        double = [name for name in there if there.count(name) > 1]
        if double:
            raise SettingError(f"two tables hold a feature {double[0]!r}; name one of them in <exclude>")
        for name in (*self.config.exclude, *self.config.only):
            if name not in there:
                key = "exclude" if name in self.config.exclude else "only"
                raise SettingError(f"<{key}>: there is no feature {name!r}; there is {', '.join(there) or 'none'}")
        wanted = self.config.only or there
        return tuple(name for name in there if name in wanted and name not in self.config.exclude)

    def raw(self, graph: MeshGraph, edges: NDArray[np.int32], names: Sequence[str]) -> RawFeatures:
        """The columns `names`. Raises InputError when the graph lacks one."""
        columns, known = [], graph.cortex.copy()
        for name in names:
            table = next((table for table in graph.tables.values() if name in table.columns), None)
            if table is None:
                raise InputError(f"{graph.brain} has no feature {name!r}, which the model was trained on")
            columns.append(table.values[:, table.columns.index(name)])
            known &= table.mask
        if not columns:
            return RawFeatures(values=np.zeros((graph.n_nodes, 0), np.float32), known=known, names=())
        values = np.stack(columns, axis=1)
        for place in graph.slices().values():
            if graph.cortex[place].any() and not known[place].any():
                raise InputError(f"{graph.brain}: no node of a hemisphere has a value in every feature; exclude some")
        return RawFeatures(values=fill_gaps(values, known, graph, edges), known=known, names=tuple(names))

    def features(self, graph: MeshGraph, edges: NDArray[np.int32], raw: RawFeatures) -> NDArray[np.float32]:
        """[V, C (S + 1)] inputs: each feature raw and at every scale; 0 outside cortex."""
        if not raw.names:
            return np.zeros((graph.n_nodes, 0), np.float32)
        result = np.zeros((graph.n_nodes, len(raw.names) * (len(self.config.rounds) + 1)), np.float32)
        for place in graph.slices().values():
            inside = graph.cortex[place]
            if not inside.any():
                continue
            scaled = np.zeros((len(inside), len(raw.names)), np.float32)
            scaled[inside] = _scaled(raw.values[place][inside], self.config.scaling)
            # Most nodes lie deep inside cortex with a share of nearly 1: ranks would blow rounding errors up.
            rim = np.array([name.startswith(RIM_PREFIX) for name in raw.names])
            scaled[np.ix_(inside, rim)] = _scaled(raw.values[place][inside][:, rim], "zscore")
            here = edges[:, (edges[0] >= place.start) & (edges[0] < place.stop)] - place.start
            rounds = scaled_rounds(self.config.rounds, int(inside.sum()))
            scales = [scaled, *one_ring_average(scaled, inside, here, rounds)]
            block = np.concatenate([_scaled(scale[inside], "zscore") for scale in scales], axis=1)
            part = result[place]
            part[inside] = np.clip(block, -5, 5)
        return result

    def frame(self, graph: MeshGraph, part: NDArray[np.bool_]) -> "CoordinateFrame":
        """The coordinate frame of the training part: what `coordinates` are expressed in."""
        hemispheres = sorted(set(graph.hemisphere[part].tolist()))
        points = graph.vertices_mm[part].astype(np.float64)
        if self.config.align == "registered":
            points = registered_mm(graph, hemispheres[0])[part].astype(np.float64)
        elif len(hemispheres) == 2:
            points = np.where((graph.hemisphere[part] == "R")[:, None], MIRROR(points), points)
        keep = points[:: max(1, len(points) // 4000)]
        return CoordinateFrame(
            hemisphere=hemispheres[0],
            space=graph.space,
            centre_mm=points.mean(0),
            unit_mm=float(points.std()),
            cloud_mm=keep.astype(np.float32),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class CoordinateFrame:
    """Where the training part lay.

    Args:
        hemisphere: whose orientation is kept; the other is mirrored (x -> -x).
        space: of the training brain.
        centre_mm: [3].
        unit_mm: one number for all axes, so that shapes stay true.
        cloud_mm: [N, 3] a sample of the training part, which others are aligned to.
    """

    hemisphere: str
    space: str
    centre_mm: NDArray[np.float64]
    unit_mm: float
    cloud_mm: NDArray[np.float32]

    def transform(self, graph: MeshGraph, mesh: SurfaceMesh, align: Alignment) -> Similarity:
        """How a hemisphere of `graph` comes into this frame.

        Raises:
            InputError: another space and only a mirror asked for.
        """
        if align == "mirror" and graph.space != self.space:
            raise InputError(
                f"{graph.brain} lies in space {graph.space}, the training brain in {self.space}: coordinates cannot be "
                "mixed without a transform; use --set align=similarity"
            )
        base = IDENTITY if mesh.hemisphere == self.hemisphere else MIRROR
        if align == "mirror":
            return base
        points = base(mesh.vertices_mm[graph.cortex[graph.slices()[mesh.hemisphere]]])
        fitted = align_points(points, self.cloud_mm, with_scale=align == "similarity")
        return Similarity(rotation=fitted.rotation @ base.rotation, shift_mm=fitted.shift_mm, scale=fitted.scale)

    def coordinates_mm(
        self, graph: MeshGraph, align: Alignment, fixed: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """[V, 3] in this frame, mm. Nodes of `fixed` (the training part itself) are mirrored at most, never moved.

        Raises:
            InputError: registered places of a brain without a registered sphere, or see `transform`.
        """
        if align == "registered":
            return registered_mm(graph, self.hemisphere)
        result = np.zeros((graph.n_nodes, 3), np.float32)
        for mesh, place in zip(graph.meshes, graph.slices().values()):
            still = fixed is not None and bool(fixed[place].any())
            result[place] = self.transform(graph, mesh, "mirror" if still else align)(mesh.vertices_mm)
        return result

    def scaled(self, coordinates_mm: NDArray[np.floating]) -> NDArray[np.float32]:
        """Coordinates as model inputs: centred, in units of `unit_mm`."""
        return ((coordinates_mm - self.centre_mm) / self.unit_mm).astype(np.float32)


def registered_points(graph: MeshGraph, hemisphere: str) -> NDArray[np.float32]:
    """[V, 3] unit vectors on the registered sphere of a brain that brings one, [V, 0] otherwise.

    Args:
        hemisphere: whose orientation is kept; the other is mirrored (x -> -x).
    """
    if REGISTERED not in graph.surfaces:
        return np.zeros((graph.n_nodes, 0), np.float32)
    points = graph.surfaces[REGISTERED].astype(np.float64)
    points = np.where((graph.hemisphere == hemisphere)[:, None], points, points * [-1, 1, 1])
    return (points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-9)).astype(np.float32)


def registered_mm(graph: MeshGraph, hemisphere: str) -> NDArray[np.float32]:
    """[V, 3] `registered_points` at radius 100 mm.

    Raises:
        InputError: the brain brings no registered sphere.
    """
    points = registered_points(graph, hemisphere)
    if not points.shape[1]:
        raise InputError(
            f"{graph.brain} has no registered sphere (surface {REGISTERED}), which align=registered needs; make one "
            "with python -m meshgnn.registration"
        )
    return points * np.float32(RADIUS_MM)


def _scaled(values: NDArray[np.floating], how: str) -> NDArray[np.float32]:
    """Columns standardised over their rows; a constant column becomes 0."""
    if how == "rank":
        ranks = rankdata(values, axis=0, method="average")
        normal = ndtri((ranks - 0.5) / len(values))
        constant = values.max(0) == values.min(0)
        return np.where(constant, 0, normal).astype(np.float32)
    centred = values - values.mean(0, dtype=np.float64)
    deviation = centred.std(0)
    return np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 1e-8).astype(np.float32)


def fill_gaps(
    values: NDArray[np.float32], known: NDArray[np.bool_], graph: MeshGraph, edges: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Rows in cortex without a value take the mean of their known neighbours, ring by ring; the rest takes the mean."""
    filled, have = np.where(known[:, None], values, 0).astype(np.float32), known.copy()
    for _ in range(50):
        gaps = graph.cortex & ~have
        if not gaps.any():
            return filled
        receiver, sender = edges[:, gaps[edges[0]] & have[edges[1]]]
        if len(receiver) == 0:
            break
        count = np.bincount(receiver, minlength=len(have))
        reached = count > 0
        for column in range(values.shape[1]):
            total = np.bincount(receiver, filled[sender, column], len(have))
            filled[reached, column] = (total[reached] / count[reached]).astype(np.float32)
        have |= reached
    for place in graph.slices().values():
        left = graph.cortex[place] & ~have[place]
        if left.any():
            part = filled[place]
            part[left] = values[place][known[place]].mean(0)
    return filled
