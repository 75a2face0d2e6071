"""The second regime: fields of a few mm^2 at 1-2 um per pixel, cell by cell.

A field is a flat piece of cortex, pia on top, white matter below: a point process of cell bodies (density and size per
layer from the brain's own profile of the area), gathered in minicolumns, with vessels between them. Every cell is
known. Absolute figures are approximations (A): 1600 neurons and 800 glia per mm^2 in layer III of ordinary cortex in a
20 um section, minicolumns 45 um apart, 12 Betz cells per mm^2 of layer V of area 4 with bodies of 500-1800 um^2,
vessels 6-40 um wide.
"""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numba
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.source.sections import write_tiff
from meshgnn.source.virtual.areas import NAMES
from meshgnn.source.virtual.cells import BETZ, KINDS, PYRAMID, ROUND, SPINDLE, WALL, Frame, draw_vessels, scatter
from meshgnn.source.virtual.fields import Floats, stream

if TYPE_CHECKING:
    from meshgnn.source.virtual.brain import Brain
    from meshgnn.source.virtual.laminae import Cortex


@dataclass(frozen=True, kw_only=True, eq=False)
class Field:
    """A rendered field.

    Args:
        image: [rows, columns] uint8.
        layers: [rows, columns] uint8: 0 glass, 1-6 layers, 7 white matter.
        cells: [N, 5] float64: column_um, row_um, area_um2, layer, kind (index into KINDS).
        pixel_um: of both images.
        areas: the area, or the areas left and right of the border.
        thickness_um: of the cortex.
    """

    image: npt.NDArray[np.uint8]
    layers: npt.NDArray[np.uint8]
    cells: Floats
    pixel_um: float
    areas: tuple[str, ...]
    thickness_um: float

    def write(self, folder: Path, name: str) -> Path:
        """Write NAME.tif, NAME_layers.tif, NAME_cells.csv and NAME.json into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_tiff(folder / f"{name}.tif", self.image, self.pixel_um)
        write_tiff(folder / f"{name}_layers.tif", self.layers, self.pixel_um)
        with (folder / f"{name}_cells.csv").open("w", newline="", encoding="utf-8") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(["column_um", "row_um", "area_um2", "layer", "kind"])
            writer.writerows([*(f"{v:.1f}" for v in row[:3]), int(row[3]), KINDS[int(row[4])]] for row in self.cells)
        record = {"areas": self.areas, "pixel_um": self.pixel_um, "thickness_um": round(self.thickness_um, 1)}
        (folder / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        return folder / f"{name}.tif"


class HighRes:
    """Draws fields from a virtual brain."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            area: name of an area of the layout.
            neighbour: a second area to its right, with the border in the middle.
            hemisphere: whose profile.
            number: of the field; other numbers are other places.
            width_mm, pixel_um: of the picture.
            border_mm: width of the transition to `neighbour`.
        """

        moved: ClassVar[dict[str, str]] = {"beside": "neighbour"}

        area: str = "V1"
        neighbour: str | None = None
        hemisphere: str = "L"
        number: int = 0
        width_mm: float = 1.2
        pixel_um: float = 2.0
        border_mm: float = 0.3

        def __post_init__(self) -> None:
            for name in (self.area, self.neighbour):
                if name is not None and name not in NAMES:
                    raise SettingError(
                        f"<area> and <neighbour>: no area is named {name!r}; areas are {', '.join(NAMES)}"
                    )
            if not 0.5 <= self.pixel_um <= 5:
                raise SettingError(f"<pixel_um> must lie between 0.5 and 5, got {self.pixel_um}")
            if not 0.1 <= self.width_mm <= 10:
                raise SettingError(f"<width_mm> must lie between 0.1 and 10, got {self.width_mm}")

        def build(self) -> "HighRes":
            return HighRes(self)

    def __init__(self, config: "HighRes.Config") -> None:
        self.config = config

    def field(self, brain: "Brain") -> Field:
        """Draw the field; the same brain and config give the same bytes (`masked` concerns sections, not fields)."""
        config = self.config
        cortex = next((c for c in brain.hemispheres if c.hemisphere.name == config.hemisphere), None)
        if cortex is None:
            raise InputError(f"high resolution: the brain has no hemisphere {config.hemisphere!r}")
        names = (config.area,) if config.neighbour is None else (config.area, config.neighbour)
        numbers = [NAMES.index(name) for name in names]
        rng = stream(brain.seed, "highres", config.hemisphere, *numbers, config.number)
        labels = cortex.labels()
        hemi = cortex.hemisphere
        thick = np.sqrt(((hemi.pial_mm - hemi.white_mm) ** 2).sum(1)) * 1000
        at = [labels == k for k in numbers]
        thickness = float(np.mean([np.median(thick[one]) if one.any() else 2500.0 for one in at]))
        thickness = float(np.clip(thickness, 1500, 4500))
        width_um = config.width_mm * 1000
        shares = []
        for k, one in zip(numbers, at):
            places = np.flatnonzero(one)
            stretch = cortex.stretch[places[rng.integers(len(places))]] if len(places) else np.ones(6)
            # A place with layers as the area has them, not one where a layer is all but lost.
            share = cortex.profiles.share[k] * np.clip(stretch, 0.75, 1.35)
            shares.append(share / share.sum())
        return drawn_field(
            brain, cortex, rng, numbers, shares, thickness_um=thickness, width_um=width_um, pixel_um=config.pixel_um,
            tau_um=config.border_mm * 1000 / 2.2 if len(names) == 2 else 0.0,
        )  # fmt: skip


def drawn_field(
    brain: "Brain", cortex: "Cortex", rng: np.random.Generator, numbers: list[int], shares: list[Floats], *,
    thickness_um: float, width_um: float, pixel_um: float, tau_um: float = 0.0,
) -> Field:  # fmt: skip
    """A field of one area, or of two with a border in the middle.

    Args:
        cortex: whose profiles.
        rng: of everything that is drawn.
        numbers: of the areas.
        shares: of each, [6] layers' shares of the depth.
        tau_um: width of the logistic border.
    """
    frame = Frame(
        width_um=width_um,
        thickness_um=thickness_um,
        wave=(float(rng.uniform(10, 35)), float(rng.uniform(0, 6)), float(rng.uniform(0.5, 1.5))),
        tau_um=tau_um,
    )
    cells = scatter(rng, frame, numbers, shares, cortex.density, cortex.size_um2, cortex.profiles.prototype)
    vessels = draw_vessels(rng, frame)
    shape = (int(np.ceil(frame.height_um / pixel_um)), int(np.ceil(width_um / pixel_um)))
    image, drawn = _render(rng, frame, cells, vessels, shape, pixel_um, brain.settings.thickness_um)
    rows, columns = np.mgrid[: shape[0], : shape[1]] * pixel_um
    return Field(
        image=image,
        layers=frame.layer(columns, rows, shares),
        cells=drawn,
        pixel_um=pixel_um,
        areas=tuple(NAMES[k] for k in numbers),
        thickness_um=thickness_um,
    )


@numba.njit(cache=True, nogil=True)
def _stamp_cells(cells, pixel, density, drawn):  # pragma: no cover
    rows, columns = density.shape
    for n in range(cells.shape[0]):
        x, y, area, kind = cells[n, 0] / pixel, cells[n, 1] / pixel, cells[n, 2], int(cells[n, 4])
        angle, aspect, stain, blur = cells[n, 5], cells[n, 6], cells[n, 7], cells[n, 8] / pixel
        radius = np.sqrt(area / np.pi) / pixel
        half = radius / np.sqrt(aspect)  # across
        tall = radius * np.sqrt(aspect)
        ci, cj = int(np.rint(y)), int(np.rint(x))
        if ci < 0 or cj < 0 or ci >= rows or cj >= columns:
            continue
        # Bodies rarely overlap, even in a thick section.
        if kind != 5 and density[ci, cj] > 0.45:
            continue
        drawn[n] = True
        soft = max(0.6, blur)
        reach = int(tall * (2.6 if kind in (1, 4) else 1.2) + 3 * soft) + 2
        c, s = np.cos(angle), np.sin(angle)
        for i in range(max(0, ci - reach), min(rows, ci + reach + 1)):
            for j in range(max(0, cj - reach), min(columns, cj + reach + 1)):
                dx, dy = j - x, i - y
                u = -(dy * c - dx * s)  # towards the pia
                v = dx * c + dy * s
                w = half
                end = tall
                if kind in (1, 4):  # a drop: broad base, apical dendrite fading towards the pia
                    t = (u + tall) / (3.0 * tall)
                    w = half * 1.25 * (1 - 0.82 * min(1.0, max(0.0, t * 1.35)) ** 0.8)
                    end = tall * 2.0 if u > 0 else tall
                    if u < -0.4 * tall:
                        w *= np.sqrt(max(0.0, 1 - ((u + 0.4 * tall) / (0.6 * tall)) ** 2))
                elif abs(u) < tall:
                    w = half * np.sqrt(1 - (u / tall) ** 2)
                else:
                    w = 0.0
                far = (
                    max(abs(v) - w, abs(u) - end) if w > 0 else np.sqrt(u * u / (aspect * aspect) + v * v) - half * 0.9
                )
                cover = 0.5 - far / (2 * soft)
                cover = min(1.0, max(0.0, cover))
                if cover <= 0:
                    continue
                depth = stain
                if kind in (1, 4) and u > tall:
                    depth *= max(0.0, 1 - (u - tall) / tall) * 0.7
                size = radius * pixel
                if size > 4.6:  # a pale nucleus with its nucleolus
                    inner = np.sqrt(u * u + v * v) / (half * 0.62)
                    if inner < 1:
                        depth *= 0.8
                    if inner < 0.28:
                        depth = stain * 1.05
                value = depth * cover
                if value > density[i, j]:
                    density[i, j] = value
                else:
                    density[i, j] += 0.15 * value


@numba.njit(cache=True, nogil=True)
def _stampdraw_vessels(pieces, pixel, lumen):  # pragma: no cover
    rows, columns = lumen.shape
    for n in range(pieces.shape[0]):
        x, y, radius = pieces[n, 0] / pixel, pieces[n, 1] / pixel, pieces[n, 3] / 2 / pixel
        reach = int(radius + 3)
        for i in range(max(0, int(y) - reach), min(rows, int(y) + reach + 2)):
            for j in range(max(0, int(x) - reach), min(columns, int(x) + reach + 2)):
                far = np.sqrt((i - y) ** 2 + (j - x) ** 2) - radius
                cover = pieces[n, 4] * min(1.0, max(0.0, 0.5 - far / 1.6))
                if cover > lumen[i, j]:
                    lumen[i, j] = cover


def _render(
    rng: np.random.Generator,
    frame: Frame,
    cells: Floats,
    vessels: Floats,
    shape: tuple[int, int],
    pixel: float,
    section_um: float,
) -> tuple[npt.NDArray[np.uint8], Floats]:
    """The picture [rows, columns] and the cells drawn [N, 5]."""
    lumen = np.zeros(shape)
    _stampdraw_vessels(vessels, pixel, lumen)
    if len(vessels):
        # Flat nuclei of the vessel wall.
        some = vessels[(vessels[:, 3] > 6) & (rng.uniform(size=len(vessels)) < 0.12)]
        side = np.where(rng.uniform(size=len(some)) < 0.5, 1, -1) * (some[:, 3] / 2 + 1)
        one = np.ones(len(some))
        wall = np.c_[some[:, 0] - np.sin(some[:, 2]) * side, some[:, 1] + np.cos(some[:, 2]) * side, one * 14, one * 0,
                     one * WALL, some[:, 2] - np.pi / 2, one * 3.5, one * 0.9, one * 0.8]  # fmt: skip
        clear = ndimage.maximum_filter(lumen, max(1, round(7 / pixel)))
        row = np.clip((cells[:, 1] / pixel).astype(int), 0, shape[0] - 1)
        column = np.clip((cells[:, 0] / pixel).astype(int), 0, shape[1] - 1)
        cells = np.concatenate([cells[(clear[row, column] < 0.2)], wall])
    density = np.zeros(shape)
    drawn = np.zeros(len(cells), bool)
    _stamp_cells(cells, pixel, density, drawn)
    rows, columns = np.mgrid[: shape[0], : shape[1]] * pixel
    depth = frame.depth(columns, rows)
    tissue = np.clip(0.5 + depth * frame.thickness_um / (2 * pixel), 0, 1)
    grain = ndimage.gaussian_filter(rng.standard_normal(shape), 1.2 / pixel + 0.4)
    grain /= grain.std()
    wide = ndimage.gaussian_filter(rng.standard_normal(shape), 20 / pixel)
    wide /= wide.std()
    neuropil = 0.10 + 0.015 * grain + 0.012 * wide + 0.03 * np.clip((depth - 0.97) / 0.06, 0, 1)
    optical = (np.maximum(neuropil, 0.02) + 1.15 * density * (section_um / 20) ** 0.3) * tissue * (1 - 0.93 * lumen)
    optical = ndimage.gaussian_filter(optical, 0.5)
    image = np.clip(np.round(243 * np.exp(-optical)), 0, 255).astype(np.uint8)
    image[tissue <= 0] = 243
    return image, cells[drawn][:, :5]


def describe(field: Field) -> dict[int, dict[str, float]]:
    """Cells per mm^2 and mean size by layer of a field: what a judge compares with the profile."""
    table = {}
    for layer in range(1, 7):
        mine = (field.cells[:, 3] == layer) & np.isin(field.cells[:, 4], (ROUND, PYRAMID, SPINDLE, BETZ))
        mm2 = (field.layers == layer).sum() * (field.pixel_um / 1000) ** 2
        table[layer] = {
            "neurons_per_mm2": round(float(mine.sum() / mm2), 1) if mm2 else 0.0,
            "size_um2": round(float(field.cells[mine, 2].mean()), 1) if mine.any() else 0.0,
        }
    return table


__all__ = ["KINDS", "Field", "HighRes", "describe", "drawn_field"]
