"""A trained run used from Python: map a brain, look at it with PyTorch Geometric and networkx, hand it on.

    python trained_run.py

Trains a small run first; with a run of yours start at `Ensemble.load(Path("runs/..."))`.
"""

from pathlib import Path

import networkx
import numpy as np

from experiments.surface import surface
from meshgnn.experiment.runner import run
from meshgnn.export.command import export
from meshgnn.export.gifti import write_surface_folder
from meshgnn.interop.pyg import load_data
from meshgnn.override import override
from meshgnn.source.example import example_brain
from meshgnn.train.ensemble import Ensemble


def train() -> Path:
    """A run with a convolution of PyTorch Geometric, in seconds; the defaults take longer and score better."""
    write_surface_folder(Path("example_brain"), example_brain(nodes=642), "made_up")
    settings = [
        "source.folder=example_brain", "model=PyGConv", "model.layer=SAGEConv", "model.hidden=32", "seeds=0",
        "trainer.epochs=20", "trainer.folds=2", "validation.blocks=2", "features.rounds=1,5", "controls=false",
    ]  # fmt: skip
    return run(override(surface(), settings), Path("runs/trained_run")).path


def main() -> None:
    ensemble = Ensemble.load(train())  # safetensors + JSON: loading a model runs none of its code
    brain = example_brain(nodes=642, seed=0)
    area_map = ensemble.map(brain)
    cortex = brain.cortex & (brain.labels >= 0)
    right = area_map.predicted[cortex] == brain.labels[cortex]
    print(f"{len(area_map.graph.areas)} areas, {right.mean():.1%} of the nodes as drawn")
    print("least certain nodes:", np.argsort(-area_map.uncertainty)[:5])

    # networkx: which areas touch which.
    network = brain.to_networkx()
    found = [(*brain.areas.names, "no area")[k] for k in area_map.predicted]
    areas = networkx.Graph((found[a], found[b]) for a, b in network.edges if found[a] != found[b])
    print({area: sorted(near) for area, near in areas.adjacency()})

    # Files for other programs; `python -m meshgnn.export RUN --format pyg,gt,gifti` does it for a run's own brain.
    export(area_map, Path("exported"), ["pyg", "gt", "gifti"])
    data = load_data(Path("exported/pyg/graph"))
    print(data.predicted[:5], data.probabilities.shape)


if __name__ == "__main__":
    main()
