"""The schemas in docs/schema are the code's; real reports and manifests are as they say, and are checked when read."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import flow
from flow.errors import FlowError
from flow.files import write_json
from flow.hardware.blocks import Resources
from flow.hardware.synthesis import Estimate
from flow.output.manifest import Manifest
from flow.output.report.report import Report
from flow.output.report.summary import Area
from flow.output.schema import schemas, write
from flow.output.typed import from_json
from tests.helpers.nets import small
from tests.helpers.networks import saved, tokens
from tests.helpers.tools import quick_engine

SCHEMAS = Path(__file__).parents[2] / "docs" / "schema"
MAPS = {  # whose keys are free
    "columns_pruned", "tier2_histogram", "memory_traffic", "memory_traffic_dense", "output_sqnr", "divergence",
    "agreement", "values", "second_values", "sqnr", "error", "by_pruning", "output_weight",
    "versions", "request", "sha256", "words",
}  # fmt: skip
Reports = dict[str, dict[str, Any]]


def check(name: str) -> Callable[[object], None]:
    schema = json.loads((SCHEMAS / name).read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema).validate  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build with --on-chip, which has all there is."""
    engine = quick_engine()
    folder = tmp_path_factory.mktemp("schema")
    model, chosen = saved(tokens(), folder), flow.pruning("moderate")
    made = flow.compile(model, folder / "out", pruning=chosen, array=(2, 2), engine=engine, samples=1, on_chip=True)
    assert made.passed
    return folder / "out"


@pytest.fixture(scope="module")
def reports(built: Path) -> Reports:
    """One of every kind: with an area, without RTL, with findings."""
    model, place = small(built.parent), built.parent
    modelled = flow.compile(model, place / "modelled", array=(4, 4), samples=1, coverage=0)
    failing = flow.cosim(built, engine=quick_engine(), samples=1, fault="pe:stuck-sign")
    assert failing.findings and failing.findings[0].location
    many = {"elements": Resources(1e6, 1, 0.5, 0)}
    area = Area.of(Estimate(1, 2, 3), {"ecp5": many})
    return {
        "compile --on-chip": json.loads((built / "report.json").read_text()),
        "compile --coverage 0": json.loads((place / "modelled" / "report.json").read_text()),
        "compile --synth": replace(modelled, summary=replace(modelled.summary, area=area)).as_dict(),
        "compress": flow.compress(model, place / "small_bbs.onnx").as_dict(),
        "cosim": flow.cosim(built, engine=quick_engine(), samples=1).as_dict(),
        "cosim --fault": failing.as_dict(),
    }


def test_the_schemas_are_the_codes(tmp_path: Path) -> None:
    """If not: python -m flow.output.schema docs/schema"""
    assert {path.name: json.loads(path.read_text()) for path in SCHEMAS.iterdir()} == schemas()
    write(tmp_path)
    assert all((tmp_path / path.name).read_bytes() == path.read_bytes() for path in SCHEMAS.iterdir())


@pytest.mark.full
def test_reports_and_manifests_are_as_they_say(built: Path, reports: Reports) -> None:
    for report in reports.values():
        check("report.schema.json")(report)
    check("manifest.schema.json")(json.loads((built / "manifest.json").read_text()))


@pytest.mark.full
def test_every_wrong_type_fails(built: Path, reports: Reports) -> None:
    """Each value of a report replaced, each key left out or another put in: refused by the schema, and when read."""
    report, manifest = reports["cosim --fault"], json.loads((built / "manifest.json").read_text())
    validate = check("report.schema.json")
    for content in (report, reports["compile --on-chip"], reports["compress"]):
        for wrong in spoilt(content):
            with pytest.raises(jsonschema.ValidationError):
                validate(wrong)
            with pytest.raises(ValueError, match=r"\w"):
                from_json(wrong, Report)
    validate = check("manifest.schema.json")
    for wrong in spoilt({**manifest, "request": {}, "sha256": {"a": "1"}, "columns_pruned": {"layer": [1]}}):
        with pytest.raises(jsonschema.ValidationError):
            validate(wrong)
        with pytest.raises(ValueError, match=r"\w"):
            from_json(wrong, Manifest)


