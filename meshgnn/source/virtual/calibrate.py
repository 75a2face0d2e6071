"""Is the virtual brain as hard as a real one? Figures to set beside BigBrain's.

    python -m meshgnn.source.virtual.calibrate [--preset default] [--seeds 1,2,3]

eta squared: share of the variance of relative layer thickness (over nodes, by area) that area explains. BigBrain: 7 to
18 %, layer IV 53 % (32 % without the occipital areas). Thickness is measured as there, along depth, not by volume.
Coordinates: nearest neighbours on the midthickness coordinates of other brains' nodes (right hemispheres mirrored onto
left ones) tell the areas of an unseen brain: 15 neighbours in one other brain, or 40 in all the others together (a map
of what lies where in the population). Neither macro-F1 shall pass 0.5 on the default brain, or position alone would
solve the task.
"""

import argparse
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from meshgnn.confusion import macro_f1
from meshgnn.mesh.metric import vertex_areas
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.source.virtual.areas import isocortical_areas
from meshgnn.source.virtual.fields import Floats
from meshgnn.source.virtual.generator import VirtualBrain
from meshgnn.source.virtual.laminae import Cortex, depth_of_share
from meshgnn.source.virtual.settings import Preset
from meshgnn.source.virtual.truth import node_labels

OCCIPITAL = ("V1", "V2", "V3d", "V4", "MT")


def eta_squared(values: Floats, labels: npt.NDArray[np.integer], weights: Floats) -> float:
    """Share of the weighted variance of values [N] that lies between the groups of labels [N]."""
    mean = np.average(values, weights=weights)
    total = np.average((values - mean) ** 2, weights=weights)
    mass = np.bincount(labels, weights)
    group = np.divide(np.bincount(labels, weights * values), mass, out=np.zeros(len(mass)), where=mass > 0)
    return float((mass * (group - mean) ** 2).sum() / mass.sum() / total) if total > 0 else 0.0


def relative_thickness(cortex: Cortex) -> Floats:
    """[V, 6] share of the way from pial to white that every layer takes."""
    below = np.cumsum(cortex.layer_shares(), axis=1).clip(0, 1)
    edges = depth_of_share(below, cortex.ratio[:, None].astype(np.float64))
    return np.diff(edges, axis=1, prepend=0.0)


def _unseen(points: list[Floats], labels: list[npt.NDArray[np.int32]], test: int, train: list[int], k: int) -> float:
    """Macro-F1 on brain `test` of a vote among the k nearest nodes of the brains `train`."""
    near = cKDTree(np.concatenate([points[i] for i in train])).query(points[test], k=k)[1]
    found = np.concatenate([labels[i] for i in train])[near]
    votes = np.stack([(found == area).sum(1) for area in range(len(isocortical_areas()))], axis=1)
    return macro_f1(labels[test], votes.argmax(1))


def calibration(preset: Preset, seeds: tuple[int, ...] = (1, 2, 3), **knobs: Any) -> dict[str, Any]:
    """Figures of a preset, means over the seeds' brains (nodes of the template mesh, no sections cut).

    Args:
        preset: of the brains.
        seeds: one brain each.
        knobs: further fields of `VirtualBrain.Config`.
    """
    points: list[Floats] = []
    labels: list[npt.NDArray[np.int32]] = []
    weights: list[Floats] = []
    shares: list[Floats] = []
    depths: list[tuple[float, float]] = []
    for seed in seeds:
        brain = VirtualBrain.Config(seed=seed, preset=preset, subdivisions=0, **knobs).build()
        own = node_labels(brain)
        parts: list[list[Any]] = [[], [], [], []]
        for cortex in brain.hemispheres:
            hemi = cortex.hemisphere
            middle = (hemi.white_mm + hemi.pial_mm) / 2
            mesh = SurfaceMesh(
                vertices_mm=middle.astype(np.float32), faces=hemi.faces, hemisphere="L", space=brain.space
            )
            keep, thick = own[hemi.name] >= 0, relative_thickness(cortex)
            mirror = np.array([1.0 if hemi.name == "L" else -1.0, 1, 1])
            for part, array in zip(parts, (middle * mirror, own[hemi.name], vertex_areas(mesh), thick)):
                part.append(array[keep])
            ratio = cortex.ratio[keep].astype(np.float64)
            deep = thick[keep][:, 4:].sum(1)
            order = np.argsort(ratio)
            tenth = len(order) // 10
            depths.append((float(deep[order[:tenth]].mean()), float(deep[order[-tenth:]].mean())))
        stores: tuple[list[Any], ...] = (points, labels, weights, shares)
        for store, part in zip(stores, parts):
            store.append(np.concatenate(part))
    occipital = [isocortical_areas().names.index(name) for name in OCCIPITAL]
    eta, eta_rest, scores, crowd = [], [], [], []
    for k in range(len(seeds)):
        away = ~np.isin(labels[k], occipital)
        eta.append([eta_squared(shares[k][:, m], labels[k], weights[k]) for m in range(6)])
        eta_rest.append([eta_squared(shares[k][away, m], labels[k][away], weights[k][away]) for m in range(6)])
        others = [i for i in range(len(seeds)) if i != k]
        if others:
            scores.append(_unseen(points, labels, k, [(k - 1) % len(seeds)], 15))
            crowd.append(_unseen(points, labels, k, others, 40))
    return {
        "preset": preset,
        "seeds": list(seeds),
        "eta_squared": np.round(np.mean(eta, axis=0), 3).tolist(),
        "eta_squared_without_occipital": np.round(np.mean(eta_rest, axis=0), 3).tolist(),
        "coordinates_knn_macro_f1": round(float(np.mean(scores)), 3) if scores else float("nan"),
        "coordinates_all_others_macro_f1": round(float(np.mean(crowd)), 3) if crowd else float("nan"),
        "deep_layers_share_of_depth_gyral_sulcal": np.round(np.mean(depths, axis=0), 3).tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Calibration figures of the virtual brain.")
    parser.add_argument("--preset", default="default", choices=["quick", "easy", "default", "hard"])
    parser.add_argument("--seeds", default="1,2,3")
    arguments = parser.parse_args()
    figures = calibration(arguments.preset, tuple(int(s) for s in arguments.seeds.split(",")))
    layers = ("I", "II", "III", "IV", "V", "VI")
    print(f"preset {figures['preset']}, seeds {figures['seeds']}")
    print("layer                    " + "".join(f"{name:>7}" for name in layers))
    print("eta^2 of area            " + "".join(f"{value:7.3f}" for value in figures["eta_squared"]))
    print("eta^2 without occipital  " + "".join(f"{v:7.3f}" for v in figures["eta_squared_without_occipital"]))
    print("BigBrain: 0.07-0.18, IV 0.53 (0.32 without occipital)")
    print(
        f"coordinates only, unseen brain: macro-F1 {figures['coordinates_knn_macro_f1']} from one other brain, "
        f"{figures['coordinates_all_others_macro_f1']} from all others (shall be <= 0.5 on default)"
    )
    gyral, sulcal = figures["deep_layers_share_of_depth_gyral_sulcal"]
    print(f"V+VI share of depth: gyral decile {gyral}, sulcal decile {sulcal} (BigBrain 0.455, 0.396)")


if __name__ == "__main__":
    main()
