"""The inputs of a cohort by name, any of which a subject may lack. G subjects, N inputs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from features.fusion.multi_input_net import BlockEncoder, InputBlock
from features.subject_data.connectivity import SubjectConnectivity
from features.subject_data.functional_connectivity import FunctionalConnectivity
from features.subject_data.labels import TargetLabels
from features.subject_data.meshes import SubjectMeshes
from features.subject_data.runs import SubjectRuns
from features.subject_data.series import SubjectSeries
from features.subject_data.table import SubjectTable
from features.subject_data.volumes import SubjectVolumes
from features.subject_data.windows import spread
from features.transfer.pretrained import Pretrained
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.sockets import SubjectData, WindowedItems
from meshgnn.store import content_hash

DataConfig = (
    SubjectVolumes.Config | SubjectConnectivity.Config | SubjectTable.Config | SubjectMeshes.Config
    | TargetLabels.Config | SubjectRuns.Config | SubjectSeries.Config | FunctionalConnectivity.Config
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
        self._windowed = {name: one for name, one in data.items() if isinstance(one, WindowedItems)}

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

    def read(
        self, subjects: NDArray[np.integer], draws: NDArray[np.floating] | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """A batch as `MultiInputNet` takes it.

        Args:
            subjects: [B] numbers of subjects who have at least one input.
            draws: [B] in [0, 1), where windows start among all places where they can; the first window if None.

        Returns:
            Items [n, *shape] by name, of those who have them; and who has what, [B, N] bool.
        """

        def starts(name: str, rows: NDArray[np.integer], chosen: NDArray[np.bool_]) -> NDArray[np.int64] | None:
            if draws is None:
                return None
            return np.floor(draws[chosen] * (self._windowed[name].last_start[rows] + 1)).astype(np.int64)

        return self._read(subjects, starts)

    def passes(self, subjects: NDArray[np.integer], most: int = 0) -> NDArray[np.int64]:
        """[P] codes of everything that evaluation reads of these subjects: each one's windows, each once; a subject
        without windows has one pass. Codes are read by `read_pass` and put together by `averaged`.

        Args:
            most: windows of a subject, evenly spread; 0 for all.
        """
        if not self._windowed:
            return np.asarray(subjects, np.int64)
        found = [np.zeros(0, np.int64)]
        for row in np.asarray(subjects).tolist():
            each = [one for one in self._windowed.values() if one.observed[row]]
            count = max((len(one.starts(row)) for one in each), default=1)
            found.append(row + len(self.present) * spread(count, most))
        return np.concatenate(found)

    def read_pass(self, codes: NDArray[np.integer]) -> tuple[dict[str, Tensor], Tensor]:
        """The batch of these passes. An input of fewer windows than another starts again with its first."""
        numbers, subjects = np.divmod(np.asarray(codes, np.int64), len(self.present))

        def starts(name: str, rows: NDArray[np.integer], chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
            each = [self._windowed[name].starts(row) for row in rows.tolist()]
            return np.array([own[k % len(own)] for own, k in zip(each, numbers[chosen].tolist())], np.int64)

        return self._read(subjects, starts)

    def owners(self, codes: NDArray[np.integer]) -> NDArray[np.int64]:
        """[P] subjects whose passes these are."""
        return np.asarray(codes, np.int64) % len(self.present)

    def averaged(
        self, outputs: NDArray[np.float32], codes: NDArray[np.integer], subjects: NDArray[np.integer]
    ) -> NDArray[np.float32]:
        """[B, outputs] of subjects, means over their passes [P, outputs]."""
        place = np.full(len(self.present), -1)
        place[subjects] = np.arange(len(subjects))
        rows = place[self.owners(codes)]
        if len(codes) == len(subjects):
            return outputs[np.argsort(rows, kind="stable")]
        total = np.zeros((len(subjects), outputs.shape[1]), np.float64)
        np.add.at(total, rows, outputs)
        return (total / np.bincount(rows, minlength=len(subjects))[:, None]).astype(np.float32)

    def _read(
        self, subjects: NDArray[np.integer],
        starts: Callable[[str, NDArray[np.integer], NDArray[np.bool_]], NDArray[np.int64] | None],
    ) -> tuple[dict[str, Tensor], Tensor]:  # fmt: skip
        present = self.present[subjects]
        items = {}
        for number, name in enumerate(self.names):
            chosen = present[:, number]
            rows = subjects[chosen]
            if not len(rows):
                continue
            given = starts(name, rows, chosen) if name in self._windowed else None
            found = self.data[name].read(rows) if given is None else self._windowed[name].read_at(rows, given)
            items[name] = torch.from_numpy(np.ascontiguousarray(found))
        return items, torch.from_numpy(present)

    def key(self) -> str:
        """Hash of everything that decides the items."""
        return content_hash({name: one.key() for name, one in self.data.items()})
