"""Learnt features: encoders pretrained on what is seen at the nodes, cross-fitted where they learn from labels."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.extract import ExtractConfig, extract
from features.model_files import ABOUT, WEIGHTS, NodeEncoder
from features.node_data.section_items import SectionItems
from features.node_sets import NodeSet, node_set
from features.pretrain import PretrainConfig, pretrain
from features.shared_space import MAPS, SPACE, affine_map, fold_folder, load_fitted, save_space
from meshgnn.config import Config as BaseConfig
from meshgnn.config import at
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import FeatureTable
from meshgnn.progress import Progress
from meshgnn.sockets import Brain, NodeData


class ContrastiveFeatures:
    """Pretrains encoders on items of nodes, then encodes every observed node; a `meshgnn.sockets.FeatureMaker`.

    Features of items that an encoder learnt from with their labels separate areas better than those of any other item,
    so whatever is learnt or chosen on top of them would trust them too much. Hence one encoder for each fold, which
    sees no item of that fold, and a node's features come from the one that has not seen it. Their spaces differ by
    chance; each is mapped onto the first one's on nodes without a label, which none of them was trained on. An
    objective without labels needs none of this: one encoder learns from all nodes that may be learnt from.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            pretrain: of one encoder.
            extract: how nodes are encoded.
            effort: steps of all cross-fitted encoders together, as a multiple of the steps of one
                (pretrain.epochs x pretrain.epoch_steps).
            common: nodes that the encoders' spaces are brought together on, at most.
        """

        pretrain: PretrainConfig = field(default_factory=PretrainConfig)
        extract: ExtractConfig = field(default_factory=ExtractConfig)
        effort: float = 1.3
        common: int = 4000

        def __post_init__(self) -> None:
            if self.effort <= 0 or self.common < 1:
                raise SettingError("<effort> must be above 0, <common> at least 1")

        def build(self) -> "ContrastiveFeatures":
            return ContrastiveFeatures(self)

    def __init__(self, config: Config) -> None:
        self.config = config
        self.name = config.extract.name

    def check(self, stack: str, pixel_um: float) -> None:
        """Raises SettingError if sections whose coarsest pixels are `pixel_um` wide are too coarse for the patches."""
        data = self.config.pretrain.data
        if isinstance(data, SectionItems.Config):
            with at("pretrain.data"):
                data.check(stack, pixel_um)

    def inputs(self, brain: Brain) -> Sequence[Path]:
        """Raises InputError when the brain lacks the data."""
        with at("pretrain.data"):
            return list(self.config.pretrain.data.files(brain))

    def fit(self, brains: Sequence[Brain], folder: Path, progress: Progress) -> list[str]:
        """One encoder for each fold that holds labels; a single one where fewer than two do, or none are learnt from.

        Raises:
            InputError: nothing to learn from, a class has a single item, or too few areas are left without one of the
                folds.
        """
        sources = [node_set(brain, self._data(brain)) for brain in brains]
        labelled = np.concatenate([brain.fold[source.labels >= 0] for brain, source in zip(brains, sources)])
        folds = [int(fold) for fold in np.unique(labelled) if fold >= 0]
        if len(folds) < 2 or not self.config.pretrain.objective.labelled:
            with at("pretrain"):
                pretrain(self.config.pretrain, sources, folder, progress)
            for name in (SPACE, MAPS):
                (folder / name).unlink(missing_ok=True)
            return [WEIGHTS, ABOUT]
        recipe = self.config.pretrain
        recipe = replace(recipe, epochs=max(1, round(recipe.epochs * self.config.effort / len(folds))))
        encoders = {}
        for place, fold in enumerate(folds):
            held = [source.without(brain.fold == fold) for brain, source in zip(brains, sources)]

            def bar(step: str, done: int, total: int, _: Mapping[str, float] | None = None, place: int = place) -> None:
                progress(step, place * total + done, len(folds) * total)

            try:
                with at("pretrain"):
                    encoders[fold] = pretrain(recipe, held, fold_folder(folder, fold), bar)
            except SettingError:
                raise
            except InputError as error:
                raise InputError(f"encoder of the nodes outside fold {fold}: {error}") from None
        nodes = common_nodes(brains, [source.data for source in sources], self.config.common)
        matrices, offsets = self._maps(encoders, sources, nodes)
        for name in (WEIGHTS, ABOUT):  # of a single encoder, from before
            (folder / name).unlink(missing_ok=True)
        return save_space(folder, encoders, matrices, offsets, {"nodes": sum(map(len, nodes))})

    def _data(self, brain: Brain) -> NodeData:
        with at("pretrain.data"):
            return self.config.pretrain.data.build(brain)

    def _maps(
        self, encoders: dict[int, NodeEncoder], sources: Sequence[NodeSet], nodes: Sequence[NDArray[np.int64]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Maps [K, C, C] and offsets [K, C] onto the space of the first encoder."""
        seen = [
            np.concatenate([
                extract(encoder, source.data, self.config.extract, nodes=these).values[these]
                for source, these in zip(sources, nodes) if len(these)
            ])
            for encoder in encoders.values()
        ]  # fmt: skip
        first = seen[0]
        maps = [(np.eye(first.shape[1]), np.zeros(first.shape[1])), *(affine_map(other, first) for other in seen[1:])]
        return np.stack([matrix for matrix, _ in maps]), np.stack([offset for _, offset in maps])

    def make(self, brain: Brain, folder: Path, progress: Progress) -> FeatureTable:
        """[V, out_channels] embeddings: of a node of a fold by the encoder that has not seen it, of others by all.

        Raises:
            InputError: no node is observed, damaged files of encoders.
        """
        data, encoders = self._data(brain), load_fitted(folder, self.config.pretrain.parts())
        encoders.whole.refuse_other(self.config.pretrain.data.item_format())
        fold = np.where(np.isin(brain.fold, list(encoders.left_out)), brain.fold, -1)
        total, done, parts = int(data.observed.sum()), 0, []
        if not total:
            raise InputError(f"{brain.graph.brain}: no node is observed; nothing to encode")
        for one in np.unique(fold[data.observed]):
            nodes = np.flatnonzero(data.observed & (fold == one))

            def bar(
                step: str, count: int, _: int, figures: Mapping[str, float] | None = None, before: int = done
            ) -> None:
                progress(step, before + count, total, figures)

            table = extract(encoders.of(int(one)), data, self.config.extract, progress=bar, nodes=nodes)
            parts.append((nodes, table))
            done += len(nodes)
        first = parts[0][1]
        values = np.zeros(first.values.shape, np.float32)
        for nodes, table in parts:
            values[nodes] = table.values[nodes]
        identity = {**encoders.whole.identity(), "folds": sorted(encoders.left_out)}
        return replace(first, values=values, mask=data.observed, encoder=identity)


def common_nodes(brains: Sequence[Brain], data: Sequence[NodeData], most: int) -> list[NDArray[np.int64]]:
    """At most `most` nodes in cortex, evenly over the groups without a label: no encoder was trained on these.

    Groups are sections, or blocks; annotated sections count as labelled. Where every group holds labels, nodes of all
    groups take their place.
    """
    free = []
    for brain, items in zip(brains, data):
        seen = items.observed & brain.graph.cortex & brain.train
        labelled = seen & (brain.graph.labels >= 0)
        if brain.graph.locations is not None:
            labelled |= seen & np.isin(brain.graph.locations.section, brain.annotated)
        free.append((seen, seen & ~np.isin(items.groups, items.groups[labelled])))
    chosen = [rest for _, rest in free] if any(rest.any() for _, rest in free) else [seen for seen, _ in free]
    flat = np.flatnonzero(np.concatenate(chosen))
    kept = flat[np.linspace(0, len(flat) - 1, min(most, len(flat))).astype(np.int64)]
    ends = np.cumsum([0, *(len(mask) for mask in chosen)])
    return [kept[(kept >= a) & (kept < b)] - a for a, b in itertools.pairwise(ends)]
