"""The Lightning module of joint training."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from features.ahead import ahead
from features.end_to_end.brain import JointBrain
from features.end_to_end.settings import JointConfig
from features.model_files import NodeEncoder
from features.objectives.rows import Rows
from meshgnn.confusion import macro_f1
from meshgnn.nn import NodeModel
from meshgnn.train.loss import log_frequency

Step = tuple[int, int, Any]  # number of the step, of the brain, and (nodes, gain, patches) where the encoder is trained
_WARM_UP = 0.1


def network_loss(
    network: nn.Module, brain: JointBrain, rows: Tensor, config: JointConfig, log_classes: Tensor
) -> Tensor:
    """Loss of the network on the labelled training nodes of a brain, from embeddings [V, C] of all its nodes."""
    return _loss(network, brain, config.augment.build().features(brain.inputs(rows)), config, log_classes)


def _loss(network: nn.Module, brain: JointBrain, inputs: Tensor, config: JointConfig, log_classes: Tensor) -> Tensor:
    logits = network(inputs, inputs[:, :0], brain.adjacency)
    loss: Tensor = config.loss(logits[brain.train], brain.labels[brain.train], log_classes)
    return loss


class JointSteps:
    """The steps of one epoch after another; patches are read ahead by a thread. A step is known by its number alone."""

    def __init__(self, brains: Sequence[JointBrain], config: JointConfig) -> None:
        self.brains, self.config = brains, config
        self.taught = [k for k, brain in enumerate(brains) if brain.sampler is not None]
        self.module: L.LightningModule | None = None

    def __len__(self) -> int:
        return self.config.epoch_steps

    def of(self, step: int) -> Step:
        """What a step is made of."""
        number = self.taught[step % len(self.taught)]
        if not self.config.joint(step):
            return step, number, None
        nodes, gain = self.brains[number].batch(step)
        return step, number, (nodes, gain, self.brains[number].patches.read(nodes))

    def __iter__(self) -> Iterator[Step]:
        assert self.module is not None
        first, size = self.module.trainer.global_step, self.config.epoch_steps
        yield from ahead(self.of, range(first, (first // size + 1) * size))


class JointTraining(L.LightningModule):
    """Trains a network, and in the joint steps the encoder with it.

    Args:
        encoder, network, objective: what is trained; the objective judges the batch's embeddings alone.
        brains: at least one has labels to train on.
        config: how.
        augment: makes views of patches.
        report: takes the newest row of the history.
    """

    def __init__(
        self, encoder: NodeEncoder, network: NodeModel, objective: nn.Module, brains: Sequence[JointBrain],
        config: JointConfig, augment: Callable[..., Tensor], report: Callable[[dict[str, float]], None],
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder, self.network, self.objective = encoder, network, objective
        self.config, self.augment, self.report = config, augment, report
        self.brains = list(brains)
        labels = torch.cat([brain.labels[brain.train] for brain in brains])
        self.log_classes = log_frequency(labels, brains[0].n_classes)
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Tensor] = {}
        self.losses: list[Tensor] = []
        self.told: list[dict[str, float]] = []  # of the cache, since the last row
        self.ended: list[float] = []  # losses of this epoch before the last checkpoint

    def on_fit_start(self) -> None:
        self.brains = [brain.to(self.device) for brain in self.brains]
        self.log_classes = self.log_classes.to(self.device)

    def transfer_batch_to_device(self, batch: Step, device: torch.device, _: int) -> Step:
        return batch

    def on_train_start(self) -> None:
        if self.global_step == 0:
            self._encode_all()

    def _encode_all(self) -> dict[str, float]:
        return _means([brain.encode_all(self.encoder, self.global_step) for brain in self.brains])

    def training_step(self, batch: Step, index: int) -> Tensor:
        step, number, drawn = batch
        brain, config = self.brains[number], self.config
        torch.manual_seed(config.seed * 1_000_003 + step)
        if drawn is None:
            inputs = config.augment.build().features(brain.cached_inputs())
            loss = _loss(self.network, brain, inputs, config, self.log_classes)
        else:
            loss = self._joint_loss(brain, step, *drawn)
        self.losses.append(loss.detach())
        return loss

    def _joint_loss(self, brain: JointBrain, step: int, nodes: Any, gain: Any, items: Any) -> Tensor:
        config = self.config
        patches = torch.from_numpy(items).to(self.device)
        if config.changed:
            patches = self.augment(patches, seed=config.seed, step=step, places=slice(0, len(nodes)), batch=len(nodes))
        fresh = self.encoder(patches)
        where = torch.from_numpy(nodes).to(self.device)
        rows = brain.cache.with_fresh(where, fresh, torch.from_numpy(gain).to(fresh))
        loss = network_loss(self.network, brain, rows, config, self.log_classes)
        if config.weight:
            known = Rows(label=brain.labels[where])
            loss = loss + config.weight * self.objective(fresh, known)
        self.told.append(brain.cache.refresh(where, fresh, step, plain=not config.changed))
        return loss

    def configure_gradient_clipping(self, optimizer: Any, *_: Any, **__: Any) -> None:
        """Of encoder and network each: their gradients differ in size, and one must not quell the other."""
        if self.config.clip:
            for part in (self.encoder, self.network):
                nn.utils.clip_grad_norm_(part.parameters(), self.config.clip)

    # -- after an epoch -----------------------------------------------------------------------------------------------

    def on_train_epoch_end(self) -> None:
        config, step = self.config, self.global_step
        losses = [*self.ended, *(float(loss) for loss in self.losses)]
        row: dict[str, float] = {"step": step, "loss": float(np.mean(losses))}
        row |= {f"batch_{name}": value for name, value in _means(self.told).items()}
        self.losses, self.told, self.ended = [], [], []
        joint, number = config.joint(step - 1), step // config.epoch_steps - config.before
        fresh = not joint or number % config.refresh == 0 or number == config.epochs
        if joint and fresh:
            row |= self._encode_all()
        if fresh:
            row |= self.validated()
            best = max((past.get("validation_macro_f1", -1.0) for past in self.history), default=-1.0)
            if row.get("validation_macro_f1", 0.0) > best or "validation_macro_f1" not in row:
                self.best = {name: value.detach().cpu().clone() for name, value in self._trained().items()}
        self.history.append(row)
        self.report(row)

    def _trained(self) -> dict[str, Tensor]:
        parts = {"encoder": self.encoder, "network": self.network}
        return {f"{part}.{name}": value for part, one in parts.items() for name, value in one.state_dict().items()}

    def validated(self) -> dict[str, float]:
        """Macro-F1 of the network on the nodes that are never trained on, from cached embeddings; {} without any."""
        true, called = [], []
        self.network.eval()
        with torch.no_grad():
            for brain in self.brains:
                if len(brain.validation):
                    inputs = brain.cached_inputs()
                    logits = self.network(inputs, inputs[:, :0], brain.adjacency)[brain.validation]
                    true.append(brain.labels[brain.validation].cpu().numpy())
                    called.append(logits.argmax(1).cpu().numpy())
        self.network.train()
        if not true:
            return {}
        return {"validation_macro_f1": macro_f1(np.concatenate(true), np.concatenate(called), self.brains[0].n_classes)}

    def take_best(self) -> None:
        """The weights of the best validation, or the last ones where nothing validates."""
        self.load_state_dict({**self.state_dict(), **self.best})

    # -- interruptions ------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.ended += [float(loss) for loss in self.losses]
        self.losses = []
        caches = [brain.cache.state() for brain in self.brains]
        checkpoint |= {"history": self.history, "best": self.best, "caches": caches, "told": self.told,
                       "losses": self.ended}  # fmt: skip

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history, self.best = list(checkpoint["history"]), dict(checkpoint["best"])
        self.told, self.ended = list(checkpoint["told"]), list(checkpoint["losses"])
        for brain, state in zip(self.brains, checkpoint["caches"], strict=True):
            brain.cache.restore(state)

    def configure_optimizers(self) -> Any:
        c = self.config
        encoder = [*self.encoder.parameters(), *self.objective.parameters()]
        groups = [
            {"params": encoder, "lr": c.encoder_rate},
            {"params": self.network.parameters(), "lr": c.network_rate},
        ]
        optimiser = torch.optim.AdamW(groups, weight_decay=c.weight_decay)
        first, many = c.before * c.epoch_steps, c.epochs * c.epoch_steps
        shapes = [lambda step: warm_cosine(step - first, many), lambda step: warm_cosine(step, c.steps)]
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": LambdaLR(optimiser, shapes), "interval": "step"}}


def warm_cosine(step: int, steps: int) -> float:
    """Factor of a learning rate: up over the first tenth, then a cosine to 0; 0 outside."""
    if not 0 <= step < steps:
        return 0.0
    rise = max(1.0, _WARM_UP * steps)
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1.0, steps - rise)))


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
