"""Settings of contrastive pretraining compared on development brains, before anything is judged on fresh ones.

    python benchmarks/judging_settings.py quick --out FOLDER [--json FILE] [--arms "NAME;NAME"] [--share 0.05]
    python benchmarks/judging_settings.py cells --out FOLDER ...

Brains 1 to 3 are learnt from, 4 to 6 judge (linear probe, macro-F1); `--test 7,8,9` judges on fresh ones. Every arm
differs from `scratch`, `supcon` or `spatial` in what its name says; its difference to scratch is paired by brain.
Brains and finished arms in FOLDER are used again.
"""

import argparse
import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np  # noqa: E402

from benchmarks._pairs import keep, show  # noqa: E402
from experiments.judging import cells, judging  # noqa: E402
from features.augment import PatchAugment  # noqa: E402
from features.judging.judge import mean_interval  # noqa: E402
from features.judging.study import JudgingStudy  # noqa: E402
from meshgnn.command import guarded  # noqa: E402
from meshgnn.errors import InputError  # noqa: E402
from meshgnn.experiment.run_folder import RunFolder  # noqa: E402

WEAK = PatchAugment.Config(rotation_deg=0, scale=0, shift=0, blur=0, stain=0, gamma=0, gradient=0)
STRONG = PatchAugment.Config(
    rotation_deg=2, scale=0.1, shift=0.05, stain=0.3, gamma=0.25, gradient=0.15, blur=1.0, thickness=0.15
)
FIELDS = cells().encoder  # arms that change it are meant for cells
# Name of the arm: method, what is set, how many steps per step of scratch.
ARMS: dict[str, tuple[str, Mapping[str, Any], float]] = {
    "scratch": ("scratch", {}, 1),
    "scratch, 3 x steps": ("scratch", {}, 3),
    "scratch, weak augmentation": ("scratch", {"augment": WEAK}, 1),
    "scratch, strong augmentation": ("scratch", {"augment": STRONG}, 1),
    "supcon 0.1": ("supcon", {}, 1),
    "supcon 0.07": ("supcon", {"temperature": 0.07}, 1),
    "supcon 0.25": ("supcon", {"temperature": 0.25}, 1),
    "supcon 0.5": ("supcon", {"temperature": 0.5}, 1),
    "supcon, 3 x steps": ("supcon", {}, 3),
    "supcon, half the classes": ("supcon", {"classes": 0.5, "patches": 2}, 1),
    "supcon, a quarter of the classes": ("supcon", {"classes": 0.25, "patches": 4}, 1),
    "supcon, two views": ("supcon", {"views": 2}, 1),
    "supcon, weak augmentation": ("supcon", {"augment": WEAK}, 1),
    "supcon, strong augmentation": ("supcon", {"augment": STRONG}, 1),
    "supcon, batch / 2": ("supcon", {"patches": 0.5}, 1),
    "supcon, batch x 2": ("supcon", {"patches": 2, "micro": 64}, 1),
    "supcon, batch x 8": ("supcon", {"patches": 8, "micro": 64}, 1),
    "supcon, batch x 8, same items seen": ("supcon", {"patches": 8, "micro": 64}, 0.125),
    "classes beside 0.1": ("supcon_classes", {}, 1),
    "classes beside 0.5": ("supcon_classes", {"temperature": 0.5}, 1),
    "classes x 5 beside 0.1": ("supcon_classes", {"classify": 5.0}, 1),
    "spatial 0.1": ("spatial", {}, 1),
    "spatial 0.5": ("spatial", {"temperature": 0.5}, 1),
    "spatial, 6 mm": ("spatial", {"radius_um": 6000.0}, 1),
    "spatial, two views": ("spatial", {"views": 2}, 1),
    "spatial, 3 x steps": ("spatial", {}, 3),
    "spatial, batch x 4": ("spatial", {"patches": 4, "micro": 64}, 1),
    "spatial, strong augmentation": ("spatial", {"augment": STRONG}, 1),
    "spatial_tuned": ("spatial_tuned", {}, 1),
    "spatial_tuned, 3 x steps before": ("spatial_tuned", {"before": 3}, 1),
    "distance": ("distance", {}, 1),
    "scratch, two stages": ("scratch", {"encoder": replace(FIELDS, widths=(16, 32), depth_bands=40)}, 1),
    "scratch, four stages": ("scratch", {"encoder": replace(FIELDS, widths=(16, 32, 64, 128))}, 1),
    "scratch, four stages, 4 bands": (
        "scratch", {"encoder": replace(FIELDS, widths=(16, 32, 64, 128), depth_bands=4)}, 1,
    ),
    "untrained": ("untrained", {}, 1),
    "pca": ("pca", {}, 1),
    "profiles": ("profiles", {}, 1),
}  # fmt: skip


