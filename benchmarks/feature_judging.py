"""Cortical depth from features of real sections: is anything learnt from one image of use on another?

panel   a figure panel whose layers are given by a mask: is there anything to learn in it? Where a layer is painted in
        one colour, the image shows the answer itself, and the panel is not scored.
depth   depth (0 at the pial, 1 at the white side of an outline drawn into the image) of patches of a section, by ridge
        regression, fitted on one side of the outline and tested on the other, both ways, with a gap of a patch between.
        Features: an encoder that learnt without labels from another species' section; one that learnt so from the
        fitted side alone; an untrained one; principal components of pixels; grey of the patch and its middle.

    python benchmarks/feature_judging.py FOLDER [--quick] [--json FILE] [--out FOLDER]

FOLDER holds bigbrain_gyrus.png, rat_s1hl_section.png and bigbrain_layers_{A,B,C}{,_mask}.png. Encoders are kept in
--out; a killed command goes on there.
"""

import argparse
import logging
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from scipy import ndimage  # noqa: E402

from benchmarks._pairs import keep, show  # noqa: E402
from features.augment import PatchAugment  # noqa: E402
from features.encoders.section_cnn import SectionCNN  # noqa: E402
from features.judging.scores import standardised  # noqa: E402
from features.model_files import new_encoder  # noqa: E402
from features.node_data.section_patches import SectionPatches  # noqa: E402
from features.node_sets import NodeSet  # noqa: E402
from features.objectives.nt_xent import NTXent  # noqa: E402
from features.pretrain import PretrainConfig, pretrain  # noqa: E402
from features.pretraining.probes import embed  # noqa: E402
from features.samplers.uniform import UniformBatches  # noqa: E402
from meshgnn.command import guarded  # noqa: E402
from meshgnn.errors import InputError  # noqa: E402
from meshgnn.graph import NodeLocations  # noqa: E402
from meshgnn.source.images import open_image  # noqa: E402
from meshgnn.source.sections import read_stack  # noqa: E402

SIZE_PX = 24
# No pixel size is known. These make cortex about equally many pixels thick in both images.
GYRUS_STEP, RAT_STEP = 1.0, 2.0
COLUMNS = (295, 545)  # of the rat's image: the outline's side lines stay outside
ALPHAS = (0.1, 1.0, 10.0, 100.0, 1000.0)
CNN = SectionCNN.Config(widths=(16, 32, 64), stem_stride=(2, 2), depth_bands=2)
AUGMENT = PatchAugment.Config(rotation_deg=180, scale=0.2, shift=0.1, stain=0.2, gamma=0.15)
# Rows and columns of the text tags drawn into the rat's image.
TAGS = ((60, 87, 210, 284), (26, 54, 546, 632), (281, 309, 395, 450), (480, 510, 534, 650), (588, 617, 230, 334))
Floats = NDArray[np.floating]


def colours_of(path: Path) -> NDArray[np.int64]:
    """[rows, columns, 3 or nothing] of an image as it is stored."""
    from PIL import Image

    if not path.is_file():
        raise InputError(f"{path}: no such image; name the folder of the histology images")
    with Image.open(path) as image:
        return np.asarray(image).astype(np.int64)


def panel_rows(folder: Path) -> list[dict[str, Any]]:
    """Per figure panel: the largest sd of grey within a layer, away from its rim. 0: the layers are painted on."""
    rows = []
    for name in "ABC":
        image, layers = (colours_of(folder / f"bigbrain_layers_{name}{end}.png") for end in ("", "_mask"))
        grey = image.mean(2)
        inner = [ndimage.binary_erosion(layers == k, iterations=4) for k in range(1, int(layers.max()) + 1)]
        sd = max(float(grey[one].std()) for one in inner if one.any())
        rows.append({"name": "panel", "image": name, "sd_of_grey_in_layers": round(sd, 3), "scored": sd > 1.0})
    return rows


