"""Builds that were tampered with, their digests made right again: `bbs cosim` says fail, and names the word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

import flow
from flow.errors import FlowError
from flow.files import sha256
from flow.hardware.config import ArrayConfig
from flow.hardware.fields import descriptor_slice
from flow.output.report.report import Report
from flow.scheduling import schedule as scheduling
from flow.scheduling.blocks import Block, LayerSchedule
from tests.helpers.nets import small
from tests.helpers.networks import residual, saved
from tests.helpers.tools import require_engine

ARRAY = (2, 4)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_engine("icarus")
    folder = tmp_path_factory.mktemp("tampered")
    chosen = flow.pruning("moderate")
    report = flow.compile(small(folder), folder / "out", pruning=chosen, array=ARRAY, engine="icarus", samples=1)
    assert report.passed and report.images is not None and report.images.verdict == "pass"
    assert report.summary.shipped_layers == len(report.layers) and all(layer.shipped for layer in report.layers)
    return folder / "out"


def flipped(build: Path, memory: str, word: int, bit: int) -> AbstractContextManager[None]:
    """One bit of an image is another, and the manifest agrees."""
    lines = (build / f"{memory}.hex").read_text().splitlines()
    lines[word] = f"{int(lines[word], 16) ^ 1 << bit:0{len(lines[word])}x}"
    return replaced(build, f"{memory}.hex", "\n".join(lines) + "\n")


@contextmanager
def replaced(build: Path, name: str, text: str) -> Iterator[None]:
    """A file has another text, and the manifest agrees."""
    file, manifest = build / name, build / "manifest.json"
    kept = file.read_text(), manifest.read_text()
    assert text != kept[0]
    file.write_text(text)
    sealed = json.loads(kept[1])
    sealed["sha256"][name] = sha256(file)
    manifest.write_text(json.dumps(sealed))
    try:
        yield
    finally:
        file.write_text(kept[0])
        manifest.write_text(kept[1])


def cosim(build: Path, coverage: float) -> Report:
    return flow.cosim(build, engine="icarus", samples=1, coverage=coverage, processes=1)


BASE = descriptor_slice("activation_base")[1]
TILES = descriptor_slice("tiles")[1]


@pytest.mark.parametrize(
    ("memory", "bit", "coverage", "words"),
    [
        ("descriptor", TILES, 1.0, "memory/descriptor, word 0, "),
        ("descriptor", BASE, 0.0, "memory/descriptor, word 0, activation_base: 1 instead of 0"),
        ("parameter", 32, 0.0, "memory/parameter, word 0, multiplier of lane 0 (channel 0): "),
        ("parameter", 63, 0.0, "memory/parameter, word 0, shift of lane 0 (channel 0): "),
        ("weight", 0, 0.0, "memory/weight, word 0, array column 0, bit 0 (channel 0, weight 0): "),
    ],
)
def test_a_flipped_bit_is_found(build: Path, memory: str, bit: int, coverage: float, words: str) -> None:
    """Also where nothing is simulated, so that only the images can tell."""
    with flipped(build, f"memory/{memory}", 0, bit):
        report = cosim(build, coverage)
    assert report.summary.verdict == "fail" and report.images is not None
    assert words in report.images.errors[0] and words in report.findings[0].text
    assert all(finding.text and "None" not in finding.text for finding in report.findings)
    assert bool(report.summary.tier1_mismatches) == bool(coverage)


def test_a_build_that_was_not_changed_passes(build: Path) -> None:
    """Of a sample of its tiles, with the shortest layer whole."""
    report = cosim(build, 0.01)
    assert report.summary.verdict == "pass" and 1 <= report.summary.shipped_layers < len(report.layers)
    nothing = cosim(build, 0)
    assert nothing.summary.verdict is None and nothing.summary.shipped_layers == 0


def test_a_schedule_that_writes_wrong_descriptors_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it writes in fields that pieces have of their own."""
    require_engine("icarus")
    right = scheduling.descriptor_values
    wrong = ("activation_base", "activation_count", "output_base", "tiles")

    def values(scheduled: LayerSchedule, block: Block, config: ArrayConfig) -> dict[str, int]:
        made = right(scheduled, block, config)
        return made | {name: made[name] ^ 1 for name in wrong}

    monkeypatch.setattr(scheduling, "descriptor_values", values)
    options: dict[str, Any] = {"array": ARRAY, "engine": "icarus", "samples": 1, "processes": 1}
    report = flow.compile(small(tmp_path), tmp_path / "out", pruning=flow.pruning("moderate"), **options)
    assert report.summary.verdict == "fail" and report.summary.tier1_mismatches and report.images is not None
    assert all("memory/descriptor, word " in error for error in report.images.errors) and report.findings


