"""Where the graph puts areas on a section, as the hint that a local model refines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.mapping.engines.evidence import Evidence
from meshgnn.mapping.engines.graph import GraphEngine
from meshgnn.mapping.pixel_filling import SectionGrid
from meshgnn.mapping.ribbon import Ribbons
from meshgnn.mapping.socket import Situation
from meshgnn.progress import Progress, Stopped, heeding


class GraphHints:
    """Probabilities of areas on the sections of one situation.

    Drawn sections have the map that knows what was drawn there: a model learns from them what of the mesh's cortex the
    image bears out, not where areas lie. The map that the graph makes without a drawn section misses by a whole gap,
    and would teach to mend what the sections between do not suffer from.

    Args:
        engine: the graph; kept: folder of what rounds share.
        width_um: of the pixels.
        stopped: asked between two pieces of work.

    Raises:
        InputError: as `GraphEngine.fill`; no drawn section that the mesh knows.
        Stopped: it was ended.
    """

    def __init__(
        self, engine: GraphEngine, situation: Situation, kept: Path, width_um: float, progress: Progress,
        stopped: Callable[[], bool],
    ) -> None:  # fmt: skip
        assert situation.brain is not None
        engine.check(situation)
        self.graph, self.width_um = situation.brain.graph, width_um
        evidence = Evidence.of(situation, kept)
        if not evidence.known.any():
            raise InputError("no node of the mesh lies on a drawn section; draw on sections that the mesh knows")
        progress = heeding(progress, stopped)
        features = engine.features(situation, kept, progress)
        votes = engine.votes(situation, features, kept, progress, stopped)
        self.shares, _ = engine.filled(situation, evidence, votes, kept, progress, stopped)
        if stopped():  # the graph ends early with a map of less
            raise Stopped
        self.areas, self.ribbons = evidence.areas, Ribbons(self.graph, width_um)

    def of(self, grid: SectionGrid, areas: tuple[int, ...]) -> dict[str, NDArray[Any]]:
        """`hint_N` [A, rows, columns] uint8 (255 = 1) and `ribbon_N` [rows, columns] uint8 of section N.

        Args:
            areas: class numbers; an area that the graph does not know has 0.
        """
        index = grid.section.index
        place = {int(area): k for k, area in enumerate(self.areas)}
        ribbon = self.ribbons.of(grid.section)
        there = ribbon.shares(self.shares)
        rows, columns = (
            ((np.arange(size) + 0.5) * many / size).astype(int) for size, many in zip(grid.shape, ribbon.shape)
        )
        inside = ribbon.image(np.ones(len(ribbon.pixel), np.int32)) > 0
        found = np.zeros((len(areas), *ribbon.shape), np.uint8)
        for k, area in enumerate(areas):
            if area in place:
                found[k].ravel()[ribbon.pixel] = np.rint(255 * there[:, place[area]])
        return {
            f"hint_{index}": found[:, rows[:, None], columns],
            f"ribbon_{index}": inside[rows[:, None], columns].astype(np.uint8),
        }
