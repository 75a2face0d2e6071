"""Where along the way from a run to a network's features the planted difference of sex can still be read.

A ridge classifier on correlations over frames (Fisher's z, means over windows that do not overlap), four parts by
families, AUROC of all subjects, for

signals      time courses that the runs are made of
series       means of regions of the runs
parts        means of 5^3 parts of the volumes
three        features of a frame encoder before training whose maps are halved three times and mapped to 64 values
two          the same of one that halves them twice and keeps its last map (that of `fmri_sex`)

and, beside them, of the means of the same features over frames: what pooling by a mean hands on.

    python benchmarks/fmri_chain.py [--quick] [--json FILE] [--seeds 101 102]
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402
import torch  # noqa: E402
from sklearn.linear_model import RidgeClassifierCV  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402
from sklearn.model_selection import GroupKFold  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402

from benchmarks._pairs import keep, show  # noqa: E402
from experiments.fmri_sex import FRAMES  # noqa: E402
from features.encoders.frame_encoder import FrameEncoder  # noqa: E402
from features.subject_data.functional_connectivity import fisher  # noqa: E402
from features.subject_data.series_files import Series  # noqa: E402
from meshgnn.source.virtual.runs import VirtualRuns  # noqa: E402
from meshgnn.source.virtual.subjects import VirtualSubjects  # noqa: E402

PARTS = 4  # that are tested in turn
ENCODERS = {"three": FrameEncoder.Config(features=64), "two": FRAMES}


def channels(run: np.ndarray) -> np.ndarray:
    """[X, Y, Z, T] grey values -> [T, 2, X, Y, Z], z-scores over the run and of each voxel, as `SubjectRuns` gives."""
    inside = run.any(-1)
    values = run[inside]
    out = np.zeros((2, *run.shape), np.float32)
    out[0] = (values.min() - values.mean()) / values.std()
    out[0][inside] = (values - values.mean()) / values.std()
    out[1][inside] = (values - values.mean(1, keepdims=True)) / np.maximum(values.std(1, keepdims=True), 1e-6)
    return np.moveaxis(out, -1, 0)


def parts_of(frames: np.ndarray, side: int = 5) -> np.ndarray:
    """[T, X, Y, Z] -> [T, side^3] sums over parts."""
    for axis in (1, 2, 3):
        cuts = np.linspace(0, frames.shape[axis], side + 1).astype(int)[:-1]
        frames = np.add.reduceat(frames, cuts, axis=axis)
    return frames.reshape(len(frames), -1)


def connectivity(series: np.ndarray, window: int) -> np.ndarray:
    """[T, R] -> [R (R - 1) / 2] mean Fisher's z over windows of so many frames."""
    starts = range(0, len(series) - window + 1, window)
    each = [fisher(Series(values=series[k : k + window].astype(float), names=(), tr_s=0.0), "pearson") for k in starts]
    return np.asarray(np.mean(each, axis=0)[np.triu_indices(series.shape[1], 1)])


def auroc(table: np.ndarray, sex: np.ndarray, families: np.ndarray) -> float:
    votes = np.zeros(len(sex))
    for train, test in GroupKFold(PARTS).split(table, sex, families):
        model = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(0, 6, 13)))
        votes[test] = model.fit(table[train], sex[train]).decision_function(table[test])
    return float(roc_auc_score(sex, votes))


def measure(seed: int, subjects: int, windows: tuple[int, ...]) -> list[dict[str, Any]]:
    runs = VirtualRuns.Config(people=VirtualSubjects.Config(subjects=subjects, seed=seed), size=16).build()
    torch.manual_seed(0)
    nets = {name: config.build((2, 16, 16, 16)).eval() for name, config in ENCODERS.items()}
    held: dict[str, list[np.ndarray]] = {name: [] for name in ("signals", "series", "parts", *nets)}
    for number in range(subjects):
        frames = channels(runs.run(number))
        held["signals"].append(runs.signals(number))
        held["series"].append(runs.series(number))
        held["parts"].append(parts_of(frames[:, 1]))
        with torch.no_grad():
            for name, net in nets.items():
                held[name].append(net(torch.from_numpy(frames)).numpy())
    sex, families = runs.people.sex.astype(int), np.asarray(runs.people.family)
    found = []
    for name, series in held.items():
        row: dict[str, Any] = {"name": name, "seed": seed, "features": series[0].shape[1]}
        for window in windows:
            row[f"correlations_{window}"] = round(
                auroc(np.stack([connectivity(one, window) for one in series]), sex, families), 3
            )
        row["means"] = round(auroc(np.stack([one.mean(0) for one in series]), sex, families), 3)
        found.append(row)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="60 subjects of one cohort, half a minute")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102], help="of the cohorts")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in options.seeds[: 1 if options.quick else None]:
        for found in measure(seed, 60 if options.quick else 200, (20,) if options.quick else (20, 60, 120)):
            rows.append(found)
            show(found)
    keep(rows, options.json)


if __name__ == "__main__":
    main()
