"""A filling over the mesh in a folder of its own, read when it is asked for.

filling.json             engine, areas, sections, figures; written last: a folder with it is complete
filling.safetensors      probabilities [V, A + 1] of the drawn areas and of none of them
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.export.area_map import AreaMap
from meshgnn.graph import Areas, MeshGraph
from meshgnn.mapping.glass import on_tissue
from meshgnn.mapping.ribbon import Ribbons, smooth_outlines
from meshgnn.mapping.socket import PredictedArea, Situation
from meshgnn.sockets import Brain
from meshgnn.source.sections import SectionStack
from meshgnn.store import content_hash, read_arrays, read_json, write_arrays, write_json

FORMAT = 1
FILE = "filling"
KEPT = "kept"  # of the state folder: what rounds share
NONE = "none of the drawn areas"
GREY = (0.6, 0.6, 0.6, 1.0)


class KeptFilling:
    """What all fillings share: filling.json, and maps of their probabilities.

    Attributes:
        about: filling.json.
        graph: of the brain; None without a mesh.
    """

    about: dict[str, Any]
    graph: MeshGraph | None

    @property
    def engine(self) -> str:
        return str(self.about["engine"])

    @property
    def sections(self) -> tuple[int, ...]:
        return tuple(self.about["sections"])

    @property
    def figures(self) -> Mapping[str, Any]:
        return dict(self.about["figures"])

    @property
    def areas(self) -> Areas:
        about = self.about["areas"]
        return Areas(names=tuple(about["names"]), keys=tuple(about["keys"]), colours=np.array(about["colours"]))

    @property
    def probabilities(self) -> NDArray[np.float32] | None:
        """[V, K]; what is missing from 1 is the probability of none of the drawn areas. None without a mesh."""
        raise NotImplementedError

    def area_map(self) -> AreaMap:
        """For the 3D page, GIfTI and everything else that is exported; nodes that are in none of the drawn areas form
        an area of their own, `none of the drawn areas`.

        Raises:
            InputError: it was filled in without a mesh.
        """
        chances, areas = self.probabilities, self.areas
        if chances is None or self.graph is None:
            raise InputError("this was filled in without a mesh; let the graph fill in for a map of the brain")
        names, keys = (*areas.names, NONE), (*areas.keys, max(areas.keys, default=0) + 1)
        whole = Areas(names=names, keys=keys, colours=np.concatenate([areas.colours, [GREY]]))
        rest = np.clip(1 - chances.sum(1, keepdims=True), 0, 1)
        labelled = self.graph.relabelled(np.full(self.graph.n_nodes, -1), whole)
        return AreaMap(graph=labelled, probabilities=np.concatenate([chances, rest], axis=1))


class MeshFilling(KeptFilling):
    """A `Filling` over the nodes of a mesh.

    Args:
        folder: that `write` wrote.
        stack, brain: see `Situation`.
        ribbons: of the brain, where they are there already.

    Raises:
        InputError: not a complete filling, or one of another mesh.
    """

    def __init__(self, folder: Path, stack: SectionStack, brain: Brain | None, ribbons: Ribbons | None = None) -> None:
        self.folder, self.stack = Path(folder), stack
        about = read_json(self.folder / f"{FILE}.json")
        if not isinstance(about, dict) or about.get("record") != "MeshFilling" or about.get("format") != FORMAT:
            raise InputError(f"{self.folder / FILE}.json: not a filling of format {FORMAT}")
        if brain is None or mesh_key(brain.graph) != about["mesh"]:
            raise InputError(f"{self.folder}: was filled in over another mesh; fill in again")
        self.about: dict[str, Any] = about
        self.graph: MeshGraph = brain.graph
        self._ribbons = ribbons

    @staticmethod
    def write(
        folder: Path,
        situation: Situation,
        *,
        engine: str,
        areas: NDArray[np.integer],
        shares: NDArray[np.floating],
        figures: Mapping[str, Any],
        ribbons: Ribbons | None = None,
        tissue: Mapping[int, str] | None = None,
    ) -> "MeshFilling":
        """Keep a filling.

        Args:
            areas: [A] class numbers; shares: [V, A + 1] probabilities, the last of none of them, or 0.
            figures: JSON-ready.
            tissue: keys of the masks of the sections, by number (`meshgnn.mapping.glass`).
        """
        assert situation.brain is not None
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{FILE}.json").unlink(missing_ok=True)
        write_arrays(folder / f"{FILE}.safetensors", {"shares": shares.astype(np.float32)})
        graph = situation.brain.graph
        places = graph.locations
        said = shares.any(1) & graph.cortex
        seen = np.unique(places.section[said & places.observed]).tolist() if places is not None else []
        table = situation.areas
        about = {
            "format": FORMAT,
            "record": "MeshFilling",
            "engine": engine,
            "mesh": mesh_key(graph),
            "areas": {"names": table.names, "keys": table.keys, "colours": table.colours.astype(float)},
            "drawn": [int(k) for k in areas],
            "sections": [section.index for section in situation.stack if section.usable and section.index in seen],
            "rejected": [list(pair) for pair in situation.rejected],
            "tissue": {str(index): key for index, key in (tissue or {}).items()},
            "figures": figures,
        }
        write_json(folder / f"{FILE}.json", about)
        return MeshFilling(folder, situation.stack, situation.brain, ribbons)

    @cached_property
    def shares(self) -> NDArray[np.float32]:
        """[V, A + 1] of the drawn areas and of none of them; 0 where nothing is said."""
        found = read_arrays(self.folder / f"{FILE}.safetensors")["shares"]
        if found.shape != (self.graph.n_nodes, len(self.drawn) + 1):
            raise InputError(f"{self.folder / FILE}.safetensors: damaged; fill in again")
        return found

    @property
    def drawn(self) -> tuple[int, ...]:
        """Class numbers of the areas that were drawn anywhere."""
        return tuple(self.about["drawn"])

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """[V, K]; what is missing from 1 is the probability of none of the drawn areas."""
        found = np.zeros((self.graph.n_nodes, len(self.areas)), np.float32)
        found[:, self.drawn] = self.shares[:, :-1]
        return found

    @property
    def uncertainty(self) -> NDArray[np.float32]:
        """[V] expected share of wrong names: 1 less the largest probability, 0 where nothing is said."""
        return np.where(self.shares.any(1), 1 - self.shares.max(1), 0).astype(np.float32)

    @property
    def ribbons(self) -> Ribbons:
        if self._ribbons is None:
            self._ribbons = Ribbons(self.graph)
        return self._ribbons

    def on(self, section: int) -> Sequence[PredictedArea]:
        """Areas on one section, largest first; none on a section that it says nothing of."""
        if section not in self.sections:
            return []
        ribbon = self.ribbons.of(self.stack.at(section))
        shares = ribbon.shares(self.shares)
        best = np.where(shares.any(1), shares.argmax(1), -1)
        cortex = ribbon.between_surfaces(self.graph)
        key = self.about.get("tissue", {}).get(str(section))
        if key is not None:
            cortex &= on_tissue(ribbon, self.folder.resolve().parents[2] / KEPT, key, cortex)
        best[(best == len(self.drawn)) | ~cortex] = -1
        image = ribbon.image(best)
        refused = {area for number, area in self.about["rejected"] if number == section}
        found = [
            PredictedArea(
                area=self.drawn[place],
                polygons=polygons,
                probability=float(shares[best == place, place].mean()),
            )
            for place, polygons in smooth_outlines(image, ribbon.step, ribbon.width_mm).items()
            if self.drawn[place] not in refused
        ]
        return sorted(found, key=lambda one: -sum(abs(len(ring)) for p in one.polygons for ring in p))


def mesh_key(graph: MeshGraph) -> str:
    """Hash of a mesh and of where its nodes lie on the sections."""
    places = graph.locations
    parts = [graph.vertices_mm.tobytes(), graph.edges.tobytes(), graph.cortex.tobytes()]
    if places is not None:
        parts += [places.section.tobytes(), places.row_px.tobytes(), places.column_px.tobytes()]
    return content_hash([sha256(part).hexdigest() for part in parts])
