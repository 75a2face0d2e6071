"""Block models: planted groups are found, their absence is told."""

import json

import numpy as np
import pytest

from meshgnn.errors import InputError, SettingError
from meshgnn.networks.blocks import nested
from meshgnn.networks.blocks.leiden import BACK_END, LeidenGroups
from meshgnn.networks.blocks.nested import NestedBlocks, python_with_graph_tool
from meshgnn.networks.blocks.weights import weight_model, weight_models
from meshgnn.networks.partition import adjusted_rand, consensus, renumbered, stability
from meshgnn.networks.record import Layer, Network
from tests.meshgnn.networks.samples import planted

GRAPH_TOOL = pytest.mark.skipif(not python_with_graph_tool(), reason="no Python has graph-tool; `make graph-tool`")
FAST = {"weights": ("log-normal",), "degree_corrected": (False,), "starts": 2, "rounds": 6, "otherwise": None}
BACK_ENDS = [
    pytest.param(NestedBlocks.Config(**FAST), marks=GRAPH_TOOL, id="graph-tool"),
    pytest.param(LeidenGroups.Config(), id="leiden"),
]


@pytest.mark.parametrize("config", BACK_ENDS)
@pytest.mark.parametrize("layers", [1, 2])
def test_planted_groups_are_found(config, layers):
    network, own = planted(3, layers=layers, apart=3.0 if layers > 1 else 4.5)
    fit = config.build().fit(network, list(network.layers))
    assert fit.structure
    assert adjusted_rand(own, fit.levels[0]) >= 0.9
    assert adjusted_rand(own, fit.consensus) >= 0.9
    assert fit.stability.mean() > 0.9
    assert fit.nested == ("nested SBM" in fit.back_end)
    sizes = fit.groups
    assert list(sizes) == sorted(sizes, reverse=True)


@pytest.mark.slow
@GRAPH_TOOL
def test_planted_layers_by_graph_tool_on_ten_seeds():
    found = []
    for seed in range(10):
        network, own = planted(seed, apart=4.0)
        fit = NestedBlocks.Config(degree_corrected=(False,)).build().fit(network, list(network.layers))
        found.append(adjusted_rand(own, fit.levels[0]))
    assert min(found) >= 0.9, found


@pytest.mark.parametrize("config", BACK_ENDS)
def test_weights_without_groups_are_told(config):
    network, _ = planted(0, apart=0.0, layers=1)
    fit = config.build().fit(network, ["layer 0"])
    assert not fit.structure
    assert fit.groups == (1,)
    assert fit.verdict.startswith("no structure")


@GRAPH_TOOL
def test_edges_alone_tell_groups():
    network, own = planted(1, nodes=40, groups=2, layers=1, apart=0.0)
    same = own[:, None] == own
    rng = np.random.default_rng(0)
    kept = np.triu(rng.random((40, 40)) < np.where(same, 0.8, 0.1), 1)
    layer = network.layers["layer 0"].kept(kept | kept.T)
    fit = NestedBlocks.Config(**FAST).build().fit(Network(name="x", nodes=network.nodes, layers={"a": layer}), ["a"])
    assert adjusted_rand(own, fit.levels[0]) == 1


@GRAPH_TOOL
def test_the_unit_of_weights_changes_nothing_but_the_description_length_by_its_logarithm():
    network, _ = planted(2, layers=1)
    layer = network.layers["layer 0"]
    scaled = Network(name="x", nodes=network.nodes, layers={"layer 0": Layer(weights=layer.weights * 1000)})
    config = NestedBlocks.Config(**{**FAST, "weights": ("normal", "log-normal"), "starts": 1})
    fits = [config.build().fit(one, ["layer 0"]) for one in (network, scaled)]
    np.testing.assert_array_equal(fits[0].levels[0], fits[1].levels[0])
    edges = layer.edges().shape[1]
    for first, second in zip(fits[0].models, fits[1].models):
        assert first.name == second.name
        assert second.best - first.best == pytest.approx(edges * np.log(1000), rel=1e-6)


def test_corrections_turn_densities_into_those_of_the_weights():
    """The Gaussian log density of log w, corrected, is that of the log-normal distribution of w."""
    rng = np.random.default_rng(0)
    weights = np.exp(rng.normal(1, 0.5, 400))
    found = weight_model("log-normal", {"a": weights})
    z = found.values["a"]
    told = 0.5 * (z**2 + np.log(2 * np.pi)).sum() + found.correction
    logs = np.log(weights)
    deviation = logs.std()
    wanted = (0.5 * ((logs - logs.mean()) / deviation) ** 2 + np.log(weights * deviation * np.sqrt(2 * np.pi))).sum()
    assert told == pytest.approx(wanted)


