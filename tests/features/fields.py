"""Small folders of fields for the tests: strips of two kinds of cortex, told apart by how dense their cells are."""

from pathlib import Path

import numpy as np

from features.fields import NEEDED
from tests.features.sections import write_stack

WIDE, TALL, GAP = 40, 120, 6
COLUMNS = (*NEEDED, "area", "hemisphere")


def write_fields(
    folder: Path, sections: int = 6, areas=("sparse", "dense"), pixel_um: float = 2.0, seed: int = 0
) -> Path:
    """Each section holds two fields of each area; glass on the first 10 rows and between the fields."""
    rng = np.random.default_rng(seed)
    images, rows = [], []
    for section in range(sections):
        image = np.full((TALL + 8, 2 * len(areas) * (WIDE + GAP)), 240, np.uint8)
        for k in range(2 * len(areas)):
            left = k * (WIDE + GAP)
            piece = np.full((TALL - 10, WIDE), 205.0)
            piece[rng.random(piece.shape) < (0.05, 0.3)[k % len(areas) % 2]] = 90
            image[10:TALL, left : left + WIDE] = piece
            rows.append([section, 10 + (TALL - 10) / 2, left + (WIDE - 1) / 2, WIDE, TALL, (TALL - 10) * pixel_um,
                         5.0 * k, 2.0 * section, 1.0, areas[k % len(areas)], "L"])  # fmt: skip
        images.append(image)
    write_stack(folder, images, pixel_um)
    lines = [",".join(map(str, row)) for row in rows]
    (folder / "fields.csv").write_text("\n".join([",".join(COLUMNS), *lines]) + "\n")
    return folder
