"""Judging features: scores with known answers, splits by sections, the command on a stack on disk."""

import numpy as np
import pytest

from features.judge import main
from features.judging.judge import annotated_sections, mean_interval, probed
from features.judging.scores import Rows, chosen, clusters, linear_classes, retrieval, spatial_spearman
from meshgnn.errors import InputError
from meshgnn.graph import FeatureTable
from meshgnn.store import read_json, save_table
from tests.features.sections import annotated_brain


def rows(spread: float, seed: int = 0, count: int = 240) -> Rows:
    """Three classes around corners of a triangle in 4 channels; sections and places at random."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    values = 5 * np.eye(4)[labels] + spread * rng.standard_normal((count, 4))
    return Rows(values=values, labels=labels, groups=rng.integers(0, 8, count), places_mm=values[:, :3] * 2.0)


def test_separated_classes_score_one_and_noise_scores_chance():
    clear, noise = rows(0.1), rows(0.1)
    mixed = Rows(values=np.random.default_rng(1).standard_normal((240, 4)), labels=noise.labels, groups=noise.groups,
                 places_mm=noise.places_mm)  # fmt: skip
    found = probed(clear, {"other": rows(0.1, seed=5)})
    assert found["linear"]["other"] == found["knn"]["other"] == 1.0
    assert max(probed(mixed, {"other": rows(0.1, 5)})[name]["other"] for name in ("linear", "knn")) < 0.6
    assert clusters(clear.values, clear.labels) == pytest.approx(
        {"kmeans_purity": 1, "kmeans_ari": 1, "ward_purity": 1, "ward_ari": 1}
    )
    assert clusters(mixed.values, mixed.labels)["kmeans_ari"] < 0.1
    assert retrieval(clear.values, clear.labels, clear.groups)["map"] > 0.95
    assert retrieval(mixed.values, mixed.labels, mixed.groups)["map"] < 0.5
    assert spatial_spearman(clear.values, clear.places_mm) > 0.6


def test_retrieval_looks_in_other_sections_only_and_counts_what_it_leaves_out():
    # The nearest row of each query is of its own section; by hand: ranks of the one right row are 1, 2, 1.
    values = np.array([[1.0, 0.0], [1.0, 0.1], [0.9, 0.2], [0.0, 1.0]])
    found = retrieval(values, np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1]))
    assert found["retrieval_left_out"] == 1
    assert found["map"] == pytest.approx((1 + 1 + 1) / 3)


def test_annotated_sections_are_nested_and_at_least_one():
    groups = np.repeat(np.arange(100), 3)
    few, more = (annotated_sections(groups, share, 4) for share in (0.05, 0.2))
    assert len(few) == 5
    assert len(more) == 20
    assert set(few) <= set(more)
    assert len(annotated_sections(groups, 0.001, 4)) == 1
    with pytest.raises(InputError, match="share"):
        annotated_sections(groups, 0, 4)


def test_the_penalty_is_chosen_on_left_out_sections():
    one = rows(3.0)
    assert chosen(linear_classes, (0.01, 1.0), one) in (0.01, 1.0)
    assert chosen(linear_classes, (0.01, 0.1, 1.0), one[one.groups == 0]) == 0.1  # nothing to choose on


def test_what_cannot_be_judged_is_refused():
    with pytest.raises(InputError, match="nothing to judge"):
        rows(1.0)[np.zeros(240, bool)]
    with pytest.raises(InputError, match="not finite"):
        Rows(values=np.full((2, 2), np.nan), labels=np.zeros(2, int), groups=np.zeros(2, int),
             places_mm=np.zeros((2, 3)))  # fmt: skip
    mean, low, _ = mean_interval([0.5, 0.7])
    assert mean == pytest.approx(0.6)
    assert np.isnan(low)


def test_the_command_judges_a_table_and_refuses_one_of_another_brain(tmp_path, capsys):
    stack, mesh = annotated_brain(tmp_path / "brain")
    values = np.random.default_rng(0).standard_normal((132, 3)).astype(np.float32)
    table = FeatureTable(name="cyto", values=values, mask=np.ones(132, bool), columns=("a", "b", "c"))
    save_table(table, tmp_path / "cyto")
    words = [f"stacks={stack}", f"reconstructions={mesh}", f"tables={tmp_path / 'cyto'}", "shares=0.5,1", "seeds=0",
             "data.size_px=32", "vote_mm=0.1"]  # fmt: skip
    arguments = [part for word in words for part in ("--set", word)] + ["--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    judging = read_json(tmp_path / "out" / "metrics.json")["judging"]
    assert {row["method"] for row in judging["curves"]} == {"table", "profiles", "pca", "untrained"}
    assert sum(next(iter(judging["nodes"].values())).values()) == 132
    assert "Feature space: table" in (tmp_path / "out" / "report.html").read_text()
    save_table(FeatureTable(name="cyto", values=values[:9], mask=np.ones(9, bool), columns=("a", "b", "c")),
               tmp_path / "cyto")  # fmt: skip
    assert main(arguments) == 2
    assert "9 rows for the 132 nodes" in capsys.readouterr().err
