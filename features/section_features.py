"""Features of brains made from sections, as an experiment asks for them: contrastive embeddings, or depth profiles."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from features.extract import ExtractConfig, extract
from features.model_files import ABOUT, WEIGHTS, load_encoder
from features.patch_sets import PatchSet
from features.pretrain import PretrainConfig, pretrain
from features.profiles import DepthProfiles
from meshgnn.config import Config as BaseConfig
from meshgnn.config import at
from meshgnn.encoder import SectionBrain
from meshgnn.graph import FeatureTable

Tell = Callable[[str, int, int], None]


class ContrastiveFeatures:
    """Pretrains an encoder on patches of annotated sections, then encodes every observed node.

    A `meshgnn.encoder.SectionFeatures`.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        pretrain: PretrainConfig = field(default_factory=PretrainConfig)
        extract: ExtractConfig = field(default_factory=ExtractConfig)

        def build(self) -> "ContrastiveFeatures":
            return ContrastiveFeatures(self)

    def __init__(self, config: Config) -> None:
        self.config = config
        self.name = config.extract.name

    def fit(self, brains: Sequence[SectionBrain], folder: Path, tell: Tell) -> list[str]:
        """Raises InputError when no node lies on an annotated section, or a class has a single patch."""
        sources = []
        for brain in brains:
            assert brain.graph.locations is not None
            sources.append(
                PatchSet(
                    brain=brain.graph.brain,
                    stack=brain.stack,
                    locations=brain.graph.locations,
                    labels=brain.graph.labels,
                    names=brain.graph.areas.names,
                )
            )
        with at("pretrain"):
            pretrain(self.config.pretrain, sources, folder, lambda done, total, _: tell("pretraining", done, total))
        return [WEIGHTS, ABOUT]

    def make(self, brain: SectionBrain, folder: Path, tell: Tell) -> FeatureTable:
        """[V, out_channels] embeddings."""
        assert brain.graph.locations is not None
        return extract(
            load_encoder(folder), brain.stack, brain.graph.locations, self.config.extract,
            progress=lambda done, total: tell("nodes", done, total),
        )  # fmt: skip


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
