"""What ranks compute in tests of the parallel modes: a tiny network with every kind of absence, in float64."""

import os
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import distributed

from features.encoders.biobank_cnn import BiobankCNN
from features.encoders.table_net import TableNet
from features.fusion.gated import Gated
from features.fusion.multi_input_net import InputBlock, MultiInputNet
from features.fusion.trait_head import TraitHead
from features.parallel.batches import Source
from features.parallel.ranks import joined
from features.parallel.settings import Parallel
from features.parallel.state import whole
from features.parallel.training import ParallelTraining, Recipe, engine_of
from features.samplers.epochs import EpochBatches
from features.traits.items import TraitItems
from features.traits.training import TraitMember, TraitTrainer, train_member
from features.transfer.optimiser import Optimiser
from features.transfer.rates import StepDecay
from features.transfer.schedule import TransferSchedule
from meshgnn.train.loss import Loss
from meshgnn.train.target_costs import TargetCosts

SHAPES = {"image": (1, 8, 8, 8), "table": (5,), "nobody": (3,)}
CLASSES = (2, 0)
NETWORK = MultiInputNet.Config(
    blocks=(
        InputBlock(name="image", encoder=BiobankCNN.Config(channels=(4, 4), out_channels=4, dropout=0.0)),
        InputBlock(name="table", encoder=TableNet.Config(widths=(6,), dropout=0.0)),
        InputBlock(name="nobody", encoder=TableNet.Config(widths=(6,), dropout=0.0)),
    ),
    fusion=Gated.Config(hidden=6),
    head=TraitHead.Config(widths=(6,), dropout=0.0),
)
RECIPE = Recipe(
    epochs=2, patience=2, optimiser=Optimiser.Config(kind="adamw", learning_rate=1e-2, weight_decay=0.1),
    schedule=TransferSchedule.Config(), clip=0.3,
)  # fmt: skip
SIZE, SUBJECTS, STEPS = 7, 12, 2


def network_and_costs():
    torch.manual_seed(5)
    network = NETWORK.build(SHAPES, CLASSES).double()
    for name, buffer in network.named_buffers():  # statistics that matter
        if name.endswith("running_mean"):
            buffer.normal_()
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    _, _, values = cohort()
    return network, TargetCosts(torch.from_numpy(values), CLASSES, Loss())


def cohort():
    """Items, who has them, and targets of which some are missing."""
    rng = np.random.default_rng(1)
    items = {name: rng.standard_normal((SUBJECTS, *shape)).astype(np.float32) for name, shape in SHAPES.items()}
    # Of the first batch, places 0, 2, 4, 6 (rank 0 of 2) alone have an image.
    order = np.concatenate([drawn(0), np.setdiff1d(np.arange(SUBJECTS), drawn(0))])
    present = np.zeros((SUBJECTS, 3), bool)
    present[order[::2], 0] = True
    present[order[1:], 1] = True
    values = np.stack([rng.integers(0, 2, SUBJECTS), rng.standard_normal(SUBJECTS)], 1).astype(np.float32)
    values[order[[0, 3, 4, 9]], 1] = np.nan
    values[order[5], 0] = np.nan
    return items, present, values


def drawn(step):
    return np.random.default_rng(step).permutation(SUBJECTS)[:SIZE]


def source(input_dropout=0.0):
    items, present, values = cohort()

    def read(subjects, draws=None):
        there = present[subjects]
        found = {
            name: torch.from_numpy(items[name][subjects[there[:, i]]])
            for i, name in enumerate(SHAPES)
            if there[:, i].any()
        }
        return found, torch.from_numpy(there)

    return Source(
        draw=drawn, read=read, present=present, values=values, names=tuple(SHAPES), seed=2, input_dropout=input_dropout
    )


