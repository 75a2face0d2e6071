"""Brains as PyTorch Geometric's Data, and Data as files without pickles.

    x               [V, C] float32, the columns of all tables side by side, 0 where a table's mask is False; `x_names`
    table_mask      [V, T] bool, one column per table: where its rows are known
    edge_index      [2, E] int64, both directions
    pos             [V, 3] float32, midthickness in mm
    face            [3, F] int64
    y               [V] int64, class numbers, -1 = none; `area_names`. Absent for a brain without areas
    train_mask, val_mask, test_mask   [V] bool, where given
    cortex          [V] bool
    hemisphere      [V] int64, 0 for L and 1 for R
    soft_labels     [V, K] float32, if any
    surfaces        [V, S, 3] float32, further coordinates in mm (pial, white, ...), if any
    location_FIELD  [V], fields of NodeLocations, if any
    brain, space    text
    about           everything else as JSON text (columns, units, areas' keys and colours, ...); in a list of one, so
                    that printing the Data stays short

All tensors but `edge_index` and `face` run over the nodes, so that PyG's loaders, subgraphs and batches treat them
right; a part of a brain, or a batch, is no brain any more and does not come back. Nothing is lost on the way there and
back but the three masks, which a MeshGraph does not hold. Tensors of floats under other names (an embedding) come back
as tables.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from meshgnn.errors import InputError
from meshgnn.graph import LOCATION_COLUMNS, Areas, MeshGraph
from meshgnn.interop.parts import Parts, as_table, check_edges, gathered, laid_out, read_about
from meshgnn.mesh.record import Hemisphere, SurfaceMesh
from meshgnn.store import read_arrays, read_json, write_arrays, write_json

if TYPE_CHECKING:
    from torch_geometric.data import Data

_WHERE = "this Data"
_RECORD = {"format": 1, "record": "torch_geometric.data.Data"}
_TENSORS = {
    "x", "table_mask", "edge_index", "pos", "face", "y", "train_mask", "val_mask", "test_mask", "cortex", "hemisphere",
    "soft_labels", "surfaces", "batch", "ptr", *(f"location_{name}" for name in LOCATION_COLUMNS),
}  # fmt: skip


def to_pyg(
    graph: MeshGraph, *, train: ArrayLike | None = None, val: ArrayLike | None = None, test: ArrayLike | None = None
) -> "Data":
    """A brain as Data; see above for its keys.

    Args:
        graph: the brain.
        train, val, test: [V] bool, parts of a split, if wanted.

    Raises:
        InputError: a mask that is not [V].
    """
    import torch
    from torch_geometric.data import Data

    arrays, texts = pyg_parts(graph)
    for name, given in (("train_mask", train), ("val_mask", val), ("test_mask", test)):
        if given is not None:
            arrays[name] = np.asarray(given, bool)
            if arrays[name].shape != (graph.n_nodes,):
                raise InputError(f"{name} must be [{graph.n_nodes}], got {arrays[name].shape}")
    return Data(**{name: torch.from_numpy(values.copy()) for name, values in arrays.items()}, **texts)


def pyg_parts(graph: MeshGraph) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """The arrays and the texts of a brain's Data, without torch."""
    parts = laid_out(graph)
    nodes, tables = parts.nodes, list(graph.tables.values())
    arrays: dict[str, NDArray[Any]] = {
        "edge_index": graph.edges.astype(np.int64),
        "pos": nodes["pos"],
        "face": parts.faces.T.astype(np.int64),
        "cortex": nodes["cortex"],
        "hemisphere": nodes["hemisphere"].astype(np.int64),
    }
    if tables:
        arrays["x"] = np.concatenate([table.values for table in tables], axis=1)
        arrays["table_mask"] = np.stack([table.mask for table in tables], axis=1)
    if len(graph.areas):
        arrays["y"] = nodes["labels"].astype(np.int64)
    if graph.soft_labels is not None:
        arrays["soft_labels"] = graph.soft_labels
    if graph.surfaces:
        arrays["surfaces"] = np.stack(list(graph.surfaces.values()), axis=1)
    if graph.locations is not None:
        arrays |= {f"location_{name}": nodes[f"locations.{name}"] for name in LOCATION_COLUMNS}
    texts = {
        "brain": graph.brain,
        "space": graph.space,
        "area_names": list(graph.areas.names),
        "x_names": [f"{table.name}.{column}" for table in tables for column in table.columns],
        "about": [json.dumps(parts.about)],
    }
    return {name: np.ascontiguousarray(values) for name, values in arrays.items()}, texts


