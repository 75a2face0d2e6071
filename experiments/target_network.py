"""Targets of modelling as a network, after the figure of the biobank study (10.1016/j.neuroimage.2024.120600)."""

from meshgnn.experiment.target_network import TargetNetwork
from meshgnn.networks.association import Associations
from meshgnn.networks.blocks.nested import NestedBlocks
from meshgnn.networks.planted import PlantedStudy
from meshgnn.source.participant_table import ParticipantTable


def target_network() -> TargetNetwork.Config:
    """Mutual information of targets, groups of them, what inputs add to scores; a page (default: a planted study).

    25 targets and 700 models with known groups, or yours: --set people=ParticipantTable --set people.folder=DIR, or
    --set results=RUN of biobank_inputs.
    """
    return TargetNetwork.Config()


def quick() -> TargetNetwork.Config:
    """The same on 12 planted targets and 165 models, in seconds."""
    study = PlantedStudy.Config(
        domains=("constitutional=3", "disease=4", "psychology=5"), groups=3, people=300, shared=0.6, missing=0.02
    )
    return TargetNetwork.Config(
        people=study,
        associations=Associations.Config(most=1000),
        blocks=NestedBlocks.Config(weights=("normal", "log-normal"), degree_corrected=(False,)),
    )


def folder() -> TargetNetwork.Config:
    """Your own: columns of participants.tsv (--set people.folder=DIR --set targets=A,B), models (--set results=RUN)."""
    return TargetNetwork.Config(people=ParticipantTable.Config())
