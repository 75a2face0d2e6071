"""Registration of whole brains: one hemisphere to the other, or each to its partner in another brain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from meshgnn.errors import InputError
from meshgnn.graph import MeshGraph
from meshgnn.mesh.record import SurfaceMesh, frozen
from meshgnn.progress import Progress, silent
from meshgnn.registration.match import Match, Measures, on_sphere_mm
from meshgnn.registration.register import Registration
from meshgnn.registration.sphere import Hemisphere

OWN, REGISTERED = "sphere", "sphere_reg"  # names of the surfaces


@dataclass(frozen=True, kw_only=True, eq=False)
class RegisteredBrain:
    """A brain whose hemispheres lie on one sphere, left and right as mirror images.

    Args:
        sphere_mm: [V, 3] float32, radius 100 mm: the surface `sphere_reg`.
        measures: how sure places are, [V]; zero distortion, mismatch and doubt in a hemisphere that stayed fixed.
        figures: by hemisphere, of those that moved.
        matches: the same, with the weights that carry values between the meshes.
    """

    sphere_mm: NDArray[np.float32]
    measures: Measures
    figures: dict[str, dict[str, Any]]
    matches: Mapping[str, Match] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sphere_mm", frozen(self.sphere_mm, np.float32))

    def of(self, graph: MeshGraph) -> MeshGraph:
        """The brain with this surface as `sphere_reg`."""
        return graph._replace(surfaces={**graph.surfaces, REGISTERED: self.sphere_mm})


def register_hemispheres(
    graph: MeshGraph, config: Registration.Config | None = None, progress: Progress = silent
) -> RegisteredBrain:
    """The right hemisphere on the left one's sphere, mirrored.

    Raises:
        InputError: one hemisphere only, a surface that is no sphere in topology, nothing to match, or a further feature
            that the brain lacks.
    """
    if len(graph.meshes) < 2:
        raise InputError(f"{graph.brain}: one hemisphere only; there is no other to register it to")
    registration = (config or Registration.Config()).build()
    values = _columns(graph, registration.config.features)
    places = graph.slices()
    fixed, moving = (_hemisphere(registration, graph, mesh, OWN, progress) for mesh in graph.meshes)
    one, two = (places[mesh.hemisphere] for mesh in graph.meshes)
    match = registration(
        moving, fixed, moving_values=values[two], fixed_values=values[one], progress=_named(progress, "R to L")
    )
    sphere = np.zeros((graph.n_nodes, 3), np.float32)
    sphere[one], sphere[two] = on_sphere_mm(fixed, fixed.sphere), match.sphere_mm()
    still = np.zeros(one.stop - one.start, np.float32)
    measured = {name: np.concatenate([still, getattr(match.measures, name)]) for name in Measures.__dataclass_fields__}
    name = graph.meshes[1].hemisphere
    return RegisteredBrain(
        sphere_mm=sphere, measures=Measures(**measured), figures={name: match.figures}, matches={name: match}
    )


def register_brain(
    moving: MeshGraph, fixed: MeshGraph, config: Registration.Config | None = None, progress: Progress = silent
) -> RegisteredBrain:
    """Every hemisphere of `moving` on the sphere of the same hemisphere of `fixed`, or of the one that it has.

    The fixed brain's surface `sphere_reg` is the sphere if it has one; see `register_hemispheres`.

    Raises:
        InputError: a surface that is no sphere in topology, nothing to match, or a further feature that one lacks.
    """
    registration = (config or Registration.Config()).build()
    names = registration.config.features
    own, theirs = _columns(moving, names), _columns(fixed, names)
    known: dict[str, Hemisphere] = {}
    spheres, parts = [], []
    matches: dict[str, Match] = {}
    for mesh, place in zip(moving.meshes, moving.slices().values()):
        partner = next((one for one in fixed.meshes if one.hemisphere == mesh.hemisphere), fixed.meshes[0])
        if partner.hemisphere not in known:
            name = REGISTERED if REGISTERED in fixed.surfaces else OWN
            known[partner.hemisphere] = _hemisphere(registration, fixed, partner, name, progress)
        match = registration(
            _hemisphere(registration, moving, mesh, OWN, progress), known[partner.hemisphere],
            moving_values=own[place], fixed_values=theirs[fixed.slices()[partner.hemisphere]],
            progress=_named(progress, f"{mesh.hemisphere} to {partner.hemisphere}"),
        )  # fmt: skip
        spheres.append(match.sphere_mm())
        parts.append(match.measures)
        matches[mesh.hemisphere] = match
    measured = {name: np.concatenate([getattr(part, name) for part in parts]) for name in Measures.__dataclass_fields__}
    return RegisteredBrain(
        sphere_mm=np.concatenate(spheres), measures=Measures(**measured), matches=matches,
        figures={side: match.figures for side, match in matches.items()},
    )  # fmt: skip


def _hemisphere(
    registration: Registration, graph: MeshGraph, mesh: SurfaceMesh, surface: str, progress: Progress
) -> Hemisphere:
    brought = graph.surfaces.get(surface)
    try:
        return registration.hemisphere(
            mesh,
            None if brought is None else brought[graph.slices()[mesh.hemisphere]],
            _named(progress, mesh.hemisphere),
        )
    except InputError as error:
        raise InputError(f"{graph.brain}: {error}") from None


def _columns(graph: MeshGraph, names: Sequence[str]) -> NDArray[np.float64]:
    """[V, C] of these columns, NaN where a table does not know them."""
    found = np.full((graph.n_nodes, len(names)), np.nan)
    for number, name in enumerate(names):
        table = next((table for table in graph.tables.values() if name in table.columns), None)
        if table is None:
            raise InputError(f"{graph.brain}: there is no feature {name!r} to register by")
        found[table.mask, number] = table.values[table.mask, table.columns.index(name)]
    return found


def _named(progress: Progress, what: str) -> Progress:
    return lambda step, done, total, figures=None: progress(f"{step} {what}", done, total, figures)
