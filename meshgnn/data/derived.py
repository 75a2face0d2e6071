"""Features derived from a brain before anything is learnt, and a check that features mean the same in two parts."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from meshgnn.errors import InputError
from meshgnn.graph import FeatureTable, MeshGraph
from meshgnn.mesh.operators import one_ring_average
from meshgnn.progress import silent
from meshgnn.sockets import Brain, FeatureMaker

RIM_ROUNDS = (5, 15, 40, 80, 160)
RIM_PREFIX = "cortexShare"


def scaled_rounds(rounds: tuple[int, ...], n_nodes: int) -> tuple[int, ...]:
    """Round counts for a mesh of `n_nodes`, given for one of 10,000: the same area of cortex on finer meshes."""
    factor = max(1.0, n_nodes / 10_000)
    return tuple(dict.fromkeys(round(count * factor) for count in rounds))


def rim_table(graph: MeshGraph, *, always: bool = False) -> FeatureTable | None:
    """How much cortex lies around each node, at several scales: where it is relative to the rim of the cortex mask.

    Column cortexShareN: N rounds of one-ring averages of the mask over the whole mesh, 1 deep inside cortex, about 1/2
    at the rim. None if everything is cortex, unless `always` (then it is constant, for a model that expects it).
    Where the mask was made from an atlas, its rim gives away something of the areas:
    leave the table out to see by how much.
    """
    if graph.cortex.all() and not always:
        return None
    parts = []
    for place in graph.slices().values():
        here = graph.edges[:, (graph.edges[0] >= place.start) & (graph.edges[0] < place.stop)] - place.start
        inside = graph.cortex[place]
        rounds = scaled_rounds(RIM_ROUNDS, int(inside.sum()))
        shares = one_ring_average(inside[:, None].astype(np.float32), np.ones(len(inside), bool), here, rounds)
        parts.append(np.concatenate(shares, axis=1))
    names = tuple(f"{RIM_PREFIX}{count}" for count in RIM_ROUNDS)
    return FeatureTable(name="rim", values=np.concatenate(parts), mask=np.ones(graph.n_nodes, bool), columns=names)


def inconsistent_features(
    values: NDArray[np.floating], first: NDArray[np.bool_], second: NDArray[np.bool_]
) -> dict[int, float]:
    """Columns whose rank correlations with the other columns differ between two sets of nodes, with the difference.

    A feature that was mapped wrongly in one hemisphere keeps its distribution but loses its relation to the others.
    Reported is a column whose mean |difference of Spearman correlations| exceeds both 0.1 and three times the median
    over columns. Looks at features only, at no label and no position.

    Args:
        values: [V, C], C >= 4 for the comparison to mean anything (else nothing is reported).
        first, second: [V] bool.
    """
    if values.shape[1] < 4 or min(first.sum(), second.sum()) < 100:
        return {}

    def correlations(part: NDArray[np.bool_]) -> NDArray[np.float64]:
        ranks = rankdata(values[part], axis=0)
        ranks -= ranks.mean(0)
        length = np.linalg.norm(ranks, axis=0)
        unit = np.divide(ranks, length, out=np.zeros_like(ranks), where=length > 0)
        return unit.T @ unit

    gap = np.abs(correlations(first) - correlations(second))
    found: dict[int, float] = {}
    left = list(range(values.shape[1]))
    # One at a time: a broken column also disturbs the means of the others.
    while len(left) >= 4:
        means = gap[np.ix_(left, left)].sum(1) / (len(left) - 1)
        worst = int(means.argmax())
        if means[worst] <= max(0.1, 3 * float(np.median(means))):
            break
        found[left.pop(worst)] = float(means[worst])
    return found


def computed_features(graph: MeshGraph, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Those of `names` that were computed, not read from a file, with the identity of what computed them."""
    tables = [table for table in graph.tables.values() if table.encoder]
    return {name: dict(table.encoder) for name in names for table in tables if name in table.columns}


def per_node(table: FeatureTable, n_nodes: int) -> FeatureTable:
    """The table with one row per node; the one row of a whole brain stands for each of its nodes."""
    if len(table.values) == n_nodes:
        return table
    if len(table.values) != 1:
        raise InputError(f"table {table.name!r} has {len(table.values)} rows for {n_nodes} nodes")
    return replace(table, values=np.repeat(table.values, n_nodes, axis=0), mask=np.repeat(table.mask, n_nodes))


def with_computed(graph: MeshGraph, made: FeatureTable) -> tuple[MeshGraph, list[str]]:
    """`graph` with a computed table, and warnings. Where a file brings a feature of the same name, the file counts."""
    made = per_node(made, graph.n_nodes)
    there = {column for table in graph.tables.values() for column in table.columns}
    double = [column for column in made.columns if column in there]
    new = [column for column in made.columns if column not in there]
    notes = [f"{', '.join(double)}: a file brings it, so it is not computed from the surfaces"] if double else []
    return (graph.with_table(made.select(new)) if new else graph), notes


def complete_features(
    graph: MeshGraph,
    names: Sequence[str],
    computed: Collection[str],
    makers: Sequence[FeatureMaker] = (),
    compute: Collection[str] = (),
    fitted: Path = Path(),
    series: Mapping[str, NDArray[np.float32]] | None = None,
) -> tuple[MeshGraph, list[str]]:
    """`graph` with every feature that a model needs, each from where the model had it: a file, or a computation.

    A measured thickness and one computed from surfaces share a name and little else, so that neither stands in for
    the other unasked.

    Args:
        names: the features the model was trained on.
        computed: those of them that were computed then: computed again here, even if a file has that name.
        makers: asked in order for features to compute.
        compute: features from files that may be computed here if the brain lacks them.
        fitted: folder with what each maker wrote when it was fitted, in a folder of its name.
        series: of the brain's nodes over time, by name.

    Returns:
        The graph and warnings, one line each.

    Raises:
        InputError: a feature is missing and may not be, or cannot be, computed.
    """
    columns = {column: bool(table.encoder) for table in graph.tables.values() for column in table.columns}
    again = [name for name in names if name in computed and not columns.get(name)]
    missing = [name for name in names if name not in computed and name not in columns]
    refused = [name for name in missing if name not in compute]
    if refused:
        name = refused[0]
        raise InputError(
            f"{graph.brain} has no feature {name!r}, which the model was trained on from files; add it, or, where the "
            f"surfaces give it, accept a computed one (a worse map): --set compute={name}"
        )
    warnings = [f"feature {name!r} is computed from the surfaces; the model was trained on files" for name in missing]
    replaced = [name for name in again if name in columns]
    if replaced:
        warnings.append(
            f"{', '.join(replaced)}: the model was trained on computed values, so it is computed here too and the "
            "file is not used"
        )
        graph = graph.without_features(replaced)
    wanted = [*again, *missing]
    for maker in makers:
        if not wanted:
            break
        brain = Brain(graph=graph, series=series or {})
        made = per_node(maker.make(brain, fitted / maker.name, silent), graph.n_nodes)
        found = [column for column in made.columns if column in wanted]
        if found:
            graph = graph.with_table(made.select(found))
        wanted = [name for name in wanted if name not in found]
    if wanted:
        raise InputError(f"{graph.brain} has no feature {wanted[0]!r}, and nothing here computes it; add its file")
    return graph, warnings
