"""The graph network fills in, goes on when it was killed or ended, and says where it could not be trained."""

import time

import pytest

from meshgnn.mapping.engines.network import NetworkEngine
from meshgnn.progress import Stopped, silent
from tests.meshgnn.mapping.ball import drawings, located, situation, stack_of
from tests.meshgnn.mapping.test_graph_engine import ALL, right


@pytest.fixture(scope="module")
def ball():
    stack = stack_of()
    return stack, *located(stack)


@pytest.mark.slow
def test_a_graph_network_stands_in_for_the_discriminant_and_goes_on_when_killed(ball, tmp_path):
    stack, one, labels = ball
    seen = situation(drawings(stack, one, labels, ALL), stack, one, tmp_path)
    engine = NetworkEngine.Config(hidden=8, layers=1, epochs=20, workers=1).build()

    class Killed(Exception):
        pass

    def kill(step, done, total, figures=None):
        if step == "judging":
            raise Killed

    place = tmp_path / "rounds" / "0001" / "network"
    with pytest.raises(Killed):
        engine.fill(seen, place, kill, lambda: False)
    members = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("member.safetensors")}
    assert len(members) == 2 * 4  # the map, and three sets of hidden sections
    found = engine.fill(seen, place, silent, lambda: False)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").rglob("member.safetensors")} == members
    assert found.engine == "network"
    assert right(found, labels) > 0.9


@pytest.mark.parametrize(
    ("drawn", "words"),
    [((10, 13, 16), "No network was trained: it learns from 4 drawn sections or more that the mesh knows, and there "
                    "are 3. This map is the one that the graph makes."),
     ((10, 12, 16, 19), "trials had too few left to train a network on")],
)  # fmt: skip
def test_a_network_says_where_it_was_not_trained(ball, tmp_path, drawn, words):
    stack, one, labels = ball
    seen = situation(drawings(stack, one, labels, drawn), stack, one, tmp_path)
    engine = NetworkEngine.Config(hidden=4, layers=1, epochs=2, workers=1).build()
    found = engine.fill(seen, tmp_path / "rounds" / "0001" / "network", silent, lambda: False)
    assert words in found.figures["words"][0]
    assert (tmp_path / "kept" / "networks").is_dir() == (len(drawn) > 3)
    more = situation(drawings(stack, one, labels, ALL), stack, one, tmp_path)
    found = engine.fill(more, tmp_path / "rounds" / "0002" / "network", silent, lambda: False)
    assert "network" not in found.figures["words"][0]


def test_a_cancel_within_the_training_of_a_network_ends_it_and_the_next_goes_on(ball, tmp_path):
    stack, one, labels = ball
    seen = situation(drawings(stack, one, labels, (10, 13, 16, 19)), stack, one, tmp_path)
    engine = NetworkEngine.Config(hidden=8, layers=1, epochs=4000, workers=1, judge=False).build()
    asked: list[float] = []

    def cancel(step, done, total, figures=None):
        if step == "networks" and done >= 20 and not asked:
            asked.append(time.monotonic())

    with pytest.raises(Stopped):
        engine.fill(seen, tmp_path / "rounds" / "0001" / "network", cancel, lambda: bool(asked))
    assert time.monotonic() - asked[0] < 5
    (checkpoint,) = (tmp_path / "kept" / "networks").rglob("last-*.safetensors")
    [folder] = (tmp_path / "kept" / "networks").iterdir()
    assert not list(folder.rglob("member.safetensors"))
    told: list[int] = []
    asked.clear()
    with pytest.raises(Stopped):
        engine.fill(
            seen, tmp_path / "rounds" / "0001" / "network",
            lambda step, done, *_: told.append(done) or asked.append(0) if step == "networks" else None,
            lambda: bool(asked),
        )  # fmt: skip
    assert told[0] > 20  # from its checkpoint
    assert checkpoint.is_file()
