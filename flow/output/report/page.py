"""HTML pages from Jinja templates: one file each, which needs no other and no network."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import jinja2


def page(template: Path, **values: Any) -> str:
    """An HTML page from this Jinja template, which may extend look.html.j2."""
    loader = jinja2.FileSystemLoader([template.parent, Path(__file__).parent])
    templates = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return templates.get_template(template.name).render(date=date(), **values) + "\n"


def date() -> str | None:
    """The day that SOURCE_DATE_EPOCH names (reproducible-builds.org), in UTC; None without it.

    The day of the build itself would make the bytes of equal builds differ: the page shows that of its file.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text.isascii() or not text.isdigit():
        return None
    return time.strftime("%Y-%m-%d", time.gmtime(min(int(text), 253402300799)))
