"""The truth of a virtual brain: written by the generator, read by the evaluation, never by the pipeline.

    truth/brain.json      generator version, config, settings, space, frame, planted faults; per section: position,
                          fate, stain, blemishes, what the mapper left out or got wrong
    truth/warps.npz       per section of brain.json: matrix [N,2,2], shift_mm [N,2], waves [N,M,3], phases [N,M],
                          weights [N,M,2] (see `Warp`)
    truth/sub-NAME_hemi-L_{white,pial,midthickness,sphere}.surf.gii     in the stack's space, RAS mm
    truth/sub-NAME_hemi-L_atlas-virtual_dseg.label.gii    areas by key, 0 outside isocortex
    truth/sub-NAME_hemi-L_desc-cortex_mask.label.gii      1 in isocortex
    truth/sub-NAME_hemi-L_desc-layerShares.shape.gii      six columns: true relative layer thickness by volume
    (and hemi-R): a surface folder that `meshgnn.source` reads like any other

midthickness is halfway between white and pial node by node; the Laplace u = 0.5 surface is left to the judge.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from meshgnn.errors import InputError
from meshgnn.graph import Areas
from meshgnn.mesh.record import SurfaceMesh
from meshgnn.source.sections import AXES
from meshgnn.source.virtual.areas import isocortical_areas
from meshgnn.source.virtual.artefacts import Warp
from meshgnn.source.virtual.fields import Floats, SmoothField
from meshgnn.source.virtual.settings import VERSION

if TYPE_CHECKING:
    from meshgnn.source.virtual.brain import Brain

SURFACES = ("white", "pial", "midthickness", "sphere")


def node_labels(brain: "Brain") -> dict[str, npt.NDArray[np.int32]]:
    """Class [V] of every node of each hemisphere: index into `isocortical_areas()`, -1 outside isocortex."""
    from meshgnn.source.virtual.annotate import KEYS, NOT_ISOCORTEX

    out = {}
    for cortex in brain.hemispheres:
        keys = KEYS[cortex.labels()].astype(np.int32)
        out[cortex.hemisphere.name] = np.where(keys == NOT_ISOCORTEX, 0, keys) - 1
    return out


def write_truth(
    brain: "Brain",
    config: dict[str, Any],
    folder: Path,
    blemishes: dict[int, list[dict[str, Any]]],
    mapper: dict[int, dict[str, Any]] | None = None,
) -> None:
    """Write the truth of `brain` into the new folder `folder`.

    Args:
        blemishes: of every section.
        mapper: by section, which areas a mapper drew if not all, and what is wrong.
    """
    folder.mkdir()
    areas = isocortical_areas()
    labels = node_labels(brain)
    for cortex in brain.hemispheres:
        hemi = cortex.hemisphere
        stem = f"sub-{brain.space.replace('-', '')}_hemi-{hemi.name}"
        points = {
            "white": hemi.white_mm,
            "pial": hemi.pial_mm,
            "midthickness": (hemi.white_mm + hemi.pial_mm) / 2,
            "sphere": hemi.sphere * 100,
        }
        for kind, array in points.items():
            _gifti(folder / f"{stem}_{kind}.surf.gii", [(array, "pointset"), (hemi.faces, "triangle")])
        own = labels[hemi.name]
        table: list[Any] = [(0, "???", (1.0, 1.0, 1.0, 0.0))]
        table += [(k, name, tuple(map(float, c))) for k, name, c in zip(areas.keys, areas.names, areas.colours)]
        _gifti(folder / f"{stem}_atlas-virtual_dseg.label.gii", [(own + 1, "label")], table)
        mask = [(0, "???", (1.0, 1.0, 1.0, 0.0)), (1, "cortex", (0.2, 0.6, 0.9, 1.0))]
        _gifti(folder / f"{stem}_desc-cortex_mask.label.gii", [((own >= 0).astype(np.int32), "label")], mask)
        shares = cortex.layer_shares().T
        _gifti(folder / f"{stem}_desc-layerShares.shape.gii", [(row, "shape") for row in shares])
    record = {
        "format": 1,
        "version": VERSION,
        "space": brain.space,
        "config": config,
        "settings": asdict(brain.settings),
        "plane": brain.settings.plane,
        "pixel_um": brain.settings.pixel_um,
        "shape": list(brain.shape),
        "faults": [asdict(fault) for fault in brain.faults],
        "sections": [
            {
                "index": one.index,
                "position_mm": one.position_mm,
                "noted_mm": one.noted_mm,
                "fate": one.fate,
                "stain": asdict(one.stain),
                "blemishes": blemishes.get(one.index, []),
                **({"mapper": mapper[one.index]} if mapper and one.index in mapper else {}),
            }
            for one in brain.cuts
        ],
    }
    (folder / "brain.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    warps = [one.warp for one in brain.cuts]
    arrays = {
        "matrix": np.stack([warp.matrix for warp in warps]),
        "shift_mm": np.stack([warp.shift_mm for warp in warps]),
        "waves": np.stack([warp.bend.waves for warp in warps]),
        "phases": np.stack([warp.bend.phases for warp in warps]),
        "weights": np.stack([warp.bend.weights for warp in warps]),
    }
    np.savez(folder / "warps.npz", **arrays)  # type: ignore[arg-type]


def _gifti(path: Path, arrays: list[tuple[npt.NDArray[Any], str]], table: list[Any] | None = None) -> None:
    import nibabel
    from nibabel import gifti

    codes = {
        "pointset": ("NIFTI_INTENT_POINTSET", np.float32),
        "triangle": ("NIFTI_INTENT_TRIANGLE", np.int32),
        "label": ("NIFTI_INTENT_LABEL", np.int32),
        "shape": ("NIFTI_INTENT_SHAPE", np.float32),
    }
    image = gifti.GiftiImage()
    for array, kind in arrays:
        intent, dtype = codes[kind]
        data = np.ascontiguousarray(array, dtype)
        image.add_gifti_data_array(gifti.GiftiDataArray(data, intent=intent, datatype=dtype))
    for key, name, colour in table or ():
        label: Any = gifti.GiftiLabel(key, *colour)
        label.label = name
        image.labeltable.labels.append(label)
    nibabel.save(image, path)


@dataclass(frozen=True, kw_only=True, eq=False)
class TrueSection:
    """Where a section truly lay, and which artefacts it got.

    Args:
        index: as in sections.csv.
        position_mm: true position along the cutting axis.
        fate: good, missing or damaged.
        warp: plane to glass.
        blemishes: tears and folds as in brain.json.
    """

    index: int
    position_mm: float
    fate: str
    warp: Warp
    blemishes: tuple[dict[str, Any], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """The truth of one brain.

    Args:
        space: of all coordinates.
        plane, pixel_um, shape: of the section images.
        surfaces: by hemisphere and kind (white, pial, midthickness, sphere).
        labels: class [V] per hemisphere, index into `areas`, -1 outside isocortex.
        layer_shares: [V, 6] per hemisphere.
        areas: the classes.
        sections: by index.
        faults: planted bridges as in brain.json.
    """

    space: str
    plane: str
    pixel_um: float
    shape: tuple[int, int]
    surfaces: dict[str, dict[str, SurfaceMesh]]
    labels: dict[str, npt.NDArray[np.int32]]
    layer_shares: dict[str, npt.NDArray[np.float32]]
    areas: Areas
    sections: dict[int, TrueSection]
    faults: tuple[dict[str, Any], ...]

    def to_space(self, index: int, row_px: npt.ArrayLike, column_px: npt.ArrayLike) -> Floats:
        """True RAS mm [..., 3] of pixels [...] of section `index`."""
        section = self._section(index)
        row, column = np.broadcast_arrays(np.asarray(row_px, np.float64), np.asarray(column_px, np.float64))
        step = self.pixel_um / 1000
        on_slide = np.stack([column - (self.shape[1] - 1) / 2, row - (self.shape[0] - 1) / 2], axis=-1) * step
        flat = section.warp.inverse(on_slide)
        axes = AXES[self.plane]
        return flat[..., :1] * axes[0] + flat[..., 1:] * axes[1] + section.position_mm * axes[2]

    def to_section(self, index: int, points_mm: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
        """Row, column (float px) and signed distance to the plane (mm) of RAS points [..., 3]."""
        section = self._section(index)
        axes = AXES[self.plane]
        points = np.asarray(points_mm, np.float64)
        flat = np.stack([points @ axes[0], points @ axes[1]], axis=-1)
        on_slide = section.warp.forward(flat) * (1000 / self.pixel_um)
        row, column = on_slide[..., 1] + (self.shape[0] - 1) / 2, on_slide[..., 0] + (self.shape[1] - 1) / 2
        return row, column, points @ axes[2] - section.position_mm

    def labels_at(self, points_mm: npt.ArrayLike, hemisphere: str) -> npt.NDArray[np.int32]:
        """Class of the nearest midthickness node, for points [N, 3]."""
        from scipy.spatial import cKDTree

        tree = cKDTree(self.surfaces[hemisphere]["midthickness"].vertices_mm)
        return self.labels[hemisphere][tree.query(np.asarray(points_mm, np.float64))[1]]

    def _section(self, index: int) -> TrueSection:
        if index not in self.sections:
            raise InputError(f"truth: there is no section {index}")
        return self.sections[index]


def true_hemispheres(folder: Path) -> tuple[str, ...]:
    """Which hemispheres the truth beside a stack holds; none where there is no truth. Reads no file."""
    folder = Path(folder) / "truth"
    if not (folder / "brain.json").is_file():
        return ()
    return tuple(side for side in ("L", "R") if any(folder.glob(f"sub-*_hemi-{side}_white.surf.gii")))


def read_truth(folder: Path) -> Truth:
    """Read `folder` (the stack folder or its `truth`).

    Raises:
        InputError: not a virtual brain's folder.
    """
    import nibabel

    folder = Path(folder)
    folder = folder / "truth" if (folder / "truth").is_dir() else folder
    path = folder / "brain.json"
    if not path.is_file():
        raise InputError(f"{folder}: no brain.json; this is not the truth of a virtual brain")
    record = json.loads(path.read_text(encoding="utf-8"))
    with np.load(folder / "warps.npz", allow_pickle=False) as warps:
        arrays = {name: warps[name] for name in warps.files}
    sections = {}
    for k, row in enumerate(record["sections"]):
        bend = SmoothField(waves=arrays["waves"][k], phases=arrays["phases"][k], weights=arrays["weights"][k])
        sections[int(row["index"])] = TrueSection(
            index=int(row["index"]),
            position_mm=float(row["position_mm"]),
            fate=str(row["fate"]),
            warp=Warp(matrix=arrays["matrix"][k], shift_mm=arrays["shift_mm"][k], bend=bend),
            blemishes=tuple(row["blemishes"]),
        )
    surfaces: dict[str, dict[str, SurfaceMesh]] = {}
    labels, shares = {}, {}
    stem = f"sub-{record['space'].replace('-', '')}"
    for side in ("L", "R"):
        base = f"{stem}_hemi-{side}"
        if not (folder / f"{base}_white.surf.gii").is_file():
            continue
        surfaces[side] = {}
        for kind in SURFACES:
            image: Any = nibabel.load(folder / f"{base}_{kind}.surf.gii")
            surfaces[side][kind] = SurfaceMesh(
                vertices_mm=image.agg_data("pointset"),
                faces=image.agg_data("triangle"),
                hemisphere=side,
                space=record["space"],
            )
        label: Any = nibabel.load(folder / f"{base}_atlas-virtual_dseg.label.gii")
        labels[side] = np.asarray(label.agg_data(), np.int32) - 1
        shape: Any = nibabel.load(folder / f"{base}_desc-layerShares.shape.gii")
        shares[side] = np.stack([array.data for array in shape.darrays], axis=1).astype(np.float32)
    return Truth(
        space=record["space"],
        plane=record["plane"],
        pixel_um=float(record["pixel_um"]),
        shape=(int(record["shape"][0]), int(record["shape"][1])),
        surfaces=surfaces,
        labels=labels,
        layer_shares=shares,
        areas=isocortical_areas(),
        sections=sections,
        faults=tuple(record["faults"]),
    )
