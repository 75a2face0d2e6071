"""GNN kernels beside PyG's, in one run: `aggregation` (mean over neighbours, with and without gradient, and as a share
of copying), `sage_step` (one training step), `gat_layer` (attention, forward and backward), `partition_step` (a
training step in parts with halos: its gradient, cost per node and memory).

    python benchmarks/gnn.py [--quick] [--json FILE]

Meshes are icospheres in a locality-preserving order. Every pair is timed in turn (ours, peer, ours, peer, ...) after a
warm-up; figures are medians; ratio > 1 means that we are ahead of the peer or limit.
"""

import argparse
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np  # noqa: E402
import torch  # noqa: E402
import trimesh  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch_geometric.nn import GATConv, SAGEConv  # noqa: E402

from benchmarks._pairs import keep, paired, row, show  # noqa: E402
from meshgnn.nn.adjacency import Adjacency  # noqa: E402
from meshgnn.nn.gat import GATLayer  # noqa: E402
from meshgnn.nn.partition import Part, gradient_by_parts, parts_for  # noqa: E402
from meshgnn.nn.sage import SAGELayer  # noqa: E402

CHANNELS, CLASSES = 64, 50


def icosphere(nodes: int) -> np.ndarray:
    """Directed edges [2, E] of the icosphere with this many nodes."""
    return placed_icosphere(nodes)[0]


def placed_icosphere(nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """The same and the nodes' places [V, 3]."""
    level = next(k for k in range(10) if 10 * 4**k + 2 == nodes)
    mesh = trimesh.creation.icosphere(level)
    edges = np.asarray(mesh.edges_unique, dtype=np.int64)
    both = np.concatenate([edges, edges[:, ::-1]])
    return np.ascontiguousarray(both[np.lexsort((both[:, 1], both[:, 0]))].T), np.asarray(mesh.vertices, np.float32)


def csr_of(edges: np.ndarray, nodes: int) -> Tensor:
    degree = np.bincount(edges[0], minlength=nodes)
    pointers = torch.from_numpy(np.concatenate([[0], np.cumsum(degree)]))
    columns = torch.from_numpy(edges[1].copy())
    return torch.sparse_csr_tensor(pointers, columns, torch.ones(edges.shape[1]), (nodes, nodes))


class Ours(nn.Module):
    """Three SAGE layers; `aggregate=False` replaces the aggregation by the identity: the floor."""

    def __init__(self, aggregate: bool = True) -> None:
        super().__init__()
        self.aggregate = aggregate
        self.layers = nn.ModuleList([SAGELayer(CHANNELS, out) for out in (CHANNELS, CHANNELS, CLASSES)])

    def forward(self, x: Tensor, adjacency: Adjacency) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(x, adjacency) if self.aggregate else layer.own(x) + layer.near(x)
            x = F.relu(x) if number < 2 else x
        return x


class Theirs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([SAGEConv(CHANNELS, out) for out in (CHANNELS, CHANNELS, CLASSES)])

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            x = layer(x, edges)
            x = F.relu(x) if number < 2 else x
        return x


def step(model: nn.Module, x: Tensor, graph: object, labels: Tensor) -> Callable[[], None]:
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)

    def run() -> None:
        optimiser.zero_grad()
        F.cross_entropy(model(x, graph), labels).backward()
        optimiser.step()

    return run


