"""Patches of sections of 16,384 x 16,384 px against decoding their tiles by hand, and against zarr-python."""

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from typing import Any

import imagecodecs
import numpy as np
import tifffile
import torch
from scipy import ndimage

from benchmarks._pairs import paired, row
from features.augment import PatchAugment
from features.convert import ConvertJob, convert
from features.node_data.section_patches import SectionPatches
from features.resample import cut, sample_patches
from meshgnn.graph import NodeLocations
from meshgnn.source.sections import SectionStack, read_stack, write_tiff

SIZE, TILE = 1024, 256


def tissue(side: int) -> np.ndarray:
    """[side, side] uint8: cells of 10 px on grey matter, glass around it."""
    rng = np.random.default_rng(0)
    part = ndimage.gaussian_filter(rng.normal(size=(2048, 2048)).astype(np.float32), 3)
    cells = 190 - 60 * np.clip(part / part.std(), 0, 2) + rng.normal(0, 4, part.shape)
    image = np.tile(cells.clip(0, 255).astype(np.uint8), (side // 2048, side // 2048))
    rim = side // 16
    image[:rim] = image[-rim:] = image[:, :rim] = image[:, -rim:] = 243
    return image


def locations(row_px: np.ndarray, column_px: np.ndarray) -> NodeLocations:
    count = len(row_px)
    angle = np.random.default_rng(1).uniform(-180, 180, count)
    return NodeLocations(
        section=np.zeros(count, int), row_px=row_px, column_px=column_px, normal_angle_deg=angle,
        obliqueness_deg=np.zeros(count), residual_mm=np.zeros(count), observed=np.ones(count, bool),
    )  # fmt: skip


def stack_of(folder: Path, file: str) -> SectionStack:
    (folder / "sections.csv").write_text(f"file,index,position_mm,pixel_um,thickness_um,usable\n{file},0,0,1,20,1\n")
    return read_stack(folder, minimum=1)


class Bare:
    """The tiles of a zstd TIFF decoded by hand: offsets at hand, `os.pread`, `imagecodecs.zstd_decode`."""

    def __init__(self, path: Path) -> None:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            self.offsets, self.counts, self.across = page.dataoffsets, page.databytecounts, page.imagewidth // TILE
        self.handle = os.open(path, os.O_RDONLY)

    def tile(self, number: int) -> None:
        imagecodecs.zstd_decode(os.pread(self.handle, self.counts[number], self.offsets[number]), out=TILE * TILE)

    def turned(self, centre: tuple[float, float], angle: float) -> list[int]:
        """Tiles that a turned patch touches."""
        cosine, sine = np.cos(angle), np.sin(angle)
        reach = SIZE / 2 + TILE / 2 * (abs(cosine) + abs(sine))
        middle = np.arange(self.across) * TILE + (TILE - 1) / 2
        down, across = middle[:, None] - centre[0], middle[None, :] - centre[1]
        touched = (abs(down * sine + across * cosine) < reach) & (abs(down * cosine - across * sine) < reach)
        return np.flatnonzero(touched).tolist()

    def tiles(self, numbers: list[int]) -> None:
        for number in numbers:
            self.tile(number)

    def patch(self, corner: tuple[int, int]) -> None:
        """Every tile that a lying patch touches."""
        (top, left), last = corner, SIZE - 1
        for r in range(top // TILE, (top + last) // TILE + 1):
            for c in range(left // TILE, (left + last) // TILE + 1):
                self.tile(r * self.across + c)


def each(work: Callable[[Any], Any], items: Any, threads: int) -> None:
    if threads == 1:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, items):
            pass


def reader(stack: SectionStack, where: NodeLocations, **settings: Any) -> SectionPatches:
    """Patches of the section's own resolution; its grey levels are known (once per section, not per patch)."""
    config = SectionPatches.Config(size_px=SIZE, pixel_um=1.0, **settings)
    data = SectionPatches(config, stack, where)
    data._cache.section(0)
    return data


def read_all(data: SectionPatches, order: np.ndarray, threads: int, together: int = 1) -> None:
    """Patches in this order, every thread into memory of its own."""
    parts = [order[k : k + together] for k in range(0, len(order), together)]
    kept = local()

    def one(part: np.ndarray) -> None:
        if not hasattr(kept, "out"):
            kept.out = np.empty((together, SIZE, SIZE), np.float32)
        data.read_checked(part, kept.out[: len(part)])

    each(one, parts, threads)


def measure(side: int, patches: int, runs: int, threads: int) -> list[dict[str, Any]]:
    rows = []
    rng = np.random.default_rng(2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = tissue(side)
        write_tiff(folder / "s.tif", image, 1.0, tile=TILE)
        stack, bare = stack_of(folder, "s.tif"), Bare(folder / "s.tif")
        corners = rng.integers(side // 16, side - side // 16 - SIZE, (patches, 2))
        where = locations(*(corners.T + (SIZE - 1) / 2))
        order = np.arange(patches)
        lying = {"upright": False, "values": "grey", "cache_mb": 4.0}

        def add(name: str, what: str, call: Callable[[], Any], peer: Callable[[], Any], count: int, text: str) -> None:
            found = row(name, *(count / s for s in paired(call, peer, runs)), text, "patches/s")
            rows.append(found | {"patches": what, "threads": threads})

        angles = np.radians(where.normal_angle_deg).tolist()
        turned = [bare.turned((y, x), a) for y, x, a in zip(where.row_px.tolist(), where.column_px.tolist(), angles)]

        def by_patch() -> None:
            each(bare.patch, corners.tolist(), threads)

        def by_turned_patch() -> None:
            each(bare.tiles, turned, threads)

        text = "bare decoding of the tiles of each patch"
        for what, settings in (
            ("lying, grey", lying), ("lying, density", lying | {"values": "density"}),
            ("lying, grey, cache of 256 MB", lying | {"cache_mb": 256.0}),
            ("upright, density", lying | {"values": "density", "upright": True}),
        ):  # fmt: skip
            data = reader(stack, where, **settings)
            add(
                "patch_random",
                what,
                lambda d=data: read_all(d, order, threads),
                by_turned_patch if settings.get("upright") else by_patch,
                patches,
                text,
            )
        steps = np.arange(SIZE // 2, side - SIZE // 2 + 1, SIZE)
        grid = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2) - 0.5
        whole = locations(*grid.T)

        def every_tile() -> None:
            each(bare.tile, range((side // TILE) ** 2), threads)

        text, kept = "every tile decoded once", {"cache_mb": 64.0}  # two rows of patches
        for what, settings in (
            ("lying, grey", {"upright": False, "values": "grey"}), ("lying, density", {"upright": False}),
            ("upright, density", {}),
        ):  # fmt: skip
            add(
                "patch_section",
                what,
                lambda s=settings: read_all(reader(stack, whole, **kept, **s), np.arange(len(grid)), threads),
                every_tile,
                len(grid),
                text,
            )
        rows += floors(data, bare, runs)
        rows += by_zarr(folder, stack, where, runs, threads)
    return rows


def floors(data: SectionPatches, bare: Bare, runs: int) -> list[dict[str, Any]]:
    """What a patch costs when its pixels are decoded already, against decoding as many pixels: the limit of reading."""
    window = np.random.default_rng(0).integers(0, 256, (2 * SIZE, 2 * SIZE)).astype(np.uint8)
    place, out = np.array([SIZE - 0.3]), np.empty((1, SIZE, SIZE), np.float32)
    section = data._cache.section(0)

    def turn() -> None:
        angle = np.array([0.7])
        sample_patches(window, place, place, angle, 1.0, (0, 0, 2 * SIZE, 2 * SIZE), 0.0, out)

    def dense() -> None:
        data._values(out, section)

    rows = []
    for what, call in (
        ("grey to float alone", lambda: cut(window, 0, 0, 1 / 255, out[0], 0, 0, SIZE, SIZE)),
        ("interpolation alone", turn), ("density alone", dense),
    ):  # fmt: skip
        seconds = paired(lambda c=call: [c() for _ in range(20)], lambda: bare.tiles([100] * 320), runs)
        found = row("patch_floor", *(20 / s for s in seconds), "decoding as many pixels", "patches/s")
        rows.append(found | {"patches": what, "threads": 1})
    return rows


def changes(runs: int) -> list[dict[str, Any]]:
    """Changes of one patch on the CPU on one thread, compiled, against the same by torch."""
    rows = []
    every = PatchAugment.Config(rotation_deg=180, thickness=0.1, elastic_px=8, blur_px=2)
    for size in (128, 512, 2048):
        patch = torch.rand(1, size, size, generator=torch.manual_seed(0))
        for what, config in (("default", PatchAugment.Config()), ("all changes", every)):
            augment = config.build()
            draw = {name: torch.from_numpy(values) for name, values in augment.draws(0, 0, 1).items()}
            many = max(1, 512 // size)

            def called(change: Any, p: torch.Tensor = patch, d: Any = draw, n: int = many) -> Any:
                return lambda: [change(p, d) for _ in range(n)]

            times = (1e3 * s / many for s in paired(called(augment._compiled), called(augment._by_torch), runs))
            ms, by_torch = times
            found = row("augmentation", ms, by_torch, "the same by torch", "ms")
            rows.append(found | {"ratio": round(by_torch / ms, 1), "patches": f"{size} px, {what}", "threads": 1})
    return rows


def by_zarr(
    folder: Path, stack: SectionStack, where: NodeLocations, runs: int, threads: int
) -> list[dict[str, Any]]:  # fmt: skip
    """The same image as sharded OME-Zarr (zstd), read by us and by zarr-python; nothing where that is not there."""
    try:
        import zarr
    except ImportError:
        return []
    convert(ConvertJob(stack=stack.folder, format="zarr", tile=TILE), folder / "zarr")
    array = zarr.open_group(str(folder / "zarr" / "s.ome.zarr"), mode="r")["0"]
    data = reader(read_stack(folder / "zarr", minimum=1), where, upright=False, values="grey", cache_mb=4.0)
    first = np.stack([where.row_px, where.column_px], 1).astype(int) - SIZE // 2 + 1

    def theirs(corner: list[int]) -> Any:
        return array[corner[0] : corner[0] + SIZE, corner[1] : corner[1] + SIZE].astype(np.float32) * (1 / 255)

    order = np.arange(len(first))
    times = paired(lambda: read_all(data, order, threads), lambda: each(theirs, first.tolist(), threads), runs)
    found = row("patch_zarr", *(len(first) / s for s in times), "zarr-python, same shards", "patches/s")
    return [found | {"patches": "lying, grey", "threads": threads}]
