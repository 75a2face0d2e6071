"""The reconstruction as a list of steps: sections (or a volume) -> a midsurface mesh for each hemisphere.

    sections:  tissue -> align -> mounting -> stack -> cerebrum -> hemispheres -> midsurface L, R -> locate L, R
    volumes:   volume ->                   cerebrum -> hemispheres -> midsurface L, R

Every result lies on disk under OUT/steps, see `reconstruct.state`; what a user wants lies in OUT itself, see
`reconstruct.output`.
"""

import resource
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from meshgnn import config
from meshgnn.config import to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import NodeLocations
from meshgnn.progress import Progress, silent
from meshgnn.source.annotations import FOLDER as ANNOTATIONS
from meshgnn.source.annotations import read_annotations
from meshgnn.source.poses import Placed
from meshgnn.source.sections import TABLE, SectionStack
from meshgnn.source.virtual.truth import true_hemispheres
from meshgnn.store import content_hash
from reconstruct import open_data, output, plausibility
from reconstruct.aligned import aligned_stack, with_bridges, write_aligned
from reconstruct.cards import checked, quality_report, write_cards
from reconstruct.cut_truth import is_cut, judge_cut
from reconstruct.given import Given, given_start, read_placed
from reconstruct.masks import FOLDER as MASKS
from reconstruct.masks import mask_files, masked, write_masks
from reconstruct.pictures import pictures
from reconstruct.records import (
    Alignment,
    Midsurface,
    Mounting,
    Reconstruction,
    Ribbon,
    SectionPlaces,
    TissueStack,
)
from reconstruct.slabs import grouped
from reconstruct.sources import BigBrain, Mni152, Precomputed, SectionFolder, VolumePair, named
from reconstruct.species import STEPS, Name, settled
from reconstruct.state import Store, hash_files
from reconstruct.steps.align import AlignSections
from reconstruct.steps.cerebrum import KeepCerebrum
from reconstruct.steps.hemispheres import SplitHemispheres
from reconstruct.steps.locate import LocateNodes
from reconstruct.steps.midsurface import ExtractMidsurface
from reconstruct.steps.mounting import CheckMounting, missed_turns, realigned
from reconstruct.steps.smooth import SmoothSections
from reconstruct.steps.stack import StackSections
from reconstruct.steps.tissue import ClassifyTissue, check_count
from reconstruct.steps.volume import RibbonFromVolume


