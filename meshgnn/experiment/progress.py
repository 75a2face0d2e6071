"""Progress of work that reports (step, done, all): a line per step in the log, bars with an ETA on a terminal."""

from typing import Any

from tqdm import tqdm

from meshgnn.experiment.run_folder import RunFolder


class Bars:
    """Call it with (step, done, all); a step's first call names it in the log."""

    def __init__(self, run: RunFolder, prefix: str = "") -> None:
        self.run, self.prefix = run, prefix
        self.bars: dict[str, Any] = {}

    def __call__(self, step: str, done: int, total: int) -> None:
        if step not in self.bars:
            self.run.say(f"  {self.prefix}{step}")
            self.bars[step] = tqdm(total=total, desc=f"{self.prefix}{step}", disable=None, leave=False)
        bar = self.bars[step]
        bar.total = total
        bar.update(done - bar.n)
        if done >= total:
            bar.close()
