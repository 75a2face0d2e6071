"""Training of one member - an encoder with its network - and its files.

A folder holds encoder.safetensors and encoder.json (`features.model_files`), network.safetensors and network.json, and
metrics.csv. A member's network takes the embeddings of its own encoder.
"""

import csv
import io
import logging
import sys
import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins.environments import LightningEnvironment
from numpy.typing import NDArray
from torch import nn

from features.encoders.batch_norm import BatchNorm
from features.encoders.weights import weights_hash
from features.end_to_end.brain import JointBrain, Patches
from features.end_to_end.mesh_inputs import MeshInputs
from features.end_to_end.module import JointSteps, JointTraining
from features.end_to_end.settings import JointConfig
from features.model_files import ABOUT, NodeEncoder, load_encoder, save_encoder
from features.pretraining.checkpoints import StepCheckpoints, Stopped
from features.weight_files import read_weights, rebuilt, write_weights
from meshgnn.config import Config, at, from_plain, to_plain
from meshgnn.data.split import inner_edges
from meshgnn.errors import InputError, SettingError
from meshgnn.nn import Adjacency, CoordinateEncoder, NetworkConfig, NodeModel
from meshgnn.progress import Progress, silent
from meshgnn.sockets import Brain, NodeData
from meshgnn.store import content_hash, read_json, write_json, write_text
from meshgnn.train.checkpoint import LastCheckpoint, SafetensorsIO, readable

