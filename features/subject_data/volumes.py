"""Volumes of subjects as items [C, X, Y, Z], one channel per store."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from features.subject_data.joining import Keep, joined, training_rows, wanted
from features.subject_data.moments import Normalisation, Voxels
from features.subject_data.volume_store import VolumeStore
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.source.participant_table import Participants
from meshgnn.store import content_hash

Scale = Literal["train", "stored", "own", "range", "none"]


class SubjectVolumes:
    """Items [C, X, Y, Z] float32 of subjects whose volumes lie in stores; a `meshgnn.sockets.SubjectData`.

    Whatever the scaling, it is one factor and one offset per volume, taken from moments that the store keeps: nothing
    is read for it, so that every fold of a cross-validation may have its own.
    """

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            stores: folders that `python -m features.volumes` wrote, one channel each, all on one grid.
            scale: train: mean 0 and standard deviation 1 over the voxels of all training subjects together; stored: by
                the mean and standard deviation kept in the store; own: each volume by its own; range: each volume from
                -1 to 1; none: as measured.
            voxels: that train and own count: all, or brain (those that are not 0).
            clip: values beyond +- this many standard deviations are cut off; 0 does not.
            absent: a subject who lacks one of several channels is left out, or gets zeros there (what the seed did).
            keep: who must not be parted: subjects of one family, or of one site.
            threads: that decompress side by side.
        """

        stores: tuple[Path, ...] = ()
        scale: Scale = "train"
        voxels: Voxels = "all"
        clip: float = 0.0
        absent: Literal["leave_out", "zero"] = "leave_out"
        keep: Keep = "family"
        threads: int = 1

        def __post_init__(self) -> None:
            if self.clip < 0 or self.threads < 1:
                raise SettingError("<clip> must not be negative, <threads> be at least 1")

        def build(self, participants: Participants, train: NDArray[np.bool_]) -> "SubjectVolumes":
            """Raises InputError when stores do not fit one another, or hold none of the (training) participants."""
            if not self.stores:
                raise SettingError("<stores> names no store of volumes; python -m features.volumes makes one")
            return SubjectVolumes(self, participants, train, [VolumeStore(folder) for folder in self.stores])

        def files(self) -> tuple[Path, ...]:
            return tuple(folder / name for folder in self.stores for name in ("store.json", "store.safetensors"))

        def item_format(self) -> dict[str, Any]:
            """What an item holds; an encoder fits items of one format only."""
            grids = [VolumeStore(folder).grid for folder in self.stores]
            return {
                "modalities": [grid.modality for grid in grids],
                "shape": list(grids[0].shape) if grids else [],
                "spacing_mm": list(grids[0].spacing_mm) if grids else [],
                "scale": self.scale,
            }

    def __init__(
        self, config: Config, participants: Participants, train: NDArray[np.bool_], stores: Sequence[VolumeStore]
    ) -> None:
        self.config, self.stores = config, tuple(stores)
        first = stores[0].grid
        for store in stores[1:]:
            if store.grid.shape != first.shape or np.abs(store.grid.affine - first.affine).max() > 1e-3:
                raise InputError(
                    f"{store.folder}: lies on another grid than {stores[0].folder}; convert it with like="
                    f"{stores[0].folder}"
                )
        self._rows = np.stack([joined(participants, store.ids, str(store.folder)) for store in stores], axis=1)
        there = self._rows >= 0
        self.observed = np.asarray(there.all(1) if config.absent == "leave_out" else there.any(1))
        if not self.observed.any():
            raise InputError("no participant has a volume in each of the stores")
        self.groups = participants.group_numbers(config.keep)
        self.normalisations: list[Normalisation | None] = [
            self._normalisation(store, self._rows[training_rows(participants, train, there[:, channel]), channel])
            for channel, store in enumerate(stores)
        ]

    def _normalisation(self, store: VolumeStore, rows: NDArray[np.int64]) -> Normalisation | None:
        """What all volumes of a channel are scaled by, if they share one scale."""
        if self.config.scale == "train":
            return store.pooled(rows, self.config.voxels)
        if self.config.scale == "stored":
            if store.normalisation is None:
                raise InputError(f"{store.folder}: keeps no mean and standard deviation; use scale=train")
            return store.normalisation
        return None

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.stores), *self.stores[0].grid.shape)

    def read(self, subjects: NDArray[np.integer]) -> NDArray[np.float32]:
        rows = self._rows[wanted(subjects, self.observed, "volume")]
        if len(self.stores) == 1:
            return self._scaled(0, rows[:, 0])[:, None]
        out = np.zeros((len(rows), *self.shape), np.float32)
        for channel in range(len(self.stores)):
            here = rows[:, channel] >= 0
            out[here, channel] = self._scaled(channel, rows[here, channel])
        return out

    def _scaled(self, channel: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        c, store, common = self.config, self.stores[channel], self.normalisations[channel]
        centre, spread = np.zeros(len(rows)), np.ones(len(rows))
        if common is not None:
            centre, spread = np.full(len(rows), common.mean), np.full(len(rows), common.sd)
        elif c.scale in ("own", "range"):
            count, mean, squares, low, high = store.moments[rows, int(c.voxels == "brain" and c.scale == "own")].T
            centre, spread = (
                (mean, np.sqrt(squares / count)) if c.scale == "own" else ((low + high) / 2, (high - low) / 2)
            )
        values = store.read(rows, centre=centre, spread=np.maximum(spread, 1e-12), threads=c.threads)
        return np.clip(values, -c.clip, c.clip, out=values) if c.clip else values

    def key(self) -> str:
        c = self.config
        scaled = [None if one is None else asdict(one) for one in self.normalisations]
        stores = [store.key() for store in self.stores]
        rows = [self._rows.tolist(), self.groups.tolist()]
        return content_hash(stores, scaled, c.scale, c.voxels, c.clip, c.absent, *rows)
