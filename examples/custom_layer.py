"""A layer of your own in our experiment: judged on an unseen hemisphere beside the baselines, like the built-in ones.

    python custom_layer.py

A layer maps [V, H] to [V, H] and may ask the `Adjacency` for sums or means over neighbours, or for PyTorch Geometric's
`edge_index`. The frame around it (residual connections, normalisation, propagation of the logits) is shared by all.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from torch_geometric.utils import scatter

from meshgnn.experiment.area_mapping import AreaMapping
from meshgnn.experiment.runner import run
from meshgnn.export.gifti import write_surface_folder
from meshgnn.nn.residual import ResidualConfig, ResidualTrunk
from meshgnn.override import override
from meshgnn.source.example import example_brain
from meshgnn.source.surface_folder import SurfaceFolder
from meshgnn.testing import assert_gnn
from meshgnn.train.ensemble import Ensemble


class StrongestNeighbour(nn.Module):
    """W_own h_i + W_max max_j h_j, the max aggregator of GraphSAGE (Hamilton et al. 2017, eq. 3)."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.own, self.strongest = nn.Linear(hidden, hidden), nn.Linear(hidden, hidden)

    def forward(self, h, adjacency):
        senders, receivers = adjacency.edge_index
        return self.own(h) + self.strongest(scatter(h[senders], receivers, dim_size=len(h), reduce="max"))


class MaxNetwork(ResidualTrunk):
    @dataclass(frozen=True, kw_only=True)
    class Config(ResidualConfig):
        def build(self, in_channels: int) -> "MaxNetwork":
            return MaxNetwork(self, in_channels, StrongestNeighbour)


def main() -> None:
    assert_gnn(MaxNetwork.Config(hidden=8).build)  # equivariant, bears an isolated node, keeps graphs apart

    brain = example_brain(nodes=642)
    write_surface_folder(Path("example_brain"), brain, "made_up")  # or a folder of yours
    config = AreaMapping.Config(
        source=SurfaceFolder.Config(folder=Path("example_brain")), model=MaxNetwork.Config(hidden=32), controls=False
    )
    quick = ["seeds=0", "trainer.epochs=10", "trainer.folds=2", "validation.blocks=2", "features.rounds=1,5"]
    done = run(override(config, [*quick, *sys.argv[1:]]), Path("runs/custom_layer"))
    ensemble = Ensemble.load(done.path)  # where this file has been imported; a stored model alone names no code to run
    print("areas of the first nodes:", ensemble.map(brain).predicted[:5])


if __name__ == "__main__":  # training processes import this file
    main()
