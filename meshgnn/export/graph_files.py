"""An area map for graph-tool and for PyTorch Geometric; neither library is needed to write it.

Both files hold the whole brain (`meshgnn.interop`), and beside it per node: `probabilities` [V, K], `predicted` (class
number, -1 outside cortex) and `uncertainty` (0 sure to 1).
"""

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from meshgnn.export.area_map import AreaMap
from meshgnn.interop.graph_tool import to_gt
from meshgnn.interop.gt_file import write_gt
from meshgnn.interop.pyg import pyg_parts, write_parts


def _predictions(area_map: AreaMap) -> dict[str, NDArray[Any]]:
    return {
        "probabilities": area_map.probabilities,
        "predicted": area_map.predicted,
        "uncertainty": area_map.uncertainty,
    }


def write_area_gt(path: Path, area_map: AreaMap) -> None:
    """A `.gt` file: `graph_tool.load_graph(path)`, or `meshgnn.interop.gt_file.read_gt(path)`."""
    write_gt(path, to_gt(area_map.graph, _predictions(area_map)))


def write_area_pyg(folder: Path, area_map: AreaMap) -> list[Path]:
    """graph.safetensors and graph.json in `folder`: `meshgnn.interop.pyg.load_data(folder / "graph")`."""
    arrays, texts = pyg_parts(area_map.graph)
    write_parts(folder / "graph", arrays | _predictions(area_map), texts)
    return [folder / "graph.safetensors", folder / "graph.json"]
