"""Local models between drawn sections, beside contour interpolation and the graph, on a virtual brain.

Pairs of sections `--apart` apart are drawn without error (the truth), all between them is hidden. Every filler sees the
two drawn sections and the same reconstructed mesh; every one is judged on the cortex of the sections between, by the
truth: Dice and border distance (mm) of each area that both drawn sections show and that covers 3 mm2 there.

    contours            signed distances averaged (Raya & Udupa 1990); in cortex, since only cortex is judged
    nearest             the outline of the nearer drawn section
    graph               the graph engine with depth profiles; its outlines end at the mesh's surfaces and at glass
    graph_at_surfaces   the same map, its outlines ending at the mesh's surfaces alone
    local               local models that refine the graph's map
    local_outlines      local models: grey values, ribbon and interpolated outlines (--outlines-too)
    local_no_mesh       the same without ribbon (--no-mesh-too)

    python benchmarks/local_models.py [--stack STACK ... --mesh MESH ...] [--pairs 2] [--apart 5] [--quick]
        [--json FILE]

STACK are virtual brains and MESH their reconstructions, in the same order; a brain is made (quick preset) where none is
named. `apart` is the mean over pairs of sections, with the 95 % interval of Student's t over these.
"""

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402
from scipy import stats  # noqa: E402
from scipy.spatial import cKDTree  # noqa: E402

from benchmarks._pairs import keep, row, show  # noqa: E402
from features.local_models.engine import LocalModels  # noqa: E402
from features.local_models.settings import ModelSettings  # noqa: E402
from features.profiles import ProfileFeatures  # noqa: E402
from meshgnn.config import from_plain  # noqa: E402
from meshgnn.mapping.engines.contours import Contours  # noqa: E402
from meshgnn.mapping.engines.graph import GraphEngine  # noqa: E402
from meshgnn.mapping.pixel_filling import SectionGrid  # noqa: E402
from meshgnn.mapping.ribbon import Ribbons  # noqa: E402
from meshgnn.mapping.situation import open_brain  # noqa: E402
from meshgnn.mapping.socket import Situation  # noqa: E402
from meshgnn.progress import silent  # noqa: E402
from meshgnn.source.annotations import Annotations, read_annotations  # noqa: E402
from meshgnn.source.polygons import paint  # noqa: E402
from meshgnn.source.sections import SectionStack, write_tiff  # noqa: E402
from meshgnn.source.virtual import VirtualBrain  # noqa: E402
from meshgnn.source.virtual.annotate import KEYS  # noqa: E402
from meshgnn.store import read_json  # noqa: E402
from reconstruct.maker import MeshFromSections  # noqa: E402

LEAST_MM2 = 3.0


def draw(folder: Path, stack: SectionStack, numbers: Sequence[int], table: Any) -> Annotations:
    """Sections as a mapper without error draws them: the label images that the generator renders beside their grey."""
    assert stack.folder is not None
    folder.mkdir(parents=True, exist_ok=True)
    plain = read_json(stack.folder / "truth" / "brain.json")["config"]
    brain = from_plain(VirtualBrain.Config, plain).build()
    cuts, images = {one.index: one for one in brain.cuts}, {}
    for number in numbers:
        section, cut = stack.at(number), cuts[number]
        images[number] = folder / f"{number}.tif"
        write_tiff(images[number], KEYS[brain.paint(cut, brain.slices(cut)).label], section.pixel_um)
    return Annotations(
        images=images, polygons={}, shapes={number: stack.at(number).shape for number in numbers}, table=table
    )


def only(annotations: Annotations, numbers: Sequence[int]) -> Annotations:
    return replace(annotations, images={k: annotations.images[k] for k in numbers}, shapes=annotations.shapes)


