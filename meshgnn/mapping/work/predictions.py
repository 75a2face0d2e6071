"""What rounds predicted, as the page shows it: outlines, figures, sentences."""

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from meshgnn.errors import InputError
from meshgnn.mapping.kept.shapes import plain, valid_area
from meshgnn.mapping.setup import Setup
from meshgnn.mapping.situation import open_brain
from meshgnn.mapping.socket import Filling, PredictedArea
from meshgnn.mapping.work.job import Job
from meshgnn.sockets import Brain
from meshgnn.source.sections import SectionStack

_FILLINGS, _OUTLINES = 4, 256  # kept in memory


class Predictions:
    """Fillings of a state folder, read when they are asked for. Several threads may use it.

    Args:
        setup: engines, and what reads meshes.
        stack: stack folder.
        mesh: folder of its mesh, if there is one.
        state: state folder.
        names: of the areas by class number.
    """

    def __init__(self, setup: Setup, stack: Path, mesh: Path | None, state: Path, names: Sequence[str]) -> None:
        self.setup, self.stack, self.mesh, self.state, self.names = setup, stack, mesh, state, tuple(names)
        self._lock = threading.RLock()
        self._fillings: OrderedDict[tuple[str, str], Filling] = OrderedDict()
        self._outlines: OrderedDict[tuple[str, str, int], list[dict[str, Any]]] = OrderedDict()

    @cached_property
    def opened(self) -> tuple[SectionStack, Brain | None]:
        """The aligned sections and the brain on them, read at first use. Raises InputError as `open_brain`."""
        return open_brain(self.stack, self.mesh, self.setup.maker)

    def brain(self) -> tuple[SectionStack, Brain | None]:
        with self._lock:
            return self.opened

    def renamed(self, names: Sequence[str]) -> None:
        """Another list of areas."""
        with self._lock:
            self.names = tuple(names)
            self._outlines.clear()

    def filling(self, job: Job) -> Filling:
        """Of a job that is done. Raises InputError where it is damaged, or its engine is gone."""
        with self._lock:
            key = (job.id, job.started)
            if key not in self._fillings:
                engine = self.setup.engines.get(job.engine)
                if engine is None:
                    raise InputError(f"round {job.round} was filled in by {job.engine!r}, which is not there any more")
                self._fillings[key] = engine.read(job.folder(self.state), *self.opened)
                while len(self._fillings) > _FILLINGS:
                    self._fillings.popitem(last=False)
            self._fillings.move_to_end(key)
            return self._fillings[key]

    def sections(self, job: Job) -> tuple[int, ...]:
        """Numbers of the sections that it says something of."""
        return self.filling(job).sections

    def on(self, job: Job, section: int) -> list[dict[str, Any]]:
        """`{area, geometry, probability}` on a section. Raises InputError as `filling` does."""
        key = (job.id, job.started, section)
        with self._lock:
            if key not in self._outlines:
                found = [self._plain(one) for one in self.filling(job).on(section)]
                self._outlines[key] = [one for one in found if one is not None]
                while len(self._outlines) > _OUTLINES:
                    self._outlines.popitem(last=False)
            self._outlines.move_to_end(key)
            return self._outlines[key]

    def _plain(self, one: PredictedArea) -> dict[str, Any] | None:
        parts = [shapely.Polygon(rings[0], rings[1:]) for rings in one.polygons if len(rings[0]) > 3]
        whole = valid_area(shapely.MultiPolygon(parts)) if parts else shapely.Polygon()
        if whole.is_empty:
            return None
        probability = round(float(np.clip(one.probability, 0, 1)), 4)
        return {"area": self.names[one.area], "geometry": plain(whole), "probability": probability}


def scores(figures: Mapping[str, Any]) -> dict[int, float]:
    """Mean Dice of the areas of every section that was hidden while a round judged itself, if it tells."""
    by_section: dict[int, list[float]] = {}
    for row in figures.get("hidden", ()):
        by_section.setdefault(int(row["section"]), []).append(float(row["dice"]))
    return {section: round(sum(each) / len(each), 3) for section, each in by_section.items()}
