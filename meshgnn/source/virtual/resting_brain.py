"""One virtual brain with areas, structural features and a resting run at every node, to map areas with.

The areas of a network share a time course and have one of their own, whose frequency is theirs; the two hemispheres
follow the same courses up to a part of their own, as homotopic areas do. A node adds to its area's course noise that is
smooth along the cortex, and noise of its own. All sizes are set by hand.
"""

from dataclasses import dataclass, field

import numpy as np

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError
from meshgnn.mesh.record import HEMISPHERES
from meshgnn.source.socket import Reading
from meshgnn.source.virtual.fields import Floats, SmoothField, stream
from meshgnn.source.virtual.subjects import VirtualSubjects
from meshgnn.source.virtual.time_courses import amplitudes, coloured


class VirtualRestingBrain:
    """Draws the brain; a `meshgnn.source.socket.BrainSource` with the series `bold`."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            people: the cohort that the brain is one of, and its resolution.
            number: of the subject in the cohort, from 0.
            frames: of the run.
            tr_s: time between them.
            networks: that areas are dealt to.
            lowest_hz, highest_hz: between which the areas' own frequencies lie.
            homotopic: correlation of the courses of an area in the two hemispheres.
            together: share of a network's course in that of its areas.
            smooth: standard deviation of the noise that neighbours share, in those of the area's course.
            smooth_mm: how far it reaches.
            noise: standard deviation of a node's own noise.
        """

        people: VirtualSubjects.Config = field(
            default_factory=lambda: VirtualSubjects.Config(subjects=4, sites=2, nodes=2562)
        )
        number: int = 0
        frames: int = 200
        tr_s: float = 2.0
        networks: int = 8
        lowest_hz: float = 0.02
        highest_hz: float = 0.12
        homotopic: float = 0.8
        together: float = 0.6
        smooth: float = 1.0
        smooth_mm: float = 10.0
        noise: float = 1.5

        def __post_init__(self) -> None:
            if not 0 <= self.number < self.people.subjects:
                raise SettingError(f"<number> must lie between 0 and {self.people.subjects - 1}")
            if not 16 <= self.frames <= 10_000 or not self.tr_s > 0 or self.networks < 1:
                raise SettingError("<frames> must lie between 16 and 10000, <tr_s> be above 0, <networks> at least 1")
            if not 0 < self.lowest_hz < self.highest_hz < 0.5 / self.tr_s:
                raise SettingError("<lowest_hz> and <highest_hz> must ascend between 0 and half the sampling rate")
            if not 0 <= self.homotopic <= 1 or not 0 <= self.together <= 1 or not self.smooth_mm > 0:
                raise SettingError("<homotopic> and <together> must lie in [0, 1], <smooth_mm> be above 0")
            if min(self.smooth, self.noise) < 0:
                raise SettingError("<smooth> and <noise> must not be negative")

        def build(self) -> "VirtualRestingBrain":
            return VirtualRestingBrain(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def read(self) -> Reading:
        """The brain; nothing is read from disk but the template."""
        c = self.config
        cohort = c.people.build()
        graph = cohort.brain(cohort.people(), c.number)
        courses = self._courses(len(graph.areas))
        rng = stream(c.people.seed, "resting brain", c.number)
        series = np.zeros((graph.n_nodes, c.frames))
        for number, side in enumerate(HEMISPHERES):
            nodes = np.flatnonzero(graph.hemisphere == side)
            labels, points = graph.labels[nodes], graph.vertices_mm[nodes].astype(np.float64)
            inside = labels >= 0
            series[nodes[inside]] = courses[number][labels[inside]]
            series[nodes] += SmoothField.draw(rng, scale_mm=c.smooth_mm, sd=c.smooth, channels=c.frames).at(points)
        series += c.noise * rng.standard_normal(series.shape)
        return Reading(graph=graph, atlas="virtual", series={"bold": series.astype(np.float32)})

    def _courses(self, areas: int) -> list[Floats]:
        """[K, T] time courses of the areas, of variance 1, for each hemisphere."""
        c = self.config
        rng = stream(c.people.seed, "resting courses")
        network = rng.permutation(np.arange(areas) % c.networks)
        peaks = rng.uniform(c.lowest_hz, c.highest_hz, areas)
        own = stream(c.people.seed, "resting run", c.number)
        slow = np.full(c.networks, (c.lowest_hz + c.highest_hz) / 2)
        shape, joint = amplitudes(peaks, c.frames, c.tr_s), amplitudes(slow, c.frames, c.tr_s)

        def drawn() -> Floats:
            together = coloured(own, joint, c.frames)[network]
            alone = coloured(own, shape, c.frames)
            return np.asarray(np.sqrt(c.together) * together + np.sqrt(1 - c.together) * alone)

        shared, sides = drawn(), (drawn(), drawn())
        return [np.sqrt(c.homotopic) * shared + np.sqrt(1 - c.homotopic) * side for side in sides]
