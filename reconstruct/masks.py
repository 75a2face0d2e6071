"""Label images of what was found on every section, for people to correct: 0 glass, 1 grey matter, 2 white matter.

One 8-bit PNG with a palette per section, named by its number, at the working pixel and as the image is stored. Handed
in again (`tissue.masks`), a label 255 means "as found", and sections without a file stay as found. Where the labels are
those that were found the boundaries stay where they were, within a pixel too: a folder that nobody edited changes
nothing. Of a dense series there is one per slab, as the slab lies, named by the section that stands for it.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from meshgnn.errors import InputError
from meshgnn.source.sections import Section, SectionStack
from meshgnn.store import write_text, written_aside
from reconstruct.distance import signed_distance
from reconstruct.records import TissueStack

FOLDER = "masks"
GLASS, GREY, WHITE, AS_FOUND = 0, 1, 2, 255
_COLOURS = {GLASS: (250, 250, 250), GREY: (214, 39, 40), WHITE: (0, 166, 200), AS_FOUND: (255, 0, 255)}
_NOTE = """Labels: 0 glass, 1 grey matter, 2 white matter, 255 as found. One image per section, named by its number.
To correct: copy the folder, edit images in the copy (keep them 8-bit, without smoothing of edges), and run again with
--set tissue.masks=COPY --resume. Images that you delete, and pixels of label 255, stay as found.
"""
_ASPECT = 0.02  # by which a mask's sides may differ from those of its section

Labels = NDArray[np.uint8]


def labels_of(stack: TissueStack, k: int) -> Labels:
    """[rows, columns] labels of section k at the working pixel, as its image is read."""
    rows, columns = _size(stack, k)
    found = np.where(stack.white[k] < 0, WHITE, np.where(stack.outer[k] < 0, GREY, GLASS)).astype(np.uint8)
    return found[:rows, :columns]


def _as_stored(labels: Labels, section: Section) -> Labels:
    """Labels as read, as the image is stored, and back."""
    return labels[:, ::-1] if section.mirrored else labels


def write_masks(folder: Path, stack: TissueStack, sections: SectionStack) -> None:
    """Write the label image of every section into `folder`, and take away those of sections that are not used."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {f"{index}.png" for index in stack.index.tolist()}
    for path in folder.glob("*.png"):
        if path.stem.isdigit() and path.name not in names:
            path.unlink()
    palette = np.zeros((256, 3), np.uint8)
    for label, colour in _COLOURS.items():
        palette[label] = colour
    for k, index in enumerate(stack.index.tolist()):
        image = Image.fromarray(np.ascontiguousarray(_as_stored(labels_of(stack, k), sections.at(index))))
        image.putpalette(palette.tobytes())
        with written_aside(folder / f"{index}.png") as aside, aside.open("wb") as handle:
            image.save(handle, "PNG")
    write_text(folder / "labels.txt", _NOTE)


def mask_files(folder: Path, sections: SectionStack) -> dict[int, Path]:
    """The masks of a folder by the number of their section, looked at without reading pixels.

    Raises:
        InputError: no folder, no masks in it, a name that is no number of a usable section, an image that cannot be
            read, is not 8-bit with labels, or has other proportions than its section.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; tissue.masks names one with a PNG per section, such as OUT/{FOLDER}"
        )
    usable = {section.index: section for section in sections if section.usable}
    found: dict[int, Path] = {}
    for path in sorted(folder.glob("*.[pP][nN][gG]")):
        number = int(path.stem) if path.stem.isascii() and path.stem.isdigit() else None
        if number not in usable:
            raise InputError(
                f"{path}: its name is no number of a usable section; name it by the section's index: 12.png"
            )
        if number in found:
            raise InputError(f"{path} and {found[number].name} are masks of one section; leave one of them")
        try:
            with Image.open(path) as image:
                width, height, mode = *image.size, image.mode
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"{path}: cannot be read ({error}); save it as an 8-bit PNG") from None
        if mode not in ("P", "L"):
            raise InputError(f"{path}: has colours of mode {mode}; save it as an 8-bit PNG of labels 0, 1, 2 and 255")
        rows, columns = usable[number].shape
        if max(abs(height - rows * width / columns) - 1, 0) > _ASPECT * height:
            raise InputError(
                f"{path}: is {width} x {height} pixels, its section {columns} x {rows}; keep the proportions"
            )
        found[number] = path
    if not found:
        raise InputError(f"{folder}: no masks here; one PNG per section is expected, such as 12.png")
    return found


def masked(stack: TissueStack, sections: SectionStack, folder: Path, reach_mm: float) -> TissueStack:
    """The tissue with what the masks of a folder say.

    Raises:
        InputError: see `mask_files`; a label that is none, a mask without tissue, or one of a section that is not used.
    """
    outer, white = stack.outer.copy(), stack.white.copy()
    places = {int(index): k for k, index in enumerate(stack.index)}
    for number, path in mask_files(folder, sections).items():
        if number not in places:
            raise InputError(f"{path}: no tissue was found on section {number}, or it was left out; take the mask away")
        k, section = places[number], sections.at(number)
        found = labels_of(stack, k)
        wanted = _onto(_as_stored(_read(path), section), found.shape, stack, k)
        wanted = np.where(wanted == AS_FOUND, found, wanted)
        if (wanted == GLASS).all():
            raise InputError(f"{path}: holds no tissue; write 0 into `usable` of section {number} to leave it out")
        rows, columns = found.shape
        for levels, own, now in ((outer, found != GLASS, wanted != GLASS), (white, found == WHITE, wanted == WHITE)):
            if (own == now).all():
                continue
            level = levels[k].copy()
            part = level[:rows, :columns]
            half = stack.pixel_mm / 2
            part[own != now] = np.where(now, -half, half)[own != now]
            levels[k] = signed_distance(level, stack.pixel_mm, reach_mm)
        white[k] = np.maximum(white[k], outer[k])
    return replace(stack, outer=outer, white=white)


def _size(stack: TissueStack, k: int) -> tuple[int, int]:
    """Rows and columns of the working grid that lie on the image of section k."""
    whole = (2 * stack.centre_mm[k] + stack.image_px_mm[k]) / stack.pixel_mm
    rows, columns = np.minimum(np.ceil(whole - 1e-6).astype(int), stack.outer.shape[1:]).tolist()
    return int(rows), int(columns)


def _read(path: Path) -> Labels:
    try:
        with Image.open(path) as image:
            labels = np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); save it as an 8-bit PNG") from None
    other = np.setdiff1d(labels, list(_COLOURS))
    if len(other):
        raise InputError(
            f"{path}: holds the label {other[0]}; write 0 (glass), 1 (grey), 2 (white) or 255 (as found), without "
            "smoothing of edges"
        )
    return np.asarray(labels, np.uint8)


def _onto(labels: Labels, shape: tuple[int, ...], stack: TissueStack, k: int) -> Labels:
    """Labels of any size on the working grid [rows, columns] of section k, those of the nearest pixel."""
    if labels.shape == shape:
        return labels
    size = 2 * stack.centre_mm[k] + stack.image_px_mm[k]
    index = []
    for axis in range(2):
        # A working pixel's middle, from the image's edge, as a share of the image.
        middle = stack.origin_mm[k, axis] + stack.image_px_mm[k] / 2 + np.arange(shape[axis]) * stack.pixel_mm
        at = (middle / size[axis] * labels.shape[axis]).astype(int)
        index.append(np.clip(at, 0, labels.shape[axis] - 1))
    return labels[np.ix_(*index)]
