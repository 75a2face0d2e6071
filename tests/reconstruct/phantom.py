"""Section stacks with a known truth, made from level functions in space: two folded bodies beside a fissure."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from meshgnn.override import override
from meshgnn.source.sections import TABLE, open_image, write_tiff
from reconstruct import Reconstruct, SectionFolder

Floats = NDArray[np.float64]
R = TypeVar("R", bound=Reconstruct.Config)


def body(x: Floats, y: Floats, z: Floats, inward_mm: float) -> Floats:
    """Level (mm, negative inside) of two wavy ellipsoids left and right of x = 0, shrunk by `inward_mm`."""
    side = np.abs(x) - 18.0
    angle = np.arctan2(z, side)
    radius = np.sqrt((side / 14) ** 2 + (y / 24) ** 2 + (z / 18) ** 2)
    wave = 1.2 * np.sin(5 * angle + 0.15 * y) * np.exp(-((y / 18) ** 2))
    tilt = 0.06 * x * np.sin(y / 7)  # left and right are not quite alike
    return (radius - 1) * 16 + wave + tilt + inward_mm


def write_stack(
    folder: Path,
    *,
    pixel_um: float = 200.0,
    spacing_mm: float = 2.0,
    shift_mm: float = 0.0,
    turn_deg: float = 0.0,
    missing: tuple[int, ...] = (),
    seed: int = 0,
    grey_mm: float = 3.0,
) -> dict[int, tuple[float, Floats]]:
    """Coronal sections of `body` under `folder`; per index (turn in radians, shift [2] (row, column) in mm)."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    size, step = 92.0, pixel_um / 1000
    axis = np.arange(-size / 2 + step / 2, size / 2, step)
    rows = []
    poses: dict[int, tuple[float, Floats]] = {}
    for index, position in enumerate(np.arange(-25, 25.01, spacing_mm)):
        turn, shift = np.radians(turn_deg) * rng.standard_normal(), shift_mm * rng.standard_normal(2)
        stain = 1 + 0.1 * rng.standard_normal()
        noise = rng.standard_normal((len(axis), len(axis)))
        if index in missing:
            continue
        down, across = np.meshgrid(axis - shift[0], axis - shift[1], indexing="ij")
        c, s = np.cos(turn), np.sin(turn)
        x, z = s * down + c * across, -(c * down - s * across)
        outer, inner = body(x, np.full_like(x, position), z, 0.0), body(x, np.full_like(x, position), z, grey_mm)
        density = np.where(inner < 0, 0.2, np.where(outer < 0, 0.55, 0.0)) * stain
        grey = 240 * np.exp(-density) + 3 * noise
        write_tiff(folder / f"s{index:03d}.tif", np.clip(grey, 0, 255).astype(np.uint8), pixel_um)
        rows.append([f"s{index:03d}.tif", index, f"{position:.3f}", pixel_um, 20, 1])
        poses[index] = (turn, shift)
    write_table(folder, rows)
    return poses


def write_table(folder: Path, rows: list[list[object]], *more: str) -> None:
    """`more` names further columns."""
    with (folder / TABLE).open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["file", "index", "position_mm", "pixel_um", "thickness_um", "usable", *more])
        writer.writerows(rows)


def change(path: Path, how: Callable[[NDArray[np.uint8]], NDArray[Any]], pixel_um: float = 200.0) -> None:
    """Write an image of a stack again as `how` makes it."""
    with open_image(path) as image:
        grey = image.read()
    write_tiff(path, np.ascontiguousarray(np.clip(how(grey), 0, 255).astype(np.uint8)), pixel_um)


def read_rows(folder: Path) -> list[list[object]]:
    with (folder / TABLE).open(newline="") as handle:
        return list(csv.reader(handle))[1:]  # type: ignore[arg-type]


def config(folder: Path, *assignments: str, kind: type[R] = Reconstruct.Config) -> R:  # type: ignore[assignment]
    """A coarse, quick reconstruction of a stack folder; the phantom is no human brain, and handed out all the same."""
    base = kind(source=SectionFolder.Config(path=folder), pictures=False)
    fast = [
        "plausible.refuse=false",
        "cerebrum.find=none",
        "stack.voxel_mm=1.0",
        "midsurface.edge_mm=2.5",
        "align.rigid_rounds=8",
        "align.affine_rounds=0",
    ]
    return override(base, [*fast, *assignments])