def outline(colours: NDArray[np.int64]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Pial and white row of every column in `COLUMNS` (yellow lines), and which pixels are drawn on, not tissue."""
    red, green, blue = np.moveaxis(colours[..., :3], -1, 0)
    yellow = (red > 150) & (green > 150) & (blue < red - 40)
    drawn = yellow | (colours[..., :3].min(-1) > 235)
    for top, bottom, left, right in TAGS:
        drawn[top:bottom, left:right] = True
    middle, columns = len(colours) // 2, np.arange(*COLUMNS)
    lines = []
    for part, first in ((yellow[:middle, slice(*COLUMNS)], 0), (yellow[middle:, slice(*COLUMNS)], middle)):
        there = part.any(0)
        if there.mean() < 0.5:
            raise InputError("the outline of the cortex is not found in the rat's image")
        rows = (part * np.arange(len(part))[:, None]).sum(0)[there] / part.sum(0)[there] + first
        lines.append(np.interp(columns, columns[there], rows))
    return lines[0], lines[1], ndimage.binary_dilation(drawn, iterations=2)


def depths_of(colours: NDArray[np.int64], every: int) -> tuple[Floats, Floats, Floats]:
    """Row, column and depth [N] of places within the outline whose patch holds nothing that was drawn on."""
    pial, white, drawn = outline(colours)
    rows, columns = np.meshgrid(np.arange(0, len(colours), every), np.arange(*COLUMNS, every), indexing="ij")
    rows, columns = rows.ravel(), columns.ravel()
    top, bottom = pial[columns - COLUMNS[0]], white[columns - COLUMNS[0]]
    depth = (rows - top) / (bottom - top)
    reach = round(SIZE_PX * RAT_STEP / 2)
    near = ndimage.maximum_filter(drawn, size=2 * reach + 1)
    good = (depth > 0) & (depth < 1) & ~near[rows, columns] & (rows >= reach) & (rows < len(colours) - reach)
    return rows[good].astype(float), columns[good].astype(float), depth[good]


def patches_of(path: Path, row: Floats, column: Floats, step: float, folder: Path) -> SectionPatches:
    """The project's own patch reader on one image, its pixels taken as 10 um wide."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder / path.name)
    head = "file,index,position_mm,pixel_um,thickness_um,usable"
    (folder / "sections.csv").write_text(f"{head}\n{path.name},0,0,10,20,1\n")
    count = len(row)
    where = NodeLocations(
        section=np.zeros(count, np.int64), row_px=row, column_px=column, normal_angle_deg=np.full(count, -90.0),
        obliqueness_deg=np.zeros(count), residual_mm=np.zeros(count), observed=np.ones(count, bool),
    )  # fmt: skip
    config = SectionPatches.Config(size_px=SIZE_PX, pixel_um=10.0 * step, upright=False, augment=AUGMENT)
    return SectionPatches(config, read_stack(folder, minimum=1), where)


def gyrus_places(path: Path, every: int) -> tuple[Floats, Floats]:
    """Places of the gyrus that are not glass."""
    with open_image(path) as image:
        grey = image.read().astype(float)
    grey = ndimage.uniform_filter(grey, SIZE_PX)
    rows, columns = np.meshgrid(*(np.arange(SIZE_PX, side - SIZE_PX, every) for side in grey.shape), indexing="ij")
    tissue = grey[rows, columns] < 235
    return rows[tissue].astype(float), columns[tissue].astype(float)


def learnt(data: SectionPatches, out: Path, seed: int, steps: int) -> torch.nn.Module:
    """An encoder that has learnt to know its own patches again after changes (NT-Xent), without labels."""
    config = PretrainConfig(
        encoder=CNN, data=data.config, objective=NTXent.Config(), sampler=UniformBatches.Config(size=96), epochs=4,
        epoch_steps=max(1, steps // 4), held_out=0, seed=seed, threads=1, device="cpu",
    )  # fmt: skip
    nodes = NodeSet(brain="image", data=data, labels=np.full(len(data.observed), -1), names=())
    return pretrain(config, [nodes], out)


def ridge(values: Floats, depth: Floats, fitted: NDArray[np.bool_], column: Floats) -> tuple[Floats, float]:
    """Depths of all rows from the fitted ones; the penalty is chosen on stripes of columns left out among these."""
    from sklearn.linear_model import Ridge

    def predicted(known: NDArray[np.bool_], alpha: float) -> Floats:
        train, everyone = standardised(values[known], values)
        return np.asarray(Ridge(alpha=alpha).fit(train, depth[known]).predict(everyone))

    edges = np.quantile(column[fitted], [1 / 3, 2 / 3])
    stripe = np.searchsorted(edges, column)
    errors = []
    for alpha in ALPHAS:
        gaps = []
        for one in range(3):
            inside = fitted & (stripe == one)
            gaps.append(np.abs(predicted(fitted & (stripe != one), alpha)[inside] - depth[inside]))
        errors.append(np.concatenate(gaps).mean())
    best = ALPHAS[int(np.argmin(errors))]
    return predicted(fitted, best), best


def grey_of(items: Floats) -> Floats:
    """[N, 6] mean and sd of grey in the middle 3 and 9 pixels and in the whole patch."""
    found = []
    for side in (3, 9, SIZE_PX):
        first = (SIZE_PX - side) // 2
        part = items[:, first : first + side, first : first + side].reshape(len(items), -1)
        found += [part.mean(1), part.std(1)]
    return np.stack(found, 1)


def principal(items: Floats, fitted: NDArray[np.bool_]) -> Floats:
    """[N, 32] principal components of pixels, of the fitted side."""
    from sklearn.decomposition import PCA

    flat = items.reshape(len(items), -1)
    return np.asarray(PCA(32, random_state=0).fit(flat[fitted]).transform(flat))


def depth_rows(folder: Path, out: Path, seeds: int, steps: int, every: int) -> list[dict[str, Any]]:
    """A row per kind of features and seed: mean absolute error of depth and R2, each side tested in turn."""
    image = folder / "rat_s1hl_section.png"
    row, column, depth = depths_of(colours_of(image), every)
    data = patches_of(image, row, column, RAT_STEP, out / "rat")
    items = data.read(np.arange(len(row)))
    middle, gap = sum(COLUMNS) / 2, SIZE_PX * RAT_STEP / 2
    sides = {"left": column < middle - gap, "right": column > middle + gap}
    gyrus = folder / "bigbrain_gyrus.png"
    there = gyrus_places(gyrus, 3 * every // 2)
    elsewhere = patches_of(gyrus, *there, GYRUS_STEP, out / "gyrus")
    found: list[dict[str, Any]] = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        untrained = embed(new_encoder(CNN, data.config, data.shape), items)
        other = embed(learnt(elsewhere, out / f"gyrus-{seed}-{steps}", seed, steps), items)
        for fitted_side, test_side in (("left", "right"), ("right", "left")):
            fitted, test = sides[fitted_side], sides[test_side]

            def own(side: str = fitted_side, these: NDArray[np.bool_] = fitted, seed: int = seed) -> Floats:
                mine = patches_of(image, row[these], column[these], RAT_STEP, out / f"rat-{side}")
                return embed(learnt(mine, out / f"rat-{side}-{seed}-{steps}", seed, steps), items)

            kinds: dict[str, Callable[[], Floats]] = {
                "self-supervised on the gyrus": lambda other=other: other, "self-supervised on the fitted side": own,
                "untrained": lambda untrained=untrained: untrained,
            }  # fmt: skip
            if not seed:
                kinds |= {
                    "pixel components": lambda fitted=fitted: principal(items, fitted),
                    "grey": lambda: grey_of(items), "constant": lambda: np.zeros((len(items), 1)),
                }  # fmt: skip
            for kind, make in kinds.items():
                guess, alpha = ridge(make(), depth, fitted, column)
                wrong = guess[test] - depth[test]
                found.append({
                    "name": "depth", "features": kind, "tested": test_side, "seed": seed,
                    "fitted_on": int(fitted.sum()), "tested_on": int(test.sum()), "alpha": alpha,
                    "mae": round(float(np.abs(wrong).mean()), 4),
                    "r2": round(1 - float((wrong**2).mean() / depth[test].var()), 4),
                })  # fmt: skip
                show(found[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="of the images")
    parser.add_argument("--quick", action="store_true", help="one seed, 40 steps, under a minute")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--out", type=Path, help="keep encoders here; a killed command goes on")
    options = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)

    def go() -> int:
        with tempfile.TemporaryDirectory() as aside:
            rows = panel_rows(options.folder)
            for found in rows:
                show(found)
            size = (1, 40, 6) if options.quick else (3, 400, 4)
            rows += depth_rows(options.folder, options.out or Path(aside), *size)
        keep(rows, options.json)
        return 0

    sys.exit(guarded(go, stopped="stopped; with --out the same command goes on"))


if __name__ == "__main__":
    main()
