"""The inputs of a cohort by name, any of which a subject may lack. G subjects, N inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.fusion.multi_input_net import BlockEncoder, InputBlock
from features.subject_data.connectivity import SubjectConnectivity
from features.subject_data.labels import TargetLabels
from features.subject_data.meshes import SubjectMeshes
from features.subject_data.table import SubjectTable
from features.subject_data.volumes import SubjectVolumes
from features.transfer.pretrained import Pretrained
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.sockets import SubjectData
from meshgnn.store import content_hash

DataConfig = (
    SubjectVolumes.Config | SubjectConnectivity.Config | SubjectTable.Config | SubjectMeshes.Config
    | TargetLabels.Config
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TraitInput(BaseConfig):
    """One input of a cohort.

    Args:
        name: of the input; of volumes that are still to be converted, the suffix of their files (T1w).
        data: where its items come from.
        encoder: of an item.
        pretrained: a local file of weights that the encoder starts from; if none is named, from its own draw.
    """

    name: str
    data: DataConfig
    encoder: BlockEncoder
    pretrained: Pretrained.Config = field(default_factory=Pretrained.Config)

    def __post_init__(self) -> None:
        self.block()

    def block(self) -> InputBlock:
        """What the network is made of."""
        return InputBlock(name=self.name, encoder=self.encoder)


class TraitItems:
    """Items of several inputs.

    Args:
        data: by name, all of the same G subjects.
    """

    def __init__(self, data: Mapping[str, SubjectData]) -> None:
        if not data:
            raise SettingError("<inputs> names none")
        self.data = dict(data)
        self.names = tuple(data)
        self.shapes = {name: tuple(one.shape) for name, one in data.items()}
        self.present: NDArray[np.bool_] = np.stack([one.observed for one in data.values()], axis=1)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """[G] subjects who have at least one of the inputs."""
        return np.asarray(self.present.any(1))

    def only(self, names: Sequence[str]) -> "TraitItems":
        """Some of the inputs. Raises InputError for one that is not there."""
        for name in names:
            if name not in self.data:
                raise InputError(f"there is no input {name!r}; there is {', '.join(self.names)}")
        return TraitItems({name: one for name, one in self.data.items() if name in names})

    def read(self, subjects: NDArray[np.integer]) -> tuple[dict[str, Tensor], Tensor]:
        """A batch as `MultiInputNet` takes it.

        Args:
            subjects: [B] numbers of subjects who have at least one input.

        Returns:
            Items [n, *shape] by name, of those who have them; and who has what, [B, N] bool.
        """
        present = self.present[subjects]
        items = {}
        for number, name in enumerate(self.names):
            rows = subjects[present[:, number]]
            if len(rows):
                items[name] = torch.from_numpy(np.ascontiguousarray(self.data[name].read(rows)))
        return items, torch.from_numpy(present)

    def key(self) -> str:
        """Hash of everything that decides the items."""
        return content_hash({name: one.key() for name, one in self.data.items()})
