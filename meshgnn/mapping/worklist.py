"""Which section to draw next.

The expected gain of drawing section s is the share of cortex that it sets right. A node of section t is wrong with the
probability e that the newest filling leaves (1 less the largest share), and that falls with the distance d to the
nearest drawn section as r(d) = 1 - exp(-d / FALL_MM) does:

    gain(s) = sum over t of E_t (1 - r(min(d_t, |t - s|)) / r(d_t)) / nodes,     E_t = sum of e on section t

So a section counts for what is unsure on it, for how much cortex that is, and for the sections around it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.mapping.record import Record
from meshgnn.mapping.situation import newest
from meshgnn.mapping.socket import Filling, Situation, Suggestion
from meshgnn.source.polygons import paint
from meshgnn.source.sections import Section

Order = Literal["gain", "gap", "uncertain", "disagree", "random"]
ORDERS: tuple[Order, ...] = get_args(Order)
FALL_MM = 10.0
NOTHING_LEFT = 0.002  # share of cortex: no section is expected to set more than that right
UNSURE = 0.3  # a node that is wrong with this probability makes its border doubtful
PAINTED_MM = 0.5  # width of the pixels on which outlines of mappers are compared
MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Worklist:
    """
    Args:
        order: by which it is sorted.
        items: best first.
        none_left: no section is expected to set more than `NOTHING_LEFT` of the cortex right.
    """

    order: Order
    items: tuple[Suggestion, ...]
    none_left: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sections:
    """Sections that hold nodes of the cortex, N of them by position, and what is unsure there.

    Args:
        index, position_mm, nodes: [N] number, place along the cutting axis, how many nodes.
        wrong: [N] expected number of wrong nodes.
        doubtful: [N] names of areas whose borders are doubtful, the most doubtful first.
        away_mm: [N] to the nearest drawn section; inf where nothing is drawn.
        nearest: [N] number of that section, -1 where nothing is drawn.
        drawn: [N] bool.
    """

    index: NDArray[np.int64]
    position_mm: NDArray[np.float64]
    nodes: NDArray[np.int64]
    wrong: NDArray[np.float64]
    doubtful: list[tuple[str, ...]]
    away_mm: NDArray[np.float64]
    nearest: NDArray[np.int64]
    drawn: NDArray[np.bool_]


def worklist(
    situation: Situation,
    filling: Filling | None = None,
    *,
    order: Order = "gain",
    skip: Sequence[int] = (),
    others: Sequence[Filling] = (),
    records: Sequence[Record] = (),
    seed: int = 0,
) -> Worklist:
    """Sections that are not drawn yet, the most useful first.

    Args:
        filling: the newest over the mesh; without one every node counts as unsure.
        order: gain (see the module), gap (farthest from any drawn section), uncertain (largest share of wrong nodes
            expected on it), disagree (between the newest fillings of two engines, or outlines of two mappers, which
            may lie on sections that were drawn), random.
        skip: sections that the mapper does not want to see.
        others: newest fillings of other engines.
        records: the journal's, for what mappers disagree on.
        seed: of the random order.

    Raises:
        InputError: an order that is not known, or a stack without a usable section.
    """
    if order not in ORDERS:
        raise InputError(f"the worklist has no order {order!r}; it has {', '.join(ORDERS)}")
    situation.stack.usable()  # tells where there is none
    found = _sections(situation, filling)
    gain = _gains(found)
    open_ = ~found.drawn & ~np.isin(found.index, list(skip))
    none_left = not (open_ & (gain > NOTHING_LEFT)).any()
    reasons = ["" for _ in found.index]
    if order == "disagree":
        score, reasons, pairs = _disagreements(situation, found, filling, others, records)
        open_ = (score > 0) & ~np.isin(found.index, list(skip)) & (pairs | ~found.drawn)
    elif order == "random":
        score = np.random.default_rng(seed).permutation(len(gain)).astype(float)
    elif order == "gap":
        score = np.where(np.isfinite(found.away_mm), found.away_mm, -np.abs(_from_middle(found)))
    else:
        score = gain if order == "gain" else found.wrong / found.nodes
    chosen = np.flatnonzero(open_)
    chosen = chosen[np.lexsort((found.index[chosen], -gain[chosen], -score[chosen]))]
    items = tuple(
        Suggestion(
            section=int(found.index[k]), gain=float(gain[k]),
            reason=reasons[k] or _reason(found, k, filling is not None),
            areas=found.doubtful[k],
        )
        for k in chosen.tolist()
    )  # fmt: skip
    return Worklist(order=order, items=items, none_left=none_left)


def _sections(situation: Situation, filling: Filling | None) -> _Sections:
    sections = [section for section in situation.stack if section.usable]
    drawn = np.array([section.index in situation.drawn.sections for section in sections], bool)
    nodes, wrong = np.ones(len(sections), np.int64), np.ones(len(sections))
    doubtful: list[tuple[str, ...]] = [()] * len(sections)
    if situation.brain is not None and situation.brain.graph.locations is not None:
        graph, places = situation.brain.graph, situation.brain.graph.locations
        inside = graph.cortex & places.observed
        shares = filling.probabilities if filling is not None else None
        error = np.ones(graph.n_nodes)
        if shares is not None:
            none = np.where(shares.any(1), 1 - shares.sum(1), 0)
            said = shares.any(1) | (none > 0)
            error = np.where(said, 1 - np.maximum(shares.max(1, initial=0), none), 1.0).clip(0, 1)
        here = [np.flatnonzero(inside & (places.section == section.index)) for section in sections]
        keep = [k for k, found in enumerate(here) if len(found)]
        sections, drawn = [sections[k] for k in keep], drawn[keep]
        nodes = np.array([len(here[k]) for k in keep], np.int64)
        wrong = np.array([error[here[k]].sum() for k in keep], np.float64)
        names = situation.areas.names
        doubtful = [_doubtful(shares, error, here[k], names) for k in keep]
    position = np.array([section.position_mm for section in sections], np.float64)
    index = np.array([section.index for section in sections], np.int64)
    away, nearest = np.full(len(sections), np.inf), np.full(len(sections), -1, np.int64)
    if drawn.any():
        apart = np.abs(position[:, None] - position[drawn])
        away, nearest = apart.min(1), index[drawn][apart.argmin(1)]
    return _Sections(
        index=index, position_mm=position, nodes=nodes, wrong=wrong, doubtful=doubtful, away_mm=away, nearest=nearest,
        drawn=drawn,
    )  # fmt: skip


def _doubtful(
    shares: NDArray[np.float32] | None, error: NDArray[np.float64], nodes: NDArray[np.intp], names: Sequence[str]
) -> tuple[str, ...]:
    """Areas that are first or second choice at unsure nodes, the commonest first."""
    if shares is None or not len(nodes) or len(names) < 2:
        return ()
    unsure = nodes[error[nodes] > UNSURE]
    if not len(unsure):
        return ()
    two = np.argsort(shares[unsure], axis=1)[:, -2:]
    count = np.bincount(two.ravel(), weights=np.take_along_axis(shares[unsure], two, 1).ravel(), minlength=len(names))
    return tuple(names[k] for k in np.argsort(-count)[:MOST_NAMED] if count[k] > 0)


def _gains(found: _Sections) -> NDArray[np.float64]:
    """[N] expected share of nodes set right; see the module."""
    total = max(float(found.nodes.sum()), 1.0)
    before = -np.expm1(-np.maximum(found.away_mm, 1e-9) / FALL_MM)
    gain = np.zeros(len(found.index))
    for k, place in enumerate(found.position_mm):
        after = -np.expm1(-np.minimum(found.away_mm, np.abs(found.position_mm - place)) / FALL_MM)
        gain[k] = (found.wrong * (1 - after / before)).sum() / total
    return np.where(found.drawn, 0.0, gain)


def _from_middle(found: _Sections) -> NDArray[np.float64]:
    middle = (found.position_mm * found.nodes).sum() / max(found.nodes.sum(), 1) if len(found.index) else 0.0
    return found.position_mm - middle


def _reason(found: _Sections, k: int, filled: bool) -> str:
    if found.nearest[k] < 0:
        return "Nothing is drawn yet; this section stands for the cortex around it."
    text = f"{found.away_mm[k]:.1f} mm from the nearest drawn section ({found.nearest[k]})"
    if not filled:
        return f"{text}."
    text += f"; {found.wrong[k] / found.nodes[k]:.0%} of its cortex is expected to be named wrongly"
    if found.doubtful[k]:
        text += f", least sure are the borders of {_listed(found.doubtful[k])}"
    return f"{text}."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _disagreements(
    situation: Situation,
    found: _Sections,
    filling: Filling | None,
    others: Sequence[Filling],
    records: Sequence[Record],
) -> tuple[NDArray[np.float64], list[str], NDArray[np.bool_]]:
    """Per section: share that two sides name differently, a sentence, and whether the sides are mappers."""
    score, reasons = np.zeros(len(found.index)), ["" for _ in found.index]
    mappers = np.zeros(len(found.index), bool)
    one = filling.probabilities if filling is not None else None
    if situation.brain is not None and situation.brain.graph.locations is not None and one is not None:
        places = situation.brain.graph.locations
        for other in others:
            two = other.probabilities
            if two is None or two.shape != one.shape or filling is None:
                continue
            told = one.any(1) & two.any(1) & places.observed & situation.brain.graph.cortex
            differ = told & (one.argmax(1) != two.argmax(1))
            for k, number in enumerate(found.index):
                here = told & (places.section == number)
                share = float(differ[here].mean()) if here.any() else 0.0
                if share > score[k]:
                    score[k] = share
                    reasons[k] = f"{filling.engine} and {other.engine} name {share:.0%} of its cortex differently."
    for number, (share, text) in mapper_disagreements(situation, records).items():
        for place in np.flatnonzero(found.index == number).tolist():
            if share > score[place]:
                score[place], reasons[place], mappers[place] = share, text, True
    return score, reasons, mappers


def mapper_disagreements(situation: Situation, records: Sequence[Record]) -> dict[int, tuple[float, str]]:
    """By section: 1 less the Dice of the outlines that two mappers agree on least, and a sentence."""
    numbers = situation.drawn.table.class_of_name()
    by_area: dict[tuple[int, str], dict[str, list[Record]]] = {}
    for record in newest(records):
        if record.kind == "area" and record.origin != "accepted" and record.area in numbers:
            by_area.setdefault((record.section, record.area), {}).setdefault(record.mapper, []).append(record)
    sections = {section.index: section for section in situation.stack}
    found: dict[int, tuple[float, str]] = {}
    for (number, area), by_mapper in by_area.items():
        if number not in sections or len(by_mapper) < 2:
            continue
        painted = {name: _painted(sections[number], drawn) for name, drawn in by_mapper.items()}
        for one, other in combinations(sorted(painted), 2):
            both = int(painted[one].sum() + painted[other].sum())
            dice = 2 * int((painted[one] & painted[other]).sum()) / both if both else 1.0
            if 1 - dice > found.get(number, (0.0, ""))[0]:
                found[number] = (1 - dice, f"{one} and {other} draw {area} differently here (Dice {dice:.2f}).")
    return found


def _painted(section: Section, records: Sequence[Record]) -> NDArray[np.bool_]:
    step = max(1.0, PAINTED_MM * 1000 / section.pixel_um)
    shape = (max(1, round(section.shape[0] / step)), max(1, round(section.shape[1] / step)))
    drawn = [(0, [[np.asarray(r, np.float64) / step for r in p] for p in _rings(one.geometry)]) for one in records]
    return paint(drawn, shape) >= 0


def _rings(geometry: Mapping[str, object]) -> list[list[list[list[float]]]]:
    coordinates = geometry.get("coordinates", [])
    assert isinstance(coordinates, list)
    return coordinates if geometry.get("type") == "MultiPolygon" else [coordinates]
