"""Where areas lie: score fields on a sphere, warped per brain and hemisphere independently of the folds.

Every area is a short polyline on the sphere; its score at a point is minus the distance to the polyline plus the
area's own weight. The area with the highest score holds the point, so borders are level sets of continuous fields and
know nothing of mesh edges. A brain draws other weights (areas grow and shrink) and carries the whole layout along a
random flow on the sphere, drawn apart from the deformation of the folds.

Seed points are approximate places on the left pial surface of fsaverage in RAS mm, set by hand from standard atlases
(A: approximation); x is mirrored for the right hemisphere.
"""

from dataclasses import dataclass, replace
from itertools import pairwise

import numba
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from meshgnn.graph import Areas
from meshgnn.source.virtual.fields import Floats, SmoothField, flow_on_sphere, stream
from meshgnn.source.virtual.layout import LAYOUT
from meshgnn.source.virtual.prototypes import LAYERS, PROTOTYPES

# Great circles on a sphere of this radius are about as long as the ways on fsaverage5's midsurface (71,000 mm^2).
RADIUS_MM = 75.0
# Within about this far of an area its place varies as much as the area's own.
DRIFT_MM = 12.0
# No area holds less than this share of a hemisphere (about 300 mm^2).
LEAST = 0.004

NAMES = tuple(spec.name for spec in LAYOUT)
MEDIAL_WALL = len(LAYOUT)  # label number of the medial wall in `AreaFields.labels`
ISOCORTEX = np.array([spec.isocortex for spec in LAYOUT] + [False])


def isocortical_areas() -> Areas:
    """The classes of the task: the isocortical areas, keys 1..K in layout order."""
    return Areas(names=tuple(spec.name for spec in LAYOUT if spec.isocortex))


@numba.njit(cache=True, nogil=True)
def _distances(points: Floats, seeds: Floats, owner: npt.NDArray[np.int64], out: Floats) -> None:  # pragma: no cover
    for i in range(points.shape[0]):
        for s in range(seeds.shape[0]):
            dot = points[i, 0] * seeds[s, 0] + points[i, 1] * seeds[s, 1] + points[i, 2] * seeds[s, 2]
            if dot > out[i, owner[s]]:
                out[i, owner[s]] = dot
        for k in range(out.shape[1]):
            out[i, k] = np.arccos(min(1.0, max(-1.0, out[i, k])))


@numba.njit(cache=True, nogil=True)
def _kernel_mean(  # pragma: no cover
    points: Floats, centres: Floats, values: Floats, sharpness: float, out: Floats
) -> None:
    for i in range(points.shape[0]):
        above, below = 0.0, 1e-30
        for s in range(centres.shape[0]):
            dot = points[i, 0] * centres[s, 0] + points[i, 1] * centres[s, 1] + points[i, 2] * centres[s, 2]
            weight = np.exp(sharpness * (dot - 1))
            above += weight * values[s]
            below += weight
        out[i] = above / below


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalField:
    """A velocity field whose size varies over the sphere: kernel means of `sizes` [S] at `centres` [S, 3] times it."""

    field: SmoothField
    centres: Floats
    sizes: Floats

    def at(self, points_mm: npt.NDArray[np.floating]) -> Floats:
        """Values [N, C] at points [N, 3] on the sphere of radius RADIUS_MM."""
        size = np.zeros(len(points_mm))
        unit = np.ascontiguousarray(points_mm, np.float64) / RADIUS_MM
        _kernel_mean(unit, self.centres, self.sizes, (RADIUS_MM / DRIFT_MM) ** 2, size)
        return self.field.at(points_mm) * size[:, None]


