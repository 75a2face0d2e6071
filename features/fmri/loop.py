"""The loop of a phase: steps, validations, and the state that a killed training goes on from."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from features.ahead import ahead
from features.fmri.autoencoder import finite, without_gradient
from features.fmri.draws import WindowDraws, Windows
from features.fmri.model_files import PhaseResult, name_map, read_phase, save_phase
from features.fmri.repeatable import repeatable
from features.fmri.settings import PhaseSettings
from features.kept_memory import memory_kept
from features.parallel.batches import step_seed
from features.parallel.ranks import Ranks, joined
from meshgnn.config import at, owner_name, to_plain
from meshgnn.errors import InputError, SettingError
from meshgnn.progress import Progress
from meshgnn.ranks import rank_and_world
from meshgnn.sockets import WindowedItems
from meshgnn.train.checkpoint import load_tree, readable, save_tree

KINDS = {"float": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class PhaseLoop:
    """One training; arguments as in `PhaseTraining.run`.

    Args:
        key: of everything that decides the weights.
    """

    def __init__(
        self, config: PhaseSettings, items: WindowedItems, train: NDArray[np.integer],
        validation: NDArray[np.integer], folder: Path, key: str,
    ) -> None:  # fmt: skip
        self.config, self.folder, self.key = config, folder, key
        self.ranks = own_ranks()
        self.draws = WindowDraws(items, train, frames=config.frames, seed=config.seed)
        self.judged = self._judged(items, validation)
        shape = self.draws.shape
        self.share = config.batch // config.accumulate
        if self.share % self.ranks.world:
            raise SettingError(f"<batch>: {self.share} windows cannot be dealt to {self.ranks.world} ranks")
        for one in config.objectives:
            if one.channels > shape[0]:
                raise InputError(f"{owner_name(type(one))} needs {one.channels} channels, and windows have {shape[0]}")
        torch.manual_seed(config.seed)
        self.network = config.network.build(shape, transformer=config.phase == "transformer")
        self.started_from = self._start()
        self.network.recompute(config.recompute)
        built = {}
        for number, one in enumerate(config.objectives):
            with at(f"objectives.{number}"):
                built[owner_name(type(one))] = one.build(shape, self.network.width)
        self.objectives = nn.ModuleDict(built)
        self.factors = {owner_name(type(one)): one.factor for one in config.objectives}
        self.joint = {owner_name(type(one)) for one in config.objectives if one.joint}
        self.network.to(self.ranks.device)
        self.objectives.to(self.ranks.device)
        self.weights = [one for one in (*self.network.parameters(), *self.objectives.parameters()) if one.requires_grad]
        self.optimiser = config.optimiser.build([{"params": self.weights}])
        self.scaler = torch.amp.GradScaler(self.ranks.device.type, enabled=config.precision == "fp16")
        epoch = -(-self.draws.number() // config.batch)
        self.steps = config.steps or config.epochs * epoch
        self.step = 0
        self.history: list[dict[str, Any]] = []
        self.best: dict[str, Tensor] = {}
        self.untrained: list[str] | None = None

    def _judged(self, items: WindowedItems, validation: NDArray[np.integer]) -> tuple[WindowDraws, Windows] | None:
        if not len(validation):
            return None
        draws = WindowDraws(items, validation, frames=self.config.frames, seed=self.config.seed)
        return draws, draws.fixed(self.config.windows)

    def _start(self) -> dict[str, Any]:
        """Weights of the phase before, strictly by names."""
        if self.config.init_from is None:
            return {}
        with at("init_from"):
            return name_map(self.config.init_from.build().into(self.network))

    def run(self, progress: Progress) -> PhaseResult:
        """All steps that are left, then the files."""
        last = self.folder / f"last-{self.key}.safetensors"
        own = float(int(self.key[:12], 16))
        first, there = self.ranks.agreed(own, float(readable(last)))
        if first != own:
            raise InputError("ranks differ in settings or threads; set OMP_NUM_THREADS alike on all of them")
        if there:
            self._restore(load_tree(last))
        self.ranks.barrier()  # no rank writes before all have read
        total, count = torch.zeros((), device=self.ranks.device), 0
        with repeatable(), memory_kept():
            for windows, batch in self._batches():
                total, count = total + self._trained(windows, batch), count + 1
                self.step += 1
                if self.step % self.config.validate_every and self.step < self.steps:
                    continue
                row = self._row(self._sum(total / count) / self.ranks.world)
                total, count = torch.zeros_like(total), 0
                if self.ranks.rank == 0:
                    save_tree(last, self._state())
                    progress("steps", self.step, self.steps, {k: v for k, v in row.items() if k != "step"})
                self.ranks.barrier()
        if not self.best:
            self.best = self._copy()
        self.network.load_state_dict(self.best)
        if self.ranks.rank == 0:
            training = {"key": self.key, "config": to_plain(self.config), "steps": self.steps}
            save_phase(
                self.folder, self.network, self.config.phase, untrained=self.untrained or [],
                started_from=self.started_from, history=self.history, training=training,
            )  # fmt: skip
            last.unlink(missing_ok=True)
        self.ranks.barrier()
        return read_phase(self.folder)

    # -- steps -----------------------------------------------------------------------------------------------------

    def _batches(self) -> Iterator[tuple[Windows, Tensor]]:
        """This rank's windows of every step that is left, micro-batch after micro-batch, read one ahead."""

        def batch(step: int) -> tuple[Windows, Tensor]:
            drawn = self.draws.of_step(step, self.config.batch, self.config.each)
            windows = drawn.part(slice(self.ranks.rank, None, self.ranks.world))
            return windows, self.draws.read(windows)

        yield from ahead(batch, range(self.step, self.steps))

    def _trained(self, windows: Windows, batch: Tensor) -> Tensor:
        """One step of the optimiser; the loss of this rank's part."""
        config = self.config
        self.network.train()
        self.objectives.train()
        torch.manual_seed(step_seed(config.seed, self.step, self.ranks.rank))
        rate = config.rate.at(self.step, self.steps, config.optimiser.learning_rate)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        each, total = self.share // self.ranks.world, torch.zeros((), device=self.ranks.device)
        for first in range(0, len(windows), each):
            places = slice(first, first + each)
            values = self._values(windows.part(places), batch[places])
            loss = torch.stack([self.factors[name] * one.mean() for name, one in values.items()]).sum()
            self.scaler.scale(loss / config.accumulate).backward()
            total = total + loss.detach() / config.accumulate
        if self.untrained is None:
            self._check_reached()
        self._average()
        self.scaler.unscale_(self.optimiser)
        if config.clip:
            nn.utils.clip_grad_norm_(self.weights, config.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return total

    def _values(self, windows: Windows, batch: Tensor, *, judging: bool = False) -> dict[str, Tensor]:
        """[B] of every objective, a scalar of those of whole batches; the latter are left out when judging."""
        device = self.ranks.device
        subjects = torch.from_numpy(windows.rows).to(device)
        mixed = self.config.precision != "float"
        with torch.autocast(device.type, KINDS[self.config.precision] if mixed else None, enabled=mixed):
            outputs = self.network(batch.to(device), subjects, windows.draws)
            names = [name for name in self.objectives if not (judging and name in self.joint)]
            return {name: self.objectives[name](outputs) for name in names}

    def _check_reached(self) -> None:
        """Every weight is trained, or is said to be untrained."""
        found = without_gradient(self.network)
        wrong = [name for name in found if not name.startswith(self.config.untrained)]
        if wrong:
            raise SettingError(
                f"<untrained>: no objective reaches {wrong[0]} ({len(wrong)} weights in all); leave them out of the "
                "network, or say <untrained>= and how their names begin"
            )
        # The running moments of a part that nothing reaches say nothing either.
        moments = [name for name, _ in self.network.named_buffers() if name.startswith(self.config.untrained)]
        self.untrained = [*found, *moments]

    def _average(self) -> None:
        """Gradients become their mean over ranks."""
        if self.ranks.world == 1:
            return
        found = [one.grad for one in self.weights if one.grad is not None]
        joined = torch.cat([one.reshape(-1) for one in found])
        distributed.all_reduce(joined)
        for one, part in zip(found, joined.split([one.numel() for one in found])):
            one.copy_(part.view_as(one) / self.ranks.world)

    # -- validation ------------------------------------------------------------------------------------------------

    def _row(self, loss: Tensor) -> dict[str, Any]:
        """A row of the history; the weights are kept if they are the best so far."""
        values = self._validated()
        judged = [self.factors[name] * value for name, value in values.items()]
        validation = float(np.sum(judged)) if judged else None
        best = min((row["validation"] for row in self.history if row["validation"] is not None), default=np.inf)
        row: dict[str, Any] = {"step": self.step, "loss": float(loss), "validation": validation, **values}
        if not np.isfinite(float(loss)) or not finite(self.network):
            raise InputError("training diverged; lower optimiser.learning_rate")
        self.history.append(row)
        if self.config.keep == "best" and validation is not None and validation < best:
            self.best = self._copy()
        return {name: value for name, value in row.items() if value is not None}

    def _validated(self) -> dict[str, float]:
        """Every objective of single windows on the fixed windows: each once, its mean over a subject's, then over
        subjects."""
        names = [name for name in self.objectives if name not in self.joint]
        if self.judged is None or not names:
            return {}
        draws, windows = self.judged
        subjects, own = np.unique(windows.rows, return_inverse=True)
        sums, counts = torch.zeros(len(names), len(subjects), dtype=torch.float64), torch.zeros(len(subjects))
        mine = range(self.ranks.rank, len(windows), self.ranks.world)
        each = max(1, self.share // self.ranks.world)
        self.network.eval()
        self.objectives.eval()
        with torch.no_grad():
            for first in range(0, len(mine), each):
                places = mine[first : first + each]
                part = windows.part(slice(places.start, places.stop, places.step))
                found = self._values(part, draws.read(part), judging=True)
                rows = torch.from_numpy(own[np.asarray(places)])
                counts.index_add_(0, rows, torch.ones(len(rows)))
                for number, name in enumerate(names):
                    sums[number].index_add_(0, rows, found[name].double().cpu())
        means = self._sum(sums) / self._sum(counts)
        return {name: float(one) for name, one in zip(names, means.mean(1))}

    # -- state -----------------------------------------------------------------------------------------------------

    def _copy(self) -> dict[str, Tensor]:
        return {name: one.detach().cpu().clone() for name, one in self.network.state_dict().items()}

    def _state(self) -> dict[str, Any]:
        return {
            "step": self.step, "network": self.network.state_dict(), "objectives": self.objectives.state_dict(),
            "optimiser": self.optimiser.state_dict(), "scaler": self.scaler.state_dict(), "best": self.best,
            "history": self.history, "untrained": self.untrained,
        }  # fmt: skip

    def _restore(self, state: Mapping[str, Any]) -> None:
        self.step, self.history = int(state["step"]), list(state["history"])
        self.network.load_state_dict(state["network"])
        self.objectives.load_state_dict(state["objectives"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.best, self.untrained = dict(state["best"]), state["untrained"]

    def _sum(self, value: Tensor) -> Tensor:
        """Over ranks."""
        if self.ranks.world > 1:
            distributed.all_reduce(value)
        return value


def own_ranks() -> Ranks:
    """Those that torchrun started, or another launcher whose variables the command has read; else one by itself."""
    if rank_and_world()[1] > 1:
        return joined()
    return Ranks(rank=0, world=1, device=torch.device("cuda" if torch.cuda.is_available() else "cpu"))
