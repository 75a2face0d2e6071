"""Features of an image volume around the nodes, learnt without labels."""

from dataclasses import dataclass, field

from features.contrastive_features import ContrastiveFeatures
from features.encoders.volume_cnn import VolumeCNN
from features.extract import ExtractConfig
from features.node_data.volume_patches import VolumePatches
from features.objectives.nt_xent import NTXent
from features.pretrain import PretrainConfig
from features.samplers.uniform import UniformBatches


def _recipe() -> PretrainConfig:
    return PretrainConfig(
        encoder=VolumeCNN.Config(), data=VolumePatches.Config(), objective=NTXent.Config(),
        sampler=UniformBatches.Config(size=64), epochs=4, epoch_steps=50, learning_rate=1e-3,
    )  # fmt: skip


class VolumeFeatures(ContrastiveFeatures):
    """`ContrastiveFeatures` of cubes of a volume by a small 3D CNN, self-supervised by default."""

    @dataclass(frozen=True, kw_only=True)
    class Config(ContrastiveFeatures.Config):
        pretrain: PretrainConfig = field(default_factory=_recipe)
        extract: ExtractConfig = field(default_factory=lambda: ExtractConfig(name="volume"))

        def build(self) -> "VolumeFeatures":
            return VolumeFeatures(self)
