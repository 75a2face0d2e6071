"""Scores of small runs, kept to the last digit: a change of the house must not change what is computed.

`MESHGNN_WRITE_FIGURES=1 pytest ...` writes them anew; do so only where the mathematics changed, and say why.
"""

import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch

FOLDER = Path(__file__).parent / "integration" / "figures"
SCORES = ("macro_f1", "accuracy", "balanced_accuracy", "boundary_error_mm", "ece", "weight", "difference")
ELSEWHERE = 0.05  # other processors and libraries round otherwise, and training amplifies it


def machine() -> dict[str, str]:
    """What rounding depends on."""
    return {
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
        "numpy": np.__version__,
        "sklearn": sklearn.__version__,
    }


def scores(metrics: Any, path: str = "") -> dict[str, float]:
    """Every score in metrics.json by its path."""
    if isinstance(metrics, dict):
        return {k: v for name, value in metrics.items() for k, v in scores(value, f"{path}/{name}").items()}
    named = path.rsplit("/", 1)[-1] in SCORES
    return {path: metrics} if named and isinstance(metrics, (int, float)) else {}


def compare(name: str, metrics: dict[str, Any]) -> None:
    """Assert that a run scores what it scored when its figures were stored."""
    file, found = FOLDER / f"{name}.json", scores(metrics)
    assert len(found) > 10
    if os.environ.get("MESHGNN_WRITE_FIGURES"):
        file.write_text(json.dumps({"machine": machine(), "scores": found}, indent=1) + "\n")
    stored = json.loads(file.read_text())
    assert set(stored["scores"]) <= set(found)
    same = stored["machine"] == machine()
    for path, value in stored["scores"].items():
        if same:
            assert found[path] == value, f"{name}{path}: {value} before, {found[path]} now"
        elif path.endswith(("/macro_f1", "/accuracy")):
            assert abs(found[path] - value) < ELSEWHERE, f"{name}{path}: {value} before, {found[path]} now"
