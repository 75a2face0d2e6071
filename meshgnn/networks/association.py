"""How pairs of targets hang together: mutual information with a permutation null, and |r|. G people, T targets."""

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.networks.information import CONTINUOUS, DISCRETE, Estimator, estimator_of, permutable
from meshgnn.networks.record import Layer
from meshgnn.progress import Progress, silent
from meshgnn.source.participant_table import MISSING, Participants, is_number
from meshgnn.source.text_table import read_text_table

INFORMATION, CORRELATION, CLOSENESS = "information", "correlation", "closeness"


class Associations:
    """Mutual information and |r| of all pairs of targets; every pair over the people who have both.

    The null distribution of a pair: one of its columns permuted among these people, which holds where people may be
    exchanged (families and sites make it too narrow). Draws go on past `permutations` until `beyond` of them reached
    the estimate, or `most` were drawn: p = (beyond + 1) / (draws + 1) stays valid (Besag & Clifford 1991), and pairs
    that are clearly related get the small p that 300 pairs need. q is Benjamini & Hochberg's (1995) over all pairs.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            permutations: least number of draws of a pair's null distribution.
            most: largest number.
            beyond: draws that reach the estimate, at which a pair stops.
            neighbours: k of the estimators for numbers.
            least: people that a pair must have in common.
            seed: of the permutations and of the noise that parts equal numbers.
        """

        permutations: int = 200
        most: int = 2000
        beyond: int = 20
        neighbours: int = 4
        least: int = 20
        seed: int = 0

        def __post_init__(self) -> None:
            if not 1 <= self.permutations <= self.most or self.beyond < 1:
                raise SettingError("<permutations> must be at least 1 and at most <most>, <beyond> at least 1")
            if self.neighbours < 1 or self.least < self.neighbours + 2 or self.seed < 0:
                raise SettingError("<neighbours> must be at least 1, <least> two more, <seed> not negative")

        def build(self) -> "Associations":
            return Associations(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self, people: Participants) -> None:
        """Whether all pairs can be estimated.

        Raises:
            InputError: fewer than two targets, targets that are the same for everybody, or pairs with too few people.
        """
        names = [target.name for target in people.targets]
        if len(names) < 2:
            raise InputError(f"a network of targets needs two or more; there is {', '.join(names) or 'none'}")
        known = np.isfinite(people.values)
        _refuse_constant("", names, [np.unique(people.values[known[:, k], k]) for k in range(len(names))])
        few, same = [], []
        for a, b in combinations(range(len(names)), 2):
            both = known[:, a] & known[:, b]
            if both.sum() < self.config.least:
                few.append(f"{names[a]} and {names[b]} ({int(both.sum())})")
            elif any(len(np.unique(people.values[both, k])) < 2 for k in (a, b)):
                same.append(f"{names[a]} and {names[b]}")
        if few:
            raise InputError(
                f"{len(few)} pairs of targets have fewer than {self.config.least} people in common: {_some(few)}; "
                "leave a target out, or lower `least`"
            )
        if same:
            raise InputError(
                f"{len(same)} pairs of targets: one is the same for all people who have both: {_some(same)}; leave "
                "one out"
            )

    def layers(self, people: Participants, progress: Progress = silent) -> dict[str, Layer]:
        """The layers `information` (pairs: p, q, n, null: mean of the null distribution, above: weight minus that,
        draws) and `correlation` (|r|, classes by their numbers; NaN where a column has three classes or more).

        Raises:
            InputError: see `check`.
        """
        self.check(people)
        c, count = self.config, len(people.targets)
        discrete = [bool(target.classes) for target in people.targets]
        held = {name: np.full((count, count), np.nan) for name in ("mi", "p", "q", "n", "null", "above", "draws", "r")}
        names = [[""] * count for _ in range(count)]
        pairs = list(combinations(range(count), 2))
        for done, (a, b) in enumerate(pairs):
            progress("pairs of targets", done, len(pairs))
            both = np.isfinite(people.values[:, a]) & np.isfinite(people.values[:, b])
            first, second = people.values[both, a], people.values[both, b]
            rng = np.random.default_rng([c.seed, a, b])
            kind = estimator_of(discrete[a], discrete[b])
            if kind not in (DISCRETE, CONTINUOUS) and not discrete[a]:
                first, second = second, first
            found = self._pair(first, second, kind, rng)
            found["n"] = float(both.sum())
            if max(len(people.targets[k].classes) for k in (a, b)) < 3:
                found["r"] = abs(float(np.corrcoef(first, second)[0, 1]))
            for name, value in found.items():
                held[name][a, b] = held[name][b, a] = value
            names[a][b] = names[b][a] = kind
        progress("pairs of targets", len(pairs), len(pairs))
        upper = np.triu_indices(count, 1)
        held["q"][upper] = false_discovery_control(held["p"][upper])
        held["q"].T[upper] = held["q"][upper]
        information = Layer(
            weights=held["mi"], unit="nat", text="mutual information, pairwise complete",
            pairs={name: held[name] for name in ("p", "q", "n", "null", "above", "draws")},
            estimators=tuple(map(tuple, names)),
        )  # fmt: skip
        correlation = Layer(
            weights=held["r"], text="|r|, classes by their numbers; none for three classes or more",
            pairs={"n": held["n"]},
        )  # fmt: skip
        return {INFORMATION: information, CORRELATION: correlation}

    def _pair(
        self, first: NDArray[np.float64], second: NDArray[np.float64], kind: Estimator, rng: np.random.Generator
    ) -> dict[str, float]:
        """Estimate and null distribution of a pair; where one column is discrete, it is the first."""
        c = self.config
        estimate = permutable(first, second, kind, c.neighbours, rng)
        own = estimate(np.arange(len(first)))
        total, beyond, draws = 0.0, 0, 0
        while draws < c.permutations or (beyond < c.beyond and draws < c.most):
            drawn = estimate(rng.permutation(len(first)))
            total, beyond, draws = total + drawn, beyond + (drawn >= own - 1e-12), draws + 1
        null = total / draws
        return {"mi": own, "null": null, "above": own - null, "p": (beyond + 1) / (draws + 1), "draws": float(draws)}