class Reconstruct:
    """All steps of a reconstruction, with their results on disk."""

    @dataclass(frozen=True, kw_only=True)
    class Config(config.Config):
        """
        Args:
            source: sections or volumes.
            brain: name in the file names; the space's name if empty.
            judge: compare with the truth if the stack folder holds one.
            floor: also tell what the surface step leaves if it is given the true ribbon; takes as long as that step.
            pictures: write QC pictures, and what was found on the sections as label images (`reconstruct.masks`).
            species: whose brain it is: lengths that are not set, and what a hemisphere may measure, follow from it.
            plausible: bounds beyond which sections and hemispheres are warned of, and those beyond which no mesh is
                handed out.
            workers: hemispheres worked on side by side (2 or 1); the result does not depend on it.
            tissue, align, mounting, stack, volume, cerebrum, hemispheres, midsurface, locate: the steps.
        """

        moved: ClassVar[Mapping[str, str]] = {
            f"volume.{name}": f"cerebrum.{name}" for name in ("passage_mm", "ventricle_mm3", "deep_mm")
        }

        source: SectionFolder.Config | VolumePair.Config | Mni152.Config | Precomputed.Config | BigBrain.Config = field(
            default_factory=SectionFolder.Config
        )
        brain: str = ""
        judge: bool = True
        floor: bool = True
        pictures: bool = True
        species: Name = "human"
        plausible: plausibility.Plausible = field(default_factory=plausibility.Plausible)
        workers: int = 2
        tissue: ClassifyTissue.Config = field(default_factory=ClassifyTissue.Config)
        align: AlignSections.Config = field(default_factory=AlignSections.Config)
        mounting: CheckMounting.Config = field(default_factory=CheckMounting.Config)
        smooth: SmoothSections.Config = field(default_factory=SmoothSections.Config)
        stack: StackSections.Config = field(default_factory=StackSections.Config)
        volume: RibbonFromVolume.Config = field(default_factory=RibbonFromVolume.Config)
        cerebrum: KeepCerebrum.Config = field(default_factory=KeepCerebrum.Config)
        hemispheres: SplitHemispheres.Config = field(default_factory=SplitHemispheres.Config)
        midsurface: ExtractMidsurface.Config = field(default_factory=ExtractMidsurface.Config)
        locate: LocateNodes.Config = field(default_factory=LocateNodes.Config)

        def build(self) -> "Reconstruct":
            return Reconstruct(self)

    def __init__(self, settings: Config) -> None:
        if settings.hemispheres.sides != "both" and settings.cerebrum.find is None:
            # The template is a whole brain's.
            settings = replace(settings, cerebrum=replace(settings.cerebrum, find="none"))
        steps = {name: settled(getattr(settings, name), name, settings.species) for name in STEPS}
        self.settings = replace(settings, **steps)

    def check(self) -> None:
        """The source is there, can be read, and holds enough. Raises InputError before anything is written."""
        source = named(self.settings.source)
        if isinstance(source, Precomputed.Config):
            open_data.check(source)
            return
        if isinstance(source, SectionFolder.Config):
            if self.settings.align.reference.named:
                self.settings.align.reference.check()
            stack = read_placed(source)[0]
            check_count(stack)
            if self.settings.tissue.masks is not None:
                mask_files(self.settings.tissue.masks, stack)
            assert source.path is not None  # it was read
            _annotated(source.path)
            self._check_sides(source.path)
            return
        for path in source.files():
            if not path.is_file():
                raise InputError(f"{path}: no such file")

    def _check_sides(self, folder: Path) -> None:
        """The truth that judges, if there is one, holds every hemisphere that will be made."""
        wanted = self.settings.hemispheres.sides
        true = true_hemispheres(folder) if self.settings.judge else ()
        if true and wanted not in (*true, "both" if len(true) == 2 else ""):
            raise SettingError(
                f"{folder}: the truth beside these sections holds hemisphere {' and '.join(true)}, but "
                f"<hemispheres.sides>={wanted}; set <hemispheres.sides>={true[0]}, or <judge>=false to leave the truth "
                "aside"
            )

    def run(self, out: Path, progress: Progress = silent) -> Reconstruction:
        """Reconstruct, write everything under `out`, judge if the truth is there.

        Raises:
            InputError: the input cannot be read or does not hold a brain in order; nothing is handed out then.
            NoCortexError: what was found cannot be cortex; pictures and report are written, meshes are not.
        """
        self.check()
        return _Run(self.settings, Path(out), progress).go()


