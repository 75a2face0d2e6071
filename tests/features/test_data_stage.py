"""The data stage: the same batches whatever the number of threads; what it says of itself; items that are lost."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from features.ahead import ahead
from features.augment import PatchAugment
from features.data_stage import DataStage, told
from features.objectives.nt_xent import NTXent
from features.pretrain import PretrainConfig, pretrain
from meshgnn.errors import InputError, SettingError
from meshgnn.store import read_json
from tests.features.test_pretraining import SMALL, annotated


@pytest.mark.parametrize("workers", [1, 3])
def test_what_is_made_ahead_comes_in_turn_and_in_bounds(workers):
    made = []

    def make(k):
        time.sleep(0.004 if k % 2 else 0)
        made.append(k)
        return k

    stream = ahead(make, range(30), workers=workers, waiting=2)
    assert next(stream) == 0
    time.sleep(0.05)
    assert len(made) <= workers + 3
    assert list(stream) == list(range(1, 30))

    def fails(k):
        if k == 2:
            raise InputError("no")
        return k

    stream = ahead(fails, range(9), workers=workers)
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(InputError, match="no"):
        next(stream)
    before = threading.active_count()
    stream = ahead(make, range(1000), workers=workers)
    next(stream)
    stream.close()
    time.sleep(0.05)
    assert threading.active_count() <= before


def test_the_stage_tells_who_waits_for_whom():
    fast, slow = DataStage(DataStage.Config(workers=2)), DataStage()
    for _ in fast.batches(lambda k: k, range(12)):
        time.sleep(0.005)
    for _ in slow.batches(lambda k: time.sleep(0.01), range(12)):
        pass
    assert fast.report()["bound"] == "compute-bound"
    assert slow.report()["bound"] == "data-bound"
    assert fast.report()["queue_depth"] > 1 > slow.report()["queue_depth"]
    assert slow.report()["idle_share"] > 0.8 > fast.report()["idle_share"]
    assert told(slow.report()).startswith("data-bound: 0 MB/s read")
    with pytest.raises(SettingError, match="workers"):
        DataStage.Config(workers=0)


def test_items_that_cannot_be_read_are_counted_and_a_batch_of_nothing_else_is_refused():
    stage = DataStage()
    items, good = stage.read(lambda k: (k.astype(np.float32), k != 1), np.arange(5))
    assert (items.tolist(), good.tolist()) == ([0, 1, 2, 3, 4], [True, False, True, True, True])
    assert stage.report()["items_unreadable"] == 1
    with pytest.raises(InputError, match="no item of a whole batch"):
        stage.read(lambda k: (k.astype(np.float32), k < 0), np.arange(5))


def test_weights_do_not_depend_on_workers_or_on_where_items_are_changed(tmp_path):
    weights, brain = set(), annotated(tmp_path / "a")
    for number, (workers, where) in enumerate([(1, "device"), (3, "device"), (2, "workers")]):
        config: PretrainConfig = replace(SMALL, stage=DataStage.Config(workers=workers, where=where), memory_mb=0)
        out = tmp_path / str(number)
        weights.add(pretrain(config, [brain], out).identity()["weights"])
        report = read_json(out / "stage.json")
        assert report["read_mb_per_s"] > 0
        assert report["ms_per_augmentation"] > 0
    for number, where in enumerate(("device", "workers")):
        twice = replace(SMALL, stage=DataStage.Config(where=where), objective=NTXent.Config(), micro=3)
        weights.add(pretrain(twice, [brain], tmp_path / f"micro{number}").identity()["weights"])
    assert len(weights) == 2  # those of one batch, and those of micro-batches of two views


def test_more_changes_leave_the_draws_of_the_others_as_they_are():
    plain = PatchAugment.Config()
    more = PatchAugment.Config(thickness=0.2, elastic_px=2, blur_px=3)
    one, two = (config.build().draws(3, 5, 6, 1) for config in (plain, more))
    for name, values in one.items():
        np.testing.assert_array_equal(two[name], values)
    assert set(two) - set(one) == {"thickness", "elastic", "blur_px"}


EVERYTHING = PatchAugment.Config(rotation_deg=180, thickness=0.2, elastic_px=3, blur_px=2)


@pytest.mark.parametrize("size", [4, 47, 200])
@pytest.mark.parametrize("config", [PatchAugment.Config(), EVERYTHING, PatchAugment.Config(blur=0, blur_px=0.2)])
def test_compiled_changes_are_those_of_torch(config, size):
    augment = config.build()
    patches = torch.rand(6, size, size, generator=torch.manual_seed(0)) * 3
    compiled = augment(patches, seed=1, step=2, places=slice(None), batch=6)
    draw = {name: torch.from_numpy(values).double() for name, values in augment.draws(1, 2, 6).items()}
    exact = augment._by_torch(patches.double(), draw)
    # Places are numbers of single precision: 2e-5 px off where a patch has 200 px, as torch's own are.
    assert float((compiled - exact).abs().max()) < 1e-4
    assert float((compiled - patches).abs().mean()) > 0.01


def test_changes_do_not_depend_on_threads_or_on_what_stands_beside(monkeypatch):
    augment = EVERYTHING.build()
    patches = torch.rand(5, 40, 40, generator=torch.manual_seed(0))
    together = augment(patches, seed=1, step=2, places=slice(None), batch=5)
    monkeypatch.setattr("features.augment._SHARED", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(augment(patches, seed=1, step=2, places=slice(None), batch=5), together)
    finally:
        torch.set_num_threads(before)
    part = augment(patches[1::2], seed=1, step=2, places=slice(1, None, 2), batch=5)
    assert torch.equal(part, together[1::2])


def test_values_of_any_size_are_changed():
    augment = PatchAugment.Config(gamma=0.3).build()
    for value in (0.0, 1e-30, 1e30):
        changed = augment(torch.full((20, 8, 8), value), seed=0, step=0, places=slice(None), batch=20)
        assert torch.isfinite(changed).all()
        assert (changed >= 0).all()


def quiet(**more):
    names = ("rotation_deg", "scale", "shift", "stain", "gamma", "gradient", "blur")
    return PatchAugment.Config(**{**dict.fromkeys(names, 0.0), "flip": False, **more}).build()


def test_each_new_change_does_what_it_says():
    rows = torch.linspace(0.2, 0.8, 65)[:, None].expand(65, 65)
    settings = {"seed": 0, "step": 0, "places": slice(None), "batch": 1}
    stretched = quiet(thickness=0.3)(rows[None], **settings)[0]
    factor = float(quiet(thickness=0.3).draws(0, 0, 1)["thickness"][0])
    slope = (stretched[33, 30] - stretched[31, 30]) / (rows[33, 30] - rows[31, 30])
    assert float(slope) == pytest.approx(factor, rel=1e-3)
    assert torch.allclose(stretched[:, 5], stretched[:, 60], atol=1e-5)  # along the cortex nothing moves
    point = torch.full((1, 65, 65), 1e-3)
    point[0, 32, 32] = 1.0
    blurred = quiet(blur_px=4)(point, **settings)[0].double() - 1e-3
    sd = float(quiet(blur_px=4).draws(0, 0, 1)["blur_px"][0])
    along = (torch.arange(65) - 32.0) ** 2
    assert float(blurred.sum()) == pytest.approx(0.999, rel=1e-2)
    assert float((blurred.sum(1) * along).sum() / blurred.sum()) == pytest.approx(sd**2, rel=0.06)
    bent = quiet(elastic_px=3)(rows[None], **settings)[0]
    moved = (bent - rows)[10:-10, 10:-10] / (rows[1, 0] - rows[0, 0])
    bound = 3 * 2.5 * 1.6
    assert 0.3 < float(moved.abs().max()) < bound
    with pytest.raises(SettingError, match="thickness"):
        PatchAugment.Config(thickness=1.0)
