"""What metrics.json says of layers and groups, and numbers of blocks as values of a network's nodes."""

import numpy as np
from numpy.typing import NDArray

from meshgnn.networks.blocks.socket import BlockFit
from meshgnn.networks.partition import adjusted_rand
from meshgnn.networks.record import Layer, Network
from meshgnn.results import BlockSummary, LayerSummary

LEVEL, STABILITY, CENTRALITY = "group_level_", "group_stability", "centrality_"


def layer_summary(layer: Layer, q: float) -> LayerSummary:
    """Counts of a layer's edges."""
    edges = tuple(layer.edges())
    held = layer.weights[edges]
    tested = layer.pairs.get("q")
    return LayerSummary(
        edges=len(held),
        significant=None if tested is None else int((tested[edges] < q).sum()),
        median=float(np.median(held)) if len(held) else 0.0,
    )


def block_summary(fit: BlockFit, network: Network, planted: NDArray[np.integer] | None = None) -> BlockSummary:
    """What a block model found, beside planted groups if there are any."""
    chosen = fit.models[0].description_length
    return BlockSummary(
        back_end=fit.back_end, structure=fit.structure, groups=fit.groups, stability=float(fit.stability.mean()),
        description_length={one.name: float(one.best) for one in fit.models}, spread=float(max(chosen) - min(chosen)),
        posterior_groups={str(count): share for count, share in fit.posterior_groups.items()}, notes=fit.notes,
        planted_rand=None if planted is None else adjusted_rand(planted, fit.levels[0]),
        labels=dict(zip(network.nodes, fit.levels[0].tolist())),
    )  # fmt: skip


def with_groups(network: Network, fit: BlockFit) -> Network:
    """The network with the groups of every level and their stability as values of its nodes."""
    levels = {f"{LEVEL}{k}": level for k, level in enumerate(fit.levels)}
    return network.with_values(**levels, **{STABILITY: fit.stability})
