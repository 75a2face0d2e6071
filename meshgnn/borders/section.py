"""Observer-independent borders of one section, beside a mapper's and a network's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.borders.find import BorderTest, Series
from meshgnn.borders.profiles import level_profiles, line_profiles, section_density, shape_features
from meshgnn.borders.ribbon import Place, RibbonLine, on_section, ribbon_lines
from meshgnn.borders.surrogates import adjusted, chances, lowest_near, summits, surrogate
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import Areas, MeshGraph
from meshgnn.source.sections import Section

Floats = NDArray[np.float64]
LEAST_SURROGATES = 1.25  # times 1 / false_share: with fewer a single border could never be told from chance


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """An unbroken series of known profiles.

    Args:
        line: where each profile lies.
        features: [N, 10].
        series: what the test says; has N - 1 places.
    """

    line: RibbonLine
    features: Floats
    series: Series


@dataclass(frozen=True, kw_only=True, eq=False)
class SectionBorders:
    """What was found on one section.

    Args:
        section: its number.
        pixel_um: width of its pixels.
        runs: series of profiles, longest piece of ribbon first.
        left_out: share of the places along the ribbon without a profile: torn, off the image, or cut too slantingly.
        supported: by run, for each of its borders the number of neighbouring sections that have it too.
    """

    section: int
    pixel_um: float
    runs: tuple[Run, ...]
    left_out: float
    supported: tuple[tuple[int, ...], ...] = ()


class SectionBorderFinder:
    """Finds borders on sections through a mesh."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            every_mm: distance between neighbouring profiles along the ribbon.
            pieces: lines that are averaged to one profile, side by side.
            depths: samples of a profile.
            max_obliqueness_deg: places cut more slantingly than this have no profile.
            test: sliding blocks and what they must agree on.
        surrogates: of all series of a section, with the same spectra and nothing at one place, above whose maxima a
            border must rise; 25 take half a minute a section. 0 leaves this out.
        false_share: of the borders that rise so high, this share may be false (Benjamini & Hochberg 1995).
        """

        every_mm: float = 0.2
        pieces: int = 4
        depths: int = 64
        max_obliqueness_deg: float = 45.0
        test: BorderTest.Config = field(default_factory=BorderTest.Config)
        surrogates: int = 0
        false_share: float = 0.05

        def __post_init__(self) -> None:
            if self.surrogates < 0 or not 0 < self.false_share <= 1:
                raise SettingError("<surrogates> must not be negative, and <false_share> lie in (0, 1]")
            least = ceil(LEAST_SURROGATES / self.false_share)
            if 0 < self.surrogates < least:
                raise SettingError(f"<surrogates> must be 0, or at least {least} for so small a <false_share>")
            if not 0 < self.every_mm <= 5 or self.pieces < 1 or self.depths < 8:
                raise SettingError("<every_mm> must lie in (0, 5], <pieces> be at least 1 and <depths> at least 8")
            if not 0 < self.max_obliqueness_deg < 85:
                raise SettingError("<max_obliqueness_deg> must lie between 0 and 85")

        def build(self) -> "SectionBorderFinder":
            return SectionBorderFinder(self)

    def __init__(self, config: Config) -> None:
        self.config, self.test = config, config.test.build()

    def runs(self, section: Section, graph: MeshGraph, place: Place | None = None) -> tuple[list[Run], float]:
        """Untested series of profiles of a section, and the share of places without a profile.

        Args:
            place: where points lie on the section; as its `to_space` says if None.

        Raises:
            InputError: no surfaces pial and white, an image that cannot be read.
        """
        set_ = self.config
        lines = on_section(
            ribbon_lines(
                graph, place or section.mm_to_pixel, section.pixel_um, every_mm=set_.every_mm, pieces=set_.pieces
            ),
            section.shape,
        )
        if not lines:
            return [], 0.0
        density, block = section_density(section)
        found, known = [], []
        for line in lines:
            profiles, there = line_profiles(density, block, line, depths=set_.depths, pieces=set_.pieces)
            oblique = line.obliqueness_deg.reshape(-1, set_.pieces).max(1)
            found.append(profiles)
            known.append(there & (oblique <= set_.max_obliqueness_deg))
        every = np.concatenate(known)
        features = shape_features(level_profiles(np.concatenate(found)[every]))
        rows = np.split(features, np.cumsum([part.sum() for part in known])[:-1])
        runs = []
        for line, there, own in zip(lines, known, rows):
            middle = np.arange(len(there)) * set_.pieces + set_.pieces // 2
            change = np.flatnonzero(np.diff(np.concatenate([[False], there, [False]]).astype(np.int8)))
            done = 0
            for first, last in zip(change[::2], change[1::2]):
                part = middle[first:last]
                runs.append(
                    Run(
                        line=_at(line, part, closed=line.closed and bool(there.all())),
                        features=own[done : done + last - first],
                        series=_UNTESTED,
                    )
                )
                done += last - first
        return runs, 1 - float(every.mean())

    def find(self, section: Section, graph: MeshGraph, place: Place | None = None) -> SectionBorders:
        """Borders of a section; its series are one family of tests. Raises as `runs`."""
        runs, left_out = self.runs(section, graph, place)
        tests = sum(self.test.tests(len(run.features)) for run in runs)
        tested = tuple(replace(run, series=self._tested(run, tests)) for run in runs)
        if self.config.surrogates:
            tested = self._above_surrogates(tested, np.random.default_rng(section.index))
        return SectionBorders(section=section.index, pixel_um=section.pixel_um, runs=tested, left_out=left_out)

    def _tested(self, run: Run, tests: int) -> Series:
        """A closed line is tested all round: blocks reach over the place where it was opened."""
        over = min(self.config.test.largest, len(run.features))
        if not run.line.closed or not over:
            return self.test(run.features, tests)
        own = run.features
        whole, last = self.test(np.concatenate([own[-over:], own, own[:over]]), tests), len(own) - 2
        borders = {min(one.place - over, last): one for one in whole.borders if 0 <= one.place - over <= last + 1}
        part = slice(over, over + len(own) - 1)
        return Series(
            distance2=whole.distance2[part],
            shrunk2=whole.shrunk2[part],
            evidence=whole.evidence[part],
            borders=tuple(replace(one, place=place) for place, one in sorted(borders.items())),
        )

    def _above_surrogates(self, runs: Sequence[Run], rng: np.random.Generator) -> tuple[Run, ...]:
        """Borders whose evidence rises above the maxima of surrogates; all maxima of the section are one family."""
        reach = self.config.test.smallest
        null = [
            summits(self.test(surrogate(run.features, rng), agree=False).evidence, reach)[1]
            for run in runs for _ in range(self.config.surrogates) if self.test.tests(len(run.features))
        ]  # fmt: skip
        seen = [summits(run.series.evidence, reach) for run in runs]
        heights = np.concatenate([height for _, height in seen]) if seen else np.zeros(0)
        q = adjusted(chances(heights, np.concatenate(null) if null else np.zeros(0)))
        kept, done = [], 0
        for run, (places, height) in zip(runs, seen):
            own, done = q[done : done + len(height)], done + len(height)
            at = [one.place for one in run.series.borders]
            borders = tuple(
                replace(one, q=float(share))
                for one, share in zip(run.series.borders, lowest_near(at, places, own, reach))
                if share <= self.config.false_share
            )
            kept.append(replace(run, series=replace(run.series, borders=borders)))
        return tuple(kept)


_UNTESTED = Series(distance2=np.zeros(0), shrunk2=np.zeros(0), evidence=np.zeros(0), borders=())


def _at(line: RibbonLine, part: NDArray[np.integer], *, closed: bool) -> RibbonLine:
    """Some places of a line."""
    names = ("position_mm", "pial_px", "white_px", "obliqueness_deg", "nodes", "share")
    return replace(line, closed=closed, **{name: getattr(line, name)[part] for name in names})


def border_points_px(run: Run) -> Floats:
    """[B, 2] row and column of the borders of a run, halfway between pial and white."""
    middle = run.line.middle_px
    places = np.array([border.place for border in run.series.borders], int)
    return (middle[places] + middle[places + 1]) / 2


def in_neighbours(
    found: Sequence[SectionBorders], sections: Mapping[int, Section], *, reach_mm: float = 3.0
) -> list[SectionBorders]:
    """The same with the number of neighbouring sections (0 to 2) that have a border of each one's hemisphere nearby.

    Nearby: within `reach_mm` in the plane of the sections and one section further along. Sections are neighbours in
    the list, not in the brain: what was not asked for does not count.

    Args:
        found: of consecutive sections.
        sections: aligned, by number.
        reach_mm: allow for the shift of a border from section to section.
    """
    points = []
    for one in found:
        section, own = sections[one.section], []
        for run in one.runs:
            row, column = border_points_px(run).T
            own += [(run.line.hemisphere, point) for point in section.pixel_to_mm(row, column)]
        points.append(own)
    normal = sections[found[0].section].normal if found else np.zeros(3)
    supported = []
    for k, one in enumerate(found):
        counts = []
        for side, point in points[k]:
            near = 0
            for other in points[max(k - 1, 0) : k] + points[k + 1 : k + 2]:
                gaps = [there - point for half, there in other if half == side]
                near += any(np.linalg.norm(gap - normal * (gap @ normal)) <= reach_mm for gap in gaps)
            counts.append(near)
        each = iter(counts)
        supported.append(
            replace(one, supported=tuple(tuple(next(each) for _ in run.series.borders) for run in one.runs))
        )
    return supported


# -- as the mapping server shows it ------------------------------------------------------------------------------


def changes(classes: NDArray[np.integer]) -> NDArray[np.intp]:
    """Places k where classes [N] differ between k and k + 1, both said (not negative)."""
    classes = np.asarray(classes)
    return np.flatnonzero((classes[1:] != classes[:-1]) & (classes[1:] >= 0) & (classes[:-1] >= 0))


def as_shown(
    found: SectionBorders, section: Section, *, areas: Areas | None = None, drawn: NDArray[np.integer] | None = None,
    probabilities: NDArray[np.floating] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What `GET /api/sections/I/borders` answers, JSON-ready; positions of all runs stand end to end.

    Args:
        areas: names of the classes below.
        drawn: [rows, columns] classes on the pixels of the section as `open_section` turns it (`on_section`), -1 where
            nothing was drawn.
        probabilities: [V, K] at the nodes of the mesh; rows of 0 where nothing is said.

    Returns:
        `positions_mm` and `points` [[x, y], ...] in pixels of the image as stored, of every place between two
        profiles; `distance_mm2` (squared Mahalanobis distance) and `shrunk` there, null where no block fits;
        `runs` [{first, last, hemisphere}] which places belong together; `peaks`; borders of `mapper` and `predicted`
        {position_mm, point, areas}; `left_out`.
    """
    answer: dict[str, Any] = {name: [] for name in ("positions_mm", "points", "distance_mm2", "shrunk", "runs",
                                                    "peaks", "mapper", "predicted")}  # fmt: skip
    answer["left_out"] = round(found.left_out, 4)
    start = 0.0
    for number, run in enumerate(found.runs):
        if len(run.features) < 2:
            continue
        middle, along = run.line.middle_px, run.line.position_mm - run.line.position_mm[0]
        between = start + (along[1:] + along[:-1]) / 2
        points = _stored((middle[1:] + middle[:-1]) / 2, section)
        first = len(answer["positions_mm"])
        answer["runs"].append({"first": first, "last": first + len(between) - 1, "hemisphere": run.line.hemisphere})
        answer["positions_mm"] += np.round(between, 3).tolist()
        answer["points"] += points
        for name, values in (("distance_mm2", run.series.distance2), ("shrunk", run.series.shrunk2)):
            answer[name] += [round(v, 3) if np.isfinite(v) else None for v in values.tolist()]
        for k, border in enumerate(run.series.borders):
            peak = {
                "position_mm": round(float(between[border.place]), 3), "point": points[border.place],
                "blocks": list(border.blocks), "p": border.p, "distance2": round(border.distance2, 3),
                "hemisphere": run.line.hemisphere,
            }  # fmt: skip
            if np.isfinite(border.q):
                peak["q"] = border.q
            if found.supported:
                peak["neighbours"] = found.supported[number][k]
            answer["peaks"].append(peak)
        for name, classes in (("mapper", _drawn_at(drawn, middle)), ("predicted", _predicted_at(probabilities, run))):
            for place in changes(classes):
                pair = [int(classes[place]), int(classes[place + 1])]
                answer[name].append(
                    {"position_mm": round(float(between[place]), 3), "point": points[place],
                     "areas": [areas.names[k] for k in pair] if areas else pair}
                )  # fmt: skip
        start = float(between[-1]) + float(along[-1] - along[-2]) / 2
    return answer


def _stored(points_px: Floats, section: Section) -> list[list[float]]:
    """(x, y) of rows and columns of pixel centres, on the image as stored and from the corner of its first pixel."""
    x, y = points_px[:, 1] + 0.5, points_px[:, 0] + 0.5
    if section.mirrored:
        x = section.shape[1] - x
    return np.round(np.stack([x, y], axis=1), 2).tolist()


def _drawn_at(drawn: NDArray[np.integer] | None, middle: Floats) -> NDArray[np.integer]:
    if drawn is None:
        return np.full(len(middle), -1)
    row, column = (np.clip(np.rint(middle[:, k]).astype(int), 0, drawn.shape[k] - 1) for k in (0, 1))
    return drawn[row, column]


def _predicted_at(probabilities: NDArray[np.floating] | None, run: Run) -> NDArray[np.integer]:
    if probabilities is None or not probabilities.shape[1]:
        return np.full(len(run.features), -1)
    if len(probabilities) <= run.line.nodes.max(initial=0):
        raise InputError(f"a map of {len(probabilities)} nodes is not that of this mesh")
    here = run.line.interpolated(probabilities)
    return np.where(here.sum(1) > 0, here.argmax(1), -1)
