"""Configs changed by dotted assignments, as the command line takes them."""

import json
import types
from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from meshgnn.config import C, Choices, Config, goes_by, owner_name
from meshgnn.errors import InputError, SettingError


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
            first = (get_args(annotated) or (None,))[0]
            if get_origin(annotated) is tuple and isinstance(first, type) and issubclass(first, Config):
                drafts = current if isinstance(current, _DraftList) else _DraftList(current)
                self.changed[head] = drafts.only([] if _is_none(value) else _items(value, full), full, key)
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
        number, rest = self._number(path[0], full, place), path[1:]
        if not rest:
            chosen = _choose(value, allowed.get(place, [draft.config for draft in self.drafts]), full)
            self.drafts[number] = _Draft(chosen) if chosen is not None else self.drafts[number]
            return
        self.drafts[number].assign(rest, value, full, allowed, f"{place}.{number}")

    def only(self, names: Sequence[str], full: str, place: str) -> "_DraftList":
        """Those of the records that are named, in this order."""
        found = _DraftList(())
        found.drafts = [self.drafts[self._number(name, full, place)] for name in names]
        return found

    def _number(self, name: str, full: str, place: str) -> int:
        """Of the config that goes by a name: its number, its class or what it is called."""
        each = [draft.config for draft in self.drafts]
        for number, one in enumerate(each):
            if name in (str(number), one.called()) or goes_by(type(one), name):
                return number
        there = [f"{k} {owner_name(type(one))} {one.called()}".strip() for k, one in enumerate(each)] or ["none"]
        raise InputError(f"--set {full}: there is no {name!r} in {place}; there is {', '.join(there)}")

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
    as JSON: `["a,b", "c[1]"]`. Of a list of records, those that are named are kept. `none` or `null` is no value.

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
