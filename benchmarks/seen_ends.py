"""Do lines across a real cortex end where the section shows it, when the mesh says they end elsewhere?

On a picture of a gyrus of BigBrain (Merker stain, pixel size unknown) the pial and the white end of the cortex were
drawn by hand along two stretches, before any end was looked for. A mesh's surfaces are put beside them: pial and white
displaced each by its own smooth random curve. `features.cortical_ends` then looks for the ends near the surfaces, and
the distance to the drawn ends is taken before and after, as shares of the cortex.

    python benchmarks/seen_ends.py GYRUS.png [--json FILE]
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from scipy import ndimage  # noqa: E402

from benchmarks._pairs import keep, show  # noqa: E402
from features.cortical_ends import REACH, EndLevels, seen_ends, smoothed  # noqa: E402

SHAPE = (1269, 662)
# Column and row of the pial and of the white end, along either bank of the gyrus.
BANKS = {
    "left": [
        ((72, 330), (205, 310)), ((82, 400), (208, 390)), ((92, 470), (207, 470)), ((98, 540), (205, 545)),
        ((104, 600), (200, 620)),
    ],
    "right": [
        ((462, 370), (345, 350)), ((455, 440), (345, 430)), ((437, 510), (330, 490)), ((412, 580), (318, 560)),
        ((395, 650), (308, 640)), ((383, 720), (292, 710)), ((372, 790), (280, 790)), ((366, 860), (280, 870)),
        ((366, 930), (283, 950)), ((370, 1000), (292, 1020)), ((377, 1060), (305, 1090)),
    ],
}  # fmt: skip
NODES, LINES, DEPTHS, DRAWS = 40, 15, 32, 50
DISPLACED = (0.05, 0.1, 0.15)  # sd of the mesh's ends, shares of the cortex
GRID = (np.arange(-round(REACH * DEPTHS), DEPTHS + round(REACH * DEPTHS)) + 0.5) / DEPTHS


def curve(rng: np.random.Generator, sd: float) -> np.ndarray:
    """[NODES] smooth random values of this standard deviation over draws."""
    rough = ndimage.gaussian_filter1d(rng.standard_normal(3 * NODES), NODES / 8)[NODES : 2 * NODES]
    return np.asarray(rough * sd / np.sqrt(1 / (2 * np.sqrt(np.pi) * NODES / 8)))


def measured(density: np.ndarray, bank: list[Any], sd: float, rng: np.random.Generator) -> np.ndarray:
    """[2, 2] mean absolute error of the pial and white ends, of the mesh and as seen."""
    drawn = np.array(bank, float)
    at = np.linspace(0, len(drawn) - 1, NODES)
    first = np.minimum(at.astype(int), len(drawn) - 2)
    pial, white = (
        (drawn[first, k].T * (1 - at + first) + drawn[first + 1, k].T * (at - first)).T for k in (0, 1)
    )  # [NODES, 2] each
    across = white - pial
    along = np.stack([across[:, 1], -across[:, 0]], axis=1) / np.linalg.norm(across, axis=1, keepdims=True)
    off = np.stack([curve(rng, sd), curve(rng, sd)])
    start, length = pial + across * off[0][:, None], across * (1 + off[1] - off[0])[:, None]
    aside = (np.arange(LINES) - LINES // 2) * np.linalg.norm(across, axis=1).mean() / DEPTHS
    points = (start[:, None] + length[:, None] * GRID[:, None])[:, :, None] + along[:, None, None] * aside[:, None]
    seen = ndimage.map_coordinates(density, [points[..., 1], points[..., 0]], order=1, mode="nearest")
    smooth = smoothed(seen / np.median(seen[:, (GRID > 0) & (GRID < 1)]), GRID, 5)
    found = np.stack([end[:, LINES // 2] for end in seen_ends(smooth, GRID, EndLevels.of(smooth, GRID))])
    true = off[0] + found * (1 + off[1] - off[0])
    return np.abs(np.stack([off, true - np.array([[0], [1]])])).mean(2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gyrus", type=Path, help="the picture on which the ends were drawn")
    parser.add_argument("--json", type=Path, help="write the rows here")
    args = parser.parse_args()
    try:
        image = np.asarray(Image.open(args.gyrus).convert("L"), float)
    except OSError as error:
        print(f"error: {args.gyrus}: {error}", file=sys.stderr)
        sys.exit(2)
    if image.shape != SHAPE:
        print(f"error: {args.gyrus}: not the picture of {SHAPE[0]} x {SHAPE[1]} px that was drawn on", file=sys.stderr)
        sys.exit(2)
    density = -np.log(np.maximum(image, 1) / image.max())
    rows = []
    for name, bank in BANKS.items():
        for sd in DISPLACED:
            rng = np.random.default_rng(0)
            error = np.mean([measured(density, bank, sd, rng) for _ in range(DRAWS)], axis=0)
            for k, end in enumerate(("pial", "white")):
                rows.append({
                    "name": f"{name} bank, {end} end", "displaced_sd": sd, "mesh": round(error[0, k], 3),
                    "seen": round(error[1, k], 3), "ratio": round(error[0, k] / error[1, k], 1),
                })  # fmt: skip
                show(rows[-1])
    keep(rows, args.json)


if __name__ == "__main__":
    main()
