"""The reconstruction as a list of steps: sections (or a volume) -> a midsurface mesh for each hemisphere.

    sections:  tissue -> align -> stack -> cerebrum -> hemispheres -> midsurface L, R -> locate L, R
    volumes:   volume ->                   cerebrum -> hemispheres -> midsurface L, R

Every result lies on disk under OUT/steps, see `reconstruct.state`; what a user wants lies in OUT itself, see
`reconstruct.output`.
"""

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from meshgnn import config
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
from reconstruct.cut_truth import is_cut, judge_cut
from reconstruct.given import Given, given_start, read_placed
from reconstruct.pictures import pictures
from reconstruct.records import Alignment, Midsurface, Reconstruction, Ribbon, TissueStack
from reconstruct.sources import BigBrain, Mni152, Precomputed, SectionFolder, VolumePair, named
from reconstruct.species import STEPS, Name, settled
from reconstruct.state import Store, hash_files
from reconstruct.steps.align import AlignSections
from reconstruct.steps.cerebrum import KeepCerebrum
from reconstruct.steps.hemispheres import SplitHemispheres
from reconstruct.steps.locate import LocateNodes
from reconstruct.steps.midsurface import ExtractMidsurface
from reconstruct.steps.stack import StackSections
from reconstruct.steps.tissue import ClassifyTissue, check_count
from reconstruct.steps.volume import RibbonFromVolume
from reconstruct.thinning import thinned


class NoCortexError(InputError):
    """What was reconstructed cannot be a cortex.

    Args:
        reasons: one line each.
        result: for those who look at what went wrong; it is not handed out.
    """

    def __init__(self, reasons: Sequence[str], result: Reconstruction) -> None:
        more = f" (and {len(reasons) - 1} more, see the report)" if len(reasons) > 1 else ""
        super().__init__(f"no mesh is handed out: {reasons[0]}{more}; plausible.* and species set the bounds")
        self.result = result


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
            pictures: write QC pictures.
            species: whose brain it is: lengths that are not set, and what a hemisphere may measure, follow from it.
            plausible: bounds beyond which sections and hemispheres are warned of, and those beyond which no mesh is
                handed out.
            workers: hemispheres worked on side by side (2 or 1); the result does not depend on it.
            tissue, align, stack, volume, cerebrum, hemispheres, midsurface, locate: the steps.
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
            if source.path is None:
                raise InputError("no sections given; add --set source.path=DIR")
            check_count(read_placed(source)[0])
            _annotated(source.path)
            self._check_sides(source.path)
            return
        if source.grey is None or source.white is None:
            raise InputError("give both probability maps: --set source.grey=FILE --set source.white=FILE")
        for path in (source.grey, source.white):
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
        self.dense = 0  # sections left out for those beside them
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
            assert source.grey is not None  # checked
            assert source.white is not None
            self.store = Store(self.out / "steps")
            ribbon, key = self._volume(source.grey, source.white, source)
            ribbon, key = self._cerebrum(ribbon, key, source.other_mm)
            return self._finish(ribbon, key, source.space, None, None, None, "")
        assert source.path is not None
        whole, self.placed = read_placed(source)
        stack = thinned(whole, self.settings.tissue.every_mm, _annotated(source.path))
        self.dense = len(whole) - len(stack)
        self.store = Store(self.out / "steps")
        bounds = self.settings.plausible
        tissue, tissue_key = self._tissue(stack)
        self.warnings += plausibility.of_tissue(tissue, bounds)
        given = None
        if self.placed is not None:
            self.warnings += self.placed.remarks
            given = given_start(stack, tissue, keep=source.poses == "keep")
        alignment, align_key = self._align(tissue, tissue_key, given)
        self.warnings += plausibility.of_alignment(tissue, alignment, bounds)
        ribbon, key = self._stack(stack, tissue, alignment, tissue_key, align_key)
        ribbon, key = self._cerebrum(ribbon, key)
        return self._finish(ribbon, key, stack.space, stack, tissue, alignment, align_key)

    def _volume(self, grey: Path, white: Path, source: VolumePair.Config) -> tuple[Ribbon, str]:
        step = self.settings.volume
        return self.step("volume", Ribbon, step, [hash_files([grey, white]), source.space],
                         lambda: step.build()(grey, white, source.space))  # fmt: skip

    def _cerebrum(self, ribbon: Ribbon, key: str, other_mm: tuple[float, ...] = ()) -> tuple[Ribbon, str]:
        step = self.settings.cerebrum
        files = [hash_files([step.mask])] if step.mask is not None else []
        return self.step("cerebrum", Ribbon, step, [key, repr(other_mm), *files],
                         lambda: step.build()(ribbon, other_mm))  # fmt: skip

    def _tissue(self, stack: SectionStack) -> tuple[TissueStack, str]:
        step, folder = self.settings.tissue, stack.folder or Path()
        # By position, so that the order of lines in the table does not matter.
        table = sorted(repr((s.path.name, s.index, s.position_mm, s.pixel_um, s.thickness_um, s.usable, s.mirrored))
                       for s in stack)  # fmt: skip
        table += [f"{s.index} {s.stain}" for s in stack if s.colour]
        files = [section.path for section in stack.usable()]
        return self.step("tissue", TissueStack, step, [hash_files(files), TABLE, *table, folder.name],
                         lambda: step.build()(stack, self.progress))  # fmt: skip

    def _align(self, tissue: TissueStack, key: str, given: Given | None) -> tuple[Alignment, str]:
        step = self.settings.align
        more = [] if given is None else [content_hash(given.to_section.tolist(), given.keep)]
        return self.step("align", Alignment, step, [key, *more],
                         lambda: step.build()(tissue, self.progress, given))  # fmt: skip

    def _stack(self, stack: SectionStack, tissue: TissueStack, alignment: Alignment, tissue_key: str,
               align_key: str) -> tuple[Ribbon, str]:  # fmt: skip
        step = self.settings.stack
        return self.step("stack", Ribbon, step, [tissue_key, align_key, stack.plane, stack.space],
                         lambda: step.build()(tissue, alignment, stack.plane, stack.space))  # fmt: skip

    def _finish(self, ribbon: Ribbon, key: str, space: str, stack: SectionStack | None, tissue: TissueStack | None,
                alignment: Alignment | None, align_key: str) -> Reconstruction:  # fmt: skip
        set_ = self.settings
        annotated = _annotated(stack.folder) if stack is not None and stack.folder is not None else ()
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
                f"locate-{side}", NodeLocations, set_.locate, [own, align_key, repr(annotated)],
                partial(set_.locate.build(), surface, stack, tissue, alignment, annotated),
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
            report["sections"] = output.section_report(stack, tissue, alignment, places) | {"dense": self.dense}
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
                write_aligned(self.out, aligned_stack(stack, tissue, alignment))
        if set_.pictures:
            self.progress("pictures", 0, 1)
            pictures(self.out / "qc", result, ribbon, stack, tissue, alignment)
            self.progress("pictures", 1, 1)
        if refused:
            raise NoCortexError(refused, result)
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


_STEPS = ("volume", "tissue", "align", "stack", "cerebrum", "hemispheres", "midsurface", "locate", "judge", "pictures")


def _order(step: str) -> tuple[int, str]:
    """Place of a step's name, "midsurface-L" among them, in the order of the work."""
    kind, _, side = step.partition("-")
    return (_STEPS.index(kind), side)
