"""The experiments on networks: from data to finished pages, and what is wrong told in one line."""

import json
from pathlib import Path

import networkx
import nibabel
import numpy as np
import pytest

from meshgnn.experiment.cli import entry
from meshgnn.networks.files import read_network_gt
from meshgnn.networks.planted import PlantedStudy
from meshgnn.results import AreaNetworkMetrics, TargetNetworkMetrics
from meshgnn.store import read_arrays, read_json
from tests.meshgnn.networks.test_people import study

FAST = ("blocks=LeidenGroups", "associations.permutations=40", "associations.most=200")
PHENOTYPES = Path(__file__).resolve().parents[4] / "shared/data/volumes/phenotypes_brainomics_localizer.tsv"


def run(name, out, *settings, more=()):
    words = [word for setting in settings for word in ("--set", setting)]
    return entry([name, *words, "--out", str(out), *more])


def lines(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join("\t".join(map(str, row)) for row in rows) + "\n")


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    out = tmp_path_factory.mktemp("targets") / "run"
    assert run("target_network:quick", out, *FAST) == 0
    return out


def test_a_planted_study_becomes_a_page(targets):
    metrics = TargetNetworkMetrics.from_json(read_json(targets / "metrics.json"), "metrics.json")
    assert metrics.nodes == 12
    assert metrics.blocks.planted_rand > 0.9
    assert "SBM" not in metrics.blocks.back_end
    assert metrics.layers["information"].edges == 66
    assert any(one.input == "flair + t1" and one.q < 0.05 for one in metrics.effects)
    html = (targets / "network.html").read_text()
    assert '"name":"psychology 5"' in html
    graph = networkx.read_graphml(targets / "export/network.graphml")
    network = read_network_gt(targets / "export/network.gt")
    assert graph.number_of_nodes() == len(network) == 12
    assert set(network.layers) == {"information", "correlation", "closeness"}
    assert network.texts["best_inputs"][0]


def test_a_finished_run_is_kept_and_goes_on(targets, capsys):
    assert run("target_network:quick", targets, *FAST, more=("--resume",)) == 0
    assert capsys.readouterr().out.count("unchanged, kept") == 4


def test_tables_of_people_and_models_become_a_network(tmp_path, capsys):
    rng = np.random.default_rng(0)
    base = rng.standard_normal(60)
    rows = [
        (f"sub-{k}", f"{base[k]:.3f}", f"{base[k] + rng.normal():.3f}", "yes" if base[k] > 0 else "no")
        for k in range(60)
    ]
    lines(tmp_path / "people/participants.tsv", ("participant_id", "<b>", "beta", "gamma"), *rows)
    scores = [(t, i, "r2", f"{rng.uniform():.3f}") for t in ("<b>", "beta") for i in ("t1", "dwi", "t1+dwi")]
    lines(tmp_path / "models.tsv", ("target", "inputs", "score_name", "score"), *scores, ("beta", "t1", "r2", "n/a"))
    settings = (f"people.folder={tmp_path / 'people'}", "targets=<b>,beta,gamma", *FAST)
    assert run("target_network:folder", tmp_path / "out", *settings) == 0
    assert run("target_network:folder", tmp_path / "scores", f"results={tmp_path / 'models.tsv'}", *FAST) == 0
    assert "1 of 7 models have no score" in capsys.readouterr().out
    assert "<b>" not in (tmp_path / "scores/network.html").read_text().split('id="meta"')[1].split("</script>")[0]


