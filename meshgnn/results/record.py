"""Records that metrics.json is written from (`to_json`) and read back to (`from_json`).

A field that is absent from the file is one whose default is None and that holds None. Fields that this version does not
know are passed over, so that a file of a later version can still be read.
"""

import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from meshgnn.errors import InputError

R = TypeVar("R", bound="Record")


@dataclass(frozen=True, kw_only=True)
class Record:
    """Base of what stands in metrics.json."""

    def to_json(self) -> dict[str, Any]:
        """JSON-ready data."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        optional = {f.name for f in fields(self) if f.default is None}
        return {name: _plain(value) for name, value in found.items() if value is not None or name not in optional}

    @classmethod
    def from_json(cls: type[R], plain: Any, where: str) -> R:
        """The record that `to_json` wrote.

        Args:
            plain: parsed JSON.
            where: the file, and the place in it, for messages.

        Raises:
            InputError: a field is missing or not of its type.
        """
        if not isinstance(plain, dict):
            raise _damaged(where, "is no record")
        hints, values = get_type_hints(cls), {}
        for field in fields(cls):
            if field.name in plain:
                values[field.name] = _read(hints[field.name], plain[field.name], f"{where}: {field.name}")
            elif field.default is MISSING and field.default_factory is MISSING:
                raise _damaged(where, f"{field.name!r} is missing")
        return cls(**values)


def _damaged(where: str, why: str) -> InputError:
    return InputError(f"{where} {why}; the file was damaged or written by another version: run again with --resume")


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_json()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def _read(kind: Any, plain: Any, where: str) -> Any:
    """`plain` as a value of the annotation `kind`; numbers stay as they are written."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return plain
    if origin in (Union, types.UnionType):
        if plain is None and type(None) in arguments:
            return None
        return _read(next(a for a in arguments if a is not type(None)), plain, where)
    if is_dataclass(kind) and isinstance(kind, type) and issubclass(kind, Record):
        return kind.from_json(plain, where)
    if origin is Mapping and isinstance(plain, dict):
        return {str(key): _read(arguments[1], item, f"{where}: {key}") for key, item in plain.items()}
    if origin is tuple and isinstance(plain, list):
        return tuple(_read(arguments[0], item, where) for item in plain)
    if origin is Literal and plain in arguments:
        return plain
    kinds: dict[Any, tuple[type, ...]] = {float: (int, float), int: (int,), str: (str,), bool: (bool,)}
    accepted = kinds.get(kind, ())
    if isinstance(plain, accepted) and (kind is bool or not isinstance(plain, bool)):
        return plain
    raise _damaged(where, f"cannot be {plain!r}"[:120])
