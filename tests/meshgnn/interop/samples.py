"""A small brain that holds everything a MeshGraph can hold, under names that are no identifiers."""

import json

import numpy as np

from meshgnn.graph import Areas, FeatureTable, MeshGraph, NodeLocations
from meshgnn.store import graph_parts
from tests.synthetic import brain


def full_brain() -> MeshGraph:
    graph = brain(1)
    count, rng = graph.n_nodes, np.random.default_rng(0)
    areas = Areas(
        names=("V1", "3b & <1>", "batch index", "hOc3\n\"é'"),
        colours=rng.random((4, 4), dtype=np.float32),
        keys=(7, 3, 2_000_000_000, 1),
    )
    soft = rng.random((count, 4), dtype=np.float32)
    soft = np.where(soft > 0.5, soft, 0)
    soft[:5] = 0
    observed = rng.random(count) < 0.5
    unknown = np.where(observed, 1, np.nan)
    table = FeatureTable(
        name="face/index batch",
        values=rng.normal(size=(count, 2)),
        mask=rng.random(count) < 0.7,
        columns=("thickness of layer 4", "ptr"),
        units=("mm", ""),
        encoder={"kind": "profile", "hash": "0f", "sizes": (1, 2.5, None), "nested": {"a": np.float32(0.5)}},
    )
    return graph._replace(
        brain="sub-01 é",
        areas=areas,
        soft_labels=soft,
        tables={**graph.tables, table.name: table},
        surfaces={**graph.surfaces, "sphere_reg": graph.vertices_mm * 2},
        locations=NodeLocations(
            section=np.where(observed, 3, -1), row_px=rng.random(count) * unknown, column_px=rng.random(count),
            normal_angle_deg=rng.random(count) * 360 * unknown, obliqueness_deg=rng.random(count) * 90,
            residual_mm=rng.random(count), observed=observed,
        ),
    )  # fmt: skip


def assert_same(found: MeshGraph, wanted: MeshGraph) -> None:
    """Every array of the same type, shape and values, and everything else."""
    ours, about = graph_parts(found)
    theirs, told = graph_parts(wanted)
    assert set(ours) == set(theirs)
    for name, values in theirs.items():
        assert ours[name].dtype == values.dtype, name
        np.testing.assert_array_equal(ours[name], values, err_msg=name)
    as_json = [json.loads(json.dumps(one, default=lambda x: x.item())) for one in (about, told)]
    assert as_json[0] == as_json[1]
    np.testing.assert_array_equal(found.edges, wanted.edges)
