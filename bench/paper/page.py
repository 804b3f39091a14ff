"""The sections as one HTML page, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import jinja2
from markupsafe import Markup

from bench.paper.sections.section import Section
from flow.output.report.environment import environment

TEMPLATE = Path(__file__).parent / "page.html.j2"


def digits(value: float | None) -> str:
    """A number with three significant digits, counts whole."""
    if value is None:
        return "–"
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.4g}" if abs(value) >= 0.995 and abs(value) < 1 else f"{value:.3g}"


def html(sections: Sequence[Section], networks: Sequence[str], seconds: float) -> str:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string(TEMPLATE.read_text())
    return template.render(
        sections=sections, networks=networks, seconds=seconds, digits=digits, svg=Markup, about=about()
    )


def about() -> dict[str, str]:
    """Versions of what ran."""
    return dict(environment(None).versions)


def as_json(sections: Sequence[Section]) -> str:
    """Rows and tables by section key."""
    made = {
        section.key: {
            "title": section.title,
            "unit": section.unit,
            "rows": [{**asdict(row), "ratio": row.ratio} for row in section.rows],
            "tables": [asdict(table) for table in section.tables],
            "differs": list(section.differs),
        }
        for section in sections
    }
    return json.dumps({"about": about(), "sections": made}, indent=1, ensure_ascii=False) + "\n"