HEAD = {"schedule": TransferSchedule.Config(mode="head")}
CASES: dict[str, tuple[Parallel, dict]] = {
    "data": (Parallel(mode="data", batch_norm="frozen"), {}),
    "sharded": (Parallel(mode="sharded", batch_norm="frozen"), {}),
    "model": (Parallel(mode="model", batch_norm="frozen"), {}),
    "gpipe": (Parallel(mode="pipeline", batch_norm="frozen", micro_batches=4), {}),
    "1f1b": (Parallel(mode="pipeline", batch_norm="frozen", micro_batches=5, schedule="1f1b", cut="time"), {}),
    "data_recomputed": (Parallel(mode="data", batch_norm="frozen"), {"recompute": True}),
    "pipeline_recomputed": (Parallel(mode="pipeline", batch_norm="frozen"), {"recompute": True}),
    "sharded_recomputed": (Parallel(mode="sharded", batch_norm="frozen"), {"recompute": True}),
    "data_model": (Parallel(mode="data_model", batch_norm="frozen", micro_batches=2), {}),
    "data_accumulated": (Parallel(mode="data", batch_norm="frozen"), {"accumulate": 2}),
    "data_model_accumulated": (Parallel(mode="data_model", batch_norm="frozen"), {"accumulate": 2}),
    "sharded_accumulated": (Parallel(mode="sharded", batch_norm="frozen"), {"accumulate": 2}),
    "data_joint": (Parallel(mode="data", batch_norm="joint"), {}),
    "sharded_joint": (Parallel(mode="sharded", batch_norm="joint"), {}),
    "data_joint_recomputed": (Parallel(mode="data", batch_norm="joint"), {"recompute": True}),
    "data_head": (Parallel(mode="data", batch_norm="frozen"), HEAD),
    "pipeline_head": (
        Parallel(mode="pipeline", batch_norm="frozen"),
        {"schedule": TransferSchedule.Config(mode="head")},
    ),
    "model_own": (Parallel(mode="model"), {}),
    "data_dropped": (Parallel(mode="data", batch_norm="frozen"), {"input_dropout": 0.5}),
    "data_model_dropped": (Parallel(mode="data_model", batch_norm="frozen"), {"input_dropout": 0.5}),
}


def one_process(name):
    """Losses, gradients, outputs and weights of a plain loop over whole batches, by name."""
    settings, changes = CASES[name]
    changes = dict(changes)
    dropout = changes.pop("input_dropout", 0.0)
    recipe = replace(RECIPE, **changes)
    network, costs = network_and_costs()
    network.input_dropout = dropout
    plan = recipe.schedule.build(network)
    optimiser = recipe.optimiser.build(plan.groups(recipe.optimiser.learning_rate))
    plan.begin(0)
    for part in network.modules():
        if hasattr(part, "frozen") and settings.batch_norm == "frozen":
            part.frozen = True
    whole_batches, told, step = source(), {}, 0
    for number in range(STEPS):
        optimiser.zero_grad()
        losses = []
        for _ in range(recipe.accumulate):
            subjects = drawn(step)
            items, present = whole_batches.read(subjects)
            torch.manual_seed(2 * 1_000_003 + step)
            outputs = network({key: item.double() for key, item in items.items()}, present)
            loss = costs.loss(outputs, torch.from_numpy(whole_batches.values[subjects]))
            (loss / recipe.accumulate).backward()
            losses.append(float(loss.detach()))
            step += 1
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        told[f"loss{number}"], told[f"norm{number}"] = np.mean(losses), float(norm)
        told |= {
            f"gradient{number}/{key}": one.grad.clone()
            for key, one in network.named_parameters()
            if one.grad is not None
        }
        optimiser.step()
        told |= {f"weight{number}/{key}": one.detach().clone() for key, one in network.state_dict().items()}
    network.eval()
    network.input_dropout = 0.0
    items, present = whole_batches.read(np.arange(SUBJECTS))
    with torch.no_grad():
        told["outputs"] = network({key: item.double() for key, item in items.items()}, present)
    return {key: np.asarray(value) for key, value in told.items()}


def on_rank(name, ranks):
    """The same of this rank's part, in the mode."""
    settings, changes = CASES[name]
    changes = dict(changes)
    dropout = changes.pop("input_dropout", 0.0)
    recipe = replace(RECIPE, **changes)
    network, costs = network_and_costs()
    network.input_dropout = 0.0
    engine = engine_of(network, costs, settings, ranks, recipe)
    training = ParallelTraining(engine, recipe, source(dropout), STEPS)
    training.begin(0)
    told, step = {}, 0
    clip = engine.clip

    def noted(most):
        told[f"norm{number}"] = clip(most)

    engine.clip = noted
    for number in range(STEPS):
        shares = [
            training.source.share(step + k, engine.part, engine.parts, engine.reads) for k in range(recipe.accumulate)
        ]
        step += recipe.accumulate
        told[f"loss{number}"] = training.step(shares)
        for key, one in engine.own.items():
            if getattr(one, "grad", None) is not None:
                told[f"gradient{number}/{key}"] = whole(one.grad)
            told[f"weight{number}/{key}"] = whole(one)
    engine.settle()
    told["outputs"] = engine.predict(training.source.read, np.arange(SUBJECTS), 5)
    return {key: np.asarray(value) for key, value in told.items()}


