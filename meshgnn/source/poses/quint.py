"""Anchorings of QuickNII (JSON, XML), VisuAlign, DeepSlice (JSON), WebAlign and WebWarp (.waln, .wwrp), in an atlas.

An anchoring is nine numbers in voxels of the atlas, from its corner: O, where the image's upper left corner lies, U
along its width and V down its height. Axes of the atlas are left to right, posterior to anterior, inferior to superior.
Width and height in the file are those of the small picture that was shown; U and V span the whole image, so that only
the ratio of its sides must be that of the section. Markers (x, y by the anchoring, x, y as seen) are in its pixels.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.source.sections import Section

_ANCHORING = ("ox", "oy", "oz", "ux", "uy", "uz", "vx", "vy", "vz")
_SIDES = 0.03  # how far the ratio of the sides may differ
_PICTURE = re.compile(r"(\.dzip?|\.tiff?|\.png|\.jpe?g|\.jp2)+$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Anchored:
    """One picture of the file: name, number (-1 if none), width, height, O, U, V [3, 3] in voxels, markers [M, 4]."""

    file: str
    number: int
    width: float
    height: float
    span: NDArray[np.float64]
    markers: NDArray[np.float64]


def read_anchorings(path: Path) -> tuple[list[Anchored], float, int]:
    """Pictures with an anchoring, the side of the atlas' voxels in um (0 if not told), and how many have none.

    Raises:
        InputError: not such a file, an anchoring of another count than nine, markers of another count than four, or
            numbers that are not finite.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        about = _from_xml(text) if text.lstrip().startswith("<") else json.loads(text)
        listed = about.get("slices") or about.get("sections")
        target = str(about.get("target") or about.get("atlas") or "")
        assert isinstance(listed, list)
        assert listed
    except (OSError, ValueError, AttributeError, AssertionError):
        raise InputError(
            f"{path}: not a series of QuickNII, VisuAlign, DeepSlice or WebAlign (JSON or XML, slices with anchorings)"
        ) from None
    size = re.search(r"(\d+(?:\.\d+)?)\s*um", target)
    found, without = [], 0
    for place, one in enumerate(listed):
        name = str(one.get("filename", "")) if isinstance(one, dict) else ""
        values = (one.get("anchoring") or one.get("ouv") or []) if isinstance(one, dict) else []
        if not values:
            without += 1
            continue
        found.append(_anchored(Path(path), name or f"slice {place + 1}", one, values))
    if not found:
        raise InputError(f"{path}: none of its {len(listed)} slices has an anchoring; save the registered series")
    return found, float(size.group(1)) if size else 0.0, without


def _anchored(path: Path, name: str, one: dict[str, Any], values: Sequence[Any]) -> Anchored:
    try:
        span = np.array(values, np.float64)
        width, height = float(one["width"]), float(one["height"])
        number = int(one.get("nr", one.get("snr", -1)))
    except (ValueError, TypeError, KeyError):
        raise InputError(f"{path}: {name}: anchoring, width or height is missing or no number") from None
    if span.size != 9:
        raise InputError(f"{path}: {name}: an anchoring is nine numbers (O, U, V), here are {span.size}")
    if not np.isfinite(span).all() or not (width > 0 and height > 0):
        raise InputError(f"{path}: {name}: its anchoring holds numbers that are not finite, or its size is 0")
    try:
        markers = np.array(one.get("markers") or np.zeros((0, 4)), np.float64)
    except (ValueError, TypeError):
        markers = np.zeros(0)
    if markers.ndim != 2 or markers.shape[1] != 4 or not np.isfinite(markers).all():
        raise InputError(f"{path}: {name}: each marker needs four numbers (x, y by the anchoring, x, y as seen)")
    return Anchored(
        file=name, number=number, width=width, height=height, span=span.reshape(3, 3), markers=markers
    )  # fmt: skip


def _from_xml(text: str) -> dict[str, Any]:
    """What the JSON of the same series would hold. Anchorings stand there with bare ampersands, which XML forbids.

    Raises:
        ValueError: not such a series.
    """
    if "<!" in text.replace("<!--", ""):
        raise ValueError("definitions of its own")
    try:
        series = ElementTree.fromstring(re.sub(r"&(?!amp;)", "&amp;", text))
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from None
    slices: list[dict[str, Any]] = []
    for one in series.iter("slice"):
        about: dict[str, Any] = dict(one.attrib)
        parts = dict(part.partition("=")[::2] for part in about.pop("anchoring", "").split("&") if part)
        if parts:
            about["anchoring"] = [parts.get(name) for name in _ANCHORING]
        slices.append(about)
    return {"slices": slices, "target": series.get("target", "")}


def stem(name: str) -> str:
    """Name of an image without folder and endings."""
    return _PICTURE.sub("", name.replace("\\", "/").rsplit("/", 1)[-1])


def pixel_matrix(path: Path, one: Anchored, section: Section, voxel_mm: float) -> NDArray[np.float64]:
    """[4, 4] from (column, row, 0, 1) of pixel centres of the section's image as stored to mm of the atlas.

    Raises:
        InputError: the picture had sides of another ratio than the section.
    """
    rows, columns = section.shape
    if abs(one.width / one.height * rows / columns - 1) > _SIDES:
        raise InputError(
            f"{path}: {one.file} is {one.width:g} x {one.height:g} px, section {section.index} {columns} x {rows}: "
            "another picture, or a cut-out of it; register the whole section"
        )
    corner, across, down = one.span * voxel_mm
    result = np.eye(4)
    result[:3, 0], result[:3, 1] = across / columns, down / rows
    result[:3, 2] = np.cross(result[:3, 0], result[:3, 1])
    result[:3, 3] = corner + (result[:3, 0] + result[:3, 1]) / 2  # the centre of the first pixel
    return result
