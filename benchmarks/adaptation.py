"""What taking the smooth field of a brain's features off is worth: maps of a finished run, adapted with it and without.

Every row chooses its exponent anew on left-out training brains, with and without alike. Macro-F1 on the brains never
seen, with the difference to the row without the field over brains (Student's t) or, of fewer than three, over places;
and of the discriminant on the training brains between their annotated sections, before annotations are joined.

    python benchmarks/adaptation.py RUN [--json FILE]
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402

from benchmarks._pairs import keep, show  # noqa: E402
from meshgnn.errors import InputError  # noqa: E402
from meshgnn.experiment import section_scores  # noqa: E402
from meshgnn.experiment.cli import resolve  # noqa: E402
from meshgnn.experiment.run_folder import RunFolder, read_config  # noqa: E402
from meshgnn.experiment.section_mapping import SectionMapping  # noqa: E402
from meshgnn.experiment.training import MAIN  # noqa: E402
from meshgnn.train.adaptation import Adaptation  # noqa: E402
from meshgnn.train.ensemble import Ensemble  # noqa: E402
from meshgnn.train.propagate import annotations_in_cortex  # noqa: E402
from meshgnn.train.same_inputs import SameInputs  # noqa: E402
from meshgnn.train.stored_baselines import StoredBaselines  # noqa: E402

ROW = "adapted_prior_lda"


class WithoutField(SameInputs):
    """The same rows with nothing taken off."""

    def _fitted(self, known: np.ndarray) -> Adaptation:
        return replace(super()._fitted(known), field=False)


def measured(folder: Path) -> list[dict[str, Any]]:
    stored = read_config(folder)
    config = resolve(stored["experiment"], stored["overrides"])
    if not isinstance(config, SectionMapping.Config):
        raise InputError(f"{folder}: not a run from sections to areas")
    experiment, run = config.build(), RunFolder(folder)
    cohort = experiment._cohort(run)
    places, networks = cohort.slices(), experiment.networks
    models = experiment._seen(cohort, networks[MAIN]).models
    drawn = [annotations_in_cortex(graph) >= 0 for graph in cohort.graphs]
    strict, gaps = section_scores.parts(experiment.brains.judges(run, cohort), drawn, cohort.unseen)
    maps: dict[str, dict[str, list[list[np.ndarray]]]] = {}
    rows: list[dict[str, Any]] = []
    for field, kind in (("without", WithoutField), ("with", SameInputs)):
        begin = time.perf_counter()
        same = kind(models, range(config.trainer.folds), config.seeds[0])
        fits = dict(same.rows())
        fitted = {name: fits[name]() for name in ("position_prior", "prior_lda", ROW)}
        seconds = time.perf_counter() - begin
        kept = StoredBaselines.of(same, fitted)
        found = {name: [[one.probabilities[place] for place in places]] for name, one in fitted.items()}
        for name, network in networks.items():
            if network.variant != MAIN:
                continue
            seen = experiment._seen(cohort, network).models
            by_seed = Ensemble.load(run / network.place).predict_arrays(seen.features, seen.coordinates, seen.edges)
            found[name] = [[adapted(kept, models, place, by_seed[seed]) for place in places] for seed in network.seeds]
        maps[field] = found
        rows.append({"name": f"fitted {field}", "seconds": round(seconds, 1), "weight": kept.adapted_weight})
    for name in maps["with"]:
        ours, before = maps["with"][name], maps["without"][name]
        gap = strict.against(ours, {"before": before})["before"]
        scores = {field: [one.macro_f1 for one in strict.score(maps[field][name][0])] for field in maps}
        rows.append(
            {
                "name": name,
                **{field: round(strict.mean(maps[field][name])["macro_f1"], 4) for field in maps},
                "gain": f"{gap.difference:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}] over {gap.replicates} {gap.over}",
                "brains": [[round(value, 4) for value in pair] for pair in zip(*scores.values())],
            }
        )
    if gaps:
        between = {field: round(gaps.mean(maps[field][ROW])["macro_f1"], 4) for field in maps}
        rows.append({"name": f"{ROW}, between annotated sections", **between})
    return rows


def adapted(kept: StoredBaselines, models: Any, place: slice, votes: np.ndarray) -> np.ndarray:
    """A network's map of one brain, adapted to it on the mesh's own edges."""
    inside = (models.edges[0] >= place.start) & (models.edges[0] < place.stop)
    prior = kept.log_prior(models.coordinates[place])
    return kept.adapted(votes[place], models.features[place], prior, models.edges[:, inside] - place.start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run of virtual_brain")
    parser.add_argument("--json", type=Path, help="write the rows here")
    args = parser.parse_args()
    try:
        rows = measured(args.run)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    for one in rows:
        show(one)
    keep(rows, args.json)


if __name__ == "__main__":
    main()
