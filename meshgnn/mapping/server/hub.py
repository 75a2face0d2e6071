"""What all routes share: the stack, what was drawn, pictures, and who waits for news."""

import asyncio
import hashlib
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshgnn.errors import InputError
from meshgnn.mapping.kept.concepts import Concepts
from meshgnn.mapping.kept.state import State
from meshgnn.mapping.pictures import Pictures
from meshgnn.mapping.situation import situation_of
from meshgnn.mapping.socket import Situation
from meshgnn.mapping.work.job import Job
from meshgnn.mapping.work.jobs import Jobs
from meshgnn.mapping.work.predictions import Predictions, scores
from meshgnn.source.sections import Section, SectionStack

PATIENCE_S = 0.05
"""The page is not kept waiting longer for what each engine says of itself."""


class Bell:
    """Wakes those who wait for news; rung from any thread."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rung = asyncio.Event()
        self.ending = False

    def hang(self) -> None:
        """From the loop that will wait."""
        self._loop = asyncio.get_running_loop()

    def ring(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._all)

    def _all(self) -> None:
        self._rung.set()
        self._rung = asyncio.Event()

    async def wait(self, seconds: float) -> None:
        """Until it is rung, or so long."""
        rung = self._rung
        if self.ending:
            return
        try:
            await asyncio.wait_for(rung.wait(), seconds)
        except TimeoutError:
            return


@dataclass(kw_only=True)
class Hub:
    """Args:
    name: of the stack.
    stack: aligned where there is a mesh.
    folder: state folder.
    state: what was drawn.
    concepts: areas that may be drawn.
    pictures: of the sections.
    read_only: nobody may draw.
    mapper: who draws, where the page does not say.
    mesh: folder of the mesh, if there is one.
    own: folder for what may not be written into the state folder, of a server that only shows.
    bell: for news.
    jobs, predictions: fillings.
    """

    name: str
    stack: SectionStack
    folder: Path
    state: State
    concepts: Concepts
    pictures: Pictures
    jobs: Jobs
    predictions: Predictions
    read_only: bool = False
    mapper: str = "mapper"
    mesh: Path | None = None
    own: Path | None = None
    bell: Bell = field(default_factory=Bell)

    def __post_init__(self) -> None:
        self.sections: Mapping[int, Section] = {section.index: section for section in self.stack}
        self._lock = threading.Lock()
        self._knowing = threading.Lock()
        self._checked: dict[str, tuple[int, str]] = {}
        self._asking: dict[str, Future[str]] = {}
        self._asker = ThreadPoolExecutor(1)
        self._known: tuple[int, Situation] | None = None
        # Outlines as files that `Annotations` reads; what guests see may not be written into the state folder.
        self.snapshot = (self.own or self.folder) / "snapshots" / "server"

    def rounds(self) -> list[Job]:
        """Fillings that are done, in the order in which they were asked for.

        One that was ended and gone on with keeps the number of its round, and is newer than that.
        """
        done = (job for job in self.jobs.all() if job.state == "done")
        return sorted(done, key=lambda job: (job.started, job.round, job.engine))

    def why_not(self, engine: str) -> str:
        """Why an engine can fill in nothing now, in a mapper's words; empty if it can."""
        seq = self.state.seq
        with self._lock:
            if self._checked.get(engine, (-1, ""))[0] != seq:
                self._checked[engine] = (seq, self._check(engine))
            return self._checked[engine][1]

    def known_why_not(self, engine: str) -> str:
        """The same without a long wait: what was known last, while it is looked at anew; then windows are told."""
        seq, text = self._checked.get(engine, (-1, ""))
        if seq == self.state.seq:
            return text
        asked = self._asking.get(engine)
        if asked is None or asked.done():
            asked = self._asking[engine] = self._asker.submit(self.why_not, engine)
        try:
            return asked.result(PATIENCE_S)
        except TimeoutError:
            asked.add_done_callback(lambda _: self.jobs.changed())
            return text

    def _check(self, engine: str) -> str:
        if self.read_only:
            return "this server only shows what was drawn"
        try:
            self.predictions.setup.engines[engine].check(self.situation())
        except InputError as error:
            return str(error)
        return ""

    def situation(self) -> Situation:
        """What is known now. Raises InputError as `situation_of`."""
        seq = self.state.seq
        with self._knowing:
            if self._known is None or self._known[0] != seq:
                stack, brain = self.predictions.brain()
                known = situation_of(
                    self.state.all_records(), stack, brain, self.concepts.table, self.snapshot, every=self.stack
                )
                self._known = (seq, known)
            return self._known[1]

    def warm(self) -> None:
        """Load what the first look at the page asks for."""
        for engine in self.predictions.setup.engines:
            self.why_not(engine)

    def section(self, index: int) -> Section:
        """Raises InputError if there is none of that number."""
        if index not in self.sections:
            raise InputError(f"there is no section {index}")
        return self.sections[index]

    def about(self, writes: bool, mapper: str) -> dict[str, Any]:
        """What `GET /api/stack` answers."""
        engines = self.predictions.setup.engines
        predicted, scored = self._predicted()
        return {
            "name": self.name,
            "id": hashlib.sha256(str(self.folder.resolve()).encode()).hexdigest()[:16],  # for what waits in a browser
            "space": self.stack.space,
            "mapper": mapper,
            "read_only": self.read_only or not writes,
            "seq": self.state.seq,
            "jobs": self.jobs.changes,
            "mesh": self.mesh is not None,
            "engines": [
                {"name": name, "title": one.title, "ready": not why_not, "why_not": why_not}
                for name, one in engines.items()
                for why_not in [self.known_why_not(name)]
            ],
            "areas": list(self.concepts.rows),
            "sections": [self._section(one, one.index in predicted, scored.get(one.index)) for one in self.stack],
        }

    def _predicted(self) -> tuple[set[int], dict[int, float]]:
        """Sections that the newest round says something of, and how well it did on those that it hid from itself."""
        for job in self.rounds()[-1:]:
            try:
                filling = self.predictions.filling(job)
                return set(filling.sections), scores(filling.figures)
            except InputError:
                break
        return set(), {}

    def _section(self, section: Section, predicted: bool, score: float | None) -> dict[str, Any]:
        shown = self.pictures.shown[section.index]
        records = [record for record in self.state.records(section.index) if record.kind == "area"]
        drawn: dict[str, int] = {}
        for record in records:
            if record.origin != "accepted":
                drawn[record.area] = drawn.get(record.area, 0) + 1
        return {
            "index": section.index,
            "position_mm": section.position_mm,
            "pixel_um": section.pixel_um,
            "width": section.shape[1],
            "height": section.shape[0],
            "usable": section.usable,
            "mirrored": section.mirrored,
            "tile_px": 256,
            "levels": [
                {"width": level.shape[1], "height": level.shape[0], "factor": max(level.factor)}
                for level in shown.levels
            ],
            "ready": self.pictures.ready(section.index),
            "drawn": drawn,
            "accepted": sum(record.origin == "accepted" for record in records),
            "predicted": int(predicted),
            "score": score,
            "flags": [*section.flags, *([] if section.usable else ["not usable"])],
        }