def test_effects_have_an_interval_over_people_where_predictions_are_stored(tmp_path, capsys):
    models = study(tmp_path / "study")
    rows = [(one.target, "+".join(one.inputs) or "n/a", "r2", one.score, one.name) for one in models.rows]
    lines(tmp_path / "study/models.tsv", ("target", "inputs", "score_name", "score", "name"), *rows)
    settings = (f"results={tmp_path / 'study'}", *FAST)
    assert run("target_network:folder", tmp_path / "out", *settings) == 0
    assert "over people [+0." in capsys.readouterr().out
    held = {one["input"]: one for one in read_json(tmp_path / "out/metrics.json")["effects"]}
    assert 0 < held["t1"]["people_low"] < 0.39 < held["t1"]["people_high"]
    assert held["t1"]["people"] == "200 people, 1000 draws"
    assert '"people_low":' in (tmp_path / "out/network.html").read_text()
    # Other predictions are other data: what was made of them is made again.
    path = tmp_path / "study/models/a_t1/predictions/subjects.tsv"
    path.write_text("\n".join(path.read_text().splitlines()[:100]) + "\n")
    assert run("target_network:folder", tmp_path / "out", *settings, more=("--resume",)) == 0
    again = {one["input"]: one for one in read_json(tmp_path / "out/metrics.json")["effects"]}
    assert again["t1"]["people_low"] != held["t1"]["people_low"]


def test_centrality_of_a_network_in_parts_is_refused_by_name(tmp_path, capsys):
    rows = [(name, "x", "r2" if name < "d" else "balanced_accuracy", 0.1 + ord(name) / 1000) for name in "abcde"]
    lines(tmp_path / "models.tsv", ("target", "inputs", "score_name", "score"), *rows)
    assert run("target_network:folder", tmp_path / "out", f"results={tmp_path / 'models.tsv'}", *FAST) == 0
    told = "centrality by closeness: not taken: the network falls into 2 parts (3, 2 nodes)"
    assert capsys.readouterr().out.count(told) == 1
    assert told in (tmp_path / "out/log.txt").read_text()
    assert told in (tmp_path / "out/network.html").read_text()
    assert "centrality_closeness" not in (tmp_path / "out/network.html").read_text().split('id="meta"')[1]


def test_what_is_wrong_is_one_line_and_exit_code_2(tmp_path, capsys):
    def refused(*settings, name="target_network:folder"):
        assert run(name, tmp_path / "out", *settings) == 2
        told = capsys.readouterr().err
        assert told.startswith("error: ")
        assert told.count("\n") == 1
        assert not (tmp_path / "out").exists()
        return told

    people = tmp_path / "people/participants.tsv"
    header = ("participant_id", "a", "b", "c")
    lines(people, header, *((f"s{k}", "x", ("3.5", "3.50", "n/a")[k % 3], -k * k) for k in range(40)))
    folder = f"people.folder={people.parent}"
    assert "participants.tsv: 2 of 3 targets are the same for all who have them: a, b;" in refused(
        folder, "targets=a,b,c"
    )
    assert "needs two or more" in refused(folder, "targets=c")
    lines(people, header, *((f"s{k}", k / 7, k * k if k < 2 else "n/a", -k * k) for k in range(40)))
    assert "2 pairs of targets have fewer than 20 people in common: a and b (2)" in refused(folder, "targets=a,b,c")
    table = tmp_path / "models.tsv"
    lines(table, ("target", "inputs", "score_name", "score"), ("a", "x", "r2", "nan"), ("b", "x", "r2", "0.1"))
    assert "1 cells cannot be read: line 2: score is 'nan'" in refused(f"results={table}")
    kinds = [("a", "x", "r2", 0.1), ("b", "x", "r2", 0.2), ("c", "x", "f1", 0.1), ("d", "y", "r2", 0.1)]
    lines(table, ("target", "inputs", "score_name", "score"), *kinds)
    told = refused(f"results={table}")
    assert "2 of 4 targets are joined to no other by people, or by inputs and a score: c, d; leave them out" in told
    assert "nothing to make a network of" in refused()
    assert "there is no target 'zz'" in refused("targets=zz", name="target_network")
    assert "which is no target" in refused("domains=zz=x", name="target_network:quick")
    assert "may name" in refused("layers=zz", name="target_network:quick")
    assert "takes fewer" in refused("parcels=9999", "neighbours=5", name="area_network:quick").replace("take", "takes")
    assert "there is no table 'zz'" in refused("tables=zz", name="area_network:quick")
    assert "no such folder" in refused(f"run={tmp_path / 'none'}", name="area_network")


