"""One local model: trained on the two drawn sections of an interval, it predicts those between. A job is a folder.

job.json                sections, areas, settings
model.safetensors       weights, once trained
predictions.safetensors chances_N [A, rows, columns] and other_N [rows, columns] uint8 (255 = 1) of section N
done.json               written last: figures of the job
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from features.local_models.inputs import OTHER, classes_of, hinted_classes, section_channels, section_of
from features.local_models.network import APART, DEPTH, HintedUNet, TwoScaleUNet, segmentation_loss
from features.local_models.settings import DONE, HINTS, ModelSettings
from meshgnn.errors import InputError
from meshgnn.mapping.pixel_filling import SectionGrid
from meshgnn.store import read_arrays, read_json, write_arrays, write_json

NOWHERE = -0.98  # of the soft map of an area: about 9 mm outside its interpolated outline


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawn:
    """A drawn section as training sees it: channels fine [C, r, c] and coarse, classes [r, c], centres by kind."""

    fine: NDArray[np.float32]
    coarse: NDArray[np.float32]
    classes: NDArray[np.int64]
    centres: tuple[NDArray[np.int64], ...]


def run_job(folder: Path) -> str:
    """Train and predict, unless that is done; returns the folder's name. Raises InputError for a damaged job."""
    folder = Path(folder)
    if (folder / DONE).is_file():
        return folder.name
    about = read_json(folder / "job.json")
    torch.set_num_threads(1)
    try:
        settings = ModelSettings(**about["settings"])
        areas, ends = [int(k) for k in about["areas"]], (int(about["first"]), int(about["last"]))
        sections = {int(one["index"]): section_of(one) for one in about["sections"]}
        inputs = {int(index): Path(file) for index, file in about["files"].items()}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{folder / 'job.json'}: damaged ({error}); fill in again") from None
    grids = {index: SectionGrid.of(section, settings.fine_um) for index, section in sections.items()}
    start = time.perf_counter()
    distances: dict[tuple[int, int], NDArray[np.float32]] = {}
    hints = read_arrays(folder / HINTS) if (folder / HINTS).is_file() else None
    drawn = [_drawn(k, grids, inputs, areas, ends, distances, hints) for k in ends]
    network, loss = _train(settings, drawn, len(areas), hinted=hints is not None)
    trained = time.perf_counter()
    found: dict[str, NDArray[Any]] = {}
    for index in sections:
        if index not in ends:
            seen = section_channels(index, grids, inputs, areas, ends, distances, hints)
            chance = _predict(network, seen, len(areas))
            found[f"chances_{index}"] = np.rint(chance[OTHER + 1 :] * 255).astype(np.uint8)
            found[f"other_{index}"] = np.rint(chance[: OTHER + 1].max(0) * 255).astype(np.uint8)
    write_arrays(folder / "model.safetensors", {k: v.detach().numpy() for k, v in network.state_dict().items()})
    write_arrays(folder / "predictions.safetensors", found)
    figures = {
        "loss": round(loss, 4), "train_s": round(trained - start, 2),
        "predict_s": round(time.perf_counter() - trained, 2),
    }  # fmt: skip
    write_json(folder / DONE, figures)
    return folder.name


