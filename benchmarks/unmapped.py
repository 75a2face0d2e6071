"""How well nodes unlike anything annotated are told: planted in the brains of a finished run that were never seen.

A twentieth of a brain's cortex, in round patches, gets other features (every scale at once, since it is the inputs of
the models that are replaced): `permuted`, every column from another node of the brain; `blurred`, the mean over
100 rings of the mesh; `swapped`, whole rows from elsewhere in the brain, which is sound tissue in the wrong place and
should not be found by looks. AUROC of planted against other nodes, share found, and false alarms, by brain. Scores:
squared distance to the nearest class mean; how far its ratio to the median lies from 1, to either side; the distance
relative to that under one Gaussian of all nodes (Ren et al. 2021), fitted to the brain's nodes or put together from its
class means; each also averaged over neighbours. One is to be chosen on the brains named by --choose alone.

    python benchmarks/unmapped.py RUN [--choose NAME ...] [--json FILE]
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402
from scipy.stats import rankdata  # noqa: E402

from benchmarks._pairs import keep, show  # noqa: E402
from meshgnn.data.model_inputs import edges_among  # noqa: E402
from meshgnn.errors import InputError  # noqa: E402
from meshgnn.experiment.cli import resolve  # noqa: E402
from meshgnn.experiment.run_folder import RunFolder, read_config  # noqa: E402
from meshgnn.experiment.section_mapping import SectionMapping  # noqa: E402
from meshgnn.experiment.training import MAIN  # noqa: E402
from meshgnn.train.adaptation import FIELD_ROUNDS  # noqa: E402
from meshgnn.train.same_inputs import SameInputs  # noqa: E402
from meshgnn.train.smooth_field import SmoothField  # noqa: E402
from meshgnn.train.stored_baselines import StoredBaselines  # noqa: E402
from meshgnn.train.unmapped import LEVEL, Unmapped, nearest_distance  # noqa: E402

PLANTED, PATCHES = 0.05, 10
KINDS = ("permuted", "blurred", "swapped")
PLAIN = ("nearest", "two-sided", "relative", "relative, by classes")
SCORES = tuple(f"{name}{more}" for name in PLAIN for more in ("", ", averaged"))


def patches(n_nodes: int, edges: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[V] bool: discs of the mesh around random nodes, a share PLANTED of the nodes together."""
    found = np.zeros(n_nodes, bool)
    for start in rng.choice(n_nodes, min(PATCHES, n_nodes), replace=False):
        disc = np.zeros(n_nodes, bool)
        disc[start] = True
        while disc.sum() < PLANTED * n_nodes / PATCHES:
            grown = disc.copy()
            grown[edges[1, disc[edges[0]]]] = True
            if grown.sum() == disc.sum():
                break
            disc = grown
        found |= disc
    return found


def planted(kind: str, features: np.ndarray, where: np.ndarray, edges: np.ndarray, rng: np.random.Generator) -> Any:
    """Features [V, D] with other ones at the nodes `where` [V]."""
    found, count = features.copy(), int(where.sum())
    if kind == "permuted":
        rows = rng.integers(0, len(features), (count, features.shape[1]))
        found[where] = np.take_along_axis(features, rows, axis=0)
    elif kind == "blurred":
        found[where] = SmoothField(len(features), edges, FIELD_ROUNDS)(features)[where]
    else:
        found[where] = features[rng.integers(0, len(features), count)]
    return found