def score_closeness(scores: NDArray[np.floating]) -> Layer:
    """1 / (1 + d) of every pair of targets, d the Euclidean distance of their score vectors, per shared input set.

    Args:
        scores: [T, M] of every target with M sets of inputs; NaN where it was not tried. d is the root of the mean
            squared difference over the sets that both have (`n`); none where they share no set.
    """
    scores = np.asarray(scores, np.float64)
    count = len(scores)
    weights, shared = np.full((count, count), np.nan), np.zeros((count, count))
    for a, b in combinations(range(count), 2):
        gap = scores[a] - scores[b]
        known = np.isfinite(gap)
        shared[a, b] = shared[b, a] = known.sum()
        if known.any():
            weights[a, b] = weights[b, a] = 1 / (1 + float(np.sqrt((gap[known] ** 2).mean())))
    return Layer(
        weights=weights, text="1 / (1 + distance of the score vectors over shared inputs)", pairs={"n": shared}
    )


def refuse_constant_columns(path: Path, names: Sequence[str]) -> None:
    """Raises InputError that names and counts those of the table's columns which are the same for all, or missing."""
    columns, rows = read_text_table(path, ["participant_id"])
    there = [name for name in names if name in columns]
    known = {name: {row[name] for _, row in rows if row[name].lower() not in MISSING} for name in there}
    numbers = {name: all(map(is_number, cells)) for name, cells in known.items()}
    cells = [{float(one) for one in held} if numbers[name] else held for name, held in known.items()]
    _refuse_constant(f"{path}: ", list(known), cells)


def _refuse_constant(where: str, names: Sequence[str], values: Sequence[Sized]) -> None:
    constant = [name for name, held in zip(names, values) if len(held) < 2]
    if constant:
        raise InputError(
            f"{where}{len(constant)} of {len(names)} targets are the same for all who have them: {_some(constant)}; "
            "leave them out"
        )


def refuse_lone(nodes: Sequence[str], layers: Mapping[str, Layer]) -> None:
    """Raises InputError that names and counts nodes without an edge in any layer."""
    joined = np.zeros(len(nodes), np.bool_)
    for layer in layers.values():
        joined |= (np.nan_to_num(layer.weights) != 0).any(1)
    lone = [name for name, there in zip(nodes, joined) if not there]
    if lone:
        raise InputError(
            f"{len(lone)} of {len(nodes)} targets are joined to no other by people, or by inputs and a score: "
            f"{_some(lone)}; leave them out"
        )


def _some(names: list[str], most: int = 5) -> str:
    """The first few names, and how many more."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
