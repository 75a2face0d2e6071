"""Graphs in parts, each with the halo that makes its nodes' results those of the whole graph.

After k rounds of neighbours a node depends on what lies within k edges. A part therefore holds its own nodes and those
within one edge more, so that even the outermost of them that counts has all of its neighbours: results and gradients
are then exact, up to the order of sums. On cortical meshes halos are small (docs/benchmarks.md). V nodes, E edges.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import reverse_cuthill_mckee
from torch import Tensor, nn

from meshgnn.errors import InputError
from meshgnn.nn.adjacency import Adjacency

LARGEST = 400_000  # nodes that are computed at once where nothing else is said: a few GB in a training step

_FARTHEST = 512  # rounds of neighbours that are looked for


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Own nodes and their halo.

    Args:
        nodes: [M] numbers in the whole graph, the own ones first.
        own: how many are own.
        adjacency: among the M nodes.
    """

    nodes: Tensor
    own: int
    adjacency: Adjacency

    def to(self, device: torch.device | str) -> "Part":
        return Part(nodes=self.nodes.to(device), own=self.own, adjacency=self.adjacency.to(device))


def parts_of(
    n_nodes: int, edges: NDArray[np.integer], parts: int, rounds: int, points: NDArray[np.floating] | None = None
) -> Iterator[Part]:
    """Parts of about equal size that together own every node once.

    Args:
        n_nodes: V.
        edges: [2, E], both directions.
        parts: how many.
        rounds: of neighbours that a node's result depends on (`rounds_of`).
        points: [V, D] where nodes lie: parts are then compact blocks, halved along the longest side again and again.
            Without, they are bands in reverse Cuthill-McKee order, whose halos are larger.
    """
    pairs = np.asarray(edges, np.int64).reshape(2, -1)
    ones = np.ones(pairs.shape[1], np.int8)
    matrix = csr_array((ones, (pairs[0], pairs[1])), shape=(n_nodes, n_nodes))
    number = np.empty(n_nodes, np.int64)
    for own in _blocks(matrix, max(1, min(parts, n_nodes)), points):
        nodes, inside = [own], np.zeros(n_nodes, bool)
        inside[own] = True
        for _ in range(rounds + 1):
            ring = np.unique(matrix[nodes[-1]].indices)
            ring = ring[~inside[ring]]
            if not len(ring):
                break
            inside[ring] = True
            nodes.append(ring)
        held = np.concatenate(nodes)
        number[held] = np.arange(len(held))
        local = matrix[held].tocoo()
        kept = inside[local.col]
        own_edges = np.stack([local.row[kept], number[local.col[kept]]])
        yield Part(nodes=torch.from_numpy(held), own=len(own), adjacency=Adjacency(len(held), own_edges))


def _blocks(matrix: csr_array, parts: int, points: NDArray[np.floating] | None) -> list[NDArray[np.int64]]:
    """Own nodes of every part, ascending."""
    if points is None:
        order = reverse_cuthill_mckee(matrix, symmetric_mode=True).astype(np.int64)
        return [np.sort(block) for block in np.array_split(order, parts)]
    blocks = [(np.arange(matrix.shape[0]), parts)]
    done = []
    while blocks:
        nodes, count = blocks.pop()
        if count == 1:
            done.append(np.sort(nodes))
            continue
        axis = int(np.ptp(points[nodes], axis=0).argmax())
        first = count // 2
        order = nodes[np.argsort(points[nodes, axis], kind="stable")]
        cut = len(order) * first // count
        blocks += [(order[cut:], count - first), (order[:cut], first)]
    return done


