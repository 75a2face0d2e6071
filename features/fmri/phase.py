"""One phase of learning from runs without traits: what it trains, on what, and how."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from features.encoders.item_encoder import check_counts
from features.fmri.autoencoder import RunAutoencoder
from features.fmri.loop import PhaseLoop
from features.fmri.model_files import ABOUT, Phase, PhaseResult, read_phase
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
from meshgnn.config import owner_name, to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.progress import Progress, silent
from meshgnn.sockets import WindowedItems
from meshgnn.store import content_hash

VERSION = 1  # raised when the same config gives other weights

# What a phase may be trained for.
Objective = (
    Reconstruction.Config | Intensity.Config | Perceptual.Config | TemporalContrast.Config | MaskedFrames.Config
    | FrameInfoNCE.Config | SubjectWindows.Config
)  # fmt: skip


class PhaseTraining:
    """Trains a `RunAutoencoder` on windows of the runs of some subjects, and judges it on fixed windows of others.

    Batches, first frames, masks and dropout come from (seed, step) alone. A training that was killed goes on from its
    last checkpoint, which lies in the folder under a name of its own, to the same weights. Under torchrun or srun every
    rank takes its places of each batch and gradients are averaged, so that a training without dropout has the losses
    and weights of one process.

        first = PhaseTraining.Config(phase="autoencoder").build().run(items, train, validation, folder)
        second = PhaseTraining.Config(phase="transformer", init_from=first.start())
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
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

        def build(self) -> "PhaseTraining":
            return PhaseTraining(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def key(self, items: WindowedItems, train: NDArray[np.integer], validation: NDArray[np.integer]) -> str:
        """Hash of everything that decides the weights. Arguments as in `run`."""
        plain = to_plain(self.config)
        if self.config.init_from is not None:  # where the file lies decides nothing
            plain["init_from"] = [self.config.init_from.sha256.lower(), list(self.config.init_from.fresh)]
        sides = [np.asarray(side).tolist() for side in (train, validation)]
        return content_hash(VERSION, plain, items.key(), sides, torch.get_num_threads())

    def run(
        self, items: WindowedItems, train: NDArray[np.integer], validation: NDArray[np.integer], folder: Path,
        progress: Progress = silent,
    ) -> PhaseResult:  # fmt: skip
        """Train, or go on, or read what is finished; network.safetensors and network.json are kept in the folder.

        Args:
            items: windows (C, X, Y, Z, T) of runs.
            train: rows of the subjects to learn from.
            validation: rows of those it is judged on; none keeps the last weights.
            folder: for this training alone.
            progress: called with ("steps", done, all, newest losses).

        Raises:
            InputError: no run to learn from, a subject on both sides, another kind of items, a file to start from that
                does not fit, weights that no objective reaches, or training diverged.
        """
        folder = Path(folder)
        both = np.intersect1d(train, validation)
        if len(both):
            raise InputError(f"{len(both)} subjects are both learnt from and judged on; divide them")
        key = self.key(items, train, validation)
        if (folder / ABOUT).is_file() and _key_of(folder) == key:
            return read_phase(folder)
        return PhaseLoop(self.config, items, train, validation, folder, key).run(progress)


def _key_of(folder: Path) -> str:
    try:
        return str(read_phase(folder).training.get("key"))
    except InputError:
        return ""
