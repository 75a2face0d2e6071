"""Networks with known groups, and small tables of models."""

import numpy as np

from meshgnn.networks.models import Model, Models
from meshgnn.networks.record import Layer, Network
from meshgnn.source.participant_table import Participants
from meshgnn.source.subjects import Target

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "\"quoted\" & 'single'",
    "=1+1",
    "ä\u2028ö",
)


def planted(seed=0, *, nodes=25, groups=4, layers=2, apart=3.0, share=1.0):
    """A layered network and the planted groups [N].

    Args:
        apart: difference of the log weights within and between groups, in their standard deviations.
        share: of the pairs that have an edge in a layer.
    """
    rng = np.random.default_rng(seed)
    own = rng.permutation(np.arange(nodes) % groups)
    made = {}
    for number in range(layers):
        weights = np.exp(0.5 * (apart * (own[:, None] == own) + rng.normal(size=(nodes, nodes))) - 2)
        weights = np.where(rng.random((nodes, nodes)) < share, weights, np.nan)
        weights = np.triu(weights, 1) + np.triu(weights, 1).T
        made[f"layer {number}"] = Layer(weights=weights)
    return Network(name="planted", nodes=tuple(f"n{k}" for k in range(nodes)), layers=made), own


def people(values, classes=()):
    """Participants of whom every column of values [G, T] is a target; those of `classes` have classes."""
    values = np.asarray(values, np.float64)
    targets = tuple(
        Target(name=f"t{k}", classes=tuple(map(str, range(int(np.nanmax(values[:, k])) + 1))) if k in classes else ())
        for k in range(values.shape[1])
    )
    return Participants(ids=tuple(f"sub-{k}" for k in range(len(values))), targets=targets, values=values)


def models(targets=25, each=28, names=()):
    """`each` models of every target, of several sets of inputs."""
    rng = np.random.default_rng(0)
    rows = [
        Model(
            name=f"model-{t}-{m}", target=names[t] if t < len(names) else f"target {t}",
            inputs=tuple(f"input {k}" for k in range(10) if (m + 1) >> k & 1), domains=("blood",) if t % 2 else (),
            score_name="balanced_accuracy" if t % 2 else "r2", score=float(rng.uniform(0.4, 0.9)),
            numbers={"low": 0.3, "high": 0.95, "subjects": 100.0},
        )
        for t in range(targets)
        for m in range(each)
    ]  # fmt: skip
    return Models(rows=tuple(rows), source="sample")
