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

A config checks its values when made and raises `SettingError`, which names its own fields (`<rounds> must ascend`);
`override`, `from_plain` and `at` put the path before them.
"""

import json
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from meshgnn.errors import InputError, SettingError


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base of every config. Subclasses add fields with defaults and a `build` method, and check values when made."""


C = TypeVar("C", bound=Config)


def owner_name(kind: type) -> str:
    """The name a config goes by: that of the class it builds ("GCN" for GCN.Config)."""
    return kind.__qualname__.removesuffix(".Config").split(".")[-1]


Choices = Mapping[str, Sequence[Config | None]]
F = TypeVar("F", bound=Callable[..., Any])


def choices(allowed: Choices) -> Callable[[F], F]:
    """Decorates a function that returns a config: what may stand in its fields that are annotated `Any`.

        @choices({"encoder": (Contrastive.Config(), Profiles.Config()), "other": (Profiles.Config(), None)})
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

    def assign(self, path: list[str], value: str, full: str, allowed: Choices) -> None:
        kind = type(self.config)
        names = [field.name for field in fields(self.config)]
        head, rest = path[0], path[1:]
        if head not in names:
            close = get_close_matches(head, names, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            here = f"{hint}keys here: {', '.join(names)}"
            raise InputError(f"--set {full}: there is no {head!r} in {owner_name(kind)}; {here}")
        current = self.changed.get(head, getattr(self.config, head))
        if not rest:
            if full in allowed:
                self.changed[head] = _choose(value, allowed[full], full)
                return
            annotated = get_type_hints(kind)[head]
            if annotated is Any:
                annotated = type(current.config if isinstance(current, _Draft) else current)
            self.changed[head] = _parse(value, annotated, full)
            return
        if not isinstance(current, _Draft):
            if not isinstance(current, Config):
                raise InputError(f"--set {full}: {head!r} is a single value, it has no {rest[0]!r}")
            current = self.changed[head] = _Draft(current)
        current.assign(rest, value, full, allowed)

    def made(self, path: str = "") -> Any:
        """Raises InputError where the values do not go together."""
        values = {
            name: value.made(f"{path}.{name}" if path else name) if isinstance(value, _Draft) else value
            for name, value in self.changed.items()
        }
        try:
            return replace(self.config, **values)
        except SettingError as error:
            raise error.under(path) from None
        except InputError as error:
            raise InputError(f"{path}: {error}" if path else str(error)) from None


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
    if text in named:
        return named[text]
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
            return tuple(_parse(part, arguments[0], key) for part in parts)
        if len(parts) != len(arguments):
            raise InputError(f"--set {key}: needs {len(arguments)} values, got {len(parts)}")
        return tuple(_parse(part, argument, key) for part, argument in zip(parts, arguments))
    if kind is bool:
        if text.lower() in ("true", "1", "yes", "on"):
            return True
        if text.lower() in ("false", "0", "no", "off"):
            return False
        raise InputError(f"--set {key}: {text!r} is not true or false")
    if kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            raise InputError(f"--set {key}: {text!r} is not {'a whole' if kind is int else 'a'} number") from None
        if number in (float("inf"), float("-inf")) or number != number:
            raise InputError(f"--set {key}: {text} is not a number to set")
        return number
    if kind is Path:
        return Path(text)
    if kind is str:
        return text
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


def from_plain(kind: Any, plain: Any, where: str = "config") -> Any:
    """The inverse of `to_plain` for a known annotation `kind`: classes come from the annotation, never from the file.

    Raises:
        InputError: the data do not fit the annotation.
    """
    if kind is Any:
        return plain
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if plain is None and type(None) in arguments:
            return None
        named = plain.get("_") if isinstance(plain, dict) else None
        for argument in arguments:
            if isinstance(argument, type) and issubclass(argument, Config):
                if owner_name(argument) == named:
                    return from_plain(argument, plain, where)
            elif argument is not type(None) and named is None:
                return from_plain(argument, plain, where)
        raise InputError(f"{where}: {named!r} is not a class that may stand here")
    if isinstance(kind, type) and issubclass(kind, Config):
        hints = get_type_hints(kind)
        names = [field.name for field in fields(kind)]
        if not isinstance(plain, dict) or not set(plain) - {"_"} <= set(names) or plain.get("_") != owner_name(kind):
            raise InputError(f"{where}: these are not the fields of {owner_name(kind)}")
        values = {name: from_plain(hints[name], plain[name], f"{where}.{name}") for name in names if name in plain}
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
        return tuple(from_plain(argument, item, where) for argument, item in zip(inner, plain))
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
