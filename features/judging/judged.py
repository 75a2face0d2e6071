"""What is judged of one brain: N nodes of its mesh, or N patches of its fields, with their areas and places."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.fields import Fields
from features.judging.field_profiles import field_profiles
from features.node_data.field_patches import of_fields
from features.profiles import DepthProfiles
from meshgnn.graph import FeatureTable
from meshgnn.sockets import Brain, NodeData

_AT_ONCE = 64  # patches


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """One brain.

    Args:
        name: of the brain.
        areas: names of the classes.
        labels: [N] classes, -1 = none.
        sections: [N].
        places_mm: [N, 3].
        items: what an encoder with this config of data sees.
        profiles: depth profiles, the features without a network.
    """

    name: str
    areas: tuple[str, ...]
    labels: NDArray[np.int32]
    sections: NDArray[np.int32]
    places_mm: NDArray[np.float32]
    items: Callable[[Any], NodeData]
    profiles: Callable[[], FeatureTable]


def judged_brain(brain: Brain) -> Judged:
    """The nodes of a brain with annotated sections."""
    graph = brain.graph
    assert graph.locations is not None  # it was read from sections
    return Judged(
        name=graph.brain, areas=graph.areas.names, labels=graph.labels, sections=graph.locations.section,
        places_mm=graph.vertices_mm, items=lambda data: data.build(brain),
        profiles=lambda: DepthProfiles(DepthProfiles.Config()).make(graph, brain.section_stack()),
    )  # fmt: skip


def judged_fields(fields: Fields, areas: tuple[str, ...], data: Any) -> Judged:
    """The patches that `data` (a `FieldPatches.Config`) makes of fields.

    Raises:
        SettingError: patches of nodes.
    """
    patches = of_fields(data)

    def profiles() -> FeatureTable:
        source = patches.build(fields)
        rows, thick = np.arange(len(source.observed)), patches.of_items(fields.thickness_um)
        parts = [rows[k : k + _AT_ONCE] for k in range(0, len(rows), _AT_ONCE)]
        values = np.concatenate([field_profiles(source.read(part), thick[part], patches) for part in parts])
        columns = tuple(f"profile_{k:02d}" for k in range(values.shape[1]))
        return FeatureTable(name="profiles", values=values, mask=np.ones(len(rows), bool), columns=columns)

    return Judged(
        name=fields.brain, areas=areas, labels=patches.of_items(fields.labels(areas)),
        sections=patches.of_items(fields.section), places_mm=patches.of_items(fields.places_mm),
        items=lambda data: data.build(fields), profiles=profiles,
    )  # fmt: skip
