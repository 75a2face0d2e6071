"""The virtual cohort over time: resting runs of the very subjects of `VirtualSubjects`.

The regions of a network share a time course of low frequencies, and have one each of their own; a run is their sum over
the MNI152 template, with the signal of a moving head (the shift of its picture, to first order), slow drifts, and the
gain and noise of a scanner. What tells the class `sex` is the frequency of one network and the coupling of two others;
the number `age` loosens the regions of a fourth. `null` is planted nowhere. Subjects differ in all of it besides.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError
from meshgnn.source.participant_table import Participants
from meshgnn.source.subjects import Target
from meshgnn.source.virtual.areas import isocortical_areas
from meshgnn.source.virtual.fields import Floats, SmoothField, stream
from meshgnn.source.virtual.head import Head
from meshgnn.source.virtual.planted import Planted
from meshgnn.source.virtual.regions import Regions
from meshgnn.source.virtual.subjects import VirtualPeople, VirtualSubjects
from meshgnn.source.virtual.time_courses import amplitudes, coloured, drifts, motion

TARGETS = (Target(name="sex", classes=("F", "M")), Target(name="age"), Target(name="null", classes=("no", "yes")))
BOLD = 1000.0  # grey values of white matter


class VirtualRuns:
    """Draws runs; the same seed gives the same, whatever else is drawn."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            people: the cohort; `VirtualSubjects` and `VirtualImages` show the same subjects otherwise.
            size: voxels along a side of the cube of 192 mm.
            frames: of a run.
            tr_s: time between them.
            regions: with a time course each; every area is one at least.
            networks: that the regions belong to.
            areas: that four networks grow about: sex moves the frequency of the first one, and the coupling of the
                second and the third; age loosens the fourth.
            peak_hz: of the networks' time courses, on average.
            frequency_effect_hz: by which the classes of sex differ in the first network's peak.
            coupling_effect: by which they differ in the correlation of the second and the third network.
            age_effect: by which ten years lower the share of the network in the time courses of the fourth one's
                regions, as a correlation.
            coupling_sd: standard deviation between subjects of every correlation of networks.
            signal: standard deviation of a region's time course, as a share of the voxel's mean.
            motion_mm: standard deviation of the head's shifts; subjects vary between half and twice that.
            drift: standard deviation of the drifts, as a share of the voxel's mean.
            gain: standard deviation of the log of a scanner's gain.
            noise: of the voxels, as a share of white matter; scanners vary between half and twice that.
        """

        people: VirtualSubjects.Config = field(default_factory=lambda: VirtualSubjects.Config(subjects=200))
        size: int = 24
        frames: int = 120
        tr_s: float = 2.0
        regions: int = 40
        networks: int = 8
        areas: tuple[str, str, str, str] = ("V1", "46", "STG", "23")
        peak_hz: float = 0.04
        frequency_effect_hz: float = 0.012
        coupling_effect: float = 0.8
        age_effect: float = 0.1
        coupling_sd: float = 0.1
        signal: float = 0.015
        motion_mm: float = 0.03
        drift: float = 0.006
        gain: float = 0.1
        noise: float = 0.01

        def __post_init__(self) -> None:
            known = isocortical_areas().names
            if not 16 <= self.size <= 256 or not 16 <= self.frames <= 10_000 or not self.tr_s > 0:
                raise SettingError("<size> must lie between 16 and 256, <frames> 16 and 10000, <tr_s> be above 0")
            if not len(known) <= self.regions <= 400 or not len(self.areas) <= self.networks <= len(known):
                raise SettingError(
                    f"<regions> must lie between {len(known)} (one for each area) and 400, <networks> between "
                    f"{len(self.areas)} and {len(known)}"
                )
            if wrong := [name for name in self.areas if name not in known]:
                raise SettingError(f"<areas> names {wrong[0]!r}; there are {', '.join(known)}")
            if len(set(self.areas)) < len(self.areas):
                raise SettingError("<areas> names an area twice; each is the middle of a network of its own")
            if not 0 < self.peak_hz < 0.5 / self.tr_s or abs(self.frequency_effect_hz) >= 2 * self.peak_hz:
                raise SettingError(
                    "<peak_hz> must lie below half the sampling rate, <frequency_effect_hz> below twice it"
                )
            if min(self.coupling_sd, self.signal, self.motion_mm, self.drift, self.gain, self.noise) < 0:
                raise SettingError(
                    "<coupling_sd>, <signal>, <motion_mm>, <drift>, <gain>, <noise> must not be negative"
                )

        def build(self) -> "VirtualRuns":
            return VirtualRuns(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def seed(self) -> int:
        return self.config.people.seed

    @cached_property
    def head(self) -> Head:
        return Head.of_size(self.config.size)

    @cached_property
    def people(self) -> VirtualPeople:
        return self.config.people.build().people()

    @cached_property
    def null(self) -> NDArray[np.int64]:
        """[G] 0 or 1, drawn at random."""
        return stream(self.seed, "runs", "null").integers(0, 2, len(self.people.ids))

    @cached_property
    def regions(self) -> Regions:
        return Regions.drawn(self.config.regions, self.config.networks, self.config.areas)

    @cached_property
    def planted(self) -> Planted:
        """Where the traits lie: whole networks; pairs of regions whose correlation they move."""
        rows, columns = np.triu_indices(len(self.regions), 1)
        a, b = self.regions.network[rows], self.regions.network[columns]
        coupled = ((a == 1) & (b == 2)) | ((a == 2) & (b == 1))
        networks = {"sex": (0, 1, 2), "age": (3,)}
        maps = self._maps.reshape(len(self.regions), *self.head.t1.shape)
        return Planted(
            areas={trait: self.regions.areas_of(own) for trait, own in networks.items()},
            weights={trait: maps[np.isin(self.regions.network, own)].sum(0) for trait, own in networks.items()},
            edges={"sex": coupled, "age": (a == 3) & (b == 3)},
            columns={},
        )

    def participants(self) -> Participants:
        """The subjects with their targets; the same values are missing as in the mesh graphs."""
        people = self.people
        values = np.stack([people.sex, people.age.round(1), self.null], axis=1).astype(float)
        return self.config.people.build().participants(people, TARGETS, values)

    # -- one subject ------------------------------------------------------------------------------------------------

    def signals(self, number: int) -> Floats:
        """[T, R] time courses of the regions, of variance about 1, before anything is added."""
        c, people, own = self.config, self.people, self.regions.network
        rng = stream(self.seed, "runs", "signals", number)
        peak = c.peak_hz * np.exp(0.1 * stream(self.seed, "runs", "peaks").standard_normal(c.networks))
        peak[0] = c.peak_hz + c.frequency_effect_hz * (people.sex[number] - 0.5)
        peak = np.maximum(peak * np.exp(0.08 * rng.standard_normal(c.networks)), 0.005)
        shape = amplitudes(peak, c.frames, c.tr_s)
        apart = coloured(rng, shape, c.frames)
        # The first network keeps its frequency to itself; the others are mixed to their correlations.
        networks = np.concatenate([apart[:1], self._mixing(number, rng) @ apart[1:]])
        share = np.full(len(own), 0.7) + 0.05 * rng.standard_normal(len(own))
        share[own == 3] -= c.age_effect * (people.age[number] - 50) / 10
        share = np.clip(share, 0.05, 0.95)
        alone = coloured(rng, shape[own], c.frames)
        return np.asarray((share[:, None] * networks[own] + np.sqrt(1 - share**2)[:, None] * alone).T)

    def _mixing(self, number: int, rng: np.random.Generator) -> Floats:
        """[K - 1, K - 1] lower triangular, of the correlations of all networks but the first."""
        c, count = self.config, self.config.networks - 1
        upper = np.triu_indices(count, 1)
        common = 0.15 * stream(self.seed, "runs", "coupling").standard_normal(len(upper[0]))
        common[0] = c.coupling_effect * (self.people.sex[number] - 0.5)  # of networks 1 and 2
        wanted = np.eye(count)
        wanted[upper] = np.clip(common + c.coupling_sd * rng.standard_normal(len(common)), -0.9, 0.9)
        wanted = wanted + np.triu(wanted, 1).T
        # The nearest matrix that can be one of correlations, but for the length of its rows.
        values, vectors = np.linalg.eigh(wanted)
        possible = (vectors * np.maximum(values, 0.05)) @ vectors.T
        length = np.sqrt(np.diag(possible))
        return np.asarray(np.linalg.cholesky(possible / length / length[:, None]))

    def motion(self, number: int) -> Floats:
        """[T, 6] what the head did: shifts in mm, turns in radians."""
        rng = stream(self.seed, "runs", "motion", number)
        size = self.config.motion_mm * 2 ** np.clip(rng.standard_normal(), -1, 1)
        return motion(rng, self.config.frames, float(size))

    def run(self, number: int) -> NDArray[np.float32]:
        """[X, Y, Z, T] grey values of one run, 0 outside the brain."""
        out = np.zeros((self.config.size**3, self.config.frames), np.float32)
        out[self._inside] = self._values(number).T
        return out.reshape(*self.head.t1.shape, self.config.frames)

    def series(self, number: int) -> NDArray[np.float32]:
        """[T, R] means of the regions of that very run, each voxel counted as much as the region is in it."""
        maps = self._maps[:, self._inside]
        with threadpool_limits(1):
            return np.asarray(self._values(number) @ (maps / maps.sum(1, keepdims=True)).T, np.float32)

    def _values(self, number: int) -> NDArray[np.float32]:
        """[T, V] of the voxels of the brain. Sums on one thread: the same bits on any machine of a kind."""
        c, people = self.config, self.people
        rng = stream(self.seed, "runs", "scan", number)
        site = stream(self.seed, "runs", "scanner", int(people.site[number])).standard_normal(2)
        base = self._base * (1 + 0.1 * SmoothField.draw(rng, scale_mm=25, sd=1.0).at(self._places)[:, 0])
        slow = c.drift * drifts(c.frames) * rng.standard_normal(3) / np.sqrt(3)
        over = np.concatenate([c.signal * self.signals(number), slow], axis=1).astype(np.float32)
        where = np.concatenate([self._maps[:, self._inside], self._slow_maps])
        with threadpool_limits(1):
            values = 1 + over @ where
            values *= base.astype(np.float32)
            values += self.motion(number).astype(np.float32) @ self._moved
        noise = c.noise * 2 ** np.clip(site[1], -1, 1)
        values += np.float32(noise) * rng.standard_normal(values.shape, np.float32)
        values *= np.float32(BOLD * np.exp(c.gain * site[0]))
        return np.maximum(values, 1.0)

    # -- what all subjects share --------------------------------------------------------------------------------------

    @cached_property
    def _inside(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.head.t1 > 0)

    @cached_property
    def _base(self) -> Floats:
        return self.head.t1.reshape(-1)[self._inside].astype(np.float64)

    @cached_property
    def _places(self) -> Floats:
        """[V, 3] mm of the voxels of the brain."""
        at = np.stack(np.unravel_index(self._inside, self.head.t1.shape), axis=1)
        return at @ self.head.affine[:3, :3].T + self.head.affine[:3, 3]

    @cached_property
    def _maps(self) -> NDArray[np.float32]:
        """[R, S^3]."""
        return self.regions.maps(self.head).reshape(len(self.regions), -1)

    @cached_property
    def _slow_maps(self) -> NDArray[np.float32]:
        """[3, V] where the drifts are, of variance about 1."""
        field = SmoothField.draw(stream(self.seed, "runs", "drift"), scale_mm=40, sd=1.0, channels=3)
        return field.at(self._places).T.astype(np.float32)

    @cached_property
    def _moved(self) -> NDArray[np.float32]:
        """[6, V] change of the picture by a shift of 1 mm along, and a turn of 1 radian about, each axis."""
        t1, spacing = self.head.t1.astype(np.float64), float(self.head.affine[0, 0])
        slope = np.stack([np.gradient(t1, spacing, axis=k).reshape(-1)[self._inside] for k in range(3)], axis=1)
        return np.asarray(-np.concatenate([slope.T, np.cross(self._places, slope).T]), np.float32)
