"""Configs: nested frozen dataclasses, each owned by the class it builds; dotted overrides; plain-data form.

    class Smoother:
        @dataclass(frozen=True, kw_only=True)
        class Config(config.Config):
            rounds: tuple[int, ...] = (5, 15, 40)
            def build(self) -> "Smoother": ...

A field that may hold one of several configs is annotated as their union (`GCN.Config | GraphSAGE.Config`) and chosen on
the command line by the name of the owning class (`--set model=GCN`): the annotation is the allow-list, no name is
ever imported.
"""

import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from meshgnn.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base of every config. Subclasses add fields with defaults and a `build` method, and check values when made."""


C = TypeVar("C", bound=Config)


def owner_name(kind: type) -> str:
    """The name a config goes by: that of the class it builds ("GCN" for GCN.Config)."""
    return kind.__qualname__.removesuffix(".Config").split(".")[-1]


def override(config: C, assignments: Iterable[str]) -> C:
    """A new config with dotted assignments applied in order, e.g. `["split.train=L", "trainer.epochs=50"]`.

    Raises:
        InputError: not of the form key=value, a key that does not exist (the real ones are named), or a value of the
            wrong type.
    """
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set needs key=value, got {assignment!r}")
        config = _set(config, key.strip().split("."), value.strip(), key.strip())
    return config


def _set(config: C, path: list[str], value: str, full: str) -> C:
    hints = get_type_hints(type(config))
    names = [field.name for field in fields(config)]
    head, rest = path[0], path[1:]
    if head not in names:
        close = get_close_matches(head, names, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        here = f"{hint}keys here: {', '.join(names)}"
        raise InputError(f"--set {full}: there is no {head!r} in {owner_name(type(config))}; {here}")
    current = getattr(config, head)
    if rest:
        if not isinstance(current, Config):
            raise InputError(f"--set {full}: {head!r} is a single value, it has no {rest[0]!r}")
        new: Any = _set(current, rest, value, full)
    else:
        new = _parse(value, hints[head], full)
    return replace(config, **{head: new})


def _parse(text: str, kind: Any, key: str) -> Any:
    """`text` as a value of the annotated type `kind`."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        configs = {owner_name(a): a for a in arguments if isinstance(a, type) and issubclass(a, Config)}
        if configs:
            if text not in configs:
                raise InputError(f"--set {key}: {text!r} is not one of {', '.join(configs)}")
            return configs[text]()
        if type(None) in arguments and text.lower() in ("none", ""):
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
        inner = text.strip("[]() ")
        parts = [part.strip().strip("'\"") for part in inner.split(",") if part.strip()]
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
        names = {field.name for field in fields(kind)}
        if not isinstance(plain, dict) or not set(plain) - {"_"} <= names or plain.get("_") != owner_name(kind):
            raise InputError(f"{where}: these are not the fields of {owner_name(kind)}")
        values = {name: from_plain(hints[name], plain[name], f"{where}.{name}") for name in names & set(plain)}
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
    if kind is float and isinstance(plain, int) and not isinstance(plain, bool):
        return float(plain)
    if isinstance(kind, type) and isinstance(plain, kind) and (kind is bool or not isinstance(plain, bool)):
        return plain
    if kind is typing.Any:
        return plain
    raise InputError(f"{where}: {plain!r} is not a {getattr(kind, '__name__', kind)}")
