"""Weight models of block models: how weights are distributed within a pair of groups, and in which units that counts.

Description lengths of continuous weights are -log densities, so they compare only in the same variable. Every model
here transforms the weights of each layer to z = (t(w) - shift) / scale and has the `correction` that turns a
description length of z into one of w: the sum over edges of log |dw/dz|. It is added once, here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["normal", "log-normal", "exponential"]
RECORDS = {"normal": "real-normal", "log-normal": "real-normal", "exponential": "real-exponential"}  # graph-tool's


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightModel:
    """
    Args:
        kind: of the distribution.
        values: transformed weights by layer, [E] each.
        correction: in nats.
    """

    kind: Kind
    values: Mapping[str, NDArray[np.float64]]
    correction: float


def weight_model(kind: Kind, layers: Mapping[str, NDArray[np.float64]]) -> WeightModel | str:
    """The model of these weights; or why there is none.

    Args:
        layers: finite weights [E] of every layer.
    """
    values, correction = {}, 0.0
    for name, weights in layers.items():
        if kind != "normal" and (weights <= 0).any():
            return f"{kind}: {int((weights <= 0).sum())} weights of layer {name!r} are not above 0"
        moved = np.log(weights) if kind == "log-normal" else weights
        spread = float(moved.mean() if kind == "exponential" else moved.std())
        if not spread > 1e-12 * max(float(np.abs(moved).max()), 1e-300):
            return f"{kind}: all weights of layer {name!r} are the same"
        values[name] = moved / spread if kind == "exponential" else (moved - moved.mean()) / spread
        correction += len(weights) * float(np.log(spread))
        correction += float(np.log(weights).sum()) if kind == "log-normal" else 0.0
    return WeightModel(kind=kind, values=values, correction=correction)


def weight_models(
    kinds: Sequence[Kind], layers: Mapping[str, NDArray[np.float64]]
) -> tuple[list[WeightModel], list[str]]:
    """Those that fit these weights, and why others do not."""
    found = [weight_model(kind, layers) for kind in kinds]
    return [one for one in found if not isinstance(one, str)], [one for one in found if isinstance(one, str)]
