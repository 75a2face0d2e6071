"""The words in the addresses: they outlive a server, and nobody else can read them."""

import json
import os
import stat

import pytest

from meshgnn.mapping.server import tokens
from meshgnn.mapping.server.tokens import FILE, tokens_of


def test_they_are_kept_for_their_owner_alone(tmp_path):
    first = tokens_of(tmp_path)
    assert first.kept
    assert first.draw != first.guest
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert tokens_of(tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_new_ones_end_the_old(tmp_path):
    first = tokens_of(tmp_path)
    second = tokens_of(tmp_path, anew=True)
    assert {first.draw, first.guest}.isdisjoint({second.draw, second.guest})
    assert tokens_of(tmp_path) == second


def test_without_a_folder_nothing_is_kept(tmp_path):
    assert not tokens_of(None).kept
    assert tokens_of(None) != tokens_of(None)
    assert not tokens_of(tmp_path / "absent").kept


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o777])
def test_a_file_that_others_could_read_or_write_is_not_trusted(tmp_path, mode):
    first = tokens_of(tmp_path)
    (tmp_path / FILE).chmod(mode)
    second = tokens_of(tmp_path)
    assert second.draw != first.draw
    assert second.kept
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"draw": 1, "guest": 2}', json.dumps({"draw": "short", "guest": "x" * 32}),
     json.dumps({"draw": "x" * 32, "guest": "x" * 32}), json.dumps({"draw": "x" * 31 + "\n", "guest": "y" * 32}),
     "[" * 5000],
)  # fmt: skip
def test_a_damaged_file_is_made_anew(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    (tmp_path / FILE).chmod(0o600)
    assert tokens_of(tmp_path).kept
    assert len(tokens_of(tmp_path).draw) == 32


def test_links_and_pipes_are_not_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    planted = tokens_of(elsewhere)
    state = tmp_path / "state"
    state.mkdir()
    (state / FILE).symlink_to(elsewhere / FILE)
    assert tokens_of(state).draw != planted.draw
    assert not (state / FILE).is_symlink()
    assert tokens_of(elsewhere) == planted
    os.unlink(state / FILE)
    os.mkfifo(state / FILE, 0o600)
    assert tokens_of(state).kept


def test_where_the_disk_knows_no_modes_nothing_is_kept(tmp_path, monkeypatch):
    first = tokens_of(tmp_path)
    monkeypatch.setattr(tokens, "_private", lambda handle: False)
    assert not tokens_of(tmp_path).kept
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    assert tokens_of(tmp_path).draw != first.draw


def test_a_full_disk_stops_no_server(tmp_path, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert not tokens_of(tmp_path).kept
    assert list(tmp_path.iterdir()) == []
