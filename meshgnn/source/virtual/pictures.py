"""Pictures of the virtual brain for the documentation, small enough for a repository.

    python -m meshgnn.source.virtual.pictures docs/images [--seed 1]

virtual_section.png      a coronal section of the default brain at 50 um per px and its areas (shown at 200 um)
virtual_layers.png       striate and motor cortex at 50 um per px, each pixel as scanned
virtual_fields.png       V1 beside area 4 at 2 um per px, cell by cell
virtual_border.png       the border between V1 and V2 at 2 um per px
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from meshgnn.optional import need
from meshgnn.source.virtual.annotate import KEYS, area_table
from meshgnn.source.virtual.areas import NAMES
from meshgnn.source.virtual.generator import VirtualBrain
from meshgnn.source.virtual.highres import HighRes

Image = npt.NDArray[np.uint8]


def section_with_areas(brain: VirtualBrain, coarse: int = 4) -> Image:
    """RGB: a section through the middle third, and its true areas."""
    cut = brain.cuts[int(len(brain.cuts) * 0.46)]
    picture = brain.picture(cut)
    rows, columns = (size // coarse * coarse for size in picture.image.shape)
    small = picture.image[:rows, :columns].reshape(rows // coarse, coarse, columns // coarse, coarse).mean((1, 3))
    keys = KEYS[picture.canvas.label][:rows:coarse, :columns:coarse]
    colours = np.array([[0, 0, 0]] + [row["colour"][:3] for row in area_table()]) * 255
    grey = np.repeat(small[:, :, None], 3, axis=2)
    coloured = np.where(keys[:, :, None] > 0, 0.35 * grey + 0.65 * colours[keys], grey)
    return _crop(np.concatenate([grey, coloured], axis=1).round().astype(np.uint8))


def layers(brain: VirtualBrain, size: int = 360) -> Image:
    """Grey: the window with most of V1 and the one with most of area 4, out of every fourth section."""
    tiles = []
    for name in ("V1", "4"):
        best: tuple[int, Any] = (0, None)
        for cut in brain.cuts[::4]:
            slices = brain.slices(cut)
            canvas = brain.paint(cut, slices)
            label = canvas.label == NAMES.index(name)
            # Layers show where the cut runs across them: depth changes fast in the plane.
            down, across = np.gradient(np.where(canvas.depth < 0, np.nan, canvas.depth))
            steep = np.hypot(down, across) * 1000 / brain.settings.pixel_um
            label &= (steep > 0.3) & (steep < 0.6)
            total = np.pad(label.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
            sums = total[size:, size:] - total[:-size, size:] - total[size:, :-size] + total[:-size, :-size]
            if sums.max() > best[0]:
                best = int(sums.max()), (cut, np.unravel_index(int(sums.argmax()), sums.shape))
        cut, (row, column) = best[1]
        tiles.append(brain.picture(cut).image[row : row + size, column : column + size])
    return _beside(tiles)


def fields(brain: VirtualBrain) -> tuple[Image, Image]:
    """Grey: V1 next to area 4; the border of V1 and V2."""
    one, two = (HighRes.Config(area=name, width_mm=0.7).build().field(brain).image for name in ("V1", "4"))
    border = HighRes.Config(area="V1", neighbour="V2", width_mm=1.4).build().field(brain).image
    return _beside([one, two]), border


def _crop(image: Image) -> Image:
    """The picture without rows and columns of background (as bright as the corner), but for a small margin."""
    tissue = (np.abs(image[:, : image.shape[1] // 2].astype(int) - int(image[0, 0, 0])) > 8).any(2)
    rows = np.flatnonzero(tissue.any(1))
    return image[max(0, rows[0] - 8) : rows[-1] + 8]


def _beside(tiles: list[Image], gap: int = 6) -> Image:
    height = max(tile.shape[0] for tile in tiles)
    padded = [np.pad(t, ((0, height - t.shape[0]), (0, gap)), constant_values=255) for t in tiles]
    return np.concatenate(padded, axis=1)[:, :-gap]


def save(path: Path, image: Image) -> None:
    """PNG with few grey levels or colours, so that grain does not fill the repository."""
    Pillow = need("PIL.Image", "pillow")

    if image.ndim == 2:
        picture = Pillow.fromarray((image // 6 * 6 + 3).astype(np.uint8))
    else:
        picture = Pillow.fromarray(image).quantize(160, dither=Pillow.Dither.NONE)
    picture.save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures of the virtual brain.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    brain = VirtualBrain.Config(seed=arguments.seed, preset="default").build()
    save(arguments.folder / "virtual_section.png", section_with_areas(brain))
    save(arguments.folder / "virtual_layers.png", layers(brain))
    one, two = fields(brain)
    save(arguments.folder / "virtual_fields.png", one)
    save(arguments.folder / "virtual_border.png", two)


if __name__ == "__main__":
    main()
