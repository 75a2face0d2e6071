"""The cohorts of trait prediction: a user's BIDS folder, or virtual images that are drawn into the run."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from features.subject_data.bad_subjects import REPORT, write_item_report
from features.subject_data.connectivity import SubjectConnectivity
from features.subject_data.convert import VolumeConversion
from features.subject_data.find_images import ImageFiles
from features.subject_data.functional_connectivity import FunctionalConnectivity
from features.subject_data.labels import TargetLabels
from features.subject_data.meshes import SubjectMeshes
from features.subject_data.run_conversion import RunConversion
from features.subject_data.runs import SubjectRuns
from features.subject_data.series import SubjectSeries
from features.subject_data.table import column_notes
from features.subject_data.volumes import SubjectVolumes
from features.traits.items import DataConfig, TraitInput, TraitItems
from meshgnn.config import at
from meshgnn.errors import InputError, SettingError
from meshgnn.experiment.progress import Bars
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.source.participant_table import TABLE, Participants, ParticipantTable
from meshgnn.source.text_table import read_text_table
from meshgnn.source.virtual.images import VirtualImages
from meshgnn.source.virtual.images_folder import write_images
from meshgnn.source.virtual.runs import VirtualRuns
from meshgnn.source.virtual.runs_folder import write_runs
from meshgnn.store import file_hash

VirtualCohort = VirtualImages.Config | VirtualRuns.Config
CohortConfig = VirtualCohort | ParticipantTable.Config
ImageCohort = VirtualImages.Config | ParticipantTable.Config
DRAWN, STORES = "cohort", "stores"  # in the run folder
RUNS = "runs"  # in the stores
BAD_ITEMS = "tables/bad_items.tsv"
MEASURES = Path("phenotype") / "measures.tsv"


def draw(cohort: VirtualCohort, run: RunFolder) -> list[str]:
    """Draw a virtual cohort into the run; the files, relative to it, that tell whether it is complete."""
    if isinstance(cohort, VirtualImages.Config):
        write_images(cohort.build(), run / DRAWN, Bars(run))
    else:
        write_runs(cohort.build(), run / DRAWN, Bars(run))
    return [f"{DRAWN}/participants.tsv", f"{DRAWN}/truth/planted.json"]


def participants_of(cohort: CohortConfig, targets: tuple[str, ...]) -> Participants:
    """The subjects with the targets that are asked for.

    Args:
        cohort: a virtual one, or a folder.
        targets: of a virtual one, all of them if none are named; a folder names its own.

    Raises:
        InputError: a table that cannot be read, or targets that are not there.
    """
    if isinstance(cohort, ParticipantTable.Config):
        if not cohort.targets:
            raise SettingError("<cohort.targets> names no column of participants.tsv to predict")
        with at("cohort"):
            return cohort.build().read()
    everybody = cohort.build().participants()
    planted = everybody.targets
    names = [target.name for target in planted]
    if wrong := [name for name in targets if name not in names]:
        raise SettingError(f"<targets>: there is no target {wrong[0]!r}; there are {', '.join(names)}")
    columns = [names.index(name) for name in targets or names]
    return replace(everybody, targets=tuple(planted[k] for k in columns), values=everybody.values[:, columns])


def check_confounds(cohort: CohortConfig, people: Participants, confounds: tuple[str, ...]) -> None:
    """Raises SettingError for confounds that no target can be freed of, or that are not in the table."""
    if not confounds:
        return
    if all(target.classes for target in people.targets):
        raise SettingError("<confounds> are regressed out of numbers, and no target is a number")
    columns: Sequence[str]
    if isinstance(cohort, ParticipantTable.Config):
        columns = [
            name for name in read_text_table(cohort.folder / TABLE, ["participant_id"])[0] if name != "participant_id"
        ]
    else:
        columns = ("family_id", "site", *(target.name for target in participants_of(cohort, ()).targets))
    for name in confounds:
        if name not in columns:
            raise SettingError(f"<confounds>: {name!r} is not a column of {TABLE}; columns: {', '.join(columns)}")
        if name in [target.name for target in people.targets]:
            raise SettingError(f"<confounds>: {name!r} is a target")


def some_of(people: Participants, most: int, seed: int) -> Participants:
    """At most so many of them, drawn at random, the fewer among the more; 0 takes all."""
    order = np.random.default_rng([seed, 0x5B]).permutation(len(people))
    return people.kept(np.sort(order[: most or len(people)]))


def check_stores(inputs: tuple[TraitInput, ...]) -> None:
    """Raises InputError when a store of volumes or runs that is named is not there."""
    for one in inputs:
        stores, kind = one.data.stores if isinstance(one.data, SubjectVolumes.Config) else (), "volumes"
        if isinstance(one.data, SubjectRuns.Config) and one.data.store != Path():
            stores, kind = (one.data.store,), "runs"
        for store in stores:
            if not (store / "store.json").is_file():
                raise InputError(f"{store}: holds no store of {kind}; python -m features.{kind} makes one")


def check_runs(inputs: tuple[TraitInput, ...]) -> None:
    """Raises SettingError when inputs read runs of different stores: networks would be compared on different data."""
    stores = {one.data.store: one.name for one in inputs if isinstance(one.data, SubjectRuns.Config)}
    if len(stores) > 1:
        names = " and ".join(stores.values())
        raise SettingError(
            f"<inputs>: {names} read runs of different stores, or of one and of those converted here; name the same "
            "<data.store> for all of them"
        )


def write_bad_items(run: RunFolder, items: TraitItems) -> None:
    """Say who has no item of an input although there is a file, and why."""
    bad = {name: getattr(data, "bad", ()) for name, data in items.data.items()}
    write_item_report(run / BAD_ITEMS, bad)
    if count := sum(map(len, bad.values())):
        run.warn(f"{count} items of subjects cannot be used; {BAD_ITEMS} says why")


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


def needs_runs(inputs: Iterable[TraitInput]) -> bool:
    """Whether runs are still to be converted."""
    return any(isinstance(one.data, SubjectRuns.Config) and one.data.store == Path() for one in inputs)


def of_folder(config: RunConversion.Config, folder: Path) -> RunConversion.Config:
    """The conversion of the runs in the cohort's folder."""
    return replace(config, images=replace(config.images, folder=folder))