VERSION = 1  # raised when the same config gives other weights
NETWORK, NETWORK_ABOUT = "network.safetensors", "network.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """A trained encoder with its network.

    Args:
        encoder, network: the pair.
        rounds: scales of the averages of embeddings.
        areas: names of the classes.
    """

    encoder: NodeEncoder
    network: NodeModel
    rounds: tuple[int, ...]
    areas: tuple[str, ...]


def train_member(
    config: JointConfig, start: NodeEncoder, brains: Sequence[Brain], data: Sequence[NodeData], fold: int | None,
    out: Path, progress: Progress = silent,
) -> Member:  # fmt: skip
    """Train a network and, from the encoder `start` on, the encoder with it; a finished pair is read back.

    Args:
        config: how.
        start: pretrained; if it was trained on labels, it must not have seen those of `fold`.
        brains: with labels, and one list of areas.
        data: items of each.
        fold: whose nodes validate; None: no validation, the last weights are kept.
        out: folder of the files; a killed training goes on from its last checkpoint there.
        progress: called with ("training", step, steps, newest row of metrics.csv) after every epoch.

    Raises:
        InputError: brains with different areas, nothing to train or to validate on, an encoder of other items, patches
            that cannot be used, a loss that is not finite.
    """
    brains = list(brains)
    _check(start, brains, data, fold)
    plain = to_plain(replace(config, checkpoint_steps=0))
    items = [[one.graph.brain, each.key(), *_hashes(one)] for one, each in zip(brains, data)]
    key = content_hash(VERSION, plain, items, -1 if fold is None else fold, weights_hash(start.network))
    if _finished(out, key):
        return load_member(out, (start.network.config, start.data))
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        return _train(config, start, brains, data, fold, out, key, progress)
    finally:
        torch.set_num_threads(before)


def _train(
    config: JointConfig, start: NodeEncoder, brains: Sequence[Brain], data: Sequence[NodeData], fold: int | None,
    out: Path, key: str, progress: Progress,
) -> Member:  # fmt: skip
    encoder = deepcopy(start).train()
    areas = brains[0].graph.areas.names
    joined = [JointBrain(brain, each, fold, config, encoder.out_channels) for brain, each in zip(brains, data)]
    if not any(len(brain.train) and brain.sampler is not None for brain in joined):
        raise InputError("no labelled node is left to train on; annotate more sections, or lower buffer_mm")
    if fold is not None and not any(len(brain.validation) for brain in joined):
        raise InputError(f"fold {fold} holds no labelled node to validate on; annotate more sections")
    torch.manual_seed(config.seed)
    channels = encoder.out_channels * (len(config.rounds) + 1)
    with at("network"):
        network = NodeModel(config.network, CoordinateEncoder.Config(), channels, 0, len(areas))
    objective = config.objective.build(encoder.out_channels, len(areas)) if config.weight else nn.Identity()

    def report(row: dict[str, float]) -> None:
        _write_metrics(out / "metrics.csv", module.history)
        if not np.isfinite(row["loss"]):
            raise SettingError("training diverged; lower <encoder_rate> or <network_rate>")
        progress("training", int(row["step"]), config.steps, row)

    module = JointTraining(encoder, network, objective, joined, config, start.data.augment.build(), report)
    steps = JointSteps(joined, config)
    steps.module = module
    last = out / "checkpoints" / f"last-{key}.safetensors"
    stops = StepCheckpoints(last, config.checkpoint_steps, config.epoch_steps)
    cuda = config.device != "cpu" and torch.cuda.is_available()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        trainer = L.Trainer(
            accelerator="gpu" if cuda else "cpu", devices=1, max_epochs=config.steps // config.epoch_steps,
            gradient_clip_val=config.clip or None, logger=False, enable_progress_bar=False,
            enable_model_summary=False, use_distributed_sampler=False, callbacks=[stops, LastCheckpoint(last)],
            plugins=[SafetensorsIO(), LightningEnvironment()],
        )  # fmt: skip
        try:
            trainer.fit(module, train_dataloaders=steps, ckpt_path=str(last) if readable(last) else None)
        except SystemExit:  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from None
        except Stopped as stopped:
            print(stopped, file=sys.stderr, flush=True)
            raise SystemExit(stopped.code) from None
        finally:
            stops.restore()
    module.take_best()
    member = Member(encoder=encoder.cpu().eval(), network=network.cpu().eval(), rounds=config.rounds, areas=areas)
    if not all(torch.isfinite(value).all() for value in module.state_dict().values()):
        raise SettingError("training diverged; lower <encoder_rate> or <network_rate>")
    left_out = {brain.name: brain.patches.left_out for brain in joined if brain.patches.left_out}
    about = {"key": key, "joint": to_plain(config), "history": module.history, "fold": fold,
             "started_from": start.identity()["weights"], "brains": [brain.name for brain in joined],
             "left_out": left_out}  # fmt: skip
    _save(out, member, about)
    last.unlink(missing_ok=True)
    return member


def _check(start: NodeEncoder, brains: Sequence[Brain], data: Sequence[NodeData], fold: int | None) -> None:
    if not brains:
        raise InputError("no brain to train on")
    first = brains[0].graph
    for brain, each in zip(brains, data):
        if brain.graph.areas.names != first.areas.names:
            raise InputError(f"{brain.graph.brain} and {first.brain} have different areas; use one areas.json")
        if tuple(each.shape) != start.shape:
            raise InputError(
                f"{brain.graph.brain}: patches of shape {tuple(each.shape)}, but the encoder takes {start.shape}; "
                "name an encoder that was pretrained on such patches"
            )
    norms = nn.modules.batchnorm._BatchNorm, BatchNorm
    if any(isinstance(part, norms) for part in start.modules()):
        raise InputError(
            "this encoder has batch norms: the embedding of a node would depend on the others in its batch, and the "
            "kept ones would be of another network; choose an encoder with group norms"
        )


def _hashes(brain: Brain) -> list[str]:
    graph, fold = brain.graph, np.asarray(brain.fold)
    arrays = (graph.labels, graph.edges, graph.cortex, fold, brain.train)
    return [content_hash(np.ascontiguousarray(one).tobytes().hex()) for one in arrays]


def _write_metrics(path: Path, history: list[dict[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(n for row in history for n in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(path, text.getvalue())


# -- files ------------------------------------------------------------------------------------------------------------


def _save(out: Path, member: Member, training: dict[str, Any]) -> None:
    """Weights first and the encoder's record last, so that a pair is complete where encoder.json stands."""
    write_weights(out / NETWORK, member.network)
    about = {
        "format": 1, "record": "JointNetwork", "network": training["joint"]["network"],
        "channels": member.encoder.out_channels, "rounds": list(member.rounds), "areas": list(member.areas),
        "weights": weights_hash(member.network), "encoder": weights_hash(member.encoder.network),
    }  # fmt: skip
    write_json(out / NETWORK_ABOUT, about)
    save_encoder(out, member.encoder, training)


