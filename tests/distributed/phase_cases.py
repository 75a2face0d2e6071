"""What two ranks do in the test of phases: losses, validations and weights are those of one process."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from features.fmri.model_files import WEIGHTS, read_phase
from features.fmri.phase import PhaseTraining
from features.objectives.frame_infonce import FrameInfoNCE
from features.objectives.intensity import Intensity
from features.objectives.masked_frames import MaskedFrames
from features.objectives.perceptual import Perceptual
from features.objectives.reconstruction import Reconstruction
from features.objectives.subject_windows import SubjectWindows
from features.objectives.temporal_contrast import TemporalContrast
from features.transfer.optimiser import Optimiser
from features.weight_files import read_weights
from meshgnn.errors import SettingError
from tests.features.runs_in_memory import Runs
from tests.features.test_run_phases import JUDGED, NETWORK, TRAIN

# Plain gradient steps, since Adam's blow rounding up where a gradient is nothing else.
SINGLE = PhaseTraining.Config(
    phase="transformer", network=NETWORK, steps=4, validate_every=2, batch=8, accumulate=2, windows=0, keep="last",
    optimiser=Optimiser.Config(kind="sgd", learning_rate=0.05),
    objectives=(
        Reconstruction.Config(), Intensity.Config(), Perceptual.Config(), TemporalContrast.Config(),
        MaskedFrames.Config(), FrameInfoNCE.Config(factor=0.1),
    ),
)  # fmt: skip
PAIRS = replace(SINGLE, accumulate=1, objectives=(Reconstruction.Config(), SubjectWindows.Config(factor=0.1)))
CASES = {"single": SINGLE, "pairs": PAIRS}


def run_phases(out: Path) -> None:
    """On every rank of two."""
    for name, config in CASES.items():
        config.build().run(Runs(), TRAIN, JUDGED, out / name)
    with pytest.raises(SettingError, match="5 windows cannot be dealt to 2 ranks"):
        replace(SINGLE, batch=5, accumulate=1).build().run(Runs(), TRAIN, JUDGED, out / "none")


def compare_phases(told: Path, out: Path) -> None:
    """What ranks wrote with what one process writes."""
    for name, config in CASES.items():
        one, two = config.build().run(Runs(), TRAIN, JUDGED, out / name), read_phase(told / name)
        assert len(two.history) == 2
        for row, wanted in zip(two.history, one.history):
            assert row == pytest.approx(wanted, rel=1e-4), name
        mine, other = (read_weights(result.folder / WEIGHTS)[0] for result in (one, two))
        for key, value in mine.items():
            torch.testing.assert_close(other[key], value, rtol=1e-3, atol=1e-5, msg=f"{name}: {key}")
        torch.manual_seed(config.seed)
        start = NETWORK.build(Runs().shape, transformer=True).state_dict()
        moved = [float((mine[key] - start[key]).abs().max()) for key in mine]
        assert np.median(moved) > 1e-4