def _coarse(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """[C, rows / 4, columns / 4] means, filled up at the far rims."""
    short = [(0, -size % APART) for size in image.shape[1:]]
    wide = np.pad(image, [(0, 0), *short], mode="edge")
    return wide.reshape(len(wide), wide.shape[1] // APART, APART, wide.shape[2] // APART, APART).mean((2, 4))


def _drawn(
    number: int, grids: dict[int, SectionGrid], inputs: dict[int, Path], areas: list[int], ends: tuple[int, int],
    distances: dict[tuple[int, int], NDArray[np.float32]], hints: Mapping[str, NDArray[Any]] | None = None,
) -> Drawn:  # fmt: skip
    fine = section_channels(number, grids, inputs, areas, ends, distances, hints)
    classes = classes_of(number, inputs, areas) if hints is None else hinted_classes(number, inputs, areas, hints)
    if not (classes >= 0).any():
        raise InputError(f"section {number} does not meet the mesh; draw on one that does, or set <graph> to none")
    target = classes > OTHER
    wide = ndimage.maximum_filter(classes, 3) != ndimage.minimum_filter(classes, 3)
    border = wide & ndimage.binary_dilation(target, iterations=2)
    away = ndimage.distance_transform_edt(~target) * grids[number].width_mm
    near = (away > 0) & (away < 10)
    elsewhere = near & (classes > 0) if (near & (classes > 0)).any() else classes >= 0
    kinds = tuple(np.argwhere(mask if mask.any() else elsewhere) for mask in (target, border, elsewhere))
    return Drawn(fine=fine, coarse=_coarse(fine), classes=classes, centres=kinds)


def _train(
    settings: ModelSettings, drawn: list[Drawn], areas: int, *, hinted: bool = False
) -> tuple[TwoScaleUNet | HintedUNet, float]:
    """Trained network and its mean loss over the last tenth of the steps. Draws depend on (seed, step) alone."""
    torch.manual_seed(settings.seed)
    channels = drawn[0].fine.shape[0]
    network: TwoScaleUNet | HintedUNet
    if hinted:
        network = HintedUNet(channels, areas, settings.width, settings.trust)
    else:
        network = TwoScaleUNet(channels, OTHER + 1 + areas, settings.width)
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, settings.learning_rate, total_steps=settings.steps + 1)
    network.train()
    last: list[float] = []
    for step in range(settings.steps):
        fine, coarse, target = _batch(settings, drawn, step, areas, hinted=hinted)
        loss = segmentation_loss(network(fine, coarse), target)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step >= min(0.9 * settings.steps, settings.steps - 1):
            last.append(float(loss.detach()))
    return network.eval(), float(np.mean(last))


def _batch(
    settings: ModelSettings, drawn: list[Drawn], step: int, areas: int, *, hinted: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Crops around centres: half in the areas, a quarter at their borders, a quarter elsewhere."""
    rng = np.random.default_rng([settings.seed, step])
    size, items = settings.crop, []
    for k in range(settings.batch):
        one = drawn[rng.integers(len(drawn))]
        centres = one.centres[(0, 0, 1, 2)[k % 4]]
        row, column = (
            (centres[rng.integers(len(centres))] + rng.integers(-size // 4, size // 4 + 1, 2)) // APART * APART
        )
        fine = _crop(one.fine, row - size // 2, column - size // 2, size)
        far = size * APART // 2
        coarse = _crop(one.coarse, (row - far) // APART, (column - far) // APART, size)
        classes = _crop(one.classes[None], row - size // 2, column - size // 2, size)[0]
        gain, offset = rng.normal(1, 0.1), rng.normal(0, 0.05)
        moved = rng.normal(0, settings.prior_mm / 4, (areas, 1, 1)) * (rng.random() < 0.5)
        for image in (fine, coarse):
            image[0] = image[0] * gain + offset
            if not hinted:
                image[-areas:] = (image[-areas:] + moved).clip(-1, 1)
        fine[0] += rng.normal(0, 0.05, fine[0].shape)
        flips = [axis for axis in (-2, -1) if rng.random() < 0.5]
        items.append([np.flip(image, tuple(flips)) if flips else image for image in (fine, coarse, classes)])
    near, far_off, target = (torch.from_numpy(np.stack(part)) for part in zip(*items))
    return near.float(), far_off.float(), target.long()


def _crop(image: NDArray[Any], row: int, column: int, height: int, width: int = 0) -> NDArray[Any]:
    """A copy of [C, height, width] pixels from (row, column) on, beyond the image as at its rim; classes: -1."""
    width = width or height
    rows, columns = np.arange(row, row + height), np.arange(column, column + width)
    out = image[:, rows.clip(0, image.shape[1] - 1)[:, None], columns.clip(0, image.shape[2] - 1)]
    if image.dtype.kind == "i":
        out[:, (rows < 0) | (rows >= image.shape[1])] = -1
        out[:, :, (columns < 0) | (columns >= image.shape[2])] = -1
    return out


TILE, MARGIN = 256, 32  # fine pixels at a time, and how much of them is left to the neighbours on each side


@torch.no_grad()
def _predict(network: TwoScaleUNet | HintedUNet, fine: NDArray[np.float32], areas: int) -> NDArray[np.float32]:
    """Probabilities [K, rows, columns] around where the areas may be; glass elsewhere."""
    coarse = _coarse(fine)
    chance = np.zeros((network.classes, *fine.shape[1:]), np.float32)
    chance[0] = 1
    rows, columns = (np.flatnonzero((fine[-areas:] > NOWHERE).any((0, axis))) for axis in (2, 1))
    if not len(rows):
        return chance
    kept = TILE - 2 * MARGIN
    for top in range(rows[0] // APART * APART, rows[-1] + 1, kept):
        for left in range(columns[0] // APART * APART, columns[-1] + 1, kept):
            height, width = (min(kept, last + 1 - first) for first, last in ((top, rows[-1]), (left, columns[-1])))
            if not (fine[-areas:, top : top + height, left : left + width] > NOWHERE).any():
                continue
            tall, wide = (-(-(size + 2 * MARGIN) // (APART * DEPTH)) * APART * DEPTH for size in (height, width))
            place, far = (top - MARGIN, left - MARGIN), 4 * APART * DEPTH
            near = _crop(fine, *place, tall, wide)
            whole = _crop(
                coarse, (place[0] - far) // APART, (place[1] - far) // APART,
                (tall + 2 * far) // APART, (wide + 2 * far) // APART,
            )  # fmt: skip
            both = [torch.from_numpy(one)[None] for one in (near, whole)]
            part = network(*both).softmax(1)[0].numpy()[:, MARGIN : MARGIN + height, MARGIN : MARGIN + width]
            chance[:, top : top + height, left : left + width] = part
    return chance
