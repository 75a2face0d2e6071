"""Pretraining that needs no network: on generated shapes, or on a trait of other virtual subjects."""

from dataclasses import dataclass, field, replace
from hashlib import sha256

import numpy as np

from features.fusion.multi_input_net import MultiInputNet
from features.fusion.trait_head import TraitHead
from features.subject_data.convert import VolumeConversion
from features.subject_data.volumes import SubjectVolumes
from features.sweep.shapes import CLASSES, Shapes
from features.traits.cohort import STORES, convert, participants_of
from features.traits.items import TraitInput, TraitItems
from features.traits.pooled import scaled
from features.traits.training import TraitMember, TraitTrainer, train_member
from features.transfer.pretrained import Pretrained
from features.weight_files import write_weights
from meshgnn.config import Config as BaseConfig
from meshgnn.data.target_transform import ScoreTarget
from meshgnn.errors import SettingError
from meshgnn.experiment.progress import Bars
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.source.virtual.images import VirtualImages
from meshgnn.source.virtual.images_folder import write_images
from meshgnn.source.virtual.subjects import VirtualSubjects

PLACE, WEIGHTS = "pretrained", "encoder.safetensors"
EVERY = 5  # an item of so many stops the pretraining


class OtherSubjects:
    """Traits of virtual subjects of another seed, of whom none is in the cohort."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            cohort: of the others.
            targets: traits that are predicted; not the one of the experiment.
        """

        cohort: VirtualImages.Config = field(
            default_factory=lambda: VirtualImages.Config(people=VirtualSubjects.Config(subjects=400, seed=9001))
        )
        targets: tuple[str, ...] = ("age",)

        def __post_init__(self) -> None:
            if not self.targets:
                raise SettingError("<targets> names no trait to learn")

        def build(self) -> "OtherSubjects":
            return OtherSubjects(self)

    def __init__(self, config: Config) -> None:
        self.config = config


SurrogateConfig = Shapes.Config | OtherSubjects.Config


def pretrain(
    run: RunFolder,
    config: SurrogateConfig,
    one: TraitInput,
    shape: tuple[int, ...],
    conversion: VolumeConversion.Config,
    trainer: TraitTrainer,
) -> tuple[list[str], float]:
    """Train the input's encoder on a surrogate and keep it in `pretrained/encoder.safetensors`.

    Args:
        one: the input whose encoder is trained.
        shape: of its items.
        conversion: of the volumes of other subjects.
        trainer: how.

    Returns:
        The files, and the best validation skill (0: the constant prediction, 1: perfect).

    Raises:
        InputError: training diverged, or others whose volumes have another shape.
    """
    network = MultiInputNet.Config(blocks=(one.block(),), head=TraitHead.Config(widths=()))
    if isinstance(config, Shapes.Config):
        shapes = config.build(shape)
        judged = np.arange(config.count) // len(CLASSES) % EVERY == 0
        member = TraitMember(
            network=network, items=TraitItems({one.name: shapes}), values=shapes.labels[:, None].astype(float),
            classes=(len(CLASSES),), train=~judged, validation=judged, seed=config.seed,
        )  # fmt: skip
    else:
        assert isinstance(one.data, SubjectVolumes.Config)
        people = participants_of(config.cohort, config.targets)
        write_images(config.cohort.build(), run / "others", Bars(run, "others: "))
        convert(run, conversion, run / "others", one.name, "others")
        judged = people.group_numbers("family") % EVERY == 0
        volumes = replace(one.data, stores=(run / STORES / "others",)).build(people, ~judged)
        values, _ = scaled(people.targets, people.values, np.ones(len(people), bool), ScoreTarget.Config())
        member = TraitMember(
            network=network, items=TraitItems({one.name: volumes}), values=values,
            classes=tuple(len(target.classes) for target in people.targets), train=~judged, validation=judged,
            seed=config.cohort.people.seed,
        )  # fmt: skip
    trained, history = train_member(member, trainer, run / PLACE, Bars(run, "pretraining: "))
    write_weights(run / PLACE / WEIGHTS, trained.encoders[0])
    return [f"{PLACE}/{WEIGHTS}"], max(row["validation_skill"] for row in history)


def pretrained_weights(run: RunFolder) -> Pretrained.Config:
    """The weights that `pretrain` has left."""
    path = run / PLACE / WEIGHTS
    return Pretrained.Config(file=path, sha256=sha256(path.read_bytes()).hexdigest())
