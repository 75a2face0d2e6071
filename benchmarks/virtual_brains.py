"""Reconstructions of virtual brains never looked at before: distance to the truth, with and without a reference volume.

Each brain is drawn, reconstructed from its sections alone, and once more with grey and white matter maps of 1 mm of its
own truth as the reference volume (an MRI of the same brain; it shows the cerebrum alone). With --image also with an
image in grey values made of these maps: fluid, skull and scalp around, partial volume, a bias of up to +-25 %, Rician
noise of 5 % of white matter, lying askew and 4 % larger than the sections. Folders are kept, so that an interrupted run
goes on.

python benchmarks/virtual_brains.py OUT --preset hard --seeds 601 602 603 [--missing 0.1] [--spacing 2] [--json FILE]
                                                                          [--image t1 t2]
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
from scipy import ndimage  # noqa: E402
from scipy.spatial.transform import Rotation  # noqa: E402

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


# Fluid, grey and white matter, skull, scalp.
CONTRASTS = {"t1": (0.25, 0.65, 1.0, 0.1, 1.1), "t2": (1.3, 0.8, 0.6, 0.1, 0.9), "block": (0.1, 0.6, 1.0, 0.1, 0.1)}


def image_of(maps: list[str], out: Path, kind: str, seed: int) -> list[str]:
    """Settings that name an image of the brain whose maps these are."""
    path = out / f"{kind}.nii.gz"
    if not path.is_file():
        grey, white = (nibabel.load(one.partition("=")[2]) for one in maps)
        rng = np.random.default_rng(seed)
        shares = [np.pad(np.asarray(one.get_fdata(), np.float32), 25) for one in (grey, white)]
        affine = grey.affine.copy()
        affine[:3, 3] -= affine[:3, :3] @ np.full(3, 25)
        shape = np.array(shares[0].shape)
        # Where every voxel of the image lies in the maps, in voxels: turned, and larger by 4 %.
        turn = Rotation.from_euler("xyz", rng.uniform(-8, 8, 3), degrees=True).as_matrix() / 1.04
        middle = (shape - 1) / 2
        shift = middle - turn @ (middle + rng.uniform(-6, 6, 3))
        own, inner = (ndimage.affine_transform(one, turn, shift, order=1) for one in shares)
        tissue = ndimage.gaussian_filter(own + inner, 2) > 0.3
        far = ndimage.distance_transform_edt(
            ~ndimage.binary_closing(np.pad(tissue, 12), iterations=10)[12:-12, 12:-12, 12:-12]
        )
        fluid, grey_value, white_value, skull, scalp = CONTRASTS[kind]
        values = np.select([far < 4, far < 9, far < 14], [fluid, skull, scalp], 0.0)
        values = values * np.clip(1 - own - inner, 0, 1) + grey_value * own + white_value * inner
        knots = rng.uniform(-0.25, 0.25, (4, 4, 4))
        values *= 1 + ndimage.zoom(knots, shape / 4, order=3, mode="nearest")
        noise = 0.05 * white_value * rng.standard_normal((2, *shape))
        values = np.hypot(values + noise[0], noise[1])
        nibabel.save(nibabel.Nifti1Image((1000 * values).astype(np.int16), affine), path)
    return [f"align.reference.image={path}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--missing", type=float, help="share of sections lost, instead of the preset's")
    parser.add_argument("--spacing", type=float, help="mm between sections, instead of the preset's")
    parser.add_argument("--no-reference", action="store_true", help="from sections alone only")
    parser.add_argument("--image", nargs="*", choices=list(CONTRASTS), default=[], help="also with such an image")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows: dict[str, list[dict[str, Any]]] = {"sections alone": [], "with a volume": []}
    rows |= {f"with an image, {kind}": [] for kind in asked.image}
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
        for kind in asked.image:
            out, folder = asked.out / f"{name}-{kind}", asked.out / f"{name}-maps"
            experiment("reconstruct", out, *quick, *image_of(maps_of(stack, folder), folder, kind, seed))
            rows[f"with an image, {kind}"].append({"seed": seed} | judged(out))
            print(kind, json.dumps(rows[f"with an image, {kind}"][-1]), flush=True)
    for kind, found in rows.items():
        if found:
            means = {key: round(float(np.mean([one[key] for one in found])), 3) for key in SHOWN[:3]}
            print(f"{kind}, {len(found)} brains: {json.dumps(means)}")
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
