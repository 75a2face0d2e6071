"""Reconstructions of virtual brains never looked at before: distance to the truth, with and without a reference volume.

Each brain is drawn, reconstructed from its sections alone, and once more with grey and white matter maps of 1 mm of its
own truth as the reference volume (an MRI of the same brain; it shows the cerebrum alone). Folders are kept, so that an
interrupted run goes on.

python benchmarks/virtual_brains.py OUT --preset hard --seeds 601 602 603 [--missing 0.1] [--spacing 2] [--json FILE]
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import nibabel  # noqa: E402
import numpy as np  # noqa: E402

from reconstruct.sources import SurfacePair  # noqa: E402
from reconstruct.tissue_maps import read_maps  # noqa: E402

SHOWN = ("distance_mm_mean", "distance_mm_p95", "back_mm_mean", "euler_L", "euler_R", "observed_share")


def experiment(name: str, out: Path, *settings: str) -> None:
    """One command of the framework, unless its result is there."""
    if (out / "metrics.json").is_file() or (out / "truth" / "brain.json").is_file():
        return
    command = [sys.executable, "-m", "meshgnn.experiment", name, "--out", str(out)]
    for one in settings:
        command += ["--set", one]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def judged(out: Path) -> dict[str, Any]:
    found = json.loads((out / "metrics.json").read_text())["reconstruction"]
    report = json.loads((out / "reconstruction.json").read_text())["sections"]
    bridges = [one for one in found.get("faults", ()) if isinstance(one, dict)]
    row = {key: found[key] for key in SHOWN} | {"unsure_mm": report["unsure_mm"], "glass_mm": report["glass_mm"]}
    return row | {"bridges": [found.get("faults_repaired"), found.get("faults_planted", len(bridges))]}


def maps_of(stack: Path, out: Path) -> list[str]:
    """Settings that name maps of the brain's true ribbon."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / "grey.nii.gz", out / "white.nii.gz"]
    if not all(path.is_file() for path in files):
        maps = read_maps(SurfacePair.Config(folder=stack / "truth", voxel_mm=1.0))
        for path, values in zip(files, (maps.grey, maps.white)):
            nibabel.save(nibabel.Nifti1Image(np.asarray(values), maps.affine), path)
    return [f"align.reference.{kind}={path}" for kind, path in zip(("grey", "white"), files)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--missing", type=float, help="share of sections lost, instead of the preset's")
    parser.add_argument("--spacing", type=float, help="mm between sections, instead of the preset's")
    parser.add_argument("--no-reference", action="store_true", help="from sections alone only")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows: dict[str, list[dict[str, Any]]] = {"sections alone": [], "with a volume": []}
    more = [f"source.{key}={value}" for key, value in
            (("missing", asked.missing), ("spacing_mm", asked.spacing)) if value is not None]  # fmt: skip
    for seed in asked.seeds:
        name = "-".join([asked.preset, str(seed), *(one.partition("=")[2] for one in more)])
        stack = asked.out / name
        experiment("virtual_sections", stack, f"source.seed={seed}", f"source.preset={asked.preset}", *more)
        quick = (f"source.path={stack}", "floor=false", "pictures=false")
        experiment("reconstruct", asked.out / f"{name}-alone", *quick)
        rows["sections alone"].append({"seed": seed} | judged(asked.out / f"{name}-alone"))
        print(json.dumps(rows["sections alone"][-1]), flush=True)
        if not asked.no_reference:
            out = asked.out / f"{name}-volume"
            experiment("reconstruct", out, *quick, *maps_of(stack, asked.out / f"{name}-maps"))
            rows["with a volume"].append({"seed": seed} | judged(out))
            print(json.dumps(rows["with a volume"][-1]), flush=True)
    for kind, found in rows.items():
        if found:
            means = {key: round(float(np.mean([one[key] for one in found])), 3) for key in SHOWN[:3]}
            print(f"{kind}, {len(found)} brains: {json.dumps(means)}")
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
