"""Configs: overrides, errors that name the real keys, and a round trip through plain data."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from meshgnn.config import Config, at, choices, from_plain, to_plain, upgraded
from meshgnn.errors import InputError, SettingError
from meshgnn.keys import keys_of, listed
from meshgnn.override import override


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


class Pages:
    @dataclass(frozen=True, kw_only=True)
    class Config(Config):
        """
        Args:
            batch, shard: how many at once. More needs memory.
            names: e.g. of authors; any.
        """

        batch: int = 10
        shard: int = 20
        names: tuple[str, ...] = ()

        def __post_init__(self) -> None:
            if self.shard < self.batch:
                raise SettingError(f"<shard> must be at least <batch>, got {self.shard}")


@dataclass(frozen=True, kw_only=True)
class Book(Config):
    pages: Pages.Config = field(default_factory=Pages.Config)
    plug: Any = field(default_factory=Small.Config)
    other: Any = None
    maybe: Small.Config | None = None


ALLOWED = {"plug": (Small.Config(size=7), Big.Config()), "other": (Small.Config(), None)}


@pytest.mark.parametrize("order", [("batch=50", "shard=200"), ("shard=200", "batch=50")])
def test_values_are_checked_when_all_are_in_place(order):
    assert override(Book(), [f"pages.{one}" for one in order]).pages == Pages.Config(batch=50, shard=200)


def test_what_a_config_finds_wrong_is_told_with_the_whole_key():
    with pytest.raises(InputError, match=r"^pages\.shard must be at least pages\.batch, got 1$"):
        override(Book(), ["pages.shard=1"])
    plain = to_plain(Book())
    plain["pages"]["shard"] = 1
    with pytest.raises(InputError, match=r"^book\.json: job\.pages\.shard must be at least book"):
        from_plain(Book, {**plain, "plug": 1}, "book.json: job")
    with pytest.raises(InputError, match=r"^a\.b\.shard must be at least a\.b\.batch"), at("a"), at("b"):
        Pages.Config(shard=1)
    with pytest.raises(InputError, match=r"^shard must be at least batch, got 1$"):
        Pages.Config(shard=1)


def test_plain_data_without_a_needed_field_are_refused():
    @dataclass(frozen=True, kw_only=True)
    class Needs(Config):
        size: int

    with pytest.raises(InputError, match="'size' is missing"):
        from_plain(Needs, {"_": owner(Needs)})


def owner(kind):
    return to_plain(kind(size=1))["_"]


@pytest.mark.parametrize("odd", [float("inf"), float("nan"), 10**400, "1", True, None, []])
def test_plain_numbers_are_finite(odd):
    with pytest.raises(InputError, match=r"config\.rate"):
        from_plain(Whole, {**to_plain(Whole()), "rate": odd})


def test_configs_of_other_packages_are_chosen_from_an_allow_list():
    @choices(ALLOWED)
    def book():
        return Book()

    def with_(*sets):
        return override(book(), sets, book.choices)

    assert with_("plug=Big", "plug.size=3").plug == Big.Config(size=3)
    assert with_("plug=Small").plug.size == 7
    assert with_("other=Small").other == Small.Config()
    assert with_("other=Small", "other=null").other is None
    assert with_("maybe=Small", "maybe=none").maybe is None
    with pytest.raises(InputError, match=r"--set plug: 'os.system' is not one of Small, Big$"):
        with_("plug=os.system")
    with pytest.raises(InputError, match="not one of Small, none"):
        with_("other=Big")
    with pytest.raises(InputError, match="set one of its fields: size"):
        override(Book(), ["plug=Big"])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('["a,b", "c[1]", "say \\"x\\""]', ("a,b", "c[1]", 'say "x"')),
        ("c[1]", ("c[1]",)),
        ("a, b", ("a", "b")),
        ("[a,b]", ("a", "b")),
        ("['a','b']", ("a", "b")),
        ("[]", ()),
        ('["a"]', ("a",)),
    ],
)
def test_names_with_commas_brackets_and_quotes(text, names):
    assert override(Book(), [f"pages.names={text}"]).pages.names == names


def test_a_broken_list_is_told():
    with pytest.raises(InputError, match="not a JSON list"):
        override(Book(), ['pages.names=["a", b]'])


def test_every_key_is_listed_as_it_can_be_typed():
    config = override(Book(), ['pages.names=["a,b"]'])
    keys = {key.path: key for key in keys_of(config, ALLOWED)}
    assert list(keys) == [
        "pages.batch", "pages.shard", "pages.names", "plug", "plug.size", "other", "maybe",
    ]  # fmt: skip
    assert keys["pages.shard"].text == "how many at once"
    assert keys["pages.names"].text == "e.g. of authors; any"
    assert keys["plug"].kind == "Small or Big"
    assert keys["other"].kind == "Small or none"
    again = override(Book(), [f"{key.path}={key.default}" for key in keys.values()], ALLOWED)
    assert again == config
    assert "pages.batch=10" in listed(config, ALLOWED)


class Reader:
    @dataclass(frozen=True, kw_only=True)
    class Config(Config):
        formerly: ClassVar[tuple[str, ...]] = ("Loader",)

        size: int = 1
        part: Small.Config | Big.Config = field(default_factory=Small.Config)


@dataclass(frozen=True, kw_only=True)
class Today(Config):
    moved: ClassVar[dict[str, str]] = {
        "loader": "readers", "loader.*": "readers.0", "look": "deep", "look=none": "rate=0", "shade": "deep.mode",
        "readers.rate": "rate",
    }  # fmt: skip

    readers: tuple[Any, ...] = (Reader.Config(),)
    deep: Big.Config = field(default_factory=Big.Config)
    rate: float = 1.0


ITEMS = {"readers": (Reader.Config(), Small.Config(size=5))}


def test_several_configs_stand_in_one_field():
    def with_(*sets):
        return override(Today(), sets, ITEMS)

    assert with_("readers=[Small,Reader]").readers == (Small.Config(size=5), Reader.Config())
    assert with_("readers=none").readers == with_("readers=").readers == ()
    changed = with_("readers=Small,Reader", "readers.1.size=3", "readers.Reader.part=Big", "readers.0.size=7")
    assert changed.readers == (Small.Config(size=7), Reader.Config(size=3, part=Big.Config()))
    assert with_("readers.0=Small").readers == (Small.Config(size=5),)
    for wrong, words in (
        ("readers=os", "'os' is not one of Reader, Small"),
        ("readers.2.size=1", "there is no '2' in readers; there is 0 Reader"),
        ("readers.0.sise=1", "did you mean 'size'"),
        ("rate.0=1", "single value"),
    ):
        with pytest.raises(InputError, match=words):
            with_(wrong)
    keys = {key.path: key for key in keys_of(changed, ITEMS)}
    assert keys["readers"].default == "Small,Reader"
    assert keys["readers"].kind == "list: Reader or Small"
    assert keys["readers.1.part.mode"].default == "a"
    assert override(Today(), [f"{key.path}={key.default}" for key in keys.values()], ITEMS) == changed


def test_keys_and_classes_that_were_renamed_keep_working():
    def with_(*sets):
        return override(Today(), sets, ITEMS)

    assert with_("loader=Loader") == with_("readers=Reader")
    assert with_("loader.size=4", "loader.part=Big") == with_("readers.0.size=4", "readers.0.part=Big")
    assert with_("look.size=3", "shade=b") == with_("deep.size=3", "deep.mode=b")
    assert with_("look=none").rate == 0
    assert with_("readers.rate=3").rate == 3  # what lay below a name that means something else today
    assert upgraded(Today, {"readers": {"_": "Old", "rate": 3}, "loader": {"_": "Reader"}}) == {
        "readers": [{"_": "Reader"}], "rate": 3,
    }  # fmt: skip
    old = {
        "_": "Today", "loader": {"_": "Loader", "size": 6, "part": {"_": "Big", "size": 2, "mode": "a"}},
        "look": {"_": "Big", "size": 1, "mode": "a"}, "shade": "b", "rate": 2.0,
    }  # fmt: skip
    kept = json.loads(json.dumps(old))
    found = from_plain(Today, old, like=Today())
    assert found == Today(
        readers=(Reader.Config(size=6, part=Big.Config(size=2)),), deep=Big.Config(size=1, mode="b"), rate=2.0
    )
    assert old == kept
    assert from_plain(Today, to_plain(found), like=found) == found
    assert upgraded(Today, {"loader": None})["readers"] == []


def test_a_file_names_classes_of_the_config_that_asks_and_no_others():
    class Own:
        @dataclass(frozen=True, kw_only=True)
        class Config(Config):
            size: int = 3

    mine = Reader.Config(part=Own.Config(size=4))
    assert from_plain(Reader.Config, to_plain(mine), like=mine) == mine
    with pytest.raises(InputError, match="may stand here"):
        from_plain(Reader.Config, to_plain(mine))


def test_one_of_several_records_goes_by_its_name():
    from experiments.fmri_sex import fmri_sex

    found = override(fmri_sex(), ["inputs.bold.data.frames=8", "phases.transformer.steps=7", "inputs.1.data.frames=9"])
    assert [one.data.frames for one in found.inputs[:3]] == [8, 9, 20]
    assert [phase.steps for phase in found.phases] == [0, 7]
    kept = override(fmri_sex(), ["inputs=[connectivity,bold]", "inputs.bold.data.frames=8"])
    assert [one.name for one in kept.inputs] == ["connectivity", "bold"]
    assert kept.inputs[1].data.frames == 8
    bare = override(fmri_sex(), ["phases=none", "pretrained="])
    assert bare.phases == ()
    with pytest.raises(InputError, match=r"no 'bald' in inputs; there is 0 TraitInput bold, 1 TraitInput bold_from"):
        override(fmri_sex(), ["inputs.bald.data.frames=8"])
