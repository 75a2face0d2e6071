"""Encoders on disk: whatever somebody edits in encoder.json is refused in one line, or does not matter."""

import json
from copy import deepcopy

import pytest
import torch

from features.encoders.section_cnn import SectionCNN
from features.model_files import ABOUT, load_encoder, new_encoder, save_encoder
from features.node_data.section_patches import SectionPatches
from meshgnn.errors import InputError

ODD = (None, "x", -1, 0, 10**9, 8 * 10**6, 1.5, [], {}, [[]], True, float("inf"), 10**400)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = SectionCNN.Config(widths=(8, 16), out_channels=4)
    save_encoder(folder, new_encoder(config, SectionPatches.Config(size_px=16), (16, 16)), {"key": "k"})
    return folder


def leaves(value, path=()):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield (*path, name)
        yield from leaves(item, (*path, name))


def changed(about, path, new):
    about = deepcopy(about)
    place = about
    for name in path[:-1]:
        place = place[name]
    if new is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = new
    return about


def test_edited_descriptions_are_refused_in_one_line(saved, tmp_path):
    about = json.loads((saved / ABOUT).read_text())
    for path in saved.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())

    def told():
        try:
            return load_encoder(tmp_path).identity()["weights"]
        except InputError as error:
            return str(error)

    before, found = told(), {}
    for place in leaves(about):
        for new in (*ODD, ...):
            (tmp_path / ABOUT).write_text(json.dumps(changed(about, place, new)))
            found[place, str(new)[:20]] = told()
    refused = {case: text for case, text in found.items() if text != before}
    assert len(refused) > 150
    assert [case for case, text in refused.items() if "\n" in text or "encoder." not in text] == []
    for text in ("", "[]", "null", "3", "{", '{"record": "NodeEncoder", "format": 2}'):
        (tmp_path / ABOUT).write_text(text)
        with pytest.raises(InputError, match=r"encoder\.json"):
            load_encoder(tmp_path)
