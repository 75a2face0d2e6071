"""Image volumes of a cohort, converted once into a store that reads many times faster than .nii.gz.

    python -m features.volumes --set images.folder=DIR --set cube.size=64 --out STORE

DIR holds participants.tsv and sub-*/anat/sub-*_T1w.nii.gz. STORE holds the store and bad_subjects.tsv, which names
everybody who is not in it, and why. A killed conversion goes on with the same command.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from features.command import Bar, run
from features.subject_data.bad_subjects import REPORT, counted
from features.subject_data.convert import VolumeConversion


def _convert(job: VolumeConversion.Config, out: Path) -> str:
    with Bar("volume") as bar:
        store, bad = job.build().run(out, bar)
    size = sum(path.stat().st_size for path in (out / "volumes").glob("*.vol"))
    sides = " x ".join(map(str, store.grid.shape))
    text = (
        f"{len(store)} {store.grid.modality} volumes of {sides} as {store.grid.kind}, {size / 2**20:.1f} MiB, in {out}"
    )
    return f"{text}; {counted(bad)}, named in {out / REPORT}" if bad else text


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see `features.command.run` for exit codes."""
    return run("features.volumes", VolumeConversion.Config(), _convert, arguments)


if __name__ == "__main__":
    sys.exit(main())
