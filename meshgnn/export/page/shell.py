"""What all pages share: a template with style, data and program in one file that asks for nothing outside itself.

A content security policy lets only that program run (by its hash) and forbids every request.
"""

import base64
import json
from hashlib import sha256
from importlib import resources
from typing import Any

from meshgnn.export.html import render

_PACKAGE, _FOLDER = "meshgnn.export.page", "assets"


def asset(name: str) -> str:
    """The text of a file that pages are filled with."""
    return resources.files(_PACKAGE).joinpath(_FOLDER, name).read_text(encoding="utf-8")


def safe_json(value: Any) -> str:
    """JSON that may stand inside a script element: no `<`, `>` or `&` can end it or begin another."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    swaps = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
    for sign, code in swaps.items():
        text = text.replace(sign, code)
    return text


def filled(kind: str, title: str, meta: dict[str, Any], **more: Any) -> str:
    """The text of a page.

    Args:
        kind: of page: `KIND.html`, `KIND.css` and `KIND.js` in assets.
        title: of the page.
        meta: JSON-ready data of the element `meta`.
        more: what else the template names.
    """
    program = asset(f"{kind}.js")
    digest = base64.b64encode(sha256(program.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return render(
        f"{kind}.html", package=_PACKAGE, folder=_FOLDER, policy=policy, title=title, style=asset(f"{kind}.css"),
        meta=safe_json(meta), program=program, **more,
    )  # fmt: skip
