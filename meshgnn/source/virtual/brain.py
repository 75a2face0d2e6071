"""The virtual brain: an individual's surfaces and areas, and what its sections show."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from meshgnn.errors import SettingError
from meshgnn.source.sections import AXES
from meshgnn.source.virtual.areas import border_widths_mm, draw_profiles, lay_out, thickness_factors
from meshgnn.source.virtual.artefacts import Blemish, Warp, apply_blemishes, draw_blemishes, lose_part
from meshgnn.source.virtual.cut import OUTSIDE, WHITE, Canvas, Slice, cut, draw, inside, plane_coordinates
from meshgnn.source.virtual.faults import NUCLEI_MM, RADII_MM, draw_bridge, draw_nucleus, plant_bridges
from meshgnn.source.virtual.fields import Floats, stream
from meshgnn.source.virtual.laminae import Cortex, furnish
from meshgnn.source.virtual.render import (
    EVEN_DENSITY,
    SIZE_UM2,
    WHITE_DENSITY,
    WHITE_SIZE_UM2,
    Stain,
    grey,
    optical_density,
)
from meshgnn.source.virtual.settings import Settings
from meshgnn.source.virtual.surfaces import deform, read_template, subdivide
from meshgnn.source.virtual.surroundings import BODIES, body_landmarks, draw_body, draw_meninges, lamp

MARGIN_MM = 6.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Cut:
    """One section to be: where the plane lies and what happens to it.

    Args:
        index: running number over all cuts, lost ones included.
        position_mm: true position; `noted_mm` the one written down.
        fate: "good", "missing" or "damaged".
        warp: plane to glass.
        stain: how it took the stain.
    """

    index: int
    position_mm: float
    noted_mm: float
    fate: str
    warp: Warp
    stain: Stain


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """A rendered section: image [rows, columns] uint8, the truth drawn with it, its blemishes."""

    image: npt.NDArray[np.uint8]
    canvas: Canvas
    blemishes: tuple[Blemish, ...]


class Brain:
    """A brain drawn from a seed, and its sections in memory; `VirtualBrain` adds the config and the files.

    Attributes:
        settings: the resolved knobs.
        space: name of the brain's own space, RAS mm, origin in the middle of its bounding box.
        hemispheres: `Cortex` of each hemisphere.
        cuts: every cut, lost ones included.
        shape: rows and columns of the images.
        faults: bridges across sulci.
        nuclei_mm: centres of deep grey nuclei, [N, 3].
        bodies_mm: centres of ventricles, cerebellum and brain stem, [N, 3] (see surroundings).
    """

    def __init__(
        self, settings: Settings, seed: int, *, sides: tuple[str, ...] = ("L", "R"), template: Path | None = None
    ) -> None:
        self.settings = settings
        self.seed = seed
        self.space = f"virtual-{seed:02d}"
        templates = tuple(read_template(template, side) for side in sides)
        mirror = np.array([[1.0 if side == "L" else -1.0, 1, 1] for side in sides])
        layouts = tuple(
            lay_out(
                self.seed, source.name, source.pial_mm, source.sphere,
                warp_mm=settings.warp_mm, size_mm=settings.size_mm, shuffle=settings.shuffle,
            )
            for source in templates
        )  # fmt: skip
        relief = 0.0 if settings.uniform else settings.area_thickness
        nuclei = (mirror[:, None] * NUCLEI_MM).reshape(-1, 3)
        moved, landmarks = deform(
            templates,
            self.seed,
            fold_mm=settings.fold_mm,
            refold_mm=settings.refold_mm,
            thickness_sd=settings.thickness_sd,
            linear_scale=settings.shrinkage ** (-1 / 3),
            tilt_deg=settings.tilt_deg,
            landmarks_mm=np.concatenate([nuclei, body_landmarks(sides)]),
            area_thickness=tuple(thickness_factors(a, t.sphere, relief) for a, t in zip(layouts, templates)),
        )
        self.nuclei_mm, self.bodies_mm = landmarks[: len(nuclei)], landmarks[len(nuclei) :]
        self.width_mm = border_widths_mm(self.seed)
        built = []
        for areas, hemi in zip(layouts, moved):
            profiles = draw_profiles(
                self.seed, hemi.name, effect=settings.profile_effect, brain_effect=settings.brain_effect,
                contrast=settings.contrast, uniform=settings.uniform,
            )  # fmt: skip
            fine = subdivide(hemi, settings.subdivisions)
            built.append(furnish(fine, areas, profiles, self.seed, layer_noise=settings.layer_noise))
        self.hemispheres: tuple[Cortex, ...] = tuple(built)
        self._planar: list[tuple[Floats, Floats]] = [
            (
                plane_coordinates(cortex.hemisphere.white_mm, settings.plane),
                plane_coordinates(cortex.hemisphere.pial_mm, settings.plane),
            )
            for cortex in self.hemispheres
        ]
        everything = np.concatenate([pial for _, pial in self._planar])
        size_mm = everything.max(0) - everything.min(0) + 2 * MARGIN_MM
        for centre, body in zip(self.bodies_mm, BODIES * len(sides)):
            if getattr(settings, body.kind) and not body.inside:
                at = np.abs(plane_coordinates(centre[None], settings.plane)[0])
                radius = np.abs(plane_coordinates(np.array([body.radii_mm]), settings.plane)[0])
                size_mm = np.maximum(size_mm, 2 * (at + radius * settings.shrinkage ** (-1 / 3) + MARGIN_MM))
        pixel_mm = settings.pixel_um / 1000
        self.shape = (int(np.ceil(size_mm[1] / pixel_mm)), int(np.ceil(size_mm[0] / pixel_mm)))
        self.faults = plant_bridges(
            tuple(cortex.hemisphere for cortex in self.hemispheres),
            AXES[settings.plane][2], settings.faults, self.seed, settings.spacing_mm,
        )  # fmt: skip
        self.cuts = self._plan(float(everything[:, 2].min()), float(everything[:, 2].max()))

    def _plan(self, low_mm: float, high_mm: float) -> tuple[Cut, ...]:
        settings = self.settings
        rng = stream(self.seed, "plan")
        start = low_mm + settings.spacing_mm * rng.uniform(0.1, 0.9)
        positions = np.arange(start, high_mm, settings.spacing_mm)
        if len(positions) < 4:
            raise SettingError(f"<spacing_mm> of {settings.spacing_mm:g} leaves {len(positions)} sections")
        severity = settings.severity
        cuts = []
        for index, position in enumerate(positions):
            own = stream(self.seed, "section", index)
            lot = own.uniform()
            missing, damaged = min(settings.missing * severity, 0.5), min(settings.damaged * severity, 0.5)
            fate = "missing" if lot < missing else "damaged" if lot < missing + damaged else "good"
            jitter = float(np.clip(settings.position_jitter_mm * severity * own.standard_normal(), -1, 1))
            jitter = float(np.clip(jitter, -0.3 * settings.spacing_mm, 0.3 * settings.spacing_mm))
            cuts.append(
                Cut(
                    index=index,
                    position_mm=float(position),
                    noted_mm=round(float(position) + jitter, 4),
                    fate=fate,
                    warp=Warp.draw(own, settings),
                    stain=Stain.draw(own, settings.stain * severity),
                )
            )
        return tuple(cuts)

    def slices(self, cut_: Cut) -> list[Slice]:
        """The cut through every hemisphere, in plane coordinates."""
        return [
            cut(white, pial, cortex.hemisphere.faces, cut_.position_mm)
            for (white, pial), cortex in zip(self._planar, self.hemispheres)
        ]

    def to_pixels(self, warp: Warp, points_mm: Floats) -> Floats:
        """Pixels (column, row) [..., 2] of plane points [..., 2]: warped, the frame's centre in the image's centre."""
        centre = np.array([(self.shape[1] - 1) / 2, (self.shape[0] - 1) / 2])
        return warp.forward(points_mm) * (1000 / self.settings.pixel_um) + centre

    def paint(self, cut_: Cut, slices: list[Slice], scores: list[Any] | None = None) -> Canvas:
        """What the section shows, before stain and damage.

        Args:
            scores: other area scores per hemisphere to label by (a mapper's).
        """
        canvas = Canvas.blank(self.shape)
        for k, (part, cortex) in enumerate(zip(slices, self.hemispheres)):
            corners = self.to_pixels(cut_.warp, part.corners_mm)
            draw(canvas, part, corners, cortex, self.width_mm, None if scores is None else scores[k])
        if self.settings.masked:
            ribbon = canvas.depth >= 0
            canvas.density[ribbon], canvas.size_um2[ribbon] = EVEN_DENSITY, SIZE_UM2
        for part in slices:
            white = inside(self.to_pixels(cut_.warp, part.white_mm), self.shape) & (canvas.label == OUTSIDE)
            canvas.label[white] = WHITE
            canvas.density[white] = WHITE_DENSITY
            canvas.size_um2[white] = WHITE_SIZE_UM2
        self._add_faults(canvas, cut_)
        return canvas

    def _add_faults(self, canvas: Canvas, cut_: Cut) -> None:
        settings = self.settings
        pixel_mm = settings.pixel_um / 1000
        for bridge in self.faults:
            ends = plane_coordinates(np.array([bridge.start_mm, bridge.end_mm]), settings.plane)
            if abs(ends[:, 2].mean() - cut_.position_mm) < bridge.reach_mm:
                start, end = self.to_pixels(cut_.warp, ends[:, :2])
                draw_bridge(canvas, start, end, bridge.radius_mm / pixel_mm)
        small = settings.shrinkage ** (-1 / 3)
        if settings.deep_grey:
            for k, centre in enumerate(self.nuclei_mm):
                met = self._met(centre, RADII_MM[k % len(RADII_MM)] * small, cut_)
                if met is not None:
                    draw_nucleus(canvas, *met)
        for k, centre in enumerate(self.bodies_mm):
            body = BODIES[k % len(BODIES)]
            met = self._met(centre, np.array(body.radii_mm) * small, cut_) if getattr(settings, body.kind) else None
            if met is not None:
                draw_body(canvas, body, *met, pixel_mm)
        if settings.meninges > 0:
            share = min(1.0, settings.meninges * settings.severity)
            draw_meninges(canvas, stream(self.seed, "meninges", cut_.index), share, pixel_mm)

    def _met(self, centre_mm: Floats, radii_mm: Floats, cut_: Cut) -> tuple[Floats, Floats, float] | None:
        """Centre and radii (px) of an ellipsoid's cut, the share of its radii that the plane meets; None: not met."""
        settings = self.settings
        centre = plane_coordinates(centre_mm[None], settings.plane)[0]
        radius = np.abs(plane_coordinates(radii_mm[None], settings.plane))[0]
        off = (cut_.position_mm - centre[2]) / radius[2]
        if abs(off) >= 1:
            return None
        place = self.to_pixels(cut_.warp, centre[None, :2])[0]
        return place, radius[:2] * (1000 / settings.pixel_um), float(np.sqrt(1 - off * off))

    def picture(self, cut_: Cut, slices: list[Slice] | None = None) -> Picture:
        """Render a section, whether it is going to be annotated or not."""
        slices = self.slices(cut_) if slices is None else slices
        settings = self.settings
        rng = stream(self.seed, "render", cut_.index)
        canvas = self.paint(cut_, slices)
        density = optical_density(
            canvas, cut_.stain, rng,
            pixel_um=settings.pixel_um, thickness_um=settings.thickness_um, texture=settings.texture,
        )  # fmt: skip
        outline = self.to_pixels(cut_.warp, np.concatenate([part.pial_mm for part in slices]))
        inner = self.to_pixels(cut_.warp, np.concatenate([part.white_mm for part in slices]))
        blemishes = draw_blemishes(rng, outline, inner, settings)
        apply_blemishes(density, blemishes)
        if cut_.fate == "damaged":
            lose_part(density, rng)
        light = lamp(
            self.shape, stream(self.seed, "lamp", cut_.index), light=settings.light * settings.severity,
            seams=settings.seams * settings.severity, pixel_mm=settings.pixel_um / 1000,
        )  # fmt: skip
        return Picture(image=grey(density, cut_.stain, light), canvas=canvas, blemishes=blemishes)
