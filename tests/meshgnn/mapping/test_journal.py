"""The journal loses nothing that was said to be kept, and refuses what it cannot know."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from meshgnn.errors import InputError
from meshgnn.mapping.kept import Journal, Stale, State, journal
from meshgnn.mapping.record import Record, Review

ROOT = Path(__file__).resolve().parents[3]
POINT = {"type": "Point", "coordinates": [1.5, 2.0]}


def record(id: str = "a", section: int = 1, **fields) -> Record:
    return Record(
        id=id, version=1, section=section, kind="note", geometry=POINT, mapper="", time="", **{"note": "ä", **fields}
    )


def opened(folder: Path, *, writing: bool = True) -> State:
    return State(Journal(folder, writing=writing))


def written(folder: Path, count: int = 3) -> State:
    state = opened(folder)
    for k in range(count):
        state.put([record(f"id{k}", section=k)], "Ann", bases=[0])
    return state


def test_what_is_read_back_is_what_was_written(tmp_path):
    state = written(tmp_path)
    state.put([record("id0", section=0, note="new")], "Bob", bases=[1])
    state.put([record("id1", section=1, deleted=True)], "Bob", bases=[1])
    state.put([], "Bob", reviews=[Review(section=2, area="V1", round=1, engine="graph", decision="reject")])
    state.journal.close()
    again = opened(tmp_path)
    assert again.seq == state.seq == 6
    assert again.all_records() == state.all_records()
    assert [one.note for one in again.history(0)] == ["ä", "new"]
    assert [(one.version, one.mapper) for one in again.history(0)] == [(1, "Ann"), (2, "Bob")]
    assert again.sections == (0, 2)
    assert again.records(1) == ()
    assert again.reviews() == state.reviews() != ()
    assert again.since(3) == (0, 1, 2)
    assert again.since(5) == (2,)


def test_versions_that_are_not_the_newest_are_not_written_over(tmp_path):
    state = written(tmp_path)
    state.put([record("id0", section=0, note="mine")], "Ann", bases=[1])
    before = (tmp_path / journal.FILE).read_bytes()
    with pytest.raises(Stale) as told:
        state.put([record("id1", section=1), record("id0", section=0, note="theirs")], "Bob", bases=[1, 1])
    assert [one.note for one in told.value.newest] == ["mine"]
    assert (tmp_path / journal.FILE).read_bytes() == before  # the first of the two neither
    with pytest.raises(InputError, match="on section 0"):
        state.put([record("id0", section=5)], "Bob", bases=[2])
    with pytest.raises(InputError, match="no version 3"):
        state.put([record("new", section=5)], "Bob", bases=[3])


@pytest.mark.parametrize("cut", [b'{"seq":4,"ti', b"\x00\x00\x00", b"{}\n", b'{"seq":4}\n'])
def test_a_last_line_that_was_cut_off_is_dropped_and_kept_aside(tmp_path, cut, caplog):
    state = written(tmp_path)
    state.journal.close()
    with (tmp_path / journal.FILE).open("ab") as handle:
        handle.write(cut)
    reader = opened(tmp_path, writing=False)
    assert reader.seq == 3
    again = opened(tmp_path)
    assert again.seq == 3
    assert "cut off" in caplog.text
    assert (tmp_path / journal.CUT).read_bytes().startswith(cut)
    again.put([record("later")], "Ann", bases=[0])
    again.journal.close()
    assert opened(tmp_path).seq == 4


@pytest.mark.parametrize(
    "change", [lambda line: line[:-5], lambda line: b"", lambda line: line.replace(b":2,", b":5,", 1)]
)
def test_damage_before_the_last_line_is_refused_by_its_number(tmp_path, change):
    written(tmp_path).journal.close()
    lines = (tmp_path / journal.FILE).read_bytes().splitlines()
    lines[1] = change(lines[1])
    (tmp_path / journal.FILE).write_bytes(b"\n".join(lines) + b"\n")
    before = (tmp_path / journal.FILE).read_bytes()
    with pytest.raises(InputError, match="line 2: damaged"):
        opened(tmp_path)
    assert (tmp_path / journal.FILE).read_bytes() == before


def test_a_second_server_is_refused_and_a_reader_follows(tmp_path):
    state = written(tmp_path)
    with pytest.raises(InputError, match="another server"):
        opened(tmp_path)
    reader = opened(tmp_path, writing=False)
    with pytest.raises(InputError, match="only shows"):
        reader.put([record("x")], "Bob", bases=[0])
    state.put([record("id9", section=9)], "Ann", bases=[0])
    assert reader.follow()
    assert reader.sections == (0, 1, 2, 9)
    assert not reader.follow()


def test_a_full_disk_leaves_nothing_half_said(tmp_path, monkeypatch):
    state = written(tmp_path)
    before = (tmp_path / journal.FILE).read_bytes()
    whole = os.pwrite

    def half(handle: int, data: bytes, at: int) -> int:
        if len(data) > 20:
            return whole(handle, data[:20], at)
        raise OSError(errno.ENOSPC, "No space left on device")

    for name, wrong in (("pwrite", half), ("fsync", _full)):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, wrong)
            with pytest.raises(OSError, match=r"[Nn]o space|could not be written"):
                state.put([record("lost")], "Ann", bases=[0])
        assert state.newest("lost") is None
        assert state.seq == 3
        if name == "pwrite":
            assert (tmp_path / journal.FILE).read_bytes() == before
            state.put([record("kept")], "Ann", bases=[0])
            state.put([record("kept", deleted=True)], "Ann", bases=[1])
            state = _rewound(state, tmp_path, before)


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _rewound(state: State, folder: Path, content: bytes) -> State:
    state.journal.close()
    (folder / journal.FILE).write_bytes(content)
    return opened(folder)


def test_after_an_error_that_leaves_the_file_unknown_nothing_more_is_taken(tmp_path, monkeypatch):
    state = written(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", _full)  # of the change, and of taking it back
        with pytest.raises(OSError, match="No space"):
            state.put([record("lost")], "Ann", bases=[0])
    with pytest.raises(OSError, match="start the server again"):
        state.put([record("next")], "Ann", bases=[0])
    state.journal.close()
    assert opened(tmp_path).seq == 3


DRAWING = """
import sys
from pathlib import Path
from meshgnn.mapping.kept import Journal, State
from meshgnn.mapping.record import Record
state = State(Journal(Path(sys.argv[1])))
points = [[float(k), float(k % 7)] for k in range(3000)]
while True:
    one = Record(id=f"{state.seq}", version=1, section=1, kind="border", mapper="", time="",
                 geometry={"type": "LineString", "coordinates": points})
    seq, _ = state.put([one], "Ann", bases=[0])
    print(seq, flush=True)
"""


def test_a_killed_process_loses_nothing_that_it_said_was_kept(tmp_path):
    last = 0
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", DRAWING, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        said = [int(line) for line in process.stdout.read().split("\n")[:-1]]
        process.wait()
        state = opened(tmp_path)
        assert state.seq - (said[-1] if said else last + 1) in (0, 1)  # the last one may be there unsaid
        assert [one.id for one in state.records(1)] == [str(k) for k in range(state.seq)]
        last = state.seq
        state.journal.close()