def _finished(out: Path, key: str) -> bool:
    try:
        return bool(read_json(out / ABOUT)["training"]["key"] == key)
    except (InputError, KeyError, TypeError):
        return False


def load_member(folder: Path, more: Sequence[Config] = ()) -> Member:
    """What `train_member` wrote.

    Raises:
        InputError: missing or damaged files, a network of another encoder.
    """
    encoder, path = load_encoder(folder, more), folder / NETWORK_ABOUT
    about = read_json(path)
    if not isinstance(about, dict) or about.get("record") != "JointNetwork" or about.get("format") != 1:
        raise InputError(f"{path}: not a network of joint training of format 1")
    try:
        config = from_plain(NetworkConfig, about["network"], f"{path}: network")
        rounds = from_plain(tuple[int, ...], about["rounds"], f"{path}: rounds")
        areas = from_plain(tuple[str, ...], about["areas"], f"{path}: areas")
        weights, other = str(about["weights"]), str(about["encoder"])
    except KeyError as error:
        raise InputError(f"{path}: {error} is missing") from None
    if other != weights_hash(encoder.network):
        raise InputError(f"{path}: the network was trained with another encoder than {ABOUT} names; copy both again")
    channels = encoder.out_channels * (len(rounds) + 1)
    network = rebuilt(
        lambda: NodeModel(config, CoordinateEncoder.Config(), channels, 0, len(areas)),
        read_weights(folder / NETWORK)[0], f"{folder / NETWORK}: does not fit {NETWORK_ABOUT}",
    )  # fmt: skip
    if weights_hash(network) != weights:
        raise InputError(f"{folder / NETWORK}: its weights are not those that {NETWORK_ABOUT} was written for")
    return Member(encoder=encoder, network=network.eval(), rounds=rounds, areas=areas)


# -- use --------------------------------------------------------------------------------------------------------------


def embedded(encoder: NodeEncoder, patches: Patches, config: JointConfig) -> torch.Tensor:
    """[V, C] embeddings of all nodes with a patch, 0 elsewhere.

    Args:
        config: says how many are encoded at a time.
    """
    rows = torch.zeros(len(patches.place), encoder.out_channels)
    with torch.no_grad():
        for k in range(0, len(patches.nodes), config.encode):
            nodes = patches.nodes[k : k + config.encode]
            rows[torch.from_numpy(nodes)] = encoder(torch.from_numpy(patches.read(nodes)))
    return rows


def map_of_rows(member: Member, brain: Brain, patches: Patches, rows: torch.Tensor) -> NDArray[np.float32]:
    """[V, K] probabilities of the network from embeddings [V, C] that its encoder gave."""
    with torch.no_grad():
        inputs = MeshInputs(brain.graph, patches.observed, member.rounds)(rows)
        near = Adjacency(brain.graph.n_nodes, inner_edges(brain.graph))
        found = member.network(inputs, inputs[:, :0], near).softmax(1).numpy()
    return np.asarray(found, np.float32)


def member_map(
    member: Member, brain: Brain, data: NodeData, config: JointConfig, patches: Patches | None = None
) -> NDArray[np.float32]:
    """[V, K] probabilities of a member for any brain: all its patches encoded afresh, no label is looked at.

    Args:
        config: how patches are read and encoded.
        patches: of the brain, where they have been read already.
    """
    patches = patches or Patches(brain, data, config.memory_mb)
    return map_of_rows(member, brain, patches, embedded(member.encoder, patches, config))
