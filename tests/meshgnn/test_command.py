"""What all commands share: exit codes and one line for trouble with files, SIGTERM, a place for compiled code."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from meshgnn import compiled
from meshgnn.command import guarded
from meshgnn.errors import InputError
from meshgnn.experiment.cli import entry
from meshgnn.export.command import entry as export
from meshgnn.store import clear_asides, written_aside

ROOT = Path(__file__).resolve().parents[2]


def python(code, **environment):
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **environment})


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (InputError("wrong"), 2, "error: wrong"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/x/y.bin"),
            2,
            "/x/y.bin: No space left on device; make room",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 2, "/x: Permission denied; check the rights"),
        (OSError("100 requested and 7 written"), 2, "No space left on device"),
        (KeyboardInterrupt(), 130, "stopped"),
    ],
)
def test_trouble_with_files_is_one_line(capsys, error, code, words):
    def work():
        raise error

    assert guarded(work) == code
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_faults_of_ours_stay_exceptions():
    with pytest.raises(OSError, match="odd"):
        guarded(lambda: (_ for _ in ()).throw(OSError("odd")))
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 // 0)


def test_sigterm_leaves_no_half_file(tmp_path):
    process = python(
        "import sys, time\nfrom pathlib import Path\nfrom meshgnn.command import guarded\n"
        "from meshgnn.store import written_aside\n"
        "def work():\n"
        f"    with written_aside(Path({str(tmp_path / 'a.txt')!r})) as aside:\n"
        "        aside.write_text('half')\n        time.sleep(60)\n"
        "    return 0\n"
        "sys.exit(guarded(work))"
    )
    deadline = time.time() + 60
    while not any(path.read_text() for path in tmp_path.iterdir()) and time.time() < deadline:
        time.sleep(0.02)
    assert [path.name[:7] for path in tmp_path.iterdir()] == [".a.txt."]
    process.terminate()
    assert process.wait(timeout=30) == -signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    killed = python(
        "import os, time\nfrom pathlib import Path\nfrom meshgnn.store import written_aside\n"
        f"with written_aside(Path({str(tmp_path / 'sub' / 'a.txt')!r})) as aside:\n    time.sleep(60)"
    )
    deadline = time.time() + 60
    while not list(tmp_path.glob("sub/.*")) and time.time() < deadline:
        time.sleep(0.02)
    with written_aside(tmp_path / "sub" / "b.txt") as mine:
        clear_asides(tmp_path)
        assert len(list(tmp_path.glob("sub/.*"))) == 2
        killed.kill()
        killed.wait()
        clear_asides(tmp_path)
        assert list(tmp_path.glob("sub/.*")) == [mine]
    (tmp_path / ".hidden.aside-notes").touch()
    clear_asides(tmp_path)
    assert (tmp_path / ".hidden.aside-notes").is_file()


def test_files_that_cannot_be_read_are_one_line(tmp_path, capsys, monkeypatch):
    """For every command, wherever the file is opened."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").mkdir()  # a folder where a file is expected: nobody may read that
    assert entry(["--resume", "--out", str(tmp_path / "run")]) == 2
    assert "config.json" in capsys.readouterr().err
    assert export([str(tmp_path / "run"), "--format", "csv"]) == 2
    assert capsys.readouterr().err.count("\n") == 1

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", "sections.csv")

    from features import pretrain

    monkeypatch.setattr(pretrain, "read_annotated_brain", denied)
    words = ["--set", f"stacks={tmp_path}", "--set", f"reconstructions={tmp_path}", "--out", str(tmp_path / "e")]
    assert pretrain.main(words) == 2
    assert "sections.csv: Permission denied" in capsys.readouterr().err


def test_compiled_code_finds_a_place_where_nothing_may_be_written(tmp_path, monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(compiled, "_own_folder", lambda: tmp_path / "own")
    compiled.place_cache(tmp_path)
    assert "NUMBA_CACHE_DIR" not in os.environ  # beside the code
    monkeypatch.setattr(compiled, "_may_write", lambda folder: folder.name == ".cache")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    compiled.place_cache(tmp_path)
    assert "NUMBA_CACHE_DIR" not in os.environ  # at home
    monkeypatch.setattr(compiled, "_may_write", lambda folder: False)
    monkeypatch.setitem(sys.modules, "numba", type("Numba", (), {"config": type("Config", (), {})}))
    compiled.place_cache(tmp_path)
    assert os.environ["NUMBA_CACHE_DIR"] == str(tmp_path / "own")
    assert str(tmp_path / "own") == sys.modules["numba"].config.CACHE_DIR


def test_the_place_for_compiled_code_is_nobody_elses(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled.tempfile, "gettempdir", lambda: str(tmp_path))
    usual = tmp_path / f"meshgnn-compiled-{os.getuid()}"
    assert compiled._own_folder() == usual == compiled._own_folder()
    usual.chmod(0o777)
    assert compiled._own_folder() != usual
    usual.rmdir()
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    usual.symlink_to(tmp_path / "elsewhere")
    assert compiled._own_folder() != usual


def test_kernels_work_where_neither_installation_nor_home_can_be_written(tmp_path):
    """A file in the place of a folder keeps even root from writing there."""
    for name in ("meshgnn", "features"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "assets", "web"))
    for folder in [path for path in tmp_path.rglob("*") if path.is_dir()]:
        (folder / "__pycache__").touch()
    (tmp_path / "home").touch()
    (tmp_path / "temporary").mkdir()
    environment = {
        name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
    }
    environment |= {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "temporary"), "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-B", "-c", "import features.resample as r; print(r.__file__)"], cwd=tmp_path,
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(tmp_path))
    assert list((tmp_path / "temporary").glob("meshgnn-compiled-*"))
