"""Scores of a study's models made again for resampled people. G people, N tested by a model, D draws.

A study keeps one run folder per model, `models/NAME`, whose predictions/subjects.tsv says what was true and what was
predicted of every person. One draw takes whole families (people, where families are not known) with replacement, the
same ones for all models. Models are not trained again: draws tell how effects would differ among other tested people.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.networks.models import Model, Models
from meshgnn.source.participant_table import MISSING
from meshgnn.source.text_table import read_text_table

ACCURACY, R2 = "balanced_accuracy", "r2"
CHUNK = 100  # draws held at once, so that memory does not grow with the people
FEWEST = 10  # people (or families) that a bootstrap needs
Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """What one model said of the people whom it was tested on.

    Args:
        rows: [N] of all people.
        true, predicted: [N] numbers, or numbers of classes.
        division: [N] the part of the study that tested a person; parts are judged apart, as in the study.
        classes: whether they are classes.
    """

    rows: NDArray[np.int64]
    true: Values
    predicted: Values
    division: NDArray[np.int64]
    classes: bool

    def scores(self, counts: Values) -> Values:
        """[D] balanced accuracy or R2 where person g is taken counts[d, g] times; NaN where a draw cannot tell."""
        drawn = counts[:, self.rows]
        total, weight = np.zeros(len(counts)), np.zeros(len(counts))
        for number in np.unique(self.division):
            here = self.division == number
            own = drawn[:, here]
            score = (_accuracy if self.classes else _r2)(own, self.true[here], self.predicted[here])
            known = np.isfinite(score)
            total += np.where(known, score * own.sum(1), 0)
            weight += np.where(known, own.sum(1), 0)
        return np.where(weight > 0, total / np.maximum(weight, 1), np.nan)


def _accuracy(counts: Values, true: Values, predicted: Values) -> Values:
    of_class = (true[:, None] == np.unique(true)).astype(np.float64)
    there, hit = counts @ of_class, counts @ (of_class * (true == predicted)[:, None])
    present = (there > 0).sum(1)
    recall = np.where(there > 0, hit / np.maximum(there, 1), 0).sum(1) / np.maximum(present, 1)
    return np.where(present > 1, recall, np.nan)


def _r2(counts: Values, true: Values, predicted: Values) -> Values:
    centred = true - true.mean()
    size = np.maximum(counts.sum(1), 1)
    around = counts @ centred**2 - (counts @ centred) ** 2 / size
    # One person alone, taken several times, leaves nothing but rounding.
    varied = around > 1e-12 * size * max(float((centred**2).mean()), 1e-300)
    return np.where(varied, 1 - counts @ (true - predicted) ** 2 / np.where(varied, around, 1), np.nan)


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredPeople:
    """
    Args:
        judged: by name of the model; models without stored predictions are not in it.
        family: [G] number of every person's family, those without being their own.
        draws: number of bootstrap samples.
        seed: of the draws.
    """

    judged: Mapping[str, Judged]
    family: NDArray[np.int64]
    draws: int = 1000
    seed: int = 0

    def missing(self, rows: Sequence[Model]) -> str:
        """Why people cannot be resampled for these models; "" if they can."""
        known = [self.judged[row.name] for row in rows if row.name in self.judged]
        if not known:
            return "no predictions stored"
        if len(known) < len(rows):
            return f"predictions of {len(known)} of {len(rows)} models stored"
        tested = np.unique(np.concatenate([self.family[one.rows] for one in known]))
        return f"{len(tested)} families or people, {FEWEST} are needed" if len(tested) < FEWEST else ""

    def people(self, rows: Sequence[Model]) -> int:
        """How many people these models were tested on."""
        return len(np.unique(np.concatenate([self.judged[row.name].rows for row in rows])))

    def again(self, rows: Sequence[Model]) -> Values:
        """[M] scores of these models for the people as they are."""
        everybody = np.ones((1, len(self.family)))
        return np.array([self.judged[row.name].scores(everybody)[0] for row in rows])

    def drawn(self, rows: Sequence[Model]) -> Values:
        """[M, D] scores of these models, the same people in a column; NaN where a draw cannot tell."""
        used = np.unique(np.concatenate([self.family[self.judged[row.name].rows] for row in rows]))
        place = np.full(int(self.family.max()) + 1, len(used))
        place[used] = np.arange(len(used))
        rng, found = np.random.default_rng(self.seed), []
        for start in range(0, self.draws, CHUNK):
            taken = rng.integers(0, len(used), (min(CHUNK, self.draws - start), len(used)))
            times = np.stack([np.bincount(one, minlength=len(used) + 1) for one in taken]).astype(np.float64)
            counts = times[:, place[self.family]]
            found.append(np.stack([self.judged[row.name].scores(counts) for row in rows]))
        return np.concatenate(found, axis=1)


def prediction_files(models: Models) -> dict[str, Path]:
    """By name of the model, the tables of predictions that lie beside a study's table of models."""
    folder = Path(models.source).parent / "models"
    names = {row.name for row in models.rows if row.name == Path(row.name).name}  # a name is no path
    places = {name: folder / name / "predictions" / "subjects.tsv" for name in sorted(names)}
    return {name: path for name, path in places.items() if os.path.isfile(path)}


def stored_people(models: Models, draws: int = 1000, seed: int = 0) -> StoredPeople:
    """What models' run folders say of single people; those of other scores than balanced accuracy and R2 are left out.

    Raises:
        InputError: a table that cannot be read, somebody twice in it, a number that is none.
    """
    files = prediction_files(models)
    place: dict[str, int] = {}
    families: dict[str, int] = {}
    family: list[int] = []
    judged = {}
    for row in models.rows:
        if row.name not in files or row.score_name not in (ACCURACY, R2):
            continue
        path, said = files[row.name], f"{row.target}_predicted"
        _, table = read_text_table(path, ["participant_id", row.target, said])
        rows, true, predicted, divisions = [], [], [], []
        for line, cells in table:
            if any(cells[name].lower() in MISSING for name in (row.target, said)):
                continue
            name, own = cells["participant_id"], cells.get("family_id", "")
            if name not in place:
                place[name] = len(place)
                key = f"only {name}" if own.lower() in MISSING else f"family {own}"
                family.append(families.setdefault(key, len(families)))
            rows.append(place[name])
            true.append(cells[row.target])
            predicted.append(cells[said])
            divisions.append(cells.get("division", ""))
            if row.score_name == R2 and not all(_is_finite(text) for text in (true[-1], predicted[-1])):
                raise InputError(f"{path}, line {line}: {true[-1]!r} and {predicted[-1]!r} are not two finite numbers")
        if len(set(rows)) < len(rows):
            raise InputError(f"{path}: {len(rows) - len(set(rows))} participants stand twice; keep one row of each")
        if rows:
            numbers = {text: k for k, text in enumerate(dict.fromkeys((*true, *predicted)))}
            coded = row.score_name == ACCURACY
            first, second = ([numbers[t] if coded else float(t) for t in one] for one in (true, predicted))
            judged[row.name] = Judged(
                rows=np.array(rows, np.int64), true=np.array(first, np.float64), classes=coded,
                predicted=np.array(second, np.float64), division=np.unique(divisions, return_inverse=True)[1],
            )  # fmt: skip
    return StoredPeople(judged=judged, family=np.array(family, np.int64), draws=draws, seed=seed)


def _is_finite(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
