"""Sections that show the same image, in two stacks or twice in one, even if it was stored anew in between.

Another format, compression, bit depth, grey scale, resolution, turn or mirror image changes an image's bytes and leaves
its fine structure. So images are compared by a thumbnail of 128 x 128 means, without its coarse part (which all
sections of a kind share), by the absolute correlation over the eight ways to lay a picture. On virtual sections copies
(JPEG of quality 20, a third of the resolution) correlate by 0.98 or more, neighbours 0.5 mm apart by 0.90 at most, 3 mm
apart by 0.45, sections of different brains by 0.18. Sections of one brain closer than that may pass for the same image:
parted between training and unseen stacks they are the same leak.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from meshgnn.progress import Progress, silent
from meshgnn.source.sections import Section, SectionStack, open_section

_SIDE = 128  # means along each axis
_READ_PX = 8192  # larger images are averaged as they are read
_FINE = 2.0  # in means: what is coarser does not count
_SAME = 0.93  # correlation from which two images are one
_SAME_IN_STACK = 0.94  # the same within one stack, whose sections are more alike than those of two brains
_THREADS = 2  # that read images
_APART_MM = 0.5  # sections of one stack nearer to each other are not compared

Floats = npt.NDArray[np.float32]


def shared_images(
    training: Mapping[str, SectionStack],
    unseen: Mapping[str, SectionStack],
    progress: Progress = silent,
) -> list[tuple[str, str]]:
    """Pairs of sections, one of a training and one of an unseen stack, that show the same image.

    Args:
        training, unseen: stacks by the name of their brain.
        progress: told ("images", done, all).

    Returns:
        ("brain/index", "brain/index") of every such pair, in the order of the stacks.

    Raises:
        InputError: an image that cannot be read.
    """
    total = sum(len(stack) for stacks in (training, unseen) for stack in stacks.values())
    done = 0

    def fine(section: Section) -> Floats:
        with open_section(section) as image:
            return fine_structure(image.thumbnail(_READ_PX))

    def vectors(stacks: Mapping[str, SectionStack]) -> tuple[list[str], Floats]:
        nonlocal done
        sections = [(brain, section) for brain, stack in stacks.items() for section in stack]
        rows = []
        with ThreadPoolExecutor(_THREADS) as pool:
            for row in pool.map(fine, (section for _, section in sections)):
                rows.append(row)
                done += 1
                progress("images", done, total)
        names = [f"{brain}/{section.index}" for brain, section in sections]
        return names, np.stack(rows) if rows else np.zeros((0, _SIDE, _SIDE), np.float32)

    first, left = vectors(training)
    second, right = vectors(unseen)
    return [(first[a], second[b]) for a, b in np.argwhere(_likeness(left, right) > _SAME)]


def same_in_stack(fine: Floats, position_mm: npt.NDArray[np.floating]) -> list[tuple[int, int]]:
    """Pairs of places in a stack, first before second, whose sections show the same image.

    Sections closer together than 0.5 mm may look as alike as copies do: such pairs are passed over.

    Args:
        fine: [N, S, S] fine structure of every section (S = 0: nothing is known, no pair).
        position_mm: [N] of the sections.
    """
    apart = np.abs(position_mm[:, None] - position_mm) >= _APART_MM
    alike = (_likeness(fine, fine) > _SAME_IN_STACK) & apart
    return [(int(a), int(b)) for a, b in np.argwhere(np.triu(alike, 1))]


def _likeness(left: Floats, right: Floats) -> Floats:
    """[N, M] largest absolute correlation of images [N, S, S] and [M, S, S] over the ways to lay one of them."""
    size = left.shape[1] * left.shape[2]
    flat = right.reshape(len(right), size)
    found = np.zeros((len(left), len(right)), np.float32)
    for way in _ways(left):
        np.maximum(found, np.abs(way.reshape(len(left), size) @ flat.T), out=found)
    return found


def _ways(images: Floats) -> Iterable[Floats]:
    """The eight ways to lay images [N, S, S]: turns by 90 degrees, each mirrored too."""
    for turns in range(4):
        turned = np.rot90(images, turns, axes=(1, 2))
        yield turned
        yield turned[:, :, ::-1]


def fine_structure(grey: npt.NDArray[np.generic]) -> Floats:
    """[S, S] means of an image [rows, columns] without their coarse part, of norm 1 (0 for an even image)."""
    size = (max(_SIDE, grey.shape[0]), max(_SIDE, grey.shape[1]))
    if size != grey.shape:
        grey = np.pad(grey, [(0, want - have) for want, have in zip(size, grey.shape)], mode="edge")
    rows, columns = (np.linspace(0, length, _SIDE + 1).astype(int) for length in grey.shape)
    bands = np.stack([grey[a:b].astype(np.float32).mean(axis=0) for a, b in pairwise(rows)])
    means = np.add.reduceat(np.nan_to_num(bands), columns[:-1], axis=1) / np.diff(columns).astype(np.float32)
    fine = means - ndimage.gaussian_filter(means, _FINE)
    norm = float(np.linalg.norm(fine))
    return (fine / norm if norm > 0 else fine).astype(np.float32)
