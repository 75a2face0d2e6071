"""Patches and depth profiles at true places of a virtual brain, kept in one file: of nodes, or of fields of cells.

N nodes or fields.
"""

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.fields import read_fields
from features.judging.field_profiles import field_profiles
from features.node_data.cortical_patches import CorticalPatches
from features.node_data.field_patches import FieldPatches
from features.node_data.section_patches import SectionPatches
from features.node_sets import NodeSet
from features.profiles import DepthProfiles
from meshgnn.errors import InputError
from meshgnn.sockets import Brain
from meshgnn.source.sections import read_stack
from meshgnn.source.virtual import VirtualBrain
from meshgnn.source.virtual.areas import isocortical_areas
from meshgnn.source.virtual.cell_fields import write_cells
from meshgnn.source.virtual.memory import true_graph
from meshgnn.source.virtual.truth import read_truth
from meshgnn.store import content_hash, file_hash, read_arrays, write_arrays


@dataclass(frozen=True, kw_only=True, eq=False)
class TrueNodes:
    """N nodes (or fields) in isocortex on good sections of one brain.

    Args:
        patches: [N, rows, columns] float32, or uint8 in units of `unit`.
        profiles: [N, D].
        labels: [N] areas.
        sections: [N] numbers of sections.
        places_mm: [N, 3].
        left_out: nodes in isocortex without a section near enough; without a profile; beyond the number per section.
        file: that it was read from.
    """

    patches: NDArray[Any]
    profiles: NDArray[np.float32]
    labels: NDArray[np.int32]
    sections: NDArray[np.int32]
    places_mm: NDArray[np.float32]
    left_out: NDArray[np.int64]
    file: Path
    unit: NDArray[np.float32] = field(default_factory=lambda: np.ones(1, np.float32))

    def items(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """Patches [B, rows, columns] of these nodes."""
        found = self.patches[rows]
        return found if found.dtype == np.float32 else found * self.unit[0]

    @property
    def names(self) -> tuple[str, ...]:
        return isocortical_areas().names

    @property
    def counts(self) -> dict[str, int]:
        """How many nodes are judged, and how many are not, and why."""
        off, unseen, more = (int(count) for count in self.left_out)
        return {"judged": len(self.labels), "off_section": off, "no_profile": unseen, "not_drawn": more}

    def node_set(self, brain: str, annotated: NDArray[np.integer] | None) -> NodeSet:
        """What an encoder may learn from.

        Args:
            brain: its name.
            annotated: sections whose areas are known; None for all nodes without any area.
        """
        known = np.zeros(len(self.labels), bool) if annotated is None else np.isin(self.sections, annotated)
        return NodeSet(
            brain=brain, data=_Items(self), labels=np.where(known, self.labels, -1), names=self.names,
            places_mm=self.places_mm,
        )  # fmt: skip


class _Items:
    """Patches in memory; a `meshgnn.sockets.NodeData`."""

    def __init__(self, nodes: TrueNodes) -> None:
        self.nodes, self.groups = nodes, nodes.sections
        self.observed = np.ones(len(nodes.labels), bool)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.nodes.patches.shape[1:]

    def read(self, rows: NDArray[np.integer], /) -> NDArray[np.float32]:
        return self.nodes.items(rows)

    def key(self) -> str:
        return content_hash(file_hash(self.nodes.file))


def write_true_nodes(
    config: VirtualBrain.Config, data: SectionPatches.Config | CorticalPatches.Config, path: Path, per_section: int,
    within_mm: float,
) -> None:  # fmt: skip
    """Draw the brain, read at its nodes, keep what was read; the images are thrown away.

    Args:
        config: of the brain.
        data: of the patches.
        path: of the file.
        per_section: nodes of a section, at most, drawn at random.
        within_mm: a node counts for a section this near.
    """
    with TemporaryDirectory() as place:
        brain = config.build()
        folder = brain.write(Path(place) / brain.space, workers=1)
        stack, truth = read_stack(folder).usable(), read_truth(folder)
        graph = true_graph(truth, [section.index for section in stack], within_mm)
        profiles = DepthProfiles(DepthProfiles.Config()).make(graph, stack)
        locations = graph.locations
        assert locations is not None
        seen = graph.cortex & locations.observed
        able = seen & profiles.mask
        rng = np.random.default_rng(config.seed)
        drawn = [np.flatnonzero(able & (locations.section == one.index)) for one in stack]
        nodes = np.sort(np.concatenate([rng.permutation(some)[:per_section] for some in drawn]))
        left = [
            int((graph.cortex & ~locations.observed).sum()),
            int((seen & ~able).sum()),
            int(able.sum()) - len(nodes),
        ]
        patches = data.build(Brain(graph=graph, sections=stack)).read(nodes)
    arrays: dict[str, NDArray[Any]] = {
        "patches": patches, "profiles": profiles.values[nodes], "labels": graph.labels[nodes],
        "sections": locations.section[nodes], "places_mm": graph.vertices_mm[nodes],
        "left_out": np.array(left, np.int64),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, arrays)


def write_true_fields(config: VirtualBrain.Config, data: FieldPatches.Config, path: Path) -> None:
    """Draw the fields of a brain that `cells` asks for, and keep their patches to the hundredth of a grey matter.

    Args:
        config: of the brain.
        data: of the patches.
        path: of the file.

    Raises:
        InputError: a brain without fields.
    """
    brain = config.build()
    if not brain.settings.cells:
        raise InputError("this brain has no fields of cells; set brain.preset=cells")
    with TemporaryDirectory() as place:
        write_cells(brain, [one for one in brain.cuts if one.fate == "good"], Path(place) / "cells", 1)
        fields = read_fields(Path(place) / "cells")
        source = data.build(fields)
        everything, size, thick = np.arange(len(source.observed)), 64, data.of_items(fields.thickness_um)
        unit, patches, profiles = 0.01, [], []
        for k in range(0, len(everything), size):
            part = source.read(everything[k : k + size])
            patches.append(np.clip(np.round(part / unit), 0, 255).astype(np.uint8))
            profiles.append(field_profiles(part, thick[k : k + size], data))
    labels = data.of_items(fields.labels(isocortical_areas().names))
    arrays: dict[str, NDArray[Any]] = {
        "patches": np.concatenate(patches), "profiles": np.concatenate(profiles), "labels": labels,
        "sections": source.groups, "places_mm": data.of_items(fields.places_mm),
        "left_out": np.zeros(3, np.int64), "unit": np.array([unit], np.float32),
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    write_arrays(path, arrays)


def read_true_nodes(path: Path) -> TrueNodes:
    """Raises InputError for a missing or damaged file."""
    return TrueNodes(**read_arrays(path), file=path)
