"""Sections inside a page: small greyscale pictures, and the map from the cutting plane to their pixels."""

import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from meshgnn.graph import MeshGraph
from meshgnn.source.sections import AXES, Section, SectionStack, open_section

WIDEST_PX = 2400  # larger pictures would only wear out the browser
QUALITIES = (88, 78, 66, 54)
SHRINK = 0.8


def reduced(section: Section, widest: int = WIDEST_PX) -> NDArray[np.uint8]:
    """The section as 8-bit grey, averaged over whole blocks until no side exceeds `widest`; read strip by strip."""
    with open_section(section) as image:
        out = image.thumbnail(widest).astype(np.float32)
        kind = image.dtype
    if kind == np.uint8:
        return np.clip(np.round(out), 0, 255).astype(np.uint8)
    low, high = np.percentile(out, [0.1, 99.9])
    return np.clip((out - low) / max(high - low, 1e-9) * 255, 0, 255).astype(np.uint8)


def encoded(picture: NDArray[np.uint8], scale: float, quality: int) -> bytes:
    """WebP (JPEG where Pillow lacks it) of a grey picture made smaller by `scale`."""
    image = Image.fromarray(picture)
    if scale < 1:
        size = (max(round(picture.shape[1] * scale), 1), max(round(picture.shape[0] * scale), 1))
        image = image.resize(size, Image.Resampling.LANCZOS)
    out = io.BytesIO()
    if features.check("webp"):
        image.save(out, "WEBP", quality=quality, method=2)
    else:
        image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def embed(stack: SectionStack, room_bytes: float) -> tuple[list[dict[str, Any]], list[str]]:
    """All sections as pictures whose data addresses together stay below `room_bytes`.

    Quality goes down first, then size; five sections are tried, the rest follows.

    Returns:
        Per section its size in the page, and its data address.
    """
    tried = sorted({round(k) for k in np.linspace(0, len(stack) - 1, 7)[1:-1]} or {0})
    samples = [reduced(stack.sections[k]) for k in tried]
    steps = [(1.0, quality) for quality in QUALITIES]
    steps += [(SHRINK**k, QUALITIES[-1]) for k in range(1, 16)]
    for number, (scale, quality) in enumerate(steps):
        mean = sum(len(encoded(picture, scale, quality)) for picture in samples) / len(samples)
        if mean * len(stack) * 4 / 3 * 1.02 > room_bytes and number + 1 < len(steps):
            continue
        kind = "webp" if features.check("webp") else "jpeg"
        about, addresses = [], []

        def make(section: Section, scale: float = scale, quality: int = quality) -> tuple[tuple[int, int], bytes]:
            picture = reduced(section)
            return picture.shape, encoded(picture, scale, quality)

        with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
            made = list(pool.map(make, stack))
        for section, (shape, data) in zip(stack, made):
            wide = max(round(shape[1] * scale), 1) if scale < 1 else shape[1]
            tall = max(round(shape[0] * scale), 1) if scale < 1 else shape[0]
            block = max(1, -(-max(section.shape) // WIDEST_PX))
            shrink = wide / (shape[1] * block)
            about.append({"width": wide, "height": tall, "shrink": shrink, "pixelMm": section.pixel_um / 1000})
            addresses.append(f"data:image/{kind};base64,{base64.b64encode(data).decode()}")
        if sum(map(len, addresses)) <= room_bytes or number + 1 == len(steps):
            return about, addresses
    raise AssertionError("the last step always returns")


def terms(plane_mm: NDArray[np.floating], degree: int) -> NDArray[np.float64]:
    """Monomials [n, 3 or 6 or 10] of in-plane coordinates [n, 2] (column, row axis), already centred and scaled."""
    x, y = plane_mm[:, 0], plane_mm[:, 1]
    one = np.ones_like(x)
    columns = [one, x, y, x * x, x * y, y * y, x**3, x * x * y, x * y * y, y**3]
    return np.stack(columns[: (degree + 1) * (degree + 2) // 2], axis=1)


def plane_maps(graph: MeshGraph, stack: SectionStack) -> tuple[dict[str, Any], NDArray[np.float32], list[bool]]:
    """How in-plane mm become pixels on every section: what alignment did, seen from the nodes it placed.

    Polynomials (up to cubic, by the number of nodes) fitted per section to the nodes' (row_px, column_px); a section
    with few nodes keeps its nominal place.

    Returns:
        Centre [2], scale and half extent [2] (mm) of the in-plane coordinates; coefficients [N, 2, 10] float32 giving
        (column_px, row_px) of the full-resolution image; and per section whether nodes placed it.
    """
    column, row, _ = AXES[stack.plane]
    points = graph.vertices_mm.astype(np.float64)
    plane = np.stack([points @ column, points @ row], axis=1)
    centre = (plane.max(0) + plane.min(0)) / 2
    scale = float(np.abs(plane - centre).max()) or 1.0
    unit = (plane - centre) / scale
    found = np.zeros((len(stack), 2, 10), np.float32)
    places, held = graph.locations, []
    for k, section in enumerate(stack):
        here = (
            np.zeros(0, int) if places is None else np.flatnonzero(places.observed & (places.section == section.index))
        )
        held.append(len(here) >= 8)
        if places is None or not held[-1]:
            ends = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
            mm = (ends * scale + centre) @ np.stack([column, row]) + section.normal * section.position_mm
            rows, columns, _ = section.mm_to_pixel(mm)
            pixels = np.stack([columns, rows], axis=1)
            found[k, :, 0], found[k, :, 1:3] = pixels[0], (pixels[1:] - pixels[0]).T
            continue
        degree = 3 if len(here) >= 150 else 2 if len(here) >= 60 else 1
        pixels = np.stack([places.column_px[here], places.row_px[here]], axis=1)
        solution = np.linalg.lstsq(terms(unit[here], degree), pixels, rcond=1e-6)[0]
        found[k, :, : len(solution)] = solution.T
    half = (np.abs(plane - centre).max(0)).tolist()
    return {"centre": centre.tolist(), "scale": scale, "half": half}, found, held


def places_of(stack: SectionStack, numbers: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int16]:
    """Place (0..N-1) in the stack of every section number, -1 for numbers that it does not hold."""
    order = {section.index: k for k, section in enumerate(stack)}
    return np.array([order.get(int(number), -1) for number in numbers], np.int16)
