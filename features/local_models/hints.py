"""Where the graph puts areas on a section, as the hint that a local model refines."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.mapping.engines.evidence import Evidence, carried
from meshgnn.mapping.engines.experts import Joining, around
from meshgnn.mapping.engines.graph import GraphEngine
from meshgnn.mapping.pixel_filling import SectionGrid
from meshgnn.mapping.ribbon import Ribbons
from meshgnn.mapping.socket import Situation
from meshgnn.progress import Progress, Stopped, heeding

STEP = "maps of the graph"


class GraphHints:
    """Probabilities of areas on the sections of one situation.

    On a section that is not drawn, the graph's map. On a drawn one, the map that the graph makes without what was drawn
    there; how votes are weighed and doubt grows with distance stays as it was chosen with all drawn sections.

    Args:
        engine: the graph; kept: folder of what rounds share.
        width_um: of the pixels.
        drawn: sections that models learn from: so many maps more are made, each without one of them.
        stopped: asked between two pieces of work.

    Raises:
        InputError: as `GraphEngine.fill`; no drawn section that the mesh knows.
        Stopped: it was ended.
    """

    def __init__(
        self, engine: GraphEngine, situation: Situation, kept: Path, width_um: float, progress: Progress,
        stopped: Callable[[], bool], *, drawn: Sequence[int] = (),
    ) -> None:  # fmt: skip
        assert situation.brain is not None
        engine.check(situation)
        self.graph, self.width_um = situation.brain.graph, width_um
        self.evidence = Evidence.of(situation, kept)
        if not self.evidence.known.any():
            raise InputError("no node of the mesh lies on a drawn section; draw on sections that the mesh knows")
        progress = heeding(progress, stopped)
        features = engine.features(situation, kept, progress)
        self.votes = engine.votes(situation, features, kept, progress, stopped)
        self.shares, figures = engine.filled(situation, self.evidence, self.votes, kept, progress, stopped)
        if stopped():  # the graph ends early with a map of less
            raise Stopped
        self.joining = Joining(**figures["joining"])
        self.ribbons = Ribbons(self.graph, width_um)
        self._without: dict[int, NDArray[np.float32]] = {}
        for number, index in enumerate(drawn):
            progress(STEP, number + 1, len(drawn) + 1)  # the map of all was the first
            self.without(index)
        progress(STEP, len(drawn) + 1, len(drawn) + 1)

    def without(self, index: int) -> NDArray[np.float32]:
        """[V, A + 1] the map without what was drawn on one section."""
        if index not in self._without:
            shown = self.evidence.without(self.evidence.section == index)
            far, away = carried(self.graph, shown)
            self._without[index] = self.joining.apply(far, away, self.votes(shown, far), around(self.graph, shown, far))
        return self._without[index]

    def of(self, grid: SectionGrid, areas: tuple[int, ...], *, drawn: bool) -> dict[str, NDArray[Any]]:
        """`hint_N` [A, rows, columns] uint8 (255 = 1) and `ribbon_N` [rows, columns] uint8 of section N.

        Args:
            areas: class numbers; an area that the graph does not know has 0.
            drawn: whether the section is one that a model learns from.
        """
        index = grid.section.index
        shares = self.without(index) if drawn else self.shares
        place = {int(area): k for k, area in enumerate(self.evidence.areas)}
        ribbon = self.ribbons.of(grid.section)
        there = ribbon.shares(shares)
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
