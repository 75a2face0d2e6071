"""GNN kernels beside PyG's, in one run: `aggregation` (mean over neighbours) and `sage_step` (one training step).

    python benchmarks/gnn.py [--quick] [--json FILE]

Meshes are icospheres in a locality-preserving order. Every pair is timed in turn (ours, peer, ours, peer, ...) after a
warm-up; figures are medians; ratio > 1 means that we are ahead of the peer or limit.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np  # noqa: E402
import torch  # noqa: E402
import trimesh  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch_geometric.nn import SAGEConv  # noqa: E402

from benchmarks._pairs import keep, paired, row, show  # noqa: E402
from meshgnn.nn.adjacency import Adjacency  # noqa: E402
from meshgnn.nn.sage import SAGELayer  # noqa: E402

CHANNELS, CLASSES = 64, 50


def icosphere(nodes: int) -> np.ndarray:
    """Directed edges [2, E] of the icosphere with this many nodes."""
    level = next(k for k in range(10) if 10 * 4**k + 2 == nodes)
    edges = np.asarray(trimesh.creation.icosphere(level).edges_unique, dtype=np.int64)
    both = np.concatenate([edges, edges[:, ::-1]])
    return np.ascontiguousarray(both[np.lexsort((both[:, 1], both[:, 0]))].T)


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


def measure(nodes: int, runs: int) -> list[dict[str, Any]]:
    edges = icosphere(nodes)
    torch.manual_seed(0)
    x, labels = torch.randn(nodes, CHANNELS), torch.randint(0, CLASSES, (nodes,))
    adjacency = Adjacency(nodes, edges)
    edge_index = torch.from_numpy(edges[::-1].copy())  # PyG: row 0 sends, row 1 receives
    csr = csr_of(edges, nodes)
    mean = SAGEConv(1, 1, aggr="mean")

    def pyg_mean(graph: Tensor) -> Tensor:
        return mean.propagate(graph, x=(x, x), size=(nodes, nodes))

    torch.testing.assert_close(adjacency.mean(x), pyg_mean(edge_index), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(adjacency.mean(x), pyg_mean(csr), rtol=1e-4, atol=1e-5)
    rows = []
    for peer_name, graph in (("PyG mean on edge_index", edge_index), ("PyG mean on torch.sparse CSR", csr)):
        with torch.no_grad():
            times = paired(lambda: adjacency.mean(x), lambda graph=graph: pyg_mean(graph), runs)
        rows.append(row("aggregation", *times, peer_name))
    for peer_name, peer in (
        ("PyG SAGEConv edge_index", step(Theirs(), x, edge_index, labels)),
        ("PyG SAGEConv torch.sparse CSR", step(Theirs(), x, csr, labels)),
        ("the same network without aggregation (floor)", step(Ours(aggregate=False), x, adjacency, labels)),
    ):
        rows.append(row("sage_step", *paired(step(Ours(), x, adjacency, labels), peer, runs), peer_name))
    return [one | {"nodes": nodes} for one in rows]


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
    keep(rows, options.json)


if __name__ == "__main__":
    main()