def spoilt(content: Any, name: str = "") -> list[Any]:
    """The JSON value with one part replaced, left out or added, for each of its parts."""
    if isinstance(content, dict):
        made = [{**content, key: other} for key, value in content.items() for other in spoilt(value, key)]
        if name not in MAPS:
            made += [{key: value for key, value in content.items() if key != left_out} for left_out in content]
            made.append({**content, "unknown": 1})
        return [*made, [content]]
    if isinstance(content, list):
        return [*([other, *content[1:]] for other in (spoilt(content[0]) if content else [])), {"0": content}]
    return [[content]]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("layers.0.cycles", "7", "at layers[0].cycles: expected int, got str"),
        ("layers.1.cycle_breakdown.load", 0.5, "at layers[1].cycle_breakdown.load: expected int, got float"),
        ("layers.0.columns_pruned.x", 1, "at layers[0].columns_pruned: expected int, got str"),
        ("summary.verdict", "perhaps", "at summary.verdict: invalid enum value 'perhaps'"),
        ("summary.accuracy.rtl", None, "at summary.accuracy: it lacks key 'rtl'"),
        ("summary.speed", 1, "at summary: it has an unknown key 'speed'"),
        ("on_chip.steps.0.tier2_ties", None, "at on_chip.steps[0]: it lacks key 'tier2_ties'"),
        ("host", None, "object missing required field host"),
        ("summary.utilization", float("nan"), "is damaged: "),
    ],
)
def test_a_damaged_report_is_refused_in_one_line(
    reports: Reports, tmp_path: Path, key: str, value: object, words: str
) -> None:
    """`value` in the place of what is at `key`; None: nothing in its place."""
    report = json.loads(json.dumps(reports["compile --on-chip"]))
    *way, last = key.split(".")
    part = report
    for name in way:
        part = part[int(name) if name.isdigit() else name]
    part.pop(last, None)
    part |= {} if value is None else {last: value}
    (tmp_path / "report.json").write_text(json.dumps(report))
    for place in (tmp_path, tmp_path / "report.json"):
        with pytest.raises(FlowError, match=re.escape(words)) as refused:
            Report.read(place)
        told = str(refused.value)
        assert told.startswith(f"'{tmp_path / 'report.json'}' is damaged: ") and "\n" not in told
        assert told.endswith("; compile the network again")


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="report.json' cannot be read: No such file or directory; compile the network"):
        Report.read(tmp_path)
    for content in (b"", b"[]", b"{", b"\xff", b"[" * 100_000):
        (tmp_path / "report.json").write_bytes(content)
        with pytest.raises(FlowError, match="is damaged: .*; compile the network again"):
            Report.read(tmp_path)


def test_what_is_read_is_what_was_written(built: Path, reports: Reports, tmp_path: Path) -> None:
    for name in reports.keys() - {"compress"}:
        write_json(tmp_path / "report.json", reports[name])
        assert Report.read(tmp_path).as_dict() == reports[name]
    read = Report.read(built)
    write_json(tmp_path / "report.json", read.as_dict())
    assert (tmp_path / "report.json").read_bytes() == (built / "report.json").read_bytes()
    assert read == Report.read(tmp_path) and read.on_chip and read.on_chip.verdict == "pass"


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["array"].update(rows="4"),
        lambda manifest: manifest["array"].update(rows=1000),  # an array that cannot be built
        lambda manifest: manifest["array"].pop("drain"),
        lambda manifest: manifest.update(request=[]),
        lambda manifest: manifest["sha256"].update(name=1),
        lambda manifest: manifest["sha256"].update({"../secret": "0"}),
        lambda manifest: manifest.pop("sha256"),
        lambda manifest: manifest["columns_pruned"].update(layer=[0.5]),
    ],
)
def test_a_damaged_manifest_is_refused(built: Path, tmp_path: Path, change: Callable[[Any], object]) -> None:
    content = json.loads((built / "manifest.json").read_text())
    write_json(tmp_path / "manifest.json", content)
    assert Manifest.read(tmp_path) == Manifest.read(built)
    change(content)
    write_json(tmp_path / "manifest.json", content)
    with pytest.raises(FlowError, match="manifest.json' is damaged; compile the network again"):
        Manifest.read(tmp_path)


def test_another_format_is_named(built: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "manifest.json", {**json.loads((built / "manifest.json").read_text()), "format": 3})
    with pytest.raises(FlowError, match="has format 3, not 10; compile the network again"):
        Manifest.read(tmp_path)
