"""One phase of learning from runs without traits: what it trains, on what, and how."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from features.fmri.loop import PhaseLoop, own_ranks
from features.fmri.model_files import ABOUT, PhaseResult, read_phase
from features.fmri.settings import PhaseSettings
from meshgnn.config import to_plain
from meshgnn.errors import InputError
from meshgnn.progress import Progress, silent
from meshgnn.sockets import WindowedItems
from meshgnn.store import content_hash

VERSION = 1  # raised when the same config gives other weights


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
    class Config(PhaseSettings):
        """See `PhaseSettings`; what `PhaseTraining` is built from."""

        def called(self) -> str:
            return self.phase

        def build(self) -> "PhaseTraining":
            return PhaseTraining(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def key(self, items: WindowedItems, train: NDArray[np.integer], validation: NDArray[np.integer]) -> str:
        """Hash of everything that decides the weights. Arguments as in `run`."""
        plain = to_plain(self.config)
        if self.config.init_from is not None:  # where the file lies decides nothing
            start = self.config.init_from
            plain["init_from"] = [start.sha256.lower(), list(start.fresh), start.fill]
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
            progress: called with ("steps", done, all, newest losses), on rank 0 alone.

        Raises:
            InputError: no run to learn from, a subject on both sides, another kind of items, a file to start from that
                does not fit, weights that no objective reaches, or training diverged.
        """
        folder = Path(folder)
        both = np.intersect1d(train, validation)
        if len(both):
            raise InputError(f"{len(both)} subjects are both learnt from and judged on; divide them")
        key = self.key(items, train, validation)
        finished = (folder / ABOUT).is_file() and _key_of(folder) == key
        if own_ranks().agreed(float(finished))[0]:
            return read_phase(folder)
        return PhaseLoop(self.config, items, train, validation, folder, key).run(progress)


def _key_of(folder: Path) -> str:
    try:
        return str(read_phase(folder).training.get("key"))
    except InputError:
        return ""
