"""Training the networks of a subject task: one ensemble per division of the subjects, all members side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.data.model_inputs import rewired
from meshgnn.data.subject_inputs import BrainInputs, CohortValues, SubjectInputs
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.subject_divisions import Division
from meshgnn.experiment.training import MAIN, Network, fit_with_progress
from meshgnn.nn import GraphHead
from meshgnn.source.subjects import Subjects
from meshgnn.train.fit import Job, TrainerConfig, ensemble_jobs, load_members, members_key
from meshgnn.train.graph_targets import GraphTargets
from meshgnn.train.subject_ensemble import SubjectEnsemble


def brains_of(network: Network, made: Sequence[BrainInputs]) -> list[BrainInputs]:
    """The inputs as this network gets them."""
    if not network.shuffled:
        return list(made)
    return [replace(brain, edges=rewired(brain.edges, len(brain.features), seed=0)) for brain in made]


def train_subjects(
    run: RunFolder,
    networks: Mapping[str, Network],
    divisions: Sequence[Division],
    subjects: Subjects,
    values: CohortValues,
    inputs: SubjectInputs.Config,
    head: GraphHead.Config,
    trainer: TrainerConfig,
    batch: int,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Train all members of all networks, and write the models.

    Returns:
        Every validation of every member of the main network, and the files written.

    Raises:
        InputError: training diverged.
    """
    trainer = trainer.for_classes(0)
    n_units = 2 if head.units == "hemispheres" else len(values.units)
    jobs: list[Job] = []
    scales, sizes = [], (0, 0)
    for number, division in enumerate(divisions):
        train = division.part.train
        made, unit_mm = inputs.build().fit(subjects, values, train)
        scaled, scale = _standardised(subjects, train)
        scales.append(scale)
        for network in networks.values():
            folds = division.validation[: len(network.seeds) * trainer.folds]
            task = GraphTargets(
                # Members get no subject of the test part, not even without a target.
                brains=tuple(brain for brain, kept in zip(brains_of(network, made), train) if kept),
                values=scaled[train],
                classes=tuple(len(target.classes) for target in subjects.targets),
                train=(train & ~folds)[:, train], validation=folds[:, train], head=head,
                n_units=n_units, unit_mm=unit_mm, batch=batch,
            )  # fmt: skip
            first = task.brains[0]
            sizes = (first.features.shape[1] + len(first.whole), first.coordinates.shape[1])
            path = run / f"{network.place}tables/task-{number}.safetensors"
            task.save(path)
            key = members_key(path, network.config, trainer)
            folder = run / f"{network.place}checkpoints" / f"division{number}"
            prefix = f"{network.place}division{number}/"
            jobs += ensemble_jobs(GraphTargets, path, network.config, trainer, network.seeds, folder, key, prefix)
    fit_with_progress(run, jobs, trainer.workers, GraphTargets.watched)
    files, history = [], []
    for name, network in networks.items():
        weights = {}
        for number in range(len(divisions)):
            place = run / f"{network.place}checkpoints" / f"division{number}"
            weights[number], validations = load_members(place, network.seeds, trainer.folds)
            if name == MAIN:
                history += [{"division": number, **entry} for entry in validations]
        ensemble = SubjectEnsemble(
            network=network.config, coordinates=trainer.coordinates, head=head, targets=subjects.targets,
            scale=np.stack(scales), n_features=sizes[0], n_coordinates=sizes[1],
            n_units=n_units, features=values.features, weights=weights,
        )  # fmt: skip
        (run / network.place).mkdir(parents=True, exist_ok=True)
        files += [f"{network.place}{file}" for file in ensemble.save(run / network.place)]
    return history, files


def _standardised(subjects: Subjects, train: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """[G, T] numbers standardised by the training subjects (classes as they are), and mean and deviation [T, 2]."""
    scale = np.tile([0.0, 1.0], (len(subjects.targets), 1))
    for column, target in enumerate(subjects.targets):
        if not target.classes:
            known = subjects.values[train & np.isfinite(subjects.values[:, column]), column]
            scale[column] = known.mean(), known.std() or 1.0
    return ((subjects.values - scale[:, 0]) / scale[:, 1]).astype(np.float32), scale
