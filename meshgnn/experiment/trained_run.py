"""A finished run of area mapping from sections, read back in order to map new stacks with it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshgnn.config import Config, from_plain, upgraded
from meshgnn.errors import InputError
from meshgnn.experiment.area_mapping import AreaMapping
from meshgnn.experiment.cli import resolve, shipped
from meshgnn.experiment.feature_tables import stage_names
from meshgnn.experiment.run_folder import read_config
from meshgnn.experiment.section_mapping import SectionMapping
from meshgnn.source.cohort import StackFolders, VirtualCohort
from meshgnn.store import file_hash, read_json
from meshgnn.train.stored_baselines import FILE

BASELINES = f"tables/{FILE}"  # read too, where a run has kept it
OTHER_VERSION = "cannot be read by this version; train again, or predict with the version in the run's provenance.json"


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """
    Args:
        folder: of the run.
        mesh, features: configs of its mesh maker and of its makers of features.
        files: hash by name (relative to the folder) of everything that a prediction reads.
        trained_on: hashes of the files of its training stacks -> "brain, file".
        stacks: folders of its training stacks by brain; they may have been moved since.
        adapt: whether it adapts its maps to a new brain; no run of an earlier version does.
    """

    folder: Path
    mesh: Config
    features: tuple[Config, ...]
    files: dict[str, str]
    trained_on: dict[str, str]
    stacks: dict[str, Path]
    adapt: bool


def read_trained_run(folder: Path, mesh: Config | None = None, features: tuple[Config, ...] = ()) -> TrainedRun:
    """
    Args:
        folder: of a finished run of `SectionMapping`.
        mesh, features: instead of those that the run's own config.json describes. A run that was started from Python
            names no experiment whose classes could be trusted: it needs both.

    Raises:
        InputError: no run, another kind of run, a run that is not finished, or files that are missing or changed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name a finished run with --set run=RUN")
    stored = read_config(folder)
    plain = stored.get("config")
    kind = plain.get("_") if isinstance(plain, dict) else None
    if not isinstance(plain, dict) or kind != "SectionMapping":
        surfaces = "; to map a surface folder use the experiment `predict`" if kind == "AreaMapping" else ""
        raise InputError(
            f"{folder}: is a run of {stored.get('experiment') or kind}; needed is one of virtual_brain or "
            f"virtual_brain:sections, which learn from sections{surfaces}"
        )
    plain = upgraded(SectionMapping.Config, plain)
    if mesh is None or not features:
        base = _experiment(folder, stored)
        mesh = mesh or _part(folder, base.mesh, plain.get("mesh"), "mesh")
        features = features or _parts(folder, base, plain)
    files = {"config.json": file_hash(folder / "config.json")}
    for stage in (*stage_names("features", len(features)), "train"):  # what their outputs make is the model
        files |= _outputs(folder, stage)
    if (folder / BASELINES).is_file() and _recorded(folder, "baselines").get(BASELINES):
        files |= _outputs(folder, "baselines", BASELINES)
    stacks, trained_on = _trained_on(folder, plain)
    return TrainedRun(
        folder=folder, mesh=mesh, features=features, files=files, trained_on=trained_on, stacks=stacks,
        adapt=plain.get("adapt") is True,
    )  # fmt: skip


def own_features(folder: Path) -> list[Config]:
    """Configs of the makers of features of a finished run on surfaces, as it recorded them.

    None of a run that has none, or that was started from Python and so names no experiment that could be trusted.
    """
    if not (folder / "config.json").is_file():
        return []
    stored = read_config(folder)
    plain = stored.get("config")
    items = plain.get("features") if isinstance(plain, dict) else None
    if not isinstance(items, list) or not items or stored.get("experiment") not in shipped():
        return []
    base = _resolved(folder, stored)
    if not isinstance(base, AreaMapping.Config) or len(base.features) != len(items):
        raise InputError(f"{folder / 'config.json'}: {OTHER_VERSION}: not the features of its settings")
    return [_part(folder, one, item, f"features.{k}") for k, (one, item) in enumerate(zip(base.features, items))]


