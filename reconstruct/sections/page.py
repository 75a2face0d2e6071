"""The page on which a user checks a table of sections: pictures with numbers, sizes and flags, in their order."""

import base64
import io
import json
from collections.abc import Sequence
from typing import Any

from PIL import Image

from meshgnn.export.html import render
from reconstruct.sections.listing import Listed, ListSections

# What is seen at the left, right, top and bottom of a picture that lies as it should.
_EDGES = {
    "coronal": ("left", "right", "superior", "inferior"),
    "sagittal": ("posterior", "anterior", "superior", "inferior"),
    "horizontal": ("left", "right", "anterior", "posterior"),
}
_ALONG = {"coronal": "anterior", "sagittal": "right", "horizontal": "superior"}


def page_text(
    rows: Sequence[Listed], remarks: Sequence[str], table: str, folder: str, settings: ListSections.Config
) -> str:
    """The page as self-contained HTML; `table` is the text of the table, which its boxes change."""
    widest = 260 if len(rows) <= 400 else 130
    cards: list[dict[str, Any]] = []
    for row in rows:
        cards.append({
            "number": row.number, "file": row.path.name, "error": row.error, "usable": row.usable,
            "flags": list(row.flags), "picture": _address(row, widest), "position": f"{row.position_mm:g}",
            "size": f"{row.shape[1]:,} x {row.shape[0]:,} px", "pixel": f"{row.pixel_um:.4g}", "told": row.told,
            "mm": f"{row.shape[1] * row.pixel_um / 1000:.1f} x {row.shape[0] * row.pixel_um / 1000:.1f} mm",
            "area": f"{row.area_mm2 / 100:.2f}",
        })  # fmt: skip
    edges = _EDGES[settings.plane]
    return render(
        "sections.html", package="reconstruct", title=f"Sections of {folder}", cards=cards, remarks=list(remarks),
        usable=sum(row.usable for row in rows), edges=edges, along=_ALONG[settings.plane], plane=settings.plane,
        mirrored=settings.mirrored, table=json.dumps(table).replace("<", "\\u003c"),
        span=f"{rows[-1].position_mm - rows[0].position_mm:g}",
    )  # fmt: skip


def _address(row: Listed, widest: int) -> str:
    if not row.picture.size:
        return ""
    picture = Image.fromarray(row.picture)
    picture.thumbnail((widest, widest))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
