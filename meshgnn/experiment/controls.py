"""Controls of the virtual brain: experiments that must come out as stated, or a shortcut would solve the benchmark.

A model is trained on some virtual brains and tested on an unseen one, at the nodes' true places. "Chance" is the
macro-F1 of the same predictions dealt out at random over the test nodes: it holds the base rates, and nothing else.

permuted     areas dealt out anew over the places, brain by brain: coordinates tell nothing, profiles what they told
uniform      one profile in all areas: profiles tell nothing, of no single area
masked       all cortex painted out: what lies around it tells nothing, nor does thickness
stain        glass and tissue level of a section tell nothing, nor mean and variance of a patch in uniform brains; in
             plain ones these are near chance (overall cell density is histology, and is in the mean)
coordinates  position alone does not solve an unseen brain
folds        the shape of the folds, seen whole and without error, tells little of an unseen brain's areas
calibration  area explains as much of the relative thickness of layers as in BigBrain
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache, partial
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import Config as BaseConfig
from meshgnn.config import to_plain
from meshgnn.confusion import confusion_matrix, macro_f1, per_class_f1
from meshgnn.data.model_inputs import plain_inputs
from meshgnn.errors import SettingError
from meshgnn.experiment.control_samples import fold_shape, sample_brain
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Experiment, Stage
from meshgnn.source.virtual import VirtualBrain
from meshgnn.source.virtual.areas import isocortical_areas
from meshgnn.source.virtual.calibrate import calibration
from meshgnn.source.virtual.settings import VERSION
from meshgnn.store import read_arrays, read_json, write_arrays, write_json
from meshgnn.train.baselines import fixed_recipes

Control = Literal["permuted", "uniform", "masked", "stain", "coordinates", "folds", "calibration"]
Arrays = dict[str, NDArray[Any]]

# What each control changes in its brains, by the name of the tables; the plain brains stand beside for comparison.
CHANGES: dict[str, dict[str, Any]] = {"plain": {}, "permuted": {"shuffle": True}, "uniform": {"uniform": True}}
NEEDS: dict[str, tuple[str, ...]] = {
    "permuted": ("plain", "permuted"),
    "uniform": ("uniform",),
    "masked": ("plain",),
    "stain": ("plain", "uniform"),
}

NOTHING, NEAR = 0.03, 0.05  # macro-F1 above chance that still counts as telling nothing, as near chance
ONE_AREA = 0.2  # F1 of a single area that still counts as not found
KEPT = 0.8  # share of their score that profiles must keep
POSITION = 0.5
SHAPE, POSED = 0.09, 0.24  # macro-F1 above chance (0.03) of fold shape, and of that with the normal's direction
ETA, ETA_IV, ETA_IV_REST = (0.07, 0.18), (0.43, 0.63), (0.24, 0.40)  # BigBrain 0.07-0.18, IV 0.53, 0.32


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One stated outcome.

    Args:
        control: which.
        expect: what must hold, in words.
        measured: the figure.
        low, high: bounds that it must keep.
    """

    control: str
    expect: str
    measured: float
    low: float = 0.0
    high: float = 1.0

    @property
    def passed(self) -> bool:
        return self.low <= self.measured <= self.high


