"""Encoder and graph network trained together, from a run whose meshes and encoders are made.

    python -m features.end_to_end --set run=RUN --out OUT

RUN is a run of virtual_brain or virtual_brain:sections, finished or ended after its stage `encoder`. OUT gets
`fold-K/` (encoder and network that have not seen fold K), tables/NAME (embeddings of every brain, as features.extract
writes them), predictions/ (GIfTI maps of the brains never trained on), metrics.json, and is itself a folder of encoders
for features.extract. A killed training goes on with the same command.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from features.command import Bar, run
from features.end_to_end.maker import EndToEndFeatures, config_of
from features.end_to_end.settings import JointConfig
from features.model_files import ABOUT
from features.shared_space import SPACE, fold_folder
from meshgnn.config import to_plain
from meshgnn.confusion import macro_f1
from meshgnn.errors import InputError
from meshgnn.experiment.cli import resolve, shipped
from meshgnn.experiment.run_folder import RunFolder, read_config
from meshgnn.experiment.section_brain import judge_of
from meshgnn.experiment.section_mapping import SectionMapping
from meshgnn.export.area_map import AreaMap
from meshgnn.export.gifti import write_area_map
from meshgnn.sockets import Brain
from meshgnn.source.cohort import Member
from meshgnn.store import read_json, save_table, write_json


@dataclass(frozen=True, kw_only=True)
class JointJob(JointConfig):
    """
    Args:
        run: folder of a run from sections, up to its stage `encoder`.
        encoder: folder of the cross-fitted encoders to begin with; RUN/encoder if not named.
        name: of the tables.
        common: nodes that the encoders' spaces are brought together on, at most.
    """

    run: Path | None = None
    encoder: Path | None = None
    name: str = "joint"
    common: int = 4000


def _joint(job: JointJob, out: Path) -> str:
    if job.run is None:
        raise InputError("no run named; use --set run=RUN, the folder of a run of virtual_brain")
    experiment, folder = read_run(job.run), RunFolder(job.run)
    start = job.encoder or job.run / "encoder"
    if not any((start / name).is_file() for name in (SPACE, ABOUT)):
        raise InputError(
            f"{start}: holds no encoders to begin with; finish the stage `encoder` of the run (python -m "
            f"meshgnn.experiment --out {job.run} --resume), or name others with --set encoder=DIR"
        )
    config = JointConfig(**{one.name: getattr(job, one.name) for one in fields(JointConfig)})
    maker = config_of(start, config, job.common, job.name).build()
    members = [(one, _brain(experiment, folder, one)) for one in experiment.members]
    training = [brain for one, brain in members if not one.unseen]
    with Bar("step") as bar:
        maker.train(training, start, out, bar)
    scores: dict[str, Any] = {}
    for one, brain in members:
        with Bar("node") as bar:
            save_table(maker.make(brain, out, bar), out / "tables" / one.name)
        if one.unseen:
            scores |= _mapped(maker, experiment, folder, one, brain, out)
    kept = {str(fold): _history(fold_folder(out, fold)) for fold in _folds(out)}
    write_json(out / "metrics.json", {"task": "end to end", "joint": to_plain(config), "unseen": scores, "folds": kept})
    told = [f"{name}: macro-F1 {row['macro_f1']:.3f}" for name, row in scores.items() if "macro_f1" in row]
    return "\n".join([f"encoders, networks and {len(members)} tables in {out}", *told])


def read_run(folder: Path) -> SectionMapping:
    """The experiment of a run from sections.

    Raises:
        InputError: no run, one of another kind, or one that a shipped experiment did not make.
    """
    stored = read_config(folder)
    if stored.get("experiment") not in shipped():
        raise InputError(f"{folder}: was not made by a shipped experiment; name a run of virtual_brain")
    config = resolve(str(stored["experiment"]), [str(one) for one in stored["overrides"]])
    if not isinstance(config, SectionMapping.Config):
        raise InputError(f"{folder}: is a run of {stored['experiment']}; needed is one of virtual_brain, from sections")
    return config.build()


def _brain(experiment: SectionMapping, run: RunFolder, member: Member) -> Brain:
    if not (run / f"stages/mesh-{member.name}.json").is_file():
        raise InputError(
            f"{run.path}: {member.name} has no mesh yet; go on with the run: python -m meshgnn.experiment --out "
            f"{run.path} --resume"
        )
    return experiment.brains.brain(run, member)


def _mapped(
    maker: EndToEndFeatures, experiment: SectionMapping, run: RunFolder, member: Member, brain: Brain, out: Path
) -> dict[str, Any]:
    """Writes the map of a brain never trained on; its scores, where the truth or a mapper's labels are known."""
    found = maker.map(brain, out)
    judge = judge_of(experiment.brains.folder(run, member), brain.graph)
    graph = brain.graph if judge is None else judge.graph
    write_area_map(out / "predictions", AreaMap(graph=graph, probabilities=found))
    if judge is None:
        return {member.name: {}}
    nodes = graph.cortex & (graph.labels >= 0)
    score = macro_f1(graph.labels[nodes], found[nodes].argmax(1), len(graph.areas))
    right = float(np.mean(found[nodes].argmax(1) == graph.labels[nodes]))
    return {member.name: {"macro_f1": score, "accuracy": right, "nodes": int(nodes.sum()), "judged_by": judge.by}}


def _folds(out: Path) -> list[int]:
    return [int(fold) for fold in read_json(out / "space.json")["encoders"]]


def _history(folder: Path) -> list[dict[str, float]]:
    history: list[dict[str, float]] = read_json(folder / "encoder.json")["training"]["history"]
    return history


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see `features.command.run` for exit codes."""
    return run("features.end_to_end", JointJob(), _joint, arguments)
