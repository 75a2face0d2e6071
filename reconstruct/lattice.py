"""Digital topology on the Freudenthal lattice: simple points, Euler number, growth that keeps the topology, repair.

Every voxel is a vertex of the Freudenthal (Kuhn) triangulation of space: 14 neighbours, the steps in {0,1}^3 without 0
and their negatives, six tetrahedra per cube. Object and background use the same connectivity, and the surface between
them, drawn through the tetrahedra (`reconstruct.tetra`), is always a closed manifold. Two facts make this lattice
pleasant:

- The link of a vertex is a triangulated 2-sphere of 14 vertices. Flipping a vertex between object and background
  leaves the topology of the surface alone exactly if the object part of the link is connected and the background part
  is connected (both then are discs): a table of 2^14 bits.
- A mask whose induced complex has Euler number 1, one object component and one background component is bounded by a
  sphere.

Growth in the order of depth, a voxel only where it is simple, follows Bazin & Pham 2007 (topology correction by fast
marching) and Han et al. 2004 (CRUISE); the table and the choice between cutting and filling are ours.
"""

from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy import ndimage

from reconstruct.distance import to_background

STEPS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, 1, 1]], np.int64)
"""The seven directed edges of the lattice; with their negatives the 14 neighbours."""
LINK = np.concatenate([STEPS, -STEPS])


@cache
def link_neighbours() -> tuple[int, ...]:
    """For each of the 14 link vertices, the bit mask of the link vertices joined to it."""
    known = {tuple(step) for step in LINK.tolist()}
    joined = [[tuple((a - b).tolist()) in known for b in LINK] for a in LINK]
    return tuple(sum(1 << k for k, bit in enumerate(row) if bit) for row in joined)


@cache
def simple_table() -> NDArray[np.bool_]:
    """[2^14] bool: True where a vertex with this object pattern in its link may be flipped: topology stays."""
    neighbours = link_neighbours()

    def connected(pattern: NDArray[np.int64]) -> NDArray[np.bool_]:
        reach = pattern & -pattern
        for _ in range(14):
            grown = reach.copy()
            for bit, mask in enumerate(neighbours):
                grown |= np.where(reach >> bit & 1, mask, 0)
            reach = grown & pattern
        return (pattern != 0) & (reach == pattern)

    patterns = np.arange(1 << 14, dtype=np.int64)
    return connected(patterns) & connected(~patterns & (1 << 14) - 1)


def structure() -> NDArray[np.bool_]:
    """[3, 3, 3] structuring element of the 14 neighbours (for `scipy.ndimage.label`)."""
    element = np.zeros((3, 3, 3), bool)
    element[1, 1, 1] = True
    element[tuple((LINK + 1).T)] = True
    return element


def euler_number(mask: NDArray[np.bool_]) -> int:
    """Euler number of the complex that the object voxels span: 1 for a ball, 0 for a solid torus, 2 for a thick sphere.

    The surface around it has twice this Euler number (2 for a sphere).
    """
    return int(_euler(np.pad(mask, 1).astype(np.uint8)))


@njit(cache=True, nogil=True)
def _euler(mask: NDArray[np.uint8]) -> int:
    nx, ny, nz = mask.shape
    total = 0
    for x in range(nx - 1):
        for y in range(ny - 1):
            for z in range(nz - 1):
                # All cells whose lowest corner is (x, y, z): a vertex, 7 edges, 12 triangles, 6 tetrahedra.
                if mask[x, y, z] == 0:
                    continue
                a, b, c = mask[x + 1, y, z], mask[x, y + 1, z], mask[x, y, z + 1]
                ab, ac, bc = mask[x + 1, y + 1, z], mask[x + 1, y, z + 1], mask[x, y + 1, z + 1]
                abc = mask[x + 1, y + 1, z + 1]
                pairs = a * ab + b * ab + a * ac + c * ac + b * bc + c * bc
                total += 1 - (a + b + c + ab + ac + bc + abc)
                total += pairs + abc * (a + b + c + ab + ac + bc) - abc * pairs
    return total


BLOCKED, FREE, TAKEN, BORDER, WAITING = 0, 1, 2, 3, 4


