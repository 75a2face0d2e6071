"""Every setting of the virtual brain, and presets that set several at once.

`severity` scales all that goes wrong between the brain and the image (pose, warp, stain, tears, folds, losses); the
other knobs say what the brain is like and how it is cut. All figures are approximations (A) unless a source is named.
"""

from dataclasses import dataclass
from typing import Literal

from meshgnn.errors import SettingError
from meshgnn.source.sections import Plane

VERSION = 2  # of the generator; a seed gives other bytes under another version
Preset = Literal["quick", "easy", "default", "hard", "cells"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a preset resolves to.

    Args:
        plane: of the cut.
        tilt_deg: how the brain is mounted, turned about x, y, z before the cut.
        pixel_um, spacing_mm, thickness_um: of the sections.
        subdivisions: Loop rounds on the template mesh.
        shrinkage: volume before over after histology (BigBrain 1.93); lengths shrink by its cube root.
        fold_mm: rms of the random deformation of the folds.
        refold_mm: sd of the brain's own gyri and sulci on top of the template's (see folding).
        thickness_sd: sd of the log of a smooth factor on cortical thickness.
        area_thickness: exponent on the areas' own thickness (see prototypes).
        warp_mm: rms shift of the area layout relative to the folds.
        size_mm: sd of an area's push on its borders.
        contrast: profiles, area: exponent on what sets an area apart from its prototype (density, size, shares); 1 =
            as tabulated.
        brain_effect: profiles, brain: sd of the log of a brain's factor on each layer of all areas (a guess).
        profile_effect: profiles, brain x area: 1 = as much as BigBrain's left-right differences and a guess of what
            hemispheres share say (see areas.draw_profiles).
        layer_noise: profiles, spatial: variation of layers within areas; 1 = as in BigBrain (see laminae).
        shuffle: areas dealt out anew over the places of the layout, brain by brain (a control: position tells nothing).
        uniform: one profile everywhere (a control: histology tells nothing).
        masked: sections show all cortex in one even grey, the mean of ordinary cortex; its outlines, white matter and
            everything around stay as they are (a control: the cortex itself tells nothing).
        texture: strength of the grain that single cells make; 1 = Poisson.
        severity: factor on the knobs below.
        stain: differences between sections.
        pose_mm, pose_deg: sd of shift and rotation on the glass.
        warp_section_mm: rms of the smooth in-plane warp of a section.
        tears, folds: mean number per section.
        missing: share of sections lost.
        damaged: share of sections damaged beyond use.
        position_jitter_mm: error of the position written down.
        annotate_every: every n-th usable section is annotated.
        annotation_mm: rms of the mapper's error along the cortex.
        faults: bridges planted across sulci (a naive reconstruction turns each into a handle).
        deep_grey: draw subcortical grey nuclei in the white matter.
        ventricles, cerebellum, brain_stem: draw them (see surroundings).
        meninges: share of the outer surface under a film, half a millimetre off; times severity.
        light: darkening of a scan towards its corners; times severity.
        seams: sd of the log exposure of the scanner's tiles; times severity.
        areas_per_section: how many areas a mapper draws on a section (least, most); (0, 0) = all.
        cells: fields of single cells drawn for every good section, beside the stack (see cell_fields); 0 = none.
        cells_um, cells_mm: pixels and width of these fields.
        mapper_errors: share of drawn areas that are wrong (two neighbours exchanged, or a border moved by 2-5 mm).
    """

    plane: Plane = "coronal"
    tilt_deg: tuple[float, float, float] = (0.0, 0.0, 0.0)
    pixel_um: float = 50.0
    spacing_mm: float = 2.0
    thickness_um: float = 20.0
    subdivisions: int = 2
    shrinkage: float = 1.0
    fold_mm: float = 4.5
    refold_mm: float = 5.0
    thickness_sd: float = 0.08
    area_thickness: float = 0.5
    warp_mm: float = 19.0
    size_mm: float = 5.0
    contrast: float = 1.8
    brain_effect: float = 0.05
    profile_effect: float = 1.0
    layer_noise: float = 1.0
    shuffle: bool = False
    uniform: bool = False
    masked: bool = False
    texture: float = 1.0
    severity: float = 1.0
    stain: float = 1.0
    pose_mm: float = 0.8
    pose_deg: float = 1.5
    warp_section_mm: float = 0.25
    tears: float = 0.5
    folds: float = 0.4
    missing: float = 0.03
    damaged: float = 0.01
    position_jitter_mm: float = 0.0
    annotate_every: int = 4
    annotation_mm: float = 0.5
    faults: int = 4
    deep_grey: bool = False
    ventricles: bool = False
    cerebellum: bool = False
    brain_stem: bool = False
    meninges: float = 0.0
    light: float = 0.0
    seams: float = 0.0
    areas_per_section: tuple[int, int] = (0, 0)
    mapper_errors: float = 0.0
    cells: int = 0
    cells_um: float = 2.0
    cells_mm: float = 0.5

    def __post_init__(self) -> None:
        above = ("pixel_um", "spacing_mm", "thickness_um", "shrinkage")
        for name in above:
            if not getattr(self, name) > 0:
                raise SettingError(f"<{name}> must be above 0, got {getattr(self, name)}")
        for name in (
            "fold_mm", "refold_mm", "thickness_sd", "area_thickness", "warp_mm", "size_mm", "contrast", "brain_effect",
            "profile_effect", "layer_noise", "texture", "severity", "stain", "pose_mm", "pose_deg", "warp_section_mm",
            "tears", "folds", "position_jitter_mm", "annotation_mm", "faults", "subdivisions", "meninges", "light",
            "seams", "mapper_errors",
        ):  # fmt: skip
            if not getattr(self, name) >= 0:
                raise SettingError(f"<{name}> must not be negative, got {getattr(self, name)}")
        if self.annotate_every < 1:
            raise SettingError(f"<annotate_every> must be at least 1, got {self.annotate_every}")
        for name in ("missing", "damaged"):
            if not 0 <= getattr(self, name) <= 0.5:
                raise SettingError(f"<{name}> must lie between 0 and 0.5, got {getattr(self, name)}")
        least, most = self.areas_per_section
        if not 0 <= least <= most or (most and not least):
            raise SettingError(f"<areas_per_section> must be LEAST,MOST from 1, or 0,0 for all, got {least},{most}")
        for name, limit in (("mapper_errors", 1), ("light", 0.3), ("seams", 0.2)):
            if getattr(self, name) > limit:
                raise SettingError(f"<{name}> must be at most {limit}, got {getattr(self, name)}")
        if not 0 <= self.cells <= 100 or not 0.5 <= self.cells_um <= 5 or not 0.1 <= self.cells_mm <= 10:
            raise SettingError("<cells> must lie between 0 and 100, <cells_um> 0.5 and 5, <cells_mm> 0.1 and 10")
        if self.subdivisions > 3:
            raise SettingError("<subdivisions> above 3 make millions of nodes")
        for name in ("fold_mm", "refold_mm"):
            if getattr(self, name) > 8:
                raise SettingError(f"<{name}> above 8 tears the folds apart; stay at 8 or below")


PRESETS: dict[str, Settings] = {
    "quick": Settings(
        pixel_um=100.0, spacing_mm=3.0, subdivisions=1, annotate_every=3, severity=0.5, warp_mm=9.0, size_mm=3.0,
        profile_effect=0.6, layer_noise=0.75, faults=2,
    ),
    "cells": Settings(
        pixel_um=100.0, spacing_mm=3.0, subdivisions=1, annotate_every=3, severity=0.5, warp_mm=9.0, size_mm=3.0,
        profile_effect=0.6, layer_noise=0.75, faults=2,
        cells=6,
    ),
    "easy": Settings(
        severity=0.4, fold_mm=2.5, refold_mm=3.0, warp_mm=7.0, size_mm=2.0, profile_effect=0.5,
        layer_noise=0.6, annotate_every=3,
    ),
    "default": Settings(),
    "hard": Settings(
        tilt_deg=(8.0, 3.0, 2.0), severity=2.0, fold_mm=5.0, refold_mm=5.5, warp_mm=22.0, size_mm=6.0,
        contrast=1.4, profile_effect=1.5, brain_effect=0.08, layer_noise=1.1, missing=0.06, damaged=0.03,
        position_jitter_mm=0.05, annotate_every=6, annotation_mm=0.8, faults=10, deep_grey=True, ventricles=True,
        cerebellum=True, brain_stem=True, meninges=0.15, light=0.06, seams=0.01,
    ),
}  # fmt: skip
