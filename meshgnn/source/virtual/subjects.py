"""Virtual subjects: light brains whose features carry a trait in a few areas, with families, sites and missing values.

No section is drawn. Every brain is the folded template at the resolution of a coarse icosphere, with an individual
layout of areas on it (`areas`), cortical thickness and two measures of the intracortical profile at every node. The
traits are planted so that they must be found: age thins a few areas, sex shifts the profile of a few others. Around
them lies what hides traits in real cohorts: smooth variation between subjects (half of it shared in a family), an
overall thickness of each subject, an offset of each site's scanner, ages that differ between sites, noise at every
node. All sizes are set by hand, about as large as they are reported for healthy adults (thinning of 0.03 to 0.06 mm a
decade in the areas concerned, scanner offsets of 0.1 mm).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import SettingError
from meshgnn.graph import FeatureTable, MeshGraph
from meshgnn.mesh.record import HEMISPHERES, SurfaceMesh
from meshgnn.source.participant_table import Participants
from meshgnn.source.subjects import Subject, Subjects, Target
from meshgnn.source.virtual.areas import ISOCORTEX, isocortical_areas, lay_out
from meshgnn.source.virtual.fields import Floats, SmoothField, stream
from meshgnn.source.virtual.surfaces import Hemisphere, read_template

FEATURES = ("thickness", "profileMean", "profileSkewness")
UNITS = ("mm", "", "")
AGE_AREAS = ("46", "9", "10", "24", "44", "PG")
SEX_AREAS = ("V1", "3b", "STG", "7")
SPACE = "fsaverage"


@dataclass(frozen=True, kw_only=True, eq=False)
class VirtualPeople:
    """Who the G subjects of a virtual cohort are.

    Args:
        ids: names sub-*.
        family, site: [G] numbers from 0.
        age: [G] years.
        sex: [G] 0 or 1.
    """

    ids: tuple[str, ...]
    family: NDArray[np.int64]
    site: NDArray[np.int64]
    age: NDArray[np.float64]
    sex: NDArray[np.int64]


class VirtualSubjects:
    """Draws a cohort; the same seed gives the same subjects."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            subjects: how many.
            nodes: of each hemisphere's mesh.
            sites: how many; subjects are dealt to them family by family.
            seed: of everything that is drawn.
            thinning_mm: by which ten years thin the areas that age concerns.
            shift: of the profile in the areas that sex concerns, in units of its variation between subjects.
            site_mm: standard deviation of the sites' offsets of thickness.
            site_years: standard deviation of the sites' mean ages.
            missing: share of the subjects for whom a target is not known, target by target.
        """

        subjects: int = 60
        nodes: Literal[162, 642, 2562] = 162
        sites: int = 6
        seed: int = 1
        thinning_mm: float = 0.06
        shift: float = 1.0
        site_mm: float = 0.1
        site_years: float = 6.0
        missing: float = 0.08

        def __post_init__(self) -> None:
            if not 4 <= self.subjects <= 100_000 or not 1 <= self.sites <= self.subjects or self.seed < 0:
                raise SettingError("<subjects> must be at least 4, <sites> 1 to <subjects>, <seed> not negative")
            if not 0 <= self.missing < 1 or min(self.site_mm, self.site_years) < 0:
                raise SettingError("<missing> must lie in [0, 1), <site_mm> and <site_years> not be negative")

        def build(self) -> "VirtualSubjects":
            return VirtualSubjects(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    @cached_property
    def _templates(self) -> list[Hemisphere]:
        return [coarse(read_template(None, side), self.config.nodes) for side in HEMISPHERES]

    def brain(self, people: VirtualPeople, number: int) -> MeshGraph:
        """The mesh of one of the people, with the features of its nodes."""
        own = (int(people.family[number]), int(people.site[number]), people.age[number], people.sex[number])
        return self._brain(self._templates, number, *own)

    def read(self) -> Subjects:
        c, people = self.config, self.people()
        family, site, age, sex = people.family, people.site, people.age, people.sex
        values = np.stack([age.round(1), sex], axis=1)
        values[stream(c.seed, "missing").random(values.shape) < c.missing] = np.nan
        drawn = [
            Subject(
                name=people.ids[number],
                graph=self.brain(people, number),
                family=f"family{family[number] + 1}",
                site=f"site{site[number] + 1}",
            )
            for number in range(c.subjects)
        ]
        targets = (Target(name="age"), Target(name="sex", classes=("F", "M")))
        return Subjects(subjects=tuple(drawn), targets=targets, values=values)

    def participants(
        self, people: VirtualPeople, targets: tuple[Target, ...], values: NDArray[np.float64]
    ) -> Participants:
        """The people with targets [G, T], of which the first two are sex and age: the same values are missing as in
        `read`."""
        found = np.array(values)
        missing = stream(self.config.seed, "missing").random((len(people.ids), 2)) < self.config.missing
        found[:, :2][missing[:, ::-1]] = np.nan
        return Participants(
            ids=people.ids,
            family=tuple(f"family{k + 1}" for k in people.family.tolist()),
            site=tuple(f"site{k + 1}" for k in people.site.tolist()),
            targets=targets,
            values=found,
        )

    def people(self) -> VirtualPeople:
        """Who the subjects are, before anything is drawn of their brains."""
        c = self.config
        family, site = self._belonging()
        rng = stream(c.seed, "traits")
        place_years = c.site_years * stream(c.seed, "sites").standard_normal(c.sites)
        age = np.clip(50 + 17 * rng.standard_normal(c.subjects) + place_years[site], 18, 90)
        digits = len(str(c.subjects))
        return VirtualPeople(
            ids=tuple(f"sub-{number + 1:0{digits}d}" for number in range(c.subjects)),
            family=family,
            site=site,
            age=age,
            sex=rng.integers(0, 2, c.subjects),
        )

    def _belonging(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Family and site [G] of every subject: families of one to three, each at one site."""
        rng = stream(self.config.seed, "families")
        family: list[int] = []
        while len(family) < self.config.subjects:
            family += [family[-1] + 1 if family else 0] * int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))
        own = np.array(family[: self.config.subjects])
        return own, np.arange(own.max() + 1)[own] % self.config.sites

    def _brain(
        self, templates: list[Hemisphere], number: int, family: int, site: int, age: float, sex: float
    ) -> MeshGraph:
        c = self.config
        meshes, labels, values, cortex = [], [], [], []
        areas = isocortical_areas()
        class_of = np.full(len(ISOCORTEX), -1)
        class_of[ISOCORTEX] = np.arange(len(areas))
        place = stream(c.seed, "scanner", site).standard_normal(3)
        whole = stream(c.seed, "subject", number).standard_normal(3)
        layout_seed = c.seed * 1_000_003 + number
        for hemi in templates:
            fields = lay_out(layout_seed, hemi.name, hemi.pial_mm, hemi.sphere, warp_mm=6.0, size_mm=2.0)
            label = class_of[fields.scores_mm(hemi.sphere).argmax(1)]
            noise = stream(c.seed, "nodes", number, hemi.name).standard_normal((len(label), 3))
            smooth = (_own(c.seed, hemi, "family", family) + _own(c.seed, hemi, "subject", number)) / np.sqrt(2)
            thick = 2.5 + 0.25 * _own(0, hemi, "everybody", 0)[:, 0]
            thick += 0.12 * smooth[:, 0] + 0.06 * whole[0] + c.site_mm * place[0] + 0.3 * noise[:, 0]
            thick -= c.thinning_mm * (age - 50) / 10 * np.isin(label, _numbers(areas.names, AGE_AREAS))
            profile = _own(0, hemi, "everybody", 1)[:, 1:] + 0.5 * smooth[:, 1:] + 0.3 * whole[1:] + 0.3 * place[1:]
            profile += 0.8 * noise[:, 1:]
            profile[:, 1] += 0.5 * c.shift * (sex - 0.5) * np.isin(label, _numbers(areas.names, SEX_AREAS))
            middle = (hemi.white_mm + hemi.pial_mm) / 2
            meshes.append(
                SurfaceMesh(vertices_mm=middle.astype(np.float32), faces=hemi.faces, hemisphere=hemi.name, space=SPACE)  # type: ignore[arg-type]
            )
            labels.append(np.where(hemi.cortex, label, -1))
            values.append(np.c_[thick, profile])
            cortex.append(hemi.cortex)
        inside = np.concatenate(cortex)
        table = FeatureTable(name="surface", values=np.concatenate(values), mask=inside, columns=FEATURES, units=UNITS)
        return MeshGraph(
            brain=f"sub-{number + 1}", meshes=tuple(meshes), cortex=inside, labels=np.concatenate(labels), areas=areas,
            tables={"surface": table},
        )  # fmt: skip