def scores(even: np.ndarray, means: np.ndarray, edges: np.ndarray) -> dict[str, np.ndarray]:
    """Every score [V] of one brain's cortex, centred and scaled by its own median and spread."""
    nearest = nearest_distance(even, means)
    centre, spread = even.mean(0), np.cov(even, rowvar=False) + 1e-3 * np.eye(even.shape[1])
    all_nodes = ((even - centre) @ np.linalg.inv(spread) * (even - centre)).sum(1)
    found = {"nearest": nearest / np.median(nearest)}
    found["two-sided"] = np.abs(np.log(np.maximum(found["nearest"], 1e-12)))
    by_classes = np.cov(means, rowvar=False, bias=True) + np.eye(even.shape[1])
    away = even - means.mean(0)
    for name, other in (("", all_nodes), (", by classes", (away @ np.linalg.inv(by_classes) * away).sum(1))):
        relative = nearest - other
        middle = np.median(relative)
        found[f"relative{name}"] = (relative - middle) / max(np.median(np.abs(relative - middle)), 1e-12)
    for name, own in list(found.items()):
        total = np.bincount(edges[0], own[edges[1]], len(own)) + own
        found[f"{name}, averaged"] = total / (np.bincount(edges[0], minlength=len(own)) + 1)
    return found


def auroc(score: np.ndarray, positive: np.ndarray) -> float:
    """Share of pairs of a positive and a negative node that the score ranks rightly (Mann & Whitney 1947)."""
    own = int(positive.sum())
    rank = rankdata(score)[positive].sum()
    return float((rank - own * (own + 1) / 2) / (own * (len(score) - own)))


def measured(folder: Path, choose: list[str]) -> list[dict[str, Any]]:
    stored = read_config(folder)
    config = resolve(stored["experiment"], stored["overrides"])
    if not isinstance(config, SectionMapping.Config):
        raise InputError(f"{folder}: not a run from sections to areas")
    experiment, run = config.build(), RunFolder(folder)
    cohort = experiment._cohort(run)
    models = experiment._seen(cohort, experiment.networks[MAIN]).models
    same = SameInputs(models, range(config.trainer.folds), config.seeds[0])
    fits = dict(same.rows())
    kept = StoredBaselines.of(same, {name: fits[name]() for name in ("position_prior", "adapted_prior_lda")})
    if why := kept.no_unmapped():
        raise InputError(f"{folder}: {why}")
    assert kept.adaptation is not None
    weight, adaptation = kept.adapted_weight, kept.adaptation

    sound: dict[str, list[np.ndarray]] = {name: [] for name in SCORES}
    start = same._votes("position_prior").elsewhere
    for model, (_, asked) in zip(same._left_out_models, same._left_out):
        edges = edges_among(models.edges, asked)
        own = model.own_statistics(models.features[asked], start[asked], weight, edges)
        for name, score in scores(*own, edges).items():
            sound[name].append(score[models.known[asked]])
    calibrated = {name: Unmapped.of(own) for name, own in sound.items()}

    rows: list[dict[str, Any]] = []
    for number, member in enumerate(experiment.members):
        if not member.unseen or (choose and member.name not in choose):
            continue
        here = (models.brain == number) & models.features.any(1)
        features, edges = models.features[here], edges_among(models.edges, here)
        prior = kept.log_prior(models.coordinates[here])
        rng = np.random.default_rng(number)
        where = patches(len(features), edges, rng)
        for kind in ("nothing", *KINDS):
            changed = features if kind == "nothing" else planted(kind, features, where, edges, rng)
            found = scores(*adaptation.own_statistics(changed, prior, weight, edges), edges)
            for name in SCORES:
                flag = calibrated[name].p_values(found[name]) <= LEVEL
                row = {"brain": member.name, "planted": kind, "name": name}
                if kind == "nothing":
                    row["false alarms"] = round(float(flag.mean()), 4)
                else:
                    row |= {"auroc": round(auroc(found[name], where), 3), "found": round(float(flag[where].mean()), 3)}
                    row["false alarms"] = round(float(flag[~where].mean()), 4)
                rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run of virtual_brain with two training brains at least")
    parser.add_argument("--choose", nargs="*", default=[], help="these unseen brains only")
    parser.add_argument("--json", type=Path, help="write the rows here")
    args = parser.parse_args()
    try:
        rows = measured(args.run, args.choose)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    for one in rows:
        show(one)
    keep(rows, args.json)


if __name__ == "__main__":
    main()
