"""The virtual cohort as volumes, connectivity and tables: the very subjects of `VirtualSubjects`, seen otherwise.

T1-like volumes are the MNI152 template, deformed smoothly (half of it shared in a family), with a scanner's gain and
noise. Traits are planted with known size and place (`planted`): the class `sex`, the number `age` and the number
`score`, in T1 intensity of named cortical areas, in connectivity within a network of regions, in columns of a table.
`null` is planted nowhere. Site is a confound of everything: it has a gain, a noise, a mean age and an offset of the
score; age is one of the score. Some subjects lack inputs.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError
from meshgnn.graph import MeshGraph
from meshgnn.source.participant_table import Participants
from meshgnn.source.subjects import Target
from meshgnn.source.virtual.areas import isocortical_areas
from meshgnn.source.virtual.fields import Floats, stream
from meshgnn.source.virtual.head import KNOTS, SPACE, Head
from meshgnn.source.virtual.planted import TRAITS, Planted, area_weights, network_edges
from meshgnn.source.virtual.subjects import VirtualPeople, VirtualSubjects
from meshgnn.source.volume import Volume

INPUTS = ("T1w", "connectivity", "table")
TARGETS = (Target(name="sex", classes=("F", "M")), Target(name="age"), Target(name="score"),
           Target(name="null", classes=("no", "yes")))  # fmt: skip
NETWORK = 6  # regions
# Column: domain, and how much of each trait (in standard deviations) it takes up.
COLUMNS: dict[str, tuple[str, dict[str, float]]] = {
    "grip": ("constitutional", {"sex": 1.2, "age": -0.3}),
    "height": ("constitutional", {"sex": 1.4}),
    "blood_a": ("serology", {"sex": 0.9}),
    "blood_b": ("serology", {"age": 0.5}),
    "blood_c": ("serology", {}),
    "mood_a": ("psychology", {"score": 0.6}),
    "mood_b": ("psychology", {"score": 0.3}),
    "mood_c": ("psychology", {}),
}
# Of the traits themselves, as participants.json tells them; null has none.
DOMAINS = {"sex": "sex", "age": "age", "score": "psychology"}
SMOKING = ("never", "former", "current")


@dataclass(frozen=True, kw_only=True, eq=False)
class Traits:
    """
    Args:
        people: names, families, sites, age and sex.
        ability: [G] the part of the score that is planted, mean 0 and standard deviation 1.
        score: [G] ability, and the confounds site and age.
        null: [G] 0 or 1, planted nowhere.
        present: [G, 3] bool, which of the inputs a subject has.
    """

    people: VirtualPeople
    ability: Floats
    score: Floats
    null: NDArray[np.int64]
    present: NDArray[np.bool_]


class VirtualImages:
    """Draws volumes, matrices and tables of a virtual cohort; the same seed gives the same, whatever else is drawn."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            people: the cohort; `VirtualSubjects` draws mesh graphs of the same subjects from it.
            size: voxels along a side of the cube of 192 mm.
            regions: of the connectivity matrix.
            areas: cortical areas whose T1 intensity tells sex, age and score, one each.
            sex_effect: difference of the classes' T1 intensity there, as a share.
            age_effect: change of T1 intensity there in ten years, as a share.
            score_effect: change of T1 intensity there with one standard deviation of ability, as a share.
            edge_effect: of the traits on connectivity within their network, in Fisher's z for one standard deviation.
            deform_mm: standard deviation of the displacement of the deformation's knots.
            gain: standard deviation of the log of a scanner's gain.
            noise: of the voxels, as a share of white matter; scanners vary between half and twice that.
            site_points: standard deviation of the sites' offsets of the score.
            year_points: change of the score with a year of age.
            absent: share of subjects who lack an input, input by input; everybody has one at least.
            meshes: also give the features of the nodes of the same subjects' meshes, as `VirtualSubjects` draws them:
                age and sex are planted there too, in other areas, by the settings of `people`.
        """

        people: VirtualSubjects.Config = field(default_factory=lambda: VirtualSubjects.Config(subjects=400))
        size: int = 32
        regions: int = 40
        areas: tuple[str, str, str] = ("V1", "46", "STG")
        sex_effect: float = 0.25
        age_effect: float = 0.06
        score_effect: float = 0.06
        edge_effect: float = 0.15
        deform_mm: float = 4.0
        gain: float = 0.1
        noise: float = 0.04
        site_points: float = 8.0
        year_points: float = -0.2
        absent: float = 0.0
        meshes: bool = False

        def __post_init__(self) -> None:
            if not 16 <= self.size <= 256 or self.regions < 3 * NETWORK:
                raise SettingError(f"<size> must lie between 16 and 256, <regions> be at least {3 * NETWORK}")
            if not 0 <= self.absent < 1 or min(self.deform_mm, self.gain, self.noise, self.site_points) < 0:
                raise SettingError(
                    "<absent> must lie in [0, 1), <deform_mm>, <gain>, <noise> and <site_points> not be negative"
                )
            known = isocortical_areas().names
            if wrong := [name for name in self.areas if name not in known]:
                raise SettingError(f"<areas> names {wrong[0]!r}; there are {', '.join(known)}")

        def build(self) -> "VirtualImages":
            return VirtualImages(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    @property
    def seed(self) -> int:
        return self.config.people.seed

    @cached_property
    def head(self) -> Head:
        return Head.of_size(self.config.size)

    @cached_property
    def traits(self) -> Traits:
        c = self.config
        people = c.people.build().people()
        count, rng = len(people.ids), stream(self.seed, "ability")
        ability = rng.standard_normal(count)
        offset = c.site_points * self._of_sites("points")
        score = 100 + 10 * ability + offset[people.site] + c.year_points * (people.age - 50)
        absent = stream(self.seed, "absent").random((count, len(INPUTS))) < c.absent
        keeps = stream(self.seed, "kept").integers(0, len(INPUTS), count)
        absent[np.arange(count), keeps] &= ~absent.all(1)
        return Traits(
            people=people, ability=ability, score=score + 4 * rng.standard_normal(count),
            null=rng.integers(0, 2, count), present=~absent,
        )  # fmt: skip

    @cached_property
    def planted(self) -> Planted:
        c = self.config
        return Planted(
            areas={trait: (area,) for trait, area in zip(TRAITS, c.areas)},
            weights={trait: area_weights(self.head, (area,)) for trait, area in zip(TRAITS, c.areas)},
            edges={
                trait: network_edges(c.regions, slice(k * NETWORK, (k + 1) * NETWORK)) for k, trait in enumerate(TRAITS)
            },
            columns={trait: tuple(name for name, (_, own) in COLUMNS.items() if trait in own) for trait in TRAITS},
        )

    def participants(self) -> Participants:
        """The subjects with their targets; the same values are missing as in the mesh graphs."""
        traits, people = self.traits, self.traits.people
        values = np.stack([people.sex, people.age.round(1), traits.score.round(2), traits.null], axis=1).astype(float)
        return self.config.people.build().participants(people, TARGETS, values)

    def volume(self, number: int) -> Volume:
        """T1-like, of one subject; drawn whether or not the subject is said to lack it."""
        c, head, traits = self.config, self.head, self.traits
        people = traits.people
        site = int(people.site[number])
        parts = self.planted.weights
        own = head.t1 * (
            1
            + np.float32(c.sex_effect * (people.sex[number] - 0.5)) * parts["sex"]
            - np.float32(c.age_effect * (people.age[number] - 50) / 10) * parts["age"]
            + np.float32(c.score_effect * traits.ability[number]) * parts["score"]
        )
        values = head.deformed(own.astype(np.float32), self._displacement(number))
        brain = values > 0
        rng = stream(self.seed, "voxels", number)
        noise = c.noise * 2 ** np.clip(self._of_sites("noise")[site], -1, 1)
        values += np.float32(noise) * rng.standard_normal(values.shape, np.float32)
        values *= np.float32(np.exp(c.gain * self._of_sites("gain")[site] + 0.02 * rng.standard_normal()))
        return Volume(values=np.where(brain, np.maximum(values, 1e-3), 0), affine=head.affine, space=SPACE)

    def individual_mm(self, number: int, points_mm: Floats) -> Floats:
        """Where points [P, 3] of the template (mm of MNI152) lie in the volume of one subject, in mm."""
        return self.head.individual_mm(points_mm, self._displacement(number))

    def _displacement(self, number: int) -> NDArray[np.float32]:
        """[3, S, S, S] mm, half of it shared in the family."""
        moved = self._knots("family", int(self.traits.people.family[number])) + self._knots("subject", number)
        return self.head.displacement(self.config.deform_mm * moved / np.sqrt(2))

    def _of_sites(self, kind: str) -> Floats:
        """[sites] numbers of mean 0 and standard deviation 1, exactly, however few sites there are; 0 for one alone."""
        drawn = stream(self.seed, "sites", kind).standard_normal(self.config.people.sites)
        centred = drawn - drawn.mean()
        return centred / (centred.std() or 1.0)

    def _knots(self, kind: str, number: int) -> Floats:
        return stream(self.seed, "deformation", kind, number).standard_normal((KNOTS, KNOTS, KNOTS, 3))

    def connectivity(self, number: int) -> NDArray[np.float32]:
        """[R, R] correlations of one subject, 1 on the diagonal."""
        c, traits = self.config, self.traits
        people, regions = traits.people, c.regions
        rows, columns = np.triu_indices(regions, 1)
        common = 0.3 + 0.2 * stream(self.seed, "connectome").standard_normal(len(rows))
        site = 0.05 * stream(self.seed, "scanner connectome", int(people.site[number])).standard_normal(len(rows))
        own = 0.15 * stream(self.seed, "connections", number).standard_normal(len(rows))
        z = common + site + own
        for trait, value in self._standard(number).items():
            z += c.edge_effect * value * self.planted.edges[trait]
        out = np.eye(regions, dtype=np.float32)
        out[rows, columns] = out[columns, rows] = np.tanh(z)
        return out

    @cached_property
    def _meshes(self) -> VirtualSubjects:
        return self.config.people.build()

    def mesh(self, number: int) -> MeshGraph | None:
        """The mesh of one subject with its table `surface`; None for one who lacks it, or where there are none."""
        missing = stream(self.seed, "absent meshes").random(len(self.traits.people.ids)) < self.config.absent
        if not self.config.meshes or missing[number]:
            return None
        return self._meshes.brain(self.traits.people, number)

    def _standard(self, number: int) -> dict[str, float]:
        """The planted traits of a subject, of mean 0 and standard deviation about 1."""
        people = self.traits.people
        return {
            "sex": 2.0 * float(people.sex[number]) - 1,
            "age": float(people.age[number] - 50) / 17,
            "score": float(self.traits.ability[number]),
        }

    def table(self) -> dict[str, list[str]]:
        """Cells [G] of the table's columns, for everybody; smoking is a category that nothing is planted in."""
        count = len(self.traits.people.ids)
        found = {}
        standard = [self._standard(number) for number in range(count)]
        for name, (_, own) in COLUMNS.items():
            noise = stream(self.seed, "column", name).standard_normal(count)
            values = [
                100 + 10 * (noise[k] + sum(size * standard[k][t] for t, size in own.items())) for k in range(count)
            ]
            found[name] = [f"{value:.2f}" for value in values]
        drawn = stream(self.seed, "column", "smoking").choice(SMOKING, count, p=[0.6, 0.25, 0.15])
        return found | {"smoking": [str(one) for one in drawn]}
