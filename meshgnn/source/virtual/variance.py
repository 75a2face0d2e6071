"""How the variance of layers is spread in BigBrain, and by the same measures in a virtual brain.

    python -m meshgnn.source.virtual.variance BIGBRAIN_FOLDER [--preset default] [--seeds 1,2]

The folder holds BigBrain's layer thicknesses, surfaces and cortical types as GIfTI (layer thicknesses of Wagstyl et
al. 2020). Thicknesses are turned into shares of volume (Bok) and their logarithms taken, as the generator draws them.

area          eta squared of total thickness; sd of the means of areas
hemisphere    half the variance of left-right differences of an area's mean: a lower bound of brain x area, since one
              brain cannot show what its hemispheres share; it still holds what local variation leaves in a mean
spatial       semivariogram between places of one area, by geodesic distance; its sill, and the shares of variance at
              the generator's correlation lengths (least squares, none below 0; what is shorter falls to the shortest,
              since nodes are 3 mm apart; errors of segmentation are in it)

BigBrain has no map of areas that was drawn on its sections, so "areas" are 40 places of both hemispheres together
(k-means of mirrored coordinates) divided by cortical type; the virtual brain's are its own.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.cluster.vq import kmeans2
from scipy.optimize import nnls
from scipy.sparse.csgraph import dijkstra

from meshgnn.errors import InputError
from meshgnn.mesh.metric import vertex_areas
from meshgnn.mesh.operators import geodesic_graph
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.source.gifti import read_labels, read_surface, read_values
from meshgnn.source.virtual.areas import HEMISPHERE_SD, SHARED
from meshgnn.source.virtual.calibrate import eta_squared
from meshgnn.source.virtual.fields import Floats
from meshgnn.source.virtual.generator import VirtualBrain
from meshgnn.source.virtual.laminae import SCALES_MM, SHARE_SD, SPREAD, volume_share
from meshgnn.source.virtual.settings import Preset
from meshgnn.source.virtual.truth import node_labels

NAMES = ("I", "II", "III", "IV", "V", "VI", "all")
LAGS_MM = np.array([0, 1.5, 3, 4.5, 6, 8, 10, 13, 16, 20, 25, 30, 40, 50.0])
PLACES = 40
LEAST_NODES = 60  # of an area on either side, for its left-right difference


@dataclass(frozen=True, kw_only=True, eq=False)
class Sheet:
    """One hemisphere: mesh, log shares of volume of layers I-VI and log thickness [V, 7], area [V] (-1 = none)."""

    mesh: SurfaceMesh
    values: Floats
    area: npt.NDArray[np.int64]


def read_bigbrain(folder: Path) -> tuple[Sheet, ...]:
    """Both hemispheres from `folder`. Raises InputError where a file is missing."""
    found = []
    for side, mirror in (("L", 1.0), ("R", -1.0)):
        stem = f"sub-BigBrain_hemi-{side}"
        wanted = [f"desc-layer{k}Thickness" for k in range(1, 7)] + ["desc-logPialWhiteAreaRatio"]
        paths = [folder / f"{stem}_{name}.shape.gii" for name in wanted]
        types = folder / f"{stem}_atlas-CorticalTypes_dseg.label.gii"
        surface = folder / f"{stem}_midthickness.surf.gii"
        for path in (*paths, types, surface):
            if not path.is_file():
                raise InputError(f"{path}: not there; this needs BigBrain's layer thicknesses as GIfTI")
        points, faces = read_surface(surface)
        columns = [read_values(path)[0].reshape(len(points)).astype(np.float64) for path in paths]
        thick = np.stack(columns[:6], axis=1)
        kind = read_labels(types)[0].reshape(-1)
        total = thick.sum(1)
        rho = np.cumsum(thick, axis=1) / np.maximum(total, 1e-9)[:, None]
        ratio = np.exp(-np.clip(columns[6], -np.log(4), np.log(4)))[:, None]
        shares = np.diff(volume_share(rho, ratio), axis=1, prepend=0.0)  # type: ignore[arg-type]
        keep = (kind > 0) & (kind < 7) & (shares.min(1) > 1e-4)
        mesh = SurfaceMesh(vertices_mm=points, faces=faces, hemisphere=side, space="bigbrain")  # type: ignore[arg-type]
        centred = points * np.array([mirror, 1, 1]) - (points * np.array([mirror, 1, 1]))[keep].mean(0)
        values = np.log(np.maximum(np.column_stack([shares, total]), 1e-4))
        found.append((mesh, values, kind, keep, centred))
    together = np.concatenate([centred[keep] for *_, keep, centred in found])
    place = np.split(kmeans2(together, PLACES, minit="++", rng=0, iter=30)[1], [int(found[0][3].sum())])
    sheets = []
    for (mesh, values, kind, keep, _), own in zip(found, place):
        area = np.full(len(values), -1, np.int64)
        area[keep] = own * 10 + kind[keep]
        sheets.append(Sheet(mesh=mesh, values=values, area=area))
    return tuple(sheets)


def draw_sheets(preset: Preset, seed: int) -> tuple[Sheet, ...]:
    """Both hemispheres of a virtual brain, on the template's nodes."""
    brain = VirtualBrain.Config(seed=seed, preset=preset, subdivisions=0).build()
    labels = node_labels(brain)
    sheets = []
    for cortex in brain.hemispheres:
        hemi = cortex.hemisphere
        middle = ((hemi.white_mm + hemi.pial_mm) / 2).astype(np.float32)
        thick = np.sqrt(((hemi.pial_mm - hemi.white_mm) ** 2).sum(1))
        mesh = SurfaceMesh(
            vertices_mm=middle,
            faces=hemi.faces,
            hemisphere=hemi.name,  # type: ignore[arg-type]
            space=brain.space,
        )
        values = np.log(np.maximum(np.column_stack([cortex.layer_shares(), thick]), 1e-4))
        sheets.append(Sheet(mesh=mesh, values=values, area=labels[hemi.name].astype(np.int64)))
    return tuple(sheets)