@njit(cache=True, nogil=True)
def grow(
    cells: NDArray[np.uint8], depth: NDArray[np.float32], table: NDArray[np.bool_], link: NDArray[np.int64]
) -> None:
    """Turn FREE cells that are simple into TAKEN ones, the deepest first, until none is left: the topology stays.

    Args:
        cells: flat [N] of a volume, changed in place. TAKEN is what is there already. The outermost layer must be
            BLOCKED, or BORDER where it counts as taken.
        depth: flat [N], larger is earlier.
        table, link: `simple_table()` and the 14 flat offsets of the link.
    """
    # A queue per level of depth (first in, first out); a voxel waits in one queue at most, linked through `after`.
    levels = 8 * 64
    after = np.empty(cells.shape[0], np.int32)
    first, last = np.full(levels, -1, np.int32), np.full(levels, -1, np.int32)
    level = np.int64(-1)
    for start in range(cells.shape[0]):
        if cells[start] == TAKEN:
            level = max(level, _queue(start, cells, depth, link, after, first, last))
    while True:
        while level >= 0 and first[level] < 0:
            level -= 1
        if level < 0:
            return
        voxel = np.int64(first[level])
        first[level] = after[voxel]
        pattern = np.int64(0)
        for bit in range(14):
            pattern |= np.int64((cells[voxel + link[bit]] & 2) >> 1) << bit
        if table[pattern]:
            cells[voxel] = TAKEN
            level = max(level, _queue(voxel, cells, depth, link, after, first, last))
        else:
            cells[voxel] = FREE


@njit(cache=True, nogil=True)
def _queue(voxel, cells, depth, link, after, first, last):
    """Put the free neighbours of a voxel into their queues; the highest level touched."""
    highest = np.int64(-1)
    for step in link:
        other = voxel + step
        if cells[other] == FREE:
            at = min(first.shape[0] - 1, max(0, int(depth[other] * 8)))
            cells[other] = WAITING
            after[other] = -1
            if first[at] < 0:
                first[at] = other
            else:
                after[last[at]] = other
            last[at] = other
            highest = max(highest, np.int64(at))
    return highest


