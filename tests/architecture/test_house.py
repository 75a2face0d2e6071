"""The house: import directions, light imports, one place for every package."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


LIGHT = """meshgnn reconstruct meshgnn.source.surface_folder meshgnn.store meshgnn.sockets meshgnn.export.gifti
meshgnn.data.split meshgnn.data.residualizer features.volumes features.virtual_images features.runs
features.virtual_runs features.subject_data.table features.subject_data.series
features.subject_data.functional_connectivity
meshgnn.testing meshgnn.interop.pyg meshgnn.interop.graph_tool meshgnn.experiment"""


@pytest.mark.parametrize("module", LIGHT.split())
def test_importing_it_loads_no_torch(module):
    assert python(f"import sys, {module}; print('torch' in sys.modules)") == "False"


def test_the_facade_is_light():
    heavy = ["scipy", "nibabel", "nilearn", "sklearn", "lightning", "igraph", "numba"]
    assert python(f"import sys, meshgnn; print([m for m in {heavy} if m in sys.modules])") == "[]"


def test_imports_run_one_way():
    tool = Path(sys.executable).parent / "lint-imports"
    if not tool.exists() and shutil.which("lint-imports") is None:
        pytest.skip("import-linter is not installed")
    done = subprocess.run(
        [str(tool) if tool.exists() else "lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_packages_come_from_this_tree():
    for name in ("meshgnn", "features", "reconstruct", "experiments"):
        assert Path(python(f"import {name}; print({name}.__file__)")).parent.parent == ROOT


def test_no_model_or_array_is_ever_unpickled():
    wrong, words = [], ("import pickle", "torch.load(", "allow_pickle=True")
    for package in ("meshgnn", "features", "reconstruct"):
        for path in ROOT.glob(f"{package}/**/*.py"):
            text = path.read_text(encoding="utf-8")
            wrong += [f"{path.name}: {word}" for word in words if word in text]
    assert wrong == []


def test_a_condition_that_is_always_true_is_found():
    tool = Path(sys.executable).parent / "ruff"
    if not tool.exists() and shutil.which("ruff") is None:
        pytest.skip("ruff is not installed")
    words = [
        str(tool) if tool.exists() else "ruff",
        "check",
        "--output-format",
        "concise",
        "--stdin-filename",
        "x.py",
        "-",
    ]
    code = "def used(inputs):\n    return 'dwi' or 'flair' in inputs\n"
    done = subprocess.run(words, cwd=ROOT, input=code, capture_output=True, text=True, check=False)
    assert "SIM222" in done.stdout, done.stdout + done.stderr
