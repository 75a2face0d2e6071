"""Pretraining on several ranks, with cached gradients, and under kills, each measured against its limit.

two_ranks        patches per second of two gloo ranks with one thread each against one rank with one thread, the same
                 joint batch; and how far the loss curves of both lie apart (double precision)
gradient_cache   gradient of a batch of 1024 by micro-batches of 32 against that of the whole batch; memory that a step
                 takes beyond what lies there before, against a batch of 32 and the embeddings of 1024
kills            kill -9 at a random moment, the same command again, until the run is done; loss curve and weights
                 against those of a run that was let alone

    python benchmarks/pretraining.py [--quick] [--only NAME] [--json FILE]
"""

import argparse
import csv
import json
import os
import random
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np  # noqa: E402
import torch  # noqa: E402

from benchmarks._pairs import keep, row, show  # noqa: E402
from features.encoders.section_cnn import SectionCNN  # noqa: E402
from features.model_files import load_encoder, new_encoder  # noqa: E402
from features.node_data.section_patches import SectionPatches  # noqa: E402
from features.node_sets import NodeSet  # noqa: E402
from features.objectives.contrastive import SupervisedContrastive  # noqa: E402
from features.objectives.rows import Rows  # noqa: E402
from features.pretrain import PretrainConfig, pretrain  # noqa: E402
from features.samplers.balanced import BalancedBatches  # noqa: E402
from features.training import PretrainModule  # noqa: E402
from meshgnn.ranks import adopt_launcher  # noqa: E402

CLASSES, SIDE = 33, 48
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
# Freed memory goes back at once, so that a peak is what was needed and not what was kept for later. That is slow.
FRUGAL = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


class Ready:
    """Items that lie in memory; a `meshgnn.sockets.NodeData`."""

    def __init__(self, count: int, side: int) -> None:
        rng = np.random.default_rng(0)
        self.labels = (np.arange(count) % CLASSES).astype(np.int32)
        self.items = rng.uniform(0, 2, (count, side, side)).astype(np.float32)
        self.items += self.labels[:, None, None] / CLASSES
        self.observed, self.groups = np.ones(count, bool), (np.arange(count) % 12).astype(np.int32)
        self.shape = (side, side)

    def read(self, rows: Any) -> np.ndarray:
        return self.items[rows]

    def key(self) -> str:
        return f"ready {self.items.shape}"


def source(count: int, side: int) -> NodeSet:
    data = Ready(count, side)
    return NodeSet(brain="ready", data=data, labels=data.labels, names=tuple(f"area {k}" for k in range(CLASSES)))


def worker_steps(out: Path, steps: int) -> None:
    """Times of steps, rank 0 writes them."""
    adopt_launcher(os.environ)
    times: list[float] = []
    real = PretrainModule.on_before_zero_grad

    def tick(self: PretrainModule, optimizer: Any) -> None:
        times.append(time.perf_counter())
        real(self, optimizer)

    PretrainModule.on_before_zero_grad = tick  # type: ignore[method-assign]
    config = PretrainConfig(epochs=1, epoch_steps=steps, threads=1, held_out=0, device="cpu")
    pretrain(config, [source(3000, SIDE)], out)
    if os.environ.get("RANK", "0") == "0":
        (out / "times.json").write_text(json.dumps(np.diff(times).tolist()))


def worker_curve(out: Path) -> None:
    """A short training in double precision."""
    adopt_launcher(os.environ)
    small = SectionCNN.Config(widths=(16, 32), out_channels=16)
    config = PretrainConfig(
        encoder=small, data=SectionPatches.Config(size_px=24), epochs=8, epoch_steps=3, threads=1, held_out=0,
        precision="double", device="cpu",
    )  # fmt: skip
    pretrain(config, [source(1000, 24)], out)


