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

import json
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
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
    """

    moved: ClassVar[Mapping[str, str]] = {}
    formerly: ClassVar[tuple[str, ...]] = ()

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


class _Draft:
    """A config with some fields changed, checked only when `made`."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.changed: dict[str, Any] = {}

    def assign(self, path: list[str], value: str, full: str, allowed: Choices, place: str = "") -> None:
        """Set the value at `path`; `full` is the key as it was typed, `place` the key of this config."""
        kind = type(self.config)
        path, value = _moved(kind, path, value)
        names = [field.name for field in fields(self.config)]
        head, rest = path[0], path[1:]
        if head not in names:
            close = get_close_matches(head, names, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            here = f"{hint}keys here: {', '.join(names)}"
            raise InputError(f"--set {full}: there is no {head!r} in {owner_name(kind)}; {here}")
        current = self.changed.get(head, getattr(self.config, head))
        key = f"{place}.{head}" if place else head
        if not rest:
            annotated = get_type_hints(kind)[head]
            if key in allowed and get_origin(annotated) is tuple:
                items = [] if _is_none(value) else _items(value, full)
                self.changed[head] = tuple(_choose(item, allowed[key], full) for item in items)
                return
            if key in allowed:
                self.changed[head] = _choose(value, allowed[key], full)
                return
            if annotated is Any:
                annotated = type(current.config if isinstance(current, _Draft) else current)
            self.changed[head] = _parse(value, annotated, full)
            return
        if isinstance(current, Config):
            current = self.changed[head] = _Draft(current)
        if isinstance(current, tuple) and (key in allowed or any(isinstance(item, Config) for item in current)):
            current = self.changed[head] = _DraftList(current)
        if not isinstance(current, _Draft | _DraftList):
            raise InputError(f"--set {full}: {head!r} is a single value, it has no {rest[0]!r}")
        current.assign(rest, value, full, allowed, key)

    def made(self, path: str = "") -> Any:
        """Raises InputError where the values do not go together."""
        values = {
            name: value.made(f"{path}.{name}" if path else name) if isinstance(value, _Draft | _DraftList) else value
            for name, value in self.changed.items()
        }
        try:
            return replace(self.config, **values)
        except SettingError as error:
            raise error.under(path) from None
        except InputError as error:
            raise InputError(f"{path}: {error}" if path else str(error)) from None


class _DraftList:
    """Several configs in one field, some of them changed; see `_Draft`."""

    def __init__(self, configs: Sequence[Config]) -> None:
        self.drafts = [_Draft(config) for config in configs]

    def assign(self, path: list[str], value: str, full: str, allowed: Choices, place: str) -> None:
        head, rest = path[0], path[1:]
        each = [draft.config for draft in self.drafts]
        fits = [head in (str(k), one.called()) or goes_by(type(one), head) for k, one in enumerate(each)]
        number = fits.index(True) if any(fits) else None
        if number is None:
            there = [f"{k} {owner_name(type(one))} {one.called()}".strip() for k, one in enumerate(each)] or ["none"]
            raise InputError(f"--set {full}: there is no {head!r} in {place}; there is {', '.join(there)}")
        if not rest:
            chosen = _choose(value, allowed.get(place, [draft.config for draft in self.drafts]), full)
            self.drafts[number] = _Draft(chosen) if chosen is not None else self.drafts[number]
            return
        self.drafts[number].assign(rest, value, full, allowed, f"{place}.{number}")

    def made(self, path: str) -> tuple[Any, ...]:
        return tuple(draft.made(f"{path}.{number}") for number, draft in enumerate(self.drafts))


def _moved(kind: type[Config], path: list[str], value: str) -> tuple[list[str], str]:
    """Path and value of an assignment in the keys of today."""
    whole = f"{'.'.join(path)}={value}"
    if whole in kind.moved:
        key, _, value = kind.moved[whole].partition("=")
        return key.split("."), value
    for length in range(len(path), 0, -1):
        old, rest = ".".join(path[:length]), path[length:]
        for key in (f"{old}.*", old) if rest else (old,):
            if key in kind.moved:
                return [*kind.moved[key].removesuffix(".*").split("."), *rest], value
    return path, value


def override(config: C, assignments: Iterable[str], allowed: Choices | None = None) -> C:
    """A new config with dotted assignments applied in order, e.g. `["split.train=L", "trainer.epochs=50"]`.

    Values are checked when all are in place. A list is given as `a,b` or, where items hold commas, brackets or quotes,
    as JSON: `["a,b", "c[1]"]`. `none` or `null` is no value.

    Args:
        config: to start from.
        assignments: key=value.
        allowed: what may stand in fields annotated `Any`; see `choices`.

    Raises:
        InputError: not of the form key=value, a key that does not exist (the real ones are named), or a value of the
            wrong type.
    """
    draft = _Draft(config)
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set needs key=value, got {assignment!r}")
        draft.assign(key.strip().split("."), value.strip(), key.strip(), allowed or {})
    return draft.made() if draft.changed else config


def _is_none(text: str) -> bool:
    return text.lower() in ("none", "null", "")


def _choose(text: str, allowed: Sequence[Config | None], key: str) -> Config | None:
    """The config of `allowed` whose class has the name `text`."""
    named = {owner_name(type(config)): config for config in allowed if config is not None}
    for config in named.values():
        if goes_by(type(config), text):
            return config
    if None in allowed and _is_none(text):
        return None
    raise InputError(
        f"--set {key}: {text!r} is not one of {', '.join([*named, *(['none'] if None in allowed else [])])}"
    )


def _items(text: str, key: str) -> list[str]:
    """The items of a list."""
    if text.startswith("[") and '"' in text:
        try:
            found = json.loads(text)
        except ValueError:
            raise InputError(f"--set {key}: {text} is not a JSON list; quote it once more for the shell") from None
        return [item if isinstance(item, str) else json.dumps(item) for item in found]
    inner = text[1:-1] if (text[:1], text[-1:]) in (("[", "]"), ("(", ")")) else text
    return [part.strip().strip("'\"") for part in inner.split(",") if part.strip()]


def _parse(text: str, kind: Any, key: str) -> Any:
    """`text` as a value of the annotated type `kind`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        configs = [a for a in arguments if isinstance(a, type) and issubclass(a, Config)]
        if configs:
            none = [None] if type(None) in arguments else []
            return _choose(text, [*(config() for config in configs), *none], key)
        if type(None) in arguments and _is_none(text):
            return None
        failures = []
        for argument in (a for a in arguments if a is not type(None)):
            try:
                return _parse(text, argument, key)
            except InputError as error:
                failures.append(str(error))
        raise InputError(failures[0])
    if origin is Literal:
        for choice in arguments:
            if str(choice) == text:
                return choice
        raise InputError(f"--set {key}: {text!r} is not one of {', '.join(map(str, arguments))}")
    if origin is tuple:
        parts = _items(text, key)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            if _is_none(text) and any(isinstance(a, type) and issubclass(a, Config) for a in get_args(arguments[0])):
                return ()
            return tuple(_parse(part, arguments[0], key) for part in parts)
        if len(parts) != len(arguments):
            raise InputError(f"--set {key}: needs {len(arguments)} values, got {len(parts)}")
        return tuple(_parse(part, argument, key) for part, argument in zip(parts, arguments))
    if kind is bool:
        if text.lower() in ("true", "1", "yes", "on", "false", "0", "no", "off"):
            return text.lower() in ("true", "1", "yes", "on")
        raise InputError(f"--set {key}: {text!r} is not true or false")
    if kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            raise InputError(f"--set {key}: {text!r} is not {'a whole' if kind is int else 'a'} number") from None
        if not abs(number) < float("inf"):  # false for NaN too
            raise InputError(f"--set {key}: {text} is not a number to set")
        return number
    if kind in (Path, str):
        return kind(text)
    if isinstance(kind, type) and issubclass(kind, Config):
        raise InputError(f"--set {key}: set one of its fields: {', '.join(f.name for f in fields(kind))}")
    raise InputError(f"--set {key}: a value of this type cannot be set from the command line")


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
    """Stored data of a config of this kind with the keys of today; see `Config.moved`."""
    if not isinstance(plain, dict) or not kind.moved:
        return plain
    found, hints = deepcopy(plain), get_type_hints(kind)
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
