"""An engine without a mesh, for the tests of jobs: it may finish, fail, wait or fall over."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meshgnn.config import Config as BaseConfig
from meshgnn.errors import InputError
from meshgnn.mapping.socket import PredictedArea


class ToyFilling:
    engine, probabilities = "toy", None

    def __init__(self, folder: Path) -> None:
        self.about = json.loads((folder / "toy.json").read_text())
        self.sections = tuple(self.about["sections"])
        self.figures = {"words": ["All is well."], "drawn": self.about["drawn"], "hidden": []}

    def on(self, section: int):
        ring = np.array([[10, 10], [60, 10], [60, 40], [10, 40], [10, 10.0]])
        return [PredictedArea(area=0, polygons=[[ring]], probability=0.75)] if section in self.sections else []


class ToyEngine:
    title = "Toy"

    @dataclass(frozen=True, kw_only=True)
    class Config(BaseConfig):
        what: str = "finish"
        name: str = "toy"

        def build(self) -> "ToyEngine":
            return ToyEngine(self)

    def __init__(self, config: Config) -> None:
        self.config, self.name = config, config.name

    def check(self, situation) -> None:
        if not situation.drawn.sections:
            raise InputError("nothing was drawn yet")

    def fill(self, situation, folder, progress, stopped):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tries").open("a").write("x")
        if self.config.what == "refuse":
            raise InputError("the outlines are too small")
        if self.config.what == "fault":
            raise ZeroDivisionError("a fault")
        if self.config.what == "fall":
            os._exit(3)
        for k in range(1000 if self.config.what in ("wait", "deaf") else 2):
            progress("filling", k, 1000)
            if stopped() and self.config.what == "wait":
                return None
            time.sleep(0.02)
        (folder / "toy.json").write_text(
            json.dumps({"sections": [20], "drawn": list(situation.drawn.sections), "rejected": situation.rejected})
        )
        return ToyFilling(folder)

    def read(self, folder, stack, brain):
        return ToyFilling(folder)