class _Run:
    def __init__(self, settings: Reconstruct.Config, out: Path, progress: Progress) -> None:
        self.settings, self.out, self.progress = settings, out, progress
        self.seconds: dict[str, float] = {}
        self.reused: list[str] = []
        self.warnings: list[str] = []
        self.annotated: tuple[int, ...] = ()
        self.mounting: Mounting | None = None
        self.placed: Placed | None = None

    def step(self, name: str, kind: type[Any], settings: config.Config | None, inputs: list[str],
             compute: Callable[[], Any]) -> tuple[Any, str]:  # fmt: skip
        begun = time.perf_counter()
        self.progress(name, 0, 1)
        result, key, reused = self.store.step(name, kind, settings, inputs, compute)
        self.seconds[name] = round(time.perf_counter() - begun, 3)
        if reused:
            self.reused.append(name)
        self.progress(name, 1, 1)
        return result, key

    def go(self) -> Reconstruction:
        source = named(self.settings.source)
        if isinstance(source, Precomputed.Config):
            source = open_data.fetch(source, self.out / "steps" / "source", self.progress)
        if isinstance(source, VolumePair.Config):
            self.store = Store(self.out / "steps")
            ribbon, key = self._volume(source)
            ribbon, key = self._cerebrum(ribbon, key, source.other_mm)
            return self._finish(ribbon, key, source.space, None, None, None, "")
        assert source.path is not None
        stack, self.placed = read_placed(source)
        self.annotated = _annotated(source.path)
        self.store = Store(self.out / "steps")
        bounds = self.settings.plausible
        tissue, tissue_key = self._tissue(stack, keep=source.poses == "keep")
        self.warnings += plausibility.of_tissue(tissue, bounds)
        given = None
        if self.placed is not None:
            self.warnings += self.placed.remarks
            given = given_start(stack, tissue, keep=source.poses == "keep")
            if tissue.dense and any(section.bend is not None for section in stack):
                self.warnings += ("sections are averaged into slabs: the registration's markers are not used",)
        alignment, align_key = self._align(tissue, tissue_key, given, stack.plane)
        alignment, align_key, self.mounting = self._mounting(tissue, alignment, align_key, given, stack.plane)
        self.warnings += plausibility.of_alignment(tissue, alignment, self.mounting, bounds)
        if given is None or not given.keep:
            alignment, align_key = self._smooth(tissue, alignment, align_key, stack.plane)
        ribbon, key = self._stack(stack, tissue, alignment, tissue_key, align_key)
        ribbon, key = self._cerebrum(ribbon, key)
        return self._finish(ribbon, key, stack.space, stack, tissue, alignment, align_key)

    def _volume(self, source: VolumePair.Config) -> tuple[Ribbon, str]:
        step, files = self.settings.volume, source.files()
        return self.step("volume", Ribbon, step, [hash_files(files), source.space],
                         lambda: step.build()(*files, source.space))  # fmt: skip

    def _cerebrum(self, ribbon: Ribbon, key: str, other_mm: tuple[float, ...] = ()) -> tuple[Ribbon, str]:
        step = self.settings.cerebrum
        files = [hash_files([step.mask])] if step.mask is not None else []
        return self.step("cerebrum", Ribbon, step, [key, repr(other_mm), *files],
                         lambda: step.build()(ribbon, other_mm))  # fmt: skip

    def _tissue(self, stack: SectionStack, *, keep: bool) -> tuple[TissueStack, str]:
        step, folder = self.settings.tissue, stack.folder or Path()
        # By position, so that the order of lines in the table does not matter.
        table = sorted(repr((s.path.name, s.index, s.position_mm, s.pixel_um, s.thickness_um, s.usable, s.mirrored))
                       for s in stack)  # fmt: skip
        table += [f"{s.index} {s.stain}" for s in stack if s.colour]
        files = [section.path for section in stack.usable()]
        placed = None if self.placed is None else keep
        if placed is not None and len(grouped(stack.usable().sections, step.every_mm)) < len(files):
            # Slabs are averaged where the registration puts their sections.
            table += [repr(placed), content_hash([section.to_space.tolist() for section in stack])]
        inputs = [hash_files(files), TABLE, *table, folder.name]
        # Slabs of other input are of no use; jobs and workers do not change them.
        alone = replace(step, jobs=None, masks=None)
        aside = self.store.folder / "slabs" / content_hash(to_plain(replace(alone, workers=1)), inputs)
        found, key = self.step("tissue", TissueStack, alone, inputs,
                               lambda: step.build()(stack, self.progress, placed=placed, folder=aside))  # fmt: skip
        shutil.rmtree(self.store.folder / "slabs", ignore_errors=True)
        if step.masks is not None:
            masks = hash_files(list(mask_files(step.masks, stack).values()))
            found, key = self.step("masks", TissueStack, None, [key, masks],
                                   partial(masked, found, stack, step.masks, step.reach_mm))  # fmt: skip
        own = self.out / MASKS
        if self.settings.pictures and (step.masks is None or step.masks.resolve() != own.resolve()):
            write_masks(own, found, stack)
        return found, key

    def _align(self, tissue: TissueStack, key: str, given: Given | None, plane: str) -> tuple[Alignment, str]:
        step = self.settings.align
        more = [] if given is None else [content_hash(given.to_section.tolist(), given.keep)]
        more += [content_hash(k, bend.knots.tolist(), bend.corner_mm.tolist(), bend.spacing_mm)
                 for k, bend in (given.bends.items() if given is not None else ())]  # fmt: skip
        more += [hash_files(step.reference.named), plane] if step.reference.named else []
        return self.step("align", Alignment, step, [key, *more],
                         lambda: step.build()(tissue, self.progress, given, plane))  # fmt: skip

    def _mounting(self, tissue: TissueStack, alignment: Alignment, key: str, given: Given | None,
                  plane: str) -> tuple[Alignment, str, Mounting]:  # fmt: skip
        step = self.settings.mounting
        mounting, own = self.step(
            "mounting", Mounting, step, [key], lambda: step.build()(tissue, alignment, self.progress)
        )
        turned = missed_turns(alignment, mounting, step.sure) if step.mend and given is None else ()
        if not turned:
            return alignment, key, mounting
        again = partial(realigned, self.settings.align.build(), tissue, turned, plane, self.progress)
        return *self.step("align-turned", Alignment, self.settings.align, [own, repr(turned)], again), mounting

    def _smooth(self, tissue: TissueStack, alignment: Alignment, key: str, plane: str) -> tuple[Alignment, str]:
        step, align = self.settings.smooth, self.settings.align
        if not step.rounds_of(align):
            return alignment, key
        return self.step("smooth", Alignment, step, [key],
                         lambda: step.build()(tissue, alignment, align, self.progress, plane))  # fmt: skip

    def _stack(self, stack: SectionStack, tissue: TissueStack, alignment: Alignment, tissue_key: str,
               align_key: str) -> tuple[Ribbon, str]:  # fmt: skip
        step = self.settings.stack
        return self.step("stack", Ribbon, step, [tissue_key, align_key, stack.plane, stack.space],
                         lambda: step.build()(tissue, alignment, stack.plane, stack.space))  # fmt: skip

    def _finish(self, ribbon: Ribbon, key: str, space: str, stack: SectionStack | None, tissue: TissueStack | None,
                alignment: Alignment | None, align_key: str) -> Reconstruction:  # fmt: skip
        set_ = self.settings
        begun = time.perf_counter()
        self.progress("hemispheres", 0, 1)
        halves = set_.hemispheres.build()(ribbon)
        self.seconds["hemispheres"] = round(time.perf_counter() - begun, 3)
        self.progress("hemispheres", 1, 1)

        def one_side(half: Ribbon) -> tuple[Midsurface, NodeLocations | None]:
            side = str(half.hemisphere)
            surface, own = self.step(
                f"midsurface-{side}", Midsurface, set_.midsurface, [key, repr(set_.hemispheres), side],
                partial(set_.midsurface.build(), half),
            )  # fmt: skip
            if stack is None or tissue is None or alignment is None:
                return surface, None
            spots, _ = self.step(
                f"locate-{side}", NodeLocations, set_.locate, [own, align_key, repr(self.annotated)],
                partial(set_.locate.build(), surface, stack, SectionPlaces.of(tissue, alignment), self.annotated),
            )  # fmt: skip
            return surface, spots

        # The hemispheres do not know of each other: side by side or in turn, the result is the same.
        with ThreadPoolExecutor(max(1, set_.workers)) as pool:
            pairs = list(pool.map(one_side, halves))
        found = [surface for surface, _ in pairs]
        places = [spots for _, spots in pairs if spots is not None]
        if stack is not None and tissue is not None and alignment is not None:
            found = with_bridges(found, stack.plane, tissue, alignment)
        self.warnings += plausibility.of_surfaces(found, ribbon, halves, set_.plausible)
        brain = set_.brain or "".join(c for c in space if c.isalnum()) or "brain"
        report: dict[str, Any] = {
            "brain": brain, "space": space, "warnings": self.warnings,
            "hemispheres": {item.mesh.hemisphere: dict(item.report) for item in found},
            "repairs": {item.mesh.hemisphere: [dict(one) for one in item.repairs] for item in found},
        }  # fmt: skip
        if tissue is not None and alignment is not None and stack is not None:
            report["sections"] = output.section_report(stack, tissue, alignment, places)
        seen = None
        if set_.pictures and stack and tissue and self.mounting:
            begun = time.perf_counter()
            seen = checked(stack, tissue, self.mounting, set_.workers, self.progress)
            self.seconds["quality"] = round(time.perf_counter() - begun, 3)
            report["sections"] |= quality_report(tissue, seen)
        folder = stack.folder if stack is not None else None
        report["reconstruction"] = self._judge(found, places, folder)
        report["timing_s"] = dict(sorted(self.seconds.items(), key=lambda item: _order(item[0])))
        report["reused"] = sorted(self.reused, key=_order)
        report["peak_rss_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
        refused = plausibility.not_cortex(found, set_.plausible) if set_.plausible.refuse else []
        report["refused"] = refused
        result = Reconstruction(midsurfaces=tuple(found), locations=tuple(places), report=report, brain=brain)
        if refused:
            output.withdraw(self.out, result)
        else:
            output.write(self.out, result)
            if stack is not None and tissue is not None and alignment is not None:
                write_aligned(self.out, aligned_stack(stack, SectionPlaces.of(tissue, alignment)))
        if set_.pictures:
            self.progress("pictures", 0, 1)
            pictures(self.out / "qc", result, ribbon, stack, tissue, alignment)
            if seen and stack and tissue and alignment and self.mounting:
                write_cards(self.out / "qc", stack, tissue, alignment, self.mounting, seen, found, report)
            self.progress("pictures", 1, 1)
        if refused:
            raise plausibility.NoCortexError(refused, result)
        return result

    def _judge(self, found: list[Midsurface], places: list[NodeLocations], folder: Path | None) -> dict[str, Any]:
        from reconstruct import judge

        plain: dict[str, Any] = {f"euler_{item.mesh.hemisphere}": int(item.report["euler_number"]) for item in found}
        plain |= judge.coverage(places)
        if folder is None or not self.settings.judge or not (true_hemispheres(folder) or is_cut(folder)):
            return plain
        begun = time.perf_counter()
        self.progress("judge", 0, 1)
        block = judge_folder(self.settings, folder, found, places)
        self.seconds["judge"] = round(time.perf_counter() - begun, 3)
        self.progress("judge", 1, 1)
        return block


def _annotated(folder: Path) -> tuple[int, ...]:
    """Numbers of a stack's annotated sections; none where nobody drew."""
    return read_annotations(folder).sections if (folder / ANNOTATIONS).is_dir() else ()


def judge_folder(
    settings: Reconstruct.Config, folder: Path, found: Sequence[Midsurface], places: Sequence[NodeLocations]
) -> dict[str, Any]:
    """The block `reconstruction` against the truth in a stack folder; the floor is that of these settings."""
    from reconstruct import judge

    against = judge_cut if is_cut(folder) else judge.judge_stack
    settings = Reconstruct(settings).settings
    extract = settings.midsurface.build() if settings.floor else None
    return against(folder, found, places, extract=extract, voxel_mm=settings.stack.voxel_mm, workers=settings.workers)


_STEPS = (
    "volume", "tissue", "masks", "align", "mounting", "smooth", "stack", "cerebrum", "hemispheres", "midsurface",
    "locate", "judge", "quality", "pictures",
)  # fmt: skip


def _order(step: str) -> tuple[int, str]:
    """Place of a step's name, "midsurface-L" among them, in the order of the work."""
    kind, _, side = step.partition("-")
    return (_STEPS.index(kind), side)
