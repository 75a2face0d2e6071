"""The cohorts of trait prediction: a user's BIDS folder, or virtual images that are drawn into the run."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from features.subject_data.connectivity import SubjectConnectivity
from features.subject_data.convert import VolumeConversion
from features.subject_data.volumes import SubjectVolumes
from features.traits.items import DataConfig, TraitInput, TraitItems
from meshgnn.config import at
from meshgnn.errors import InputError, SettingError
from meshgnn.source.participant_table import TABLE, Participants, ParticipantTable
from meshgnn.source.text_table import read_text_table
from meshgnn.source.virtual.images import TARGETS, VirtualImages

CohortConfig = VirtualImages.Config | ParticipantTable.Config
MEASURES = Path("phenotype") / "measures.tsv"


def participants_of(cohort: CohortConfig, targets: tuple[str, ...]) -> Participants:
    """The subjects with the targets that are asked for.

    Args:
        cohort: virtual images, or a folder.
        targets: of virtual images, all of them if none are named; a folder names its own.

    Raises:
        InputError: a table that cannot be read, or targets that are not there.
    """
    if isinstance(cohort, ParticipantTable.Config):
        if not cohort.targets:
            raise SettingError("<cohort.targets> names no column of participants.tsv to predict")
        with at("cohort"):
            return cohort.build().read()
    everybody = cohort.build().participants()
    names = [target.name for target in TARGETS]
    if wrong := [name for name in targets if name not in names]:
        raise SettingError(f"<targets>: there is no target {wrong[0]!r}; there are {', '.join(names)}")
    columns = [names.index(name) for name in targets or names]
    return replace(everybody, targets=tuple(TARGETS[k] for k in columns), values=everybody.values[:, columns])


VIRTUAL_COLUMNS = ("family_id", "site", *(target.name for target in TARGETS))


def check_confounds(cohort: CohortConfig, people: Participants, confounds: tuple[str, ...]) -> None:
    """Raises SettingError for confounds that no target can be freed of, or that are not in the table."""
    if not confounds:
        return
    if all(target.classes for target in people.targets):
        raise SettingError("<confounds> are regressed out of numbers, and no target is a number")
    columns: Sequence[str] = VIRTUAL_COLUMNS
    if isinstance(cohort, ParticipantTable.Config):
        columns = [
            name for name in read_text_table(cohort.folder / TABLE, ["participant_id"])[0] if name != "participant_id"
        ]
    for name in confounds:
        if name not in columns:
            raise SettingError(f"<confounds>: {name!r} is not a column of {TABLE}; columns: {', '.join(columns)}")
        if name in [target.name for target in people.targets]:
            raise SettingError(f"<confounds>: {name!r} is a target")


def confound_table(cohort: CohortConfig, folder: Path, people: Participants) -> dict[str, list[str]]:
    """Cells [G] of every column of participants.tsv, "" where missing.

    Args:
        folder: of the cohort, drawn or the user's own.
    """
    _, rows = read_text_table(folder / TABLE, ["participant_id"])
    named = {f"sub-{row['participant_id'].removeprefix('sub-')}": row for _, row in rows}
    columns = next(iter(named.values())) if named else {}
    missing = ("", "n/a", "na", "nan", "none")
    return {
        name: ["" if named[own][name].lower() in missing else named[own][name] for own in people.ids]
        for name in columns
        if name != "participant_id"
    }


def needs_conversion(one: TraitInput) -> bool:
    return isinstance(one.data, SubjectVolumes.Config) and not one.data.stores


def conversion(config: VolumeConversion.Config, folder: Path, suffix: str) -> VolumeConversion:
    """Of the images of one suffix in the cohort's folder."""
    return replace(config, images=replace(config.images, folder=folder, suffix=suffix)).build()


def placed(one: TraitInput, folder: Path, stores: Path, targets: tuple[str, ...]) -> DataConfig:
    """Where an input's data lie, for those that name no place: in the cohort's folder, or converted by the run."""
    data = one.data
    if isinstance(data, SubjectVolumes.Config):
        return data if data.stores else replace(data, stores=(stores / one.name,))
    if isinstance(data, SubjectConnectivity.Config):
        return data if data.stack is not None or data.folder != Path() else replace(data, folder=folder)
    path = data.path
    if path == Path():
        path = folder / MEASURES if (folder / MEASURES).is_file() else folder
    return replace(data, path=path, targets=tuple(dict.fromkeys((*data.targets, *targets))))


def items_of(
    inputs: tuple[TraitInput, ...], people: Participants, train: np.ndarray, folder: Path, stores: Path
) -> TraitItems:
    """The items of a cohort, standardised by these training subjects.

    Args:
        train: [G] bool.
        folder: of the cohort; stores: of converted volumes.

    Raises:
        InputError: whatever is wrong with an input, with its key.
    """
    found = {}
    names = tuple(target.name for target in people.targets)
    for number, one in enumerate(inputs):
        with at(f"inputs.{number}.data"):
            found[one.name] = placed(one, folder, stores, names).build(people, train)
    items = TraitItems(found)
    if not items.usable[train].any():
        raise InputError("no training subject has any of the inputs")
    return items
