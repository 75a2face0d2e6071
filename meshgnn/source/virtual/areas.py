"""Where areas lie: score fields on a sphere, warped per brain and hemisphere independently of the folds.

Every area is a short polyline on the sphere; its score at a point is minus the distance to the polyline plus the
area's own weight. The area with the highest score holds the point, so borders are level sets of continuous fields and
know nothing of mesh edges. A brain draws other weights (areas grow and shrink) and carries the whole layout along a
random flow on the sphere, drawn apart from the deformation of the folds.

Seed points are approximate places on the left pial surface of fsaverage in RAS mm, set by hand from standard atlases
(A: approximation); x is mirrored for the right hemisphere.
"""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numba
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from meshgnn.graph import Areas
from meshgnn.source.virtual.fields import Floats, SmoothField, flow_on_sphere, stream
from meshgnn.source.virtual.prototypes import LAYERS, PROTOTYPES

# Great circles on a sphere of this radius are about as long as the ways on fsaverage5's midsurface (71,000 mm^2).
RADIUS_MM = 75.0
# Within about this far of an area its place varies as much as the area's own.
DRIFT_MM = 12.0
# No area holds less than this share of a hemisphere (about 300 mm^2).
LEAST = 0.004

Point = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class AreaSpec:
    """An area of the layout.

    Args:
        name: of the class.
        prototype: key of PROTOTYPES.
        points_mm: polyline of seed points on the left pial surface, RAS.
        weight_mm: how far it pushes its borders outwards.
        share, density, size: factors per layer on the prototype (empty = 1), the area's own touch.
        sharp: borders within 0.4 mm rather than 1-3 mm.
        drift: how far its place varies between brains, relative to the others. Of V1, 4 and 44 after the shares of
            their labels where ex-vivo maps agree by more than 0.8 (55, 8 and 7 %); of all others a guess: less where
            an area keeps to a primary sulcus, more in association cortex.
        isocortex: False for allocortex, which is drawn but not mapped.
    """

    name: str
    prototype: str
    points_mm: tuple[Point, ...]
    weight_mm: float = 0.0
    share: dict[int, float] = field(default_factory=dict)
    density: dict[int, float] = field(default_factory=dict)
    size: dict[int, float] = field(default_factory=dict)
    scale: float = 1.0
    sharp: bool = False
    drift: float = 1.0
    isocortex: bool = True


