"""Depth profiles of sections as items: [depths] staining density from pial to white."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.augment_signal import SignalAugment
from features.content import nodes_key
from features.profiles import DepthProfiles
from meshgnn.graph import FeatureTable
from meshgnn.sockets import Brain
from meshgnn.store import content_hash


class SectionProfiles:
    """Items [depths] float32 of the nodes that `DepthProfiles` sees well; a `meshgnn.sockets.NodeData`."""

    @dataclass(frozen=True, kw_only=True)
    class Config(DepthProfiles.Config):
        """
        Args:
            augment: how profiles are changed in pretraining.
        """

        augment: SignalAugment.Config = field(default_factory=SignalAugment.Config)

        def build(self, brain: Brain) -> "SectionProfiles":  # type: ignore[override]
            """Reads every section once. Raises InputError as `DepthProfiles.make` does."""
            stack, locations = brain.section_stack(), brain.graph.locations
            assert locations is not None  # a brain with sections has them
            table = DepthProfiles(self).make(brain.graph, stack)
            return SectionProfiles(
                table, locations.section, content_hash(nodes_key(stack, locations), self.item_format())
            )

        def files(self, brain: Brain) -> tuple[Path, ...]:
            """None beside the sections. Raises InputError when there are no sections."""
            brain.section_stack()
            return ()

        def item_format(self) -> dict[str, Any]:
            """What a profile looks like; an encoder fits profiles of the same look only."""
            return {name: value for name, value in asdict(self).items() if name != "augment"}

    def __init__(self, table: FeatureTable, section: NDArray[np.int32], key: str) -> None:
        self.table, self.groups, self._key = table, section, key

    @property
    def observed(self) -> NDArray[np.bool_]:
        return self.table.mask

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.table.values.shape[1],)

    def read(self, nodes: NDArray[np.integer]) -> NDArray[np.float32]:
        return self.table.values[np.asarray(nodes)]

    def key(self) -> str:
        return self._key
