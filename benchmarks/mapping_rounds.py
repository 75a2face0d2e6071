"""How many sections a mapper must draw: by the worklist, in random order, halving gaps, and evenly spaced.

A simulated mapper draws whole sections of virtual brains, with the generator's error of drawing, one per round; the
graph engine fills in; the map is judged by the truth (macro-F1). Counted are the sections until 90 % of the score of
the map from all sections. `even` is no order of rounds: for every number of sections, that many at equal distances.

python benchmarks/mapping_rounds.py [--brains 61,62,63,64] [--out FOLDER] [--quick | --network] [--json FILE]

Brains and finished curves lie in --out; the same command goes on where it was ended. A row's `ratio` is the number of
sections in the other order over that of the worklist (mean over brains); `low` and `high` bound the difference by
Student's t over brains, 95 %. The row `filling_s` is the time from a new stroke to the new map, judged and kept.
`every N`: macro-F1 of the map from every N-th section, and how well its probabilities are calibrated (expected
calibration error by the truth) on the sections between. `--network` alone compares both engines on every fifth section.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scipy import stats  # noqa: E402

from benchmarks._pairs import keep, show  # noqa: E402
from experiments.mapping import mapping  # noqa: E402
from meshgnn.confusion import macro_f1  # noqa: E402
from meshgnn.experiment.section_brain import keep_truth, make_mesh  # noqa: E402
from meshgnn.mapping.engines.evidence import Evidence  # noqa: E402
from meshgnn.mapping.engines.experts import Votes, discriminant_votes  # noqa: E402
from meshgnn.mapping.engines.graph import GraphEngine  # noqa: E402
from meshgnn.mapping.setup import Setup  # noqa: E402
from meshgnn.mapping.situation import open_brain  # noqa: E402
from meshgnn.mapping.socket import Situation  # noqa: E402
from meshgnn.mapping.worklist import Order, worklist  # noqa: E402
from meshgnn.progress import silent  # noqa: E402
from meshgnn.source.annotations import Annotations, read_annotations  # noqa: E402
from meshgnn.source.virtual import VirtualBrain  # noqa: E402
from meshgnn.store import read_arrays, write_json  # noqa: E402
from meshgnn.train.metrics import expected_calibration_error  # noqa: E402
from reconstruct.maker import MeshFromSections  # noqa: E402
from reconstruct.steps.midsurface import ExtractMidsurface  # noqa: E402

SHARE = 0.9
EVERY = (4, 7, 12)
MOST = 40  # sections; an order that does not get there is counted with this number


@dataclass(kw_only=True)
class Simulation:
    """A brain whose every section a mapper has drawn; `situation.drawn` holds all of it."""

    situation: Situation
    everything: Evidence
    votes: Votes
    truth: NDArray[np.int32]
    engine: GraphEngine
    kept: Path

    @staticmethod
    def of(folder: Path) -> "Simulation":
        setup = Setup(mapping())
        stack, brain = open_brain(folder / "sections", folder, setup.maker)
        situation = Situation(stack=stack, brain=brain, drawn=read_annotations(folder / "sections"))
        engine, kept = setup.engines["graph"], folder / "kept"
        assert isinstance(engine, GraphEngine)
        engine.config = replace(engine.config, judge=False)
        return Simulation(
            situation=situation,
            everything=Evidence.of(situation, kept),
            votes=discriminant_votes(engine.features(situation, kept, silent)),
            truth=read_arrays(folder / "truth.safetensors")["labels"],
            engine=engine,
            kept=kept,
        )

    def drawn_on(self, sections: Sequence[int]) -> tuple[Situation, Evidence]:
        evidence = self.everything.without(~np.isin(self.everything.section, sections))
        labels = evidence.labels
        used = np.isin(np.arange(len(evidence.areas)), labels)
        place = np.append(np.where(used, np.cumsum(used) - 1, -1), [used.sum(), -1])
        evidence = replace(
            evidence, areas=evidence.areas[used], value=evidence.value[:, used], known=evidence.known[:, used],
            labels=place[labels].astype(np.int32), sections=tuple(sorted(sections)),
        )  # fmt: skip
        return replace(self.situation, drawn=some(self.situation.drawn, sections)), evidence

    def filled(self, sections: Sequence[int]) -> tuple[Situation, NDArray[np.float32], float]:
        """The situation, probabilities [V, K] and macro-F1 of the map from these sections."""
        situation, evidence = self.drawn_on(sections)
        shares, _ = self.engine.filled(situation, evidence, self.votes, self.kept, silent, lambda: False)
        count = len(situation.areas)
        whole = np.zeros((len(shares), count + 1), np.float32)
        whole[:, [*evidence.areas.tolist(), count]] = shares
        assert situation.brain is not None
        judged = situation.brain.graph.cortex & (self.truth >= 0)
        return situation, whole[:, :count], macro_f1(self.truth[judged], whole[judged].argmax(1), count + 1)

    def calibration(self, every: int) -> dict[str, float]:
        """Scores of the map from every n-th section that holds cortex, beginning in the middle of the first n."""
        able = sorted(item.section for item in worklist(self.drawn_on([])[0]).items)
        sections = able[every // 2 :: every]
        situation, shares, score = self.filled(sections)
        assert situation.brain is not None
        graph = situation.brain.graph
        assert graph.locations is not None
        asked = graph.cortex & (self.truth >= 0) & ~np.isin(graph.locations.section, sections)
        whole = np.column_stack([shares, 1 - shares.sum(1)])
        error = expected_calibration_error(self.truth[asked], whole[asked])
        return {"sections": len(sections), "macro_f1": round(score, 4), "ece_between": round(error, 4)}

    def ordered(self, order: Order, seed: int) -> Iterator[float]:
        """Scores after each section that the worklist puts first."""
        chosen: list[int] = []
        situation, filling = self.drawn_on([])[0], None
        while items := worklist(situation, filling, order=order, seed=seed).items:  # type: ignore[arg-type]
            chosen.append(items[0].section)
            situation, shares, score = self.filled(chosen)
            filling = SimpleNamespace(probabilities=shares, engine="graph")
            yield score

    def even(self) -> Iterator[float]:
        """Scores of maps from 1, 2, ... evenly spaced sections."""
        able = [item.section for item in worklist(self.drawn_on([])[0]).items]
        able.sort()
        for count in range(1, len(able) + 1):
            places = ((np.arange(count) + 0.5) * len(able) / count).astype(int)
            yield self.filled([able[k] for k in places])[2]


def some(drawn: Annotations, sections: Sequence[int]) -> Annotations:
    """The annotations of these sections alone."""
    return replace(
        drawn,
        images={k: v for k, v in drawn.images.items() if k in sections},
        polygons={k: v for k, v in drawn.polygons.items() if k in sections},
        shapes={k: v for k, v in drawn.shapes.items() if k in sections},
    )


def make_brain(folder: Path, seed: int) -> None:
    """A `quick` virtual brain with every section drawn, its mesh and its truth."""
    if (folder / "judged.json").is_file():
        return
    stack, name = folder / "sections", f"virtual-{seed}"
    stack.mkdir(parents=True, exist_ok=True)
    VirtualBrain.Config(seed=seed, preset="quick", annotate_every=1).build().write_into(stack, silent, workers=1)
    maker = MeshFromSections.Config(pictures=False, midsurface=ExtractMidsurface.Config(edge_mm=2.8)).build()
    make_mesh(maker, name, stack, folder, None, silent)
    keep_truth(maker, stack, folder)


def curve(folder: Path, name: str, scores: Iterator[float], goal: float) -> dict[str, Any]:
    """Scores until the goal, from the file if they are there already."""

    def drawn() -> dict[str, Any]:
        started, kept = time.process_time(), []
        for score in scores:
            kept.append(round(score, 5))
            if score >= goal or len(kept) >= MOST:
                break
        return {"sections": len(kept), "reached": bool(kept and kept[-1] >= goal), "scores": kept,
                "processor_s": round(time.process_time() - started, 1)}  # fmt: skip

    return kept_or(folder / "curves" / f"{name}.json", drawn)


def kept_or(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the file holds, or what is made for it now."""
    if not path.is_file():
        write_json(path, make())
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def measure(folder: Path, seed: int, random: int, orders: Sequence[str]) -> dict[str, Any]:
    """Sections to the goal by order, for one brain."""
    make_brain(folder, seed)
    one = Simulation.of(folder)
    curves = folder / "curves"
    goal = SHARE * kept_or(curves / "all.json", lambda: {"score": one.filled(one.everything.sections)[2]})["score"]
    found: dict[str, Any] = {"brain": seed, "goal": round(goal, 4)}
    for every in EVERY:
        found[f"every {every}"] = kept_or(curves / f"every-{every}.json", partial(one.calibration, every))
    for order in orders:
        if order == "random":
            runs = [curve(folder, f"random-{k}", one.ordered("random", k), goal) for k in range(random)]
        else:
            scores = one.even() if order == "even" else one.ordered(order, 0)  # type: ignore[arg-type]
            runs = [curve(folder, order, scores, goal)]
        found[order] = float(np.mean([run["sections"] for run in runs]))
        found.setdefault("processor_s", 0.0)
        found["processor_s"] = round(found["processor_s"] + sum(run["processor_s"] for run in runs), 1)
    return found