def config_of(base: JudgingStudy.Config, method: str, settings: Mapping[str, Any], steps: float) -> JudgingStudy.Config:
    """The study of one arm. `classes` and `patches` are factors; others are the study's own settings."""
    c, own = base, dict(settings)
    own["classes"] = max(2, round(c.classes * own.get("classes", 1)))
    own["patches"] = max(2, round(c.patches * own.get("patches", 1)))
    own["steps"] = max(1, round(c.steps * steps))
    own["unlabelled_steps"] = round(c.steps * own.pop("before", steps))
    if "augment" in own:
        own["data"] = replace(c.data, augment=own.pop("augment"))
    before = {"spatial_tuned": ("spatial",), "distance_tuned": ("distance",)}.get(method, ())
    return replace(c, methods=(*before, method), **own)


def arm_row(name: str, base: JudgingStudy.Config, out: Path) -> dict[str, Any]:
    """Scores of an arm by brain, means over seeds."""
    method, settings, steps = ARMS[name]
    study, start = config_of(base, method, settings, steps).build(), time.perf_counter()
    study.load(RunFolder(out))
    work = RunFolder(out / "arms" / "".join(letter if letter.isalnum() else "_" for letter in name))
    found: dict[str, dict[str, list[float]]] = {}
    for seed in base.seeds:
        for probe, brains in study.scores(method, seed, work)[-1]["scores"].items():
            for brain, value in brains.items():
                found.setdefault(probe, {}).setdefault(brain, []).append(value)
    scores = {probe: {brain: float(np.mean(values)) for brain, values in one.items()} for probe, one in found.items()}
    return {"name": name, "share": base.shares[-1], "scores": scores, "seconds": round(time.perf_counter() - start, 1)}


def compared(found: dict[str, Any], scratch: dict[str, Any] | None) -> dict[str, Any]:
    """What is printed: means with 95 % intervals over brains, and paired differences to scratch."""
    line: dict[str, Any] = {"name": found["name"], "seconds": found["seconds"]}
    for probe in ("linear", "knn"):
        mine = found["scores"][probe]
        line[probe] = "{:.4f} [{:.4f}, {:.4f}]".format(*mean_interval(list(mine.values())))
        if scratch is not None:
            gaps = [value - scratch["scores"][probe][brain] for brain, value in mine.items()]
            line[f"{probe} - scratch"] = "{:+.4f} [{:+.4f}, {:+.4f}]".format(*mean_interval(gaps))
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", choices=("quick", "cells"), help="nodes at 100 um, or fields at 2 um")
    parser.add_argument("--out", type=Path, required=True, help="brains and finished arms; a killed command goes on")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--arms", default="", help="names of arms, parted by semicolons; all if left out")
    parser.add_argument("--share", type=float, default=0.05, help="of annotated sections")
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--test", default="4,5,6", help="brains that judge")
    parser.add_argument("--steps", type=int, default=100, help="of scratch")
    options = parser.parse_args()
    seeds, test = (tuple(map(int, text.split(","))) for text in (options.seeds, options.test))
    base = {"quick": judging, "cells": cells}[options.data]()
    base = replace(base, train=(1, 2, 3), test=test, shares=(options.share,), seeds=seeds, steps=options.steps)
    names = [one.strip() for one in options.arms.split(";") if one.strip()] or list(ARMS)

    def go() -> int:
        if unknown := [name for name in names if name not in ARMS]:
            raise InputError(f"no arm is named {unknown[0]!r}; arms are {'; '.join(ARMS)}")
        for stage in base.build().stages()[:-1]:
            made = options.out / "brains" / f"{stage.name}.safetensors"
            if not made.is_file():
                stage.run(RunFolder(options.out))
        rows: list[dict[str, Any]] = []
        for name in names:
            rows.append(arm_row(name, base, options.out))
            show(compared(rows[-1], next((one for one in rows if one["name"] == "scratch"), None)))
            keep(rows, options.json)
        return 0

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    sys.exit(guarded(go, stopped="stopped; the same command goes on"))


if __name__ == "__main__":
    main()