def convert_runs(run: RunFolder, config: RunConversion.Config, folder: Path) -> list[str]:
    """Fill the run's store of runs over time, and say who is not in it; the files, relative to the run."""
    place = f"{STORES}/{RUNS}"
    store, bad = of_folder(config, folder).build().run(run / place, Bars(run))
    run.say(f"  {len(store)} runs of {' x '.join(map(str, store.grid.shape))}, up to {int(store.frames.max())} frames")
    if bad:
        run.warn(f"{len(bad)} subjects' runs cannot be used; {place}/{REPORT} says why")
    return [f"{place}/store.json", f"{place}/{REPORT}"]


def images_of(config: VolumeConversion.Config, folder: Path, suffix: str) -> ImageFiles.Config:
    """The images of one suffix in the cohort's folder."""
    return replace(config.images, folder=folder, suffix=suffix)


def convert(run: RunFolder, config: VolumeConversion.Config, folder: Path, suffix: str, name: str = "") -> list[str]:
    """Fill the run's store of the images of one suffix, and say who is not in it.

    Args:
        folder: of the cohort.
        name: of the input, and of the store; the suffix if none.

    Returns:
        The files, relative to the run.
    """
    place = f"{STORES}/{name or suffix}"
    job = replace(config, images=images_of(config, folder, suffix)).build()
    store, bad = job.run(run / place, Bars(run))
    run.say(f"  {len(store)} {suffix} volumes of {' x '.join(map(str, store.grid.shape))}")
    unusable = sum(person.reason != "no_image" for person in bad)
    if unusable:
        run.warn(f"{unusable} subjects' {suffix} cannot be used; {place}/{REPORT} says why")
    return [f"{place}/{file}" for file in ("store.json", "store.safetensors", REPORT)]


def hashes_of(folder: Path, files: Iterable[Path], images: Iterable[ImageFiles.Config]) -> dict[str, str]:
    """Hash of every file that a user's cohort is read from.

    Args:
        folder: of the cohort.
        files: that its inputs read.
        images: that are still to be converted.
    """
    found = [folder / TABLE, *files]
    for one in images:
        there = one.build().find()
        found += [*there.images.values(), *there.masks.values()]
    return {str(path): file_hash(path) for path in dict.fromkeys(found) if path.is_file()}


def table_in(folder: Path) -> Path:
    """The table of measures in a cohort's folder: phenotype/measures.tsv, or participants.tsv where there is none."""
    return folder / MEASURES if (folder / MEASURES).is_file() else folder / TABLE


def placed(one: TraitInput, folder: Path, stores: Path, targets: tuple[str, ...]) -> DataConfig:
    """Where an input's data lie, for those that name no place: in the cohort's folder, or converted by the run."""
    data = one.data
    if isinstance(data, SubjectVolumes.Config):
        return data if data.stores else replace(data, stores=(stores / one.name,))
    if isinstance(data, SubjectConnectivity.Config):
        return data if data.stack is not None or data.folder != Path() else replace(data, folder=folder)
    if isinstance(data, SubjectRuns.Config):
        return data if data.store != Path() else replace(data, store=stores / RUNS)
    if isinstance(data, SubjectMeshes.Config | SubjectSeries.Config | FunctionalConnectivity.Config):
        return data if data.folder != Path() else replace(data, folder=folder)
    if isinstance(data, TargetLabels.Config):
        return data
    path = table_in(folder) if data.path == Path() else data.path
    # A target's own domain stands beside participants.tsv; columns of it in another table would give the target away.
    notes = column_notes(folder / TABLE)
    domains = tuple(f"{name}={notes[name]['Domain']}" for name in targets if notes.get(name, {}).get("Domain"))
    every = tuple(dict.fromkeys((*data.targets, *targets)))
    return replace(data, path=path, targets=every, domains=(*domains, *data.domains))


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
