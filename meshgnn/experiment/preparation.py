"""A brain made ready for area mapping: features chosen and checked, split applied, errors reported at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from meshgnn.config import at
from meshgnn.data.derived import RIM_PREFIX, inconsistent_features, rim_table, with_computed
from meshgnn.data.inputs import TRANSDUCTIVE, NodeInputs
from meshgnn.data.split import Split, check_no_leak, shared_rows
from meshgnn.errors import InputError
from meshgnn.graph import FeatureTable, MeshGraph
from meshgnn.source.plausible import check_size
from meshgnn.source.socket import Reading


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """What every model of a run sees.

    Args:
        graph: the brain with derived tables, without the features left out.
        split: its parts.
        names: the features in use, in order.
        left_out: features that the check took out.
        leakage: leak counts of the split, and how many test nodes have a training node's features to the last digit
            (None without features).
        warnings: one line each.
    """

    graph: MeshGraph
    split: Split
    names: tuple[str, ...]
    left_out: tuple[str, ...]
    leakage: dict[str, int | None]
    warnings: tuple[str, ...]


def prepare(
    reading: Reading,
    tables: Sequence[FeatureTable] | None,
    apply: Callable[[MeshGraph], Split],
    config: NodeInputs.Config,
) -> Prepared:
    """Add computed and derived tables, choose and check features, apply the split.

    Args:
        reading: the brain.
        tables: those that feature makers computed; None: they are still to be made, so no feature is chosen yet.
        apply: cuts the brain into its parts.
        config: which features.

    Raises:
        InputError: whatever is wrong with the brain, its labels, or the choice of features.
    """
    graph, warnings = reading.graph, list(reading.warnings)
    check_size(graph)
    if not len(graph.areas):
        if reading.atlas:
            raise InputError(
                f"{graph.brain}: atlas {reading.atlas} labels no vertex of cortex with an area (names like unknown or "
                "medial wall are none)"
            )
        raise InputError(
            f"{graph.brain}: no atlas chosen or found; add label files, or choose an atlas with --set source.atlas=NAME"
        )
    for table in tables or ():
        graph, found = with_computed(graph, table)
        warnings += found
    rim = rim_table(graph) if config.rim else None
    named = [name for table in graph.tables.values() for name in table.columns if name.startswith(RIM_PREFIX)]
    if rim is not None and named:
        raise InputError(
            f"{graph.brain}: feature {named[0]!r} has the name of a rim feature; rename its file, or "
            "--set inputs.rim=false"
        )
    if rim is not None:
        graph = graph.with_table(rim)
    split = apply(graph)
    leakage: dict[str, int | None] = {**check_no_leak(split), "shared_patches": None}
    warnings += _check_labels(graph, split)

    if tables is None:
        return Prepared(graph=graph, split=split, names=(), left_out=(), leakage=leakage, warnings=tuple(warnings))
    inputs = config.build()
    with at("inputs"):
        names = inputs.names(graph)
    left_out: list[str] = []
    if names:
        raw = inputs.raw(graph, split.edges, names)
        measured = [k for k, name in enumerate(names) if not name.startswith(RIM_PREFIX)]
        shared = shared_rows(raw.values[:, measured], split.train & raw.known, split.test & raw.known)
        leakage["shared_patches"] = shared
        if shared:
            warnings.append(
                f"{shared} of {int(split.test.sum())} test nodes carry exactly the features of a training node: is one "
                "part a copy of the other? Scores then say nothing about new data"
            )
        compared = [k for k, name in enumerate(names) if rim is None or name not in rim.columns]
        odd = inconsistent_features(raw.values[:, compared], split.train & raw.known, split.test & raw.known)
        for column, gap in odd.items() if config.check else ():
            left_out.append(names[compared[column]])
            warnings.append(
                f"feature {left_out[-1]} relates differently to the others in the training and the test part "
                f"(mean difference of correlations {gap:.2f}): left out; to keep it: --set inputs.check=false"
            )
    names = tuple(name for name in names if name not in left_out)
    if not names and not config.coordinates:
        raise InputError(f"{graph.brain}: no feature left and inputs.coordinates=false; nothing to learn from")
    embedded = [name for name in names if name in TRANSDUCTIVE]
    if embedded:
        warnings.append(
            f"{', '.join(embedded)} were embedded over both hemispheres together (transductive); "
            f"to leave them out: --set inputs.exclude=[{','.join(embedded)}]"
        )
    return Prepared(
        graph=graph.without_features(left_out),
        split=split,
        names=names,
        left_out=tuple(left_out),
        leakage=leakage,
        warnings=tuple(warnings),
    )


def _check_labels(graph: MeshGraph, split: Split) -> list[str]:
    """Warnings about areas; InputError if there is nothing to learn or to judge."""
    labelled = graph.labels >= 0
    in_train = np.unique(graph.labels[split.train & labelled])
    in_test = np.unique(graph.labels[split.test & labelled])
    if len(in_train) == 0:
        raise InputError(f"{graph.brain}: the training part ({split.name}) carries no label of this atlas")
    if len(in_train) == 1:
        only = graph.areas.names[in_train[0]]
        raise InputError(f"{graph.brain}: the training part carries a single area ({only}); nothing to tell apart")
    if len(in_test) == 0:
        raise InputError(f"{graph.brain}: the test part ({split.name}) carries no label; nothing to judge")
    if not set(in_train.tolist()) & set(in_test.tolist()):
        raise InputError(
            f"{graph.brain}: no area of the test part ({graph.areas.names[in_test[0]]}, ...) occurs in the training "
            f"part ({graph.areas.names[in_train[0]]}, ...); areas are matched by name"
        )
    known = int((split.train & labelled).sum())
    if known < 2 * len(in_train):
        raise InputError(
            f"{graph.brain}: {known} labelled training nodes for {len(in_train)} areas; at least two to an area are "
            "needed on average"
        )
    unseen = [graph.areas.names[k] for k in np.setdiff1d(in_test, in_train)]
    if not unseen:
        return []
    return [f"{len(unseen)} areas of the test part never occur in training: {', '.join(unseen[:5])}"]