class Controls(Experiment):
    """Runs controls and tells which came out as stated."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            names: the controls to run.
            brain: the brains; pixels and sections are coarser than the preset's to save time.
            profiles: config of the maker of profiles (`features.profiles.DepthProfiles`).
            train: seeds of the brains trained on.
            test: seed of the unseen brain.
            fits: random starts of each model; scores are their mean.
            within_mm: nodes this near to a section are used.
            workers: threads; the result does not depend on them.
            population: seeds of the brains of `coordinates` and `calibration`, which need no images.
        """

        names: tuple[Control, ...] = get_args(Control)
        brain: VirtualBrain.Config = field(
            default_factory=lambda: VirtualBrain.Config(pixel_um=100.0, spacing_mm=4.0, subdivisions=0)
        )
        profiles: Any = None
        train: tuple[int, ...] = (1, 2, 3)
        test: int = 4
        fits: int = 3
        within_mm: float = 1.0
        workers: int = 2
        population: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)

        def __post_init__(self) -> None:
            wrong = [name for name in self.names if name not in get_args(Control)]
            if wrong or not self.names:
                raise SettingError(
                    f"<names>: {', '.join(wrong) or 'none'} named; there is {', '.join(get_args(Control))}"
                )
            if not self.train or self.test in self.train:
                raise SettingError("<train> needs seeds, and <test> one that is not among them")
            if self.fits < 1 or not self.within_mm > 0:
                raise SettingError("<fits> must be at least 1 and <within_mm> above 0")
            if len(set(self.population)) < 2:
                raise SettingError("<population> needs at least two seeds")

        def build(self) -> "Controls":
            return Controls(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def check(self) -> None:
        """Raises InputError if images are needed and no maker of profiles is given."""
        if self._conditions() and self.config.profiles is None:
            raise SettingError("<profiles> must name a maker of depth profiles; see experiments/controls")

    def seeds(self) -> list[int]:
        return sorted({*self.config.train, self.config.test, *self.config.population})

    def stages(self) -> list[Stage]:
        c = self.config
        made = to_plain([VERSION, c.brain, c.profiles, c.train, c.test, c.within_mm])
        stages = [
            Stage(name=f"{name}_brains", run=partial(self._sample, name), after=(), depends=made)
            for name in self._conditions()
        ]
        after = tuple(stage.name for stage in stages)
        judged = [VERSION, to_plain(replace(c, workers=0))]
        return [*stages, Stage(name="controls", run=self._judge, after=after, depends=judged)]

    def summary(self, run: RunFolder) -> str:
        found = read_json(run / "metrics.json")["controls"]
        lines = [f"\n{'control':12s} {'measured':>9s} {'bounds':>14s}         what must hold"]
        for row in found["outcomes"]:
            bounds = f"{row['low']:.3f}-{row['high']:.3f}"
            verdict = "pass" if row["passed"] else "FAIL"
            lines.append(f"{row['control']:12s} {row['measured']:9.3f} {bounds:>14s}  {verdict}   {row['expect']}")
        failed = sum(not row["passed"] for row in found["outcomes"])
        return "\n".join([*lines, f"{len(found['outcomes']) - failed} of {len(found['outcomes'])} as stated"])

    def _conditions(self) -> list[str]:
        needed = {condition for name in self.config.names for condition in NEEDS.get(name, ())}
        return [name for name in CHANGES if name in needed]

    def _sample(self, condition: str, run: RunFolder) -> list[str]:
        c = self.config
        maker = c.profiles.build()

        def sample(seed: int) -> str:
            brain = replace(c.brain, seed=seed, **CHANGES[condition]).build()
            arrays = sample_brain(brain, maker, c.within_mm)
            write_arrays(run / _table(condition, seed), arrays)
            run.say(f"  brain {seed}: {len(arrays['labels'])} nodes")
            return _table(condition, seed)

        with ThreadPoolExecutor(max(1, c.workers)) as pool:
            return list(pool.map(sample, (*c.train, c.test)))

    def _judge(self, run: RunFolder) -> list[str]:
        c = self.config
        population: dict[str, Any] = {}
        if {"coordinates", "calibration"} & set(c.names):
            fixed = ("seed", "preset", "subdivisions")
            own = {f.name: getattr(c.brain, f.name) for f in fields(c.brain) if f.name not in fixed}
            knobs = {name: value for name, value in own.items() if value is not None}
            population = calibration(c.brain.preset, c.population, **knobs)
        outcomes: list[Outcome] = []
        for name in c.names:
            if name == "folds":
                outcomes += self._folds()
            else:
                outcomes += _population(name, population) if name not in NEEDS else self._images(name, run)
        write_json(
            run / SCORES,
            {
                "task": f"controls of the virtual brain ({c.brain.preset})",
                "protocol": "strict",
                "classes": len(isocortical_areas()),
                "seeds": self.seeds(),
                "controls": {
                    "passed": all(one.passed for one in outcomes),
                    "outcomes": [{**asdict(one), "passed": one.passed} for one in outcomes],
                    "population": population,
                },
            },
        )
        return [SCORES]

    def _folds(self) -> list[Outcome]:
        """Extra-trees on the first two training brains and the unseen one: a measure of what all brains share."""
        from sklearn.ensemble import ExtraTreesClassifier

        seeds = (*self.config.train[:2], self.config.test)
        found = [fold_shape(replace(self.config.brain, seed=seed, subdivisions=0).build()) for seed in seeds]
        outcomes = []
        for what, words, above in (
            ("shape", "curvature and depth of folds", SHAPE),
            ("posed", "these and the direction of the surface", POSED),
        ):
            trees = ExtraTreesClassifier(
                60, min_samples_leaf=5, class_weight="balanced", random_state=0, n_jobs=self.config.workers
            )
            trees.fit(
                np.concatenate([one[what] for one in found[:-1]]), np.concatenate([one["labels"] for one in found[:-1]])
            )
            called, classes = trees.predict(found[-1][what]), len(isocortical_areas())
            rng = np.random.default_rng(0)
            chance = float(
                np.mean([macro_f1(found[-1]["labels"], rng.permutation(called), classes) for _ in range(10)])
            )
            outcomes.append(
                Outcome(
                    control="folds",
                    expect=f"{words}: macro-F1 <= chance ({chance:.3f}) + {above}",
                    measured=macro_f1(found[-1]["labels"], called, classes),
                    high=chance + above,
                )
            )
        return outcomes

    def _images(self, name: str, run: RunFolder) -> list[Outcome]:
        @cache
        def score(condition: str, what: str, model: str = "features_mlp") -> Score:
            tables = [read_arrays(run / _table(condition, seed)) for seed in (*self.config.train, self.config.test)]
            return _score(tables[:-1], tables[-1], what, model, self.config.fits)

        def nothing(
            condition: str, what: str, words: str, model: str = "features_mlp", above: float = NOTHING
        ) -> Outcome:
            got = score(condition, what, model)
            expect = f"{words}: macro-F1 <= chance ({got.chance:.3f}) + {above}"
            return Outcome(control=name, expect=expect, measured=got.macro_f1, high=got.chance + above)

        if name == "uniform":
            best = score("uniform", "profiles").best_f1
            return [
                nothing("uniform", "profiles", "identical profiles tell nothing"),
                Outcome(control=name, expect="nor of the best area: its F1", measured=best, high=ONE_AREA),
            ]
        if name == "masked":
            return [
                nothing("plain", "masked", "what surrounds the cortex tells nothing"),
                nothing("plain", "thickness_mm", "thickness tells nothing"),
            ]
        if name == "stain":
            return [
                nothing("plain", "section", "glass and tissue level of a section tell nothing"),
                nothing("uniform", "patch", "mean and variance of a patch tell nothing but density"),
                nothing("plain", "patch", "mean and variance of a patch are near chance", above=NEAR),
            ]
        usual, kept = score("plain", "profiles"), score("permuted", "profiles").macro_f1
        called = f"profiles do tell: macro-F1 >= 3 x chance ({usual.chance:.3f})"
        keeps = f"profiles keep their score ({usual.macro_f1:.3f}): at least {KEPT:.0%}"
        return [
            Outcome(control=name, expect=called, measured=usual.macro_f1, low=3 * usual.chance),
            nothing("permuted", "coordinates_mm", "position tells nothing", "coordinates_knn"),
            Outcome(control=name, expect=keeps, measured=kept, low=KEPT * usual.macro_f1),
        ]


def _table(condition: str, seed: int) -> str:
    return f"tables/{condition}-{seed}.safetensors"


@dataclass(frozen=True, kw_only=True)
class Score:
    """On the unseen brain, means over starts: macro-F1, chance (see above), F1 of the best area."""

    macro_f1: float
    chance: float
    best_f1: float


def _score(train: list[Arrays], test: Arrays, what: str, model: str, fits: int) -> Score:
    both = {name: np.concatenate([*(table[name] for table in train), test[name]]) for name in (what, "labels")}
    known = np.arange(len(both["labels"])) < len(both["labels"]) - len(test["labels"])
    inputs = plain_inputs(both[what], both["labels"], known, len(isocortical_areas()))
    per_area, chances = [], []
    for seed in range(fits if model == "features_mlp" else 1):
        found = fixed_recipes(inputs)[model].run(seed)[~known].argmax(1)
        per_area.append(per_class_f1(confusion_matrix(test["labels"], found, inputs.n_classes)))
        rng = np.random.default_rng(seed)
        chances += [macro_f1(test["labels"], rng.permutation(found), inputs.n_classes) for _ in range(10)]
    mean = np.mean(per_area, axis=0)
    return Score(macro_f1=float(np.nanmean(mean)), chance=float(np.mean(chances)), best_f1=float(np.nanmax(mean)))


def _population(name: str, figures: dict[str, Any]) -> list[Outcome]:
    if name == "coordinates":
        sources = {"coordinates_knn_macro_f1": "one other brain", "coordinates_all_others_macro_f1": "all other brains"}
        return [
            Outcome(
                control=name, expect=f"position alone, from {who}: macro-F1 <= {POSITION}", measured=figures[key],
                high=POSITION,
            )
            for key, who in sources.items()
        ]  # fmt: skip
    bounds = {layer: ETA_IV if layer == "IV" else ETA for layer in ("I", "II", "III", "IV", "V", "VI")}
    outcomes = [
        Outcome(
            control=name, expect=f"eta squared of area on the relative thickness of layer {layer}", measured=value,
            low=low, high=high,
        )
        for (layer, (low, high)), value in zip(bounds.items(), figures["eta_squared"])
    ]  # fmt: skip
    rest = figures["eta_squared_without_occipital"][3]
    words = "the same of layer IV without occipital areas"
    return [*outcomes, Outcome(control=name, expect=words, measured=rest, low=ETA_IV_REST[0], high=ETA_IV_REST[1])]
