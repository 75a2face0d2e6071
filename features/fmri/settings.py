"""What can be set of a phase of learning from runs."""

from dataclasses import dataclass, field
from typing import Literal

from features.encoders.item_encoder import check_counts
from features.fmri.autoencoder import RunAutoencoder
from features.fmri.model_files import Phase
from features.objectives.frame_infonce import FrameInfoNCE
from features.objectives.intensity import Intensity
from features.objectives.masked_frames import MaskedFrames
from features.objectives.perceptual import Perceptual
from features.objectives.reconstruction import Reconstruction
from features.objectives.subject_windows import SubjectWindows
from features.objectives.temporal_contrast import TemporalContrast
from features.transfer.optimiser import Optimiser
from features.transfer.pretrained import Pretrained
from features.transfer.rates import Constant, Rate
from meshgnn.config import Config as BaseConfig
from meshgnn.config import owner_name
from meshgnn.errors import SettingError

# What a phase may be trained for.
Objective = (
    Reconstruction.Config | Intensity.Config | Perceptual.Config | TemporalContrast.Config | MaskedFrames.Config
    | FrameInfoNCE.Config | SubjectWindows.Config
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PhaseSettings(BaseConfig):
    """
    Args:
        phase: autoencoder without the transformer, or with it.
        network: of both.
        objectives: that are summed, each times its factor.
        frames: of a window; 0 for all that the items have.
        batch: windows of a step, of all ranks and micro-batches together.
        epochs: an epoch is as many windows as the runs can be cut into.
        steps: instead of epochs, if not 0.
        optimiser: kind and rate.
        rate: how the rate goes with the steps.
        validate_every: steps between two validations, after which the state is kept.
        windows: of a validation subject that it is judged on, evenly spread; 0 for all.
        keep: the weights of the best validation, or the last ones.
        precision: float, or mixed: bf16, or fp16 with scaled losses.
        clip: norm of the gradient; 0 does not cut it.
        accumulate: micro-batches that a batch is cut into.
        recompute: compute activations again in the backward pass instead of keeping them: slower, in less memory.
        seed: of weights, order, windows, masks and dropout.
        init_from: weights to start from. A training that was interrupted needs none: it goes on by itself.
        untrained: beginnings of names of weights that no objective needs to reach. Any other that none reaches is
            an error; these are left out of the file that is written, so that they are never handed on.
    """

    phase: Phase = "autoencoder"
    network: RunAutoencoder.Config = field(default_factory=RunAutoencoder.Config)
    objectives: tuple[Objective, ...] = field(default_factory=lambda: (Reconstruction.Config(),))
    frames: int = 0
    batch: int = 4
    epochs: int = 10
    steps: int = 0
    optimiser: Optimiser.Config = field(default_factory=lambda: Optimiser.Config(learning_rate=1e-3))
    rate: Rate = field(default_factory=Constant)
    validate_every: int = 100
    windows: int = 4
    keep: Literal["best", "last"] = "best"
    precision: Literal["float", "bf16", "fp16"] = "float"
    clip: float = 1.0
    accumulate: int = 1
    recompute: bool = False
    seed: int = 0
    init_from: Pretrained.Config | None = None
    untrained: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_counts(
            batch=self.batch, epochs=self.epochs, validate_every=self.validate_every, accumulate=self.accumulate
        )
        if min(self.frames, self.steps, self.windows, self.clip) < 0:
            raise SettingError("<frames>, <steps>, <windows> and <clip> must not be negative")
        names = [owner_name(type(one)) for one in self.objectives]
        if not names or len(set(names)) < len(names):
            raise SettingError(f"<objectives> must be one or more of different kinds, got {', '.join(names) or 0}")
        for name, one in zip(names, self.objectives):
            if one.transformer and self.phase == "autoencoder":
                raise SettingError(f"<objectives>: {name} needs a transformer; set <phase>=transformer")
            if one.joint and self.accumulate > 1:
                raise SettingError(f"<objectives>: {name} compares all windows of a batch; set <accumulate>=1")
        if self.batch % (self.accumulate * self.each):
            raise SettingError(
                f"<batch>={self.batch} cannot be cut into {self.accumulate} parts, {self.each} windows per subject"
            )

    @property
    def each(self) -> int:
        """Windows of one subject in a batch."""
        return max(one.windows for one in self.objectives)
