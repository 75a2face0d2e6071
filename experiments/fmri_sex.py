"""Sex, age and a null target from resting runs: networks on windows of volumes and of series, and on connectivity."""

from dataclasses import replace

from features.encoders.attention_layers import AttentionLayers
from features.encoders.connectivity_net import ConnectivityNet
from features.encoders.frame_encoder import FrameEncoder
from features.encoders.run_transformer import RunTransformer
from features.encoders.series_lstm import SeriesLSTM
from features.encoders.series_transformer import SeriesTransformer
from features.encoders.swin4d import Swin4D
from features.encoders.token_sequence import TokenSequence
from features.fusion.trait_head import TraitHead
from features.samplers.epochs import EpochBatches
from features.subject_data.functional_connectivity import FunctionalConnectivity
from features.subject_data.runs import SubjectRuns
from features.subject_data.series import SubjectSeries
from features.traits.experiment import TraitPrediction
from features.traits.items import TraitInput
from features.traits.training import TraitTrainer
from features.transfer.optimiser import Optimiser
from meshgnn.data.subject_split import SubjectSplit
from meshgnn.source.virtual.runs import VirtualRuns
from meshgnn.source.virtual.subjects import VirtualSubjects

INPUTS = (
    TraitInput(name="bold", data=SubjectRuns.Config(channels=2), encoder=RunTransformer.Config()),
    TraitInput(name="bold_swin", data=SubjectRuns.Config(channels=2), encoder=Swin4D.Config()),
    TraitInput(name="series_transformer", data=SubjectSeries.Config(), encoder=SeriesTransformer.Config()),
    TraitInput(name="series_lstm", data=SubjectSeries.Config(), encoder=SeriesLSTM.Config()),
    TraitInput(name="connectivity", data=FunctionalConnectivity.Config(), encoder=ConnectivityNet.Config(widths=(64, 32))),
)


def fmri_sex() -> TraitPrediction.Config:
    """Sex, age and a null target from resting runs of a virtual cohort (nothing to set)."""
    return TraitPrediction.Config(
        cohort=VirtualRuns.Config(people=VirtualSubjects.Config(subjects=200)),
        inputs=INPUTS,
        main=("bold",),
        head=TraitHead.Config(widths=(32,)),
        split=SubjectSplit.Config(cross=False, keep=("family",), alike=("site",)),
        trainer=TraitTrainer(folds=2, epochs=40, patience=10, sampler=EpochBatches.Config(size=16),
            optimiser=Optimiser.Config(learning_rate=1e-3, weight_decay=0.05)),
    )


def quick() -> TraitPrediction.Config:
    """The same on a small cohort, in a few minutes."""
    return replace(fmri_sex(), cohort=VirtualRuns.Config(people=VirtualSubjects.Config(subjects=60), size=16, frames=60))
