"""How long learning from runs takes, by grid and network, measured here; and what a cohort of any size would take.

The plan is a product of what was measured: bytes of a stored frame, windows read in a second, seconds of a training
step per window. Grids that were not measured are told by the largest one that was, in proportion to their voxels.
"""

import csv
import resource
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from features.encoders.run_transformer import RunTransformer
from features.encoders.swin4d import Swin4D
from features.subject_data.run_conversion import RunConversion
from features.subject_data.runs import SubjectRuns
from meshgnn.config import Config as BaseConfig
from meshgnn.config import at, owner_name, to_plain
from meshgnn.errors import SettingError
from meshgnn.experiment.progress import Bars
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import SCORES, Experiment, Stage
from meshgnn.source.virtual.runs import VirtualRuns
from meshgnn.source.virtual.runs_folder import write_runs
from meshgnn.source.virtual.subjects import VirtualSubjects
from meshgnn.store import read_json, write_json

MEASURED, PLAN = "scaling.tsv", "plan.tsv"


@dataclass(frozen=True, kw_only=True)
class Cohort(BaseConfig):
    """
    Args:
        name: of the cohort.
        runs: how many there are.
        frames: of a run.
        voxels: of the brain mask in a frame.
        grid: voxels of a whole frame, which networks work on.
        epochs: that every run's windows are seen in.
    """

    name: str
    runs: int
    frames: int
    voxels: int
    grid: int
    epochs: int = 10

    def __post_init__(self) -> None:
        if min(self.runs, self.frames, self.voxels, self.grid, self.epochs) < 1:
            raise SettingError("<runs>, <frames>, <voxels>, <grid> and <epochs> must be at least 1")


