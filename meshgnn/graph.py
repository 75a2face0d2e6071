"""The records that every part shares: feature tables, node locations, areas, and the brain as one graph.

All arrays are numpy, checked when a record is made, and read-only afterwards. V nodes, E directed edges, C channels,
K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError
from meshgnn.mesh.record import Hemisphere, SurfaceMesh, frozen
from meshgnn.mesh.topology import directed_edges

if TYPE_CHECKING:
    from networkx import Graph
    from torch_geometric.data import Data


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class FeatureTable:
    """One row of values per node (or one row for a whole graph).

    Args:
        name: of the table.
        values: [V, C] float32, or [1, C] for a graph. Rows outside the mask are stored as 0.
        mask: [V] bool, True where the row is known. A NaN inside the mask is an error: mask the row instead.
        columns: C names.
        units: C units ("mm", "1/mm", "" if none).
        encoder: identity of what computed it (config and weights hash); empty for values read from a file.
    """

    name: str
    values: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    columns: tuple[str, ...]
    units: tuple[str, ...] = ()
    encoder: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float32)
        mask = np.asarray(self.mask, dtype=bool)
        if values.ndim != 2 or mask.shape != (len(values),):
            raise InputError(f"table {self.name!r}: values {values.shape} and mask {mask.shape} do not fit together")
        if len(self.columns) != values.shape[1] or len(set(self.columns)) != len(self.columns):
            raise InputError(f"table {self.name!r}: {values.shape[1]} columns need as many distinct names")
        units = self.units or ("",) * len(self.columns)
        if len(units) != len(self.columns):
            raise InputError(f"table {self.name!r}: {len(units)} units for {len(self.columns)} columns")
        if not np.isfinite(values[mask]).all():
            raise InputError(f"table {self.name!r}: values inside the mask are not finite; mask those rows")
        object.__setattr__(self, "values", frozen(np.where(mask[:, None], values, 0), np.float32))
        object.__setattr__(self, "mask", frozen(mask, bool))
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "units", tuple(units))
        object.__setattr__(self, "encoder", MappingProxyType(dict(self.encoder)))

    def select(self, columns: Sequence[str]) -> "FeatureTable":
        """The table with these columns only, in this order."""
        missing = [name for name in columns if name not in self.columns]
        if missing:
            raise InputError(f"table {self.name!r} has no column {missing[0]!r}; it has {', '.join(self.columns)}")
        keep = [self.columns.index(name) for name in columns]
        units = tuple(self.units[k] for k in keep)
        return replace(self, values=self.values[:, keep], columns=tuple(columns), units=units)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class NodeLocations:
    """Where each node lies on which section.

    Args:
        section: [V] int32, index of the section in its stack; -1 where none is near enough.
        row_px, column_px: [V] float64, position in that section's full-resolution pixels.
        normal_angle_deg: [V] float32, in-plane angle of the cortical normal (towards pial), counted from the
            column axis towards the row axis.
        obliqueness_deg: [V] float32, angle between the cortical normal and the section plane, 0 to 90.
        residual_mm: [V] float32, distance from the node to the section plane.
        observed: [V] bool, True where a usable section holds the node.
    """

    section: npt.NDArray[np.int32]
    row_px: npt.NDArray[np.float64]
    column_px: npt.NDArray[np.float64]
    normal_angle_deg: npt.NDArray[np.float32]
    obliqueness_deg: npt.NDArray[np.float32]
    residual_mm: npt.NDArray[np.float32]
    observed: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        kinds: dict[str, npt.DTypeLike] = {
            "section": np.int32, "row_px": np.float64, "column_px": np.float64, "normal_angle_deg": np.float32,
            "obliqueness_deg": np.float32, "residual_mm": np.float32, "observed": bool,
        }  # fmt: skip
        for name, kind in kinds.items():
            object.__setattr__(self, name, frozen(getattr(self, name), kind))
        shapes = {getattr(self, name).shape for name in kinds}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise InputError(f"node locations need [V] arrays of one length, got {sorted(shapes)}")
        if (self.section[self.observed] < 0).any():
            raise InputError("an observed node must name its section")
        for name in ("row_px", "column_px", "normal_angle_deg", "obliqueness_deg", "residual_mm"):
            if not np.isfinite(getattr(self, name)[self.observed]).all():
                raise InputError(f"node locations: {name} is not finite at an observed node")
        oblique = self.obliqueness_deg[self.observed]
        if len(oblique) and (oblique.min() < 0 or oblique.max() > 90):
            raise InputError("obliqueness must lie between 0 and 90 degrees")


LOCATION_COLUMNS: tuple[str, ...] = tuple(one.name for one in fields(NodeLocations))  # also those of the TSV file


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Areas:
    """Names and colours of the K classes of a task, in class order.

    Args:
        names: K distinct names.
        colours: [K, 4] float32 RGBA in [0, 1]; made up if absent.
        keys: K positive label-file keys; 1..K if absent (key 0 always means unlabelled).
    """

    names: tuple[str, ...]
    colours: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    keys: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        names = tuple(str(name) for name in self.names)
        if len(set(names)) != len(names):
            raise InputError("two areas have the same name")
        colours = np.asarray(self.colours, dtype=np.float32)
        if colours.size == 0 and names:
            colours = distinct_colours(len(names))
        if colours.shape != (len(names), 4) and names:
            raise InputError(f"{len(names)} areas need colours [K, 4], got {colours.shape}")
        keys = tuple(int(key) for key in self.keys) or tuple(range(1, len(names) + 1))
        if len(keys) != len(names) or len(set(keys)) != len(keys) or min(keys, default=1) <= 0:
            raise InputError("areas need as many distinct positive keys as names")
        if max(keys, default=1) > np.iinfo(np.int32).max:
            raise InputError(f"area key {max(keys)} exceeds 2147483647, the largest that label files hold")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "colours", frozen(np.clip(colours, 0, 1), np.float32))
        object.__setattr__(self, "keys", keys)

    def __len__(self) -> int:
        return len(self.names)


def distinct_colours(count: int) -> npt.NDArray[np.float32]:
    """[count, 4] RGBA colours that neighbouring class numbers do not share (golden-angle hues)."""
    from colorsys import hsv_to_rgb

    hues = (np.arange(count) * 0.61803398875) % 1.0
    rgb = [hsv_to_rgb(hue, 0.55 + 0.35 * (k % 2), 0.95 - 0.25 * (k % 3) / 2) for k, hue in enumerate(hues)]
    return np.array([(*colour, 1.0) for colour in rgb], dtype=np.float32).reshape(count, 4)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class MeshGraph:
    """One brain: its hemispheres as one graph, with tables, labels and areas.

    Nodes are those of the hemispheres in order, end to end; no edge joins two hemispheres.

    Args:
        brain: identifier.
        meshes: one or two hemispheres (midthickness), each at most once, in one space.
        cortex: [V] bool, True in cortex; everything if absent.
        tables: feature tables by name, [V, C] each.
        labels: [V] int32 class numbers, -1 = none.
        areas: the classes.
        soft_labels: [V, K] float32 rows summing to 1 (or 0 where unknown), if any.
        surfaces: further coordinates of the same nodes by name ("pial", "white", "sphere", ...), [V, 3] in mm.
        locations: where nodes lie on sections, if known.
    """

    brain: str
    meshes: tuple[SurfaceMesh, ...]
    cortex: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))
    tables: Mapping[str, FeatureTable] = field(default_factory=dict)
    labels: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    areas: Areas = field(default_factory=lambda: Areas(names=()))
    soft_labels: npt.NDArray[np.float32] | None = None
    surfaces: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    locations: NodeLocations | None = None
    edges: npt.NDArray[np.int32] = field(init=False)

    def __post_init__(self) -> None:
        meshes = tuple(self.meshes)
        names = [mesh.hemisphere for mesh in meshes]
        if not meshes or len(set(names)) != len(names):
            raise InputError(f"a brain has one or two different hemispheres, got {names}")
        spaces = sorted({mesh.space for mesh in meshes})
        if len(spaces) > 1:
            raise InputError(f"the hemispheres lie in different spaces ({', '.join(spaces)}); transform one first")
        count = sum(mesh.n_vertices for mesh in meshes)
        cortex = np.ones(count, bool) if np.size(self.cortex) == 0 else np.asarray(self.cortex, bool)
        labels = np.full(count, -1) if np.size(self.labels) == 0 else np.asarray(self.labels)
        if cortex.shape != (count,) or labels.shape != (count,):
            raise InputError(f"{count} nodes, but cortex {cortex.shape} and labels {labels.shape}")
        if labels.min() < -1 or labels.max() >= len(self.areas):
            raise InputError(f"labels run from {labels.min()} to {labels.max()}, but there are {len(self.areas)} areas")
        for name, table in self.tables.items():
            if len(table.values) != count:
                raise InputError(f"table {name!r} has {len(table.values)} rows for {count} nodes")
        for name, points in self.surfaces.items():
            if np.shape(points) != (count, 3) or not np.isfinite(points).all():
                raise InputError(f"surface {name!r} must be finite and [{count}, 3], got {np.shape(points)}")
        if self.soft_labels is not None:
            soft = np.asarray(self.soft_labels, dtype=np.float32)
            if soft.shape != (count, len(self.areas)) or not np.isfinite(soft).all() or (soft < 0).any():
                raise InputError(f"soft labels must be finite, not negative and [{count}, {len(self.areas)}]")
            object.__setattr__(self, "soft_labels", frozen(soft, np.float32))
        if self.locations is not None and len(self.locations.section) != count:
            raise InputError(f"node locations for {len(self.locations.section)} of {count} nodes")
        surfaces = {name: frozen(points, np.float32) for name, points in self.surfaces.items()}
        offsets = np.cumsum([0, *(mesh.n_vertices for mesh in meshes)])
        edges = np.concatenate([directed_edges(mesh) + offsets[k] for k, mesh in enumerate(meshes)], axis=1)
        object.__setattr__(self, "meshes", meshes)
        object.__setattr__(self, "cortex", frozen(cortex, bool))
        object.__setattr__(self, "labels", frozen(labels, np.int32))
        object.__setattr__(self, "tables", MappingProxyType(dict(self.tables)))
        object.__setattr__(self, "surfaces", MappingProxyType(surfaces))
        object.__setattr__(self, "edges", frozen(edges, np.int32))

    @property
    def n_nodes(self) -> int:
        return len(self.labels)

    @property
    def space(self) -> str:
        return self.meshes[0].space

    @property
    def vertices_mm(self) -> npt.NDArray[np.float32]:
        """[V, 3] midthickness coordinates of all hemispheres."""
        return np.concatenate([mesh.vertices_mm for mesh in self.meshes])

    @property
    def hemisphere(self) -> npt.NDArray[np.str_]:
        """[V] of "L" and "R"."""
        return np.repeat([mesh.hemisphere for mesh in self.meshes], [mesh.n_vertices for mesh in self.meshes])

    def slices(self) -> dict[str, slice]:
        """Node range of each hemisphere."""
        ends = np.cumsum([0, *(mesh.n_vertices for mesh in self.meshes)])
        return {mesh.hemisphere: slice(int(ends[k]), int(ends[k + 1])) for k, mesh in enumerate(self.meshes)}

    def with_table(self, table: FeatureTable) -> "MeshGraph":
        """A new graph that also holds `table` (replacing one of the same name)."""
        return self._replace(tables={**self.tables, table.name: table})

    def relabelled(self, labels: npt.ArrayLike, areas: Areas) -> "MeshGraph":
        """A new graph with other labels [V] and areas."""
        return self._replace(labels=np.asarray(labels), areas=areas, soft_labels=None)

    def without_features(self, names: Sequence[str]) -> "MeshGraph":
        """A new graph whose tables lack these columns; a table without columns goes too."""
        tables = {}
        for name, table in self.tables.items():
            kept = [column for column in table.columns if column not in names]
            if kept:
                tables[name] = table.select(kept)
        return self._replace(tables=tables)

    # The libraries below and their files are imported when they are used: records stay light.

    def to_pyg(
        self,
        *,
        train: npt.ArrayLike | None = None,
        val: npt.ArrayLike | None = None,
        test: npt.ArrayLike | None = None,
    ) -> "Data":
        """This brain as PyTorch Geometric's Data; keys in `meshgnn.interop.pyg`."""
        from meshgnn.interop.pyg import to_pyg

        return to_pyg(self, train=train, val=val, test=test)

    @staticmethod
    def from_pyg(
        data: "Data", *, brain: str = "brain", space: str = "unknown", hemisphere: Hemisphere = "L"
    ) -> "MeshGraph":
        """The brain in a Data that `to_pyg` made, or one made of any Data with `pos` and `face`."""
        from meshgnn.interop.pyg import from_pyg

        return from_pyg(data, brain=brain, space=space, hemisphere=hemisphere)

    def to_networkx(self) -> "Graph":
        """This brain as a networkx.Graph; attributes in `meshgnn.interop.networkx`."""
        from meshgnn.interop.networkx import to_networkx

        return to_networkx(self)

    @staticmethod
    def from_networkx(network: "Graph") -> "MeshGraph":
        """The brain in a graph that `to_networkx` made."""
        from meshgnn.interop.networkx import from_networkx

        return from_networkx(network)

    def to_graph_tool(self) -> Any:
        """This brain as a graph_tool.Graph, if graph-tool is installed; properties in `meshgnn.interop.graph_tool`."""
        from meshgnn.interop.graph_tool import to_graph_tool

        return to_graph_tool(self)

    @staticmethod
    def from_graph_tool(graph: Any) -> "MeshGraph":
        """The brain in a graph that `to_graph_tool` made."""
        from meshgnn.interop.graph_tool import from_graph_tool

        return from_graph_tool(graph)

    def _replace(self, **changes: Any) -> "MeshGraph":
        kept = {name: getattr(self, name) for name in self.__slots__ if name != "edges"}
        return MeshGraph(**{**kept, **changes})
