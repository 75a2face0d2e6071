"""Connectivity matrices of subjects as items [E], one value per pair of regions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.subject_data.bad_subjects import Policy
from features.subject_data.held_items import HeldItems, check_size, standardised
from features.subject_data.joining import Keep, joined, training_rows
from features.subject_data.matrix_files import checked, npy_header, read_matrix
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError, SettingError
from meshgnn.source.participant_table import Participants, participant_name


class SubjectConnectivity(HeldItems):
    """Items [E = R(R-1)/2] float32, the upper triangles of matrices [R, R]; a `meshgnn.sockets.SubjectData`.

    The number of regions is what the files have: no width is assumed, and a subject without a matrix is not observed
    rather than zero. Matrices that cannot be used are named in `bad`.
    """

    kind = "connectivity matrix"

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            folder: holds the files.
            pattern: of each subject's file below it, {id} for sub-*.
            stack: one .npy file [N, R, R] of all subjects instead; the file of the same name with .txt holds an id per
                line.
            fisher: take Fisher's z = arctanh(r) of correlations, cut off at 0.999.
            standardise: every pair of regions to mean 0 and standard deviation 1 by the training subjects.
            bad: leave subjects with a bad matrix out (they are named in `bad`), or refuse.
            keep: who must not be parted: subjects of one family, or of one site.
        """

        folder: Path = Path()
        pattern: str = "{id}/connectivity/{id}_*relmat.*"
        stack: Path | None = None
        fisher: bool = False
        standardise: bool = True
        bad: Policy = "leave_out"
        keep: Keep = "family"

        def __post_init__(self) -> None:
            if "{id}" not in self.pattern or ".." in self.pattern:
                raise SettingError("<pattern> needs {id}, which stands for sub-*, and no ..")

        def build(self, participants: Participants, train: NDArray[np.bool_]) -> "SubjectConnectivity":
            """Raises InputError: nobody has a matrix, or a bad one where `bad` is refuse."""
            return SubjectConnectivity(self, participants, train)

        def files(self) -> tuple[Path, ...]:
            if self.stack is not None:
                return (self.stack, self.stack.with_suffix(".txt"))
            return tuple(sorted(self.folder.glob(self.pattern.replace("{id}", "sub-*"))))

        def item_format(self) -> dict[str, Any]:
            return {"fisher": self.fisher, "standardise": self.standardise}

    def __init__(self, config: Config, participants: Participants, train: NDArray[np.bool_]) -> None:
        super().__init__()
        self.config = config
        found = self._stacked(participants) if config.stack is not None else self._single(participants)
        where = config.stack or config.folder
        self._observe(participants, found, config.bad, config.keep, where, "a usable matrix")
        width = len(next(iter(found.values())))
        check_size(len(found), width, f"matrices of {width} pairs")
        self._values = np.stack([found[name] for name in participants.ids if name in found])
        if config.fisher:
            self._values = np.arctanh(np.clip(self._values, -0.999, 0.999))
        if config.standardise:
            self._values = standardised(self._values, self._row[training_rows(participants, train, self.observed)])

    def _single(self, participants: Participants) -> dict[str, NDArray[np.float32]]:
        c, found, regions = self.config, dict[str, NDArray[np.float32]](), dict[str, int]()
        for name in participants.ids:
            paths = sorted(path for path in c.folder.glob(c.pattern.replace("{id}", name)) if path.suffix != ".json")
            if len(paths) > 1:
                self._leave(name, "several_images", paths[0], f"several matrices ({', '.join(map(str, paths))})")
            if len(paths) != 1:
                continue
            try:
                matrix = read_matrix(paths[0])
            except InputError as error:
                self._leave(name, "damaged", paths[0], str(error))
                continue
            found[name], regions[name] = _upper(matrix), len(matrix)
        return self._of_one_size(found, regions)

    def _of_one_size(self, found: dict[str, NDArray[np.float32]], regions: dict[str, int]) -> dict[str, Any]:
        if not found:
            return found
        sizes = list(regions.values())
        most = max(dict.fromkeys(sizes), key=sizes.count)
        for name in [name for name, size in regions.items() if size != most]:
            self._leave(name, "other_size", "", f"{name}: has {regions[name]} regions, most have {most}")
            del found[name]
        return found

    def _stacked(self, participants: Participants) -> dict[str, NDArray[np.float32]]:
        path = self.config.stack
        assert path is not None
        shape, _ = npy_header(path)
        try:
            lines = path.with_suffix(".txt").read_text(encoding="utf-8-sig").split()
        except OSError as error:
            raise InputError(f"{path.with_suffix('.txt')}: cannot be read ({error.strerror})") from None
        if len(shape) != 3 or len(lines) != shape[0]:
            raise InputError(f"{path}: shape {shape} and {len(lines)} ids; [N, R, R] and N ids are needed")
        ids = [participant_name(path.with_suffix(".txt"), k + 1, text) for k, text in enumerate(lines)]
        stack = np.load(path, mmap_mode="r", allow_pickle=False)
        found = {}
        for name, row in zip(participants.ids, joined(participants, ids, str(path)).tolist()):
            if row < 0:
                continue
            try:
                found[name] = _upper(checked(np.array(stack[row]), f"{path}, {name}"))
            except InputError as error:
                self._leave(name, "damaged", path, str(error))
        return found


def _upper(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """[R(R-1)/2] row by row."""
    return matrix[np.triu_indices(len(matrix), 1)]
