"""Is tissue found under uneven light? Classes of sections in changed light against those of the same in even light.

Every eighth section of each stack is darkened by a factor in its image: down to one side (fall), to one corner, or to
all (vignette). The classes found are compared with those of the unchanged images (Dice), with light evened by the glass
(`tissue.even_light`) and without.

python benchmarks/uneven_light.py STACK [STACK ...] [--json FILE]
"""

import argparse
import csv
import json
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402

from meshgnn.errors import InputError  # noqa: E402
from meshgnn.source.sections import TABLE, open_section, read_stack, write_tiff  # noqa: E402
from reconstruct.records import TissueStack  # noqa: E402
from reconstruct.steps.tissue import ClassifyTissue  # noqa: E402

Floats = np.ndarray[Any, np.dtype[np.float64]]
LIGHTS: dict[str, Callable[[Floats, Floats], Floats]] = {
    "even": lambda y, x: np.ones_like(x + y),
    "fall_10": lambda y, x: 1 - 0.1 * (1 - x + 0 * y) / 2,
    "fall_20": lambda y, x: 1 - 0.2 * (1 - x + 0 * y) / 2,
    "corner_20": lambda y, x: 1 - 0.2 * np.hypot(y - 1, x + 1) / 2.83,
    "vignette_15": lambda y, x: 1 - 0.15 * (x**2 + y**2) / 2,
}


def few(folder: Path, place: Path, every: int) -> None:
    """A copy of a stack with every n-th of its inner sections."""
    usable = list(read_stack(folder).usable())
    chosen = usable[len(usable) // 6 : -len(usable) // 6 : every]
    place.mkdir(parents=True)
    names = {section.path.name for section in chosen}
    with (folder / TABLE).open(newline="") as file:
        lines = list(csv.DictReader(file))
    with (place / TABLE).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(line for line in lines if Path(next(iter(line.values()))).name in names)
    for section in chosen:
        shutil.copy(section.path, place / section.path.name)


def darken(place: Path, light: Callable[[Floats, Floats], Floats]) -> None:
    for section in read_stack(place):
        with open_section(section) as image:
            grey = image.read().astype(np.float64)
        y, x = (np.linspace(-1, 1, size) for size in grey.shape)
        changed = np.round(grey * light(y[:, None], x[None]))
        write_tiff(section.path, np.clip(changed, 0, 255).astype(np.uint8), section.pixel_um)


def classes(place: Path, even_light: bool) -> TissueStack | None:
    try:
        return ClassifyTissue.Config(even_light=even_light).build()(read_stack(place))
    except InputError as error:
        print(f"refused: {error}", file=sys.stderr)
        return None


def dice(found: TissueStack | None, wanted: TissueStack, name: str) -> float:
    if found is None or found.index.tolist() != wanted.index.tolist():
        return 0.0  # sections were left out, or all refused
    one, other = getattr(found, name) < 0, getattr(wanted, name) < 0
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stacks", nargs="+", type=Path, metavar="STACK")
    parser.add_argument("--every", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, list[list[float]]] = {name: [] for name in LIGHTS}
    with tempfile.TemporaryDirectory() as aside:
        for number, folder in enumerate(options.stacks):
            sound = Path(aside) / f"{number}"
            few(folder, sound, options.every)
            wanted = classes(sound, False)
            if wanted is None:
                raise SystemExit(f"{folder}: no tissue is found in its unchanged images")
            for name, light in LIGHTS.items():
                place = Path(aside) / f"{number}-{name}"
                shutil.copytree(sound, place)
                darken(place, light)
                told = [classes(place, evened) for evened in (False, True)]
                found[name].append([dice(one, wanted, kind) for one in told for kind in ("outer", "white")])
                shutil.rmtree(place)
    rows = []
    for name, values in found.items():
        before = np.mean(values, axis=0)
        rows.append(
            {
                "name": f"light_{name}_white",
                "ours": round(float(before[3]), 4),
                "peer": round(float(before[1]), 4),
                "peer_name": "as it is",
                "unit": "Dice",
                "ratio": round(float(before[3] / max(before[1], 1e-9)), 4),
                "tissue_evened": round(float(before[2]), 4),
                "tissue_as_it_is": round(float(before[0]), 4),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