Kind = Literal["handle cut", "hole filled", "island removed", "cavity filled", "sulcus opened"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Repair:
    """One change made to the topology of a mask.

    Args:
        kind: "handle cut" (voxels taken away), "hole filled" (voxels added), "island removed", "cavity filled", "sulcus
            opened" (glue between two banks taken away).
        centre: [3] voxel coordinates of its middle.
        voxels: number of voxels changed.
        handles: by how many the genus fell.
    """

    kind: Kind
    centre: tuple[float, float, float]
    voxels: int
    handles: int = 0


def _ball(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The part of a one-component mask that is a ball, grown from its deepest voxel. [X, Y, Z], padded by 1."""
    depth = to_background(mask)
    cells = mask.astype(np.uint8)
    cells.ravel()[int(np.argmax(depth))] = TAKEN
    return _grown(cells, depth)


def _room(background: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The part of the background of a mask padded by 2 that lies around a ball, grown inwards from the frame."""
    depth = to_background(background)
    frame = _shell(background.shape, 2)
    core = frame
    for far in (12.0, 18.0):  # what lies far away is taken at once if the rest is a ball
        trial = frame | (depth > far)
        if euler_number(~trial) == 1 and all(ndimage.label(part, structure())[1] == 1 for part in (trial, ~trial)):
            core = trial
            break
    cells = np.where(core, TAKEN, background).astype(np.uint8)
    cells[_shell(background.shape, 1)] = BORDER
    return _grown(cells, depth)


def _grown(cells: NDArray[np.uint8], depth: NDArray[np.float32]) -> NDArray[np.bool_]:
    strides = np.array([cells.shape[1] * cells.shape[2], cells.shape[2], 1])
    grow(cells.ravel(), depth.ravel(), simple_table(), LINK @ strides)
    return (cells & TAKEN) != 0


def make_spherical(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], list[Repair]]:
    """A mask bounded by one sphere, as near to `mask` as small local changes allow, and the list of changes.

    Islands are dropped and cavities filled. Every handle is then removed the cheaper way: by cutting through the object
    or by filling the hole, whichever takes fewer voxels.

    Args:
        mask: [X, Y, Z] bool, not empty.
    """
    work = np.pad(mask, 2)
    element = structure()
    work, repairs = _one_piece(work, element)
    while euler_number(work) != 1:
        cuts = work & ~_ball(work)
        fills = ~work & ~_room(~work)
        before = euler_number(work)
        work, found = _apply_patches(work, cuts, fills, element)
        repairs += found
        work, more = _one_piece(work, element)
        repairs += more
        if euler_number(work) <= before and euler_number(work) != 1:  # patches that only help together: cut them all
            patch = work & ~_ball(work)
            numbers, count = ndimage.label(patch, np.ones((3, 3, 3)))
            handles = 1 - euler_number(work)
            for number in range(1, count + 1):
                where = np.argwhere(numbers == number)
                repairs.append(_repair("handle cut", where, max(1, handles // count)))
            work = work & ~patch
            work, more = _one_piece(work, element)
            repairs += more
            break
    return work[2:-2, 2:-2, 2:-2], repairs


def _shell(shape: tuple[int, ...], layers: int) -> NDArray[np.bool_]:
    """The outermost layers of a box."""
    shell = np.ones(shape, bool)
    shell[layers:-layers, layers:-layers, layers:-layers] = False
    return shell


def _repair(kind: Kind, where: NDArray[np.int64], handles: int = 0) -> Repair:
    x, y, z = where.mean(axis=0) - 2  # 2: the padding of make_spherical
    return Repair(kind=kind, centre=(float(x), float(y), float(z)), voxels=len(where), handles=handles)


def _one_piece(mask: NDArray[np.bool_], element: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], list[Repair]]:
    """The largest component with its cavities filled."""
    repairs: list[Repair] = []
    result = mask
    for kind in ("island removed", "cavity filled"):
        part = result if kind == "island removed" else ~result
        numbers, count = ndimage.label(part, element)
        if count > 1:
            sizes = np.bincount(numbers.ravel())[1:]
            keep = int(np.argmax(sizes)) + 1 if kind == "island removed" else int(numbers[0, 0, 0])
            boxes = ndimage.find_objects(numbers)
            for number in range(1, count + 1):
                if number != keep:
                    box = boxes[number - 1]
                    where = np.argwhere(numbers[box] == number) + [side.start for side in box]
                    repairs.append(_repair(kind, where))
            result = numbers == keep if kind == "island removed" else numbers != keep
    return result, repairs


def _apply_patches(
    mask: NDArray[np.bool_], cuts: NDArray[np.bool_], fills: NDArray[np.bool_], element: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], list[Repair]]:
    """Apply patches, the smallest first, as long as each raises the Euler number; no new pieces, no new cavities."""
    patches: list[tuple[int, int, Kind, NDArray[np.int64]]] = []
    kinds: tuple[tuple[Kind, NDArray[np.bool_]], ...] = (
        ("handle cut", cuts), ("hole filled", fills),
    )  # fmt: skip
    for kind, region in kinds:
        numbers, _ = ndimage.label(region, np.ones((3, 3, 3)))
        for number, box in enumerate(ndimage.find_objects(numbers), start=1):
            where = np.argwhere(numbers[box] == number) + [side.start for side in box]
            patches.append((len(where), len(patches), kind, where))
    patches.sort(key=lambda patch: patch[:2])
    result, repairs = mask.copy(), []
    for _, _, kind, where in patches:
        value = kind == "hole filled"
        changed = where[result[tuple(where.T)] != value]
        if len(changed) == 0:
            continue
        low, high = np.maximum(changed.min(0) - 2, 0), changed.max(0) + 3
        window = tuple(slice(int(a), int(b)) for a, b in zip(low, high))
        before = result[window].copy()
        after = before.copy()
        after[tuple((changed - low).T)] = value
        gain = euler_number(after) - euler_number(before)
        # A cut that sets a piece free, or a fill that closes off a cavity, also raises the Euler number: look at the
        # pieces of the other side within the window.
        other = before != value if value else before
        rest = other.copy()
        rest[tuple((changed - low).T)] = False
        if gain > 0 and _still_joined(other, rest, result, window, value, element):
            result[window] = after
            repairs.append(_repair(kind, changed, int(gain)))
    return result, repairs


def _still_joined(
    before: NDArray[np.bool_],
    after: NDArray[np.bool_],
    whole: NDArray[np.bool_],
    window: tuple[slice, ...],
    value: bool,
    element: NDArray[np.bool_],
) -> bool:
    """Is what loses voxels (object when cutting, background when filling) still in one piece?"""
    if ndimage.label(after, element)[1] <= 1:
        return True
    for margin in (8, 24):  # what joins again near by needs no look at the whole volume
        low = [max(0, side.start - margin) for side in window]
        wide = tuple(slice(a, side.stop + margin) for a, side in zip(low, window))
        inner = tuple(slice(side.start - a, side.stop - a) for a, side in zip(low, window))
        trial = (~whole[wide] if value else whole[wide]).copy()
        counts = []
        for state in (before, after):
            trial[inner] = state
            numbers = ndimage.label(trial, element)[0][inner]
            counts.append(len(np.unique(numbers[state])))
        if counts[0] == counts[1]:
            return True
    trial = (~whole if value else whole).copy()
    count = ndimage.label(trial, element)[1]
    trial[window] = after
    return ndimage.label(trial, element)[1] == count
