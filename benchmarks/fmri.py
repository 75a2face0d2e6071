"""Networks over time against plain ways of computing the same, measured in one run.

contrast    the temporal contrast of a batch of windows, forward and backward, against a loop over pairs of frames
windows     attention within shifted windows of a grid, forward and backward, against the textbook's: a matrix of scores
            per window, a mask of -100 added, softmax, product
step        a step of a phase's training, against a loop of plain torch on the same windows
swift       forward pass of SwiFT as published on one window of 96^3 voxels and 20 frames: seconds and peak memory

Both sides run on the same number of threads and are timed in turn; figures are medians; ratio > 1 means that we are
ahead. The difference of both sides' numbers stands in the row.

    python benchmarks/fmri.py [--quick] [--json FILE] [--threads N] [--only NAME,...]
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[1])  # this file must not stand for the package of its name

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from benchmarks._pairs import keep, paired, row, show  # noqa: E402
from features.encoders.swin4d import Swin4D  # noqa: E402
from features.encoders.window_attention import WindowAttention  # noqa: E402
from features.fmri.phase import PhaseTraining  # noqa: E402
from features.objectives.temporal_contrast import published_contrast, temporal_contrast  # noqa: E402


def contrast(quick: bool, runs: int) -> list[dict[str, Any]]:
    """T = 20 frames, 8 windows, 2,640 features."""
    frames, count, width = 20, 8, 264 if quick else 2640
    h = torch.randn(count, frames, width, requires_grad=True)

    def corrected_loop(h: Tensor) -> Tensor:
        unit, pairs = F.layer_norm(h, (width,)), []
        for later in range(frames):
            for earlier in range(later):
                d = (unit[:, later] - unit[:, earlier]).square().mean(1)
                pairs.append(d if later - earlier <= 1 else (1 - d).clamp(min=0))
        return torch.stack(pairs).mean()

    def published_loop(h: Tensor) -> Tensor:
        total = h.new_zeros(())
        for later in range(frames):
            for earlier in range(later):
                d = (h[:, later] - h[:, earlier]).square().sum()
                total = total + ((60_000 - d).clamp(min=0) if later - earlier <= 1 else d)
        return total / (frames * (frames - 1) * 1000)

    sides = {
        "corrected": (lambda h: temporal_contrast(h).mean(), corrected_loop),
        "published": (published_contrast, published_loop),
    }
    rows = []
    for name, (ours, peer) in sides.items():
        apart = max(
            float((a - b).abs().max() / b.abs().max())
            for a, b in zip(*([side(h).detach(), *torch.autograd.grad(side(h), h)] for side in (ours, peer)))
        )
        times = paired(
            lambda ours=ours: torch.autograd.grad(ours(h), h), lambda peer=peer: torch.autograd.grad(peer(h), h), runs
        )
        rows.append({**row(f"contrast {name}", *times, "loop over pairs"), "difference": float(f"{apart:.1e}")})
    return rows


def windows(quick: bool, runs: int) -> list[dict[str, Any]]:
    """The first stage of SwiFT on 96^3 voxels and 20 frames."""
    grid, window, width, heads = ((8, 8, 8, 8) if quick else (16, 16, 16, 20)), (4, 4, 4, 4), 36, 3
    attention = WindowAttention(width, heads, grid, window, shifted=True)
    x = torch.randn(1, *grid, width, requires_grad=True)
    size = int(np.prod(window))
    mask = (attention.groups[:, :, None] != attention.groups[:, None, :]).float() * -100

    def textbook() -> Tensor:
        shifted = torch.roll(x, (-2, -2, -2, -2), (1, 2, 3, 4))
        split = [part for side, own in zip(grid, window) for part in (side // own, own)]
        cut = shifted.view(1, *split, width).permute(0, 1, 3, 5, 7, 2, 4, 6, 8, 9).reshape(-1, size, width)
        parts = attention.qkv(cut).reshape(-1, size, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
        query, key, value = parts
        score = (query * (width // heads) ** -0.5) @ key.transpose(-2, -1) + mask[:, None]
        found = attention.out((score.softmax(-1) @ value).transpose(1, 2).reshape(-1, size, width))
        number = [side // own for side, own in zip(grid, window)]
        whole = found.view(1, *number, *window, width).permute(0, 1, 5, 2, 6, 3, 7, 4, 8, 9).reshape(1, *grid, width)
        return torch.roll(whole, (2, 2, 2, 2), (1, 2, 3, 4))

    apart = float((textbook() - attention(x)).detach().abs().max())

    def both(side: Any) -> None:
        torch.autograd.grad(side().square().sum(), [x, *attention.parameters()])

    times = paired(lambda: both(lambda: attention(x)), lambda: both(textbook), runs)
    return [{**row("windows", *times, "scores, mask, softmax"), "difference": float(f"{apart:.1e}")}]


class InMemory:
    """Random runs of some subjects; a `meshgnn.sockets.WindowedItems`."""

    def __init__(self, subjects: int, side: int, frames: int) -> None:
        self.shape = (1, side, side, side, frames)
        rng = np.random.default_rng(0)
        self.runs = rng.standard_normal((subjects, 1, side, side, side, 3 * frames), np.float32)
        self.observed, self.groups = np.ones(subjects, bool), np.zeros(subjects, np.int32)
        self.last_start = np.full(subjects, 2 * frames)

    def starts(self, row: int, /) -> np.ndarray:
        return np.arange(3) * self.shape[-1]

    def read_at(self, rows: np.ndarray, starts: np.ndarray, /) -> np.ndarray:
        return np.stack([self.runs[k][..., start : start + self.shape[-1]] for k, start in zip(rows, starts)])

    def read(self, rows: np.ndarray, /) -> np.ndarray:
        return self.read_at(rows, np.zeros(len(rows), int))

    def key(self) -> str:
        return "in memory"


def step(quick: bool, runs: int) -> list[dict[str, Any]]:
    """Phase 2 on windows of 24^3 voxels and 20 frames, the default network."""
    items, steps = InMemory(8, 16 if quick else 24, 20), 6
    config = PhaseTraining.Config(phase="transformer", steps=steps, validate_every=steps, keep="last")
    everyone, nobody = np.arange(8), np.arange(0)
    folder = Path(tempfile.mkdtemp())
    counted = iter(range(1000))

    def ours() -> None:
        config.build().run(items, everyone, nobody, folder / str(next(counted)))

    def plain() -> None:
        torch.manual_seed(0)
        network = config.network.build(items.shape, transformer=True)
        optimiser, rng = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=0), np.random.default_rng(0)
        network.train()
        for _ in range(steps):
            chosen = rng.integers(0, 8, config.batch)
            batch = torch.from_numpy(items.read_at(chosen, rng.integers(0, 41, config.batch)))
            volumes = batch.movedim(-1, 1).flatten(0, 1)
            frames = network.frames(volumes).view(config.batch, 20, -1)
            rebuilt = network.decoder(network.sequence.states(frames)[:, 1:].flatten(0, 1))
            optimiser.zero_grad(set_to_none=True)
            (rebuilt - volumes[:, :1]).abs().mean().backward()
            nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            optimiser.step()

    mine, theirs = paired(ours, plain, min(runs, 5))
    return [row("step", mine / steps, theirs / steps, "plain torch loop")]


def swift(quick: bool, runs: int) -> list[dict[str, Any]]:
    side = 48 if quick else 96
    encoder = (Swin4D.Config(depths=(2, 2, 2), heads=(3, 6, 12)) if quick else Swin4D.Config.published()).build(
        (1, side, side, side, 20)
    )
    window, before = torch.randn(1, 1, side, side, side, 20), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.no_grad():
        encoder.eval()(window)
        start = time.perf_counter()
        encoder(window)
        taken = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = {"peak_MiB": peak // 1024, "more_than_before_MiB": (peak - before) // 1024}
    return [{"name": "swift", "forward_s": round(taken, 3), "shape": [1, 1, side, side, side, 20], **memory}]


CASES = {"swift": swift, "contrast": contrast, "windows": windows, "step": step}  # memory first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, half a minute")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="cores for both sides")
    parser.add_argument("--only", default=",".join(CASES), help="cases, by name")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for name in options.only.split(","):
        torch.manual_seed(0)
        rows += CASES[name](options.quick, 3 if options.quick else 7)
        for found in rows[-2:] if name == "contrast" else rows[-1:]:
            show(found)
    keep(rows, options.json)


if __name__ == "__main__":
    main()
