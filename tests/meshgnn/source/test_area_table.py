"""areas.json: colours of both scales, and one line for whatever is wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meshgnn.errors import InputError
from meshgnn.source.area_table import read_area_table


def area(key: Any, name: Any, colour: Any = (0.5, 0.5, 0.5, 1), **more: Any) -> dict[str, Any]:
    return {"key": key, "name": name, "colour": colour, **more}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([[1, 0, 0, 1], [0.2, 0.4, 0.6, 0.5]], [[1, 0, 0, 1], [0.2, 0.4, 0.6, 0.5]]),
        ([[255, 0, 0, 255], [51, 102, 1, 51]], [[1, 0, 0, 1], [0.2, 0.4, 1 / 255, 0.2]]),
        ([[255, 0, 0, 1], [51, 102, 153, 1]], [[1, 0, 0, 1], [0.2, 0.4, 0.6, 1]]),  # as in style sheets
        ([[255, 0, 0], [51, 102, 153, 51]], [[1, 0, 0, 1], [0.2, 0.4, 0.6, 0.2]]),
        ([[1, 0, 0], [0.2, 0.4, 0.6]], [[1, 0, 0, 1], [0.2, 0.4, 0.6, 1]]),
    ],
)
def test_colours_of_both_scales(tmp_path: Path, given: list[Any], wanted: list[Any]) -> None:
    path = tmp_path / "areas.json"
    path.write_text(json.dumps([area(k + 1, f"A{k}", colour) for k, colour in enumerate(given)]))
    np.testing.assert_allclose(read_area_table(path).areas.colours, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"4": 1}, "needs a list"),
        ([area(1, "")], "the name is empty"),
        ([area(1, "  ")], "the name is empty"),
        ([area(1, None)], "the name is empty"),
        ([{"key": 1, "name": "4"}], "'colour' is missing"),
        ([area(0, "4")], "key is 0"),
        ([area(1.5, "4")], "key is 1.5"),
        ([area("V", "4")], "key is 'V'"),
        ([area(2**31, "4")], "key is 2147483648; write a whole number from 1 to 2147483647"),
        ([area(1, "4"), area(1, "6")], "key 1 stands twice"),
        ([area(1, "4"), area(2, "4")], "two areas are called '4'"),
        ([area(1, "4"), area(2, "4", isocortex=False)], "two areas are called '4'"),
        ([area(1, "4", isocortex=False)], "no area is to be mapped"),
        ([], "no area is to be mapped"),
        ([area(1, "4", isocortex="no")], "isocortex is 'no'"),
        ([area(1, "4", "red")], "three or four numbers"),
        ([area(1, "4", [1, 2])], "three or four numbers"),
        ([area(1, "4", [300, 0, 0, 255])], "whole numbers from 0 to 255"),
        ([area(1, "4", [1.5, 0, 0, 1])], "whole numbers from 0 to 255"),
        ([area(1, "4", [-0.5, 0, 0, 1])], "from 0 to 1"),
        ([area(1, "4", [0.5, float("nan"), 0, 1])], "from 0 to 1"),
        ([area(1, "4", [1, 0, 0, 300])], "alpha"),
    ],
)
def test_wrong_tables_are_told_in_one_line(tmp_path: Path, rows: Any, words: str) -> None:
    path = tmp_path / "areas.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(InputError, match=words) as told:
        read_area_table(path)
    assert str(told.value).startswith(str(path))
    assert "\n" not in str(told.value)


def test_encodings(tmp_path: Path) -> None:
    path = tmp_path / "areas.json"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_text(json.dumps([area(1, "Größe")], ensure_ascii=False), encoding=encoding)
        assert read_area_table(path).areas.names == ("Größe",)
    path.write_text(json.dumps([area(1, "Größe")], ensure_ascii=False), encoding="cp1252")
    with pytest.raises(InputError, match="not valid JSON in UTF-8"):
        read_area_table(path)
