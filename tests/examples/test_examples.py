"""The scripts in examples/ run as a user would run them: copied elsewhere, without the checkout's folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from meshgnn.config import from_plain, to_plain
from meshgnn.data.inputs import NodeInputs
from meshgnn.errors import InputError
from meshgnn.mesh.topology import euler_number
from meshgnn.source.example import example_brain
from meshgnn.train.own_networks import imported, networks, where_defined

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
TOLD = {
    "own_training_loop": ("epoch 60", "'embedding': (1284, 32)"),
    "custom_layer": ("* MaxNetwork", "areas of the first nodes"),
    "trained_run": ("* PyGConv", "nodes as drawn", "torch.Size([1284, 8])"),
}


# `trained_run` trains a layer of another library in the same way.
SLOW = {"custom_layer": [pytest.mark.slow]}


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem, marks=SLOW.get(path.stem, ())) for path in EXAMPLES])
def test_an_example_runs(path, tmp_path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 100
    shutil.copy(path, tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, path.name], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for words in TOLD[path.stem]:
        assert words in done.stdout


def test_the_example_brain_is_two_closed_hemispheres():
    for nodes in (42, 162, 642):
        graph = example_brain(nodes)
        assert [mesh.n_vertices for mesh in graph.meshes] == [nodes, nodes]
        assert [euler_number(mesh) for mesh in graph.meshes] == [2, 2]
    assert set(graph.labels[graph.cortex]) == set(range(8))
    assert (graph.labels[~graph.cortex] == -1).all()
    np.testing.assert_array_equal(example_brain(162).tables["cells"].values, example_brain(162).tables["cells"].values)
    with pytest.raises(InputError, match="10242"):
        example_brain(20_000)


def test_a_stored_model_builds_what_was_imported_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "mine_for_a_test.py").write_text(
        "from dataclasses import dataclass\nfrom meshgnn.nn.residual import ResidualConfig\n"
        "class Mine:\n    @dataclass(frozen=True, kw_only=True)\n    class Config(ResidualConfig):\n        pass\n"
    )
    plain = {"_": "Mine", "hidden": 8}
    with pytest.raises(InputError, match="'Mine' is not a class"):
        from_plain(networks(), plain)
    monkeypatch.syspath_prepend(tmp_path)
    kind = imported({"module": "mine_for_a_test", "file": "", "name": "Mine.Config"})
    assert imported(where_defined(kind)) is kind
    assert to_plain(from_plain(networks(), plain))["hidden"] == 8
    with pytest.raises(InputError, match="not a class"):
        from_plain(networks(), to_plain(NodeInputs.Config()))