@pytest.fixture(scope="module")
def unsimulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """A build of a whole network on chip of which nothing was simulated."""
    require_engine("icarus")
    folder, chosen = tmp_path_factory.mktemp("unsimulated"), flow.pruning("moderate")
    options: dict[str, Any] = {"array": (4, 4), "engine": "icarus", "samples": 1, "on_chip": True, "coverage": 0}
    return folder / "out", flow.compile(saved(residual(), folder), folder / "out", pruning=chosen, **options)


def test_a_network_on_chip_that_did_not_run_is_written_and_said(unsimulated: tuple[Path, Report]) -> None:
    folder, report = unsimulated
    assert report.summary.verdict is None and report.on_chip is None
    assert any(note.startswith("The whole network did not run on chip") for note in report.notes)
    there = {path.name for path in (folder / "network").glob("*.hex")}
    images = {"descriptor", "weight", "metadata", "activation", "parameter", "index", "entry", "descriptor.outputs"}
    assert there == {f"{name}.hex" for name in images}
    command = dict(line.split() for line in (folder / "network" / "layer.txt").read_text().splitlines())
    assert command["cycles"] == "0" and int(command["count"]) == int(command["descriptor"]) > 0
    layers = next(
        line for line in (folder / "testbench" / "Makefile").read_text().splitlines() if line.startswith("LAYERS :=")
    )
    assert "network" not in layers.split()


def test_its_images_are_read_back(unsimulated: tuple[Path, Report]) -> None:
    """Those of the whole network, too, and what is not decoded is compared with the network assembled again."""
    folder, report = unsimulated
    assert report.images is not None and {name.split("/")[0] for name in report.images.words} == {"memory", "network"}
    again = cosim(folder, 0)
    assert again.passed and any("did not run on chip" in note for note in again.notes)
    for memory, word, bit, words in (
        ("parameter", 8, 32, "network/parameter, word 8, multiplier of lane 0"),
        ("descriptor", 0, TILES, "network/descriptor, word 0, tiles: not as the network gives it"),
        ("entry", 1, 64, "network/entry, word 1, offset: not as"),
    ):
        with flipped(folder, f"network/{memory}", word, bit):
            wrong = cosim(folder, 0)
        assert wrong.summary.verdict == "fail"
        assert any(words in finding.text for finding in wrong.findings), wrong.findings


def test_a_wrong_wrapper_fails_the_verdict(build: Path) -> None:
    """All layers agree at the accelerator's own ports; only the run behind AXI tells."""
    sound = Report.read(build)
    assert sound.axi is not None and sound.axi.verdict == "pass" and sound.axi.engine == "icarus"
    (run,) = sound.axi.runs
    assert (run.kind, run.mismatches, run.failure) == ("layer", 0, None) and run.cycles > run.words > 0
    top = json.loads((build / "manifest.json").read_text())["axi"]["top"]
    text = (build / "verilog" / f"{top}.v").read_text()
    unread = text.replace("(m_axi_wdata)", "(), .unknown()")
    with replaced(build, f"verilog/{top}.v", unread), pytest.raises(FlowError):
        cosim(build, 1.0)  # no Verilog: no verdict, and no pass
    with replaced(build, f"verilog/{top}.v", text.replace("(m_axi_rdata)", "(m_axi_rdata ^ 2)")):
        report = cosim(build, 1.0)
        assert report.summary.tier1_mismatches == 0 and not report.passed
        assert report.axi is not None and report.axi.verdict == "fail"
        (finding,) = report.findings
        assert finding.cause == "behind AXI" and finding.layer == run.name and "behind AXI: " in finding.text
        assert cosim(build, 0.0).axi is None
