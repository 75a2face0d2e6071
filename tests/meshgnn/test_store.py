"""Files of our own: round trips, refusals, nothing half-written."""

import errno
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph, NodeLocations
from meshgnn.store import (
    content_hash,
    load_graph,
    read_arrays,
    read_json,
    save_graph,
    write_arrays,
    write_json,
    written_aside,
)  # fmt: skip
from tests.synthetic import brain


def same(a: MeshGraph, b: MeshGraph) -> bool:
    return (
        a.brain == b.brain
        and a.areas.names == b.areas.names
        and a.areas.keys == b.areas.keys
        and np.array_equal(a.labels, b.labels)
        and np.array_equal(a.edges, b.edges)
        and np.array_equal(a.cortex, b.cortex)
        and np.array_equal(a.tables["surface"].values, b.tables["surface"].values)
        and np.array_equal(a.surfaces["pial"], b.surfaces["pial"])
        and [m.content_hash() for m in a.meshes] == [m.content_hash() for m in b.meshes]
    )


def test_a_graph_comes_back_as_it_was(tmp_path):
    graph = brain()
    count = graph.n_nodes
    located = graph._replace(
        locations=NodeLocations(
            section=np.zeros(count), row_px=np.arange(count), column_px=np.ones(count),
            normal_angle_deg=np.zeros(count), obliqueness_deg=np.zeros(count), residual_mm=np.zeros(count),
            observed=np.ones(count, bool),
        )
    )  # fmt: skip
    save_graph(located, tmp_path / "g")
    back = load_graph(tmp_path / "g")
    assert same(back, graph)
    assert back.locations is not None
    assert back.locations.row_px[-1] == count - 1


def test_truncated_and_foreign_files_are_refused(tmp_path):
    save_graph(brain(1), tmp_path / "g")
    whole = (tmp_path / "g.safetensors").read_bytes()
    for cut in (0, 4, 100, len(whole) - 1):
        (tmp_path / "g.safetensors").write_bytes(whole[:cut])
        with pytest.raises(InputError):
            load_graph(tmp_path / "g")
    (tmp_path / "g.json").write_text("{")
    with pytest.raises(InputError, match="JSON"):
        read_json(tmp_path / "g.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_arrays(tmp_path / "none.safetensors")


class Bomb:
    def __reduce__(self):
        return (print, ("BOOM",))


def test_pickles_are_refused_whatever_their_name(tmp_path, capsys):
    for protocol in (2, 4, 5):
        (tmp_path / "model.safetensors").write_bytes(pickle.dumps(Bomb(), protocol=protocol))
        with pytest.raises(InputError, match="pickle"):
            read_arrays(tmp_path / "model.safetensors")
    torch.save({"w": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="pickle"):
        read_arrays(tmp_path / "model.safetensors")
    assert "BOOM" not in capsys.readouterr().out


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_json(tmp_path / "a.json", {"n": 1})

    def fail(path):
        with written_aside(path) as aside:
            aside.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail(tmp_path / "a.json")
    assert read_json(tmp_path / "a.json") == {"n": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_json_holds_no_nan_and_hashes_follow_values(tmp_path):
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": np.float32(2), "z": np.arange(2)})
    assert read_json(tmp_path / "a.json") == {"x": None, "y": 2.0, "z": [0, 1]}
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1}) != content_hash({"a": 2, "b": 1})


def test_arrays_keep_their_type(tmp_path):
    arrays = {"i": np.arange(3, dtype=np.int32), "f": np.ones((2, 2), np.float32), "b": np.array([True])}
    write_arrays(tmp_path / "a.safetensors", arrays)
    back = read_arrays(tmp_path / "a.safetensors")
    assert all(back[name].dtype == array.dtype and (back[name] == array).all() for name, array in arrays.items())


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path, monkeypatch):
    write_json(tmp_path / "a.json", {"n": 1})

    def full(path, *_, **__):
        with path.open("wb") as handle:
            handle.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match=r"a\.json: cannot be written \(No space left on device\)"):
        write_json(tmp_path / "a.json", {"n": 2})
    with pytest.raises(InputError, match=r"b\.safetensors: cannot be written"):
        write_arrays(tmp_path / "b.safetensors", {"x": np.zeros(3)})

    def library():
        with written_aside(tmp_path / "c.graphml"):
            raise RuntimeError("Write failed")

    with pytest.raises(RuntimeError):
        library()
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(InputError, match=r"c\.graphml: cannot be written \(No space"):
        library()
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert read_json(tmp_path / "a.json") == {"n": 1}


def test_trouble_with_another_file_while_writing_is_told_of_that_file(tmp_path):
    def copy():
        with written_aside(tmp_path / "a.txt") as aside:
            aside.write_bytes((tmp_path / "source.bin").read_bytes())

    with pytest.raises(FileNotFoundError, match=r"source\.bin"):
        copy()
    assert not list(tmp_path.iterdir())
