"""HTML from Jinja2 templates that lie in the packages; text that is put into them is escaped."""

from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

SHARED = "meshgnn.export"  # base.html, tables.html and report.css, for the templates of all packages


def number(value: float | None, digits: int = 3) -> str:
    """A value to so many digits; a dash where there is none."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def plain(value: object) -> str:
    """A single value of a record as a reader writes it."""
    if isinstance(value, bool) or value is None:
        return "none" if value is None else "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


@cache
def _environment(package: str, folder: str) -> Environment:
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, folder), PackageLoader(SHARED)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": number, "plain": plain}
    return environment


def render(template: str, *, package: str = SHARED, folder: str = "templates", **values: Any) -> str:
    """The text of a page.

    Args:
        template: file name in `folder` of `package`; it may extend and include the shared ones.
        values: what the template names. All text is escaped, but where a template says `safe`.
    """
    return _environment(package, folder).get_template(template).render(**values)