def _experiment(folder: Path, stored: dict[str, Any]) -> SectionMapping.Config:
    """The run's experiment with its overrides. A file may name one of our own experiments, nothing else."""
    name = stored.get("experiment")
    if name is None:
        raise InputError(
            f"{folder}: was started from Python, so its config.json names no experiment; predict from Python too: "
            "PredictSections.Config(run=..., stack=..., mesh=..., features=(...,)) with the configs of the run"
        )
    if not isinstance(name, str) or name not in shipped():
        raise InputError(
            f"{folder}: was not made by a shipped experiment; predict from Python: PredictSections.Config(run=..., "
            "stack=..., mesh=..., features=(...,))"
        )
    base = _resolved(folder, stored)
    if not isinstance(base, SectionMapping.Config):
        raise InputError(f"{folder / 'config.json'}: {name} is not the experiment of its settings")
    return base


def _resolved(folder: Path, stored: dict[str, Any]) -> Config:
    try:
        return resolve(stored["experiment"], [str(one) for one in stored["overrides"]])
    except InputError as error:
        raise InputError(f"{folder / 'config.json'}: {OTHER_VERSION}: {error}") from None


def _parts(folder: Path, base: SectionMapping.Config, plain: dict[str, Any]) -> tuple[Config, ...]:
    stored = plain.get("features")
    if not isinstance(stored, list) or len(stored) != len(base.features) or not stored:
        raise InputError(f"{folder / 'config.json'}: {OTHER_VERSION}: not the features of its settings")
    return tuple(_part(folder, one, item, f"features.{k}") for k, (one, item) in enumerate(zip(base.features, stored)))


def _part(folder: Path, base: Config, plain: Any, name: str) -> Config:
    """As the run recorded it: defaults may have changed since. The class is the experiment's, never the file's."""
    try:
        part = from_plain(type(base), plain, name, base)
    except InputError as error:
        raise InputError(f"{folder / 'config.json'}: {OTHER_VERSION}: {error}") from None
    assert isinstance(part, Config)
    return part


def _recorded(folder: Path, stage: str) -> dict[str, str]:
    """Hash by name of the files that a finished stage wrote."""
    try:
        outputs = read_json(folder / "stages" / f"{stage}.json")["outputs"]
        return {str(name): str(digest) for name, digest in outputs.items()}
    except (InputError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"{folder}: stage {stage!r} of this run is not finished; go on with it: "
            f"python -m meshgnn.experiment --out {folder} --resume"
        ) from None


def _outputs(folder: Path, stage: str, *names: str) -> dict[str, str]:
    """The same, or the files `names` among them, after every file was compared with its hash."""
    outputs = {name: key for name, key in _recorded(folder, stage).items() if not names or name in names}
    for name, digest in outputs.items():
        path = folder / name
        if not path.is_file() or file_hash(path) != digest:
            why = "is missing" if not path.is_file() else "is not the file that the run wrote"
            raise InputError(f"{path}: {why}; mend it with python -m meshgnn.experiment --out {folder} --resume")
    return outputs


def _trained_on(folder: Path, plain: dict[str, Any]) -> tuple[dict[str, Path], dict[str, str]]:
    """Folders of the training stacks, and the hashes of their files as the run recorded them."""
    cohort = from_plain(VirtualCohort.Config | StackFolders.Config, plain.get("cohort"), "config.json: cohort").build()
    if isinstance(cohort, StackFolders):
        unseen = set(cohort.config.unseen)
        stacks = {name: path for name, path in cohort.folders.items() if path not in unseen}
        inputs = read_json(folder / "provenance.json").get("inputs", {})
        found = {str(key): str(digest) for key, digest in inputs.items()}
    else:
        names = [member.name for member in cohort.members() if not member.unseen]
        stacks = {name: folder / "brains" / name / "sections" for name in names}
        found = {}
        for name in names:
            for file, digest in _recorded(folder, f"sections-{name}").items():
                found[file.replace(f"brains/{name}/sections/", f"{name}/", 1)] = digest
    return stacks, {
        digest: ", ".join(key.split("/", 1)) for key, digest in found.items() if key.split("/", 1)[0] in stacks
    }
