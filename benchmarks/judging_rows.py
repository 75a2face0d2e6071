"""Means and paired differences of a study of judging features, from the rows that it keeps; it need not be done.

    python benchmarks/judging_rows.py STUDY [--seeds 0,1] [--json FILE]

STUDY is the --out of `python -m meshgnn.experiment judging` or `judging:cells`. A brain's score is its mean over seeds;
intervals (95 %, Student's t) are over unseen brains. A method that lacks a seed is left out, unless it has none at all
(pca and profiles have seed 0 alone).
"""

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np  # noqa: E402

from benchmarks._pairs import keep, show  # noqa: E402
from features.judging.judge import PROBES, mean_interval  # noqa: E402
from meshgnn.command import guarded  # noqa: E402
from meshgnn.errors import InputError  # noqa: E402
from meshgnn.store import read_json  # noqa: E402

WITHOUT_SEEDS = ("pca", "profiles")
REFERENCES = ("scratch", "profiles")


def rows_of(study: Path, seeds: tuple[int, ...]) -> list[dict[str, Any]]:
    """A row per probe, share and method. Raises InputError where the study keeps no scores."""
    found: dict[tuple[float, str], dict[int, Any]] = defaultdict(dict)
    for path in sorted((study / "scores").glob("*.json")):
        one = read_json(path)
        found[one["share"], one["method"]][one["seed"]] = one["scores"]
    if not found:
        raise InputError(f"{study}: no scores; name the --out of a study of judging features")
    rows = []
    for probe in PROBES:
        for share in sorted({share for share, _ in found}):
            brains: dict[str, dict[str, float]] = {}
            for (at, method), scores in found.items():
                wanted = (0,) if method in WITHOUT_SEEDS else seeds
                if at == share and set(wanted) <= set(scores):
                    parts = [scores[seed][probe] for seed in wanted]
                    brains[method] = {brain: float(np.mean([part[brain] for part in parts])) for brain in parts[0]}
            for method, mine in sorted(brains.items(), key=lambda item: -np.mean(list(item[1].values()))):
                row = {"probe": probe, "share": share, "name": method, "macro_f1": told(list(mine.values()))}
                for other in REFERENCES:
                    if other in brains and other != method:
                        row[f"minus_{other}"] = told([mine[b] - brains[other][b] for b in mine], "+")
                rows.append(row)
    return rows


def told(values: list[float], sign: str = "") -> str:
    mean, low, high = mean_interval(values)
    return f"{mean:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()

    def go() -> int:
        rows = rows_of(options.study, tuple(map(int, options.seeds.split(","))))
        for row in rows:
            show(row)
        keep(rows, options.json)
        return 0

    sys.exit(guarded(go, stopped="stopped"))


if __name__ == "__main__":
    main()
