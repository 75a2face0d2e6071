"""Features of encoders that were trained together with a graph network; and the whole ensemble of both."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.contrastive_features import ContrastiveFeatures, common_nodes
from features.end_to_end.brain import Patches
from features.end_to_end.settings import JointConfig
from features.end_to_end.training import NETWORK, NETWORK_ABOUT, Member, load_member, member_map, train_member
from features.model_files import load_encoder
from features.node_sets import node_set
from features.shared_space import fold_folder, load_fitted, save_space
from meshgnn.config import at
from meshgnn.errors import InputError, SettingError
from meshgnn.progress import Progress
from meshgnn.sockets import Brain

PRETRAINED = "pretrained"


class EndToEndFeatures(ContrastiveFeatures):
    """Pretrains encoders as `ContrastiveFeatures` does, then trains each with a graph network.

    The encoder that has not seen fold k goes on outside fold k, with a network of its own; both are kept as they
    were when they named the nodes of fold k best. So a node of fold k is still encoded by an encoder that never saw
    it, and a brain never trained on is encoded afresh by all. The folder is one of cross-fitted encoders, for
    `features.extract`, with `network.safetensors` beside each.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(ContrastiveFeatures.Config):
        """
        Args:
            joint: training of encoder and network together.
        """

        joint: JointConfig = field(default_factory=JointConfig)

        def build(self) -> "EndToEndFeatures":
            return EndToEndFeatures(self)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.joint = config.joint

    def fit(self, brains: Sequence[Brain], folder: Path, progress: Progress) -> list[str]:
        """Pretrain (into `folder`/pretrained), then train with networks. Goes on if killed.

        Raises:
            InputError: labels in fewer than two folds, and whatever the two trainings cannot work with.
        """
        written = super().fit(brains, folder / PRETRAINED, progress)
        return [f"{PRETRAINED}/{name}" for name in written] + self.train(brains, folder / PRETRAINED, folder, progress)

    def train(self, brains: Sequence[Brain], start: Path, folder: Path, progress: Progress) -> list[str]:
        """Joint training from the cross-fitted encoders in `start`; returns the files written, relative to `folder`.

        Raises:
            InputError: `start` holds a single encoder, which has seen all labels, or encoders of other folds.
        """
        folds = sorted(load_fitted(start, self.config.pretrain.parts()).left_out)
        labelled = {int(k) for b in brains for k in np.unique(b.fold[(b.graph.labels >= 0) & b.graph.cortex])}
        if len(folds) < 2:
            raise InputError(
                f"{start}: a single encoder, which has seen every label, so that nothing is left to validate on; joint "
                "training needs encoders of two folds or more: annotate more sections, and pretrain in folds"
            )
        if set(folds) - labelled:
            raise InputError(f"{start}: encoders of folds {folds}, but the brains hold labels in {sorted(labelled)}")
        sources = [node_set(brain, self._data(brain)) for brain in brains]
        data, total = [source.data for source in sources], len(folds) * self.joint.steps
        encoders = {}
        for place, fold in enumerate(folds):

            def bar(step: str, done: int, _: int, row: object = None, before: int = place * self.joint.steps) -> None:
                progress(step, before + done, total, row)  # type: ignore[arg-type]

            encoder = load_encoder(fold_folder(start, fold), self.config.pretrain.parts())
            with at("joint"):
                member = train_member(self.joint, encoder, brains, data, fold, fold_folder(folder, fold), bar)
            encoders[fold] = member.encoder
        nodes = common_nodes(brains, data, self.config.common)
        matrices, offsets = self._maps(encoders, sources, nodes)
        about = {"nodes": sum(map(len, nodes)), "end_to_end": True}
        written = save_space(folder, encoders, matrices, offsets, about)
        return [*written, *(f"fold-{fold}/{name}" for fold in folds for name in (NETWORK, NETWORK_ABOUT))]

    def map(self, brain: Brain, folder: Path) -> NDArray[np.float32]:
        """[V, K] mean probabilities of the networks for any brain; of a node of a fold, by the one that has not seen
        it. Each network sees the patches through its own encoder."""
        members = load_members(folder)
        data = self._data(brain)
        patches = Patches(brain, data, self.joint.memory_mb)
        votes = {fold: member_map(one, brain, data, self.joint, patches) for fold, one in members.items()}
        found = np.stack(list(votes.values())).mean(0)
        for fold, one in votes.items():
            found[brain.fold == fold] = one[brain.fold == fold]
        return found


def load_members(folder: Path) -> dict[int, Member]:
    """The pairs of encoder and network in a folder, by the fold that each has not seen.

    Raises:
        InputError: not a folder of joint training, or a damaged one.
    """
    found = load_fitted(folder).left_out
    if not found:
        raise InputError(f"{folder}: holds no encoders that were trained with networks")
    return {fold: load_member(fold_folder(folder, fold)) for fold in sorted(found)}


def config_of(start: Path, joint: JointConfig, common: int, name: str) -> EndToEndFeatures.Config:
    """Settings of features whose encoders exist: what they see and what they are is read from their files.

    Raises:
        InputError: no encoders there.
    """
    encoder = load_fitted(start).whole
    base = EndToEndFeatures.Config()
    if joint.encode < 1 or common < 1:
        raise SettingError("<encode> and <common> must be at least 1")
    extract = replace(base.extract, name=name, threads=joint.threads, device=joint.device, batch=joint.encode,
                      shard=max(base.extract.shard, joint.encode))  # fmt: skip
    return replace(
        base, joint=joint, common=common, extract=extract, pretrain=replace(base.pretrain, data=encoder.data)
    )