# Keys of share, density and size are layers 1-6.
LAYOUT: tuple[AreaSpec, ...] = (
    AreaSpec(
        name="4",
        drift=1.0,
        prototype="FA",
        points_mm=((-8, -26, 66), (-24, -24, 66), (-38, -17, 58), (-50, -7, 44), (-58, 0, 26)),
        weight_mm=1,
    ),
    AreaSpec(
        name="3b",
        drift=0.8,
        prototype="PB",
        points_mm=((-10, -38, 68), (-28, -34, 62), (-44, -25, 52), (-56, -16, 40), (-61, -10, 24)),
        weight_mm=-1,
        sharp=True,
    ),
    AreaSpec(
        name="1/2",
        prototype="PE",
        points_mm=((-18, -48, 70), (-34, -42, 62), (-50, -32, 52), (-61, -22, 36)),
        share={3: 0.9, 4: 1.2, 1: 1.1},
        density={2: 1.1, 4: 1.05},
        scale=1.08,
    ),
    AreaSpec(
        name="6d",
        prototype="FBm",
        points_mm=((-18, -6, 70), (-30, -2, 62), (-42, 4, 52)),
        share={3: 1.15, 6: 0.85, 4: 1.5},
        size={3: 1.12},
    ),
    AreaSpec(name="6m", prototype="FBm", points_mm=((-6, -10, 66), (-6, 6, 62), (-8, 16, 60))),
    AreaSpec(
        name="8",
        prototype="FD",
        points_mm=((-8, 34, 50), (-22, 28, 52), (-38, 20, 46)),
        share={4: 0.6, 5: 1.2},
        size={5: 1.1},
        scale=0.95,
    ),
    AreaSpec(
        name="46", drift=1.2, prototype="FD", points_mm=((-38, 40, 26), (-30, 50, 22), (-44, 28, 32)), density={4: 1.1}
    ),
    AreaSpec(name="9", prototype="FD", points_mm=((-6, 54, 32), (-16, 52, 36), (-6, 56, 18)), scale=0.86),
    AreaSpec(name="10", prototype="FE", points_mm=((-22, 64, 4), (-8, 64, -4), (-36, 58, 0)), weight_mm=1),
    AreaSpec(
        name="44",
        drift=1.3,
        prototype="FD",
        points_mm=((-54, 12, 12), (-54, 10, 26)),
        share={4: 0.5, 3: 1.1},
        size={3: 1.18, 5: 1.05},
        weight_mm=1,
    ),
    AreaSpec(
        name="45",
        drift=1.3,
        prototype="FD",
        points_mm=((-52, 30, 4), (-54, 26, 16)),
        share={4: 1.35},
        size={3: 1.1},
        scale=1.04,
        weight_mm=1,
    ),
    AreaSpec(name="47", prototype="FE", points_mm=((-44, 34, -12), (-30, 32, -18)), size={3: 1.12}, scale=0.92),
    AreaSpec(name="11", prototype="FE", points_mm=((-8, 30, -24), (-18, 48, -18)), share={4: 0.6, 2: 1.2}, scale=0.97),
    AreaSpec(
        name="24",
        prototype="IA",
        points_mm=((-5, 34, 14), (-5, 20, 28), (-5, 38, -2), (-5, 2, 38)),
        share={5: 1.2},
        density={5: 1.12},
        weight_mm=1,
    ),
    AreaSpec(
        name="23",
        prototype="PE",
        points_mm=((-5, -46, 28), (-5, -28, 40), (-7, -54, 16)),
        share={4: 0.7, 5: 1.15},
        density={2: 1.15, 4: 1.1},
        scale=1.06,
    ),
    AreaSpec(name="Ia", prototype="IA", points_mm=((-36, 14, -6), (-38, 4, -12)), weight_mm=1),
    AreaSpec(name="Ig", prototype="PF", points_mm=((-38, -6, 8), (-37, -18, 8), (-37, 8, 6)), share={6: 1.2}),
    AreaSpec(name="7", prototype="PE", points_mm=((-16, -62, 64), (-30, -58, 60), (-10, -54, 66))),
    AreaSpec(name="PF", drift=1.2, prototype="PF", points_mm=((-60, -34, 32), (-60, -28, 22), (-54, -44, 46))),
    AreaSpec(
        name="PG",
        drift=1.2,
        prototype="PF",
        points_mm=((-46, -66, 36), (-52, -58, 26)),
        share={3: 1.08, 4: 1.2},
        scale=1.1,
    ),
    AreaSpec(name="7m", prototype="PE", points_mm=((-6, -64, 44), (-7, -58, 34)), density={3: 0.9}, scale=0.88),
    AreaSpec(
        name="V1",
        drift=0.35,
        prototype="OC",
        points_mm=((-10, -70, 8), (-8, -82, 4), (-8, -94, -2), (-16, -101, -4)),
        weight_mm=1,
        sharp=True,
    ),
    AreaSpec(
        name="V2",
        drift=0.5,
        prototype="OA",
        points_mm=((-8, -74, 22), (-8, -88, 22), (-20, -98, 14), (-28, -97, -6), (-14, -86, -12), (-12, -70, -4)),
        share={3: 1.1, 5: 0.9},
        size={3: 1.15},
        scale=1.15,
        weight_mm=-2,
    ),
    AreaSpec(
        name="V3d", drift=0.8, prototype="OA", points_mm=((-24, -86, 28), (-34, -86, 14), (-14, -86, 36)), scale=1.06
    ),
    AreaSpec(name="V4", prototype="OA", points_mm=((-34, -82, -14), (-38, -72, -16), (-24, -74, -12)), size={3: 0.92}),
    AreaSpec(
        name="MT",
        drift=0.9,
        prototype="OA",
        points_mm=((-46, -72, 4), (-44, -78, -2)),
        share={4: 1.3, 3: 1.05},
        density={6: 0.85},
    ),
    AreaSpec(
        name="A1",
        drift=0.8,
        prototype="TC",
        points_mm=((-42, -26, 10), (-48, -20, 6), (-54, -14, 4)),
        weight_mm=0,
        sharp=True,
    ),
    AreaSpec(
        name="STG",
        prototype="TE",
        points_mm=((-64, -22, 4), (-62, -6, -4), (-62, -42, 14), (-54, 8, -14)),
        share={4: 1.3, 2: 1.25},
        density={4: 1.05},
        scale=1.1,
    ),
    AreaSpec(name="MTG", prototype="TE", points_mm=((-66, -30, -12), (-62, -10, -22), (-62, -48, -4)), size={3: 1.1}),
    AreaSpec(name="ITG", prototype="TE", points_mm=((-54, -26, -28), (-54, -48, -18), (-48, -8, -38)), scale=0.9),
    AreaSpec(name="TG", prototype="IA", points_mm=((-36, 16, -34), (-44, 8, -36)), size={3: 1.1, 5: 1.1}, weight_mm=1),
    AreaSpec(
        name="TF",
        prototype="TE",
        points_mm=((-36, -44, -20), (-34, -26, -26), (-38, -58, -18)),
        share={4: 0.8, 5: 1.1, 6: 1.1},
        size={5: 1.12},
    ),
    AreaSpec(
        name="TH",
        drift=0.8,
        prototype="IA",
        points_mm=((-24, -36, -14), (-16, -48, -4)),
        share={2: 1.2},
        density={2: 1.2},
        scale=1.05,
        weight_mm=-2,
    ),
    AreaSpec(
        name="entorhinal",
        drift=0.7,
        prototype="EC",
        points_mm=((-22, -8, -32), (-24, -18, -28)),
        weight_mm=-1,
        isocortex=False,
    ),
    AreaSpec(
        name="hippocampus",
        drift=0.7,
        prototype="HC",
        points_mm=((-16, -12, -20), (-18, -26, -12)),
        weight_mm=-3,
        isocortex=False,
    ),
)
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
