"""Configs: overrides, errors that name the real keys, and a round trip through plain data."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from meshgnn.config import Config, from_plain, override, to_plain
from meshgnn.errors import InputError


class Small:
    @dataclass(frozen=True, kw_only=True)
    class Config(Config):
        size: int = 1


class Big:
    @dataclass(frozen=True, kw_only=True)
    class Config(Config):
        size: int = 100
        mode: Literal["a", "b"] = "a"


@dataclass(frozen=True, kw_only=True)
class Whole(Config):
    rate: float = 0.5
    on: bool = True
    names: tuple[str, ...] = ()
    pair: tuple[int, int] = (1, 2)
    limit: int | None = None
    folder: Path = Path("x")
    part: Small.Config | Big.Config = field(default_factory=Small.Config)


def test_values_are_parsed_by_their_annotation():
    changed = override(
        Whole(), ["rate=2", "on=no", "names=[p, q]", "pair=3,4", "limit=7", "folder=/a b", "part.size=9"]
    )
    assert changed == Whole(
        rate=2.0, on=False, names=("p", "q"), pair=(3, 4), limit=7, folder=Path("/a b"), part=Small.Config(size=9)
    )
    assert override(changed, ["limit=none", "names="]).limit is None


def test_a_union_is_chosen_by_the_name_of_the_class():
    assert override(Whole(), ["part=Big", "part.mode=b"]).part == Big.Config(mode="b")
    with pytest.raises(InputError, match="not one of Small, Big"):
        override(Whole(), ["part=Huge"])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("rat=1", "did you mean 'rate'"),
        ("part.siz=1", "did you mean 'size'"),
        ("rate", "key=value"),
        ("rate=fast", "not a number"),
        ("rate=nan", "nan"),
        ("limit=1.5", "whole"),
        ("on=maybe", "true or false"),
        ("pair=1", "2 values"),
        ("rate.x=1", "single value"),
    ],
)
def test_mistakes_are_told_in_one_line(assignment, message):
    with pytest.raises(InputError, match=message) as caught:
        override(Whole(), [assignment])
    assert "\n" not in str(caught.value)


def test_plain_data_come_back_as_they_were():
    config = override(Whole(), ["part=Big", "part.size=3", "names=a,b", "limit=4"])
    assert from_plain(Whole, json.loads(json.dumps(to_plain(config)))) == config


def test_plain_data_cannot_choose_a_class_that_the_annotation_does_not_allow():
    plain = to_plain(Whole())
    plain["part"] = {"_": "os.system", "size": 1}
    with pytest.raises(InputError, match="may stand here"):
        from_plain(Whole, plain)
    with pytest.raises(InputError, match="fields"):
        from_plain(Whole, {**to_plain(Whole()), "extra": 1})
