"""Where a section shows tissue, on coarse pixels: outlines of a map end at glass.

Masks are made once per image while a filling is made, and kept in STATE/kept/tissue; whoever looks at outlines reads no
image.
"""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from meshgnn.errors import InputError
from meshgnn.mapping.ribbon import Ribbon
from meshgnn.progress import Progress
from meshgnn.source.background import background_grey, brighter_than_glass, frame_of
from meshgnn.source.images import image_hash
from meshgnn.source.sections import Section, SectionStack, open_section
from meshgnn.store import content_hash, read_arrays, write_arrays

DENSE = 0.25  # of the section's own density: what is less dense is glass
WIDTH_UM = 100.0  # of a mask's pixels: half of a ribbon's
LEAST = 0.5  # share of a section's cortex that must be tissue, or the mask is not believed
FOLDER = "tissue"


def section_density(section: Section, block: int) -> NDArray[np.float32]:
    """Optical density [rows, columns] of a section as stored, in units of its own grey matter.

    Args:
        block: pixels of the image that make one of these, along either side.

    Raises:
        InputError: an image that cannot be read.
    """
    grey, glass = _grey(section, block)
    density = -np.log(np.maximum(grey, glass / 250) / glass)
    tissue = density[density > 0.25 * np.percentile(density, 99)]
    density = density / max(float(np.percentile(tissue, 80)) if len(tissue) else 1.0, 1e-3)
    rows, columns = (max(1, round(size / block)) for size in section.shape)
    short = [(0, max(0, rows - density.shape[0])), (0, max(0, columns - density.shape[1]))]
    return np.pad(density, short, mode="edge")[:rows, :columns].clip(-0.5, 3).astype(np.float32)


def tissue(section: Section) -> NDArray[np.bool_] | None:
    """[rows, columns] on pixels of about `WIDTH_UM` of the image as stored; None of bright tissue on a dark ground.

    Raises:
        InputError: an image that cannot be read.
    """
    block = max(1, round(WIDTH_UM / section.pixel_um))
    if brighter_than_glass(*_grey(section, block)):
        return None
    return ndimage.gaussian_filter(section_density(section, block), 1) > DENSE


def kept_tissue(stack: SectionStack, kept: Path, progress: Progress, stopped: Callable[[], bool]) -> dict[int, str]:
    """Keys of the masks of all usable sections in the folder `kept`; of a section without one there is none.

    What is missing is made. An image that cannot be read has no mask, and so has the rest once it is ended.
    """
    found, sections = {}, [section for section in stack if section.usable]
    for number, section in enumerate(sections):
        if stopped():
            break
        progress("tissue", number, len(sections))
        with suppress(InputError):
            key = content_hash(image_hash(section.path), section.shape, section.pixel_um, section.mirrored)
            path = kept / FOLDER / f"{key}.safetensors"
            if not path.is_file():
                mask = tissue(section)
                mask = np.ones((1, 1), bool) if mask is None else mask
                write_arrays(path, {"shape": np.array(mask.shape), "mask": np.packbits(mask)})
            found[section.index] = key
    progress("tissue", len(sections), max(len(sections), 1))
    return found


def on_tissue(ribbon: Ribbon, kept: Path, key: str, between: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[P] pixels of a ribbon where there is no glass; all of them where that is not known.

    Args:
        kept, key: see `kept_tissue`; a mask that is gone is none.
        between: [P] pixels of the ribbon that are cortex by the mesh. Where less than `LEAST` of them are tissue the
            image is not what was expected (a frame in tissue, a black scanner's edge) and says nothing.
    """
    everywhere = np.ones(len(ribbon.pixel), bool)
    try:
        arrays = read_arrays(kept / FOLDER / f"{key}.safetensors")
        shape = tuple(int(size) for size in arrays["shape"])
        mask = np.unpackbits(arrays["mask"], count=shape[0] * shape[1]).reshape(shape).astype(bool)
    except (InputError, KeyError, ValueError):
        return everywhere
    row, column = (
        ((at + 0.5) * fine / coarse).astype(int).clip(0, fine - 1)
        for at, fine, coarse in zip(np.divmod(ribbon.pixel, ribbon.shape[1]), shape, ribbon.shape)
    )
    there = mask[row, column]
    return there if there[between].sum() >= LEAST * between.sum() else everywhere


def _grey(section: Section, block: int) -> tuple[NDArray[np.floating[Any]], float]:
    """Grey values of a section as stored, means of blocks, and that of the background."""
    with open_section(section) as image:
        grey = image.reduced(min(block, *image.shape))
    if section.mirrored:
        grey = grey[:, ::-1]
    return grey, max(background_grey(frame_of(grey)), 1e-6)