class RunScaling(Experiment):
    """Measures reading and training steps on virtual runs of growing grids, and plans cohorts from them."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            grids: voxels along a side, ascending.
            networks: whose training step is measured, on windows of one channel.
            frames: of a window.
            batch: windows of a step.
            repeats: of every measurement; medians count.
            cohorts: that are planned.
            seed: of the virtual runs.
        """

        grids: tuple[int, ...] = (24, 32, 48)
        networks: tuple[RunTransformer.Config | Swin4D.Config, ...] = (RunTransformer.Config(), Swin4D.Config())
        frames: int = 20
        batch: int = 2
        repeats: int = 3
        cohorts: tuple[Cohort, ...] = field(
            default_factory=lambda: (
                Cohort(name="ABCD", runs=9485, frames=370, voxels=230_000, grid=75 * 93 * 81),
                Cohort(name="HCP", runs=1084, frames=1180, voxels=230_000, grid=75 * 93 * 81),
            )
        )
        seed: int = 1

        def __post_init__(self) -> None:
            if not self.grids or list(self.grids) != sorted(set(self.grids)) or not min(self.grids) >= 16:
                raise SettingError("<grids> must ascend from 16 or more")
            if min(self.frames, self.batch, self.repeats) < 1 or self.seed < 0:
                raise SettingError("<frames>, <batch> and <repeats> must be at least 1, <seed> not negative")

        def build(self) -> "RunScaling":
            return RunScaling(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def seeds(self) -> list[int]:
        return [self.config.seed]

    def stages(self) -> list[Stage]:
        c = self.config
        measured = to_plain([c.grids, c.networks, c.frames, c.batch, c.repeats, c.seed])
        return [
            Stage(name="measure", run=self._measure, after=(), depends=measured),
            Stage(name="plan", run=self._plan, after=("measure",), depends=to_plain(c.cohorts)),
        ]

    def summary(self, run: RunFolder) -> str:
        found = read_json(run / "metrics.json")
        lines = [f"on {found['device']}, {found['threads']} threads"]
        for row in found["measured"]:
            lines.append(
                f"  {row['grid']}^3 x {row['frames']}: {row['bytes_per_voxel']:.2f} bytes per voxel and frame, "
                f"{row['windows_read_per_s']:.0f} windows read in a second ({row['read_mb_per_s']:.0f} MB/s)"
            )
            lines += [
                f"    {name}: {own['seconds_per_window']:.3f} s and {own['gflop_per_window']:.1f} GFLOP of training per"
                f" window, process {own['peak_mb']:.0f} MB at most so far"
                for name, own in row["networks"].items()
            ]
        for row in found["plan"]:
            lines.append(
                f"  {row['cohort']}, {row['network']}: store {row['store_gb']:.0f} GB, {row['hours']:.0f} hours of this"
                f" device at {row['mb_per_s']:.2f} MB/s, {row['petaflop']:.0f} PFLOP"
            )
        return "\n".join(["", *lines, f"results in {run.path}"])

    # -- stages ---------------------------------------------------------------------------------------------------

    def _measure(self, run: RunFolder) -> list[str]:
        c, rows, measured = self.config, list[dict[str, Any]](), list[dict[str, dict[str, float]]]()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        for number, grid in enumerate(c.grids):
            with at(f"grids.{number}"):
                data, stored = self._runs(run, grid)
            starts = np.random.default_rng(c.seed).integers(0, data.last_start[0] + 1, c.batch)
            subjects = np.arange(c.batch) % len(data.observed)
            read = self._seconds(lambda data=data, s=subjects, at=starts: data.read_at(s, at)) / c.batch
            batch = torch.from_numpy(data.read_at(subjects, starts)).to(device)
            networks: dict[str, dict[str, float]] = {}
            for encoder in c.networks:
                networks[owner_name(type(encoder))] = self._step(encoder, batch)
                run.say(f"  {grid}^3, {owner_name(type(encoder))}: {networks[owner_name(type(encoder))]}")
            measured.append(networks)
            mask = int(data.store.mask(0).sum())
            rows.append({
                "grid": grid, "frames": c.frames, "voxels": mask, "windows_read_per_s": 1 / read,
                "read_mb_per_s": stored * mask * c.frames / read / 1e6, "bytes_per_voxel": stored, "networks": networks,
            })  # fmt: skip
        name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
        write_json(run / "tables" / "measured.json", {
            "device": name, "threads": torch.get_num_threads(), "measured": rows
        })  # fmt: skip
        flat = [
            {key: value for key, value in row.items() if key != "networks"} | {"network": name, **own}
            for row, each in zip(rows, measured)
            for name, own in each.items()
        ]
        _write(run / MEASURED, flat)
        return ["tables/measured.json", MEASURED]

    def _runs(self, run: RunFolder, grid: int) -> tuple[SubjectRuns, float]:
        """Windows of four virtual runs, and stored bytes per voxel of the mask and frame."""
        c = self.config
        people = VirtualSubjects.Config(subjects=4, sites=2, seed=c.seed, missing=0.0)
        cohort = VirtualRuns.Config(people=people, size=grid, frames=max(3 * c.frames, 60)).build()
        place, bars = run / "grids" / str(grid), Bars(run, f"{grid}^3: ")
        write_runs(cohort, place / "cohort", bars)
        base = RunConversion.Config()
        base = replace(base, images=replace(base.images, folder=place / "cohort"))
        store, _ = base.build().run(place / "store", bars)
        data = SubjectRuns.Config(store=place / "store", channels=1, frames=c.frames).build(
            cohort.participants(), np.ones(4, bool)
        )
        size = sum(path.stat().st_size for path in (place / "store" / "runs").glob("*.run"))
        kept = sum(int(store.mask(row).sum()) * int(store.frames[row]) for row in range(len(store)))
        return data, size / kept

    def _step(self, encoder: Any, batch: torch.Tensor) -> dict[str, float]:
        """Seconds and operations of a training step per window, and the most memory that the process has had."""
        torch.manual_seed(self.config.seed)
        network = encoder.build(tuple(batch.shape[1:]))
        model = nn.Sequential(network, nn.Linear(network.out_channels, 1)).to(batch.device)
        optimiser = torch.optim.AdamW(model.parameters(), 1e-4)

        def step() -> None:
            optimiser.zero_grad()
            model(batch).square().mean().backward()
            optimiser.step()
            if batch.device.type == "cuda":
                torch.cuda.synchronize()

        with FlopCounterMode(display=False) as counted:
            step()
        return {
            "seconds_per_window": self._seconds(step) / len(batch),
            "gflop_per_window": counted.get_total_flops() / len(batch) / 1e9,
            "peak_mb": _memory_mb(batch.device),
        }

    def _seconds(self, work: Any) -> float:
        work()  # files are in the page cache, code is compiled
        found = []
        for _ in range(self.config.repeats):
            begun = time.perf_counter()
            work()
            found.append(time.perf_counter() - begun)
        return median(found)

    def _plan(self, run: RunFolder) -> list[str]:
        measured = read_json(run / "tables" / "measured.json")
        largest, rows = measured["measured"][-1], []
        for cohort in self.config.cohorts:
            grids, windows = cohort.grid / largest["grid"] ** 3, cohort.runs * (cohort.frames // largest["frames"])
            store = cohort.runs * cohort.frames * cohort.voxels * largest["bytes_per_voxel"]
            for name, own in largest["networks"].items():
                seconds = windows * cohort.epochs * own["seconds_per_window"] * grids
                rows.append({
                    "cohort": cohort.name, "network": name, **asdict(cohort), "windows": windows,
                    "store_gb": store / 1e9, "hours": seconds / 3600, "mb_per_s": store * cohort.epochs / seconds / 1e6,
                    "petaflop": windows * cohort.epochs * own["gflop_per_window"] * grids / 1e6,
                })  # fmt: skip
        _write(run / PLAN, rows)
        write_json(run / SCORES, {**measured, "plan": rows})
        return [PLAN, SCORES]


def _memory_mb(device: torch.device) -> float:
    """Most memory that was in use so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
