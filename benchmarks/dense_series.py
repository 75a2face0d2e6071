"""Memory and time of a dense series: thousands of sections of 8,000 x 10,000 px, generated when they are read.

Two folded ellipsoids of the size of hemispheres, cut every 20 um into sections of 160 x 200 mm at 20 um per pixel, with
a coarser level of 200 um in their pyramid, as scanners write it; each section shifted (0.8 mm sd), turned (1.5 degrees
sd), stained differently, and now and then torn. Nothing of it lies on disk. Steps from tissue to nodes on sections run
in a process of their own per row, with other numbers of sections over the same brain.

python benchmarks/dense_series.py [--sections 925 1850 3700 7400] [--json FILE]
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402

LENGTH_MM = 148.0
SHAPE, PIXEL_UM, FACTOR = (8000, 10_000), 20.0, 10
BLANK = 235


def level(x: Any, y: float, z: Any) -> Any:
    """Signed level in mm (negative inside) of two folded ellipsoids left and right of x = 0."""
    side = np.abs(x) - 36
    radius = np.sqrt((side / 32) ** 2 + (y / 72) ** 2 + (z / 48) ** 2)
    fold = (
        np.sin(side / 3.6) * np.sin(y / 4.4) + np.sin(y / 4.0) * np.sin(z / 4.2) + np.sin(z / 3.8) * np.sin(side / 4.6)
    )
    return (radius - 1) * 42 + 2.2 * fold


def pose(index: int) -> tuple[float, np.ndarray[Any, Any], float]:
    """Turn (radians), shift [2] in mm and stain of a section."""
    rng = np.random.default_rng([7, index])
    return (
        np.radians(1.5) * rng.standard_normal(),
        0.8 * rng.standard_normal(2),
        float(np.exp(0.1 * rng.standard_normal())),
    )


def draw(index: int, position: float) -> np.ndarray[Any, Any]:
    """The section at its coarser level."""
    turn, shift, stain = pose(index)
    step = PIXEL_UM * FACTOR / 1000
    rows, columns = (np.float32((np.arange(n // FACTOR) - (n // FACTOR - 1) / 2) * step) for n in SHAPE)
    down, across = rows[:, None] - np.float32(shift[0]), columns[None] - np.float32(shift[1])
    c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
    x, z = s * down + c * across, -(c * down - s * across)
    value = level(x, position, z)
    density = np.where(value > 0, 0, np.where(value > -2.6, 0.55, 0.2)) * stain
    rng = np.random.default_rng([8, index])
    if rng.random() < 0.1:  # torn: a wedge is missing
        angle = rng.uniform(0, 2 * np.pi)
        density[
            (across * np.cos(angle) + down * np.sin(angle) > 20)
            & (np.abs(across * np.sin(angle) - down * np.cos(angle)) < 4)
        ] = 0
    return np.uint8(np.clip(BLANK * np.exp(-density) + 3 * rng.standard_normal(density.shape, np.float32), 0, 255))


def run(count: int, every: float) -> dict[str, Any]:
    """All steps on so many sections; seconds, memory and errors."""
    from meshgnn.source.section_image import Level, SectionImage, level_of
    from meshgnn.source.sections import Section, SectionStack
    from reconstruct import density
    from reconstruct.records import SectionPlaces
    from reconstruct.steps.align import AlignSections
    from reconstruct.steps.hemispheres import SplitHemispheres
    from reconstruct.steps.locate import LocateNodes
    from reconstruct.steps.midsurface import ExtractMidsurface
    from reconstruct.steps.stack import StackSections
    from reconstruct.steps.tissue import ClassifyTissue

    class Generated(SectionImage):
        """A section that is drawn when its coarser level is read."""

        dtype = np.dtype(np.uint8)

        def __init__(self, section: Section) -> None:
            super().__init__(section.path)
            self.section = section
            coarse = (SHAPE[0] // FACTOR, SHAPE[1] // FACTOR)
            full = Level(shape=SHAPE, factor=(1.0, 1.0), origin=(0.0, 0.0), tile_shape=(512, 512))
            self.levels = (full, level_of(SHAPE, coarse, coarse))

        def blocks(self, level: int, top: int, bottom: int, left: int, right: int) -> Any:
            if level != 1:
                raise NotImplementedError("only the coarser level is drawn")
            yield 0, 0, draw(self.section.index, self.section.position_mm)

        def close(self) -> None:
            """Nothing is open."""

    density.open_section = lambda section: Generated(section)  # type: ignore[assignment]
    positions = (np.arange(count) + 0.5) * (LENGTH_MM / count) - LENGTH_MM / 2
    stack = SectionStack(space="bench", sections=tuple(
        Section(path=Path(f"s{k:05d}.tif"), index=k, position_mm=float(at), pixel_um=PIXEL_UM, thickness_um=20.0,
                shape=SHAPE)
        for k, at in enumerate(positions)
    ))  # fmt: skip
    seconds: dict[str, float] = {}

    def timed(name: str, work: Any) -> Any:
        begun = time.perf_counter()
        result = work()
        seconds[name] = round(time.perf_counter() - begun, 1)
        return result

    with tempfile.TemporaryDirectory() as folder:
        tissue = timed("tissue", lambda: ClassifyTissue.Config(every_mm=every).build()(stack, folder=Path(folder)))
        disk = sum(path.stat().st_size for path in Path(folder).rglob("*"))
    alignment = timed("align", lambda: AlignSections.Config().build()(tissue))
    ribbon = timed("stack", lambda: StackSections.Config().build()(tissue, alignment, "coronal", "bench"))
    half = SplitHemispheres.Config().build()(ribbon)[0]
    surface = timed("midsurface", lambda: ExtractMidsurface.Config().build()(half))
    places = SectionPlaces.of(tissue, alignment)
    drawn = tuple(range(0, count, max(1, count // 60)))
    spots = timed(
        "locate",
        lambda: LocateNodes.Config().build()(surface, stack, places, drawn),
    )
    own = resource.getrusage(resource.RUSAGE_SELF)
    points = surface.mesh.vertices_mm.astype(np.float64)
    off = level(points[:, 0], points[:, 1], points[:, 2]) + 1.3
    return {
        "sections": count, "entries": len(tissue.index), "seconds": seconds,
        "processor_s": round(own.ru_utime + own.ru_stime, 1), "peak_gb": round(own.ru_maxrss / 2**20, 2),
        "slabs_on_disk_mb": round(disk / 1e6, 1), "euler": int(surface.report["euler_number"]),
        "level_off_mm": round(float(np.abs(off[surface.cortex]).mean()), 3),
        "nodes": len(points), "nodes_on_60_annotated": int(np.isin(spots.section, drawn).sum()),
        "glass_mm": [round(v, 3) for v in alignment.glass_mm],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", type=int, nargs="+", default=[925, 1850, 3700, 7400])
    parser.add_argument("--every", type=float, default=0.25, help="tissue.every_mm")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(run(asked.one, asked.every)))
        return
    rows = []
    for count in asked.sections:
        command = [sys.executable, __file__, "--one", str(count), "--every", str(asked.every)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        rows.append(json.loads(done.stdout.strip().splitlines()[-1]))
        print(json.dumps(rows[-1]), flush=True)
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