def semivariogram(sheet: Sheet, sources: int = 500) -> tuple[Floats, Floats, Floats]:
    """Mean distance [B], number of pairs [B] and half the mean squared difference [B, 7] within areas, by lag."""
    bins = len(LAGS_MM) - 1
    count, way, half = np.zeros(bins), np.zeros(bins), np.zeros((bins, 7))
    able = np.flatnonzero(sheet.area >= 0)
    chosen = np.random.default_rng(0).choice(able, min(sources, len(able)), replace=False)
    reach = dijkstra(geodesic_graph(sheet.mesh), indices=chosen, limit=LAGS_MM[-1], directed=False)
    for source, distance in zip(chosen, reach):
        other = np.flatnonzero((distance > 0) & (distance < LAGS_MM[-1]) & (sheet.area == sheet.area[source]))
        lag = np.digitize(distance[other], LAGS_MM) - 1
        count += np.bincount(lag, minlength=bins)
        way += np.bincount(lag, distance[other], bins)
        squared = (sheet.values[other] - sheet.values[source]) ** 2 / 2
        for c in range(7):
            half[:, c] += np.bincount(lag, squared[:, c], bins)
    there = np.maximum(count, 1)
    return way / there, count, half / there[:, None]


def measure(sheets: tuple[Sheet, ...]) -> dict[str, Any]:
    """The figures of both hemispheres together; arrays are over layers I-VI and total thickness."""
    area = np.concatenate([sheet.area for sheet in sheets])
    values = np.concatenate([sheet.values for sheet in sheets])
    weight = np.concatenate([vertex_areas(sheet.mesh) for sheet in sheets])
    keep = area >= 0
    number = np.unique(area[keep], return_inverse=True)[1]
    eta = [eta_squared(values[keep, c], number, weight[keep]) for c in range(7)]
    apart, means = [], []
    for k in np.unique(area[keep]):
        sides = [sheet.values[sheet.area == k] for sheet in sheets]
        if min(len(side) for side in sides) >= LEAST_NODES:
            left, right = (side.mean(0) for side in sides)
            apart.append(left - right)
            means.append((left + right) / 2)
    way, count, half = (np.array(part) for part in zip(*(semivariogram(sheet) for sheet in sheets)))
    pairs = np.maximum(count.sum(0), 1)
    lag = (way * count).sum(0) / pairs
    gamma = (half * count[:, :, None]).sum(0) / pairs[:, None]
    far = count.sum(0) > 50
    design = 1 - np.exp(-(lag[far, None] ** 2) / (2 * np.array(SCALES_MM) ** 2))
    design = np.column_stack([np.ones(far.sum()), design]) * np.sqrt(pairs[far])[:, None]
    fits = np.array([nnls(design, gamma[far, c] * np.sqrt(pairs[far]))[0] for c in range(7)])
    spread = np.column_stack([fits[:, 0] + fits[:, 1], fits[:, 2:]])
    return {
        "areas": len(apart),
        "eta_squared": np.array(eta),
        "area_sd": np.std(means, axis=0),
        "hemisphere_sd": np.std(apart, axis=0) / np.sqrt(2),
        "spatial_sd": np.sqrt(spread.sum(1)),
        "nugget_share": fits[:, 0] / np.maximum(fits.sum(1), 1e-12),
        "spread": spread / np.maximum(spread.sum(1, keepdims=True), 1e-12),
        "lag_mm": lag,
        "semivariance": gamma,
    }


