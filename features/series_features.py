"""Features of the series over time at the nodes, learnt with a transformer over their patches."""

from dataclasses import dataclass, field

from features.contrastive_features import ContrastiveFeatures
from features.encoders.vertex_transformer import VertexTransformer
from features.extract import ExtractConfig
from features.node_data.vertex_series import VertexSeries
from features.pretrain import PretrainConfig
from features.samplers.balanced import BalancedBatches


def _recipe() -> PretrainConfig:
    return PretrainConfig(
        encoder=VertexTransformer.Config(), data=VertexSeries.Config(rounds=3), epochs=6, epoch_steps=60,
        learning_rate=1e-3, held_out=0, sampler=BalancedBatches.Config(rare="skip"),
    )  # fmt: skip


class SeriesFeatures(ContrastiveFeatures):
    """`ContrastiveFeatures` of the runs at the nodes (`Brain.series`)."""

    @dataclass(frozen=True, kw_only=True)
    class Config(ContrastiveFeatures.Config):
        pretrain: PretrainConfig = field(default_factory=_recipe)
        extract: ExtractConfig = field(default_factory=lambda: ExtractConfig(name="series"))

        def build(self) -> "SeriesFeatures":
            return SeriesFeatures(self)
