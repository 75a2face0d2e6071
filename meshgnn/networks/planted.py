"""A made-up study with known structure: people whose traits hang together in groups, and a table of models' scores."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError
from meshgnn.networks.models import Model, Models
from meshgnn.source.participant_table import Participants
from meshgnn.source.subjects import Target

IMAGES = (("dwi",), ("flair", "t1"), ("connectivity",))
ALWAYS = "constitutional"


@dataclass(frozen=True, kw_only=True, eq=False)
class Planted:
    """
    Args:
        people: with their traits; models: of them.
        groups: [T] planted group of every target.
        domains: of every target.
        effects: what each input adds to every score.
    """

    people: Participants
    models: Models
    groups: NDArray[np.int64]
    domains: dict[str, str]
    effects: dict[str, float]


class PlantedStudy:
    """Draws the study.

    Traits of a group share a factor; groups are dealt out over domains, so that neither tells the other. A score is a
    level of the target, plus the effects of its inputs, plus what a group gains from images in its own way, plus noise.
    Combinations of inputs are those of the biobank study (10.1016/j.neuroimage.2024.120600), 700 for its 25 targets.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            domains: DOMAIN=NUMBER of targets.
            groups: planted.
            people: number of them.
            shared: share of a trait's variance that is its group's.
            classes: share of the targets that have two classes; the others are numbers.
            missing: share of values that are missing.
            effects: INPUT=EFFECT on every score.
            own: standard deviation of what a group gains from an image beyond that.
            noise: standard deviation of a score.
            seed: of all of it.
        """

        domains: tuple[str, ...] = ("constitutional=4", "disease=5", "serology=4", "psychology=12")
        groups: int = 4
        people: int = 600
        shared: float = 0.5
        classes: float = 0.5
        missing: float = 0.05
        effects: tuple[str, ...] = ("flair=0.06", "connectivity=0.02", "serology=0.03", "psychology=0")
        own: float = 0.03
        noise: float = 0.015
        seed: int = 0

        def __post_init__(self) -> None:
            try:
                counts = {name: int(number) for name, _, number in (one.partition("=") for one in self.domains)}
                effects = {name: float(number) for name, _, number in (one.partition("=") for one in self.effects)}
            except ValueError:
                raise SettingError("<domains> and <effects> hold NAME=NUMBER") from None
            if min(counts.values(), default=0) < 1 or len(counts) < len(self.domains) or "" in {*counts, *effects}:
                raise SettingError("<domains> must name at least one, each once, with one target or more")
            if not 1 <= self.groups <= sum(counts.values()) or self.people < 20:
                raise SettingError("<groups> must lie between 1 and the number of targets, <people> be at least 20")
            if not all(0 <= share < 1 for share in (self.shared, self.missing)) or not 0 <= self.classes <= 1:
                raise SettingError("<shared>, <missing> and <classes> must lie in [0, 1)")
            if min(self.own, self.noise, self.seed) < 0:
                raise SettingError("<own>, <noise> and <seed> must not be negative")

        def build(self) -> "PlantedStudy":
            return PlantedStudy(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def draw(self) -> Planted:
        """The study; the same for the same settings."""
        c = self.config
        rng = np.random.default_rng(c.seed)
        counts = {name: int(number) for name, _, number in (one.partition("=") for one in c.domains)}
        domains = {f"{name} {k + 1}": name for name, count in counts.items() for k in range(count)}
        names = list(domains)
        groups = rng.permutation(np.arange(len(names)) % c.groups).astype(np.int64)
        factors = rng.standard_normal((c.people, c.groups))
        values = np.sqrt(c.shared) * factors[:, groups]
        values = values + np.sqrt(1 - c.shared) * rng.standard_normal((c.people, len(names)))
        coded = rng.permutation(len(names)) < round(c.classes * len(names))
        for k in np.flatnonzero(coded):
            values[:, k] = values[:, k] > np.quantile(values[:, k], rng.uniform(0.3, 0.7))
        values[rng.random(values.shape) < c.missing] = np.nan
        targets = tuple(Target(name=name, classes=("no", "yes") if coded[k] else ()) for k, name in enumerate(names))
        people = Participants(ids=tuple(f"sub-{k + 1:04d}" for k in range(c.people)), targets=targets, values=values)
        effects = {name: float(number) for name, _, number in (one.partition("=") for one in c.effects)}
        models = self._models(rng, targets, domains, groups, effects)
        return Planted(people=people, models=models, groups=groups, domains=domains, effects=effects)

    def _models(
        self, rng: np.random.Generator, targets: tuple[Target, ...], domains: dict[str, str],
        groups: NDArray[np.int64], effects: dict[str, float],
    ) -> Models:  # fmt: skip
        c = self.config
        own = c.own * rng.standard_normal((c.groups, len(IMAGES)))
        rows = []
        for k, target in enumerate(targets):
            coded = bool(target.classes)
            level = rng.uniform(0.55, 0.7) if coded else rng.uniform(0.05, 0.3)
            for part, table in combinations_of(domains[target.name], tuple(dict.fromkeys(domains.values()))):
                inputs = tuple(name for number in part for name in IMAGES[number])
                gains = [effects.get(name, 0.0) for name in (*inputs, *table)]
                gains += [own[groups[k], number] for number in part]
                score = level + sum(gains) + c.noise * rng.standard_normal()
                half = 1.96 * c.noise
                rows.append(
                    Model(
                        name="_".join([target.name.replace(" ", "-"), "-".join(inputs), "-".join(table)]).strip("_"),
                        target=target.name, inputs=inputs, domains=table,
                        score_name="balanced_accuracy" if coded else "r2", score=float(min(score, 0.999)),
                        numbers={"low": float(score - half), "high": float(score + half)},
                    )
                )  # fmt: skip
        return Models(rows=tuple(rows), source="planted study")


def combinations_of(domain: str, domains: tuple[str, ...]) -> list[tuple[tuple[int, ...], tuple[str, ...]]]:
    """Which images and domains the models of a target of `domain` get: always constitutional ones but for themselves,
    who get images alone."""
    parts = [part for n in range(len(IMAGES) + 1) for part in combinations(range(len(IMAGES)), n)]
    if domain == ALWAYS or ALWAYS not in domains:
        return [(part, ()) for part in parts if part]
    others = [name for name in domains if name not in (domain, ALWAYS)]
    tables = [(ALWAYS, *more) for n in range(len(others) + 1) for more in combinations(others, n)]
    return [(part, table) for table in tables for part in parts]
