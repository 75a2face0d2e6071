"""Stored steps: whatever somebody edits or cuts is made again, never a traceback."""

from dataclasses import dataclass

import numpy as np
import pytest

from reconstruct.state import Store


@dataclass(frozen=True)
class Record:
    values: np.ndarray
    number: int


@pytest.mark.parametrize("name", ["key.json", "record.json", "values.npy"])
@pytest.mark.parametrize(
    "text", ["", "[]", "null", "3", "{", "{}", '{"key": []}', '{"values": {"array": 5}, "number": 1}', '"x"']
)
def test_an_edited_step_is_made_again(tmp_path, name, text):
    made = []

    def compute():
        made.append(1)
        return Record(values=np.arange(3.0), number=2)

    def step():
        return Store(tmp_path).step("one", Record, None, ["input"], compute)

    step()
    assert step()[2]
    assert len(made) == 1
    (tmp_path / "one" / name).write_text(text)
    again, _, reused = step()
    assert not reused
    assert len(made) == 2
    np.testing.assert_array_equal(again.values, np.arange(3.0))
