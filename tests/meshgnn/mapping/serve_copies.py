"""The real server with an engine that needs no mesh: it copies what was drawn to the sections between.

`python -m tests.meshgnn.mapping.serve_copies STACK ...` takes what `python -m meshgnn.mapping` does.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import experiments.mapping
from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError
from meshgnn.mapping.command import entry
from meshgnn.mapping.config import MappingServer
from meshgnn.mapping.socket import PredictedArea
from meshgnn.source.polygons import outlines


class CopiesFilling:
    engine = "copies"
    probabilities = None

    def __init__(self, folder: Path) -> None:
        told = json.loads((folder / "copies.json").read_text())
        self.sections = tuple(told["sections"])
        self._areas = told["areas"]
        self.figures = {"words": ["Outlines were copied from one section to all others."]}

    def on(self, section):
        if section not in self.sections:
            return []
        return [
            PredictedArea(area=int(k), polygons=[[np.array(ring) for ring in one] for one in shape], probability=0.8)
            for k, shape in self._areas.items()
        ]


class Copies:
    name, title = "copies", "Copies"

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        def build(self) -> "Copies":
            return Copies()

    def check(self, situation):
        if not situation.drawn.sections:
            raise InputError("nothing is drawn yet")

    def fill(self, situation, folder, progress, stopped):
        self.check(situation)
        drawn = situation.drawn
        shapes = outlines(drawn.read(drawn.sections[0]))
        areas = {k: [[ring.tolist() for ring in one] for one in shape] for k, shape in shapes.items()}
        others = [one.index for one in situation.stack if one.index not in drawn.sections]
        for k in range(8):  # slow enough for the page to hear of every step
            progress("copying", k, 8)
            time.sleep(0.3)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "copies.json").write_text(json.dumps({"sections": others, "areas": areas}))
        return CopiesFilling(folder)

    def read(self, folder, stack, brain):
        return CopiesFilling(folder)


def mapping() -> MappingServer.Config:
    from tests.meshgnn.mapping.serve_copies import Copies  # not of __main__: the engine's process builds it anew

    return MappingServer.Config(engines=(Copies.Config(),))


if __name__ == "__main__":
    experiments.mapping.mapping = mapping
    sys.exit(entry())
