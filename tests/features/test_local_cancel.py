"""A filling by local models is ended in any of its parts, and the next one goes on from what it kept."""

import multiprocessing
import time
from dataclasses import replace

import pytest

from features.local_models.engine import LocalModels
from features.local_models.hints import GraphHints
from features.local_models.settings import DONE
from meshgnn.mapping.config import MappingServer
from meshgnn.mapping.engines.graph import GraphEngine
from meshgnn.mapping.pixel_filling import PixelFilling
from meshgnn.progress import Stopped, silent
from tests.features.test_local_models import TINY, banded_ball, write_discs
from tests.meshgnn.mapping.serving import Served
from tests.meshgnn.mapping.test_jobs import ended, fill

BOUND_S = 5.0
"""From a cancel to its end. The page ends the process after 10 s; what is ended by itself leaves nothing half done."""


class Cancel:
    """A progress that cancels at a step, `stopped` for the engine, and how long it went on afterwards."""

    def __init__(self, step: str, done: int = 0, after_s: float = 0.0) -> None:
        self.step, self.done, self.after_s = step, done, after_s
        self.asked = 0.0
        self.seen: list[tuple[str, int, int]] = []

    def __call__(self, step, done, total, figures=None, /) -> None:
        self.seen.append((step, done, total))
        if step == self.step and done >= self.done and not self.asked:
            self.asked = time.monotonic() + self.after_s

    def stopped(self) -> bool:
        return 0 < self.asked <= time.monotonic()


def test_a_cancel_before_the_hints_ends_and_the_next_filling_goes_on(tmp_path):
    situation = banded_ball(tmp_path)
    config = LocalModels.Config(
        model=replace(TINY, steps=2, fine_um=100.0), workers=1, graph=GraphEngine.Config(judge=False)
    )
    cancel, place = Cancel("sections", 3), tmp_path / "state" / "rounds" / "0001" / "local"
    with pytest.raises(Stopped):
        config.build().fill(situation, place, cancel, cancel.stopped)
    assert time.monotonic() - cancel.asked < BOUND_S
    assert "jobs" not in {step for step, _, _ in cancel.seen}
    assert not (place / "filling.json").exists()
    assert not list((tmp_path / "state" / "kept").rglob("job.json"))
    sections = {path: path.stat().st_mtime_ns for path in (tmp_path / "state" / "kept").rglob("sections/*")}
    assert len(sections) == 3
    found = config.build().fill(situation, place, silent, lambda: False)
    assert found.sections == (1,)
    assert {path: path.stat().st_mtime_ns for path in sections} == sections  # read once


def test_a_cancel_while_the_graph_judges_itself_is_heard_by_the_hints(tmp_path):
    situation = banded_ball(tmp_path)
    cancel = Cancel("hidden sections")
    with pytest.raises(Stopped):
        GraphHints(GraphEngine.Config().build(), situation, tmp_path / "kept", 100.0, cancel, cancel.stopped)
    assert time.monotonic() - cancel.asked < BOUND_S


def test_a_cancel_within_a_training_ends_its_process_and_the_next_filling_trains_the_rest(tmp_path):
    situation = write_discs(tmp_path / "stack", drawn=(0, 2, 5))
    engine = LocalModels.Config(model=replace(TINY, steps=300), workers=1).build()
    cancel, place = Cancel("local models", 1, after_s=0.4), tmp_path / "state" / "rounds" / "0001" / "local"
    with pytest.raises(Stopped):
        engine.fill(situation, place, cancel, cancel.stopped)
    assert time.monotonic() - cancel.asked < BOUND_S
    assert not [one for one in multiprocessing.active_children() if one.is_alive()]
    models = tmp_path / "state" / "kept" / "local-models" / "models"
    done = {path: path.stat().st_mtime_ns for path in models.glob(f"*/{DONE}")}
    assert len(done) == 1
    assert len(list(models.iterdir())) == 2
    again = engine.fill(situation, place, silent, lambda: False)
    assert (again.figures["models"], again.figures["trained_now"], again.figures["failed"]) == (2, 1, [])
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert again.sections == PixelFilling(place).sections == (1, 3, 4)


def test_the_server_runs_local_models_and_cancels_them(tmp_path):
    write_discs(tmp_path / "s", drawn=(0, 2, 5))
    config = MappingServer.Config(engines=(LocalModels.Config(model=replace(TINY, steps=300), workers=1),))
    with Served(tmp_path / "s", config=config) as server:
        job = fill(server, "local")
        until = time.monotonic() + 60
        while (now := server.owner.get(f"/api/jobs/{job['id']}").json())["done"] != 1 or now["step"] != "local models":
            assert now["state"] in ("waiting", "running"), now
            assert time.monotonic() < until
            time.sleep(0.05)
        server.owner.delete(f"/api/jobs/{job['id']}")
        asked = time.monotonic()
        assert ended(server, job["id"])["state"] == "stopped"
        assert time.monotonic() - asked < BOUND_S
        assert server.owner.get("/api/rounds").json() == []
        assert fill(server, "local")["id"] == job["id"]
        until = time.monotonic() + 60
        while ended(server, job["id"], states=("waiting", "running", "done", "failed", "stopped"))["state"] != "done":
            assert time.monotonic() < until
            time.sleep(0.1)
        (one,) = server.owner.get("/api/rounds").json()
        assert (one["figures"]["models"], one["figures"]["trained_now"]) == (2, 1)