@dataclass(frozen=True, kw_only=True, eq=False)
class AreaFields:
    """The layout of one hemisphere of one brain: continuous functions on the unit sphere.

    Args:
        seeds: [S, 3] unit vectors, `owner` [S] their areas.
        weights_mm: [K].
        warps: velocity fields in mm that carry the layout, applied in order.
    """

    seeds: Floats
    owner: npt.NDArray[np.int64]
    weights_mm: Floats
    warps: tuple[LocalField, ...]

    def distances_mm(self, sphere: npt.NDArray[np.floating]) -> Floats:
        """[N, K] ways from unit vectors [N, 3] to every area's polyline, in the warped layout."""
        points = np.ascontiguousarray(sphere, np.float64)
        for warp in self.warps:
            points = flow_on_sphere(points, warp, RADIUS_MM)
        angle = np.full((len(points), len(self.weights_mm)), -1.0)
        _distances(points, self.seeds, self.owner, angle)
        return angle * RADIUS_MM

    def scores_mm(self, sphere: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
        """[N, K] scores at unit vectors [N, 3]; the highest wins, half the gap to the next is the way to its border."""
        return (self.weights_mm - self.distances_mm(sphere)).astype(np.float32)

    def grown(self, sphere: npt.NDArray[np.floating], least: float) -> "AreaFields":
        """The layout with weights raised until every area holds a share `least` of the nodes [N, 3]: none dies out."""
        weights, ways = self.weights_mm.copy(), self.distances_mm(sphere)
        for _ in range(100):
            held = np.bincount((weights - ways).argmax(1), minlength=len(weights)) / len(ways)
            if (held >= least).all():
                break
            weights[held < least] += 0.5
        return replace(self, weights_mm=weights)


def lay_out(
    seed: int,
    hemisphere: str,
    pial_mm: npt.NDArray[np.floating],
    sphere: npt.NDArray[np.floating],
    *,
    warp_mm: float,
    size_mm: float,
    shuffle: bool = False,
) -> AreaFields:
    """Draw the layout of a hemisphere on the template surface.

    Args:
        seed: of the brain.
        hemisphere: L or R.
        pial_mm: [V, 3] pial template, on which the seed points are looked up.
        sphere: [V, 3] unit vectors of the same nodes.
        warp_mm: root-mean-square shift of the layout relative to the folds, where an area's drift is 1.
        size_mm: standard deviation of an area's weight, likewise.
        shuffle: deal the isocortical areas out anew over the places, alike in both hemispheres.
    """
    mirror = np.array([-1.0 if hemisphere == "R" else 1.0, 1, 1])
    tree = cKDTree(pial_mm)
    seeds, owner, corners_of, drifts = [], [], [], []
    for k, spec in enumerate(LAYOUT):
        corners = sphere[tree.query(np.array(spec.points_mm) * mirror)[1]]
        corners_of.append(corners)
        drifts += [spec.drift] * len(corners)
        path = [corners[:1]]
        for a, b in pairwise(corners):
            share = np.linspace(0, 1, 8)[1:, None]
            path.append(a * (1 - share) + b * share)
        line = np.concatenate(path)
        line /= np.linalg.norm(line, axis=1, keepdims=True)
        seeds.append(line)
        owner += [k] * len(line)
    if shuffle:
        able = np.flatnonzero(ISOCORTEX[:-1])
        dealt = np.arange(len(LAYOUT))
        dealt[able] = stream(seed, "shuffle").permutation(able)
        owner = dealt[owner].tolist()
    rng = stream(seed, "layout", hemisphere)
    both = stream(seed, "layout", "both")  # what the hemispheres of one brain share
    weights = np.array([spec.weight_mm for spec in LAYOUT])
    drift = np.array([spec.drift for spec in LAYOUT])
    weights = weights + drift * size_mm * (
        0.6 * both.standard_normal(len(LAYOUT)) + 0.8 * rng.standard_normal(len(LAYOUT))
    )
    # A velocity field's tangential part has 2 of 3 channels: sd per channel = rms / sqrt(2).
    wide = SmoothField.draw(rng, scale_mm=22, sd=0.9 * warp_mm / np.sqrt(2), channels=3)
    fine = SmoothField.draw(rng, scale_mm=7, sd=0.35 * warp_mm / np.sqrt(2), channels=3)
    fields = AreaFields(
        seeds=np.concatenate(seeds).astype(np.float64),
        owner=np.array(owner, np.int64),
        weights_mm=weights,
        warps=tuple(
            LocalField(field=one, centres=np.concatenate(corners_of), sizes=np.array(drifts)) for one in (fine, wide)
        ),
    )
    return fields.grown(sphere, LEAST)


def border_widths_mm(seed: int) -> npt.NDArray[np.float32]:
    """[K, K] width of the transition between two areas: 0.3 mm where one has sharp borders, else 1 to 3 mm."""
    count = len(LAYOUT)
    rng = stream(0, "borders")  # a property of the areas, not of the brain
    width = rng.uniform(1.0, 3.0, (count, count))
    width = (width + width.T) / 2
    sharp = np.array([spec.sharp for spec in LAYOUT])
    width[sharp[:, None] | sharp[None, :]] = 0.3
    brain = stream(seed, "borders").uniform(0.8, 1.25)
    return (width * brain).astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Profiles:
    """Layer shares [K, 6] (sum 1), densities [K, 6], cell sizes [K, 6], prototypes [K] of one hemisphere's areas."""

    share: Floats
    density: Floats
    size_um2: Floats
    prototype: tuple[str, ...]


# Hemisphere x area: left-right differences of BigBrain's places, sd of log shares of layers I-VI (`variance`), times
# 1.7 since the areas of this layout lie further apart than BigBrain's: set so that the left-right difference is about
# as large against the spread of areas as there.
HEMISPHERE_SD = np.array([0.040, 0.038, 0.026, 0.062, 0.033, 0.033]) * 1.7
# What both hemispheres of a brain share of brain x area, relative to it: a guess. One brain cannot tell.
SHARED = 2.0


def draw_profiles(
    seed: int,
    hemisphere: str,
    *,
    effect: float,
    brain_effect: float = 0.0,
    contrast: float = 1.0,
    uniform: bool = False,
) -> Profiles:
    """Profiles of a brain's areas: prototype x the area's own touch x this brain x this brain on this area.

    Args:
        effect: size of brain x area; 1 = layer shares as BigBrain's left-right differences make it at least
            (HEMISPHERE_SD), and as much as SHARED (a guess) more that both hemispheres have in common. Densities and
            sizes vary by 0.5 and 0.35 of it (guesses).
        brain_effect: sd of the log of the brain's factor on each layer of all its areas (densities and sizes: half).
        contrast: exponent on the area's own touch.
        uniform: the same profile everywhere: the control in which histology must tell nothing.
    """
    both, own = stream(seed, "profiles"), stream(seed, "profiles", hemisphere)
    whole = brain_effect * np.array([[1.0], [0.5], [0.5]]) * stream(seed, "profiles", "brain").standard_normal((3, 6))
    names = tuple("FE" if uniform and spec.isocortex else spec.prototype for spec in LAYOUT)
    rows = []
    for spec, name in zip(LAYOUT, names):
        base = PROTOTYPES[name]
        values = np.array([base.share, base.density, base.size_um2], dtype=np.float64)
        values[1] *= base.scale
        if not (uniform and spec.isocortex):
            values[1] *= spec.scale**contrast
            for row, touch in enumerate((spec.share, spec.density, spec.size)):
                for layer, factor in touch.items():
                    values[row, layer - 1] *= factor**contrast
        noise = SHARED * both.standard_normal((3, 7)) + own.standard_normal((3, 7))
        if not uniform:
            # One part per layer and one common to all layers (overall density, overall size).
            values *= np.exp(effect * HEMISPHERE_SD * np.array([[1.0], [0.5], [0.35]]) * noise[:, :6])
            values *= np.exp(effect * HEMISPHERE_SD.mean() * np.array([[0.0], [0.4], [0.3]]) * noise[:, 6:])
        values *= np.exp(whole)
        values[0] /= values[0].sum()
        rows.append(values)
    stacked = np.array(rows)
    assert stacked.shape[2] == len(LAYERS)
    return Profiles(share=stacked[:, 0], density=stacked[:, 1], size_um2=stacked[:, 2], prototype=names)


def thickness_factors(fields: AreaFields, sphere: npt.NDArray[np.floating], contrast: float) -> Floats:
    """[V] factor on the thickness of cortex by its areas' prototypes, passing over in 3 mm; `contrast` is its exponent.

    The factors follow the areas wherever they lie in this brain; their mean is about 1.
    """
    scores = fields.scores_mm(sphere).astype(np.float64)
    weight = np.exp((scores - scores.max(1, keepdims=True)) / 1.5)
    log = np.log([PROTOTYPES[spec.prototype].thickness_mm for spec in LAYOUT])
    log -= log[ISOCORTEX[:-1]].mean()
    return np.exp(contrast * (weight * log).sum(1) / weight.sum(1))
