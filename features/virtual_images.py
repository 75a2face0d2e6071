"""A virtual cohort of volumes, connectivity matrices and tables with planted traits, as a BIDS folder.

python -m features.virtual_images --set people.subjects=60 --set size=32 --out DIR
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from features.command import Bar, run
from meshgnn.source.virtual.images import VirtualImages
from meshgnn.source.virtual.images_folder import write_images


def _write(job: VirtualImages.Config, out: Path) -> str:
    with Bar("subject") as bar:
        write_images(job.build(), out, bar)
    return f"{job.people.subjects} virtual subjects in {out}; the truth in {out / 'truth'}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see `features.command.run` for exit codes."""
    return run("features.virtual_images", VirtualImages.Config(), _write, arguments)


if __name__ == "__main__":
    sys.exit(main())
