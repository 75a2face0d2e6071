"""Traits from resting runs: networks on windows of volumes, on series of regions and on functional connectivity."""

from dataclasses import replace

from features.encoders.attention_layers import AttentionLayers
from features.encoders.connectivity_net import ConnectivityNet
from features.encoders.frame_encoder import FrameEncoder
from features.encoders.run_transformer import RunTransformer
from features.encoders.series_lstm import SeriesLSTM
from features.encoders.series_transformer import SeriesTransformer
from features.encoders.swin4d import Swin4D
from features.encoders.token_sequence import TokenSequence
from features.fmri.experiment import RunPrediction
from features.fmri.phase import PhaseTraining
from features.fusion.trait_head import TraitHead
from features.objectives.intensity import Intensity
from features.objectives.reconstruction import Reconstruction
from features.objectives.temporal_contrast import TemporalContrast
from features.samplers.epochs import EpochBatches
from features.subject_data.functional_connectivity import FunctionalConnectivity
from features.subject_data.runs import SubjectRuns
from features.subject_data.series import SubjectSeries
from features.traits.items import TraitInput
from features.traits.training import TraitTrainer
from features.transfer.optimiser import Optimiser
from features.transfer.rates import WarmUpCosine
from meshgnn.data.subject_split import SubjectSplit
from meshgnn.source.participant_table import ParticipantTable
from meshgnn.source.virtual.runs import VirtualRuns
from meshgnn.source.virtual.subjects import VirtualSubjects

RUNS = SubjectRuns.Config(channels=2, frames=20)
SERIES = SubjectSeries.Config(frames=60, stride=20)
# Traits show in how places change together, so features are correlated over frames, and frames are halved twice only:
# of 16^3 voxels, three halvings leave 2^3 places, too few to tell one region from another. Dropout of single values
# would weaken every correlation in training and none in evaluation.
LAYERS = AttentionLayers.Config(depth=2, heads=4, feed_forward=128, dropout=0.0)
SEQUENCE = TokenSequence.Config(layers=LAYERS, pool="correlation", standardised=True)
FRAMES = FrameEncoder.Config(channels=(4, 8, 16), blocks=(1, 1, 1), features=128)
TRANSFORMER = RunTransformer.Config(frames=FRAMES, sequence=SEQUENCE)
SWIFT = Swin4D.Config(patch=(4, 4, 4), window=(2, 2, 2, 4), pool="correlation", standardised=True)
UNTRAINED = ("sequence.pool.",)  # no objective of the second phase looks at the vector of a window
INPUTS = (
    TraitInput(name="bold", data=RUNS, encoder=TRANSFORMER),
    TraitInput(name="bold_from_scratch", data=RUNS, encoder=TRANSFORMER),
    TraitInput(name="bold_swin", data=RUNS, encoder=SWIFT),
    TraitInput(name="series_transformer", data=SERIES, encoder=SeriesTransformer.Config(sequence=SEQUENCE)),
    TraitInput(name="series_lstm", data=SERIES, encoder=SeriesLSTM.Config()),
    TraitInput(
        name="connectivity", data=FunctionalConnectivity.Config(), encoder=ConnectivityNet.Config(widths=(64, 32))
    ),
)
# A phase is kept where it is validated: a run that is killed loses less than 20 steps of it.
PHASES = (
    PhaseTraining.Config(
        phase="autoencoder", objectives=(Reconstruction.Config(), Intensity.Config()), epochs=2, batch=8,
        validate_every=20, windows=2,
    ),
    PhaseTraining.Config(
        phase="transformer", objectives=(Reconstruction.Config(), Intensity.Config(), TemporalContrast.Config()),
        epochs=1, batch=8, validate_every=20, windows=2, untrained=UNTRAINED,
    ),
)  # fmt: skip


def fmri_sex() -> RunPrediction.Config:
    """Sex, age and a null target from resting runs of a virtual cohort, in three phases (nothing to set).

    Beside the transformer over frames: the same from scratch, SwiFT, a transformer and an LSTM on series of regions,
    and a network and a linear model on functional connectivity, in one table.
    """
    return RunPrediction.Config(
        cohort=VirtualRuns.Config(people=VirtualSubjects.Config(subjects=200), size=16),
        inputs=INPUTS,
        main=("bold",),
        phases=PHASES,
        pretrained="bold",
        # Of a hundred subjects an epoch has six steps: too few for the running moments of a batch norm in the head,
        # behind layers that move fast.
        head=TraitHead.Config(widths=(32,), norm=False, dropout=0.2),
        split=SubjectSplit.Config(parts=4, cross=False, keep=("family",), alike=("site",)),
        trainer=TraitTrainer(
            folds=3,
            epochs=24,
            patience=24,
            keep="last",
            windows=2,
            sampler=EpochBatches.Config(size=16),
            optimiser=Optimiser.Config(learning_rate=2e-3, weight_decay=0.05),
            rate=WarmUpCosine(),
        ),
    )


def quick() -> RunPrediction.Config:
    """The same on a small cohort, in a few minutes."""
    base = fmri_sex()
    return replace(
        base,
        cohort=VirtualRuns.Config(people=VirtualSubjects.Config(subjects=100), size=16),
        phases=tuple(replace(phase, steps=40) for phase in PHASES),
        trainer=replace(base.trainer, folds=2, epochs=12, patience=12, windows=1, sampler=EpochBatches.Config(size=8)),
    )


def folder() -> RunPrediction.Config:
    """The same on your subjects (--set cohort.folder=DIR --set cohort.targets=sex,age).

    DIR holds participants.tsv, sub-*/func/sub-*_bold.nii.gz and sub-*/func/sub-*_atlas-*_timeseries.tsv.
    """
    return replace(fmri_sex(), cohort=ParticipantTable.Config())
