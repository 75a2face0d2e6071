"""The targets themselves as items: a leak on purpose, by which a chain shows that it can learn at all."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.subject_data.joining import Keep, training_rows, wanted
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError
from meshgnn.source.participant_table import Participants
from meshgnn.store import content_hash


class TargetLabels:
    """Items [P] float32: classes as 0 and 1 (one column each beyond two), numbers standardised by training subjects;
    subjects of whom a target is not known have none. A `meshgnn.sockets.SubjectData`.

    A network that gets them and does not score near perfect is broken, or its training is: the `diagnostic` mode of the
    biobank study (10.1016/j.neuroimage.2024.120600). Scores of such a run say nothing else.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            keep: who must not be parted: subjects of one family, or of one site.
        """

        keep: Keep = "family"

        def build(self, participants: Participants, train: NDArray[np.bool_]) -> "TargetLabels":
            """Raises InputError when there is no target, or no training subject with all of them."""
            return TargetLabels(self, participants, train)

        def files(self) -> tuple[Path, ...]:
            return ()

        def item_format(self) -> dict[str, Any]:
            return {"labels": True}

    def __init__(self, config: Config, participants: Participants, train: NDArray[np.bool_]) -> None:
        if not participants.targets:
            raise InputError("there is no target whose labels could be given to the network")
        values = participants.values
        self.observed: NDArray[np.bool_] = np.asarray(np.isfinite(values).all(1))
        self.groups = participants.group_numbers(config.keep)
        rows = training_rows(participants, train, self.observed)
        columns = []
        for column, target in enumerate(participants.targets):
            own = np.where(self.observed, values[:, column], 0)
            if len(target.classes) > 2:
                columns += [own == number for number in range(len(target.classes))]
            elif target.classes:
                columns.append(own)
            else:
                columns.append((own - own[rows].mean()) / (own[rows].std() or 1.0))
        self._values = np.stack(columns, axis=1).astype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        return self._values.shape[1:]

    def read(self, subjects: NDArray[np.integer]) -> NDArray[np.float32]:
        return self._values[wanted(subjects, self.observed, "label")]

    def key(self) -> str:
        return content_hash(self._values.tobytes().hex(), self.observed.tolist(), self.groups.tolist())
