"""The commands that README and user guide tell people to type, with small input put in.

A documented command is any `python -m ...` or `torchrun ...`, in a block of code or between backticks. Words in
capitals stand for files and folders of the reader; `PLACES` says which of them the test lays out itself, all others
must be written by another documented command.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "docs/user-guide.md", "docs/mapping.md")
PLACES = (
    "DIR",
    "OTHER",
    "PEOPLE",
    "STACK1",
    "STACK2",
    "STACK3",
    "GREY.nii.gz",
    "WHITE.nii.gz",
    "SCANS",
    "CELLS",
)  # made by `tests.install.inputs`
VALUES = {"NAME": "Planted", "BRAIN": "stack-3"}  # what else stands in capitals
_PLACEHOLDER = re.compile(r"(?<![A-Za-z0-9_./-])([A-Z][A-Z0-9]+(?:\.[a-z.]+)?)(?![A-Za-z0-9_-])")
_COMMAND = re.compile(
    r"(?:\.venv/bin/)?((?:python -m (?:meshgnn|features|reconstruct|tests)|torchrun [^\n`]*-m )[^\n`]*)"
)

_STACK = ("source.preset=quick", "source.hemispheres=L", "source.pixel_um=300", "source.spacing_mm=5",
          "source.annotate_every=2")  # fmt: skip
_MESH = ("stack.voxel_mm=1.2", "midsurface.edge_mm=4", "judge=false", "plausible.refuse=false")
_BRAINS = (
    *(f"mesh.{setting}" for setting in (*_MESH, "hemispheres.sides=L")), "encoder.pretrain.epochs=1",
    "encoder.pretrain.epoch_steps=2", "encoder.pretrain.batches.patches=2", "encoder.pretrain.patches.pixel_um=300",
    "encoder.pretrain.batches.rare=skip", "encoder.pretrain.held_out=0", "seeds=0", "trainer.folds=2",
    "trainer.epochs=2", "variant_seeds=1", "controls=false", "encoder.extract.batch=256",
)  # fmt: skip
_PRETRAIN = ("epochs=1", "epoch_steps=2", "batches.patches=2", "batches.rare=skip", "patches.pixel_um=300")

_DRAWN = (
    *_BRAINS, *(f"cohort.{one.replace('source', 'brain')}" for one in _STACK), "cohort.seeds=1,2", "cohort.unseen=2"
)  # fmt: skip

_SUBJECTS = ("seeds=0", "trainer.folds=2", "trainer.epochs=5", "controls=false")

_TRAITS = ("split.parts=2", "split.cross=false", "trainer.folds=2", "trainer.epochs=2", "alone=false")

_REST = (
    "phases.autoencoder.steps=2", "phases.transformer.steps=2", "split.parts=2", "trainer.folds=2", "trainer.epochs=1",
    *(f"inputs.{name}.data.frames=8" for name in ("bold", "bold_from_scratch", "bold_swin")),
)  # fmt: skip
_REST_BRAIN = (
    "source.people.nodes=162", "source.frames=64", "features.SeriesFeatures.pretrain.epochs=1",
    "features.SeriesFeatures.pretrain.epoch_steps=2", "trainer.folds=2", "trainer.epochs=5", "seeds=0",
    "controls=false",
)  # fmt: skip

# Settings that make a command small; one that is not named here runs as it stands in the document.
SMALL: dict[str, tuple[str, ...]] = {
    "surface": ("seeds=0", "trainer.epochs=5", "trainer.folds=2", "validation.blocks=2", "validation.buffer_mm=2"),
    "virtual_sections": _STACK,
    "cut_sections": ("cutting.pixel_um=500", "cutting.spacing_mm=6"),
    "cut_sections:volumes": ("cutting.pixel_um=500", "cutting.spacing_mm=4"),
    "reconstruct": (*_MESH, "hemispheres.sides=L"),
    "reconstruct:mni152": (*_MESH, "volume.voxel_mm=2"),
    "virtual_brain": _DRAWN,
    "virtual_brain:uniform": (*_DRAWN, "without_coordinates=false", "first_alone=false"),
    "virtual_brain:sections": _BRAINS,
    "features.pretrain": _PRETRAIN,
    "features.end_to_end": ("epochs=1", "before=1", "after=1", "epoch_steps=2", "sampler.patches=2"),
    "features.judge": ("shares=0.5,1", "seeds=0", "data.pixel_um=300", "nodes=300"),
    "judging": (
        "brain.pixel_um=300", "brain.spacing_mm=6", "data.pixel_um=300", "train=1", "test=2", "shares=0.5", "seeds=0",
        "steps=2", "per_section=10", "methods=scratch,spatial,pca", "radius_um=9000",
    ),
    "judging:cells": (
        "brain.spacing_mm=20", "brain.cells=3", "train=1", "test=2", "shares=0.5", "seeds=0", "steps=2",
        "methods=scratch,spatial,pca", "radius_um=90000", "data.size_px=320,48", "patches=2",
    ),
    "subjects": ("cohort.subjects=24", *_SUBJECTS),
    "subjects:folders": _SUBJECTS,
    "traits:quick": ("cohort.people.subjects=36", "cohort.size=16", "conversion.cube.size=16", *_TRAITS),
    "traits:folder": ("conversion.cube.size=16", *_TRAITS),
    "explain": ("subjects=4", "methods.names=saliency"),
    "graph_and_volume:quick": (
        "cohort.people.subjects=36", "cohort.size=16", "conversion.cube.size=16", "split.parts=2", "split.cross=false",
        "trainer.folds=2", "trainer.epochs=2",
    ),
    "fmri_sex:quick": ("cohort.people.subjects=24", "cohort.frames=60", "targets=sex", *_REST),
    "fmri_sex:folder": _REST,
    "fmri_nodes:quick": _REST_BRAIN,
    "fmri_nodes:alone": _REST_BRAIN,
    "features.virtual_runs": ("people.subjects=24", "size=16", "frames=60"),
    "features.virtual_images": ("people.subjects=36", "size=16"),
    "features.volumes": ("cube.size=16",),
}  # fmt: skip
# The experiments that need an optional package, which an empty environment lacks: told in one line.
REFUSED = {"surface_demo": "pip install", "reconstruct:bigbrain": "pip install"}
# What a command makes whose work another documented one does as well (`virtual_brain --set compare=UNIFORM`).
INCLUDED = ("DEMO",)
# Servers: each must tell its address, answer there, and end cleanly when interrupted.
SERVERS = ("meshgnn.mapping",)
_THERE = ("--resume", "verify=true")  # of a command whose folder exists
# Needs the tests, hence a checkout; and what has the stages of virtual_brain:uniform, which runs.
ELSEWHERE = ("tests.integration.kill_and_resume", "virtual_brain:masked")


@dataclass(frozen=True, kw_only=True)
class Command:
    """One documented command.

    Args:
        text: as documented.
        name: of the experiment, or the module.
        words: to run, placeholders and all.
        out: placeholder of the folder that it makes, "" if none is named.
    """

    text: str
    name: str
    words: tuple[str, ...]
    out: str

    @property
    def needs(self) -> set[str]:
        """Placeholders that must exist before it can run."""
        return {name for word in self.words for name in _PLACEHOLDER.findall(word)} - {*VALUES, self.out}


def documented(documents: tuple[str, ...] = DOCUMENTS) -> list[Command]:
    """Every documented command in the documents' order; one that sets the same keys to other values stands once."""
    found: dict[tuple[str, ...], Command] = {}
    for document in documents:
        text = (ROOT / document).read_text(encoding="utf-8")
        text = re.sub(r"\\\n\s*", " ", text)
        for match in _COMMAND.findall(text):
            words = tuple(shlex.split(match, comments=True))
            command = _command(match.strip(), words)
            options = {word.split("=")[0] for word in words if "=" in word or word.startswith("--")} - {"--out"}
            found.setdefault((command.name, *sorted(options)), command)
    return [one for one in found.values() if one.name not in ELSEWHERE]


def _command(text: str, words: tuple[str, ...]) -> Command:
    module = words[words.index("-m") + 1]
    rest = words[words.index("-m") + 2 :]
    name = module
    if module == "meshgnn.experiment":
        name = rest[0] if rest and not rest[0].startswith("-") else ""
    out = rest[rest.index("--out") + 1] if "--out" in rest and not set(_THERE) & set(rest) else ""
    return Command(text=text, name=name, words=words, out=out)


def filled(command: Command, places: dict[str, Path], out: Path) -> list[str]:
    """The words to run: placeholders filled in, small settings added, an output folder named."""

    def fill(match: re.Match[str]) -> str:
        name = match.group(1)
        return VALUES.get(name) or str(out if name == command.out else places[name])

    words = [_PLACEHOLDER.sub(fill, word) for word in command.words]
    if set(_THERE) & set(command.words) or command.name in ("meshgnn.export", *SERVERS):
        return words
    given = {words[k + 1].split("=")[0] for k, word in enumerate(words) if word == "--set"}
    for setting in SMALL.get(command.name, ()):
        if setting.split("=")[0] not in given:
            words += ["--set", setting]
    if not command.out and command.name != "validate":
        words += ["--out", str(out)]
    return words