def from_pyg(
    data: "Data", *, brain: str = "brain", space: str = "unknown", hemisphere: Hemisphere = "L"
) -> MeshGraph:  # fmt: skip
    """The brain in a Data that `to_pyg` made, or one made of any Data with `pos` and `face`.

    Args:
        data: one graph, not a batch.
        brain, space, hemisphere: of a Data that was not made from a MeshGraph; its `x` becomes the table "x", and its
            classes are called 0, 1, ...

    Raises:
        InputError: no mesh in it, edges that are not those of the triangles, or values that do not fit together.
    """
    arrays: dict[str, NDArray[Any]] = {
        name: value.detach().cpu().numpy() for name, value in data.to_dict().items() if hasattr(value, "detach")
    }
    if "pos" not in arrays or "face" not in arrays:
        raise InputError(f"{_WHERE} has no `pos` or no `face`; a MeshGraph is a triangle mesh")
    if "about" in data:
        about = data["about"]
        graph = _ours(arrays, read_about(about[0] if isinstance(about, list) and about else about, _WHERE))
    else:
        mesh = SurfaceMesh(vertices_mm=arrays["pos"], faces=arrays["face"].T, hemisphere=hemisphere, space=space)
        graph = MeshGraph(brain=brain, meshes=(mesh,))
        y = arrays.get("y")
        if y is not None and y.shape == (graph.n_nodes,) and y.dtype.kind in "iu":
            graph = graph.relabelled(y, Areas(names=tuple(str(k) for k in range(int(y.max()) + 1))))
        if "x" in arrays:
            graph = graph.with_table(as_table("x", arrays["x"]))
    if "edge_index" in arrays:
        check_edges(graph, arrays["edge_index"], _WHERE)
    return graph


def _ours(arrays: Mapping[str, NDArray[Any]], about: dict[str, Any]) -> MeshGraph:
    count = len(arrays["pos"])
    try:
        tables = {name: len(meta["columns"]) for name, meta in about["tables"].items()}
        x = arrays.get("x", np.zeros((count, 0), np.float32))
        if x.shape != (count, sum(tables.values())):
            raise InputError(
                f"{_WHERE}: x is {x.shape}, but its tables have {sum(tables.values())} columns; keep x as it is and "
                "put what was computed under a name of its own"
            )
        nodes = {"pos": arrays["pos"], "hemisphere": arrays["hemisphere"], "cortex": arrays["cortex"]}
        nodes["labels"] = arrays.get("y", np.full(count, -1))
        ends = np.cumsum([0, *tables.values()])
        for k, name in enumerate(tables):
            nodes[f"table.{name}.values"] = x[:, ends[k] : ends[k + 1]]
            nodes[f"table.{name}.mask"] = arrays["table_mask"][:, k]
        nodes |= {f"surface.{name}": arrays["surfaces"][:, k] for k, name in enumerate(about["surfaces"])}
        if about["soft_labels"]:
            nodes["soft_labels"] = arrays["soft_labels"]
        if about["locations"]:
            nodes |= {f"locations.{name}": arrays[f"location_{name}"] for name in LOCATION_COLUMNS}
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise InputError(f"{_WHERE}: lacks something that `about` speaks of ({error})") from None
    extra = {
        name: values
        for name, values in arrays.items()
        if name not in _TENSORS and values.dtype.kind == "f" and values.ndim in (1, 2) and len(values) == count
    }
    return gathered(Parts(nodes=nodes, faces=arrays["face"].T, about=about), extra, _WHERE)


# -- files ---------------------------------------------------------------------------------------------------------


def write_parts(path: Path, arrays: Mapping[str, NDArray[Any]], texts: Mapping[str, Any]) -> None:
    """The pair `path`.safetensors and `path`.json that `load_data` reads; no torch needed."""
    write_arrays(path.with_suffix(".safetensors"), arrays)
    write_json(path.with_suffix(".json"), {**_RECORD, "values": texts})


def save_data(data: "Data", path: Path) -> None:
    """Any Data of tensors and JSON-ready values as `path`.safetensors + `path`.json, without pickles.

    Raises:
        InputError: it holds something else.
    """
    import torch

    arrays, texts = {}, {}
    for name, value in data.to_dict().items():
        if isinstance(value, torch.Tensor) and value.layout == torch.strided:
            arrays[name] = value.detach().cpu().numpy()
            continue
        try:
            json.dumps(value)
        except (TypeError, ValueError, RecursionError):
            raise InputError(f"Data holds {name!r}, a {type(value).__name__}, which neither file can take") from None
        texts[name] = value
    write_parts(path, arrays, texts)


def load_data(path: Path) -> "Data":
    """Data from `path`.safetensors + `path`.json.

    Raises:
        InputError: the pair is missing, damaged or of another kind.
    """
    import torch
    from torch_geometric.data import Data

    about = read_json(path.with_suffix(".json"))
    if not isinstance(about, dict) or {key: about.get(key) for key in _RECORD} != _RECORD:
        raise InputError(f"{path.with_suffix('.json')}: not the Data of PyTorch Geometric that meshgnn writes")
    texts, arrays = about.get("values"), read_arrays(path.with_suffix(".safetensors"))
    if not isinstance(texts, dict) or set(texts) & set(arrays):
        raise InputError(f"{path.with_suffix('.json')}: does not fit its arrays")
    return Data.from_dict({**{name: torch.from_numpy(values) for name, values in arrays.items()}, **texts})