def rounds_of(model: nn.Module, features: int, coordinates: int) -> int:
    """How many rounds of neighbours a node model's logits depend on, by their gradient along a path.

    Args:
        model: (features [V, D], coordinates [V, 3] or [V, 0], adjacency) -> logits [V, K].
        features, coordinates: numbers of channels.

    Raises:
        InputError: every node depends on all others, as in networks with statistics over the whole graph.
    """
    network, length = copy.deepcopy(model).float().eval(), 16
    generator = torch.Generator().manual_seed(0)
    while True:
        ends = np.arange(length - 1)
        path = Adjacency(length, np.concatenate([np.stack([ends, ends + 1]), np.stack([ends + 1, ends])], axis=1))
        reached = 0
        for _ in range(4):  # where maxima and rectifiers stand still at one input they do not at all of them
            x, y = (torch.randn(length, n, generator=generator) for n in (features, coordinates))
            logits = network(x.requires_grad_(), y.requires_grad_(), path)[0]
            weights = torch.randn(logits.shape, generator=generator)
            slopes = torch.autograd.grad((logits * weights).sum(), [x, y], allow_unused=True)
            moved = sum((one.abs().sum(1) for one in slopes if one is not None), torch.zeros(length))
            reached = max(reached, int(moved.nonzero().max()) if moved.any() else 0)
        if reached < length - 1:
            return reached
        if length > _FARTHEST:
            raise InputError("this network cannot be computed in parts: each node depends on the whole graph")
        length *= 2


def parts_for(
    model: nn.Module, features: Tensor, coordinates: Tensor, edges: NDArray[np.integer], parts: int = 0
) -> list[Part]:
    """Parts of a graph for a node model on these inputs: so many, or with 0 one for every `LARGEST` nodes.

    Raises:
        InputError: see `rounds_of`.
    """
    rounds = rounds_of(model, features.shape[1], coordinates.shape[1])
    points = coordinates.numpy() if coordinates.shape[1] else None
    return list(parts_of(len(features), edges, parts or -(-len(features) // LARGEST), rounds, points))


def near_for(
    model: nn.Module, features: Tensor, coordinates: Tensor, edges: NDArray[np.integer], parts: int = 0
) -> Adjacency | list[Part]:
    """The whole graph where one part is enough, else its parts; see `parts_for`."""
    if (parts or -(-len(features) // LARGEST)) < 2:
        return Adjacency(len(features), edges)
    return parts_for(model, features, coordinates, edges, parts)


def evaluated(
    model: Callable[[Tensor, Tensor, Adjacency], Tensor], features: Tensor, coordinates: Tensor,
    near: Adjacency | Sequence[Part],
) -> Tensor:  # fmt: skip
    """Outputs [V, K] of a node model without gradients, on the whole graph or part by part."""
    if not isinstance(near, Adjacency):
        return in_parts(model, features, coordinates, near)
    with torch.no_grad():
        return model(features, coordinates, near)


def in_parts(
    model: Callable[[Tensor, Tensor, Adjacency], Tensor], features: Tensor, coordinates: Tensor, parts: Sequence[Part]
) -> Tensor:
    """Outputs [V, K] of a node model, part by part and without gradients: memory grows with the largest part."""
    out: Tensor | None = None
    with torch.no_grad():
        for part in parts:
            found = model(features[part.nodes], coordinates[part.nodes], part.adjacency)[: part.own]
            out = features.new_empty((len(features), found.shape[1]), dtype=found.dtype) if out is None else out
            out[part.nodes[: part.own]] = found
    assert out is not None
    return out


def gradient_by_parts(model: nn.Module, losses: Iterable[Tensor]) -> Tensor:
    """The sum of losses with its gradient for the model's weights; each loss is gone through before the next is made.

    The result stands for the sum in a training step: its backward pass hands out gradients that are there already.
    """
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    total, gradients = None, [torch.zeros_like(weight) for weight in weights]
    for loss in losses:
        for sum_, one in zip(gradients, torch.autograd.grad(loss, weights, allow_unused=True)):
            if one is not None:
                sum_ += one
        total = loss.detach() if total is None else total + loss.detach()
    assert total is not None
    linear = sum(((weight * one).sum() for weight, one in zip(weights, gradients)), torch.zeros_like(total))
    return total + (linear - linear.detach())
