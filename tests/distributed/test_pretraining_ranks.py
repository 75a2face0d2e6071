"""Ranks of a pretraining: caching and batch norms over them, other data, and a rank that dies."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

from features import pretrain as pretraining
from features.encoders.narrow_resnet import NarrowResNet
from features.model_files import load_encoder
from features.node_sets import NodeSet, node_set
from features.objectives.nt_xent import NTXent
from features.samplers.uniform import UniformBatches
from features.section_brain import read_annotated_brain
from meshgnn.errors import InputError
from meshgnn.source.sections import read_stack
from tests.distributed.test_contrastive import free_port, losses
from tests.features.sections import annotated_brain
from tests.features.test_pretraining import SMALL

RECIPE = replace(
    SMALL,
    precision="double",
    objective=NTXent.Config(projection=8),
    sampler=UniformBatches.Config(size=22),
    device="cpu",
)
CASES = {
    "cached": replace(RECIPE, micro=4),
    "norms": replace(RECIPE, encoder=NarrowResNet.Config()),
}


def read(folder: Path) -> NodeSet:
    (stack,), (reconstruction,) = (list(folder.rglob(name)) for name in ("sections.csv", "*_desc-sections.tsv"))
    brain = read_annotated_brain(read_stack(stack.parent), reconstruction.parent)
    return node_set(brain, RECIPE.data.build(brain))


def on_ranks(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "LOCAL_RANK": str(rank),
        "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
    }  # fmt: skip
    place = Path(folder)
    source = read(place / "brain")
    for name, config in CASES.items():
        pretraining.pretrain(config, [source], place / f"{name}2")
    other = replace(source, held=np.arange(len(source.labels)) < 9 * rank)
    try:
        pretraining.pretrain(RECIPE, [other], place / "other")
    except InputError as error:
        (place / f"told{rank}").write_text(str(error))
    distributed.destroy_process_group()


def test_two_ranks_cache_and_normalise_as_one(tmp_path: Path):
    annotated_brain(tmp_path / "brain")
    multiprocessing.spawn(on_ranks, (free_port(), str(tmp_path)), nprocs=2)
    source = read(tmp_path / "brain")
    for name, config in CASES.items():
        pretraining.pretrain(config, [source], tmp_path / f"{name}1")
        one, two = (losses(tmp_path / f"{name}{ranks}") for ranks in (1, 2))
        np.testing.assert_allclose(two, one, rtol=1e-7)
        one, two = (load_encoder(tmp_path / f"{name}{ranks}").state_dict() for ranks in (1, 2))
        for key, value in one.items():
            torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-6)
    for rank in range(2):
        assert "rank 1 has other data or settings than rank 0" in (tmp_path / f"told{rank}").read_text()


@pytest.mark.slow
def test_a_rank_that_dies_ends_the_job_and_the_next_start_goes_on(tmp_path: Path):
    stack, reconstruction = annotated_brain(tmp_path / "a")
    sets = [
        f"stacks={stack}", f"reconstructions={reconstruction}", "epochs=3", "epoch_steps=400", "threads=1",
        "patches.size_px=16", "encoder.widths=8,16", "encoder.depth_bands=2", "held_out=0", "checkpoint_steps=5",
    ]  # fmt: skip
    words = [word for one in sets for word in ("--set", one)]

    def ranks(out: str) -> list[subprocess.Popen]:
        shared = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        command = [sys.executable, "-m", "features.pretrain", *words, "--out", str(tmp_path / out)]
        return [
            subprocess.Popen(
                command, stderr=subprocess.PIPE, text=True, env={**shared, "RANK": str(k), "LOCAL_RANK": str(k)}
            )
            for k in range(2)
        ]

    running = ranks("cut")
    while not list((tmp_path / "cut").glob("checkpoints/last-*")):
        assert running[0].poll() is None
        time.sleep(0.01)
    running[1].send_signal(signal.SIGKILL)
    _, told = running[0].communicate(timeout=60)
    assert running[0].returncode == 1
    assert re.search("^error: another rank ended or does not answer .*; the same command goes on$", told, re.M), told
    assert "Traceback" not in told
    running = ranks("cut")
    time.sleep(15)
    for one in running:
        one.send_signal(signal.SIGUSR1)
    assert {one.wait(60) for one in running} <= {75, 0}
    for out in ("cut", "whole"):
        assert [one.wait(120) for one in ranks(out)] == [0, 0]
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
