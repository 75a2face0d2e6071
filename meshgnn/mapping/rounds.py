"""How good a filling is, told from drawn sections that were hidden from it, in figures and in words.

Only what was drawn or imported is judged by; accepted predictions take no part. Pixels of cortex within 1 mm beside an
outline that carry no name are left out: neither outlines nor the mesh are exact there.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from meshgnn.mapping.ribbon import OUTSIDE_MM, Ribbon
from meshgnn.source.annotations import Annotations

LEAST_HIDDEN = 3  # drawn sections: fewer leave nothing to judge by
MOST_JUDGED = 24  # sections per scheme
WORST = 6  # areas that are told one by one


def schemes(sections: Sequence[int]) -> list[tuple[int, ...]]:
    """Which of the drawn sections (in order) are hidden together: every other one, in both ways; then, where there are
    nine or more, three of every four and seven of every eight, so that farther distances are seen too.

    The first and the last stay shown where sections in between are hidden by threes and sevens.
    """
    if len(sections) < LEAST_HIDDEN:
        return []
    found = [tuple(sections[1::2]), tuple(sections[0::2])]
    for step in (4, 8):
        if len(sections) > 2 * step:
            shown = {*sections[::step], sections[-1]}
            found.append(tuple(number for number in sections if number not in shown))
    return found


class DrawnSection:
    """What was drawn on a section, on the pixels of its cortex."""

    def __init__(self, ribbon: Ribbon, annotations: Annotations, drawn: Sequence[int]) -> None:
        """drawn: class numbers of all areas that were drawn anywhere."""
        self.ribbon, self.drawn = ribbon, list(drawn)
        coarse = annotations.coarse(ribbon.section.index, ribbon.step)
        rows, columns = np.divmod(ribbon.pixel, ribbon.shape[1])
        self.classes = coarse[rows, columns]
        away = np.full(coarse.shape, np.inf)
        if (coarse >= 0).any():
            away = ndimage.distance_transform_edt(coarse < 0) * ribbon.width_mm
        self.judged = (self.classes >= 0) | (away[rows, columns] > OUTSIDE_MM)
        pairs = ribbon.neighbours
        self.pairs = pairs[:, self.judged[pairs].all(0)]
        points = np.column_stack([rows, columns]) * ribbon.width_mm
        self.between = (points[self.pairs[0]] + points[self.pairs[1]]) / 2

    def scores(self, best: NDArray[np.integer]) -> list[dict[str, Any]]:
        """Dice and border distance of every area that was drawn on the section.

        Args:
            best: [P] predicted place in `drawn`, or its length for none of them.

        Returns:
            Rows with `area` (class number), `dice`, `border_mm` (mean distance between drawn and predicted borders,
            both ways; None where one has no border), `mm2`.
        """
        rows = []
        for area in np.unique(self.classes[self.classes >= 0]).tolist():
            true, found = (self.classes == area) & self.judged, (best == self.drawn.index(area)) & self.judged
            off = self._border_mm(true, found)
            rows.append({
                "area": int(area),
                "dice": round(2 * int((true & found).sum()) / max(int(true.sum() + found.sum()), 1), 4),
                "border_mm": None if off is None else round(off, 3),
                "mm2": round(float(true.sum()) * self.ribbon.width_mm**2, 2),
            })  # fmt: skip
        return rows

    def _border_mm(self, one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float | None:
        points = [self.between[mask[self.pairs[0]] != mask[self.pairs[1]]] for mask in (one, other)]
        if not all(len(p) for p in points):
            return None
        there, back = cKDTree(points[0]).query(points[1])[0], cKDTree(points[1]).query(points[0])[0]
        return float((there.mean() + back.mean()) / 2)


def summary(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Rows of hidden sections as figures and sentences.

    Args:
        rows: of `DrawnSection.scores`, each with `section`, `sections_away`, `mm_away` (to the nearest section shown).
        names: of all areas by class number.

    Returns:
        `by_distance` (one entry per distance in drawn gaps), `by_area`, `words`.
    """
    if not rows:
        words = [f"Nothing can be said of how good this is: draw on {LEAST_HIDDEN} sections or more."]
        return {"by_distance": [], "by_area": [], "words": words}
    by_distance: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    by_area: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_distance[int(row["sections_away"])].append(row)
        by_area[int(row["area"])].append(row)
    distances = [{"sections_away": d, **_means(by_distance[d])} for d in sorted(by_distance)]
    areas = [{"area": names[k], **_means(found)} for k, found in sorted(by_area.items())]
    words = [
        f"{_away(one['sections_away'])}, borders lie {_off(one)} (Dice {one['dice']:.2f}; "
        f"{_count(one['hidden'], 'hidden section')})."
        for one in _spread(distances)
    ]
    lost = [row for row in rows if row["dice"] == 0]
    if lost:
        told = sorted({names[row["area"]] for row in lost})
        words.append(
            f"{_count(len(lost), 'outline')} of {len(rows)} on hidden sections {'was' if len(lost) == 1 else 'were'} "
            f"not found at all: {', '.join(told[:WORST])}{' and others' if len(told) > WORST else ''}."
        )
    words += _of_areas(by_area, names)
    return {"by_distance": distances, "by_area": areas, "words": words}


def _of_areas(by_area: Mapping[int, Sequence[Mapping[str, Any]]], names: Sequence[str]) -> list[str]:
    """Sentences on the areas whose borders are farthest off, at the distance at which they are seen most often."""
    found = []
    for area, rows in by_area.items():
        often = [int(row["sections_away"]) for row in rows]
        distance = max(set(often), key=often.count)
        near = [row for row in rows if row["sections_away"] == distance]
        means = _means(near)
        if means["border_mm"] is not None:
            first, last = min(row["section"] for row in near), max(row["section"] for row in near)
            where = f"Between sections {first} and {last}" if first != last else f"On section {first}"
            text = (
                f"{where}, {_away(distance)[0].lower()}{_away(distance)[1:]}, {names[area]}'s border lies "
                f"{means['border_mm']:.1f} mm off on average."
            )
            found.append((means["border_mm"], text))
    return [text for _, text in sorted(found, key=lambda one: -one[0])[:WORST]]


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    off = [row["border_mm"] for row in rows if row["border_mm"] is not None]
    return {
        "dice": round(float(np.mean([row["dice"] for row in rows])), 4),
        "border_mm": round(float(np.mean(off)), 3) if off else None,
        "mm_away": round(float(np.mean([row["mm_away"] for row in rows])), 2),
        "outlines": len(rows),
        "hidden": len({row["section"] for row in rows}),
    }


def _spread(distances: Sequence[dict[str, Any]], most: int = 4) -> list[dict[str, Any]]:
    """At most four of them, from nearest to farthest."""
    places = np.unique(np.linspace(0, len(distances) - 1, min(most, len(distances))).round().astype(int))
    return [distances[k] for k in places]


def _away(sections: int) -> str:
    return f"{_count(sections, 'section')} from the nearest drawn one"


def _off(one: Mapping[str, Any]) -> str:
    return "nowhere that could be measured" if one["border_mm"] is None else f"{one['border_mm']:.1f} mm off on average"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
