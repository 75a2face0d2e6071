"""GNN kernels beside PyG's, in one run: `aggregation` (mean over neighbours) and `sage_step` (one training step).

    python benchmarks/gnn.py [--quick] [--json FILE]

Meshes are icospheres in a locality-preserving order. Every pair is timed in turn (ours, peer, ours, peer, ...) after a
warm-up; figures are medians; ratio > 1 means that we are ahead of the peer or limit.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import trimesh
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.nn import SAGEConv

from meshgnn.nn.adjacency import Adjacency
from meshgnn.nn.sage import SAGELayer

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


def paired(ours: Callable[[], None], peer: Callable[[], None], runs: int) -> tuple[float, float]:
    """Median seconds of each, timed in turn."""
    ours()
    peer()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for call, kept in zip((ours, peer), times):
            start = time.perf_counter()
            call()
            kept.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


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


def row(name: str, nodes: int, ours: float, peer: float, peer_name: str) -> dict[str, object]:
    return {
        "name": name, "nodes": nodes, "ours": ours, "peer": peer, "peer_name": peer_name, "unit": "s",
        "ratio": round(peer / ours, 3),
    }  # fmt: skip


def measure(nodes: int, runs: int) -> list[dict[str, object]]:
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
        rows.append(row("aggregation", nodes, *times, peer_name))
    for peer_name, peer in (
        ("PyG SAGEConv edge_index", step(Theirs(), x, edge_index, labels)),
        ("PyG SAGEConv torch.sparse CSR", step(Theirs(), x, csr, labels)),
        ("the same network without aggregation (floor)", step(Ours(aggregate=False), x, adjacency, labels)),
    ):
        rows.append(row("sage_step", nodes, *paired(step(Ours(), x, adjacency, labels), peer, runs), peer_name))
    return rows


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
            print(
                f"{found['name']:12s} {nodes:8d} nodes  ours {found['ours'] * 1e3:9.1f} ms  "
                f"peer {found['peer'] * 1e3:9.1f} ms  ratio {found['ratio']:6.2f}  {found['peer_name']}",
                flush=True,
            )
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
