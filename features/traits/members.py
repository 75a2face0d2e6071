"""The members of a division: what each trains on, what they say of the others. G subjects, K classes of a target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from features.fusion.model_files import load_network
from features.fusion.multi_input_net import MultiInputNet
from features.traits.items import TraitItems
from features.traits.pooled import in_own_units, scaled
from features.traits.training import TraitMember, TraitTrainer, predict
from features.transfer.pretrained import Pretrained
from meshgnn.data.target_transform import TransformConfig
from meshgnn.experiment.subject_divisions import Division
from meshgnn.source.participant_table import Participants


@dataclass(frozen=True, kw_only=True, eq=False)
class PlacedMember:
    """A member, and where it is kept."""

    network: str
    seed: int
    fold: int
    member: TraitMember
    place: Path


def members_of(
    networks: Mapping[str, tuple[MultiInputNet.Config, Sequence[str]]],
    pretrained: Mapping[str, Pretrained.Config],
    items: TraitItems,
    people: Participants,
    values: NDArray[np.float64],
    division: Division,
    transform: TransformConfig,
    seeds: Sequence[int],
    folds: int,
) -> list[PlacedMember]:
    """
    Args:
        networks: name -> config and inputs.
        pretrained: input -> weights that its block starts from.
        items: of all subjects.
        people: whose targets are learnt.
        values: [G, T] of all subjects, in the targets' own units; those of test subjects are not looked at.
        division: who trains and who validates, seed after seed.
        transform: of numbers, fitted on the training part.
        seeds, folds: of the ensembles.
    """
    train = division.part.train
    learnt, _ = scaled(people.targets, np.where(train[:, None], values, np.nan), train, transform)
    found = []
    for name, (network, inputs) in networks.items():
        for row, seed in enumerate(seeds):
            for fold in range(folds):
                judged = division.validation[row * folds + fold]
                member = TraitMember(
                    network=network, items=items.only(inputs), values=learnt,
                    classes=tuple(len(target.classes) for target in people.targets),
                    train=train & ~judged, validation=judged, seed=seed * 1000 + fold,
                    pretrained={one: start for one, start in pretrained.items() if one in inputs},
                )  # fmt: skip
                place = Path(f"seed{seed}-fold{fold}")
                found.append(PlacedMember(network=name, seed=seed, fold=fold, member=member, place=place))
    return found


def predictions(
    members: Sequence[PlacedMember],
    people: Participants,
    values: NDArray[np.float64],
    train: NDArray[np.bool_],
    transform: TransformConfig,
    trainer: TraitTrainer,
) -> dict[str, dict[int, NDArray[np.float64]]]:
    """ "NETWORK:SEED" -> target -> [G, K] or [G, 1] in the target's own unit, mean over folds.

    NaN for subjects of the training part, and for those who have none of the network's inputs.

    Args:
        members: trained ones.
        values: [G, T], of which the training part is looked at; train: [G] bool.
    """
    found: dict[str, dict[int, NDArray[np.float64]]] = {}
    _, scales = scaled(people.targets, values, train, transform)
    for one in members:
        rows = np.flatnonzero(one.member.items.usable & ~train)
        network = load_network(one.place).to("cuda" if torch.cuda.is_available() else "cpu")
        outputs = predict(network, one.member.items, rows, trainer.sampler.size)
        own = found.setdefault(f"{one.network}:{one.seed}", {})
        for column, said in enumerate(in_own_units(outputs, one.member.classes, scales)):
            mean = own.setdefault(column, np.full((len(people), said.shape[1]), np.nan))
            mean[rows] = np.nan_to_num(mean[rows]) + said / trainer.folds
    return found
