"""Registration of a brain's hemispheres as a stage of a run, where the brain brings no registered sphere."""

from collections.abc import Mapping
from dataclasses import replace

from meshgnn.config import to_plain
from meshgnn.data.inputs import NodeInputs, registered_mm
from meshgnn.errors import InputError
from meshgnn.experiment.progress import Bars
from meshgnn.experiment.run_folder import RunFolder
from meshgnn.experiment.runner import Stage
from meshgnn.registration import Measures, Registration, register_hemispheres
from meshgnn.registration.brains import REGISTERED
from meshgnn.registration.closed import closed_mesh
from meshgnn.source.socket import Reading
from meshgnn.store import read_arrays, write_arrays, write_json

NAME = "register"
SPHERE, FIGURES = "tables/registered.safetensors", "tables/registration.json"


def needed(reading: Reading, config: Registration.Config | None) -> bool:
    """Whether a sphere has to be made: one is wanted, and the brain brings none."""
    return config is not None and REGISTERED not in reading.graph.surfaces


def stages(
    reading: Reading, config: Registration.Config | None, depends: object, files: Mapping[str, str]
) -> list[Stage]:
    """The stage that registers the hemispheres, if it is `needed`.

    Args:
        depends: the settings by which the brain was read.
        files: hashes of the files that it was read from.
    """

    def work(run: RunFolder) -> list[str]:
        assert config is not None
        found = register_hemispheres(reading.graph, config, Bars(run))
        for hemisphere, figures in found.figures.items():
            before, after = (figures[f"correlation_{when}"].values() for when in ("rotated", "registered"))
            told = f"correlation of folds {max(before):.2f} -> {max(after):.2f}, {figures['folded_triangles']} folds"
            run.say(f"  hemisphere {hemisphere} registered: {told}")
        measures = {name: getattr(found.measures, name) for name in Measures.__dataclass_fields__}
        write_arrays(run / SPHERE, {"sphere_mm": found.sphere_mm, **measures})
        write_json(run / FIGURES, found.figures)
        return [SPHERE, FIGURES]

    if not needed(reading, config):
        return []
    return [Stage(name=NAME, run=work, after=(), depends=[depends, to_plain(config)], files=files)]


def with_sphere(
    reading: Reading, config: Registration.Config | None, inputs: NodeInputs.Config, run: RunFolder | None
) -> Reading:
    """The brain with the registered sphere that the run's stage made.

    Args:
        run: None: the stage has not run yet; what would stop it is reported now.

    Raises:
        InputError: coordinates shall be registered places, but there is no registered sphere and none is to be made; or
            a hemisphere that cannot be laid on a sphere.
    """
    if not needed(reading, config):
        if inputs.coordinates and inputs.align == "registered" and REGISTERED not in reading.graph.surfaces:
            told = "; or let the run make one: --set register=Registration"
            try:
                registered_mm(reading.graph, "L")
            except InputError as error:
                raise InputError(f"{error}{told}") from None
        return reading
    graph = reading.graph
    if run is not None:
        sphere = read_arrays(run / SPHERE)["sphere_mm"]
        return replace(reading, graph=graph._replace(surfaces={**graph.surfaces, REGISTERED: sphere}))
    if len(graph.meshes) < 2:
        raise InputError(f"{graph.brain}: one hemisphere only; there is no other to register it to (register=none)")
    for mesh in graph.meshes:
        try:
            closed_mesh(mesh)
        except InputError as error:
            raise InputError(f"{graph.brain}: {error}; register=none leaves registration out") from None
    return reading
