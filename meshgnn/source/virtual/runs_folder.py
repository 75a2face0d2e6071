"""A virtual cohort of runs as the BIDS folder that a study would hand over, with its truth apart.

participants.tsv, .json                                     ids, families, sites, sex, age, null
sub-*/func/sub-*_task-rest_bold.nii.gz, .json               runs, and the time between their frames
sub-*/func/sub-*_task-rest_desc-confounds_timeseries.tsv    six parameters of motion
sub-*/func/sub-*_task-rest_atlas-virtual_timeseries.tsv, .json    means of regions of the same runs
truth/planted.json, planted_*.nii.gz                        regions, networks, and where the traits lie
"""

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from meshgnn.config import to_plain
from meshgnn.progress import Progress, silent
from meshgnn.source.virtual.images_folder import write_nifti, write_participants
from meshgnn.source.virtual.runs import VirtualRuns
from meshgnn.source.virtual.time_courses import MOTION
from meshgnn.store import write_json, write_text, written_aside

TASK = "task-rest"
ATLAS = "atlas-virtual"


def write_runs(cohort: VirtualRuns, folder: Path, progress: Progress = silent) -> None:
    """Write all of it; a file that is there already is written anew with the same bytes.

    Args:
        cohort: to draw.
        folder: to write to.
        progress: told ("subjects", done, all).

    Raises:
        InputError: the folder cannot be written to.
    """
    people, names = cohort.participants(), cohort.regions.names
    write_participants(folder, "virtual cohort over time", people)
    _write_truth(cohort, folder / "truth")
    about = {"RepetitionTime": cohort.config.tr_s, "TaskName": "rest"}
    for number, name in enumerate(people.ids):
        place = folder / name / "func"
        write_run(place / f"{name}_{TASK}_bold.nii.gz", cohort.run(number), cohort.head.affine, cohort.config.tr_s)
        write_json(place / f"{name}_{TASK}_bold.json", about)
        _write_table(place / f"{name}_{TASK}_desc-confounds_timeseries.tsv", MOTION, cohort.motion(number), 6)
        _write_table(place / f"{name}_{TASK}_{ATLAS}_timeseries.tsv", names, cohort.series(number), 3)
        write_json(place / f"{name}_{TASK}_{ATLAS}_timeseries.json", about)
        progress("subjects", number + 1, len(people))


def write_run(path: Path, values: NDArray[np.floating], affine: NDArray[np.float64], tr_s: float) -> None:
    """Volumes over time [X, Y, Z, T] as whole numbers of two bytes."""
    import nibabel

    image = nibabel.Nifti1Image(np.rint(values).astype(np.int16), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_zooms((*image.header.get_zooms()[:3], tr_s))
    with written_aside(path) as aside:
        aside.write_bytes(gzip.compress(image.to_bytes(), 1, mtime=0))


def _write_table(path: Path, columns: tuple[str, ...], values: NDArray[np.floating], digits: int) -> None:
    rows = ["\t".join(f"{value:.{digits}f}" for value in row) for row in values.tolist()]
    write_text(path, "\n".join(["\t".join(columns), *rows]) + "\n")


def _write_truth(cohort: VirtualRuns, folder: Path) -> None:
    c, planted, regions = cohort.config, cohort.planted, cohort.regions
    for trait, weights in planted.weights.items():
        write_nifti(folder / f"planted_{trait}.nii.gz", weights, cohort.head.affine)
    networks = [
        {"network": k, "areas": regions.areas_of([k]), "regions": [
            name for name, own in zip(regions.names, regions.network.tolist()) if own == k
        ]}
        for k in range(c.networks)
    ]  # fmt: skip
    write_json(folder / "planted.json", {
        "config": to_plain(c),
        "networks": networks,
        "planted": {
            "sex": [
                {"what": "frequency", "networks": [0], "hz": c.frequency_effect_hz, "area": c.areas[0]},
                {"what": "coupling", "networks": [1, 2], "correlation": c.coupling_effect, "area": c.areas[1:3]},
            ],
            "age": [{"what": "share of the network", "networks": [3], "in_ten_years": -c.age_effect,
                     "area": c.areas[3]}],
            "null": [],
        },
        "areas": dict(planted.areas),
        "edges": {trait: np.flatnonzero(edges) for trait, edges in planted.edges.items()},
    })  # fmt: skip
