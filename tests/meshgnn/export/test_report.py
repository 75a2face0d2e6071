"""report.html: readable names beside keys, everything escaped, nothing asked for from outside, the same bytes twice."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from meshgnn.errors import InputError
from meshgnn.export.plots import learning_curves
from meshgnn.export.report import verdict, write_report
from meshgnn.export.subject_report import write_subject_report
from meshgnn.export.words import METHODS, Names
from meshgnn.results import (
    Confusion,
    ControlScores,
    Interval,
    MethodScores,
    Metrics,
    NodeCounts,
    ObliquenessScore,
    ProtocolScores,
    SubjectMetrics,
    Validation,
)
from tests.meshgnn.export.page_samples import HOSTILE, area_map

FIGURES = Path(__file__).resolve().parents[2] / "integration" / "figures"
CONFIG = {
    "config": {
        "_": "SectionMapping",
        "features": [{"_": "ContrastiveFeatures"}],
        "compared": [{"_": "ProfileFeatures"}],
    }
}
HISTORY = [
    {"seed": "0", "fold": str(fold), "epoch": str(epoch), "validation_macro_f1": f"{epoch / 20}"}
    for fold in (0, 1) for epoch in (0, 10)
]  # fmt: skip


def row(macro_f1, **more):
    return MethodScores(
        macro_f1=macro_f1, macro_f1_sd=0.01, macro_f1_all_cortex=macro_f1, accuracy=0.8, balanced_accuracy=0.7,
        boundary_error_mm=None, ece=0.1, sees="what it sees", fits=5, seeds=3, **more,
    )  # fmt: skip


def metrics(names=("V1", "V2", "4", "3b")):
    scores = ProtocolScores(
        test=row(0.7),
        variants={"without_coordinates": row(0.5)},
        baselines={"prior_lda": row(0.6, chosen={"weight": 0.2}), "majority": row(0.1)},
        ours_minus={"prior_lda": Interval(difference=0.1, low=-0.1, high=0.3, over="blocks", replicates=40)},
        left_out={"unmatched_nodes": 3, "missed_nodes": 4.5},
        per_area_f1=dict.fromkeys(names, 0.7),
        baselines_per_area_f1={"prior_lda": dict.fromkeys(names, 0.6), "majority": dict.fromkeys(names, None)},
        confusion=Confusion(areas=names, rows_true_columns_predicted=tuple((1, 2, 3, 4) for _ in names)),
    )
    return Metrics(
        task="a <b> task", protocol="strict", classes=4, seeds=(0,), nodes=NodeCounts(train=5, test=6),
        features=("thickness",), transductive_features=(), left_out_features=(), rim=False, coordinates=True,
        alignment="rigid", model="GraphSAGE", not_run={"registered_prior": "no sphere"},
        validation=Validation(macro_f1=0.5, macro_f1_sd=0.0, accuracy=0.6, ece=0.1),
        leakage={"train_test_edges": 0, "shared_patches": None}, strict=scores,
    )  # fmt: skip


def report(path, found, **more):
    write_report(path / "report.html", found, HISTORY, CONFIG, {"commit": "x"}, area_map(2), **more)
    return (path / "report.html").read_text()


def test_rows_are_named_for_readers_with_their_keys_beside(tmp_path):
    text = report(tmp_path, metrics(), page="<p>the page</p>")
    for name in (
        "network: learnt embeddings and coordinates", "network: learnt embeddings, no coordinates",
        "position prior × discriminant, on the network", "<code>prior_lda</code>", "<code>without_coordinates</code>",
        "sees what it sees", "a &lt;b&gt; task",
        "neither is shown to be better", "srcdoc=\"&lt;p&gt;the page&lt;/p&gt;\"",
    ):  # fmt: skip
        assert name in text
    assert "http" not in text
    assert "<script" not in text


def test_a_run_on_sections_shows_gaps_obliqueness_meshes_and_controls(tmp_path):
    found = metrics()
    oblique = {key: {"0-20": ObliquenessScore(macro_f1=0.8, nodes=70)} for key in ("main", "without_coordinates")}
    gaps = replace(
        found.strict, judged_by="the truth", distance_to_annotation_mm={"judged": 3.5, "all": 3.7},
        baselines={"lda_and_annotations": row(0.9)}, ours_minus={},
    )  # fmt: skip
    text = report(tmp_path, replace(
        found, gap_filling=gaps, strict=replace(found.strict, by_obliqueness_deg=oblique),
        controls={"runs/x": ControlScores(task="virtual_brain:uniform", strict={"main": 0.35})},
        reconstruction={"brains": {"one": {"distance_mm_mean": 0.25, "euler_L": 2}}},
    ))  # fmt: skip
    for name in (
        "discriminant on the network", "joined with annotations", "they lie 3.5 mm", "0–20° (70 nodes)",
        "distance to the truth, mean, mm", "Euler number, left", "virtual_brain:uniform", "50%",
    ):  # fmt: skip
        assert name in text


def test_a_subject_report_shows_every_target_with_its_baselines(tmp_path):
    def scores(**values):
        return {**values, "intervals": {name: [0.1, 0.9] for name in values}, "sees": "everything",
                "fits": 2, "seeds": 1}  # fmt: skip

    def target(kind, name, value):
        gap = {"constant": {name: {"difference": 0.2, "low": 0.1, "high": 0.3}}}
        return {
            "kind": kind, "classes": [], "per_seed": [],
            "subjects": 4, "families": 3, "chance_of": "r" if name == "mae" else name,
            "chance_interval": [0.3, None], "ours_minus": gap, "test": scores(**{name: value}),
            "baselines": {"constant": scores(**{name: value / 2})},
        }  # fmt: skip

    told = {
        "task": "age of <4> subjects", "families": 3, "sites": 1, "protocol": "strict", "seeds": [0], "model": "GCN",
        "divisions": 1, "head": {}, "coordinates": False,
        "subjects": {"train": 2, "validation": 1, "test": 4}, "leakage": {"shared_subjects": 0}, "features": ["area"],
        "not_run": {"site": "one site"},
        "targets": {"age": target("regression", "mae", 9.0), "sex": target("classification", "accuracy", 0.6)},
    }  # fmt: skip
    table = [{"age": "20", "age_predicted": "25", "sex": "F"}, {"age": "n/a", "age_predicted": "30", "sex": "M"}]
    history = [{"division": "0", "seed": "0", "fold": "0", "validation_skill": skill} for skill in ("0.1", "0.3")]
    metrics = SubjectMetrics.from_json(told, "metrics.json")
    write_subject_report(tmp_path / "report.html", metrics, table, history, CONFIG, {})
    text = (tmp_path / "report.html").read_text()
    for name in (
        "age of &lt;4&gt; subjects", "mean absolute error", "mean or class frequencies", "<code>constant</code>",
        "Predicted over true age", "site was not run: one site", "[0.300, –]", "skill of a member: 0.300",
    ):  # fmt: skip
        assert name in text
    assert "Predicted over true sex" not in text


def test_every_method_of_the_kept_runs_has_a_name():
    for file in ("sections", "surface", "wings"):
        paths = json.loads((FIGURES / f"{file}.json").read_text())["scores"]
        keys = {path.split("/baselines/")[1].split("/")[0] for path in paths if "/baselines/" in path}
        keys |= {path.split("/variants/")[1].split("/")[0] for path in paths if "/variants/" in path}
        assert keys
        assert {key.removesuffix("_and_annotations") for key in keys} <= set(METHODS)


def test_hostile_area_names_stay_text(tmp_path):
    text = report(tmp_path, metrics(HOSTILE))
    assert "<img src=x" not in text
    assert "<script" not in text
    assert "A &amp; B" in text


def test_without_scores_the_report_says_so(tmp_path):
    assert "Nothing to judge by" in report(tmp_path, replace(metrics(), strict=None))


def test_a_verdict_names_the_best_baseline():
    scores = metrics().strict
    assert "0.100 above the best baseline (position prior" in verdict(scores, Names())


def test_curves_are_the_same_bytes_twice():
    assert learning_curves(HISTORY) == learning_curves(HISTORY) != ""
    assert learning_curves([]) == ""


def test_metrics_come_back_from_json_as_they_went(tmp_path):
    found = metrics()
    plain = json.loads(json.dumps(found.to_json()))
    assert plain["test"]["macro_f1"] == 0.7  # the main protocol stands at the top
    assert "strict" not in plain
    assert Metrics.from_json(plain, "m").to_json() == plain
    assert Metrics.from_json(plain | {"of_a_later_version": 1}, "m").strict.rows.keys() == found.strict.rows.keys()
    assert next(iter(found.strict.rows)) == "main"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": "4"}, "m: classes cannot be '4'"),
        ({"nodes": {"train": 5}}, "m: nodes 'test' is missing"),
        ({"test": {"macro_f1": 0.7}}, "is missing"),
        ({"leakage": {"train_test_edges": 0.5}}, "m: leakage: train_test_edges cannot be 0.5"),
        ({"rim": 1}, "m: rim cannot be 1"),
    ],
)
def test_damaged_metrics_are_refused_with_the_place(change, words):
    with pytest.raises(InputError, match="again with --resume") as caught:
        Metrics.from_json(metrics().to_json() | change, "m")
    assert words in str(caught.value)
