"""What the QC page shows of every section: picture with outlines, pose, quality, warnings, repairs; and the table.

Written as qc/cards.json, which `reconstruct.page` lays into report.html.
"""

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from meshgnn.progress import Progress
from meshgnn.source.sections import AXES, NEEDED, TABLE, SectionStack
from meshgnn.source.text_table import read_text_table
from meshgnn.store import write_text
from reconstruct.mounted import MIRRORED, TURNED
from reconstruct.pictures import segments
from reconstruct.quality import FACTORS, Look, look, quality
from reconstruct.records import Alignment, Midsurface, Mounting, TissueStack
from reconstruct.shown import shown_image
from reconstruct.steps.mounting import turns

FILE = "cards.json"
LOW = 0.6  # a quality below is flagged
_WIDEST = 380  # pixels of a picture
_COLOURS = {"tissue": (214, 39, 40), "white": (0, 166, 200), "mid": (255, 176, 0)}
_POINTS = 6000  # nodes shown in 3D, of both hemispheres


@dataclass(frozen=True, kw_only=True)
class Checked:
    """The sections of a reconstruction as they were looked at.

    Args:
        looks: N, images measured.
        scores: [N] by the name of the factor, and "quality".
    """

    looks: list[Look]
    scores: Mapping[str, NDArray[np.float64]]


def checked(stack: SectionStack, tissue: TissueStack, mounting: Mounting, workers: int, progress: Progress) -> Checked:
    """Read every section in use once more, and score it."""

    def one(k: int) -> Look:
        with shown_image(stack, tissue, k) as image:
            return look(image, tissue, k)

    count, looks = len(tissue.index), []
    with ThreadPoolExecutor(max(1, workers)) as pool:
        for number, item in enumerate(pool.map(one, range(count))):
            looks.append(item)
            progress("quality", number + 1, count)
    return Checked(looks=looks, scores=quality(tissue, mounting, looks))


def quality_report(tissue: TissueStack, seen: Checked) -> dict[str, Any]:
    """Quality of every section by its number, and the five of least quality."""
    found = seen.scores["quality"]
    numbers = tissue.index.tolist()
    worst = np.argsort(found, kind="stable")[:5].tolist()
    return {
        "quality": {str(index): round(float(one), 3) for index, one in zip(numbers, found)},
        "lowest_quality": [numbers[k] for k in worst],
    }


