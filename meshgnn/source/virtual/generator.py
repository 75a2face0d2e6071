"""The virtual brain as an experiment names it: a config, and a stack folder on disk."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from meshgnn.config import Config as BaseConfig
from meshgnn.config import to_plain
from meshgnn.errors import SettingError
from meshgnn.progress import Progress, silent
from meshgnn.source.sections import Plane
from meshgnn.source.virtual.brain import Brain
from meshgnn.source.virtual.settings import PRESETS, Preset, Settings
from meshgnn.source.virtual.writer import write_brain, write_brain_into


class VirtualBrain(Brain):
    """A brain drawn from a seed.

    `VirtualBrain.Config(seed=1).build().write(folder)` leaves a stack folder that the pipeline reads like any other,
    with the truth beside it in `folder/truth`. The brain's space is also the stack's nominal space: see
    `meshgnn.source.sections` for axes.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """A preset, and the knobs that shall differ from it (None = as the preset says; see `Settings`).

        Args:
            seed: of all draws: another seed, another brain.
            preset: which values the knobs have.
            hemispheres: to make.
            template: folder of a template mesh in place of fsaverage5.
        """

        explained_by: ClassVar[type] = Settings

        seed: int = 1
        preset: Preset = "default"
        hemispheres: Literal["both", "L", "R"] = "both"
        template: Path | None = None
        plane: Plane | None = None
        tilt_deg: tuple[float, float, float] | None = None
        pixel_um: float | None = None
        spacing_mm: float | None = None
        thickness_um: float | None = None
        subdivisions: int | None = None
        shrinkage: float | None = None
        fold_mm: float | None = None
        refold_mm: float | None = None
        thickness_sd: float | None = None
        area_thickness: float | None = None
        warp_mm: float | None = None
        size_mm: float | None = None
        contrast: float | None = None
        brain_effect: float | None = None
        profile_effect: float | None = None
        layer_noise: float | None = None
        shuffle: bool | None = None
        uniform: bool | None = None
        masked: bool | None = None
        texture: float | None = None
        severity: float | None = None
        stain: float | None = None
        pose_mm: float | None = None
        pose_deg: float | None = None
        warp_section_mm: float | None = None
        tears: float | None = None
        folds: float | None = None
        missing: float | None = None
        damaged: float | None = None
        position_jitter_mm: float | None = None
        annotate_every: int | None = None
        annotation_mm: float | None = None
        faults: int | None = None
        deep_grey: bool | None = None
        ventricles: bool | None = None
        cerebellum: bool | None = None
        brain_stem: bool | None = None
        meninges: float | None = None
        light: float | None = None
        seams: float | None = None
        areas_per_section: tuple[int, int] | None = None
        mapper_errors: float | None = None
        cells: int | None = None
        cells_um: float | None = None
        cells_mm: float | None = None

        def __post_init__(self) -> None:
            if self.preset not in PRESETS:
                raise SettingError(f"<preset> must be one of {', '.join(PRESETS)}, got {self.preset!r}")
            if not 0 <= self.seed < 2**63:
                raise SettingError(f"<seed> must be a whole number from 0, got {self.seed}")
            self.resolve()

        def resolve(self) -> Settings:
            """The preset with this config's own values put in."""
            names = {item.name for item in fields(Settings)}
            own = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
            return replace(PRESETS[self.preset], **own)

        def build(self) -> "VirtualBrain":
            return VirtualBrain(self)

    def __init__(self, config: "VirtualBrain.Config") -> None:
        sides = ("L", "R") if config.hemispheres == "both" else (config.hemispheres,)
        super().__init__(config.resolve(), config.seed, sides=sides, template=config.template)
        self.config = config

    def write(self, folder: Path, progress: Progress = silent, *, workers: int = 2) -> Path:
        """Write the stack folder; see `meshgnn.source.virtual.writer`.

        Args:
            folder: must not exist, or be empty.
            progress: told ("sections", done, all) after every section.
            workers: threads; the bytes do not depend on them.
        """
        return write_brain(self, self._plain(), Path(folder), progress, workers=workers)

    def write_into(self, folder: Path, progress: Progress = silent, *, workers: int = 2) -> list[str]:
        """Write the stack into the existing folder of a run; returns the files, relative to it."""
        return write_brain_into(self, self._plain(), Path(folder), progress, workers=workers)

    def _plain(self) -> dict[str, Any]:
        plain = to_plain(replace(self.config, template=None))
        plain["template"] = None if self.config.template is None else "custom"
        return plain
