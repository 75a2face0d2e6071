"""What stands before the first step: weights to begin with, batch norms over ranks, Lightning's trainer, lost ranks."""

import re
from typing import Any

import torch
from lightning.fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from torch import distributed

from features.encoders.batch_norm import BatchNorm, with_own_batch_norm
from features.model_files import NodeEncoder
from features.parallel.joint_norm import with_joint_batch_norm
from features.pretraining.recipe import PretrainConfig
from meshgnn.config import at
from meshgnn.errors import InputError, SettingError
from meshgnn.ranks import rank_and_world, ranks_here
from meshgnn.train.checkpoint import SafetensorsIO


def prepare(config: PretrainConfig, encoder: NodeEncoder, start: NodeEncoder | None) -> None:
    """Weights to begin with, batch norms over all ranks, activations that are not kept.

    Raises:
        InputError: weights of another encoder.
        SettingError: what the encoder cannot do.
    """
    if start is not None:
        ours, theirs = ({**one.network.identity(), "weights": ""} for one in (encoder, start))
        if ours != theirs:
            wrong = next(name for name in ours if ours[name] != theirs.get(name))
            raise InputError(f"{config.start}: is another encoder ({wrong} differs); give both the same settings")
        start.refuse_other(encoder.data.item_format())
        encoder.network.load_state_dict(start.network.state_dict())
    if config.weights.file is not None:
        with at("weights"):
            config.weights.build().into(encoder.network)
    with_own_batch_norm(encoder)
    norms = any(isinstance(part, BatchNorm) for part in encoder.modules())
    if norms and config.micro:
        raise SettingError(
            "<micro> would let this encoder's batch norms see a few items at a time: another gradient than that "
            "of the batch; choose an encoder with group norms"
        )
    if norms and rank_and_world()[1] > 1:
        with_joint_batch_norm(encoder)
    if config.recompute:
        if not hasattr(encoder.network, "recompute"):
            raise SettingError("<recompute> is not known to this encoder; use <micro>")
        encoder.network.recompute = True


def trainer_settings(config: PretrainConfig) -> dict[str, Any]:
    """Lightning's settings: one rank, or those that torchrun, srun or mpiexec started."""
    cuda = config.device != "cpu" and torch.cuda.is_available()
    # The environment is named: within a Slurm job Lightning would otherwise put the job back into the queue by itself.
    settings: dict[str, Any] = {
        "accelerator": "gpu" if cuda else "cpu", "devices": 1, "plugins": [SafetensorsIO(), LightningEnvironment()],
        "deterministic": "warn" if config.deterministic else None,
        "precision": "bf16-mixed" if config.precision == "bf16" else "32-true",
    }  # fmt: skip
    world, local = rank_and_world()[1], ranks_here()
    if world > 1:
        from lightning.pytorch.strategies import DDPStrategy

        backend = "nccl" if cuda else "gloo"
        settings |= {
            "devices": local,
            "num_nodes": world // local,
            "strategy": DDPStrategy(process_group_backend=backend),
            "plugins": [SafetensorsIO(), TorchElasticEnvironment()],  # reads what `adopt_launcher` said
        }
    return settings


def lost(error: RuntimeError) -> str:
    """What happened, in one line, if it was a message to another rank that failed; empty otherwise."""
    text = str(error)
    if not isinstance(error, distributed.DistError) and not re.search("gloo|NCCL|by peer|process group", text):
        return ""
    reason = re.sub(r"^\[.*?\]\s*", "", text.splitlines()[0])[:160]
    return f"another rank ended or does not answer ({reason}); the same command goes on"
