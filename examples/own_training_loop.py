"""A cortex as PyTorch Geometric's Data, and a training loop of your own.

    python own_training_loop.py

Learns areas on the left hemisphere and names them on the right one. Instead of the small brain that comes along, read
your own: `SurfaceFolder.Config(folder=Path("mybrain")).build().read().graph` (meshgnn.source.surface_folder).
"""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.nn import GATv2Conv

from meshgnn import MeshGraph
from meshgnn.interop.pyg import load_data, save_data
from meshgnn.source.example import example_brain


class Network(nn.Module):
    def __init__(self, in_channels: int, hidden: int, n_areas: int) -> None:
        super().__init__()
        self.first = GATv2Conv(in_channels, hidden)
        self.second = GATv2Conv(hidden, hidden)
        self.out = nn.Linear(hidden, n_areas)

    def embed(self, x, edge_index):
        return F.elu(self.second(F.elu(self.first(x, edge_index)), edge_index))

    def forward(self, x, edge_index):
        return self.out(self.embed(x, edge_index))


def main() -> None:
    torch.manual_seed(0)
    brain = example_brain(nodes=642)
    known = brain.cortex & (brain.labels >= 0)
    left = brain.hemisphere == "L"
    # No edge joins the hemispheres, so nothing of the right one reaches training.
    data = brain.to_pyg(train=known & left, test=known & ~left)
    print(data)
    print("columns of x:", ", ".join(data.x_names))

    network = Network(data.num_features, 32, len(data.area_names))
    optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
    for epoch in range(60):
        network.train()
        optimiser.zero_grad()
        logits = network(data.x, data.edge_index)
        loss = F.cross_entropy(logits[data.train_mask], data.y[data.train_mask])
        loss.backward()
        optimiser.step()
        if epoch % 20 == 19:
            network.eval()
            with torch.no_grad():
                right = network(data.x, data.edge_index).argmax(1) == data.y
            print(
                f"epoch {epoch + 1}: loss {loss.item():.3f}, test accuracy {right[data.test_mask].float().mean():.3f}"
            )

    # Back: floats per node become a feature table of the brain, for every tool of meshgnn.
    with torch.no_grad():
        data.embedding = network.embed(data.x, data.edge_index)
    graph = MeshGraph.from_pyg(data)
    print("tables now:", {name: table.values.shape for name, table in graph.tables.items()})
    save_data(data, Path("example_data"))  # safetensors + JSON, no pickle
    assert torch.equal(load_data(Path("example_data")).x, data.x)


if __name__ == "__main__":
    main()
