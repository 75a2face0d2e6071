"""Effects over resampled people, from the predictions that a study stores."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, r2_score

from meshgnn.errors import InputError
from meshgnn.networks.effects import domain_effects, mixed_model, refitted
from meshgnn.networks.models import Model, Models
from meshgnn.networks.people import prediction_files, stored_people
from tests.meshgnn.networks.test_effects import drawn

SETS = ((), ("t1",), ("dwi",), ("t1", "dwi"))


def study(folder, *, people=200, family=1, targets=("a", "b")):
    """A table of models and their stored predictions: t1 leaves a smaller error, dwi changes nothing."""
    rng, rows = np.random.default_rng(0), []
    for target in targets:
        true = np.repeat(rng.standard_normal(people), family)
        shared = np.repeat(rng.standard_normal(people), family)  # models of a target err alike
        for inputs in SETS:
            name = f"{target}_{'-'.join(inputs)}"
            said = true + (0.5 if "t1" in inputs else 0.8) * shared
            said = said + 0.05 * np.repeat(rng.standard_normal(people), family)
            lines = [f"participant_id\tfamily_id\tdivision\t{target}\t{target}_predicted"]
            lines += [f"sub-{k}\tf{k // family}\t1\t{true[k]:.9g}\t{said[k]:.9g}" for k in range(people * family)]
            place = folder / "models" / name / "predictions"
            place.mkdir(parents=True)
            (place / "subjects.tsv").write_text("\n".join([*lines, "sub-x\tn/a\tn/a\t0.1\tn/a"]) + "\n")
            rows.append(Model(name=name, target=target, inputs=inputs, score_name="r2", score=r2_score(true, said)))
    return Models(rows=tuple(rows), source=str(folder / "models.tsv"))


def by_input(models, people):
    return {one.input: one for one in domain_effects(models, {}, people=people)[0]}


def test_planted_effects_over_people(tmp_path):
    models = study(tmp_path)
    found = by_input(models, stored_people(models))
    t1, dwi = found["t1"], found["dwi"]
    assert t1.people == "200 people, 1000 draws"
    assert 0 < t1.people_low < 0.8**2 - 0.5**2 < t1.people_high
    assert t1.people_low < t1.estimate < t1.people_high
    assert dwi.people_low < 0.0 < dwi.people_high
    assert dwi.people_high - dwi.people_low < 0.1 * (t1.people_high - t1.people_low)  # pairs: the same people in all
    assert by_input(models, stored_people(models))["t1"] == t1


def test_whole_families_are_drawn(tmp_path):
    models = study(tmp_path, people=60, family=4)
    whole = stored_people(models)
    assert len(np.unique(whole.family)) == 60
    alone = replace(whole, family=np.arange(len(whole.family)))
    wide, narrow = (by_input(models, one)["t1"] for one in (whole, alone))
    ratio = (wide.people_high - wide.people_low) / (narrow.people_high - narrow.people_low)
    assert 1.6 < ratio < 2.5  # four of a kind count as one: twice as wide


@pytest.mark.parametrize("score", ["r2", "balanced_accuracy"])
def test_scores_of_a_draw_are_those_of_its_people(tmp_path, score):
    rng = np.random.default_rng(1)
    classes = score == "balanced_accuracy"
    true, said = (rng.integers(0, 3, 30) if classes else rng.standard_normal(30) for _ in range(2))
    division = np.arange(30) % 2
    lines = ["participant_id\tdivision\ta\ta_predicted"]
    lines += [f"sub-{k}\t{division[k]}\t{true[k]!s}\t{said[k]!s}" for k in range(30)]
    place = tmp_path / "models/m/predictions"
    place.mkdir(parents=True)
    (place / "subjects.tsv").write_text("\n".join(lines) + "\n")
    model = Model(name="m", target="a", inputs=(), score_name=score, score=0.5)
    (judged,) = stored_people(Models(rows=(model,), source=str(tmp_path / "models.tsv"))).judged.values()
    taken = rng.integers(0, 30, (20, 30))
    counts = np.stack([np.bincount(one, minlength=30) for one in taken]).astype(float)
    wanted = []
    for one in taken:
        parts = [one[division[one] == k] for k in (0, 1)]
        measure = balanced_accuracy_score if classes else r2_score
        wanted.append(np.average([measure(true[part], said[part]) for part in parts], weights=list(map(len, parts))))
    np.testing.assert_allclose(judged.scores(counts), wanted, atol=1e-9)
    nobody_else = np.zeros((1, 30))
    nobody_else[0, 3] = 30
    assert np.isnan(judged.scores(nobody_else)).all()


def test_a_refit_to_the_same_scores_is_the_fit():
    y, x, group = drawn(np.random.default_rng(0))
    keep = np.random.default_rng(1).random(len(y)) < 0.8  # not balanced
    y, x, group = y[keep], x[keep], group[keep]
    fit = mixed_model(y, x, group)
    np.testing.assert_allclose(refitted(y[:, None], x, group, fit)[:, 0], fit.estimates, atol=1e-6)


def test_what_is_not_stored_is_said(tmp_path):
    models = study(tmp_path)
    assert by_input(models, None)["t1"].people == "no predictions stored"
    elsewhere = replace(models, source=str(tmp_path / "other/models.tsv"))
    assert prediction_files(elsewhere) == {}
    found = by_input(elsewhere, stored_people(elsewhere))["t1"]
    assert (found.people_low, found.people_high, found.people) == (None, None, "no predictions stored")
    (tmp_path / "models/a_t1/predictions/subjects.tsv").unlink()
    assert by_input(models, stored_people(models))["t1"].people == "predictions of 7 of 8 models stored"
    few = study(tmp_path / "few", people=5)
    assert by_input(few, stored_people(few))["t1"].people == "5 families or people, 10 are needed"
    odd = replace(models, rows=(replace(models.rows[0], name="x" * 5000), replace(models.rows[0], name="../models/a_")))
    assert prediction_files(odd) == {}


def test_scores_that_differ_from_the_table_are_told(tmp_path):
    models = study(tmp_path)
    models = replace(models, rows=(replace(models.rows[0], score=models.rows[0].score + 0.02), *models.rows[1:]))
    assert by_input(models, stored_people(models))["t1"].people.endswith("stored predictions differ by up to 0.020")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace("a_predicted", "b_predicted"), "column 'a_predicted' is missing"),
        (lambda text: text.replace("sub-1\t", "sub-0\t"), "1 participants stand twice"),
        (lambda text: text.replace("\t1\t", "\t1\tnan?", 1), "line 2: .* are not two finite numbers"),
        (lambda text: "", "the table is empty"),
    ],
)
def test_damaged_predictions_are_one_line(tmp_path, change, told):
    models = study(tmp_path, people=12)
    path = tmp_path / "models/a_/predictions/subjects.tsv"
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=told):
        stored_people(models)
