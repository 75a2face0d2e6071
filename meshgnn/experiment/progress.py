"""Progress of a stage: a line per step in the log, bars with an ETA on a terminal."""

from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from meshgnn.experiment.run_folder import RunFolder


class Bars:
    """A `meshgnn.progress.Progress`; a step's first call names it in the log."""

    def __init__(self, run: RunFolder, prefix: str = "") -> None:
        self.run, self.prefix = run, prefix
        self.bars: dict[str, Any] = {}

    def __call__(self, step: str, done: int, total: int, figures: Mapping[str, float] | None = None) -> None:
        if step not in self.bars:
            self.run.say(f"  {self.prefix}{step}")
            self.bars[step] = tqdm(total=total, desc=f"{self.prefix}{step}", disable=None, leave=False)
        bar = self.bars[step]
        bar.total = total
        if figures:
            bar.set_postfix({name: f"{value:.3g}" for name, value in figures.items()}, refresh=False)
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
