"""Reconstructed brains on fsaverage5: what a way there and back costs, and how well their areas meet.

Virtual brains are drawn, cut, reconstructed from their sections, and given the areas of the truth at their nodes; both
are then registered to fsaverage5 by their folds.

    round_trip    of coordinates, areas and thickness, from the brain to fsaverage5 and back: interpolation alone
    dice          mean overlap of the areas of two brains there, registered and merely rotated (steps=0)

    python benchmarks/between_brains.py [--seeds 1 2] [--preset quick] [--volume FOLDER] [--json FILE]

FOLDER is a reconstruction without areas, such as that of `reconstruct:mni152`: its way there and back alone.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

from benchmarks._pairs import keep, show  # noqa: E402
from meshgnn.experiment.cli import entry  # noqa: E402
from meshgnn.export.gifti import write_surface_folder  # noqa: E402
from meshgnn.progress import silent  # noqa: E402
from meshgnn.registration import Registration  # noqa: E402
from meshgnn.registration.common.command import place_brains, write_common  # noqa: E402
from meshgnn.registration.template import FSAVERAGE5  # noqa: E402
from reconstruct import read_graph  # noqa: E402
from reconstruct.truth import true_labels  # noqa: E402


def reconstructed(seed: int, preset: str, place: Path) -> Path:
    """A surface folder of a virtual brain's reconstruction, with true areas at its nodes."""
    stack, mesh = place / f"stack{seed}", place / f"mesh{seed}"
    draw = ["virtual_sections", "--set", f"source.seed={seed}", "--set", f"source.preset={preset}"]
    make = ["reconstruct", "--set", f"source.path={stack}", "--set", "floor=false", "--set", "pictures=false"]
    for words, out in ((draw, stack), (make, mesh)):
        if entry([*words, "--out", str(out)]):
            raise SystemExit(f"{words[0]} failed")
    graph = read_graph(mesh)
    told = true_labels(graph, stack)
    write_surface_folder(place / f"brain{seed}", graph._replace(labels=told.labels, areas=told.areas), "True")
    return place / f"brain{seed}"


def rows_of(folders: list[Path], place: Path) -> list[dict[str, Any]]:
    found, drawn = [], {}
    for name, config in (("registered", Registration.Config()), ("rotated", Registration.Config(steps=0))):
        begun = time.perf_counter()
        fixed, brains = place_brains(folders, FSAVERAGE5, "", config, silent)
        told = write_common(place / name, fixed, brains, "")
        seconds = round((time.perf_counter() - begun) / len(folders), 1)
        drawn[name] = told.get("maps", {})
        for brain, sides in told["brains"].items() if name == "registered" else ():
            for side, figures in sides.items():
                found.append({"name": "round_trip", "brain": brain, "side": side, "seconds": seconds,
                              **{key: round(value, 3) for key, value in figures["round_trip"].items()},
                              "correlation_10_mm": figures["correlation_registered"]["10 mm"]})  # fmt: skip
        if not drawn[name]:
            return found
    for side in drawn["registered"]:
        found.append({"name": "dice", "side": side,
                      **{name: round(sides[side]["dice_mean"], 3) for name, sides in drawn.items()}})  # fmt: skip
    return found


def main() -> int:
    make = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    make.add_argument("--seeds", type=int, nargs="*", default=[1, 2])
    make.add_argument("--preset", default="quick")
    make.add_argument("--volume", type=Path)
    make.add_argument("--quick", action="store_true", help="one virtual brain, not compared")
    make.add_argument("--json", type=Path)
    options = make.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        if options.volume:
            rows += rows_of([options.volume], Path(place) / "volume")
        seeds = options.seeds[:1] if options.quick else options.seeds
        if seeds:
            folders = [reconstructed(seed, options.preset, Path(place)) for seed in seeds]
            rows += rows_of(folders, Path(place) / "virtual")
    for row in rows:
        show(row)
    keep(rows, options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