def places(found: Any, ribbon: Any, drawn: Sequence[int]) -> np.ndarray:
    """[P] place in `drawn` of what a filling says at the ribbon's pixels, len(drawn) for none."""
    step = ribbon.step
    image = paint([(one.area, [[ring / step for ring in polygon] for polygon in one.polygons]) for one in found],
                  ribbon.shape)  # fmt: skip
    table = np.full(max([*drawn, image.max()]) + 2, len(drawn))
    table[list(drawn)] = np.arange(len(drawn))
    table[-1] = len(drawn)
    return table[image.ravel()[ribbon.pixel]]


def nearest_contour(situation: Situation, index: int, ends: tuple[int, int]) -> Callable[[Any], np.ndarray]:
    """What the nearer drawn section shows, carried along the cutting axis."""
    near = min(ends, key=lambda k: abs(k - index))
    section, other = situation.stack.at(index), situation.stack.at(near)
    grid = SectionGrid.of(section, 200.0)
    source = SectionGrid(section=other, block=grid.block)
    classes = situation.drawn.coarse(near, grid.block)

    def at(ribbon: Any) -> np.ndarray:
        rows, columns = np.divmod(ribbon.pixel, ribbon.shape[1])
        row, column = source.from_space(grid.to_space(rows, columns))
        row, column = (np.rint(v).astype(int).clip(0, n - 1) for v, n in zip((row, column), classes.shape))
        return classes[row, column]

    return at


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stack", type=Path, nargs="+", default=[])
    parser.add_argument("--mesh", type=Path, nargs="+", default=[])
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--apart", type=int, default=5)
    parser.add_argument("--most-areas", type=int, default=12, help="of a pair, the largest ones")
    parser.add_argument("--steps", type=int, default=ModelSettings().steps)
    parser.add_argument("--areas-at-once", type=int, default=LocalModels.Config().areas_at_once)
    parser.add_argument("--trust", type=float, default=ModelSettings().trust)
    parser.add_argument("--outlines-too", action="store_true", help="local models without the graph, too")
    parser.add_argument("--no-mesh-too", action="store_true", help="local models without the mesh, too")
    parser.add_argument("--no-models", action="store_true", help="graph, contours and nearer outline alone")
    parser.add_argument("--quick", action="store_true", help="one pair, two areas, few steps")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.quick:
        options.pairs, options.most_areas, options.steps = 1, 2, 30
    if len(options.mesh) != len(options.stack):
        parser.error("--mesh and --stack go together")
    scores: dict[str, list[dict[str, Any]]] = defaultdict(list)
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as name:
        maker, brains = MeshFromSections.Config().build(), list(zip(options.stack, options.mesh))
        if not brains:
            stack, mesh = Path(name) / "stack", Path(name) / "mesh"
            VirtualBrain.Config(seed=options.seed, preset="quick").build().write(stack)
            mesh.mkdir()
            maker.make(stack.name, stack, mesh, silent)
            brains = [(stack, mesh)]
        for number, (stack, mesh) in enumerate(brains):
            folder = Path(name) / f"brain-{number}"
            folder.mkdir()
            measured(options, folder, number, *open_brain(stack, mesh, maker), scores, seconds)
    for one in tables(scores, seconds):
        show(one)


