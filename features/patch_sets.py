"""Labelled patches of several brains as one list, with sections held out. numpy only."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.content import image_key, nodes_key
from features.locations import read_centres
from features.patches import PatchSampler
from meshgnn.errors import InputError
from meshgnn.graph import NodeLocations
from meshgnn.mesh.record import frozen
from meshgnn.source.aligned import check_same_sections
from meshgnn.source.annotations import annotated_labels, read_annotations
from meshgnn.source.sections import SectionStack, read_stack


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class PatchSet:
    """Where the patches of one brain lie and what they show.

    Args:
        brain: identifier.
        stack: its sections.
        locations: [V] centres (nodes of the mesh, or any other points).
        labels: [V] class numbers, -1 = not used.
        names: of the classes.
        held: [V] bool, patches that are never trained on; none by default.
    """

    brain: str
    stack: SectionStack
    locations: NodeLocations
    labels: NDArray[np.int32]
    names: tuple[str, ...]
    held: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, bool))

    def __post_init__(self) -> None:
        labels = np.asarray(self.labels)
        held = np.zeros(labels.shape, bool) if np.size(self.held) == 0 else np.asarray(self.held)
        if held.shape != labels.shape:
            raise InputError(f"{self.brain}: {len(held)} marks of what is held out for {len(labels)} labels")
        if labels.shape != self.locations.section.shape:
            raise InputError(f"{self.brain}: {len(labels)} labels for {len(self.locations.section)} patch centres")
        if len(labels) and (labels.min() < -1 or labels.max() >= len(self.names)):
            raise InputError(f"{self.brain}: labels run to {labels.max()}, but there are {len(self.names)} areas")
        object.__setattr__(self, "labels", frozen(np.where(self.locations.observed, labels, -1), np.int32))
        object.__setattr__(self, "held", frozen(held, bool))


def annotated_patches(stack_folder: Path, reconstruction: Path, *, vote_mm: float = 0.5) -> PatchSet:
    """Nodes of a reconstructed brain that lie on annotated sections, with the areas drawn there.

    Raises:
        InputError: no stack, no reconstruction, a reconstruction of another stack, no annotations.
    """
    stack = read_stack(stack_folder, mirrored="turn")
    check_same_sections(reconstruction, stack, image_key)
    annotations = read_annotations(stack_folder)
    locations = read_centres(reconstruction, stack)
    labels = annotated_labels(locations, annotations, stack, vote_mm=vote_mm)
    return PatchSet(
        brain=stack.space, stack=stack, locations=locations, labels=labels, names=annotations.areas.names
    )  # fmt: skip


class TrainingPatches:
    """All labelled patches; items are numbered over the brains, held-out sections included.

    Args:
        sources: with one list of areas.
        patches: how to read them.
        held_out: every n-th labelled section of each brain is held out; 0 = none. Sources that name what is held
            (`PatchSet.held`) decide it instead: every section with such a patch is held out whole, since patches of
            one section overlap.
        memory_mb: patches are read once and kept if they fit into this.

    Raises:
        InputError: no source, no labelled patch, brains with different areas, two of one name.
    """

    def __init__(
        self, sources: Sequence[PatchSet], patches: PatchSampler.Config, *, held_out: int, memory_mb: float
    ) -> None:
        if not sources:
            raise InputError("no brain to train on; name at least one stack and its reconstruction")
        self.names = sources[0].names
        for source in sources:
            if source.names != self.names:
                raise InputError(f"{source.brain} and {sources[0].brain} have different areas; use one areas.json")
        brains = [source.brain for source in sources]
        if len(set(brains)) != len(brains):
            raise InputError(f"brain {max(brains, key=brains.count)} is named twice; give each brain its own name")
        self.sources = tuple(sources)
        self._samplers = [patches.build(source.stack, source.locations) for source in sources]
        self._nodes = [np.flatnonzero(source.labels >= 0) for source in sources]
        self._first = np.cumsum([0, *(len(nodes) for nodes in self._nodes)])
        if not self._first[-1]:
            raise InputError(
                f"{', '.join(brains)}: no node lies on an annotated section; supervised pretraining needs annotations"
            )
        self.labels_of_all = np.concatenate([s.labels[nodes] for s, nodes in zip(sources, self._nodes)])
        sections = [source.locations.section[nodes] for source, nodes in zip(sources, self._nodes)]
        pairs = np.stack([np.repeat(np.arange(len(sources)), [len(s) for s in sections]), np.concatenate(sections)])
        _, self.groups = np.unique(pairs, axis=1, return_inverse=True)
        self.groups = self.groups.ravel()
        named = np.concatenate([source.held[nodes] for source, nodes in zip(sources, self._nodes)])
        self.held = (
            np.flatnonzero(np.isin(self.groups, self.groups[named])) if named.any() else self._hold_out(pairs, held_out)
        )
        self.training = np.setdiff1d(np.arange(len(self.groups)), self.held)
        self.labels = self.labels_of_all.copy()
        self.labels[self.held] = -1
        size = len(self.groups) * 4 * patches.size_px**2
        self._kept: NDArray[np.float32] | None = None
        self._keep = size <= memory_mb * 1e6

    def __len__(self) -> int:
        return len(self.groups)

    def read(self, items: NDArray[np.integer]) -> NDArray[np.float32]:
        """[B, S, S] patches of these items."""
        if self._keep and self._kept is None:
            self._kept = self._read(np.arange(len(self)))
        return self._read(np.asarray(items)) if self._kept is None else self._kept[items]

    def _read(self, items: NDArray[np.integer]) -> NDArray[np.float32]:
        brain = np.searchsorted(self._first, items, side="right") - 1
        parts = {b: np.flatnonzero(brain == b) for b in np.unique(brain).tolist()}
        found = {b: self._samplers[b].read(self._nodes[b][items[k] - self._first[b]]) for b, k in parts.items()}
        out = np.empty((len(items), *next(iter(found.values())).shape[1:]), np.float32)
        for b, places in parts.items():
            out[places] = found[b]
        return out

    def _hold_out(self, pairs: NDArray[np.integer], every: int) -> NDArray[np.int64]:
        """Items on every n-th labelled section of each brain, as long as each class keeps two sections."""
        if not every:
            return np.zeros(0, np.int64)
        held = np.zeros(len(self.groups), bool)
        classes = np.unique(self.labels_of_all)
        shown = np.zeros((int(classes.max()) + 1, int(self.groups.max()) + 1), bool)
        shown[self.labels_of_all, self.groups] = True
        for brain in np.unique(pairs[0]):
            for group in np.unique(self.groups[pairs[0] == brain])[every // 2 :: every]:
                left = shown.copy()
                left[:, group] = False
                if (left.sum(1)[shown[:, group]] >= 2).all():
                    shown, held = left, held | (self.groups == group)
        return np.flatnonzero(held)

    def spread(self, items: NDArray[np.integer], most: int) -> NDArray[np.int64]:
        """At most `most` of these items, evenly over them."""
        if len(items) <= most:
            return np.asarray(items, np.int64)
        return np.asarray(items)[np.linspace(0, len(items) - 1, most).astype(int)]

    def key(self) -> str:
        """Hash of all that decides the patches and labels."""
        digest = sha256()
        for source in self.sources:
            digest.update(repr((source.brain, source.names, nodes_key(source.stack, source.locations))).encode())
            digest.update(source.labels.tobytes() + source.held.tobytes())
        return digest.hexdigest()[:16]

    def about(self) -> dict[str, Any]:
        """Counts for the record of the training."""
        return {
            "brains": [source.brain for source in self.sources],
            "areas": list(self.names),
            "training": len(self.training),
            "held_out": len(self.held),
            "held_out_sections": len(np.unique(self.groups[self.held])),
        }
