"""Edges between nodes whose runs rise and fall together, beside those of the mesh."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import Config as BaseConfig
from meshgnn.data.surface_series import averaged_series
from meshgnn.errors import InputError, SettingError
from meshgnn.graph import MeshGraph

ROWS = 512  # nodes whose correlations with all others are held at a time


class FunctionalEdges:
    """Joins every node to the nodes whose series correlate most with its own, far away and in the same part."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            series: name of the run at the nodes.
            rounds: of one-ring averages of the series within cortex, before.
            nearest: edges from every node.
            apart_mm: nearer nodes are not joined: the mesh does that, and smoothing makes them alike.
        """

        series: str = "bold"
        rounds: int = 3
        nearest: int = 4
        apart_mm: float = 20.0

        def __post_init__(self) -> None:
            if self.nearest < 1 or min(self.rounds, self.apart_mm) < 0:
                raise SettingError("<nearest> must be at least 1, <rounds> and <apart_mm> not negative")

        def build(self) -> "FunctionalEdges":
            return FunctionalEdges(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def edges(
        self, graph: MeshGraph, series: Mapping[str, NDArray[np.floating]], part: NDArray[np.integer],
        mesh_edges: NDArray[np.int32],
    ) -> NDArray[np.int32]:  # fmt: skip
        """[2, E] in both directions, each once, ascending; none leaves a part.

        Args:
            graph: the brain.
            series: [V, T] by name.
            part: [V], of a split; negative for nodes that get no edge.
            mesh_edges: [2, E] of the mesh, cut between the parts: what series are averaged over.

        Raises:
            InputError: the brain has no such series.
        """
        c = self.config
        if c.series not in series:
            there = ", ".join(series) or "none"
            raise InputError(f"{graph.brain}: has no series {c.series!r} to join nodes by; it has {there}")
        values = np.asarray(series[c.series], np.float32)
        known = graph.cortex & np.isfinite(values).all(1) & (part >= 0)
        values = np.nan_to_num(averaged_series(values, known, mesh_edges, c.rounds))
        values = values - values.mean(1, keepdims=True)
        length = np.linalg.norm(values, axis=1)
        known &= length > 1e-6
        unit = values / np.maximum(length, 1e-6)[:, None]
        points, found = graph.vertices_mm.astype(np.float32), []
        for own in np.unique(part[known]):
            nodes = np.flatnonzero(known & (part == own))
            for start in range(0, len(nodes), ROWS):
                rows = nodes[start : start + ROWS]
                alike = unit[rows] @ unit[nodes].T
                near = np.linalg.norm(points[rows, None] - points[None, nodes], axis=2) < c.apart_mm
                alike[near] = -np.inf
                count = min(c.nearest, len(nodes))
                best = np.argpartition(-alike, count - 1, axis=1)[:, :count]
                real = np.isfinite(np.take_along_axis(alike, best, 1))
                found.append(np.stack([np.repeat(rows, count)[real.ravel()], nodes[best.ravel()[real.ravel()]]]))
        if not found:
            return np.zeros((2, 0), np.int32)
        both = np.concatenate(found, axis=1)
        return np.unique(np.concatenate([both, both[::-1]], axis=1), axis=1).astype(np.int32)
