"""Model files that were edited or damaged: one line each, before memory is taken."""

import json

import numpy as np
import pytest

from meshgnn.data.inputs import NodeInputs
from meshgnn.errors import InputError
from meshgnn.nn import CoordinateEncoder, GraphSAGE, NodeModel
from meshgnn.store import read_arrays, write_arrays
from meshgnn.train.calibration import Calibration
from meshgnn.train.ensemble import Ensemble
from tests.synthetic import brain


@pytest.fixture
def saved(tmp_path):
    """An untrained model on disk."""
    graph = brain(subdivisions=2)
    network, coordinates = GraphSAGE.Config(hidden=4, layers=1), CoordinateEncoder.Config(channels=4)
    inputs = NodeInputs.Config(rounds=(1, 2))
    weights = NodeModel(network, coordinates, 6, 3, 4).state_dict()
    Ensemble(
        network=network, coordinates=coordinates, inputs=inputs, names=("a", "b"), areas=graph.areas,
        prior=np.full(4, 0.25, np.float32), frame=inputs.build().frame(graph, graph.hemisphere == "L"), align="mirror",
        weights={0: [weights]}, calibration={0: Calibration()}, n_features=6,
    ).save(tmp_path)  # fmt: skip
    return tmp_path


def test_what_was_saved_comes_back(saved):
    probabilities = Ensemble.load(saved).map(brain(subdivisions=2)).probabilities
    assert probabilities.shape == (324, 4)


def place(about, dotted, value):
    *path, last = dotted.split(".")
    for key in path:
        about = about[key]
    if value is None:
        del about[last]
    else:
        about[last] = value


@pytest.mark.parametrize(
    ("dotted", "value"),
    [
        ("network._", "Pickle"), ("network.hidden", 10**12), ("network.hidden", 8), ("network.layers", 10**9),
        ("network.hidden", "64"), ("network.propagation", 10**12), ("network.nose", 1), ("network", [1]),
        ("coordinates.channels", 10**12), ("coordinates.frequencies", [1.0] * 10_000), ("inputs.rounds", [10**12]),
        ("inputs.rounds", [5, 2]), ("n_features", 10**15), ("n_features", 7), ("n_features", "x"),
        ("n_features", float("inf")), ("folds", {"0": 10**12}), ("folds", {"x": 1}), ("folds", {}), ("folds.0", 2),
        ("areas.names", ["a"]), ("areas.keys", [1, 2, 3, 10**12]), ("areas", None), ("frame.unit_mm", 0),
        ("frame.unit_mm", float("nan")), ("frame.hemisphere", "X"), ("align", "teleport"), ("calibration", {}),
        ("calibration.0.temperature", -1), ("calibration.0.temperature", "hot"), ("format", 99), ("kind", "Zip"),
        ("kind", None), ("features", 3), ("computed", ["a"]), ("computed", {"a": 1}),
    ],
)  # fmt: skip
def test_edited_descriptions_are_refused(saved, dotted, value):
    about = json.loads((saved / "model.json").read_text())
    place(about, dotted, value)
    (saved / "model.json").write_text(json.dumps(about))
    with pytest.raises(InputError, match=r"model\.json") as caught:
        Ensemble.load(saved)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("text", ["[]", "3", "[" * 100_000, '{"format": 1}', "null", '{"kind": ' + "9" * 10_000 + "}"])
def test_descriptions_of_another_kind_are_refused(saved, text):
    (saved / "model.json").write_text(text)
    with pytest.raises(InputError, match=r"model\.json"):
        Ensemble.load(saved)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("prior", lambda a: a[:2]), ("prior", lambda a: a * np.nan), ("colours", lambda a: a[:1]),
        ("frame.centre_mm", lambda a: a[:2]), ("frame.cloud_mm", lambda a: a[:0]),
        ("frame.cloud_mm", lambda a: a * np.float32(np.inf)), ("0/0/head.linear.weight", lambda a: a[:, :1]),
        ("0/0/head.linear.weight", lambda a: a * np.float32(np.nan)), ("0/0/head.linear.weight", None),
    ],
)  # fmt: skip
def test_damaged_arrays_are_refused(saved, name, change):
    arrays = read_arrays(saved / "model.safetensors")
    if change is None:
        del arrays[name]
    else:
        with np.errstate(invalid="ignore"):
            arrays[name] = change(arrays[name])
    write_arrays(saved / "model.safetensors", arrays)
    with pytest.raises(InputError, match=r"model\.json"):
        Ensemble.load(saved)


def test_files_of_format_1_are_read(saved):
    old = {"head.norm.": "network.last_norm.", "head.linear.": "network.leave.", "trunk.": "network."}
    before = Ensemble.load(saved).map(brain(subdivisions=2)).probabilities
    about = json.loads((saved / "model.json").read_text())
    (saved / "model.json").write_text(json.dumps({**about, "format": 1}))
    arrays = read_arrays(saved / "model.safetensors")
    renamed = {}
    for name, values in arrays.items():
        start, _, rest = name.partition("/0/")
        for new, told in old.items():
            if rest.startswith(new):
                name = f"{start}/0/{told}{rest.removeprefix(new)}"
                break
        renamed[name] = values
    assert sum("network." in name for name in renamed) == len([n for n in arrays if "head" in n or "trunk" in n]) > 4
    write_arrays(saved / "model.safetensors", renamed)
    np.testing.assert_array_equal(Ensemble.load(saved).map(brain(subdivisions=2)).probabilities, before)


def test_a_network_of_pyg_comes_back_and_its_description_is_checked(tmp_path):
    from meshgnn.nn import PyGConv

    graph, network = brain(subdivisions=2), PyGConv.Config(layer="GATConv", arguments='{"edge_dim": null}', hidden=4)
    coordinates, inputs = CoordinateEncoder.Config(channels=4), NodeInputs.Config(rounds=(1, 2))
    made = Ensemble(
        network=network, coordinates=coordinates, inputs=inputs, names=("a", "b"), areas=graph.areas,
        prior=np.full(4, 0.25, np.float32), frame=inputs.build().frame(graph, graph.hemisphere == "L"), align="mirror",
        weights={0: [NodeModel(network, coordinates, 6, 3, 4).state_dict()]}, calibration={0: Calibration()},
        n_features=6,
    )  # fmt: skip
    made.save(tmp_path)
    np.testing.assert_array_equal(Ensemble.load(tmp_path).map(graph).probabilities, made.map(graph).probabilities)
    about = json.loads((tmp_path / "model.json").read_text())
    for name, value in (("layer", "os.system"), ("arguments", '{"heads": 999999}'), ("arguments", "{"), ("layer", 3)):
        edited = {**about, "network": {**about["network"], name: value}}
        (tmp_path / "model.json").write_text(json.dumps(edited))
        with pytest.raises(InputError, match=r"model\.json") as caught:
            Ensemble.load(tmp_path)
        assert "\n" not in str(caught.value)
