"""A finished run of trait prediction, read back: its subjects, its divisions, its inputs, its networks.

G subjects.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from features.fmri.experiment import RunPrediction
from features.fusion.model_files import ABOUT, WEIGHTS, load_network
from features.fusion.multi_input_net import MultiInputNet
from features.subject_data.runs import SubjectRuns
from features.subject_data.volumes import SubjectVolumes
from features.traits.cohort import DRAWN, STORES, items_of, needs_conversion, participants_of, some_of
from features.traits.experiment import TraitPrediction
from features.traits.items import TraitItems
from meshgnn.config import from_plain, to_plain
from meshgnn.data.stored_split import load_split
from meshgnn.data.subject_split import SubjectPart
from meshgnn.errors import InputError
from meshgnn.experiment.run_folder import read_config
from meshgnn.experiment.training import MAIN
from meshgnn.results import SubjectMetrics
from meshgnn.source.participant_table import Participants, ParticipantTable
from meshgnn.source.virtual.images import VirtualImages
from meshgnn.source.virtual.runs import VirtualRuns
from meshgnn.store import content_hash, file_hash, read_json

FRESH = 0x5EED  # so that a network with new weights is not the one that its training started from


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """
    Args:
        folder: of the run.
        config: that it was run with.
    """

    folder: Path
    config: TraitPrediction.Config

    @staticmethod
    def read(folder: Path) -> "FinishedRun":
        """Raises InputError: no run, a run of another kind, or one that is not finished."""
        if folder == Path():
            raise InputError("no trained run given; add --set run=RUN, a finished run of traits")
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; name a finished run of traits with --set run=RUN")
        stored = read_config(folder)
        plain = stored.get("config")
        kinds = {"TraitPrediction": TraitPrediction.Config, "RunPrediction": RunPrediction.Config}
        if not isinstance(plain, dict) or plain.get("_") not in kinds:
            kind = stored.get("experiment") or "another kind"
            raise InputError(f"{folder}: is a run of {kind}; needed is one of traits")
        if not (folder / "metrics.json").is_file():
            raise InputError(
                f"{folder}: this run is not finished; go on with it: python -m meshgnn.experiment --out {folder} "
                "--resume"
            )
        try:  # every class that may stand in it is named by an annotation of ours
            config = from_plain(kinds[plain["_"]], plain)
        except InputError as error:
            where = folder / "config.json"
            raise InputError(f"{where}: cannot be read by this version; train again: {error}") from None
        return FinishedRun(folder=folder, config=config)

    @property
    def virtual(self) -> VirtualImages | VirtualRuns | None:
        """The cohort, if it was drawn."""
        cohort = self.config.cohort
        return None if isinstance(cohort, ParticipantTable.Config) else cohort.build()

    @cached_property
    def people(self) -> Participants:
        c = self.config
        return some_of(participants_of(c.cohort, c.targets), c.most_subjects, c.split.seed)

    @cached_property
    def parts(self) -> list[SubjectPart]:
        """The divisions, as the run kept them."""
        return load_split(self.folder / "tables" / "split.json", self.people, self.config.split.keep)

    @property
    def volumes(self) -> tuple[str, ...]:
        """Names of the inputs that hold volumes, or runs of them."""
        kinds = (SubjectVolumes.Config, SubjectRuns.Config)
        return tuple(one.name for one in self.config.inputs if isinstance(one.data, kinds))

    @property
    def networks(self) -> dict[str, tuple[str, ...]]:
        """Name -> inputs of every network that the run trained."""
        return TraitPrediction(self.config).networks

    def items(self, number: int) -> TraitItems:
        """Of all subjects, standardised by the training subjects of a division."""
        folder = self.folder / DRAWN if self.virtual else self.config.cohort.folder  # type: ignore[union-attr]
        return items_of(self.config.inputs, self.people, self.parts[number].train, folder, self.folder / STORES)

    def places(self, network: str, number: int) -> list[Path]:
        """Folders of the members of a division."""
        c = self.config
        return [
            self.folder / "networks" / network / f"division{number}" / f"seed{seed}-fold{fold}"
            for seed in c.seeds
            for fold in range(c.trainer.folds)
        ]

    def members(self, network: str, number: int) -> list[MultiInputNet]:
        """The trained members of a division, in eval mode. Raises InputError when one is missing or was changed."""
        return [load_network(place) for place in self.places(network, number)]

    def fresh(self, network: str, number: int, draw: int = 0) -> list[MultiInputNet]:
        """As many networks of the same build with weights newly drawn, in eval mode; other ones for another `draw`."""
        found = []
        for place, trained in enumerate(self.members(network, number)):
            torch.manual_seed(FRESH + 1000 * draw + place)
            found.append(trained.config.build(trained.shapes, trained.classes).eval())
        return found

    def files(self, network: str) -> dict[str, str]:
        """Hash of every file of the run that decides its maps."""
        names = [self.folder / name for name in ("config.json", "tables/split.json")]
        names += [self.folder / STORES / one.name / "store.json" for one in self.config.inputs if needs_conversion(one)]
        for number in range(len(self.parts)):
            names += [place / name for place in self.places(network, number) for name in (WEIGHTS, ABOUT)]
        for path in names:
            if not path.is_file():
                again = f"python -m meshgnn.experiment --out {self.folder} --resume"
                raise InputError(f"{path}: is missing; mend it: {again}")
        return {str(path): file_hash(path) for path in names}

    def key(self) -> str:
        return content_hash(to_plain(self.config))

    @cached_property
    def metrics(self) -> SubjectMetrics:
        path = self.folder / "metrics.json"
        return SubjectMetrics.from_json(read_json(path), str(path))

    def tells(self, target: str, network: str) -> bool:
        """Whether a network beats chance: the lower end of its interval lies above that of permuted targets."""
        own = self.metrics.targets[target]
        row = own.test if network == MAIN else own.baselines[network]
        score, high = row.scores.get(own.chance_of), own.chance_interval[1]
        return score is not None and high is not None and bool(score > high)


def held_out(run: FinishedRun, number: int, name: str, items: TraitItems, most: int) -> NDArray[np.int64]:
    """Test subjects of a division who have an input, at most so many, evenly over the table."""
    there = run.parts[number].test & items.present[:, items.names.index(name)]
    rows = np.flatnonzero(there)
    if most and len(rows) > most:
        rows = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
    return rows
