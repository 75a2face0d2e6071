"""Runs of a cohort, volumes over time, converted once into a store that reads windows many times faster than .nii.gz.

    python -m features.runs --set images.folder=DIR --out STORE

DIR holds participants.tsv and sub-*/func/sub-*_bold.nii.gz. STORE holds one file per run and bad_subjects.tsv, which
names everybody who is not in it, and why. A killed conversion goes on with the same command.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from features.command import Bar, run
from features.subject_data.bad_subjects import REPORT, counted
from features.subject_data.run_conversion import RunConversion


def _convert(job: RunConversion.Config, out: Path) -> str:
    with Bar("run") as bar:
        store, bad = job.build().run(out, bar)
    size = sum(path.stat().st_size for path in (out / "runs").glob("*.run"))
    sides = " x ".join(map(str, store.grid.shape))
    frames = f"{store.frames.min()} to {store.frames.max()}" if len(set(store.frames.tolist())) > 1 else store.frames[0]
    text = f"{len(store)} runs of {frames} frames of {sides}, {size / 2**20:.1f} MiB, in {out}"
    return f"{text}; {counted(bad)}, named in {out / REPORT}" if bad else text


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see `features.command.run` for exit codes."""
    return run("features.runs", RunConversion.Config(), _convert, arguments)


if __name__ == "__main__":
    sys.exit(main())
