"""Features of brains made from sections, as an experiment asks for them: contrastive embeddings, or depth profiles."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.extract import ExtractConfig, extract
from features.locations import centres, take
from features.model_files import ABOUT, WEIGHTS, PatchEncoder
from features.patch_sets import PatchSet
from features.pretrain import PretrainConfig, pretrain
from features.profiles import DepthProfiles
from features.shared_space import MAPS, SPACE, affine_map, fold_folder, load_fitted, save_space
from meshgnn.config import Config as BaseConfig
from meshgnn.config import at
from meshgnn.encoder import SectionBrain
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import FeatureTable

Tell = Callable[[str, int, int], None]


class ContrastiveFeatures:
    """Pretrains encoders on patches of annotated sections, then encodes every observed node.

    A `meshgnn.encoder.SectionFeatures`. Features of patches that an encoder was trained on separate areas better than
    those of any other patch, so whatever is learnt or chosen on top of them would trust them too much. Hence one
    encoder for each fold, which sees no section of that fold, and a node's features come from the one that has not
    seen it. Their spaces differ by chance; each is mapped onto the first one's on nodes of unannotated sections, which
    none of them was trained on.
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
        with at("pretrain.patches"):
            self.config.pretrain.patches.check(stack, pixel_um)

    def fit(self, brains: Sequence[SectionBrain], folder: Path, tell: Tell) -> list[str]:
        """One encoder for each fold that holds labels; a single one where there are fewer than two such folds.

        Raises:
            InputError: no node lies on an annotated section, a class has a single patch, or too few areas are left
                without one of the folds.
        """
        sources = [_patches(brain) for brain in brains]
        drawn = np.concatenate([brain.fold[source.labels >= 0] for brain, source in zip(brains, sources)])
        folds = [int(fold) for fold in np.unique(drawn) if fold >= 0]
        if len(folds) < 2:
            with at("pretrain"):
                pretrain(self.config.pretrain, sources, folder, lambda done, of, _: tell("pretraining", done, of))
            for name in (SPACE, MAPS):
                (folder / name).unlink(missing_ok=True)
            return [WEIGHTS, ABOUT]
        recipe = self.config.pretrain
        recipe = replace(recipe, epochs=max(1, round(recipe.epochs * self.config.effort / len(folds))))
        encoders = {}
        for place, fold in enumerate(folds):
            held = [replace(source, held=brain.fold == fold) for brain, source in zip(brains, sources)]

            def told(done: int, total: int, row: dict[str, Any], place: int = place) -> None:
                tell("pretraining", place * total + done, len(folds) * total)

            try:
                with at("pretrain"):
                    encoders[fold] = pretrain(recipe, held, fold_folder(folder, fold), told)
            except SettingError:
                raise
            except InputError as error:
                raise InputError(f"encoder of the sections outside fold {fold}: {error}") from None
        nodes = common_nodes(brains, self.config.common)
        matrices, offsets = self._maps(encoders, sources, nodes)
        for name in (WEIGHTS, ABOUT):  # of a single encoder, from before
            (folder / name).unlink(missing_ok=True)
        return save_space(folder, encoders, matrices, offsets, {"nodes": sum(map(len, nodes))})

    def _maps(
        self, encoders: dict[int, PatchEncoder], sources: Sequence[PatchSet], nodes: Sequence[NDArray[np.int64]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Maps [K, C, C] and offsets [K, C] onto the space of the first encoder."""
        seen = [
            np.concatenate([
                extract(encoder, source.stack, take(source.locations, these), self.config.extract).values
                for source, these in zip(sources, nodes) if len(these)
            ])
            for encoder in encoders.values()
        ]  # fmt: skip
        first = seen[0]
        maps = [(np.eye(first.shape[1]), np.zeros(first.shape[1])), *(affine_map(other, first) for other in seen[1:])]
        return np.stack([matrix for matrix, _ in maps]), np.stack([offset for _, offset in maps])

    def make(self, brain: SectionBrain, folder: Path, tell: Tell) -> FeatureTable:
        """[V, out_channels] embeddings: of a node of a fold by the encoder that has not seen it, of others by all.

        Raises:
            InputError: no node lies on a section, damaged files of encoders.
        """
        where, encoders = centres(brain.graph, brain.stack), load_fitted(folder)
        fold = np.where(np.isin(brain.fold, list(encoders.left_out)), brain.fold, -1)
        total, done, parts = int(where.observed.sum()), 0, []
        if not total:
            raise InputError(f"{brain.graph.brain}: no node lies on a section; nothing to encode")
        for one in np.unique(fold[where.observed]):
            nodes = np.flatnonzero(where.observed & (fold == one))

            def told(count: int, _: int, before: int = done) -> None:
                tell("nodes", before + count, total)

            encoder = encoders.of(int(one))
            with at("pretrain.patches"):
                table = extract(encoder, brain.stack, take(where, nodes), self.config.extract, progress=told)
            parts.append((nodes, table))
            done += len(nodes)
        first = parts[0][1]
        values = np.zeros((len(where.observed), first.values.shape[1]), np.float32)
        for nodes, table in parts:
            values[nodes] = table.values
        identity = {**encoders.whole.identity(), "folds": sorted(encoders.left_out)}
        return replace(first, values=values, mask=where.observed, encoder=identity)


def _patches(brain: SectionBrain) -> PatchSet:
    graph = brain.graph
    return PatchSet(
        brain=graph.brain, stack=brain.stack, locations=centres(graph, brain.stack), labels=graph.labels,
        names=graph.areas.names,
    )  # fmt: skip


def common_nodes(brains: Sequence[SectionBrain], most: int) -> list[NDArray[np.int64]]:
    """At most `most` nodes in cortex, evenly over the brains' unannotated sections: no encoder was trained on these.

    Where every section is annotated, nodes of all sections take their place.
    """
    free = []
    for brain in brains:
        where = brain.graph.locations
        assert where is not None
        seen = where.observed & brain.graph.cortex
        drawn = np.union1d(brain.drawn, where.section[seen & (brain.graph.labels >= 0)])
        free.append((seen, seen & ~np.isin(where.section, drawn)))
    chosen = [rest for _, rest in free] if any(rest.any() for _, rest in free) else [seen for seen, _ in free]
    flat = np.flatnonzero(np.concatenate(chosen))
    kept = flat[np.linspace(0, len(flat) - 1, min(most, len(flat))).astype(np.int64)]
    ends = np.cumsum([0, *(len(mask) for mask in chosen)])
    return [kept[(kept >= a) & (kept < b)] - a for a, b in itertools.pairwise(ends)]


class ProfileFeatures:
    """Mean intensity profiles along the cortical normal: what there was before learnt features. Learns nothing."""

    @dataclass(frozen=True, kw_only=True)
    class Config(DepthProfiles.Config):
        def build(self) -> "ProfileFeatures":  # type: ignore[override]
            return ProfileFeatures(self)

    def __init__(self, config: Config) -> None:
        self.profiles = DepthProfiles(config)
        self.name = "profiles"

    def fit(self, brains: Sequence[SectionBrain], folder: Path, tell: Tell) -> list[str]:
        return []

    def make(self, brain: SectionBrain, folder: Path, tell: Tell) -> FeatureTable:
        """[V, depths]."""
        return self.profiles.make(brain.graph, brain.stack)