@pytest.fixture(scope="module")
def areas(tmp_path_factory):
    out = tmp_path_factory.mktemp("areas") / "run"
    assert run("area_network:quick", out, "blocks=LeidenGroups", "parcel_blocks=LeidenGroups") == 0
    return out


def test_areas_become_a_network_and_parcels_are_judged(areas):
    metrics = AreaNetworkMetrics.from_json(read_json(areas / "metrics.json"), "metrics.json")
    assert metrics.nodes == 33
    assert set(metrics.layers) == {"adjacency", "similarity", "connectivity"}
    assert set(metrics.parcel_mean) == {"block_model", "kmeans", "leiden", "leiden_same_number"}
    assert metrics.over == "places"
    assert all(-1 <= row.adjusted_rand <= 1 and row.boundary_error_mm >= 0 for row in metrics.parcel_mean.values())
    held = read_arrays(areas / "brains/sub-1/groups.safetensors")
    for name, size in (("L", 642), ("R", 642)):
        image = nibabel.load(areas / f"export/sub-1_hemi-{name}_desc-groups_dseg.label.gii")
        keys = image.darrays[0].data
        assert len(keys) == size
        table = image.labeltable.get_labels_as_dict()
        assert set(keys) <= set(table)
        own = held["block_model"][:size] if name == "L" else held["block_model"][size:]
        np.testing.assert_array_equal(keys, own + 1)
    assert len(read_network_gt(areas / "export/areas.gt")) == 33
    assert networkx.read_graphml(areas / "brains/sub-1/parcels.graphml").number_of_nodes() == 60
    for page in ("network.html", "sub-1.html"):
        assert "</html>" in (areas / page).read_text()


def test_parcels_never_see_labels(areas, tmp_path, monkeypatch):
    """The same brain with other labels gives the same parcels and groups."""
    from meshgnn.source.virtual.resting_brain import VirtualRestingBrain

    read = VirtualRestingBrain.read

    def relabelled(self):
        reading = read(self)
        graph = reading.graph
        labels = np.where(graph.labels >= 0, np.random.default_rng(0).permutation(33)[graph.labels], -1)
        labels[graph.vertices_mm[:, 2] > 20] = -1
        return type(reading)(graph=graph.relabelled(labels, graph.areas), series=reading.series)

    monkeypatch.setattr(VirtualRestingBrain, "read", relabelled)
    assert run("area_network:quick", tmp_path / "run", "blocks=LeidenGroups", "parcel_blocks=LeidenGroups") == 0
    first, second = (read_arrays(one / "brains/sub-1/groups.safetensors") for one in (areas, tmp_path / "run"))
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])


def test_the_planted_study_is_the_same_every_time():
    one, two = (PlantedStudy.Config(people=50).build().draw() for _ in range(2))
    np.testing.assert_array_equal(one.people.values, two.people.values)
    assert one.models == two.models
    assert len(one.models.rows) == 700


@pytest.mark.skipif(not PHENOTYPES.is_file(), reason="shared/data/volumes is not here")
def test_phenotypes_of_94_people_become_a_network(tmp_path):
    (tmp_path / "participants.tsv").write_bytes(PHENOTYPES.read_bytes())
    names = ("age", "sex", "score_addition", "score_multiplication", "score_soustraction", "edimburgh")
    settings = (f"people.folder={tmp_path}", f"targets={','.join(names)}", *FAST)
    assert run("target_network:folder", tmp_path / "out", *settings) == 0
    metrics = json.loads((tmp_path / "out/metrics.json").read_text())
    assert metrics["nodes"] == len(names)
    network = read_network_gt(tmp_path / "out/export/network.gt")
    sums = [network.nodes.index(f"score_{name}") for name in ("addition", "multiplication", "soustraction")]
    strong = network.layers["information"].weights[np.ix_(sums, sums)]
    others = network.layers["information"].weights[sums][:, network.nodes.index("sex")]
    assert np.nanmean(strong) > others.mean()
