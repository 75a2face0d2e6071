"""How time and memory of the volume route grow with the number of voxels.

The MNI152 maps that come with nilearn are resampled to finer and finer cubes and reconstructed, each in a process of
its own: whole brain, both hemispheres, pictures left out.

    voxels       of the whole grid, in millions
    seconds      by the clock, start of Python and writing of files included; cpu_s of the processor
    peak_gb      largest resident memory of the process
    exponent     of seconds over voxels (and of cpu_s): least squares in logarithms; 1 is linear

    python benchmarks/volume_scale.py [--voxel_mm 1 0.8 0.63 0.5] [--set KEY=VALUE ...] [--json FILE]
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402

from benchmarks._pairs import keep, show  # noqa: E402
from meshgnn.experiment.cli import entry  # noqa: E402


def _run(words: list[str], begun: float) -> dict[str, float]:
    """In a process of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if entry(words):
        raise SystemExit(1)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": time.time() - begun, "cpu_s": used.ru_utime + used.ru_stime, "peak_gb": used.ru_maxrss / 1024**2,
    }  # fmt: skip


def measured(voxel_mm: float, settings: list[str], place: Path) -> dict[str, Any]:
    out = place / f"{voxel_mm:g}"
    words = ["reconstruct:mni152", "--out", str(out), "--set", f"volume.voxel_mm={voxel_mm}", "--set", "pictures=false"]
    words += [word for one in settings for word in ("--set", one)]
    with get_context("spawn").Pool(1) as pool:
        found = pool.apply(_run, (words, time.time()))
        pool.close()
        pool.join()
    shape = np.load(out / "steps" / "volume" / "pial.npy", mmap_mode="r").shape
    report = json.loads((out / "reconstruction.json").read_text())
    return {
        "name": "volume_scale", "voxel_mm": voxel_mm, "voxels": round(float(np.prod(shape)) / 1e6, 2),
        **{key: round(value, 2) for key, value in found.items()},
        "steps": report["timing_s"],
        "euler": [side["euler_number"] for side in report["hemispheres"].values()],
        "area_mm2": [round(side["area_mm2"]) for side in report["hemispheres"].values()],
    }  # fmt: skip


def main() -> int:
    make = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    make.add_argument("--voxel_mm", type=float, nargs="*", default=[1.0, 0.8, 0.63, 0.5])
    make.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    make.add_argument("--quick", action="store_true", help="2 and 1.5 mm")
    make.add_argument("--json", type=Path)
    options = make.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for voxel_mm in [2.0, 1.5] if options.quick else options.voxel_mm:
            rows.append(measured(voxel_mm, options.settings, Path(place)))
            show(rows[-1])
    if len(rows) > 1:
        voxels = np.log([one["voxels"] for one in rows])
        fit = {key: np.polyfit(voxels, np.log([one[key] for one in rows]), 1)[0] for key in ("seconds", "cpu_s")}
        rows.append({"name": "exponent", **{key: round(float(value), 3) for key, value in fit.items()}})
        show(rows[-1])
    keep(rows, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
