"""report.html of a study of many networks: sections of text, a picture and a table each. One file, no scripts.

The layout is `templates/study.html`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshgnn.export.html import number, render
from meshgnn.store import write_text


@dataclass(frozen=True, kw_only=True)
class StudySection:
    """
    Args:
        title: of the section.
        text: paragraphs.
        picture: data address of an image; "" for none.
        caption: of the picture, also for those who do not see it.
        columns: names of the table's columns.
        rows: cells as text.
    """

    title: str
    text: tuple[str, ...] = ()
    picture: str = ""
    caption: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def with_span(value: float | None, low: float | None, high: float | None) -> str:
    """A value and its interval as text."""
    return f"{number(value)} [{number(low)}, {number(high)}]"


def write_study_report(
    path: Path,
    title: str,
    lead: Sequence[str],
    sections: Sequence[StudySection],
    config: Mapping[str, Any],
    provenance: Mapping[str, Any],
) -> None:
    """Write the report.

    Args:
        lead: paragraphs before the first section.
        config, provenance: as in config.json and provenance.json.
    """
    text = render(
        "study.html", title=title, lead=lead, sections=sections, config=json.dumps(config, indent=2),
        provenance=json.dumps(provenance, indent=2),
    )  # fmt: skip
    write_text(path, text)
