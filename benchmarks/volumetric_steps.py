"""Speed of training steps of volume networks, measured in one run.

step      seconds of a training step through `train_member` (batches drawn and read, losses of targets, checkpoints
          between epochs apart) against a bare torch loop on the same tensors: forward, loss, backward, clipping, AdamW
pipeline  seconds of a step of four pieces on four ranks, with eight micro-batches against one, which is model
          parallelism; beside it what the bubble alone would give, (p - 1) / (m + p - 1), if every rank had a core or a
          GPU of its own

Rounds of both sides take turns; figures are medians; ratio > 1 means that we are slower than the peer. Seconds of the
processor (all threads) stand beside those of the clock, which other programs on the machine disturb.

    python benchmarks/volumetric_steps.py [--quick] [--json FILE]
"""

import argparse
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import distributed, multiprocessing  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from benchmarks._pairs import keep, show  # noqa: E402
from features.encoders.naive_cnn import NaiveCNN  # noqa: E402
from features.encoders.resnet3d import ResNet3D  # noqa: E402
from features.fusion.multi_input_net import InputBlock, MultiInputNet  # noqa: E402
from features.fusion.trait_head import TraitHead  # noqa: E402
from features.parallel.batches import Share  # noqa: E402
from features.parallel.cuts import bubble  # noqa: E402
from features.parallel.ranks import joined  # noqa: E402
from features.parallel.settings import Parallel  # noqa: E402
from features.parallel.training import Recipe, engine_of  # noqa: E402
from features.samplers.epochs import EpochBatches  # noqa: E402
from features.traits import training  # noqa: E402
from features.traits.items import TraitItems  # noqa: E402
from features.transfer.optimiser import Optimiser  # noqa: E402
from features.transfer.schedule import TransferSchedule  # noqa: E402
from meshgnn.train.loss import Loss  # noqa: E402
from meshgnn.train.target_costs import TargetCosts  # noqa: E402

ENCODERS = {
    "ResNet-18 3D": ResNet3D.Config(depth=18),
    "Naive-CNN": NaiveCNN.Config(kernels=(5, 5, 5, 3)),
}
PIECES, MICRO = 4, 8


def network_of(encoder: Any) -> MultiInputNet.Config:
    return MultiInputNet.Config(blocks=(InputBlock(name="t1", encoder=encoder),), head=TraitHead.Config(widths=()))


class Volumes:
    """Volumes [G, 1, S, S, S] in memory, as the items of subjects."""

    def __init__(self, values: Any) -> None:
        self.values, self.shape = values, values.shape[1:]
        self.observed, self.groups = np.ones(len(values), bool), np.arange(len(values), dtype=np.int32)

    def read(self, subjects: Any) -> Any:
        return self.values[subjects]

    def key(self) -> str:
        return str(self.values.shape)


def step_rows(size: int, batch: int, steps: int, rounds: int) -> list[dict[str, Any]]:
    rows = []
    rng = np.random.default_rng(0)
    subjects = batch * steps + 2
    volumes = rng.standard_normal((subjects, 1, size, size, size)).astype(np.float32)
    values = rng.standard_normal((subjects, 1))
    train = np.arange(subjects) < batch * steps
    for name, encoder in ENCODERS.items():
        member = training.TraitMember(
            network=network_of(encoder), items=TraitItems({"t1": Volumes(volumes)}), values=values, classes=(0,),
            train=train, validation=~train, seed=0,
        )  # fmt: skip
        trainer = training.TraitTrainer(epochs=1, patience=1, sampler=EpochBatches.Config(size=batch))
        ours: list[list[float]] = []
        bare: list[list[float]] = []
        for _ in range(rounds):
            ours += through_trainer(member, trainer)
            bare += bare_loop(member, trainer, steps)
        mine, peer = (np.median(found, 0).tolist() for found in (ours, bare))
        rows.append({
            "name": "step", "network": name, "size": size, "batch": batch, "ours_s": round(mine[0], 4),
            "bare_s": round(peer[0], 4), "ratio": round(mine[0] / peer[0], 3), "ours_cpu_s": round(mine[1], 4),
            "bare_cpu_s": round(peer[1], 4), "cpu_ratio": round(mine[1] / peer[1], 3), "steps": len(ours),
        })  # fmt: skip
    return rows


