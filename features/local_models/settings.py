"""What a local model is, and a job for one put down on disk. Loads no torch."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError
from meshgnn.store import write_arrays, write_json

DONE = "done.json"
HINTS = "hints.safetensors"
HALVED = 8  # fine pixels per pixel of the network's deepest maps


@dataclass(frozen=True, kw_only=True)
class ModelSettings(BaseConfig):
    """
    Args:
        fine_um: width of the pixels that are named.
        crop: side of the fine crop in pixels, a multiple of 8; the coarse one has as many pixels of four times the
            width.
        width: channels of the first maps.
        steps: of training; batch: crops in a step.
        learning_rate: largest, of AdamW with a one-cycle schedule.
        prior_mm: random shift (sd) of the interpolated outlines in training, so that they are not followed blindly.
        trust: power of what is learnt from the images of where cortex is, beside a hint of the graph; 0 would be the
            graph alone.
        seed: of start and crops.
    """

    fine_um: float = 100.0
    crop: int = 64
    width: int = 8
    steps: int = 200
    batch: int = 8
    learning_rate: float = 4e-3
    prior_mm: float = 1.0
    trust: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.fine_um > 0 or self.crop < 16 or self.crop % HALVED:
            raise SettingError(f"<fine_um> must be above 0 and <crop> a multiple of {HALVED} from 16 on")
        if min(self.steps, self.batch) < 1 or self.width < 4 or self.width % 4:
            raise SettingError("<steps> and <batch> must be at least 1, <width> a multiple of 4")
        if not self.learning_rate > 0 or not min(self.prior_mm, self.trust) >= 0:
            raise SettingError("<learning_rate> must be above 0, <prior_mm> and <trust> not negative")


def write_job(
    folder: Path, *, areas: list[int], first: int, last: int, sections: list[dict[str, object]],
    files: dict[int, str], settings: ModelSettings, hints: dict[str, NDArray[np.generic]] | None = None,
) -> None:  # fmt: skip
    """Put a job down; what is there already stays.

    Args:
        files: by section, what `write_section` wrote.
        hints: what the graph says of each section (`GraphHints.of`).
    """
    if hints is not None and not (folder / HINTS).is_file():
        write_arrays(folder / HINTS, hints)
    if not (folder / "job.json").is_file():
        plain = {"areas": areas, "first": first, "last": last, "sections": sections, "files": files}
        write_json(folder / "job.json", {**plain, "settings": asdict(settings)})
