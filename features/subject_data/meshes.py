"""Features of the nodes of a mesh that all subjects share, as items [V, C].

V nodes of both hemispheres, G subjects.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.subject_data.bad_subjects import Policy
from features.subject_data.held_items import HeldItems, check_size
from features.subject_data.joining import Keep, training_rows
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.mesh.record import HEMISPHERES
from meshgnn.source.gifti import read_gifti
from meshgnn.source.participant_table import Participants

MOST_SD = 5.0
Maps = dict[str, dict[str, NDArray[np.float32]]]  # hemisphere -> name -> [V / 2]


class SubjectMeshes(HeldItems):
    """Items [V, C] float32 of subjects with one GIfTI file per feature and hemisphere; a `meshgnn.sockets.SubjectData`.

    Columns: every feature, standardised at every node by the training subjects; where `relative` is set, the means that
    were taken away, the same at all nodes; and last 1 where all features of the node are known (NaN says that one is
    not), else 0: such a row is 0. Nothing is said of the mesh but its number of nodes; whoever has none is not
    observed.
    """

    kind = "mesh"

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            folder: holds the files.
            pattern: of a subject's files below it, {id} for sub-* and {hemi} for L and R; what stands for the first *
                names the feature.
            relative: take a subject's mean over the cortex away from every feature, and give it beside: scanners and
                overall thickness shift the mean, most traits do not.
            bad: leave subjects with bad files out (they are named in `bad`), or refuse.
            keep: who must not be parted: subjects of one family, or of one site.
        """

        folder: Path = Path()
        pattern: str = "{id}/surf/{id}_hemi-{hemi}_*.shape.gii"
        relative: bool = True
        bad: Policy = "leave_out"
        keep: Keep = "family"

        def __post_init__(self) -> None:
            if "{id}" not in self.pattern or "{hemi}" not in self.pattern or ".." in self.pattern:
                raise SettingError("<pattern> needs {id}, which stands for sub-*, and {hemi}, for L and R, and no ..")
            if "*" not in Path(self.pattern).name:
                raise SettingError("<pattern> needs a * in the file's name, which names the feature")

        def build(self, participants: Participants, train: NDArray[np.bool_]) -> "SubjectMeshes":
            """Raises InputError: nobody has a mesh, or a bad one where `bad` is refuse."""
            return SubjectMeshes(self, participants, train)

        def files(self) -> tuple[Path, ...]:
            if self.folder == Path():
                return ()
            pattern = self.pattern.replace("{id}", "sub-*").replace("{hemi}", "[LR]")
            return tuple(sorted(self.folder.glob(pattern)))

        def item_format(self) -> dict[str, Any]:
            return {"relative": self.relative}

    def __init__(self, config: Config, participants: Participants, train: NDArray[np.bool_]) -> None:
        super().__init__()
        self.config = config
        found = self._alike({name: maps for name in participants.ids for maps in self._read(name)})
        self._observe(participants, found, config.bad, config.keep, config.folder, "features of nodes")
        first = next(iter(found.values()))
        self.features = tuple(first["L"])
        size = sum(len(next(iter(first[side].values()))) for side in HEMISPHERES)
        check_size(len(found), size * len(self.features), f"meshes of {size} nodes")
        raw = np.stack([
            np.stack([np.concatenate([found[name][side][one] for side in HEMISPHERES]) for one in self.features], 1)
            for name in participants.ids if name in found
        ])  # fmt: skip
        self._values = self._items(raw, self._row[training_rows(participants, train, self.observed)])

    def _items(self, raw: NDArray[np.float32], train: NDArray[np.int64]) -> NDArray[np.float32]:
        """[N, V, C] from values [N, V, features], standardised by these rows."""
        known = np.asarray(np.isfinite(raw).all(2, keepdims=True))
        values = np.where(known, raw, 0).astype(np.float64)
        means = values.sum(1, keepdims=True) / known.sum(1, keepdims=True)
        if self.config.relative:
            values = np.where(known, values - means, 0)
        parts = [_standardised(values, known, train)]
        if self.config.relative:
            whole = _standardised(means, np.ones_like(means, bool), train)
            parts.append(np.where(known, whole, 0))
        return np.concatenate([*parts, known], axis=2).astype(np.float32)

    def _read(self, name: str) -> Iterator[Maps]:
        """The maps of a subject, if there are any and they can be used."""
        c, found = self.config, dict[str, dict[str, NDArray[np.float32]]]()
        paths: list[Path] = []
        for side in HEMISPHERES:
            pattern = c.pattern.replace("{id}", name).replace("{hemi}", side)
            before, after = Path(pattern).name.split("*", 1)
            here = sorted(c.folder.glob(pattern))
            paths += here
            try:
                found[side] = {
                    path.name[len(before) :].removesuffix(after.replace("*", "")): _values_of(path) for path in here
                }
            except InputError as error:
                self._leave(name, "damaged", paths[0], str(error))
                return
        if not paths:
            return
        if tuple(found["L"]) != tuple(found["R"]):
            self._leave(name, "incomplete", paths[0], f"{name}: its hemispheres do not have the same features")
            return
        sizes = {len(values) for side in found.values() for values in side.values()}
        if len(sizes) > 1:
            self._leave(name, "other_size", paths[0], f"{name}: has features of {sorted(sizes)} nodes")
        elif not any(np.isfinite(np.stack(list(side.values()))).all(0).any() for side in found.values()):
            self._leave(name, "empty", paths[0], f"{name}: no node has all features")
        else:
            yield found

    def _alike(self, found: dict[str, Maps]) -> dict[str, Maps]:
        """Those with the features and the mesh that most have."""
        kinds = {name: (tuple(maps["L"]), len(next(iter(maps["L"].values())))) for name, maps in found.items()}
        each = list(kinds.values())
        most = max(dict.fromkeys(each), key=each.count) if each else None
        for name, kind in kinds.items():
            if kind != most:
                assert most is not None
                own, usual = (f"{', '.join(names)} of {count} nodes" for names, count in (kind, most))
                self._leave(name, "other_size", "", f"{name}: has {own}, most have {usual}")
        return {name: maps for name, maps in found.items() if kinds[name] == most}


def _values_of(path: Path) -> NDArray[np.float32]:
    """[V / 2] of one file."""
    arrays = read_gifti(path).darrays
    if len(arrays) != 1 or arrays[0].data.ndim != 1:
        raise InputError(f"{path}: holds {len(arrays)} maps; one value per node is needed")
    return np.asarray(arrays[0].data, np.float32)


def _standardised(
    values: NDArray[np.float64], known: NDArray[np.bool_], train: NDArray[np.int64]
) -> NDArray[np.float64]:
    """[N, V, C] by mean and standard deviation of the training rows at every node; 0 where not known."""
    inside = np.broadcast_to(known, values.shape)[train]
    count = np.maximum(inside.sum(0), 1)
    centre = np.where(inside, values[train], 0).sum(0) / count
    spread = np.sqrt(np.where(inside, (values[train] - centre) ** 2, 0).sum(0) / count)
    unit = (values - centre) / np.where(spread > 1e-9, spread, 1)
    return np.where(known, np.clip(unit, -MOST_SD, MOST_SD), 0)
