"""What routes have in common: bodies, names, answers."""

import json
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from meshgnn.errors import InputError
from meshgnn.mapping.record import Record
from meshgnn.mapping.server.hub import Hub

_WORDS = {str: "a text", int: "a whole number", list: "a list", dict: "an object"}
_MAPPER = re.compile(r"[\w .@'-]{1,60}")


def who(request: Request, hub: Hub) -> str:
    """The mapper of a request: header X-Mapper (percent-encoded), else the server's own setting.

    Raises:
        InputError: a name that is none.
    """
    name = unquote(request.headers.get("x-mapper", "")).strip() or hub.mapper
    if not _MAPPER.fullmatch(name):
        raise InputError("the mapper's name must be letters, digits, spaces and . _ - @ ', at most 60 of them")
    return name


async def body_of(request: Request) -> Any:
    """JSON of the body. Raises InputError; NaN is no JSON, and half a character (a lone surrogate) no text."""
    data = await request.body()

    def refused(text: str) -> Any:
        raise ValueError(text)

    def read() -> Any:
        found = json.loads(data, parse_constant=refused)
        if b"\\u" in data or not data.isascii():
            json.dumps(found, ensure_ascii=False).encode()
        return found

    try:
        return await run_in_threadpool(read)
    except (ValueError, RecursionError):
        raise InputError("the body is not valid JSON") from None


def number(request: Request, name: str, default: int | None = None) -> int:
    """A number from the address, 0 or more. Raises InputError where it is missing and there is no default."""
    text = request.query_params.get(name, "")
    if not text and default is not None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise InputError(f"add ?{name}=NUMBER to the address")
    return int(text)


def plain(records: Iterable[Record]) -> list[dict[str, Any]]:
    return [dict(vars(record)) for record in records]


def field(body: Any, name: str, kind: type, *, among: Iterable[Any] = ()) -> Any:
    """A field of a body. Raises InputError where it is missing, of another type or not one of those."""
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"{name} is {value if value is None else repr(value)[:40]}; needed is {_WORDS[kind]}")
    allowed = list(among)
    if allowed and value not in allowed:
        raise InputError(f"{name} is {str(value)[:40]!r}; one of {', '.join(map(str, allowed))}")
    return value
