"""Configs: nested frozen dataclasses, each owned by the class it builds; dotted overrides; plain-data form.

    class Smoother:
        @dataclass(frozen=True, kw_only=True)
        class Config(config.Config):
            rounds: tuple[int, ...] = (5, 15, 40)
            def build(self) -> "Smoother": ...

A field that may hold one of several configs is annotated as their union (`GCN.Config | GraphSAGE.Config`) and chosen on
the command line by the name of the owning class (`--set model=GCN`): the annotation is the allow-list, no name is
ever imported. A field that holds a config of another package is annotated `Any`; the experiment, which may import both,
gives its allow-list (`choices`).

A field may hold several: `features: tuple[...]` is set as a list of names (`--set features=Geometry,VolumeFeatures`),
one of them by its number or its name (`--set features.0.measures=curvature`, `--set features.Geometry.measures=...`).

A key or a class that was renamed keeps working under its old name, on the command line and in stored files: the config
that holds it says so (`moved`, `formerly`).

A config checks its values when made and raises `SettingError`, which names its own fields (`<rounds> must ascend`);
`override`, `from_plain` and `at` put the path before them.
"""

import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from meshgnn.errors import InputError, SettingError


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base of every config. Subclasses add fields with defaults and a `build` method, and check values when made.

    Args:
        moved: old key -> key of today, both dotted and from here. An old key that ends in `.*` stands for what lies
            below it alone, `key=value` for that one assignment.
        formerly: names that the class which this config builds had before.
        gone: keys of stored configs that nothing depends on any more.
    """

    moved: ClassVar[Mapping[str, str]] = {}
    formerly: ClassVar[tuple[str, ...]] = ()
    gone: ClassVar[tuple[str, ...]] = ()

    def called(self) -> str:
        """What one of several such configs in a list may be called in a key: its `name`, if it has one."""
        return str(getattr(self, "name", ""))


C = TypeVar("C", bound=Config)


def owner_name(kind: type) -> str:
    """The name a config goes by: that of the class it builds ("GCN" for GCN.Config)."""
    return kind.__qualname__.removesuffix(".Config").split(".")[-1]


def goes_by(kind: type[Config], name: object) -> bool:
    """Whether a config is named so, today or formerly."""
    return name == owner_name(kind) or name in kind.formerly


Choices = Mapping[str, Sequence[Config | None]]
F = TypeVar("F", bound=Callable[..., Any])


def choices(allowed: Choices) -> Callable[[F], F]:
    """Decorates a function that returns a config: what may stand in its fields that are annotated `Any`.

        @choices({"mesh": (Mesher.Config(),), "features": (Contrastive.Config(), Profiles.Config())})
        def experiment() -> SectionMapping.Config: ...

    Args:
        allowed: dotted key -> the configs that may be chosen there by the name of the class they build; None for
            nothing at all.
    """

    def mark(function: F) -> F:
        function.choices = allowed  # type: ignore[attr-defined]
        return function

    return mark


@contextmanager
def at(path: str) -> Iterator[None]:
    """An error that a config at `path` raises within this block names the whole key that the user has to type."""
    try:
        yield
    except SettingError as error:
        raise error.under(path) from None


def to_plain(value: Any) -> Any:
    """A config as JSON-ready data; every nested config carries the name of the class it builds under `_`."""
    if isinstance(value, Config) or (is_dataclass(value) and not isinstance(value, type)):
        plain = {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
        return {"_": owner_name(type(value)), **plain}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    return value


def upgraded(kind: type[Config], plain: Any) -> Any:
    """Stored data of a config of this kind with the keys of today; see `Config.moved` and `Config.gone`."""
    if not isinstance(plain, dict) or not (kind.moved or kind.gone):
        return plain
    found, hints = deepcopy(plain), get_type_hints(kind)
    for key in kind.gone:
        found.pop(key, None)
    for old, new in sorted(kind.moved.items(), key=lambda move: "." not in move[0]):
        if "=" in old or old.endswith(".*"):
            continue
        (*above, last), (*into, name) = old.split("."), new.split(".")
        place = found
        for part in above:
            place = place.get(part, {}) if isinstance(place, dict) else {}
        if not isinstance(place, dict) or last not in place or (not above and last in hints):
            continue
        value = place.pop(last)
        if above and set(place) <= {"_"}:
            found.pop(above[0], None)
        if not into and get_origin(hints.get(name)) is tuple and not isinstance(value, list):
            value = [] if value is None else [value]
        target = found
        for part in into:
            target = target.setdefault(part, {}) if isinstance(target, dict) else {}
        if isinstance(target, dict):
            target[name] = value
    return found


def from_plain(kind: Any, plain: Any, where: str = "config", like: Any = None) -> Any:
    """The inverse of `to_plain` for a known annotation `kind`: classes come from the annotation, never from the file.

    Args:
        kind: the annotation.
        plain: the data.
        where: they come from, for errors.
        like: a value of the same form whose classes may be named too (the config of the experiment that asks).

    Raises:
        InputError: the data do not fit the annotation.
    """
    if kind is Any:
        return from_plain(type(like), plain, where, like) if isinstance(like, Config) else plain
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        arguments = (*arguments, type(like)) if isinstance(like, Config) else arguments
        if plain is None and type(None) in arguments:
            return None
        named = plain.get("_") if isinstance(plain, dict) else None
        for argument in arguments:
            if isinstance(argument, type) and issubclass(argument, Config):
                if goes_by(argument, named):
                    return from_plain(argument, plain, where, like if isinstance(like, argument) else None)
            elif argument is not type(None) and named is None:
                return from_plain(argument, plain, where)
        raise InputError(f"{where}: {named!r} is not a class that may stand here")
    if isinstance(kind, type) and issubclass(kind, Config):
        hints, plain = get_type_hints(kind), upgraded(kind, plain)
        names = [field.name for field in fields(kind)]
        if not isinstance(plain, dict) or not set(plain) - {"_"} <= set(names) or not goes_by(kind, plain.get("_")):
            raise InputError(f"{where}: these are not the fields of {owner_name(kind)}")
        values = {
            name: from_plain(hints[name], plain[name], f"{where}.{name}", getattr(like, name, None))
            for name in names
            if name in plain
        }
        missing = [f.name for f in fields(kind) if f.default is MISSING is f.default_factory and f.name not in values]
        if missing:
            raise InputError(f"{where}: {missing[0]!r} is missing")
        with at(where):
            return kind(**values)
    if origin is tuple:
        if not isinstance(plain, list):
            raise InputError(f"{where}: needs a list")
        inner = [arguments[0]] * len(plain) if arguments[-1] is Ellipsis else list(arguments)
        if len(inner) != len(plain):
            raise InputError(f"{where}: needs {len(inner)} values")
        alike = like if isinstance(like, tuple) and len(like) == len(plain) else [None] * len(plain)
        return tuple(from_plain(one, item, where, other) for one, item, other in zip(inner, plain, alike))
    if origin is Literal:
        if plain not in arguments:
            raise InputError(f"{where}: {plain!r} is not one of {', '.join(map(str, arguments))}")
        return plain
    if kind is Path and isinstance(plain, str):
        return Path(plain)
    if kind is float and isinstance(plain, int | float) and not isinstance(plain, bool):
        if abs(plain) <= sys.float_info.max:  # false for NaN too
            return float(plain)
        raise InputError(f"{where}: is not a finite number")
    if isinstance(kind, type) and isinstance(plain, kind) and (kind is bool or not isinstance(plain, bool)):
        return plain
    raise InputError(f"{where}: {plain!r} is not a {getattr(kind, '__name__', kind)}")
