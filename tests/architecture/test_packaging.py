"""What the wheel declares: every import of the packages, and a pin for each package that an installation draws."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("meshgnn", "features", "reconstruct", "experiments")
CUDA = re.compile("nvidia-|cuda-|triton")  # drawn by torch on machines with a GPU only


def needed() -> set[str]:
    """Names of all packages that `pip install .[dev]` draws here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting: list[tuple[str, frozenset[str]]] = [(project["name"], frozenset({"dev"}))]
    done, found = set(), set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in done:
            continue
        done.add((name, extras))
        if name == project["name"]:
            rows = list(project["dependencies"])
            rows += [row for extra in extras for row in project["optional-dependencies"][extra]]
        else:
            found.add(canonicalize_name(name))
            try:
                rows = metadata.requires(name) or []
            except metadata.PackageNotFoundError:
                pytest.skip(f"{name} is not installed here; `make` installs what pyproject.toml names")
        for requirement in map(Requirement, rows):
            wanted = ({"extra": extra} for extra in extras or {""})
            if requirement.marker is None or any(requirement.marker.evaluate(one) for one in wanted):
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    return found


def test_constraints_pin_what_is_installed_and_nothing_else():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines if "==" in line}
    drawn = {name for name in needed() if not CUDA.match(name)} - {"setuptools"}  # pip's own business
    assert sorted(drawn - pinned) == []
    assert sorted(pinned - drawn) == []


def test_every_import_is_declared_and_every_declaration_used():
    tool = Path(sys.executable).parent / "deptry"
    if not tool.exists() and shutil.which("deptry") is None:
        pytest.skip("deptry is not installed")
    done = subprocess.run(
        [str(tool) if tool.exists() else "deptry", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_wheel_brings_every_file_that_the_packages_read(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "node_modules", "web"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq", "wheel", "--no-deps"]
    words = [*pip, "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("meshgnn-*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    read = [path for name in PACKAGES for kind in ("templates", "assets") for path in (ROOT / name).rglob(f"{kind}/*")]
    assert len(read) >= 8
    assert [path for path in read if path.relative_to(ROOT).as_posix() not in held] == []
