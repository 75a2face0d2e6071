"""How an encoder is trained: the config of pretraining, and what may be chosen in it."""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import torch

from features.data_stage import DataStage
from features.encoders.section_cnn import SectionCNN
from features.model_files import DataConfig, EncoderConfig
from features.node_data.section_patches import SectionPatches
from features.objectives.area_probabilities import AreaProbabilities
from features.objectives.contrastive import SupervisedContrastive
from features.objectives.cross_entropy import CrossEntropy
from features.objectives.distance_regression import DistanceRegression
from features.objectives.nt_xent import NTXent
from features.objectives.spatial_contrast import SpatialContrast
from features.objectives.weighted_sum import WeightedSum
from features.samplers.balanced import BalancedBatches
from features.samplers.distance_pairs import DistancePairs
from features.samplers.mixed import MixedBatches
from features.samplers.neighbours import NeighbourBatches
from features.samplers.spatial_pairs import SpatialPairs
from features.samplers.uniform import UniformBatches
from features.transfer.pretrained import Pretrained
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError

ObjectiveConfig = (
    SupervisedContrastive.Config | NTXent.Config | CrossEntropy.Config | AreaProbabilities.Config
    | SpatialContrast.Config | DistanceRegression.Config | WeightedSum.Config
)  # fmt: skip
SamplerConfig = (
    BalancedBatches.Config | UniformBatches.Config | NeighbourBatches.Config | SpatialPairs.Config
    | DistancePairs.Config | MixedBatches.Config
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(BaseConfig):
    """How an encoder is trained.

    Args:
        encoder: the network.
        data: what it sees at a node, and how that is changed from view to view.
        objective: what it is trained for; says how many views it needs and whether labels.
        sampler: which items stand in a batch.
        epochs, epoch_steps: steps in all = epochs x epoch_steps; after every epoch there is a checkpoint and a probe.
        learning_rate, weight_decay: of the optimiser, with warm-up and cosine.
        optimiser: adamw; or lars, for batches above about a thousand (learning rates of 0.1 and more).
        rate_rule: fixed; or in proportion to the batch (linear), or to its root: `learning_rate` is then that of a
            batch of `rate_batch` items.
        warm_up: share of the steps in which the learning rate rises.
        clip: gradient norm.
        held_out: every n-th annotated section of each brain is kept for the probe (never for training); 0 = none.
            A section is not held out if an area would be left on fewer than two.
        probe_patches: known and held-out items that the probe looks at, at most.
        seed: of weights, batches and augmentation.
        threads: of torch on the CPU. Sums change in the last digit with it, hence it is part of the recipe.
        memory_mb: training items are kept in memory if they fit, otherwise read as they are needed.
        stage: how batches are read and changed ahead of the steps. No part of the recipe.
        device: cpu, cuda, or auto.
        precision: of weights and gradients in training; double makes the number of ranks unimportant, bf16 computes
            the encoder in half precision (autocast) and the loss in single. The encoder is kept in single precision.
        micro: items of a rank that are encoded at a time (gradient caching): memory grows with it and not with the
            batch, each item is encoded twice, and the gradient is that of the whole batch; 0 = all at once.
        recompute: compute activations again in the backward pass instead of keeping them.
        compile: let torch.compile make the encoder's code.
        deterministic: on GPUs too, as far as torch can; CPUs are anyway.
        checkpoint_steps: write a checkpoint every so many steps within an epoch too; 0 = after epochs alone. No part
            of the recipe.
        start: folder of an encoder whose weights training begins with.
        weights: of a local file to begin with (a backbone trained on other images), fitted to the encoder's channels.
    """

    moved: ClassVar[dict[str, str]] = {"patches": "data", "augment": "data.augment", "batches": "sampler"}

    encoder: EncoderConfig = field(default_factory=SectionCNN.Config)
    data: DataConfig = field(default_factory=SectionPatches.Config)
    objective: ObjectiveConfig = field(default_factory=SupervisedContrastive.Config)
    sampler: SamplerConfig = field(default_factory=BalancedBatches.Config)
    epochs: int = 10
    epoch_steps: int = 60
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    clip: float = 5.0
    held_out: int = 5
    probe_patches: int = 1000
    seed: int = 0
    threads: int = 2
    memory_mb: float = 1024.0
    stage: DataStage.Config = field(default_factory=DataStage.Config)
    device: str = "auto"
    precision: Literal["single", "double", "bf16"] = "single"
    optimiser: Literal["adamw", "lars"] = "adamw"
    rate_rule: Literal["fixed", "linear", "root"] = "fixed"
    rate_batch: int = 256
    warm_up: float = 0.1
    micro: int = 0
    recompute: bool = False
    compile: bool = False
    deterministic: bool = False
    checkpoint_steps: int = 0
    start: Path | None = None
    weights: Pretrained.Config = field(default_factory=Pretrained.Config)

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.epoch_steps < 1 or self.threads < 1 or self.probe_patches < 1:
            raise SettingError("<epochs>, <epoch_steps>, <threads> and <probe_patches> must be at least 1")
        if self.learning_rate <= 0 or min(self.weight_decay, self.clip, self.held_out, self.memory_mb, self.seed) < 0:
            raise SettingError(
                "<learning_rate> must be above 0; <weight_decay>, <clip>, <held_out>, <memory_mb> and <seed> not "
                "negative"
            )
        if min(self.micro, self.checkpoint_steps) < 0 or self.rate_batch < 1 or not 0 < self.warm_up < 1:
            raise SettingError(
                "<micro> and <checkpoint_steps> must be 0 or more, <rate_batch> at least 1, <warm_up> between 0 and 1"
            )
        if self.compile and not any(map(shutil.which, ("c++", "g++", "clang++"))):
            raise SettingError("<compile>=true needs a C++ compiler (g++), and there is none; leave it out")
        if self.device not in ("auto", "cpu", "cuda"):
            raise SettingError(f"<device>={self.device!r} is not one of auto, cpu, cuda")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise SettingError("<device>=cuda, but torch sees no CUDA device; use cpu or auto")

    def rate(self, batch: int) -> float:
        """Learning rate of a batch of so many items: linear as in Goyal et al. 2017 (arXiv 1706.02677, section 2.1),
        root as in Krizhevsky 2014 (arXiv 1404.5997, section 5)."""
        times = batch / self.rate_batch
        return self.learning_rate * {"fixed": 1.0, "linear": times, "root": times**0.5}[self.rate_rule]

    def parts(self) -> tuple[BaseConfig, ...]:
        """Configs that the encoder's files may name beside those that we ship."""
        return (self.encoder, self.data)
