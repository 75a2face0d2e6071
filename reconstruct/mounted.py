"""What is said of sections that lie otherwise than their neighbours, or stand at another's place."""

import numpy as np
from numpy.typing import NDArray

from reconstruct.records import Mounting, TissueStack
from reconstruct.steps.mounting import corrected, exchanged, oddness

TURNED, MIRRORED = 1, 2  # bits of `Mounting.way`
_REMEDY = {
    TURNED: ("turned by 180 degrees", "turn its image, or let mounting.mend=true turn it back"),
    MIRRORED: ("mirrored", "change its column `mirrored`"),
    TURNED | MIRRORED: ("mirrored and turned by 180 degrees", "change its column `mirrored`, and turn its image"),
}
_SURE_OF_PLACE = 1.4  # a section fits this much better elsewhere than beside its neighbours
_ODD = 0.9  # smaller: it does not belong there, though it fits in one way only [0.95 with preset hard]
_CLEAR = 0.7  # `Mounting.sure` of sections that fit their neighbours in one way only [0.85 and more]


def of_mounting(
    stack: TissueStack, mounting: Mounting, able: NDArray[np.bool_], *, odd: float, swapped: float, sure: float
) -> dict[int, str]:
    """Place of every section that lies otherwise or stands wrong -> what is said of it; of a pair, with its first.

    Args:
        able: [N] whether a section is large enough for its place in the order to be judged.
        odd, swapped, sure: see `reconstruct.plausibility.Plausible`.
    """
    index, way = stack.index, mounting.way
    apart = corrected(mounting.fit, way)
    said: dict[int, str] = {}
    strange = oddness(apart)
    wide = np.diff(stack.position_mm) > 2.5 * np.median(np.diff(stack.position_mm))
    inner = np.zeros(len(able), bool)
    inner[1:-1] = able[:-2] & able[1:-1] & able[2:] & ~wide[:-1] & ~wide[1:]
    pairs: set[int] = set()
    for k in np.flatnonzero(exchanged(apart) < swapped).tolist():
        if able[k - 1 : k + 3].all() and not wide[k - 1 : k + 2].any() and k not in pairs:
            said[k] = f"sections {index[k]} and {index[k + 1]} fit each other's places better: are they exchanged?"
            pairs |= {k, k + 1}
    away = {k for k in np.flatnonzero(mounting.gain > _SURE_OF_PLACE).tolist() if abs(mounting.like[k] - k) > 1}
    for k in sorted(away & set(np.flatnonzero(inner & (strange < odd)).tolist()) - pairs):
        like = int(mounting.like[k])
        mates = [j for j in away - pairs if abs(j - like) <= 1 and abs(int(mounting.like[j]) - k) <= 1 and j != k]
        if mates:
            said[k] = f"sections {index[k]} and {index[mates[0]]} stand at each other's places: are they exchanged?"
            pairs |= {k, mates[0]}
        elif k not in pairs:
            said[k] = (
                f"section {index[k]}: stands at the wrong place, it fits beside section {index[like]} "
                f"({mounting.gain[k]:.1f} times better); check its index, position_mm and file"
            )
    for k in np.flatnonzero(inner & (strange < odd)).tolist():
        if k in pairs or k in said:
            continue
        if mounting.sure[k] < _CLEAR or strange[k] < _ODD:
            said[k] = (
                f"section {index[k]}: the sections before and after it fit each other better than it fits them "
                f"({strange[k]:.2f}, at least {odd:g} is expected), and it fits no other place; check that it is of "
                "this brain and whole, its file and its pixel_um"
            )
    for k in np.flatnonzero((way > 0) & (mounting.sure > sure)).tolist():
        what, remedy = _REMEDY[int(way[k])]
        if k not in said:
            said[k] = f"section {index[k]}: is {what} against its neighbours; {remedy}"
    return said
