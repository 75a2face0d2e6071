"""Communities by igraph's Leiden algorithm: what stands in for a block model where graph-tool is absent."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import igraph
import numpy as np
from numpy.typing import NDArray

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.networks.blocks.socket import BlockFit, ModelFit, fit_of
from meshgnn.networks.partition import Labels
from meshgnn.networks.record import Network
from meshgnn.progress import Progress, silent

BACK_END = "Leiden communities (igraph), no block model"


class LeidenGroups:
    """Modularity by Traag, Waltman & van Eck's (2019, 10.1038/s41598-019-41695-z) algorithm; a `BlockModel`.

    It finds groups that are more connected inside, and no others; layers are added up, each divided by its mean. There
    is no structure where weights dealt out anew over the edges give as much modularity (p >= 0.05). Levels are
    resolutions, not nested.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            resolutions: the first one is the finest level and judged against the null; 1 is modularity as defined.
            starts: of every resolution.
            permutations: of the weights.
            seed: of all of them.
        """

        resolutions: tuple[float, ...] = (1.0, 0.5)
        starts: int = 10
        permutations: int = 99
        seed: int = 0

        def __post_init__(self) -> None:
            if not self.resolutions or min(self.resolutions) <= 0:
                raise SettingError("<resolutions> must be above 0, one at least")
            if self.starts < 1 or min(self.permutations, self.seed) < 0:
                raise SettingError("<starts> must be at least 1, <permutations> and <seed> not negative")

        def build(self) -> "LeidenGroups":
            return LeidenGroups(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def fit(self, network: Network, layers: Sequence[str], progress: Progress = silent) -> BlockFit:
        """See `BlockModel`; `description_length` of the models holds minus modularity."""
        c = self.config
        weights = summed(network, layers)
        edges = np.stack(np.nonzero(np.triu(weights, 1) > 0))
        if not edges.size:
            raise InputError(f"{network.name}: no edge of {', '.join(layers)} has a weight above 0")
        graph = igraph.Graph(n=len(network), edges=edges.T.tolist())
        strength = weights[tuple(edges)]
        rng = np.random.default_rng(c.seed)
        fits, levels, names = [], [], []
        first: list[Labels] = []
        for done, resolution in enumerate(c.resolutions):
            progress("communities", done, len(c.resolutions) + 1)
            found = [_communities(graph, strength, resolution, c.seed + start) for start in range(c.starts)]
            quality = [graph.modularity(one, weights=strength, resolution=resolution) for one in found]
            groups = tuple(len(set(one)) for one in found)
            degenerate = sum(n in (1, len(network)) for n in groups)
            fits.append(
                ModelFit(
                    name=f"resolution {resolution:g}", description_length=tuple(-q for q in quality), groups=groups,
                    degenerate=degenerate,
                )
            )  # fmt: skip
            levels.append(np.array(found[int(np.argmax(quality))]))
            names.append(f"resolution {resolution:g}")
            first = first or [np.array(one) for one in found]
        beyond = 0
        for k in range(c.permutations):
            dealt = rng.permutation(strength)
            one = _communities(graph, dealt, c.resolutions[0], c.seed + k)
            beyond += graph.modularity(one, weights=dealt, resolution=c.resolutions[0]) >= -fits[0].best - 1e-12
        p = (beyond + 1) / (c.permutations + 1)
        even = np.ptp(strength) == 0  # weights that are all alike cannot be dealt out anew: edges alone speak
        progress("communities", len(c.resolutions) + 1, len(c.resolutions) + 1)
        notes = [f"modularity {-fits[0].best:.3f}, p {p:.3f} against the same weights dealt out anew"]
        keep = [0, *(k for k in range(1, len(levels)) if len(np.unique(levels[k])) > 1)]
        return fit_of(
            back_end=BACK_END, nested=False, models=fits, levels=[levels[k] for k in keep],
            level_names=[names[k] for k in keep], starts=first, notes=notes,
            structure=p < 0.05 or c.permutations == 0 or bool(even),
        )  # fmt: skip


def summed(network: Network, layers: Sequence[str]) -> NDArray[np.float64]:
    """[N, N] sum of the layers' positive weights, each divided by its mean; 0 where there is no edge."""
    total = np.zeros((len(network), len(network)))
    for name in layers:
        weights = np.nan_to_num(network.layer(name).weights).clip(0)
        if weights.any():
            total += weights / weights[weights > 0].mean()
    return total


def _communities(
    graph: igraph.Graph, strength: NDArray[np.float64], resolution: float, seed: int
) -> list[int]:  # fmt: skip
    state = random.getstate()
    random.seed(seed)  # igraph draws from Python's own generator
    try:
        found = graph.community_leiden(
            objective_function="modularity", weights=strength.tolist(), resolution=resolution, n_iterations=-1
        )
    finally:
        random.setstate(state)
    return list(found.membership)
