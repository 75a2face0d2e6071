"""New folds on top of the template's: gyri and sulci of one brain that no other brain has.

Every point of a hemisphere lies on one ray from an axis deep in it. The refolding shifts points along their ray by a
random smooth amount that depends on the ray alone:

    r -> r + f(ray) r^2 / (r^2 + CORE_MM^2)

so crowns sink and fundi rise in places of the brain's own, while nothing that was apart can cross (r stays in order).
Towards the other hemisphere points move inwards only. Sizes are approximations (A), chosen as the largest at which
surfaces stay free of self-intersections.
"""

import numpy as np
import numpy.typing as npt

from meshgnn.source.virtual.fields import Floats, SmoothField, stream

AXIS_X_MM, AXIS_Z_MM, AXIS_Y_MM = 20.0, 12.0, (-60.0, 30.0)  # template RAS, x away from the midline
SCALE_MM = 10.0  # correlation length on the hull: gyri about 35 mm apart
HULL_MM = 45.0  # where a ray is looked up
CORE_MM = 12.0
CLIP = 1.8  # the shift never passes this many standard deviations


def refold(points_mm: npt.NDArray[np.floating], seed: int, hemisphere: str, depth_mm: float) -> Floats:
    """Points [N, 3] (template RAS mm) with the folds of brain `seed` put on them; sd of the shift is `depth_mm`."""
    points = np.asarray(points_mm, np.float64)
    if depth_mm == 0:
        return points
    field = SmoothField.draw(stream(seed, "refold", hemisphere), scale_mm=SCALE_MM, sd=depth_mm, waves=96)
    side = 1.0 if hemisphere == "R" else -1.0
    foot = np.stack(
        [np.full(len(points), side * AXIS_X_MM), np.clip(points[:, 1], *AXIS_Y_MM), np.full(len(points), AXIS_Z_MM)],
        axis=1,
    )
    away = points - foot
    radius = np.sqrt((away**2).sum(1, keepdims=True))
    ray = away / np.maximum(radius, 1e-9)
    shift = field.at(foot + HULL_MM * ray)
    limit = CLIP * depth_mm
    shift = limit * np.tanh(shift / limit)
    medial = np.clip((-side * ray[:, :1] - 0.1) / 0.6, 0, 1)
    medial = medial * medial * (3 - 2 * medial)
    shift = shift * (1 - medial) - 0.7 * medial * np.logaddexp(0, -shift)
    return foot + ray * (radius + shift * radius**2 / (radius**2 + CORE_MM**2))
