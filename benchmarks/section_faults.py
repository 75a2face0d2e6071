"""Planted faults of mounting and order: are they found, and rightly named?

Sections of tissue records are turned by 180 degrees, mirrored, exchanged with the next or with a distant one, replaced
by one of another brain, or all shuffled; then they are aligned, checked, and the warnings counted. Stacks are made by

python -m meshgnn.experiment virtual_sections --set source.seed=101 --set source.preset=quick --out STACK

python benchmarks/section_faults.py STACK STACK ... [--faults 100] [--quick] [--json FILE]

Every stack lends sections to the next one ("of another brain"). A fault lies on a section with a fifth of the largest
one's tissue or more; faults of one trial lie at least eight sections apart. Per kind: `named`, the share whose warning
names the section; `cause`, the share whose warning tells the kind too; false alarms: warnings of this sort that name no
planted section (nor one beside it), per trial. A row's `ratio` is the share named with its cause over the target of 1.
"""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from meshgnn.errors import InputError  # noqa: E402
from meshgnn.source.sections import read_stack  # noqa: E402
from reconstruct import TissueStack  # noqa: E402
from reconstruct.plausibility import Plausible, of_alignment  # noqa: E402
from reconstruct.state import Store  # noqa: E402
from reconstruct.steps.align import AlignSections  # noqa: E402
from reconstruct.steps.mounting import CheckMounting, missed_turns, realigned  # noqa: E402
from reconstruct.steps.tissue import ClassifyTissue  # noqa: E402

Change = Callable[[TissueStack, int, TissueStack], tuple[TissueStack, tuple[int, ...]]]
WORDS = {
    "turned": "turned by 180 degrees against|mirrored and turned", "mirrored": "is mirrored against",
    "both": "mirrored and turned", "next exchanged": "exchanged", "distant exchanged": "exchanged|wrong place",
    "other brain": "of this brain",
}  # fmt: skip
SORT = "180 degrees|mirrored|exchanged|wrong place|of this brain|place in the order|was turned by"
APART = 8


def laid(way: int) -> Change:
    """A section as it is seen if it was turned (1), mirrored (2), or both (3)."""

    def change(stack: TissueStack, k: int, other: TissueStack) -> Any:
        size = np.rint((2 * stack.centre_mm[k] + stack.image_px_mm[k]) / stack.pixel_mm).astype(int)
        levels = [stack.outer.copy(), stack.white.copy()]
        for level in levels:
            image = level[k, : size[0], : size[1]]
            level[k, : size[0], : size[1]] = image[:: -1 if way & 1 else 1, :: -1 if way in (1, 2) else 1].copy()
        return replace(stack, outer=levels[0], white=levels[1]), (k,)

    return change