def test_models_that_do_not_fit_are_named():
    found, notes = weight_models(("normal", "log-normal", "exponential"), {"a": np.array([1.0, -1, 2])})
    assert [one.kind for one in found] == ["normal"]
    assert notes == [f"{kind}: 1 weights of layer 'a' are not above 0" for kind in ("log-normal", "exponential")]
    assert weight_model("normal", {"a": np.ones(5)}) == "normal: all weights of layer 'a' are the same"


@GRAPH_TOOL
def test_the_posterior_tells_the_number_of_groups():
    network, own = planted(3, layers=1, apart=4.5)
    config = NestedBlocks.Config(**{**FAST, "posterior": 20})
    fit = config.build().fit(network, ["layer 0"])
    assert sum(fit.posterior_groups.values()) == pytest.approx(1)
    assert max(fit.posterior_groups, key=fit.posterior_groups.get) in (4, 5)
    same = own[:, None] == own
    assert fit.posterior_together[same].mean() > 0.8 > 0.2 > fit.posterior_together[~same].mean()


@GRAPH_TOOL
def test_two_runs_give_the_same():
    network, _ = planted(5, layers=1, apart=2.0)
    one, two = (NestedBlocks.Config(**FAST).build().fit(network, ["layer 0"]) for _ in range(2))
    assert [model.description_length for model in one.models] == [model.description_length for model in two.models]
    np.testing.assert_array_equal(one.levels[0], two.levels[0])


def test_without_graph_tool_the_substitute_says_its_name(monkeypatch):
    monkeypatch.setattr(nested, "python_with_graph_tool", lambda named="": "")
    network, _ = planted(0, layers=1)
    fit = NestedBlocks.Config().build().fit(network, ["layer 0"])
    assert fit.back_end == BACK_END
    assert not fit.nested
    assert "SBM" not in fit.verdict
    with pytest.raises(InputError, match=r"no Python with graph-tool was found; .*apt install python3-graph-tool"):
        NestedBlocks.Config(otherwise=None).build().fit(network, ["layer 0"])


def test_a_process_that_fails_is_told_in_one_line(monkeypatch, tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'it broke' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setattr(nested, "python_with_graph_tool", lambda named="": str(broken))
    with pytest.raises(InputError, match="failed: it broke"):
        NestedBlocks.Config().build().fit(planted(0, layers=1)[0], ["layer 0"])


def test_a_fit_that_never_ends_is_left_out(monkeypatch, tmp_path):
    """The second of two starts hangs: the process is ended, the first one is kept."""
    slow = tmp_path / "python"
    fit = json.dumps({"number": 0, "entropy": 1.0, "levels": [[k % 2 for k in range(25)]], "version": "9.9"})
    slow.write_text(f"#!/bin/sh\n[ $4 = 0 ] && echo '{fit}'\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(nested, "python_with_graph_tool", lambda named="": str(slow))
    config = NestedBlocks.Config(**{**FAST, "limit_s": 0.5})
    fit = config.build().fit(planted(0, layers=1)[0], ["layer 0"])
    assert fit.groups == (2,)
    assert "1 of 2 fits took more than 0.5 s: left out" in fit.notes


def test_what_cannot_be_grouped_is_named():
    network, _ = planted(0, layers=1)
    empty = Network(name="x", nodes=network.nodes, layers={"a": Layer(weights=np.full((25, 25), np.nan))})
    for config in (NestedBlocks.Config(), LeidenGroups.Config()):
        with pytest.raises(InputError, match="edge"):
            config.build().fit(empty, ["a"])
        with pytest.raises(InputError, match="there is no layer 'b'; there are a"):
            config.build().fit(empty, ["b"])
    with pytest.raises(SettingError, match="starts"):
        NestedBlocks.Config(starts=0)


def test_partitions_are_compared_whatever_their_numbers():
    labels = np.array([5, 5, 5, 2, 2, 9])
    assert renumbered(labels).tolist() == [0, 0, 0, 1, 1, 2]
    runs = np.array([[0, 0, 0, 1, 1, 2], [3, 3, 3, 0, 0, 1], [0, 0, 1, 2, 2, 1]])
    agreed = consensus(runs)
    assert adjusted_rand(agreed, labels) == 1
    sure = stability(runs, agreed)
    assert sure[0] > sure[2]
    assert stability(runs[:2], agreed) == pytest.approx(np.ones(6))


def test_the_side_script_asks_for_nothing_when_imported():
    from meshgnn.networks.blocks import graph_tool_side

    assert "meshgnn" not in json.dumps([name for name in vars(graph_tool_side) if not name.startswith("_")])
