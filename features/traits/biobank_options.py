"""The options of the biobank study's program, as fields: one network of it as a `TraitPrediction`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from features.augment_head import HeadAugment
from features.encoders.biobank_cnn import BiobankCNN
from features.encoders.connectivity_net import ConnectivityNet
from features.encoders.table_net import TableNet
from features.fusion.concatenation import Concatenation
from features.fusion.multi_input_net import BlockEncoder, Fusion
from features.fusion.trait_head import TraitHead
from features.samplers.epochs import EpochBatches
from features.subject_data.connectivity import SubjectConnectivity
from features.subject_data.labels import TargetLabels
from features.subject_data.table import SubjectTable
from features.subject_data.volumes import SubjectVolumes
from features.traits.combinations import Combination
from features.traits.experiment import TraitPrediction
from features.traits.items import TraitInput
from features.traits.training import TraitTrainer
from features.transfer.optimiser import Optimiser
from meshgnn.config import Config as BaseConfig
from meshgnn.data.subject_split import SubjectSplit
from meshgnn.data.target_transform import RangeTarget
from meshgnn.errors import SettingError
from meshgnn.source.participant_table import ParticipantTable
from meshgnn.source.subjects import Target
from meshgnn.train.loss import Loss

SUFFIXES = {"flair": "FLAIR", "t1": "T1w", "dwi": "dwi"}  # of the files that hold an image
TABLE, MATRICES, LABELS = "metadata", "connectivity", "diagnostic"
INPUTS = (*SUFFIXES, TABLE, MATRICES)


@dataclass(frozen=True, kw_only=True)
class BiobankOptions(BaseConfig):
    """Options under the names and with the defaults that the study documents (10.1016/j.neuroimage.2024.120600); true
    or false where its program took words. Its paths are `cohort.folder` and --out here, its `restore` is --resume; the
    device is found, and its numbers of workers and GPUs are the experiment's `workers`.

    As there: classes are balanced by undersampling in every epoch, numbers are clamped to percentiles and brought into
    [-1, 1], each image is scaled to that range. Other than there: every image type has a convolutional block of its
    own, which is not run for subjects who lack it, the split is random by families and alike in sites, and an ensemble
    of `folds` networks is averaged.

    Args:
        target: of the only network, where one is trained.
        inputs: flair, t1, dwi, metadata, connectivity.
        metadata_blocks: domains of the table's columns, without that of the target.
        epochs: at most.
        batch_size: subjects.
        lr: learning rate of Adam.
        patience: epochs without a better validation before training stops.
        resize: volumes of 64^3, else of 128^3.
        veto_transformations: train on volumes as they are.
        augs_probability: that each change is made, otherwise.
        diagnostic: give the labels as one more input, to show that the chain can learn at all.
        data_size: subjects at most.
        side: voxels along a side instead of what `resize` says; 0 for that.
        folds: networks of an ensemble.
        weight_decay: of the optimiser, never part of a reported loss.
        images: network of an image; none for the study's own of that size.
        connectivity, matrices: network of a connectivity matrix, and where matrices are.
        table, columns: network of the table, and how it is read.
        fusion, head: how inputs are joined, and what follows.
    """

    target: str = "sex"
    inputs: tuple[str, ...] = ("flair", "t1", "dwi", "metadata", "connectivity")
    metadata_blocks: tuple[str, ...] = ("constitutional", "serology", "psychology", "disease")
    epochs: int = 999999
    batch_size: int = 64
    lr: float = 1e-4
    patience: int = 30
    resize: bool = True
    veto_transformations: bool = True
    augs_probability: float = 0.05
    diagnostic: bool = False
    data_size: int = 999999999
    side: int = 0
    folds: int = 2
    weight_decay: float = 1e-4
    images: BlockEncoder | None = None
    connectivity: ConnectivityNet.Config = field(default_factory=ConnectivityNet.Config)
    matrices: SubjectConnectivity.Config = field(default_factory=SubjectConnectivity.Config)
    table: TableNet.Config = field(default_factory=lambda: TableNet.Config(missing=True))
    columns: SubjectTable.Config = field(default_factory=lambda: SubjectTable.Config(unseen="other"))
    fusion: Fusion = field(default_factory=Concatenation.Config)
    head: TraitHead.Config = field(default_factory=TraitHead.Config)

    def __post_init__(self) -> None:
        wrong = [name for name in self.inputs if name not in INPUTS]
        if wrong or not self.inputs or len(set(self.inputs)) < len(self.inputs):
            raise SettingError(f"<inputs> must be some of {', '.join(INPUTS)}, each once; got {', '.join(self.inputs)}")
        if TABLE in self.inputs and not self.metadata_blocks:
            raise SettingError("<metadata_blocks> names no domain; name one, or leave metadata out of <inputs>")
        if min(self.data_size, self.epochs, self.batch_size, self.patience) < 1 or self.side < 0:
            raise SettingError(
                "<data_size>, <epochs>, <batch_size> and <patience> must be at least 1, <side> not negative"
            )
        if not 0 <= self.augs_probability <= 1:
            raise SettingError("<augs_probability> must lie in [0, 1]")

    @property
    def voxels(self) -> int:
        """Along a side of a volume."""
        return self.side or (64 if self.resize else 128)

    def encoder(self) -> BlockEncoder:
        """Of an image."""
        if self.images is not None:
            return self.images
        if self.voxels < 128:
            return BiobankCNN.Config()
        return BiobankCNN.Config(channels=(32, 64, 128, 256, 256, 256), out_channels=256)

    def prediction(
        self,
        one: Combination,
        target: Target,
        cohort: ParticipantTable.Config,
        stores: Mapping[str, Path],
        domains: Mapping[str, str],
        split: SubjectSplit.Config,
        seeds: tuple[int, ...],
    ) -> TraitPrediction.Config:
        """The experiment that trains and judges one network.

        Args:
            one: what it gets.
            target: what it predicts.
            cohort: folder, with this target alone.
            stores: of volumes, by image.
            domains: of targets and columns, in addition to what the table's JSON file says.
        """
        given: list[TraitInput] = []
        for name in one.inputs:
            if name in SUFFIXES:
                volumes = SubjectVolumes.Config(stores=(stores[name],), scale="range")
                given.append(TraitInput(name=name, data=volumes, encoder=self.encoder()))
            else:
                given.append(TraitInput(name=name, data=self.matrices, encoder=self.connectivity))
        if one.domains:
            known = tuple(f"{column}={domain}" for column, domain in domains.items() if domain)
            columns = self.columns.with_domains(known, one.domains)
            given.append(TraitInput(name=TABLE, data=columns, encoder=self.table))
        if self.diagnostic:
            given.append(TraitInput(name=LABELS, data=TargetLabels.Config(), encoder=TableNet.Config(dropout=0.0)))
        return TraitPrediction.Config(
            cohort=cohort, most_subjects=self.data_size, inputs=tuple(given), fusion=self.fusion, head=self.head,
            alone=False, transform=RangeTarget.Config(), split=split, seeds=seeds,
            trainer=TraitTrainer(
                folds=self.folds, epochs=self.epochs, patience=self.patience,
                sampler=EpochBatches.Config(
                    size=self.batch_size, balance="undersample" if target.classes else "none"
                ),
                optimiser=Optimiser.Config(kind="adam", learning_rate=self.lr, weight_decay=self.weight_decay),
                augment=None if self.veto_transformations else HeadAugment.Config(chance=self.augs_probability),
                loss=Loss(balance=0.0),
            ),
        )  # fmt: skip
