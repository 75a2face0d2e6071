"""Speed of the reconstruction against its peers, measured in one run.

laplace      our assembly and solver of the depth field, against the same equations assembled by array indexing and
             solved by scipy's conjugate gradients (staircase boundary, tolerance 1e-4)
midsurface   ribbon -> repaired, remeshed midsurface, against the plain path: scipy CG, scikit-image marching cubes,
             fast-simplification to the same number of faces (no topology repair: it has none)

python benchmarks/reconstruct.py [--quick] [--json FILE]
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402
from scipy import sparse  # noqa: E402
from scipy.sparse.linalg import cg  # noqa: E402

from reconstruct import laplace  # noqa: E402
from reconstruct.records import Ribbon  # noqa: E402
from reconstruct.steps.midsurface import ExtractMidsurface  # noqa: E402


def folded(step_mm: float) -> Ribbon:
    """A folded ellipsoid of the size of a hemisphere with a ribbon of about 2.6 mm."""
    axes = [np.arange(-half - 4 * step_mm, half + 4 * step_mm, step_mm) for half in (40.0, 88.0, 58.0)]
    x, y, z = np.meshgrid(*(axis.astype(np.float32) for axis in axes), indexing="ij")
    radius = np.sqrt((x / 34) ** 2 + (y / 80) ** 2 + (z / 50) ** 2)
    fold = np.sin(x / 3.2) * np.sin(y / 4.0) + np.sin(y / 3.5) * np.sin(z / 3.8) + np.sin(z / 3.3) * np.sin(x / 4.1)
    level = (radius - 1) * 45 + 2.4 * fold
    slope = np.sqrt(sum(g**2 for g in np.gradient(level, step_mm)))
    pial = (level / np.maximum(slope, 0.4)).astype(np.float32)
    affine = np.diag([step_mm, step_mm, step_mm, 1.0])
    return Ribbon(pial=pial, white=pial + np.float32(2.6), affine=affine, space="bench", hemisphere="L")


def staircase(classes: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Matrix and right-hand side of the depth field: 7-point stencil, boundaries at the centres of fixed voxels."""
    ribbon = np.argwhere(classes == laplace.RIBBON)
    number = np.full(classes.shape, -1, np.int64)
    number[tuple(ribbon.T)] = np.arange(len(ribbon))
    rows, columns, right = [], [], np.zeros(len(ribbon))
    for step in np.concatenate([np.eye(3, dtype=int), -np.eye(3, dtype=int)]):
        beside = tuple((ribbon + step).T)
        inside = number[beside] >= 0
        rows.append(np.flatnonzero(inside))
        columns.append(number[beside][inside])
        right += classes[beside] == laplace.WHITE
    row, column = np.concatenate(rows), np.concatenate(columns)
    matrix = sparse.csr_matrix((-np.ones(len(row)), (row, column)), shape=(len(ribbon),) * 2)
    return matrix + 6 * sparse.eye(len(ribbon), format="csr"), right


def plain_laplace(classes: np.ndarray) -> np.ndarray:
    """The depth field by scipy CG."""
    matrix, right = staircase(classes)
    values, _ = cg(matrix, right, rtol=1e-4)
    u = (classes == laplace.WHITE).astype(np.float32)
    u[classes == laplace.RIBBON] = values
    return u


def plain_midsurface(ribbon: Ribbon, n_faces: int) -> int:
    import fast_simplification
    from skimage.measure import marching_cubes

    u = plain_laplace(laplace.classify(ribbon.pial, ribbon.white))
    vertices, faces, _, _ = marching_cubes(u, 0.5)
    _, simple = fast_simplification.simplify(vertices, faces.astype(np.int32), max(0.0, 1 - n_faces / len(faces)))
    return len(simple)


def seconds(work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    best, result = np.inf, None
    for _ in range(repeats):
        begun = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - begun)
    return best, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ribbon = folded(1.2 if options.quick else 0.7)
    repeats = 1 if options.quick else 3
    extract = ExtractMidsurface.Config().build()
    extract(folded(3.0))  # compile
    laplace.solve(folded(3.0).pial, folded(3.0).white)
    classes = laplace.classify(ribbon.pial, ribbon.white)
    ours, _ = seconds(lambda: laplace.solve(ribbon.pial, ribbon.white, tolerance=1e-4), repeats)
    peer, _ = seconds(lambda: plain_laplace(classes), repeats)
    rows = [_row("laplace", ours, peer, f"scipy CG, {int((classes == laplace.RIBBON).sum())} unknowns")]
    ours, found = seconds(lambda: extract(ribbon), repeats)
    peer, _ = seconds(lambda: plain_midsurface(ribbon, found.mesh.n_faces), repeats)
    rows.append(_row("midsurface", ours, peer, "scipy CG + scikit-image marching cubes + fast-simplification"))
    for row in rows:
        print(json.dumps(row))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _row(name: str, ours: float, peer: float, peer_name: str) -> dict[str, Any]:
    return {
        "name": name, "ours": round(ours, 4), "peer": round(peer, 4), "peer_name": peer_name, "unit": "s",
        "ratio": round(peer / ours, 3),
    }  # fmt: skip


if __name__ == "__main__":
    main()