def _print(title: str, found: dict[str, Any], variogram: bool) -> None:
    print(f"\n{title}: {found['areas']} areas on both sides")
    print(" " * 34 + "".join(f"{name:>8}" for name in NAMES))
    rows = [("eta squared of area (log)", "eta_squared"), ("sd of areas' means", "area_sd"),
            ("sd of an area, left against right", "hemisphere_sd"), ("sd within areas (sill)", "spatial_sd"),
            ("share of it in the nugget", "nugget_share")]  # fmt: skip
    for words, key in rows:
        print(f"{words:34s}" + "".join(f"{value:8.3f}" for value in found[key]))
    for k, scale in enumerate(SCALES_MM):
        shorter = " and shorter" if k == 0 else ""
        print(f"{f'share at {scale:g} mm{shorter}':34s}" + "".join(f"{row[k]:8.2f}" for row in found["spread"]))
    if variogram:
        for lag, row in zip(found["lag_mm"], found["semivariance"]):
            print(f"{f'semivariance at {lag:.1f} mm':34s}" + "".join(f"{value:8.4f}" for value in row))


def main() -> None:
    parser = argparse.ArgumentParser(description="Variance of layers in BigBrain and in virtual brains.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preset", default="default", choices=["quick", "easy", "default", "hard"])
    parser.add_argument("--seeds", default="1")
    arguments = parser.parse_args()
    _print("BigBrain", measure(read_bigbrain(arguments.folder)), variogram=True)
    for seed in (int(word) for word in arguments.seeds.split(",")):
        found = measure(draw_sheets(arguments.preset, seed))
        _print(f"virtual brain {seed} ({arguments.preset})", found, variogram=False)
    print("\nsizes of the generator (log shares, layers I-VI)")
    print(f"hemisphere x area (HEMISPHERE_SD)  {HEMISPHERE_SD.round(3)}, times profile_effect")
    print(f"brain x area                       {SHARED:g} times that (a guess)")
    print(f"spatial (SHARE_SD)                 {SHARE_SD}, times layer_noise; by length {SCALES_MM} mm:")
    print(SPREAD)


if __name__ == "__main__":
    main()