def both_ways(mean: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    """Forward and backward of a function of x."""
    y, gradient = x.clone().requires_grad_(), torch.randn_like(x)

    def run() -> None:
        y.grad = None
        mean(y).backward(gradient)

    return run


def attention(nodes: int, runs: int, channels: int = 128, heads: int = 4) -> dict[str, Any]:
    """Our layer and PyG's with the same weights, forward and backward."""
    edges = icosphere(nodes)
    torch.manual_seed(0)
    x, adjacency = torch.randn(nodes, channels), Adjacency(nodes, edges)
    ours, theirs = GATLayer(channels, heads=heads), GATConv(channels, channels // heads, heads=heads)
    with torch.no_grad():
        theirs.lin.weight.copy_(ours.linear.weight)
        theirs.att_src.copy_(ours.source[None])
        theirs.att_dst.copy_(ours.target[None])
    edge_index = torch.from_numpy(edges[::-1].copy())
    torch.testing.assert_close(ours(x, adjacency), theirs(x, edge_index), rtol=1e-3, atol=1e-5)
    times = paired(
        both_ways(lambda y: ours(y, adjacency), x), both_ways(lambda y: theirs(y, edge_index), x), runs
    )  # fmt: skip
    return row("gat_layer", *times, "PyG GATConv edge_index") | {"nodes": nodes}


def measure(nodes: int, runs: int) -> list[dict[str, Any]]:
    edges = icosphere(nodes)
    torch.manual_seed(0)
    x, labels = torch.randn(nodes, CHANNELS), torch.randint(0, CLASSES, (nodes,))
    adjacency = Adjacency(nodes, edges)
    edge_index = torch.from_numpy(edges[::-1].copy())  # PyG: row 0 sends, row 1 receives
    csr = csr_of(edges, nodes)
    mean = SAGEConv(1, 1, aggr="mean")

    def pyg_mean(graph: Tensor, x: Tensor = x) -> Tensor:
        return mean.propagate(graph, x=(x, x), size=(nodes, nodes))

    torch.testing.assert_close(adjacency.mean(x), pyg_mean(edge_index), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(adjacency.mean(x), pyg_mean(csr), rtol=1e-4, atol=1e-5)
    rows = []
    for peer_name, graph in (("PyG mean on edge_index", edge_index), ("PyG mean on torch.sparse CSR", csr)):
        with torch.no_grad():
            times = paired(lambda: adjacency.mean(x), lambda graph=graph: pyg_mean(graph), runs)
        rows.append(row("aggregation", *times, peer_name))
        times = paired(both_ways(adjacency.mean, x), both_ways(lambda y, graph=graph: pyg_mean(graph, y), x), runs)
        rows.append(row("aggregation", *times, f"{peer_name}, forward and backward"))
    with torch.no_grad():
        rows.append(row("aggregation", *paired(lambda: adjacency.mean(x), x.clone, runs), "a copy of its input"))
    for peer_name, peer in (
        ("PyG SAGEConv edge_index", step(Theirs(), x, edge_index, labels)),
        ("PyG SAGEConv torch.sparse CSR", step(Theirs(), x, csr, labels)),
        ("the same network without aggregation (floor)", step(Ours(aggregate=False), x, adjacency, labels)),
    ):
        rows.append(row("sage_step", *paired(step(Ours(), x, adjacency, labels), peer, runs), peer_name))
    return [one | {"nodes": nodes} for one in rows]


class Located(nn.Module):
    """Our network as a model of nodes, which is given coordinates too."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Ours()

    def forward(self, x: Tensor, coordinates: Tensor, adjacency: Adjacency) -> Tensor:
        return self.network(x, adjacency)


def partition_step(small: int, large: int, size: int, runs: int) -> list[dict[str, Any]]:
    """A step of the large graph in parts of `size` nodes beside one of the small graph at once, per node."""

    def task(nodes: int) -> tuple[Tensor, Tensor, Tensor, np.ndarray]:
        torch.manual_seed(0)
        edges, points = placed_icosphere(nodes)
        return torch.randn(nodes, CHANNELS), torch.randint(0, CLASSES, (nodes,)), torch.from_numpy(points), edges

    def in_parts(model: nn.Module, x: Tensor, labels: Tensor, points: Tensor, parts: list[Part]) -> Tensor:
        def losses() -> Iterator[Tensor]:
            for part in parts:
                own = part.nodes[: part.own]
                logits = model(x[part.nodes], points[part.nodes], part.adjacency)[: part.own]
                yield F.cross_entropy(logits, labels[own]) * (part.own / len(x))

        return gradient_by_parts(model, losses())

    model = Located()
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)

    def step_of(loss: Callable[[], Tensor]) -> Callable[[], None]:
        def run() -> None:
            optimiser.zero_grad()
            loss().backward()
            optimiser.step()

        return run

    x, labels, points, edges = task(small)
    near = Adjacency(small, edges)

    def whole() -> Tensor:
        return F.cross_entropy(model(x, points, near), labels)

    gradients = []
    for loss in (whole(), in_parts(model, x, labels, points, parts_for(model, x, points, edges, 4))):
        optimiser.zero_grad()
        loss.backward()
        gradients.append(torch.cat([weight.grad.ravel() for weight in model.parameters() if weight.grad is not None]))
    off = float((gradients[1] - gradients[0]).norm() / gradients[0].norm())
    more, named, places, lines = task(large)
    parts = parts_for(model, more, places, lines, -(-large // size))
    halo = sum(len(part.nodes) for part in parts) / large - 1
    ours, peer = paired(step_of(lambda: in_parts(model, more, named, places, parts)), step_of(whole), runs)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    about = {"nodes": large, "parts": len(parts), "halo_share": round(halo, 4), "gradient_off": off, "peak_gb": peak}
    return [
        row("partition_step", ours / large, peer / small, "a step of the small graph at once, both per node") | about
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one small mesh, under a minute")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    sizes, runs = ((40_962,), 3) if options.quick else ((163_842, 655_362), 3)
    rows = []
    for nodes in sizes:
        for found in measure(nodes, runs):
            rows.append(found)
            show(found)
    rows.append(attention(sizes[0], runs))
    show(rows[-1])
    sizes = (10_242, 163_842, 40_000) if options.quick else (163_842, 2_621_442, 170_000)
    rows += partition_step(*sizes, runs)
    show(rows[-1])
    keep(rows, options.json)


if __name__ == "__main__":
    main()
