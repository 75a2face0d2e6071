"""The engine of local models: jobs out of a situation, run side by side, and one filling out of what they predict."""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from features.local_models.hints import GraphHints
from features.local_models.inputs import plain_section, write_section
from features.local_models.queue import run_jobs
from features.local_models.settings import DONE, ModelSettings, write_job
from meshgnn.config import Config as BaseConfig
from meshgnn.config import to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.mapping.engines.contours import cortex_of, intervals
from meshgnn.mapping.engines.graph import GraphEngine
from meshgnn.mapping.filling import mesh_key
from meshgnn.mapping.pixel_filling import PixelFilling, SectionGrid, at_nodes, predicted_areas
from meshgnn.mapping.ribbon import Ribbons
from meshgnn.mapping.socket import PredictedArea, Situation
from meshgnn.progress import Progress, Stopped, heeding
from meshgnn.slurm_jobs import SlurmJobs
from meshgnn.sockets import Brain
from meshgnn.source.images import image_hash
from meshgnn.source.sections import SectionStack
from meshgnn.store import content_hash, read_arrays, read_json

KEPT = "local-models"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A model to train: areas of one interval. `between` are the sections that it predicts."""

    folder: Path
    areas: tuple[int, ...]
    first: int
    last: int
    between: tuple[int, ...]


class LocalModels:
    """An `Engine`: one small U-Net per interval between two drawn sections and few areas."""

    name, title = "local", "Local models between drawn sections (minutes)"

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            model: what one model is and how it is trained.
            areas_at_once: areas of an interval that one model learns; 1 is a model for each area.
            most_models: models of an area; the intervals that lack most sections come first.
            workers: processes side by side on this machine.
            slurm: run the jobs on a cluster instead.
            link_mm: predicted pieces hang together from section to section where they are nearer than this.
            graph: with a mesh, refine what this engine says instead of interpolated outlines; None never does.
        """

        model: ModelSettings = field(default_factory=ModelSettings)
        areas_at_once: int = 4
        most_models: int = 20
        workers: int = 2
        slurm: SlurmJobs.Config | None = None
        link_mm: float = 2.0
        graph: GraphEngine.Config | None = None

        def __post_init__(self) -> None:
            if min(self.areas_at_once, self.most_models, self.workers) < 1 or not self.link_mm >= 0:
                raise SettingError(
                    "<areas_at_once>, <most_models> and <workers> must be at least 1, <link_mm> not negative"
                )

        def build(self) -> "LocalModels":
            return LocalModels(self)

    def __init__(self, config: Config) -> None:
        self.config = config
        self.graph = config.graph.build() if config.graph is not None else None

    def check(self, situation: Situation) -> None:
        """Raises InputError where no area is drawn on two sections with a usable one between them."""
        if not intervals(situation):
            raise InputError(
                "local models learn from two sections on which an area is drawn, with others between them; draw one "
                "on two such sections"
            )

    def fill(self, situation: Situation, folder: Path, progress: Progress, stopped: Callable[[], bool]) -> PixelFilling:
        """See `Engine.fill`. `folder` is STATE/rounds/NNNN/ENGINE; models are kept in STATE/kept by their contents, so
        that a round trains only what was drawn anew, and a killed one goes on with the jobs that are not done."""
        self.check(situation)
        start, kept = time.perf_counter(), folder.parents[2] / "kept" / KEPT
        jobs = self.jobs(situation, kept, progress, stopped)
        fresh = [job for job in jobs if not (job.folder / DONE).is_file()]
        failed = run_jobs([job.folder for job in fresh], self.config.workers, self.config.slurm, progress, stopped)
        if stopped():
            raise Stopped
        done = [job for job in jobs if (job.folder / DONE).is_file()]
        areas, chances = self._joined(situation, done, heeding(progress, stopped))
        times = [sum(read_json(job.folder / DONE)[key] for key in ("train_s", "predict_s")) for job in done]
        figures: dict[str, Any] = {
            "models": len(done), "trained_now": len([job for job in fresh if job in done]), "asked": len(jobs),
            "failed": failed, "seconds_per_model": round(float(np.mean(times)), 1) if times else None,
            "seconds": round(time.perf_counter() - start, 2),
            "words": [
                f"{len(done)} of {len(jobs)} local models are trained; they fill in {len(areas)} sections.",
                *(f"A model failed: {text}" for text in failed[:3]),
            ],
        }  # fmt: skip
        return PixelFilling.write(
            folder, situation, engine=self.name, areas=areas, probabilities=chances, figures=figures
        )

    def read(self, folder: Path, stack: SectionStack, brain: Brain | None) -> PixelFilling:
        """See `Engine.read`."""
        return PixelFilling(folder, brain)

    def jobs(self, situation: Situation, kept: Path, progress: Progress, stopped: Callable[[], bool]) -> list[Job]:
        """Put down the jobs of a situation, with what they read.

        Raises:
            InputError: outlines or an image that cannot be read.
            Stopped: it was ended.
        """
        together: dict[tuple[int, int, tuple[int, ...]], list[int]] = defaultdict(list)
        count: dict[int, int] = defaultdict(int)
        for one in sorted(intervals(situation), key=lambda one: -len(one.between)):
            if count[one.area] < self.config.most_models:
                count[one.area] += 1
                together[one.first, one.last, one.between].append(one.area)
        plans = []
        for (first, last, between), areas in sorted(together.items()):
            for place in range(0, len(areas), self.config.areas_at_once):
                plans.append((first, last, between, tuple(sorted(areas)[place : place + self.config.areas_at_once])))
        wanted = sorted({index for first, last, between, _ in plans for index in (first, *between, last)})
        graph = situation.brain.graph if situation.brain else None
        mesh = mesh_key(graph) if graph is not None else ""
        fine, drawn_on = self.config.model.fine_um, set(situation.drawn.sections)
        keys = {}
        for number, index in enumerate(wanted):
            if stopped():
                raise Stopped
            section = situation.stack.at(index)
            grid = SectionGrid.of(section, fine)
            drawn = situation.drawn.coarse(index, grid.block) if index in drawn_on else None
            keys[index] = content_hash(
                image_hash(section.path), plain_section(section), mesh, grid.block,
                "" if drawn is None else sha256(drawn.tobytes()).hexdigest(),
            )  # fmt: skip
            path = kept / "sections" / f"{keys[index]}.safetensors"
            if not path.is_file():
                write_section(path, grid, graph, drawn)
            progress("sections", number + 1, len(wanted))
        hints = None
        if self.graph is not None and situation.brain is not None:
            hints = GraphHints(self.graph, situation, kept.parent, fine, progress, stopped)
        jobs = []
        for number, (first, last, between, group) in enumerate(plans):
            if stopped():
                raise Stopped
            progress("jobs", number, len(plans))
            inside = [first, *between, last]
            told: dict[str, NDArray[Any]] | None = None
            if hints is not None:
                grids = {index: SectionGrid.of(situation.stack.at(index), fine) for index in inside}
                told = {}
                for grid in grids.values():
                    told |= hints.of(grid, group)
            said = "" if told is None else [sha256(told[name].tobytes()).hexdigest() for name in sorted(told)]
            key = content_hash(to_plain(self.config.model), group, [keys[index] for index in inside], said)
            folder = kept / "models" / key
            files = {index: str((kept / "sections" / f"{keys[index]}.safetensors").resolve()) for index in inside}
            write_job(
                folder, areas=list(group), first=first, last=last, files=files, settings=self.config.model,
                sections=[plain_section(situation.stack.at(index)) for index in inside], hints=told,
            )  # fmt: skip
            jobs.append(Job(folder=folder, areas=group, first=first, last=last, between=between))
        return jobs

    def _joined(
        self, situation: Situation, done: Sequence[Job], progress: Progress
    ) -> tuple[dict[int, list[PredictedArea]], NDArray[np.float32] | None]:
        """Areas by section, and probabilities [V, K] with a mesh."""
        brain = situation.brain
        ribbons = Ribbons(brain.graph) if brain is not None else None
        nodes = np.zeros((brain.graph.n_nodes, len(situation.areas)), np.float32) if brain is not None else None
        by_section: dict[int, list[Job]] = defaultdict(list)
        for job in done:
            for index in job.between:
                by_section[index].append(job)
        kept = {job.folder: read_arrays(job.folder / "predictions.safetensors") for job in done}
        whole: dict[int, tuple[SectionGrid, tuple[int, ...], NDArray[np.float32], NDArray[np.bool_]]] = {}
        for index, jobs in by_section.items():
            grid = SectionGrid.of(situation.stack.at(index), self.config.model.fine_um)
            classes = tuple(area for job in jobs for area in job.areas)
            chances = np.concatenate([kept[job.folder][f"chances_{index}"] for job in jobs]).astype(
                np.float32
            ) / np.float32(255)
            other = np.concatenate(
                [np.repeat(kept[job.folder][f"other_{index}"][None], len(job.areas), 0) for job in jobs]
            ).astype(np.float32)
            best = chances.argmax(0)
            sure = np.take_along_axis(chances * 255 >= other, best[None], 0)[0]
            if ribbons is not None:
                sure &= cortex_of(ribbons, grid)
            whole[index] = (grid, classes, chances, (best[None] == np.arange(len(classes))[:, None, None]) & sure)
        if self.graph is None or brain is None:  # the mesh has carried the graph's areas from section to section
            self._only_consistent(situation, done, whole)
        areas: dict[int, list[PredictedArea]] = {}
        for number, (index, (grid, classes, chances, found)) in enumerate(sorted(whole.items())):
            labels = np.where(found.any(0), np.array(classes)[found.argmax(0)], -1)
            areas[index] = predicted_areas(grid, labels, chances.max(0))
            if nodes is not None and brain is not None:
                at_nodes(nodes, brain, grid, classes, chances / np.maximum(chances.sum(0), 1))
            progress("outlines", number + 1, len(whole))
        return areas, nodes

    def _only_consistent(
        self, situation: Situation, done: Sequence[Job],
        whole: dict[int, tuple[SectionGrid, tuple[int, ...], NDArray[np.float32], NDArray[np.bool_]]],
    ) -> None:  # fmt: skip
        """Take away pieces that do not hang together, from section to section, with an outline that was drawn."""
        for job in done:
            order = [job.first, *job.between, job.last]
            frame = SectionGrid.of(situation.stack.at(job.first), 4 * self.config.model.fine_um)
            reach = max(0, round(self.config.link_mm / 2 / frame.width_mm))
            for area in job.areas:
                layers = []
                for index in order:
                    if index in (job.first, job.last):
                        grid = SectionGrid.of(situation.stack.at(index), self.config.model.fine_um)
                        mask = situation.drawn.coarse(index, grid.block) == area
                    else:
                        grid, classes, _, found = whole[index]
                        mask = found[classes.index(area)]
                    wide = ndimage.maximum_filter(mask.astype(np.float32), 4)
                    seen = grid.carried(wide, frame) > 0.5
                    layers.append(ndimage.binary_dilation(seen, iterations=reach) if reach else seen)
                pieces, _ = ndimage.label(np.stack(layers), structure=np.ones((3, 3, 3)))
                good = np.unique(pieces[[0, -1]])
                good = good[good > 0]
                for place, index in enumerate(order[1:-1], start=1):
                    grid, classes, _, found = whole[index]
                    own = found[classes.index(area)]
                    kept = frame.carried(np.isin(pieces[place], good), grid) > 0.25
                    own &= kept