def compared(brains: Sequence[dict[str, Any]], other: str) -> dict[str, Any]:
    """The worklist against another order, over brains."""
    mine, theirs = (np.array([one[name] for one in brains]) for name in ("gain", other))
    apart = theirs - mine
    half = stats.t.ppf(0.975, len(apart) - 1) * stats.sem(apart) if len(apart) > 1 else float("nan")
    return {
        "name": f"sections_{other}", "ours": round(float(mine.mean()), 2), "peer": round(float(theirs.mean()), 2),
        "peer_name": other, "unit": "sections", "ratio": round(float(theirs.mean() / mine.mean()), 3),
        "difference": round(float(apart.mean()), 2), "low": round(float(apart.mean() - half), 2),
        "high": round(float(apart.mean() + half), 2), "brains": len(brains),
    }  # fmt: skip


def filling_seconds(folder: Path, every: int = 3) -> dict[str, Any]:
    """From a new stroke to a filling that is kept and judged, as the server runs it; features are there."""
    setup = Setup(mapping())
    stack, brain = open_brain(folder / "sections", folder, setup.maker)
    drawn = read_annotations(folder / "sections")
    first = drawn.sections[::every]
    engine, seconds = setup.engines["graph"], []
    for number, extra in enumerate([(), *((s,) for s in drawn.sections[1:12:4])]):
        start = time.perf_counter()
        situation = Situation(stack=stack, brain=brain, drawn=some(drawn, [*first, *extra]))
        found = engine.fill(situation, folder / "state" / "rounds" / f"{number:04d}" / "graph", silent, lambda: False)
        found.on(first[len(first) // 2])
        seconds.append(time.perf_counter() - start)
    took = float(np.median(seconds[1:]))
    return {"name": "filling_s", "ours": round(took, 2), "peer": 20.0, "peer_name": "the target", "unit": "s",
            "ratio": round(20 / took, 2), "first_s": round(seconds[0], 2), "drawn": len(first)}  # fmt: skip


def network_row(folder: Path, every: int = 5) -> dict[str, Any]:
    """Both engines on every n-th section of one brain: macro-F1, and seconds with the features there."""
    setup = Setup(mapping())
    stack, brain = open_brain(folder / "sections", folder, setup.maker)
    assert brain is not None
    drawn, truth = read_annotations(folder / "sections"), read_arrays(folder / "truth.safetensors")["labels"]
    situation = Situation(stack=stack, brain=brain, drawn=some(drawn, drawn.sections[::every]))
    judged, found = brain.graph.cortex & (truth >= 0), {}
    for name in ("graph", "network"):
        setup.engines[name].features(situation, folder / "both" / "kept", silent)  # type: ignore[attr-defined]
        start = time.perf_counter()
        place = folder / "both" / "rounds" / "0001" / name
        filled = setup.engines[name].fill(situation, place, silent, lambda: False)
        seconds = time.perf_counter() - start
        areas = filled.area_map()  # type: ignore[attr-defined]
        score = macro_f1(truth[judged], areas.predicted[judged], len(areas.graph.areas))
        found |= {name: round(score, 4), f"{name}_s": round(seconds, 1)}
    return {"name": "network_f1", "ours": found["network"], "peer": found["graph"], "peer_name": "discriminant",
            "unit": "macro_f1", "ratio": round(found["network"] / found["graph"], 3), **found}  # fmt: skip


def main() -> int:
    make = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    make.add_argument("--brains", default="61,62,63,64", help="seeds (default: %(default)s)")
    make.add_argument("--out", type=Path, default=Path("runs/mapping_rounds"), help="brains and curves are kept here")
    make.add_argument("--random", type=int, default=3, help="random orders per brain (default: %(default)s)")
    make.add_argument("--orders", default="gain,gap,even,random", help="default: %(default)s")
    make.add_argument("--quick", action="store_true", help="the time of a filling alone, on one brain")
    make.add_argument("--network", action="store_true", help="the engine `network` against `graph`, on one brain")
    make.add_argument("--json", type=Path, help="write the rows here")
    given = make.parse_args()
    seeds = [int(seed) for seed in given.brains.split(",")]
    make_brain(given.out / f"virtual-{seeds[0]}", seeds[0])
    if given.network:
        rows = [network_row(given.out / f"virtual-{seeds[0]}")]
        show(rows[0])
        keep(rows, given.json)
        return 0
    rows = [filling_seconds(given.out / f"virtual-{seeds[0]}")]
    show(rows[0])
    if not given.quick:
        orders = given.orders.split(",")
        brains = []
        for seed in seeds:
            brains.append(measure(given.out / f"virtual-{seed}", seed, given.random, orders))
            show(brains[-1])
        for other in orders[1:]:
            rows.append(compared(brains, other))
            show(rows[-1])
        rows += brains
    keep(rows, given.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
