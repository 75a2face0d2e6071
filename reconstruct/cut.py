"""Sections cut through maps of grey and white matter, or through a surface pair: a stack folder with its truth.

For developers of methods: a brain of their own becomes a series that looks cell-stained, each section with a pose of
its own on the glass, some lost, some torn, under a lamp that may stand off centre. What was cut lies in `truth/` and
judges a reconstruction; nothing else reads it.

    sections.csv, section_0012.tif      see `meshgnn.source.sections`; numbers of lost sections are absent
    truth/cut.json                      settings; centre_mm; per section its pose, to_reference [3, 3], torn or not
    truth/grey.nii.gz, white.nii.gz     the maps, in their own space ("reference")
    truth/sub-NAME_hemi-L_{white,pial,midthickness}.surf.gii     surfaces, in the stack's space, if they were cut

A point of the reference lies at reference - centre_mm in the stack's space; `to_reference` takes (column_px, row_px, 1)
of a section straight to mm (RAS) of the reference.
"""

import csv
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn import config
from meshgnn.errors import InputError, SettingError
from meshgnn.export.gifti import write_surface
from meshgnn.source.sections import AXES, NEEDED, TABLE, Plane, write_tiff
from meshgnn.source.virtual.surroundings import lamp
from meshgnn.store import write_json
from reconstruct.tissue_maps import TissueMaps

Floats = NDArray[np.float64]
GLASS = 240.0


@dataclass(frozen=True, kw_only=True)
class Cutting(config.Config):
    """How a brain is cut, mounted, stained and scanned.

    Args:
        plane: of the cut.
        pixel_um: side of a pixel.
        spacing_mm: distance between sections.
        thickness_um: of a section, for the table; sections are cut infinitely thin.
        jitter_mm, jitter_deg: sd of shift (each way) and turn with which a section lies on its glass.
        missing: share of sections that are lost.
        torn: share of sections of which a part is torn off and lies a little away, turned.
        tear_mm: by how much at most.
        light: darkening of a section's image towards its farthest corner, as a share.
        stain_sd: sd of the (log) strength of the stain from section to section.
        grey_density, white_density: optical density of grey and of white matter.
        noise: sd of grey values.
        seed: of all draws.
    """

    plane: Plane = "coronal"
    pixel_um: float = 200.0
    spacing_mm: float = 2.0
    thickness_um: float = 20.0
    jitter_mm: float = 1.5
    jitter_deg: float = 1.5
    missing: float = 0.0
    torn: float = 0.0
    tear_mm: float = 2.0
    light: float = 0.0
    stain_sd: float = 0.08
    grey_density: float = 0.6
    white_density: float = 0.2
    noise: float = 2.0
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("pixel_um", "spacing_mm", "thickness_um", "grey_density", "white_density"):
            if not getattr(self, name) > 0:
                raise SettingError(f"<{name}> must be above 0, got {getattr(self, name)}")
        for name in ("jitter_mm", "jitter_deg", "tear_mm", "stain_sd", "noise", "seed"):
            if not getattr(self, name) >= 0:
                raise SettingError(f"<{name}> must not be negative, got {getattr(self, name)}")
        for name, most in (("missing", 0.5), ("torn", 1.0), ("light", 0.3)):
            if not 0 <= getattr(self, name) <= most:
                raise SettingError(f"<{name}> must lie between 0 and {most:g}, got {getattr(self, name)}")
        if self.grey_density <= self.white_density:
            raise SettingError("<grey_density> must be above <white_density>: cells stain")