def worker_killed(out: Path) -> None:
    """A training long enough to be killed in, with frequent checkpoints."""
    small = SectionCNN.Config(widths=(8, 16), out_channels=16, depth_bands=2)
    config = PretrainConfig(
        encoder=small, data=SectionPatches.Config(size_px=24), epochs=6, epoch_steps=50, threads=1, held_out=4,
        sampler=BalancedBatches.Config(classes=16, patches=4), checkpoint_steps=5, device="cpu", deterministic=True,
    )  # fmt: skip
    pretrain(config, [source(1000, 24)], out)


def worker_memory(out: Path, batch: int, micro: int, side: int) -> None:
    """Memory that one step takes beyond what lies there before, in MB; the first step pays for the libraries."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    encoder = new_encoder(SectionCNN.Config(), SectionPatches.Config(), (side, side))
    module = step_module(encoder, batch, micro)
    one_step(step_module(encoder, 4, 2), 4, side)
    module.zero_grad()
    rng = np.random.default_rng(0)
    items = torch.from_numpy(rng.uniform(0, 2, (batch, side, side)).astype(np.float32))
    before = peak_now()
    one_step(module, batch, side, items)
    out.write_text(json.dumps({"mb": peak_now(reset=False) - before}))


def peak_now(reset: bool = True) -> float:
    """Peak of resident memory in MB since the last reset (Linux); what is resident now right after one."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class OneRank:
    global_rank, world_size = 0, 1


def step_module(encoder: Any, batch: int, micro: int, double: bool = False) -> PretrainModule:
    objective = SupervisedContrastive.Config().build(encoder.out_channels, CLASSES)
    if double:
        encoder, objective = encoder.double(), objective.double()
    module = PretrainModule(
        encoder, objective, SectionPatches.Config().augment.build(), views=1, batch=batch, seed=0, steps=10,
        learning_rate=1e-3, weight_decay=0.0, probe=None, report=lambda _: None, micro=micro,
    )  # fmt: skip
    module._trainer = OneRank()  # type: ignore[assignment]
    return module


def one_step(module: PretrainModule, batch: int, side: int, items: torch.Tensor | None = None) -> torch.Tensor:
    items = torch.rand(batch, side, side, generator=torch.manual_seed(1)) if items is None else items
    rows = Rows(label=torch.arange(batch) % CLASSES, item=torch.arange(batch))
    loss = module.training_step((0, items, rows), 0)
    loss.backward()
    return loss.detach()


def worker(*words: str, ranks: int = 1) -> list[str]:
    start = [sys.executable]
    if ranks > 1:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        start += ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--master-port", str(port)]
    return [*start, __file__, "--worker", *words]


def done(words: list[str], **environment: str) -> None:
    finished = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT | environment)
    if finished.returncode:
        sys.exit(finished.stderr)


def losses(folder: Path) -> list[float]:
    with (folder / "metrics.csv").open() as file:
        return [float(found["loss"]) for found in csv.DictReader(file)]


def two_ranks(folder: Path, steps: int, runs: int) -> list[dict[str, Any]]:
    rates: dict[int, list[float]] = {1: [], 2: []}
    for run in range(runs):
        for ranks, kept in rates.items():
            out = folder / f"steps{run}-{ranks}"
            done(worker("steps", str(out), str(steps), ranks=ranks))
            kept.append(4 * CLASSES / statistics.median(json.loads((out / "times.json").read_text())))
    for ranks in rates:
        done(worker("curve", str(folder / f"curve{ranks}"), ranks=ranks))
    one, two = (np.array(losses(folder / f"curve{ranks}")) for ranks in rates)
    apart = float(np.abs(two / one - 1).max())
    ours, peer = (statistics.median(rates[ranks]) for ranks in (2, 1))
    return [{**row("two_ranks", ours, peer, "one rank, one thread", "patches/s"), "loss_curves_apart": apart}]


