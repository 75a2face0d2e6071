"""Strands of tissue across a sulcus, in the plane of a section.

A strand (glue, a vessel with its sheath) joins two banks and so parts the background: what lies below it is cut off
from what lies above. Thin tissue between two pieces of background is such a strand; it is taken away and listed. Two
gyri that merely touch do so along their banks, in a contact that is not thin.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]


def strands(tissue: Mask, width: float, least_background: float) -> tuple[Mask, NDArray[np.float64]]:
    """Find strands.

    Args:
        tissue: [H, W] bool.
        width: largest width of a strand, in pixels.
        least_background: pieces of background with fewer pixels do not count.

    Returns:
        The strands' pixels [H, W] and, one row per strand, its middle (row, column) and number of pixels [B, 3].
    """
    result = np.zeros_like(tissue)
    numbers, count = ndimage.label(np.pad(~tissue, 1, constant_values=True))
    numbers = numbers[1:-1, 1:-1]
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    outside = int(np.bincount(np.concatenate([numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]])).argmax())
    found = []
    margin = int(2 * width) + 3
    boxes = ndimage.find_objects(numbers)
    for number in range(1, count + 1):
        if number == outside or sizes[number] < least_background:
            continue
        box = tuple(
            slice(max(0, side.start - margin), min(size, side.stop + margin))
            for side, size in zip(boxes[number - 1], tissue.shape)
        )
        window, here = tissue[box], numbers[box]
        padded = np.pad(window, margin, mode="edge")
        core = ndimage.distance_transform_edt(padded) > width / 2
        thick = (ndimage.distance_transform_edt(~core) <= width / 2)[margin:-margin, margin:-margin]
        thin, pieces = ndimage.label(window & ~thick)
        large = sizes[here] >= least_background
        below, above = (here == number), (here != number) & (here > 0) & large
        beside = [ndimage.binary_dilation(side) for side in (below, above)]
        for piece in range(1, pieces + 1):
            part = thin == piece
            if all((part & side).any() for side in beside) and not (part & result[box]).any():
                result[box] |= part
                rows, columns = np.nonzero(part)
                found.append((rows.mean() + box[0].start, columns.mean() + box[1].start, len(rows)))
    return result, np.array(found, np.float64).reshape(-1, 3)
