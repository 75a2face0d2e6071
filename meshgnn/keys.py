"""All keys of a config, as `--help` lists them: dotted key, default, what may stand there, what it is."""

import inspect
import json
import re
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from meshgnn.config import Choices, Config, owner_name

_WORDS = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path"}


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key that may be set.

    Args:
        path: dotted.
        default: as it would be typed.
        kind: what may stand there, in words.
        text: first sentence of its documentation; empty if it has none.
    """

    path: str
    default: str
    kind: str
    text: str


def keys_of(config: Config, allowed: Choices | None = None, path: str = "") -> Iterator[Key]:
    """Every key of `config` and of the configs in it, in their order.

    Args:
        config: with its defaults.
        allowed: see `meshgnn.config.choices`.
        path: of the config itself.
    """
    hints, texts = get_type_hints(type(config)), documented(type(config))
    for field in fields(config):
        key, value = f"{path}.{field.name}" if path else field.name, getattr(config, field.name)
        choice = (allowed or {}).get(key)
        several = isinstance(value, tuple) and any(isinstance(item, Config) for item in value)
        if choice is not None:
            kind = " or ".join("none" if one is None else owner_name(type(one)) for one in choice)
            kind = f"list: {kind}" if isinstance(value, tuple) else kind
        else:
            kind = _kind(hints[field.name])
        first = (get_args(hints[field.name]) or (None,))[0]
        if several and choice is None and isinstance(first, type) and issubclass(first, Config):
            there = ",".join(item.called() or str(number) for number, item in enumerate(value))
            yield Key(path=key, default=there, kind="list: those to keep", text=texts.get(field.name, ""))
        elif choice is not None or not isinstance(value, Config) or get_origin(hints[field.name]):
            yield Key(path=key, default=_typed(value), kind=kind, text=texts.get(field.name, ""))
        for number, item in enumerate(value if several else ()):
            yield from keys_of(item, allowed, f"{key}.{number}")
        if isinstance(value, Config):
            yield from keys_of(value, allowed, key)


def listed(config: Config, allowed: Choices | None = None) -> str:
    """One paragraph per key."""
    lines = ["keys that --set may change, with their defaults:"]
    for key in keys_of(config, allowed):
        lines.append(f"  {key.path}={key.default}")
        meaning = f"{key.kind}; {key.text}" if key.text else key.kind
        lines += textwrap.wrap(meaning, 110, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return "\n".join(lines)


def documented(kind: type) -> dict[str, str]:
    """Field -> first sentence of what the docstrings of a config class and its bases say of it under `Args:`.

    A config whose fields another class describes names it as `explained_by`.
    """
    found: dict[str, str] = {}
    other = getattr(kind, "explained_by", None)
    for base in (*([other] if other else ()), *reversed(kind.__mro__)):
        _, _, arguments = inspect.cleandoc(base.__dict__.get("__doc__") or "").partition("Args:\n")
        block = textwrap.dedent(re.split(r"\n\S", arguments)[0])
        for entry in re.split(r"\n(?=\S)", block):
            names, colon, text = entry.partition(":")
            if colon:
                sentence = re.split(r"\.\s+(?=[A-Z])", " ".join(text.split()))[0]
                found |= dict.fromkeys((name.strip() for name in names.split(",")), sentence.rstrip("."))
    return found


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(one) for one in arguments)
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return f"list: {_kind(arguments[0])}"
        return f"{len(arguments)} values: {', '.join(map(_kind, arguments))}"
    if annotation is type(None):
        return "none"
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return owner_name(annotation)
    return _WORDS.get(annotation, "its fields")


def _typed(value: Any) -> str:
    """A value as it would be typed after the equals sign."""
    if isinstance(value, Config):
        return owner_name(type(value))
    if isinstance(value, tuple):
        items = [_typed(item) for item in value]
        return json.dumps(items) if any(re.search(r"[,\"'\[\]]", item) for item in items) else ",".join(items)
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else "" if value == Path() else str(value)
