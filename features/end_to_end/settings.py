"""How encoder and network are trained together."""

from dataclasses import dataclass, field

import torch

from features.objectives.contrastive import SupervisedContrastive
from features.objectives.cross_entropy import CrossEntropy
from features.samplers.balanced import BalancedBatches
from meshgnn.config import Config as BaseConfig
from meshgnn.data.inputs import check_rounds
from meshgnn.errors import SettingError
from meshgnn.nn import GraphSAGE, NetworkConfig
from meshgnn.train.augment import Augment
from meshgnn.train.loss import Loss


@dataclass(frozen=True, kw_only=True)
class JointConfig(BaseConfig):
    """How encoder and network are trained together.

    The network is first trained on the encoder as it is (`before` epochs), then both (`epochs`), then the network on
    the encoder that came out (`after`).

    Args:
        network: the trunk; MLP sees no neighbours.
        rounds: scales of the averages of embeddings; none leaves every node its own embedding alone.
        sampler: labelled nodes of a step's batch, all of one brain; the brains take turns.
        unlabelled: further nodes of a batch, drawn from those without a label: only the mesh gives them a gradient.
        epochs: of joint steps.
        before, after: epochs of the network alone.
        epoch_steps: steps of an epoch; after every epoch there is a checkpoint and a validation.
        refresh: epochs of joint steps after which all nodes are encoded anew. Validation looks at fresh rows alone, so
            it waits for it.
        buffer_mm: geodesic width of the strip around a fold's nodes that is not trained on.
        encoder_rate, network_rate: learning rates at their height, with warm-up and cosine.
        weight_decay: of both.
        clip: gradient norm, of encoder and network each.
        loss: of the network.
        augment: noise on the network's inputs.
        changed: patches of a batch are changed as in pretraining.
        objective: a further loss on the batch's embeddings, as in pretraining: CrossEntropy or SupervisedContrastive.
        weight: of it; 0 leaves it out.
        seed: of weights, batches and noise.
        threads: of torch on the CPU.
        encode: patches encoded at a time where no gradient is needed.
        memory_mb: patches of a brain are kept if they fit into this, otherwise read as they are needed.
        checkpoint_steps: write a checkpoint every so many steps within an epoch too; 0 = after epochs alone. No part
            of what is learnt.
        device: cpu, cuda, or auto.
    """

    network: NetworkConfig = field(default_factory=GraphSAGE.Config)
    rounds: tuple[int, ...] = (2, 5, 15)
    sampler: BalancedBatches.Config = field(
        default_factory=lambda: BalancedBatches.Config(classes=40, patches=4, rare="skip")
    )
    unlabelled: int = 0
    epochs: int = 4
    before: int = 3
    after: int = 3
    epoch_steps: int = 30
    refresh: int = 1
    buffer_mm: float = 6.0
    encoder_rate: float = 3e-4
    network_rate: float = 8e-3
    weight_decay: float = 1e-2
    clip: float = 1.0
    loss: Loss = field(default_factory=Loss)
    augment: Augment.Config = field(default_factory=Augment.Config)
    changed: bool = True
    objective: CrossEntropy.Config | SupervisedContrastive.Config = field(default_factory=CrossEntropy.Config)
    weight: float = 1.0
    seed: int = 0
    threads: int = 2
    encode: int = 256
    memory_mb: float = 1024.0
    checkpoint_steps: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        check_rounds(self.rounds)
        if min(self.epochs, self.before, self.after, self.unlabelled, self.checkpoint_steps, self.seed) < 0:
            raise SettingError(
                "<epochs>, <before>, <after>, <unlabelled>, <checkpoint_steps> and <seed> must not be negative"
            )
        if self.epochs + self.before + self.after < 1 or min(self.epoch_steps, self.refresh) < 1:
            raise SettingError("<epochs>, <before> and <after> leave no step; <epoch_steps> and <refresh> begin at 1")
        if min(self.threads, self.encode) < 1 or min(self.memory_mb, self.buffer_mm) < 0:
            raise SettingError("<threads> and <encode> must be at least 1, <memory_mb> and <buffer_mm> not negative")
        if min(self.encoder_rate, self.network_rate) <= 0 or min(self.weight_decay, self.clip, self.weight) < 0:
            raise SettingError(
                "<encoder_rate> and <network_rate> must be above 0; <weight_decay>, <clip> and <weight> not negative"
            )
        if self.objective.views != 1:
            raise SettingError("<objective.views> must be 1: a node has one embedding in a step")
        if self.device not in ("auto", "cpu", "cuda"):
            raise SettingError(f"<device>={self.device!r} is not one of auto, cpu, cuda")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise SettingError("<device>=cuda, but torch sees no CUDA device; use cpu or auto")

    @property
    def steps(self) -> int:
        """Of all three parts."""
        return (self.before + self.epochs + self.after) * self.epoch_steps

    def joint(self, step: int) -> bool:
        """Whether the encoder is trained in this step."""
        return self.before <= step // self.epoch_steps < self.before + self.epochs