def through_trainer(member: training.TraitMember, trainer: training.TraitTrainer) -> list[list[float]]:
    """Seconds of clock and processor from one step to the next, without the first, in one epoch."""
    began: list[tuple[float, float]] = []
    step = training._Module.training_step

    def timed(self: Any, *given: Any) -> Any:
        began.append((time.perf_counter(), time.process_time()))
        return step(self, *given)

    training._Module.training_step = timed  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            training.train_member(member, trainer, Path(folder))
    finally:
        training._Module.training_step = step  # type: ignore[method-assign]
    return np.diff(began, axis=0)[1:].tolist()


def bare_loop(member: training.TraitMember, trainer: training.TraitTrainer, steps: int) -> list[list[float]]:
    """Seconds, of the clock and of the processor, of the steps of a plain loop, without the first."""
    network = member.network.build(member.items.shapes, member.classes).train()
    encoder, head = network.encoders[0], network.head
    moved = [*encoder.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(moved, trainer.optimiser.learning_rate, weight_decay=trainer.optimiser.weight_decay)
    batch = trainer.sampler.size
    volumes = torch.from_numpy(member.items.data["t1"].read(np.arange(batch)))
    values = torch.from_numpy(member.values[:batch].astype(np.float32))
    began: list[tuple[float, float]] = []
    for _ in range(steps):
        began.append((time.perf_counter(), time.process_time()))
        optimiser.zero_grad()
        loss = F.mse_loss(head(encoder(volumes)), values)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(moved, trainer.clip)
        optimiser.step()
        float(loss.detach())
    return np.diff(began, axis=0)[1:].tolist()


def piece_of_step(rank: int, port: int, size: int, runs: int, out: str) -> None:
    """Seconds of steps of four pieces, with one micro-batch and with eight."""
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank), "WORLD_SIZE": str(PIECES), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(PIECES),
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    ranks, taken = joined(), {}
    recipe = Recipe(epochs=1, patience=1, optimiser=Optimiser.Config(), schedule=TransferSchedule.Config())
    for mode in ("model", "pipeline"):
        torch.manual_seed(0)
        network = network_of(ENCODERS["ResNet-18 3D"]).build({"t1": (1, size, size, size)}, (0,))
        costs = TargetCosts(torch.randn(MICRO, 1), (0,), Loss())
        settings = Parallel(mode=mode, micro_batches=MICRO, cut="time", batch_norm="frozen")
        engine = engine_of(network, costs, settings, ranks, recipe)
        network.train()
        engine.begin()
        there = torch.ones(MICRO, 1, dtype=torch.bool)
        share = Share(
            step=0, size=MICRO, items={"t1": torch.randn(MICRO, 1, size, size, size)}, present=there,
            values=torch.randn(MICRO, 1), joint=there[0], counts=(MICRO,),
        )  # fmt: skip
        times = []
        for _ in range(runs + 1):
            distributed.barrier()
            start = time.perf_counter()
            engine.backward(share, 1.0, False)
            distributed.barrier()
            times.append(time.perf_counter() - start)
        taken[mode] = statistics.median(times[1:])
    if rank == 0:
        Path(out).write_text(json.dumps(taken))
    distributed.destroy_process_group()


def pipeline_row(size: int, runs: int) -> dict[str, Any]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = int(found.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "seconds.json")
        multiprocessing.spawn(piece_of_step, (port, size, runs, out), nprocs=PIECES)
        taken = json.loads(Path(out).read_text())
    waits = {m: bubble(PIECES, m) for m in (1, MICRO)}
    return {
        "name": "pipeline", "pieces": PIECES, "micro_batches": MICRO, "size": size,
        "cores": len(os.sched_getaffinity(0)), "bubble": round(waits[MICRO], 3), "bubble_of_model": waits[1],
        "computed_ratio": round((1 - waits[1]) / (1 - waits[MICRO]), 3), "pipeline_s": round(taken["pipeline"], 4),
        "model_s": round(taken["model"], 4), "ratio": round(taken["pipeline"] / taken["model"], 3),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps, and a pipeline on small volumes")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    rows = [pipeline_row(*((24, 3) if options.quick else (48, 5)))]
    show(rows[0])
    for found in step_rows(64, 2, *((4, 2) if options.quick else (8, 5))):
        rows.append(found)
        show(found)
    keep(rows, options.json)


if __name__ == "__main__":
    main()
