"""HTML pages from Jinja templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2


def page(template: Path, **values: Any) -> str:
    """An HTML page from this Jinja template."""
    loader = jinja2.FileSystemLoader(template.parent)
    templates = jinja2.Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return templates.get_template(template.name).render(**values) + "\n"