def write_cards(
    folder: Path, stack: SectionStack, tissue: TissueStack, alignment: Alignment, mounting: Mounting, seen: Checked,
    surfaces: Sequence[Midsurface], report: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write `cards.json` into `folder`.

    Args:
        folder: of the pictures.
        stack: all sections of the table. Of those that were averaged, one stands for each slab.
    """
    dense = np.setdiff1d(tissue.part_index, tissue.index).tolist()
    averaged = set(dense)
    places = {int(index): k for k, index in enumerate(tissue.index)}
    _, _, along = AXES[stack.plane]
    repairs = _repairs(report["repairs"], along, tissue)
    said = {
        index: [text for text in report["warnings"] if index in named(text)] for index in (one.index for one in stack)
    }
    turn, _ = turns(alignment.to_section)
    middle = np.array([np.linalg.solve(m[:, :2], c - m[:, 2]) for m, c in zip(alignment.to_section, tissue.centre_mm)])
    shift = middle - (alignment.frame_mm.mean(0) if len(alignment.frame_mm) else 0)
    cards: list[dict[str, Any]] = []
    for section in (one for one in stack if one.index not in averaged):
        k, flags = places.get(section.index), list(section.flags)
        card: dict[str, Any] = {
            "number": section.index, "file": section.path.name, "position": round(section.position_mm, 3),
            "usable": section.usable, "mirrored": section.mirrored, "warnings": said[section.index],
        }  # fmt: skip
        if k is None:
            why = "no tissue was found on it" if section.usable else "marked as not usable"
            cards.append(card | {"flags": [*flags, "left out"], "why": why, "picture": "", "repairs": [], "quality": 0,
                                 "factors": {}, "overlap": 0, "turn": 0, "shift": [0, 0]})  # fmt: skip
            continue
        own = [number for number, one in enumerate(repairs) if one["section"] == section.index]
        way = int(mounting.way[k]) if said[section.index] else 0
        for name, on in (
            ("warning", said[section.index]), ("turned", way & TURNED), ("mirrored?", way & MIRRORED),
            ("low quality", seen.scores["quality"][k] < LOW), ("repairs", own),
        ):  # fmt: skip
            flags += [name] if on else []
        cards.append(card | {
            "flags": flags, "quality": round(float(seen.scores["quality"][k]), 3),
            "factors": {name: round(float(seen.scores[name][k]), 2) for name in FACTORS},
            "overlap": round(float(alignment.overlap[k]), 3), "turn": round(float(turn[k]), 2),
            "shift": [round(float(v), 2) for v in shift[k]], "repairs": own,
            "picture": _picture(seen.looks[k], tissue, alignment, k, surfaces, stack.plane),
        })  # fmt: skip
    table = stack.folder / TABLE if stack.folder is not None else None
    text = json.dumps({
        "cards": cards, "repairs": repairs, "dense": list(dense), "points": _points(surfaces),
        "table": _table(table) if table is not None and table.is_file() else [],
    })  # fmt: skip
    write_text(folder / FILE, text)


def named(text: str) -> set[int]:
    """Numbers of the sections that a warning is about."""
    start = re.match(r"sections? ([\d, and]+)", text)
    return {int(one) for one in re.findall(r"\d+", start.group(1))} if start else set()


def _repairs(sides: Mapping[str, Any], along: NDArray[np.float64], tissue: TissueStack) -> list[dict[str, Any]]:
    """Handles and bridges, largest first, each with the section that it lies next to."""
    found = []
    for side, listed in sides.items():
        for one in listed:
            if not (one["handles"] or one["kind"] == "bridge cut"):
                continue
            at = float(np.asarray(one["position_mm"]) @ along)
            near = int(tissue.index[np.argmin(np.abs(tissue.position_mm - at))])
            found.append({
                "side": side, "kind": one["kind"], "where": one["where"], "handles": one["handles"],
                "position_mm": one["position_mm"], "volume_mm3": one["volume_mm3"], "section": one.get("section", near),
            })  # fmt: skip
    return sorted(found, key=lambda one: -one["volume_mm3"])


def _picture(
    seen: Look, tissue: TissueStack, alignment: Alignment, k: int, surfaces: Sequence[Midsurface], plane: Any
) -> str:
    """JPEG, as an address, of the section with its tissue, cut to it."""
    grid = tissue.pixel_mm / tissue.image_px_mm[k] / seen.step  # pixels of the picture per working pixel
    start = (tissue.origin_mm[k] / tissue.image_px_mm[k] - (seen.step - 1) / 2) / seen.step
    places = np.argwhere(tissue.outer[k] < 0) * grid + start
    margin = 3 / (tissue.image_px_mm[k] * seen.step)
    low = np.clip(places.min(0) - margin, 0, None).astype(int)
    high = np.minimum(np.ceil(places.max(0) + margin).astype(int) + 1, seen.picture.shape)
    shown = Image.fromarray(seen.picture[low[0] : high[0], low[1] : high[1]]).convert("RGB")
    share = min(1.0, _WIDEST / max(shown.size))
    shown = shown.resize([max(1, round(side * share)) for side in shown.size], Image.Resampling.BOX)
    pixels = np.array(shown)
    rows, columns = (
        ((np.arange(pixels.shape[axis]) + 0.5) / share - 0.5 + low[axis] - start[axis]) / grid for axis in range(2)
    )
    at = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    for level, colour in ((tissue.outer[k], "tissue"), (tissue.white[k], "white")):
        inside = ndimage.map_coordinates(level, at, order=1, mode="nearest") < 0
        pixels[inside & ~ndimage.binary_erosion(inside, border_value=1)] = _COLOURS[colour]
    shown = Image.fromarray(pixels)
    draw = ImageDraw.Draw(shown)
    column, row, along = AXES[plane]
    for item in surfaces:
        ends = segments(item.mesh, along, float(tissue.position_mm[k]))
        px = alignment.map(k, np.stack([ends @ row, ends @ column], axis=-1)) / tissue.image_px_mm[k]
        px = ((px - (seen.step - 1) / 2) / seen.step - low + 0.5) * share
        for one in px[..., ::-1].reshape(-1, 4).tolist():
            draw.line(one, fill=_COLOURS["mid"])
    out = io.BytesIO()
    shown.save(out, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _points(surfaces: Sequence[Midsurface]) -> list[list[float]]:
    """Some nodes of the midsurfaces, mm."""
    nodes = np.concatenate([item.mesh.vertices_mm for item in surfaces]) if surfaces else np.zeros((0, 3))
    return np.round(nodes[:: max(1, len(nodes) // _POINTS)].astype(float), 1).tolist()


def _table(path: Path) -> list[list[str]]:
    """The table's header and rows, with the columns that can be corrected."""
    header, rows = read_text_table(path, NEEDED)
    names = [*header, *(name for name in ("mirrored",) if name not in header)]
    return [names, *([str(row.get(name) or "") for name in names] for _, row in rows)]