def exchanged(distant: bool) -> Change:
    def change(stack: TissueStack, k: int, other: TissueStack) -> Any:
        mate = k + (len(stack.index) // 2 if distant else 1)
        order = np.arange(len(stack.index))
        order[[k, mate]] = order[[mate, k]]
        return replace(stack, outer=stack.outer[order], white=stack.white[order]), (k, mate)

    return change


def foreign(stack: TissueStack, k: int, other: TissueStack) -> Any:
    """The section at the same share of the way through another brain."""
    own, there = judged(stack), judged(other)
    share = np.clip((k - own[0]) / (own[-1] - own[0]), 0, 1)
    j = int(there[round((len(there) - 1) * share)])
    levels = [stack.outer.copy(), stack.white.copy()]
    height, width = np.minimum(stack.outer.shape[1:], other.outer.shape[1:])
    for level, source in zip(levels, (other.outer, other.white)):
        level[k] = 4.0
        level[k, :height, :width] = source[j, :height, :width]
    return replace(stack, outer=levels[0], white=levels[1]), (k,)


def judged(stack: TissueStack) -> NDArray[np.int64]:
    """Places of sections with a fifth of the largest one's tissue, and neighbours on both sides that have it too."""
    area = (stack.outer < 0).sum((1, 2))
    large = area >= 0.2 * area.max()
    return np.flatnonzero(large[1:-2] & large[:-3] & large[2:-1] & large[3:]) + 1


def warnings(stack: TissueStack, workers: int) -> list[str]:
    align = AlignSections.Config(workers=workers).build()
    check = CheckMounting.Config(workers=workers)
    alignment = align(stack)
    mounting = check.build()(stack, alignment)
    turned = missed_turns(alignment, mounting, check.sure)
    alignment = realigned(align, stack, turned, "coronal", lambda *_: None) if turned else alignment
    return [text for text in of_alignment(stack, alignment, mounting, Plausible()) if re.search(SORT, text)]


def named(text: str) -> set[int]:
    return {int(one) for one in re.findall(r"\d+", re.split(r":| fit| stand", text)[0])}


def trial(kind: str, change: Change, stack: TissueStack, other: TissueStack, rng: np.random.Generator,
          workers: int) -> Counter[str]:  # fmt: skip
    """Faults planted in one stack, and what was said."""
    places = judged(stack)
    chosen = places[int(rng.integers(APART + 1)) :: APART + 1]
    if kind == "distant exchanged":
        chosen = chosen[chosen + len(stack.index) // 2 <= places[-1]]
    changed, planted = stack, []
    for k in chosen.tolist():
        changed, sections = change(changed, k, other)
        planted.append({int(stack.index[one]) for one in sections})
    told = warnings(changed, workers)
    count = Counter(planted=len(planted))
    for sections in planted:
        fitting = [text for text in told if named(text) & sections]
        count["named"] += sections <= set().union(*map(named, fitting)) if fitting else False
        count["cause"] += any(re.search(WORDS[kind], text) for text in fitting)
        if not any(re.search(WORDS[kind], text) for text in fitting):
            print(f"  {kind}: section {sorted(sections)} told as {fitting}", flush=True)
    places_of = {int(one): k for k, one in enumerate(stack.index)}
    near = {places_of[one] + step for sections in planted for one in sections for step in (-1, 0, 1)}
    false = [text for text in told if not {places_of[one] for one in named(text)} & near]
    for text in false:
        print(f"  {kind}: false alarm: {text}", flush=True)
    return count + Counter(false=len(false))


KINDS: dict[str, Change] = {
    "turned": laid(1), "mirrored": laid(2), "both": laid(3), "next exchanged": exchanged(False),
    "distant exchanged": exchanged(True), "other brain": foreign,
}  # fmt: skip


def shuffled(stack: TissueStack, rng: np.random.Generator, workers: int) -> bool:
    """Whether a stack in random order is refused."""
    order = rng.permutation(len(stack.index))
    try:
        AlignSections.Config(workers=workers).build()(
            replace(stack, outer=stack.outer[order], white=stack.white[order])
        )
    except InputError:
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stacks", nargs="+", type=Path, metavar="STACK")
    parser.add_argument("--kinds", default=",".join(["sound", *KINDS, "shuffled"]))
    parser.add_argument("--faults", type=int, default=100, help="planted of each kind, over all stacks")
    parser.add_argument("--steps", type=Path, metavar="DIR", help="tissue records are left (and used again) here")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="ten faults of each kind")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    stacks = []
    for folder in options.stacks:
        settings = ClassifyTissue.Config()

        def classify(folder: Path = folder) -> TissueStack:
            return ClassifyTissue.Config().build()(read_stack(folder))

        if options.steps is None:
            stacks.append(classify())
            continue
        own = Store(options.steps / folder.resolve().name)
        stacks.append(own.step("tissue", TissueStack, settings, [str(folder.resolve())], classify)[0])
    rows, wanted = [], 10 if options.quick else options.faults
    chosen = options.kinds.split(",")
    if "sound" in chosen:
        for folder, stack in zip(options.stacks, stacks):
            told = warnings(stack, options.workers)
            print(f"{folder.name}: {len(stack.index)} sections, {told}", flush=True)
            rows.append({"name": f"sound_{folder.name}", "ours": len(told), "peer": 0, "peer_name": "target",
                         "unit": "false alarms", "ratio": 1.0 if not told else 0.0})  # fmt: skip
    for number, (kind, change) in enumerate((kind, KINDS[kind]) for kind in chosen if kind in KINDS):
        rng, count, turn = np.random.default_rng(number), Counter[str](), 0
        while count["planted"] < wanted:
            mate = stacks[(turn + 1) % len(stacks)]
            count += trial(kind, change, stacks[turn % len(stacks)], mate, rng, options.workers)
            turn += 1
        rows.append({"name": kind.replace(" ", "_"), "ours": count["cause"] / count["planted"], "peer": 1.0,
                     "peer_name": "target", "unit": "share named with its cause",
                     "ratio": round(count["cause"] / count["planted"], 4), "trials": turn, **count})  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    if "shuffled" in chosen:
        rng = np.random.default_rng(99)
        found = [shuffled(stacks[k % len(stacks)], rng, options.workers) for k in range(max(1, wanted // 10))]
        rows.append({"name": "shuffled", "ours": float(np.mean(found)), "peer": 1.0, "peer_name": "target",
                     "unit": "share refused", "ratio": float(np.mean(found)), "trials": len(found)})  # fmt: skip
    for row in rows:
        print(json.dumps(row))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