@dataclass(frozen=True, kw_only=True)
class Rip:
    """A part of a section, beyond a line on the glass, that lies away and turned; glass between.

    Args:
        place_mm: [2] (column, row) on the line, from the middle of the frame.
        normal_deg: direction of the torn part, from the column axis.
        gap_mm: how far it was drawn away along the normal.
        turn_deg: by how much it was turned about the place.
    """

    place_mm: tuple[float, float]
    normal_deg: float
    gap_mm: float
    turn_deg: float

    def tissue_of(self, points: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Where the tissue at points [..., 2] on the glass lay before it tore, and which points show glass."""
        angle, turn = np.radians(self.normal_deg), np.radians(self.turn_deg)
        normal, place = np.array([np.cos(angle), np.sin(angle)]), np.array(self.place_mm)
        moved = points - place - self.gap_mm * normal
        c, s = np.cos(turn), np.sin(turn)
        moved = moved @ np.array([[c, s], [-s, c]]).T + place
        own = (points - place) @ normal
        beyond = (moved - place) @ normal
        # Where both parts would lie, the one below the line stays on top.
        torn = (own > 0) & (beyond > 0)
        return np.where(torn[..., None], moved, points), (own > 0) & ~torn


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How one section came to lie: index, position_mm (reference), shift (column, row) in mm, turn, stain, rip."""

    index: int
    position_mm: float
    shift_mm: tuple[float, float]
    turn_deg: float
    stain: float
    lost: bool
    rip: Rip | None


class Knife:
    """Maps and how they are cut: where every section lies and what it looks like.

    Args:
        maps: what is cut.
        cutting: how.

    Raises:
        InputError: no tissue, or too few or too large sections.
    """

    def __init__(self, maps: TissueMaps, cutting: Cutting) -> None:
        self.maps, self.cutting = maps, cutting
        self.column, self.row, self.along = AXES[cutting.plane]
        low, high = maps.extent_mm()
        middle = (low + high) / 2
        self.centre_mm = middle - self.along * (middle @ self.along)
        ends = sorted((float(low @ self.along), float(high @ self.along)))
        count = int(np.floor((ends[1] - ends[0]) / cutting.spacing_mm))
        if not 4 <= count <= 20000:
            raise InputError(
                f"{maps.space}: {ends[1] - ends[0]:.3g} mm of tissue give {count} sections every "
                f"{cutting.spacing_mm:g} mm; set cutting.spacing_mm (4 to 20000 sections)"
            )
        first = (ends[0] + ends[1] - (count - 1) * cutting.spacing_mm) / 2
        size = np.array([abs((high - low) @ self.row), abs((high - low) @ self.column)])
        margin = 0.05 * size.max() + 3 * cutting.jitter_mm + (cutting.tear_mm if cutting.torn else 0)
        rows, columns = np.ceil((size + 2 * margin) * 1000 / cutting.pixel_um)
        self.shape = (int(rows), int(columns))
        if max(self.shape) > 60000:
            raise InputError(f"images of {self.shape[0]} x {self.shape[1]} px are too large; raise cutting.pixel_um")
        rng = np.random.default_rng(cutting.seed)
        self.poses = tuple(self._pose(rng, k, first + k * cutting.spacing_mm, size) for k in range(count))

    def _pose(self, rng: np.random.Generator, index: int, position: float, size: Floats) -> Pose:
        set_ = self.cutting
        shift = np.clip(set_.jitter_mm * rng.standard_normal(2), -3 * set_.jitter_mm, 3 * set_.jitter_mm)
        turn, stain = set_.jitter_deg * rng.standard_normal(), np.exp(set_.stain_sd * rng.standard_normal())
        lost, torn = rng.random(2)
        place = rng.uniform(-0.3, 0.3, 2) * size[::-1]
        rip = Rip(
            place_mm=(float(place[0]), float(place[1])), normal_deg=float(rng.uniform(0, 360)),
            gap_mm=float(rng.uniform(0.25, 1) * set_.tear_mm), turn_deg=float(rng.uniform(-1, 1) * set_.tear_mm),
        )  # fmt: skip
        return Pose(
            index=index, position_mm=position, shift_mm=(float(shift[0]), float(shift[1])), turn_deg=float(turn),
            stain=float(stain), lost=bool(lost < set_.missing), rip=rip if torn < set_.torn else None,
        )  # fmt: skip

    def to_reference(self, pose: Pose) -> Floats:
        """[3, 3]: (column_px, row_px, 1) of a section -> mm (RAS) of the reference; a rip aside."""
        turn, step = np.radians(pose.turn_deg), self.cutting.pixel_um / 1000
        c, s = np.cos(turn), np.sin(turn)
        back = np.array([[c, s], [-s, c]])  # glass -> plane, (column, row)
        corner = back @ (-step * (np.array(self.shape[::-1]) - 1) / 2 - np.array(pose.shift_mm))
        axes = np.stack([self.column, self.row], axis=1)
        start = axes @ corner + self.centre_mm + self.along * pose.position_mm
        return np.column_stack([axes @ back * step, start])

    def image(self, pose: Pose) -> NDArray[np.uint8]:
        """The scanned section [rows, columns]."""
        set_, step = self.cutting, self.cutting.pixel_um / 1000
        rows, columns = np.indices(self.shape, dtype=np.float64)
        half = (np.array(self.shape) - 1) / 2
        glass = np.stack([(columns - half[1]) * step, (rows - half[0]) * step], axis=-1)
        hidden = np.zeros(self.shape, bool)
        if pose.rip is not None:
            glass, hidden = pose.rip.tissue_of(glass)
        px = glass / step + half[::-1]
        matrix = self.to_reference(pose)
        points = px.reshape(-1, 2) @ matrix[:, :2].T + matrix[:, 2]
        grey, white = self.maps.at(points)
        density = (set_.grey_density * grey + set_.white_density * white).reshape(self.shape)
        density = np.where(hidden, 0, density) * pose.stain
        rng = np.random.default_rng([set_.seed, pose.index])
        light = lamp(self.shape, rng, light=set_.light, seams=0.0, pixel_mm=step)
        shown = GLASS * light * np.exp(-density) + set_.noise * rng.standard_normal(self.shape)
        return np.clip(np.rint(shown), 0, 255).astype(np.uint8)


def write_sections(knife: Knife, folder: Path, done: Callable[[], object], workers: int = 2) -> list[str]:
    """Write images, table and truth into an existing folder, the table last; returns the files, relative to it.

    Args:
        knife: what is cut.
        folder: of the stack.
        done: called after every section.
        workers: threads; the bytes do not depend on them.
    """
    cutting, kept = knife.cutting, [pose for pose in knife.poses if not pose.lost]

    def draw(pose: Pose) -> str:
        name = f"section_{pose.index:04d}.tif"
        write_tiff(folder / name, knife.image(pose), cutting.pixel_um)
        return name

    with ThreadPoolExecutor(max(1, workers)) as pool:
        names = []
        for name in pool.map(draw, kept):
            names.append(name)
            done()
    names += write_truth(knife, folder)
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow([*NEEDED, "plane"])
        writer.writerows(
            [f"section_{pose.index:04d}.tif", pose.index, f"{pose.position_mm:.4f}", f"{cutting.pixel_um:g}",
             f"{cutting.thickness_um:g}", 1, cutting.plane] for pose in kept
        )  # fmt: skip
    return [*names, TABLE]


def write_truth(knife: Knife, folder: Path) -> list[str]:
    """Write `truth/`; returns its files, relative to the stack folder."""
    import nibabel

    truth, maps = folder / "truth", knife.maps
    truth.mkdir(exist_ok=True)
    written = []
    for name in ("grey",) if maps.stained else ("grey", "white"):
        image = nibabel.Nifti1Image((np.clip(getattr(maps, name), 0, 1) * 255).round().astype(np.uint8), maps.affine)
        image.header.set_slope_inter(1 / 255, 0)
        nibabel.save(image, truth / f"{name}.nii.gz")
        written.append(f"truth/{name}.nii.gz")
    stem = "".join(c for c in maps.space if c.isalnum()) or "brain"
    for side, kinds in maps.surfaces.items():
        for kind, mesh in kinds.items():
            name = f"sub-{stem}_hemi-{side}_{kind}.surf.gii"
            write_surface(truth / name, mesh.with_vertices(mesh.vertices_mm - knife.centre_mm))
            written.append(f"truth/{name}")
    record: dict[str, Any] = {
        "format": 1, "reference": maps.space, "stained": maps.stained, "plane": knife.cutting.plane,
        "centre_mm": knife.centre_mm, "shape": list(knife.shape), "cutting": config.to_plain(knife.cutting),
        "sections": [
            {
                **config.to_plain(pose), "to_reference": knife.to_reference(pose),
            }
            for pose in knife.poses
        ],
    }  # fmt: skip
    write_json(truth / "cut.json", record)
    return [*written, "truth/cut.json"]