def measured(
    options: argparse.Namespace, folder: Path, number: int, stack: SectionStack, brain: Any,
    scores: dict[str, list[dict[str, Any]]], seconds: dict[str, list[float]],
) -> None:  # fmt: skip
    """Adds the rows and seconds of one brain; what is known so far is kept after every pair."""
    assert stack.folder is not None
    table = read_annotations(stack.folder).table
    usable = [section.index for section in stack.usable()]
    middle = np.linspace(0.2, 0.75, options.pairs) if options.pairs > 1 else [0.45]
    pairs = []
    for share in middle:
        first = usable[int(share * (len(usable) - options.apart))]
        pairs.append((first, usable[usable.index(first) + options.apart]))
    between = {pair: [k for k in usable if pair[0] < k < pair[1]] for pair in pairs}
    numbers = sorted({k for pair in pairs for k in (*pair, *between[pair])})
    everything = draw(folder / "truth", stack, numbers, table)
    ribbons = Ribbons(brain.graph)
    settings = ModelSettings(steps=options.steps, trust=options.trust)
    graph = GraphEngine.Config(features=(ProfileFeatures.Config(),), judge=False)
    local = LocalModels.Config(model=settings, areas_at_once=options.areas_at_once, workers=1)
    engines: dict[str, tuple[Any, bool]] = {
        "contours": (Contours.Config().build(), True),
        "graph": (graph.build(), True),
        "local": (replace(local, graph=graph).build(), True),
    }
    if options.outlines_too:
        engines["local_outlines"] = (local.build(), True)
    if options.no_mesh_too:
        engines["local_no_mesh"] = (local.build(), False)
    if options.no_models:
        del engines["local"]
    for pair in pairs:
        known: tuple[Any, ...] = (number, *pair, between[pair][len(between[pair]) // 2])
        chosen = areas_of(everything, stack, pair, options.most_areas)
        drawn = restricted(folder / f"drawn-{pair[0]}", only(everything, pair), chosen)
        for name, (engine, with_mesh) in engines.items():
            situation = Situation(stack=stack, brain=brain if with_mesh else None, drawn=drawn)
            place = folder / f"state-{name}-{pair[0]}" / "rounds" / "0001" / name
            start = time.perf_counter()
            filling = engine.fill(situation, place, silent, lambda: False)
            tissue = filling.about.get("tissue", {})
            seconds[name].append(time.perf_counter() - start)
            if name == "local":
                seconds["one_model"].append(filling.figures["seconds_per_model"])
            for index in between[pair]:
                ribbon = ribbons.of(stack.at(index))
                best = places(filling.on(index), ribbon, chosen)
                judge(scores[name], ribbon, everything, best, chosen, known)
                if name == "graph":
                    filling.about["tissue"] = {}
                    best = places(filling.on(index), ribbon, chosen)
                    judge(scores["graph_at_surfaces"], ribbon, everything, best, chosen, known)
                    filling.about["tissue"] = tissue
        print(f"brain {number}, sections {pair[0]} to {pair[1]}: done", file=sys.stderr, flush=True)
        situation = Situation(stack=stack, brain=brain, drawn=drawn)
        for index in between[pair]:
            ribbon = ribbons.of(stack.at(index))
            classes = nearest_contour(situation, index, pair)(ribbon)
            best = np.full(len(classes), len(chosen))
            for k, area in enumerate(chosen):
                best[classes == area] = k
            judge(scores["nearest"], ribbon, everything, best, chosen, known)
        keep(tables(scores, seconds), options.json)


def areas_of(annotations: Annotations, stack: SectionStack, pair: tuple[int, int], most: int) -> list[int]:
    """The largest areas that both sections show, in class order."""
    sizes: dict[int, float] = defaultdict(lambda: np.inf)
    for index in pair:
        image = annotations.read(index)
        counts = np.bincount(image[image >= 0], minlength=len(annotations.areas))
        for k, count in enumerate(counts):
            sizes[k] = min(sizes[k], count * (stack.at(index).pixel_um / 1000) ** 2)
    return sorted(sorted((k for k in sizes if sizes[k] > LEAST_MM2), key=lambda k: -sizes[k])[:most])


def restricted(folder: Path, annotations: Annotations, areas: Sequence[int]) -> Annotations:
    """The same with only these areas drawn."""
    folder.mkdir()
    keys, images = np.array([*annotations.areas.keys, 0], np.uint16), {}
    for index in annotations.images:
        image = annotations.read(index)
        images[index] = folder / f"{index}.tif"
        write_tiff(images[index], keys[np.where(np.isin(image, areas), image, -1)], 100.0)
    return replace(annotations, images=images)


def drawn_at(ribbon: Any, truth: Annotations) -> np.ndarray:
    """Classes [P] at the pixels of a ribbon."""
    coarse = truth.coarse(ribbon.section.index, ribbon.step)
    rows, columns = np.divmod(ribbon.pixel, ribbon.shape[1])
    return coarse[rows.clip(0, coarse.shape[0] - 1), columns.clip(0, coarse.shape[1] - 1)]


def judge(
    rows: list[dict[str, Any]], ribbon: Any, truth: Annotations, best: np.ndarray, areas: Sequence[int],
    pair: tuple[int, ...],
) -> None:  # fmt: skip
    """Dice and border distance of each area on the cortex of one section; an area that is not found has no border."""
    classes = drawn_at(ribbon, truth)
    points = np.column_stack(np.divmod(ribbon.pixel, ribbon.shape[1])) * ribbon.width_mm
    near = cKDTree(points)
    beside = near.query_pairs(1.01 * ribbon.width_mm, output_type="ndarray")
    for place, area in enumerate(areas):
        true, found = classes == area, best == place
        if true.sum() * ribbon.width_mm**2 < LEAST_MM2:
            continue
        borders = [(points[cut[:, 0]] + points[cut[:, 1]]) / 2 for mask in (true, found)
                   for cut in [beside[mask[beside[:, 0]] != mask[beside[:, 1]]]]]  # fmt: skip
        off = None
        if all(map(len, borders)):
            off = float(np.mean([cKDTree(borders[0]).query(borders[1])[0].mean(),
                                 cKDTree(borders[1]).query(borders[0])[0].mean()]))  # fmt: skip
        rows.append({"section": ribbon.section.index, "pair": pair, "area": area, "border_mm": off,
                     "dice": 2 * float((true & found).sum()) / float(true.sum() + found.sum())})  # fmt: skip


def tables(scores: Any, seconds: Any) -> list[dict[str, Any]]:
    """Means over outlines of the middle sections and of all between; local models (the graph, where they were left out)
    against each other filler by pair."""
    rows: list[dict[str, Any]] = []
    parts: dict[str, Callable[[dict[str, Any]], bool]] = {
        "middle": lambda one: one["section"] == one["pair"][-1], "all": lambda one: True,
    }  # fmt: skip
    means: dict[tuple[str, str], dict[Any, float]] = {}
    for name, found in scores.items():
        for part, wanted in parts.items():
            chosen = [one for one in found if wanted(one)]
            off = [one["border_mm"] for one in chosen if one["border_mm"] is not None]
            by_pair: dict[Any, list[float]] = defaultdict(list)
            for one in chosen:
                by_pair[one["pair"]].append(one["dice"])
            means[name, part] = {pair: float(np.mean(dice)) for pair, dice in by_pair.items()}
            rows.append({"name": f"{name}_{part}", "dice": round(float(np.mean([o["dice"] for o in chosen])), 3),
                         "border_mm": round(float(np.mean(off)), 3) if off else None, "outlines": len(chosen),
                         "not_found": sum(o["dice"] == 0 for o in chosen)})  # fmt: skip
    us = "local" if "local" in scores else "graph"
    for (name, part), theirs in means.items():
        mine = means[us, part]
        if name != us:
            apart = np.array([mine[pair] - theirs[pair] for pair in mine])
            text = f"{apart.mean():+.3f}"
            if len(apart) > 1:
                half = stats.t.ppf(0.975, len(apart) - 1) * stats.sem(apart)
                text += f" [{apart.mean() - half:+.3f}, {apart.mean() + half:+.3f}]"
            ours, peer = (float(np.mean(list(one.values()))) for one in (mine, theirs))
            rows.append({**row(f"{us}_dice_{part}", ours, peer, name, "Dice"), "apart": text, "pairs": len(apart),
                         "by_pair": np.round(apart, 3).tolist()})  # fmt: skip
    rows += [{"name": f"seconds_{name}", "value": round(float(np.mean(some)), 1)} for name, some in seconds.items()]
    return rows


if __name__ == "__main__":
    main()
