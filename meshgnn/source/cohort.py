"""Several brains as stacks of sections: virtual ones that are rendered first, or folders that exist already."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from meshgnn.config import Config as BaseConfig
from meshgnn.config import at, to_plain
from meshgnn.errors import InputError
from meshgnn.progress import Progress
from meshgnn.source.annotations import FOLDER, check_same_areas, read_annotations
from meshgnn.source.images import image_hash
from meshgnn.source.sections import TABLE, SectionStack, files_of, read_stack
from meshgnn.source.virtual import VirtualBrain
from meshgnn.source.virtual.settings import VERSION
from meshgnn.store import file_hash


@dataclass(frozen=True, kw_only=True)
class Member:
    """One brain of a cohort.

    Args:
        name: names its files; letters, digits, dash.
        unseen: never trained on.
        depends: what decides the bytes of its sections, JSON-ready.
        truth: hash by name of the files of the truth beside a user's stack; a virtual brain's are drawn with its
            sections.
    """

    name: str
    unseen: bool
    depends: Any
    truth: Mapping[str, str] = field(default_factory=dict)


class CohortSource(Protocol):
    """Yields stack folders."""

    def members(self) -> tuple[Member, ...]: ...

    def check(self) -> None:
        """Raises InputError for whatever can be found wrong before work begins."""
        ...

    def coarsest_um(self) -> dict[str, float]:
        """Width of the coarsest pixels of every member's sections, by what to call them in a message."""
        ...

    def provide(self, member: Member, folder: Path, progress: Progress) -> tuple[Path, list[str]]:
        """The stack folder of a member, and the files written into `folder` for it (relative to it)."""
        ...


class VirtualCohort:
    """Virtual brains, one for each seed."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            seeds: one brain each.
            unseen: those of them that are never trained on.
            brain: what all have in common (its own seed is not used).
            workers: threads that draw.
        """

        seeds: tuple[int, ...] = (1, 2, 3)
        unseen: tuple[int, ...] = (3,)
        brain: VirtualBrain.Config = field(default_factory=lambda: VirtualBrain.Config(preset="quick"))
        workers: int = 2

        def build(self) -> "VirtualCohort":
            return VirtualCohort(self)

    def __init__(self, config: Config) -> None:
        if (
            min(config.seeds, default=0) < 0
            or len(set(config.seeds)) != len(config.seeds)
            or not set(config.unseen) <= set(config.seeds)
        ):
            raise InputError("cohort.seeds must be different numbers from 0, and cohort.unseen be some of them")
        if not set(config.seeds) - set(config.unseen):
            raise InputError("cohort.unseen leaves no brain to train on")
        self.config = config

    def _brain(self, seed: int) -> VirtualBrain.Config:
        return replace(self.config.brain, seed=seed)

    def members(self) -> tuple[Member, ...]:
        return tuple(
            Member(
                name=f"virtual-{seed:02d}",
                unseen=seed in self.config.unseen,
                depends={"generator": VERSION, **to_plain(self._brain(seed))},
            )
            for seed in self.config.seeds
        )

    def check(self) -> None:
        with at("cohort.brain"):
            for seed in self.config.seeds:
                self._brain(seed).resolve()

    def coarsest_um(self) -> dict[str, float]:
        return {"virtual brains": self.config.brain.resolve().pixel_um}

    def provide(self, member: Member, folder: Path, progress: Progress) -> tuple[Path, list[str]]:
        place = folder / "sections"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        seed = int(member.depends["seed"])
        with at("cohort.brain"):
            brain = self._brain(seed).build()
        written = brain.write_into(place, progress, workers=self.config.workers)
        return place, [f"sections/{name}" for name in written]


class StackFolders:
    """Stacks of a user, with annotations on some sections."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            train: stack folders with annotations.
            unseen: stack folders to map without training on them; their annotations, if any, judge.
        """

        train: tuple[Path, ...] = ()
        unseen: tuple[Path, ...] = ()

        def build(self) -> "StackFolders":
            return StackFolders(self)

    def __init__(self, config: Config) -> None:
        if not config.train:
            raise InputError("no stack to train on; add --set cohort.train=DIR (several: DIR,DIR)")
        self.config = config
        self.folders: dict[str, Path] = {}
        folders: dict[str, Path] = {}
        for path in (*config.train, *config.unseen):
            name = brain_name(path)
            if other := folders.get(name.casefold()):  # some file systems ignore upper and lower case
                raise InputError(f"{path}: is called {name} like {other}; a brain is named by its folder: rename one")
            folders[name.casefold()] = self.folders[name] = path
        self._stacks: dict[Path, SectionStack] = {}

    def _stack(self, path: Path) -> SectionStack:
        """Read once: that opens the header of every image."""
        if path not in self._stacks:
            self._stacks[path] = read_stack(path)
        return self._stacks[path]

    @cached_property
    def _members(self) -> tuple[Member, ...]:
        unseen = set(self.config.unseen)
        return tuple(
            Member(name=name, unseen=path in unseen, depends=stack_hashes(path), truth=truth_hashes(path))
            for name, path in self.folders.items()
        )

    def members(self) -> tuple[Member, ...]:
        return self._members

    def check(self) -> None:
        """Opens every table, the header of every image, and every annotation."""
        annotated = {}
        for path in self.folders.values():
            self._stack(path)
            if path in self.config.train or (path / FOLDER).is_dir():
                annotated[path] = read_annotations(path)
        check_same_areas(list(annotated))
        for annotations in annotated.values():
            annotations.check()

    def coarsest_um(self) -> dict[str, float]:
        return {str(path): self._stack(path).coarsest_um for path in self.folders.values()}

    def provide(self, member: Member, folder: Path, progress: Progress) -> tuple[Path, list[str]]:
        return self.folders[member.name], []


def brain_name(stack: Path) -> str:
    """What a brain is called after its stack folder: letters, digits, dashes."""
    return "".join(c if c.isalnum() else "-" for c in stack.resolve().name).strip("-") or "brain"


def truth_hashes(folder: Path) -> dict[str, str]:
    """Content of every file of the truth beside a stack, if one lies there, by path relative to the folder."""
    truth = folder / "truth"
    files = [path for path in sorted(truth.glob("*")) if path.suffix in (".json", ".npz", ".gii") and path.is_file()]
    return {f"truth/{path.name}": file_hash(path) for path in files}


def stack_hashes(folder: Path) -> dict[str, str]:
    """Content of every file that the stack and its annotations consist of, by path relative to the folder.

    Raises InputError when there is no table.
    """
    if not (folder / TABLE).is_file():
        raise InputError(f"{folder}: no {TABLE} here; a stack is a folder with images and that table")
    files = files_of(folder / TABLE)
    drawn = folder / FOLDER
    if (drawn / "annotations.csv").is_file():
        files |= {f"{FOLDER}/{name}": path for name, path in files_of(drawn / "annotations.csv", ("index",)).items()}
    if (drawn / "areas.json").is_file():
        files[f"{FOLDER}/areas.json"] = drawn / "areas.json"
    return {name: image_hash(path) for name, path in sorted(files.items())}
