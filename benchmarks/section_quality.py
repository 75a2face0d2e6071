"""Does the quality score rank damaged sections last?

Sections of virtual stacks are damaged in their images: torn (a band of glass through the tissue), a third of the tissue
lost, out of focus (Gaussian, 0.3 mm sd), pale (40 % of the density), light that falls off by a fifth to one side. Then
the stack is classified, aligned and scored. Area under the ROC curve of 1 - quality, damaged against all others with a
fifth of the largest one's tissue or more.

python -m meshgnn.experiment virtual_sections --set source.seed=101 --set source.preset=quick --out STACK
python benchmarks/section_quality.py STACK [STACK ...] [--quick] [--json FILE]
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402
from scipy import ndimage  # noqa: E402
from sklearn.metrics import roc_auc_score  # noqa: E402

from meshgnn.source.sections import open_section, read_stack, write_tiff  # noqa: E402
from reconstruct.quality import FACTORS, look, quality  # noqa: E402
from reconstruct.steps.align import AlignSections  # noqa: E402
from reconstruct.steps.mounting import CheckMounting  # noqa: E402
from reconstruct.steps.tissue import ClassifyTissue  # noqa: E402

KINDS = ("torn", "lost", "blurred", "pale", "light")
_GLASS_PERCENTILE = 99


def damage(grey: np.ndarray, kind: str, pixel_mm: float, rng: np.random.Generator) -> np.ndarray:
    grey = grey.astype(np.float32)
    glass = float(np.percentile(grey, _GLASS_PERCENTILE))
    tissue = np.argwhere(grey < 0.8 * glass)
    low, high = tissue.min(0), tissue.max(0)
    across = (np.arange(grey.shape[1]) - low[1]) / (high[1] - low[1])
    if kind == "torn":
        middle, slope = rng.uniform(0.25, 0.75), rng.uniform(-0.3, 0.3)
        down = (np.arange(grey.shape[0])[:, None] - low[0]) / (high[0] - low[0])
        far = np.abs(across - middle - slope * (down - 0.5)) * (high[1] - low[1]) * pixel_mm
        return np.where(far < rng.uniform(0.4, 1.2), glass, grey)
    if kind == "lost":
        return np.where(across > 2 / 3, glass, grey)
    if kind == "blurred":
        return np.asarray(ndimage.gaussian_filter(grey, 0.3 / pixel_mm))
    if kind == "pale":
        return np.asarray(glass * (np.maximum(grey, 1) / glass) ** 0.4)
    return grey * (0.8 + 0.2 * np.linspace(0, 1, grey.shape[1]))


def scored(folder: Path, planted: dict[int, str], place: Path, rng: np.random.Generator) -> dict[str, Any]:
    shutil.copytree(folder, place, ignore=shutil.ignore_patterns("truth", "annotations", "stages", "tables"))
    whole = read_stack(place)
    for index, kind in planted.items():
        section = whole.at(index)
        with open_section(section) as image:
            grey = image.read()
        changed = damage(grey, kind, section.pixel_um / 1000, rng)
        write_tiff(section.path, np.clip(changed, 0, 255).astype(np.uint8), section.pixel_um)
    stack = read_stack(place)
    tissue = ClassifyTissue.Config().build()(stack)
    alignment = AlignSections.Config().build()(tissue)
    looks = []
    for k, index in enumerate(tissue.index.tolist()):
        with open_section(stack.at(index)) as image:
            looks.append(look(image, tissue, k))
    found = quality(tissue, CheckMounting.Config().build()(tissue, alignment), looks)
    area = (tissue.outer < 0).sum((1, 2))
    large = area >= 0.2 * area.max()
    return {"index": tissue.index, "large": large | np.isin(tissue.index, list(planted)), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stacks", nargs="+", type=Path, metavar="STACK")
    parser.add_argument("--quick", action="store_true", help="the first stack alone")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    labels: list[str] = []
    values: dict[str, list[float]] = {name: [] for name in (*FACTORS, "quality")}
    with tempfile.TemporaryDirectory() as aside:
        for number, folder in enumerate(options.stacks[: 1 if options.quick else None]):
            rng = np.random.default_rng(number)
            usable = [section.index for section in read_stack(folder).usable()]
            chosen = usable[len(usable) // 6 + number % 2 : -len(usable) // 6 : 4]
            planted = {index: KINDS[(k + number) % len(KINDS)] for k, index in enumerate(chosen)}
            found = scored(folder, planted, Path(aside) / str(number), rng)
            for k in np.flatnonzero(found["large"]).tolist():
                labels.append(planted.get(int(found["index"][k]), ""))
                for name, own in values.items():
                    own.append(float(found[name][k]))
    kind_of = np.array(labels)
    rows = []
    for kind in (*KINDS, "any"):
        use = np.ones(len(kind_of), bool) if kind == "any" else np.isin(kind_of, ["", kind])
        hit = kind_of[use] != ""
        scores = {name: float(roc_auc_score(hit, 1 - np.array(own)[use])) for name, own in values.items()}
        rows.append({"name": f"quality_{kind}", "ours": round(scores["quality"], 4), "peer": 0.5, "peer_name": "chance",
                     "unit": "AUROC", "ratio": round(scores["quality"] / 0.5, 3), "damaged": int(hit.sum()),
                     "sound": int((~hit).sum()), **{n: round(scores[n], 3) for n in FACTORS}})  # fmt: skip
        print(json.dumps(rows[-1]))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