def meet(rank, world, port):
    torch.set_num_threads(1)
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(world),
        "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world), "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    return joined()


@contextmanager
def met(rank, world, port):
    """This process as a rank of so many."""
    torch.set_num_threads(1)
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": str(world),
        "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(world), "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    yield joined()
    distributed.destroy_process_group()


def run_all(rank, plan, out, on_two=None):
    """Cases on several numbers of ranks, then whole trainings, in the same processes; then `on_two` of the folder on
    two ranks."""
    for world, port, names, trainings in plan:
        if rank >= world:
            continue
        with met(rank, world, port) as ranks:
            for name in names:
                np.savez(Path(out) / f"{name}-{world}-{rank}.npz", **on_rank(name, ranks))
            for name in trainings:
                trained(name, Path(out) / f"{name}-{world}")
            if world == 2 and on_two is not None:
                on_two(Path(out) / "phases")


TRAININGS = {
    "data": Parallel(mode="data", batch_norm="joint"),
    "sharded": Parallel(mode="sharded", batch_norm="joint"),
    "model": Parallel(mode="model"),
    "data_model": Parallel(mode="data_model", batch_norm="frozen"),
}


class Rows:
    """Items [G, P] in memory; NaN rows are subjects without them."""

    def __init__(self, values):
        self.values = np.asarray(values, np.float32)
        self.observed = np.isfinite(self.values).all(1)
        self.groups = np.arange(len(values), dtype=np.int32)
        self.shape = self.values.shape[1:]

    def read(self, subjects):
        return self.values[subjects]

    def key(self):
        return str(self.values.tolist())


class Frames(Rows):
    """Items [P] that are frames of runs [G, T, P]; evaluation reads every second one."""

    def __init__(self, runs):
        super().__init__(runs[:, 0])
        self.runs = np.asarray(runs, np.float32)
        self.last_start = np.full(len(runs), runs.shape[1] - 1)

    def starts(self, row):
        return np.arange(0, self.runs.shape[1], 2)

    def read_at(self, rows, starts):
        return self.runs[rows, starts]

    def key(self):
        return str(self.runs.tolist())


def member_and_trainer():
    """A class told by one input, a number by frames of the other; no dropout in layers, since every rank draws its own,
    and plain gradient steps, since Adam's blow rounding up where a gradient is nothing else."""
    rng, count = np.random.default_rng(0), 40
    sex, age = rng.integers(0, 2, count), rng.standard_normal(count)
    one, two = rng.standard_normal((count, 4)), rng.standard_normal((count, 3))
    one[:, 0] += 4 * sex - 2
    two[:, 1] = age
    one[::5], two[1::5] = np.nan, np.nan
    age[::7] = np.nan
    two = two[:, None] + 0.1 * rng.standard_normal((count, 5, 3))
    train = np.arange(count) < 30
    encoder = TableNet.Config(widths=(8,), dropout=0.0)
    member = TraitMember(
        network=MultiInputNet.Config(
            blocks=(InputBlock(name="one", encoder=encoder), InputBlock(name="two", encoder=encoder)),
            head=TraitHead.Config(widths=(8,), dropout=0.0), input_dropout=0.2,
        ),
        items=TraitItems({"one": Rows(one), "two": Frames(two)}), values=np.stack([sex, age], 1).astype(float),
        classes=(2, 0), train=train, validation=~train, seed=3,
    )  # fmt: skip
    trainer = TraitTrainer(
        epochs=5, patience=2, accumulate=2, sampler=EpochBatches.Config(size=8),
        optimiser=Optimiser.Config(kind="sgd", learning_rate=0.05, momentum=0.5), rate=StepDecay(factor=0.9, every=2),
    )  # fmt: skip
    return member, trainer


def trained(name, out):
    """A member trained at once, and one that is cut off after its second epoch and goes on."""
    member, trainer = member_and_trainer()
    trainer = replace(trainer, parallel=TRAININGS[name])
    train_member(member, trainer, out / "whole")
    save = ParallelTraining._save

    def cut(self, last, epoch):
        save(self, last, epoch)
        if epoch == 1:
            raise KeyboardInterrupt

    ParallelTraining._save = cut
    try:
        with suppress(KeyboardInterrupt):
            train_member(member, trainer, out / "cut")
    finally:
        ParallelTraining._save = save
    distributed.barrier()
    train_member(member, trainer, out / "cut")
