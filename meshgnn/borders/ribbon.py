"""Where a section cuts the cortical ribbon of a mesh: lines along it, and straight lines across it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph

Floats = NDArray[np.float64]
# Row, column (px) and signed distance to the section (mm) of points [..., 3]; `Section.mm_to_pixel` is one.
Place = Callable[[Any], tuple[Floats, Floats, Floats]]


@dataclass(frozen=True, kw_only=True, eq=False)
class RibbonLine:
    """Equidistant places along one piece of the ribbon on a section, with the ends of the line across it at each.

    The lines across are straight, as those of `features.profiles`: they follow the direction from pial to white of the
    surfaces' common nodes as it runs within the section, and are as long as that slant makes the cortex look. Two banks
    of a sulcus that touch are kept apart by the mesh, which a potential between two outlines does not do.

    Args:
        hemisphere: L or R.
        closed: the last place is the first one's neighbour.
        position_mm: [N] along the ribbon, from 0.
        pial_px, white_px: [N, 2] row and column of the ends of the line across.
        obliqueness_deg: [N] between the line from pial to white and the section.
        nodes, share: [N, 4] nodes of the graph around each place, and weights that sum to 1.
    """

    hemisphere: str
    closed: bool
    position_mm: Floats
    pial_px: Floats
    white_px: Floats
    obliqueness_deg: Floats
    nodes: NDArray[np.int64]
    share: Floats

    @property
    def middle_px(self) -> Floats:
        """[N, 2] row and column halfway between pial and white."""
        return (self.pial_px + self.white_px) / 2

    def interpolated(self, values: NDArray[Any]) -> Floats:
        """[N, ...] of values [V, ...] at the nodes, linearly."""
        return np.einsum("nk,nk...->n...", self.share, np.asarray(values, np.float64)[self.nodes])


def ribbon_lines(
    graph: MeshGraph, place: Place, pixel_um: float, *, every_mm: float, pieces: int = 1
) -> list[RibbonLine]:
    """The ribbon where a section cuts it, longest piece first; the medial wall is left out.

    Args:
        graph: with surfaces pial and white; `cortex` says where the ribbon is.
        place: where points lie on the section.
        pixel_um: width of its pixels.
        every_mm: distance between places.
        pieces: every place is split into so many, evenly: the distance is `every_mm` / `pieces`.

    Raises:
        InputError: no surfaces pial and white.
    """
    if not {"pial", "white"} <= set(graph.surfaces):
        raise InputError(f"{graph.brain}: borders need the surfaces pial and white of the mesh; reconstruct the stack")
    ends = []
    for name in ("pial", "white"):
        row, column, away = place(graph.surfaces[name].astype(np.float64))
        ends.append(np.stack([row * pixel_um / 1000, column * pixel_um / 1000, away], axis=1))
    found = []
    for mesh, part in zip(graph.meshes, graph.slices().values()):
        pial, white = ends[0][part], ends[1][part]
        middle = (pial + white) / 2
        for edges, along, closed in section_chains(middle[:, 2], mesh.faces):
            for line in _lines(pial, white, edges, along, closed, graph.cortex[part], every_mm / pieces, pieces):
                place_px = 1000 / pixel_um
                found.append(
                    RibbonLine(
                        hemisphere=mesh.hemisphere,
                        closed=line["closed"],
                        position_mm=line["position"],
                        pial_px=line["pial"] * place_px,
                        white_px=line["white"] * place_px,
                        obliqueness_deg=line["oblique"],
                        nodes=line["nodes"] + part.start,
                        share=line["share"],
                    )
                )
    return sorted(found, key=lambda line: -len(line.position_mm))


def section_chains(away: Floats, faces: NDArray[np.integer]) -> list[tuple[NDArray[np.int64], Floats, bool]]:
    """Lines along which a mesh is cut: crossed edges in order.

    Args:
        away: [V] signed distance of the vertices to the section.
        faces: [F, 3].

    Returns:
        Of every line: edges [M, 2], where on each edge the section lies [M] (0 at its first vertex, 1 at its second),
        and whether the line is closed (its first edge is not repeated).
    """
    above = away >= 0
    cut = faces[above[faces].any(1) & ~above[faces].all(1)].astype(np.int64)
    if not len(cut):
        return []
    sides = np.sort(np.stack([cut, np.roll(cut, -1, axis=1)], axis=-1), axis=-1)  # [F, 3, 2]
    crossed = above[sides[..., 0]] != above[sides[..., 1]]  # exactly two per face
    segments = sides[crossed].reshape(-1, 2, 2)
    edges, number = np.unique(segments.reshape(-1, 2), axis=0, return_inverse=True)
    number = number.reshape(-1, 2)
    beside: list[list[int]] = [[] for _ in edges]
    for first, second in number.tolist():
        beside[first].append(second)
        beside[second].append(first)
    where = away[edges[:, 0]] / (away[edges[:, 0]] - away[edges[:, 1]])
    seen = np.zeros(len(edges), bool)
    chains = []
    starts = [k for k, near in enumerate(beside) if len(near) == 1] + list(range(len(edges)))
    for start in starts:
        if seen[start]:
            continue
        walk, at = [start], start
        seen[at] = True
        while (following := next((k for k in beside[at] if not seen[k]), None)) is not None:
            at = following
            seen[at] = True
            walk.append(at)
        if len(walk) > 1:
            closed = len(walk) > 2 and start in beside[at]
            chains.append((edges[walk], where[walk], closed))
    return chains


def _lines(
    pial: Floats, white: Floats, edges: NDArray[np.int64], along: Floats, closed: bool,
    cortex: NDArray[np.bool_], step: float, pieces: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Runs within cortex of one chain, resampled; coordinates in mm (row, column)."""
    if closed:
        edges, along = np.concatenate([edges, edges[:1]]), np.concatenate([along, along[:1]])
    t = along[:, None]
    top, bottom = (side[edges[:, 0]] * (1 - t) + side[edges[:, 1]] * t for side in (pial, white))
    middle = ((top + bottom) / 2)[:, :2]
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(middle, axis=0), axis=1))])
    inside = cortex[np.where(along < 0.5, edges[:, 0], edges[:, 1])]
    if closed and not inside.all() and inside.any():  # begin outside cortex, so that no run is cut in two
        turn = int(np.argmin(inside[:-1]))
        order = np.concatenate([np.arange(turn, len(edges) - 1), np.arange(turn + 1)])
        edges, along, top, bottom, inside = (a[order] for a in (edges, along, top, bottom, inside))
        middle = middle[order]
        length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(middle, axis=0), axis=1))])
    found = []
    change = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(np.int8)))
    for first, last in zip(change[::2], change[1::2]):
        span = float(length[last - 1] - length[first])
        many = int(span / (step * pieces)) * pieces
        if many < 2 * pieces:
            continue
        at = length[first] + (np.arange(many) + 0.5) * step + (span - many * step) / 2
        after = np.clip(np.searchsorted(length[first:last], at) + first, first + 1, last - 1)
        gap = length[after] - length[after - 1]
        s = np.divide(at - length[after - 1], gap, out=np.zeros_like(at), where=gap > 0)
        here = {name: a[after - 1] * (1 - s[:, None]) + a[after] * s[:, None]
                for name, a in (("middle", middle), ("across", bottom - top))}  # fmt: skip
        across = here["across"]
        flat, whole = np.linalg.norm(across[:, :2], axis=1), np.linalg.norm(across, axis=1)
        stretch = np.divide(whole, flat, out=np.full_like(flat, np.inf), where=flat > 1e-6)
        half = across[:, :2] * np.minimum(stretch, 20)[:, None] ** 2 / 2
        before, behind = (1 - s)[:, None], s[:, None]
        share = np.concatenate(
            [before * np.stack([1 - along[after - 1], along[after - 1]], 1),
             behind * np.stack([1 - along[after], along[after]], 1)], axis=1,
        )  # fmt: skip
        found.append(
            {
                "closed": closed and bool(inside.all()),
                "position": at - at[0],
                "pial": here["middle"] - half,
                "white": here["middle"] + half,
                "oblique": np.degrees(np.arccos(np.clip(1 / stretch, 0, 1))),
                "nodes": np.concatenate([edges[after - 1], edges[after]], axis=1),
                "share": share,
            }
        )
    return found


def on_section(lines: Sequence[RibbonLine], shape: tuple[int, int]) -> list[RibbonLine]:
    """Lines of which some place lies in the image."""
    return [
        line for line in lines
        if ((line.middle_px > -0.5) & (line.middle_px < np.array(shape) - 0.5)).all(1).any()
    ]  # fmt: skip
