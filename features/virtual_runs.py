"""A virtual cohort of resting runs with planted traits, as volumes over time and series of regions, as a BIDS folder.

python -m features.virtual_runs --set people.subjects=60 --set frames=120 --out DIR
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from features.command import Bar, run
from meshgnn.source.virtual.runs import VirtualRuns
from meshgnn.source.virtual.runs_folder import write_runs


def _write(job: VirtualRuns.Config, out: Path) -> str:
    with Bar("subject") as bar:
        write_runs(job.build(), out, bar)
    return f"runs of {job.people.subjects} virtual subjects in {out}; the truth in {out / 'truth'}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see `features.command.run` for exit codes."""
    return run("features.virtual_runs", VirtualRuns.Config(), _write, arguments)


if __name__ == "__main__":
    sys.exit(main())