def _numbers(names: tuple[str, ...], wanted: tuple[str, ...]) -> list[int]:
    return [names.index(name) for name in wanted]


def _own(seed: int, hemi: Hemisphere, kind: str, number: int) -> Floats:
    """[V, 3] smooth fields of variance 1 on the sphere, of somebody."""
    rng = stream(seed, kind, number, hemi.name)
    return SmoothField.draw(rng, scale_mm=20, sd=1.0, channels=3).at(hemi.sphere * 75)


def coarse(hemisphere: Hemisphere, nodes: int) -> Hemisphere:
    """The template at a coarser level. The first nodes of a FreeSurfer icosphere are the coarser icosphere; its
    triangles are the convex hull of their places on the sphere, turned outwards."""
    kept = slice(0, nodes)
    sphere = hemisphere.sphere[kept]
    faces = ConvexHull(sphere).simplices.astype(np.int32)
    a, b, c = (sphere[faces[:, k]] for k in range(3))
    inwards = np.einsum("ij,ij->i", a, np.cross(b, c)) < 0
    faces[inwards] = faces[inwards][:, ::-1]
    order = np.lexsort(np.sort(faces, axis=1).T[::-1])
    return Hemisphere(
        name=hemisphere.name,
        faces=np.ascontiguousarray(faces[order]),
        white_mm=hemisphere.white_mm[kept],
        pial_mm=hemisphere.pial_mm[kept],
        sphere=sphere,
        cortex=hemisphere.cortex[kept],
    )
