"""A small made-up cohort: light brains with a planted trait, and the same as a folder."""

from pathlib import Path

import numpy as np

from meshgnn.export.gifti import write_surface_folder
from meshgnn.graph import FeatureTable, MeshGraph
from meshgnn.source.subjects import Subject, Subjects, Target
from tests.synthetic import brain


def subject_brain(seed: int, shift: float = 0.0, subdivisions: int = 1) -> MeshGraph:
    """A ball of four areas; `shift` is added to feature a in area A1."""
    graph = brain(subdivisions, seed=0)
    rng = np.random.default_rng(seed)
    values = np.stack([rng.normal(size=graph.n_nodes), rng.normal(size=graph.n_nodes)], axis=1)
    values[:, 0] += shift * (graph.labels == 0)
    table = FeatureTable(name="surface", values=values, mask=graph.cortex, columns=("a", "b"))
    kept = MeshGraph(
        brain=f"sub{seed}", meshes=graph.meshes, cortex=graph.cortex, labels=graph.labels, areas=graph.areas,
        tables={"surface": table},
    )  # fmt: skip
    return kept


def cohort(count: int = 12, sites: int = 4, **changes) -> Subjects:
    """Families of two at one site each; `age` moves area A1, `group` is noise, some values are missing."""
    rng = np.random.default_rng(0)
    age = rng.normal(50, 10, count)
    group = np.arange(count) % 2
    values = np.stack([age, group.astype(float)], axis=1)
    values[0, 0] = values[1, 1] = np.nan
    subjects = tuple(
        Subject(
            name=f"sub-{k:02d}",
            graph=subject_brain(k, (age[k] - 50) / 10, 1 + k % 2),
            family=f"f{k // 2}",
            site=f"s{k // 2 % sites}",
        )
        for k in range(count)
    )
    given = {"subjects": subjects, "targets": (Target(name="age"), Target(name="group", classes=("x", "y"))),
             "values": values}  # fmt: skip
    return Subjects(**{**given, **changes})


def write_cohort(folder: Path, subjects: Subjects, table: list[str] | None = None) -> Path:
    """participants.tsv and one surface folder per subject."""
    lines = ["participant_id\tfamily_id\tsite\tage\tgroup\ticv"]
    for k, subject in enumerate(subjects.subjects):
        write_surface_folder(folder / subject.name, subject.graph, "Planted")
        age, group = subjects.values[k]
        told = "n/a" if np.isnan(age) else f"{age:.3f}"
        named = "n/a" if np.isnan(group) else "xy"[int(group)]
        icv = "n/a" if k == 3 else str(1400 + k)
        lines.append(f"{subject.name}\t{subject.family}\t{subject.site}\t{told}\t{named}\t{icv}")
    (folder / "participants.tsv").write_text("\n".join(table or lines) + "\n")
    return folder
