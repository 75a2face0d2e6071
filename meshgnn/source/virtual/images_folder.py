"""A virtual cohort as the BIDS folder that a study would hand over, with its truth apart.

participants.tsv, .json          ids, families, sites, sex, age, score, null
sub-*/anat/sub-*_T1w.nii.gz      volumes
sub-*/connectivity/sub-*_relmat.npy
sub-*/surf/sub-*_hemi-{L,R}_FEATURE.shape.gii    features of nodes, where meshes are drawn
phenotype/measures.tsv, .json    the table, with the domain of every column
truth/planted.json, planted_*.nii.gz
"""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import to_plain
from meshgnn.graph import MeshGraph
from meshgnn.progress import Progress, silent
from meshgnn.source.participant_table import TABLE, Participants
from meshgnn.source.virtual.images import COLUMNS, DOMAINS, SMOKING, VirtualImages
from meshgnn.store import write_json, write_text, written_aside


def write_images(cohort: VirtualImages, folder: Path, progress: Progress = silent) -> None:
    """Write all of it; a file that is there already is written anew with the same bytes.

    Args:
        cohort: to draw.
        folder: to write to.
        progress: told ("subjects", done, all).

    Raises:
        InputError: the folder cannot be written to.
    """
    traits, people = cohort.traits, cohort.participants()
    write_participants(folder, "virtual cohort", people, DOMAINS)
    _write_table(cohort, folder / "phenotype")
    _write_truth(cohort, folder / "truth")
    for number, name in enumerate(people.ids):
        volume, matrix, _ = traits.present[number].tolist()
        if volume:
            image = cohort.volume(number)
            write_nifti(folder / name / "anat" / f"{name}_T1w.nii.gz", image.values, image.affine)
        if matrix:
            with written_aside(folder / name / "connectivity" / f"{name}_relmat.npy") as aside:
                np.save(aside, cohort.connectivity(number), allow_pickle=False)
        if (mesh := cohort.mesh(number)) is not None:
            write_nodes(folder / name / "surf", name, mesh)
        progress("subjects", number + 1, len(people))


# What the columns of participants.tsv hold.
NOTES: dict[str, dict[str, object]] = {
    "family_id": {"Description": "subjects of one family share it"},
    "site": {"Description": "scanner"},
    "sex": {"Description": "planted class", "Levels": {"F": "female", "M": "male"}},
    "age": {"Description": "age", "Units": "years"},
    "score": {"Description": "ability with confounds of site and age"},
    "null": {"Description": "drawn at random, planted nowhere", "Levels": {"no": "no", "yes": "yes"}},
}


def write_participants(
    folder: Path, title: str, people: Participants, domains: Mapping[str, str] | None = None
) -> None:
    """participants.tsv, what its columns hold, and what the cohort is called.

    Args:
        folder: of the cohort.
        title: of the cohort.
        people: who they are.
        domains: of the targets, by name, where they have one.
    """
    write_text(folder / TABLE, "\n".join(participant_lines(people)) + "\n")
    names = ("family_id", "site", *(target.name for target in people.targets))
    own = {name: {"Domain": domain} for name, domain in (domains or {}).items()}
    write_json(folder / "participants.json", {name: NOTES[name] | own.get(name, {}) for name in names})
    write_json(folder / "dataset_description.json", {"Name": title, "BIDSVersion": "1.9.0"})


def participant_lines(people: Participants) -> list[str]:
    """The rows of participants.tsv, the header first; n/a where a target is missing."""
    lines = ["\t".join(["participant_id", "family_id", "site", *(target.name for target in people.targets)])]
    for row, (name, family, site) in enumerate(zip(people.ids, people.family, people.site)):
        cells = []
        for target, value in zip(people.targets, people.values[row]):
            known = target.classes[int(value)] if target.classes and np.isfinite(value) else f"{value:g}"
            cells.append(known if np.isfinite(value) else "n/a")
        lines.append("\t".join([name, family, site, *cells]))
    return lines


def write_nifti(path: Path, values: NDArray[np.floating], affine: NDArray[np.float64]) -> None:
    """A volume as scanners hand it over: whole numbers of two bytes, about 1000 for white matter."""
    import nibabel

    image = nibabel.Nifti1Image(np.rint(values * 1000).astype(np.int16), affine)
    with written_aside(path) as aside:
        aside.write_bytes(gzip.compress(image.to_bytes(), 6, mtime=0))


def write_nodes(folder: Path, name: str, graph: MeshGraph) -> None:
    """A GIfTI file per feature and hemisphere; NaN where a node has no value."""
    from nibabel import gifti

    table = graph.tables["surface"]
    for side, place in graph.slices().items():
        for column, feature in enumerate(table.columns):
            values = np.where(table.mask[place], table.values[place, column], np.nan).astype(np.float32)
            array: Any = gifti.GiftiDataArray(values, "NIFTI_INTENT_SHAPE", "NIFTI_TYPE_FLOAT32")
            with written_aside(folder / f"{name}_hemi-{side}_{feature}.shape.gii") as aside:
                aside.write_bytes(gifti.GiftiImage(darrays=[array]).to_bytes())


def _write_table(cohort: VirtualImages, folder: Path) -> None:
    cells, present = cohort.table(), cohort.traits.present[:, 2]
    lines = ["\t".join(["participant_id", *cells])]
    for row, name in enumerate(cohort.traits.people.ids):
        if present[row]:
            lines.append("\t".join([name, *(column[row] for column in cells.values())]))
    write_text(folder / "measures.tsv", "\n".join(lines) + "\n")
    notes: dict[str, dict[str, object]] = {
        name: {"Description": "measure", "Domain": domain} for name, (domain, _) in COLUMNS.items()
    }
    smoking = {"Description": "smoking", "Levels": {one: one for one in SMOKING}, "Domain": "disease"}
    write_json(folder / "measures.json", notes | {"smoking": smoking})


def _write_truth(cohort: VirtualImages, folder: Path) -> None:
    planted = cohort.planted
    for trait, weights in planted.weights.items():
        write_nifti(folder / f"planted_{trait}.nii.gz", weights, cohort.head.affine)
    about = {
        trait: {
            "areas": planted.areas[trait],
            "edges": np.flatnonzero(planted.edges[trait]),
            "columns": planted.columns[trait],
        }
        for trait in planted.areas
    }
    write_json(folder / "planted.json", {"config": to_plain(cohort.config), "planted": about})
