"""Dense series: sections that lie nearer together than a mesh can use are left out."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from meshgnn.source.sections import SectionStack


def thinned(stack: SectionStack, every_mm: float, annotated: Sequence[int] = ()) -> SectionStack:
    """The usable sections, at least `every_mm` apart along the cutting axis.

    Annotated sections stay whatever lies beside them, and so do the first and the last: between them goes the next
    section that is far enough from those that stay. Memory and time of a reconstruction follow the number of sections,
    while its grid is no finer than its voxels.

    Args:
        stack: in any order.
        annotated: numbers of annotated sections.
    """
    order = sorted((one for one in stack if one.usable), key=lambda one: one.position_mm)
    if len(order) < 3 or not every_mm > 0:
        return stack
    near = 1e-6 * every_mm
    kept = {one.index for one in order if one.index in annotated} | {order[0].index, order[-1].index}
    fixed = np.array([one.position_mm for one in order if one.index in kept])
    last = order[0].position_mm
    for one in order:
        if one.index in kept:
            last = one.position_mm
            continue
        following = fixed[np.searchsorted(fixed, one.position_mm)]
        if min(one.position_mm - last, following - one.position_mm) >= every_mm - near:
            kept.add(one.index)
            last = one.position_mm
    return replace(stack, sections=tuple(one for one in stack if one.index in kept or not one.usable))
