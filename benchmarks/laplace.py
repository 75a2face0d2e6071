"""The Laplace equation in the ribbon against scipy's conjugate gradients at equal residual, in one run.

Both solve for the same voxels of a folded ellipsoid: ours with boundaries at their true places, scipy with a staircase
boundary, which makes its matrix symmetric, so that conjugate gradients apply. Each stops at the same relative residual
|A u - b| / |b| of its own equations. Time is processor time; memory is what numpy asked for at most beyond the
level functions and the classes of voxels, per unknown.

python benchmarks/laplace.py [--quick] [--json FILE]
"""

import argparse
import json
import os
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy: processor time of several threads is more than that of one
sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402
from scipy.sparse.linalg import cg  # noqa: E402

from benchmarks.reconstruct import folded, staircase  # noqa: E402
from reconstruct import laplace  # noqa: E402
from reconstruct.records import Ribbon  # noqa: E402

RESIDUALS = (1e-4, 1e-5, 1e-6)
Took = tuple[float, float, float, int]  # seconds in all, of the solution alone, relative residual, bytes at the peak


def ours(ribbon: Ribbon, classes: np.ndarray, residual: float) -> Took:
    """The tolerance is lowered until the residual is reached; the last solution counts."""
    tolerance = 1e-2
    while True:
        begun = time.process_time()
        system = laplace.System.of(ribbon.pial, ribbon.white, classes)
        assembled = time.process_time()
        values, _ = system.solved(tolerance)
        ended = time.process_time()
        reached = system.residual(values)
        if reached <= residual:
            break
        tolerance *= 0.7
    peak = _peak(lambda: laplace.System.of(ribbon.pial, ribbon.white, classes).solved(tolerance))
    return ended - begun, ended - assembled, reached, peak


def plain(classes: np.ndarray, residual: float) -> Took:
    """scipy: 7-point stencil on a staircase."""

    def solve() -> tuple[float, float, float]:
        begun = time.process_time()
        matrix, right = staircase(classes)
        assembled = time.process_time()
        values, _ = cg(matrix, right, rtol=residual)
        ended = time.process_time()
        left = float(np.linalg.norm(right - matrix @ values) / np.linalg.norm(right))
        return ended - begun, ended - assembled, left

    return *solve(), _peak(solve)


def _peak(work: Callable[[], Any]) -> int:
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    ribbon = folded(1.2 if options.quick else 0.48)
    classes = laplace.classify(ribbon.pial, ribbon.white)
    count = int((classes == laplace.RIBBON).sum())
    small = folded(3.0)  # compiles
    ours(small, laplace.classify(small.pial, small.white), 1e-3)
    rows = []
    for residual in RESIDUALS[: 1 if options.quick else None]:
        mine, peer = ours(ribbon, classes, residual), plain(classes, residual)
        rows.append({
            "name": "laplace", "unknowns": count, "voxels": classes.size, "residual": residual,
            "ours_s": round(mine[0], 3), "peer_s": round(peer[0], 3), "ratio": round(peer[0] / mine[0], 2),
            "ratio_without_assembly": round(peer[1] / mine[1], 2), "ours_residual": mine[2], "peer_residual": peer[2],
            "ours_bytes_per_unknown": round(mine[3] / count, 1), "peer_bytes_per_unknown": round(peer[3] / count, 1),
        })  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