def gradient_cache(folder: Path, batch: int, micro: int, side: int) -> list[dict[str, Any]]:
    found = {}
    for name, double in (("single", False), ("double", True)):
        gradients, seconds = [], []
        for cached in (0, micro):
            torch.manual_seed(0)
            encoder = new_encoder(SectionCNN.Config(), SectionPatches.Config(), (SIDE, SIDE))
            module = step_module(encoder, batch, cached, double)
            start = time.perf_counter()
            one_step(module, batch, SIDE)
            seconds.append(time.perf_counter() - start)
            gradients.append(torch.cat([weight.grad.flatten() for weight in module.parameters()]))
        found[name] = float((gradients[1] - gradients[0]).norm() / gradients[0].norm())
    memory: dict[str, float] = {}
    whole = [("whole", batch, 0)] if batch <= 256 else []  # gigabytes otherwise
    for name, size, part in (("micro alone", micro, 0), ("cached", batch, micro), *whole):
        done(worker("memory", str(folder / "memory.json"), str(size), str(part), str(side)), **FRUGAL)
        memory[name] = json.loads((folder / "memory.json").read_text())["mb"]
    limit = memory["micro alone"] + batch * SectionCNN.Config().out_channels * 4 / 1e6
    return [
        {
            **row("gradient_cache", limit, memory["cached"], f"micro-batch of {micro} alone, and embeddings", "MB"),
            "ratio": round(limit / memory["cached"], 3), "ours": round(memory["cached"], 1), "peer": round(limit, 1),
            **{f"{name}_mb": round(memory[name], 1) for name, *_ in whole}, "gradient_apart": found["single"],
            "gradient_apart_double": found["double"], "patches_px": side,
            "time_against_whole": round(seconds[1] / seconds[0], 2),
        }
    ]  # fmt: skip


def kills(folder: Path, count: int) -> list[dict[str, Any]]:
    start = time.perf_counter()
    done(worker("killed", str(folder / "whole")))
    whole_s = time.perf_counter() - start
    rng, left, runs, killed, equal = random.Random(0), count, 0, 0, 0
    while left:
        out, runs = folder / f"cut{runs}", runs + 1
        while left:
            command = worker("killed", str(out))
            running = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=ENVIRONMENT)
            try:
                running.wait(rng.uniform(0.3, 1.0) * whole_s)
                break
            except subprocess.TimeoutExpired:
                running.send_signal(signal.SIGKILL)
                running.wait()
                left, killed = left - 1, killed + 1
                print(f"{killed} of {count} kills", file=sys.stderr, flush=True)
        done(worker("killed", str(out)))
        same = (out / "metrics.csv").read_bytes() == (folder / "whole" / "metrics.csv").read_bytes()
        equal += same and load_encoder(out).identity() == load_encoder(folder / "whole").identity()
    return [{"name": "kills", "kills": killed, "runs": runs, "runs_equal_to_an_uninterrupted_one": equal}]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps, runs and kills")
    parser.add_argument("--only", choices=("two_ranks", "gradient_cache", "kills"))
    parser.add_argument("--kills", type=int, help="how many, instead of 20 (2 with --quick)")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.worker:
        name, out, *numbers = options.worker
        work: dict[str, Any] = {
            "steps": worker_steps, "curve": worker_curve, "killed": worker_killed, "memory": worker_memory,
        }  # fmt: skip
        work[name](Path(out), *map(int, numbers))
        return
    quick = options.quick
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        parts: dict[str, Any] = {
            "two_ranks": lambda: two_ranks(folder, 8 if quick else 25, 1 if quick else 3),
            "gradient_cache": lambda: [
                *gradient_cache(folder, 128 if quick else 1024, 32, 128),
                *gradient_cache(folder, 128 if quick else 1024, 32, SIDE),
            ],
            "kills": lambda: kills(folder, options.kills or (2 if quick else 20)),
        }
        rows = []
        for name, part in parts.items():
            if options.only in (None, name):
                for found in part():
                    rows.append(found)
                    show(found)
    keep(rows, options.json)


if __name__ == "__main__":
    main()
