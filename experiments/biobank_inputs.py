"""What each input tells of each trait: every combination of inputs for every target.

The enumeration is that of the biobank study "Computational limits to the legibility of the human brain" (NeuroImage
2024, 10.1016/j.neuroimage.2024.120600): on its 25 targets exactly its 700 networks, with `combinations=full` 147 more
that see images and connectivity alone.
"""

from dataclasses import replace

from features.encoders.biobank_cnn import BiobankCNN
from features.encoders.connectivity_net import ConnectivityNet
from features.encoders.table_net import TableNet
from features.fusion.trait_head import TraitHead
from features.traits.biobank import BiobankInputs
from features.traits.biobank_options import BiobankOptions
from meshgnn.source.participant_table import ParticipantTable
from meshgnn.source.virtual.images import VirtualImages
from meshgnn.source.virtual.subjects import VirtualSubjects

# Small networks for small cohorts, at rates that they learn at within minutes.
SMALL = BiobankOptions(
    inputs=("t1", "metadata", "connectivity"),
    epochs=40,
    batch_size=32,
    lr=3e-3,
    patience=8,
    side=32,
    images=BiobankCNN.Config(channels=(8, 16, 32), out_channels=32),
    connectivity=ConnectivityNet.Config(widths=(64, 32)),
    table=TableNet.Config(widths=(32, 16), missing=True),
    head=TraitHead.Config(widths=(32,)),
)


def biobank_inputs() -> BiobankInputs.Config:
    """Combinations of T1, connectivity and a table's domains for every trait of a virtual cohort: 124 networks."""
    return BiobankInputs.Config(
        cohort=VirtualImages.Config(people=VirtualSubjects.Config(subjects=300), absent=0.2),
        combinations="full",
        options=SMALL,
    )


def quick() -> BiobankInputs.Config:
    """21 networks on a small cohort: T1, connectivity and one domain, for sex, score and a null target; in minutes."""
    return BiobankInputs.Config(
        cohort=VirtualImages.Config(people=VirtualSubjects.Config(subjects=140), size=16, absent=0.2),
        targets=("sex", "score", "null"),
        combinations="every",
        options=replace(
            SMALL,
            metadata_blocks=("constitutional",),
            side=16,
            images=BiobankCNN.Config(channels=(8, 16), out_channels=32),
            epochs=20,
            batch_size=8,
        ),
        workers=2,
    )


def folder() -> BiobankInputs.Config:
    """The published combinations on your subjects (--set cohort.folder=DIR --set cohort.targets=sex,age).

    With the study's own networks and options. Domains of targets and columns stand in the JSON files beside the tables
    ("Domain"), or in `domains`.
    """
    return BiobankInputs.Config(cohort=ParticipantTable.Config())
