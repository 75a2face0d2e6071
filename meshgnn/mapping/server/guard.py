"""Who may ask what: token, host, origin, size. Wraps the whole application; nothing gets past it.

A page of another site can make a browser send requests here. It cannot read the token, and the cookie is
SameSite=Strict; still every request must name this host (against DNS rebinding), and every change must come from this
page or carry the token itself.
"""

import hashlib
import re
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.datastructures import Headers, QueryParams
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CHANGES, FILES = 16 << 20, 64 << 20
"""Largest body of a request, and of a file that is imported."""
_HOST = re.compile(r"(127\.0\.0\.1|localhost)(:\d{1,5})?", re.IGNORECASE)
_READING = ("GET", "HEAD")
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
)
# The 3D page is one file with everything in it, and brings a policy of its own.
WHOLE_PAGE = "frame-ancestors 'self'; connect-src 'none'; object-src 'none'; base-uri 'none'; form-action 'none'"
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "SAMEORIGIN",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_ENTER = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/"><title>meshgnn</title>'


class Guard:
    """Args:
    app: the application behind.
    tokens: what each token lets its holder do: True to draw, False to look.
    """

    def __init__(self, app: ASGIApp, tokens: Mapping[str, bool]) -> None:
        self.app = app
        self._tokens = {token.encode(): writes for token, writes in tokens.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.decode("latin-1") for name, _ in message["headers"]}
                extra = {**_HEADERS, "content-security-policy": POLICY, "cache-control": "no-store"}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in extra.items() if k not in given),
                ]
            await send(message)

        headers = Headers(scope=scope)
        refused = self._entered(scope, headers) or self._refused(scope, headers)
        if refused is not None:
            await refused(scope, receive, answer)
            return
        limit = FILES if scope["path"] == "/api/import" else CHANGES
        size = headers.get("content-length", "0")
        if not size.isdigit() or int(size) > limit:
            await error(413, f"the body is larger than {limit >> 20} MB")(scope, receive, answer)
            return
        got = 0

        async def limited() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > limit:
                raise TooLarge(limit)
            return message

        await self.app(scope, limited, answer)

    def _entered(self, scope: Scope, headers: Headers) -> Response | None:
        """Gives a cookie to whoever comes with the token in the address."""
        token = QueryParams(scope["query_string"]).get("token")
        if scope["path"] != "/" or token is None or scope["method"] not in _READING or not _host(headers):
            return None
        if self._writes(token) is None:
            return error(403, "this is not the token that the server printed")
        # A cookie that is SameSite=Strict does not survive a redirect from another site's link; a page of ours does.
        foreign = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        answer: Response = HTMLResponse(_ENTER) if foreign else RedirectResponse("/", status_code=303)
        answer.set_cookie(_cookie(token), token, httponly=True, samesite="strict", path="/")
        return answer

    def _refused(self, scope: Scope, headers: Headers) -> Response | None:
        if not _host(headers):
            return error(400, "this server answers to 127.0.0.1 and localhost alone")
        writes, by_cookie = self._holder(headers)
        if writes is None:
            return error(401, "no token; open the address that the server printed")
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        same = origin in (f"http://{headers['host']}", f"https://{headers['host']}") if origin else None
        if site not in (None, "none", "same-origin") and scope["path"] != "/":
            return error(403, "asked for by another site")
        if same is False:
            return error(403, "asked for by another site")
        scope.setdefault("state", {})["writes"] = writes
        if scope["method"] in _READING:
            return None
        if by_cookie and same is None and site != "same-origin":
            return error(403, "a change must come from the page, or carry the token as `Authorization: Bearer TOKEN`")
        if not writes:
            return error(403, "you may look, not draw")
        kind = headers.get("content-type", "").split(";")[0].strip().lower()
        bodied = scope["method"] != "DELETE"
        if bodied and kind not in ("application/json", "application/geo+json"):
            return error(415, "the body must be application/json")
        return None

    def _holder(self, headers: Headers) -> tuple[bool | None, bool]:
        """What the sender may do (None: nothing), and whether a cookie says so."""
        given = headers.get("authorization", "")
        if given:
            kind, _, token = given.partition(" ")
            return (self._writes(token.strip()) if kind.lower() == "bearer" else None), False
        found = [self._writes(value) for value in _cookies(headers)]
        return (max((one for one in found if one is not None), default=None)), True

    def _writes(self, token: str) -> bool | None:
        """Compared in constant time, with all tokens."""
        found = None
        for known, writes in self._tokens.items():
            if secrets.compare_digest(known, token.encode("utf-8", "surrogateescape")):
                found = writes
        return found


class TooLarge(Exception):
    """The body is larger than it may be."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than {limit >> 20} MB")


def error(status: int, text: str, **more: Any) -> JSONResponse:
    """One line of what is wrong."""
    return JSONResponse({"error": text, **more}, status_code=status)


def address(port: int, token: str) -> str:
    """What is opened in a browser."""
    return f"http://127.0.0.1:{port}/?{urlencode({'token': token})}"


def _cookie(token: str) -> str:
    # Browsers share cookies among the ports of a host: several servers, or both tokens of one, need names of their own.
    return f"mapping-{hashlib.sha256(token.encode()).hexdigest()[:8]}"


def _cookies(headers: Headers) -> list[str]:
    pairs = [part.strip().partition("=") for value in headers.getlist("cookie") for part in value.split(";")]
    return [value.strip('"') for name, _, value in pairs if name.startswith("mapping-")]


def _host(headers: Headers) -> bool:
    return _HOST.fullmatch(headers.get("host", "")) is not None
