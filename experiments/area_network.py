"""Areas of brains as a network, and data-driven areas on meshes, judged by the true ones where they are known."""

from dataclasses import replace

from meshgnn.experiment.area_network import AreaNetwork
from meshgnn.networks.blocks.nested import NestedBlocks
from meshgnn.source.surface_folder import SurfaceFolder
from meshgnn.source.virtual.resting_brain import VirtualRestingBrain
from meshgnn.source.virtual.subjects import VirtualSubjects


def area_network() -> AreaNetwork.Config:
    """Groups of areas by borders, features and runs; data-driven areas (default: a virtual brain, or --set run=RUN)."""
    return AreaNetwork.Config()


def quick() -> AreaNetwork.Config:
    """The same on a coarse virtual brain with few parcels, in seconds."""
    people = VirtualSubjects.Config(subjects=4, sites=2, nodes=642)
    blocks = NestedBlocks.Config(weights=("normal",), degree_corrected=(False,), rounds=5)
    return replace(
        area_network(), source=VirtualRestingBrain.Config(people=people, frames=100), blocks=blocks, parcels=30,
        neighbours=6,
    )  # fmt: skip


def folder() -> AreaNetwork.Config:
    """The same on your brain (--set source.folder=DIR); labels are optional."""
    return replace(area_network(), source=SurfaceFolder.Config())
