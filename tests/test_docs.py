"""The documentation is true: the tutorial runs, links lead somewhere, options and messages are the code's, port tables
and timing are the hardware's."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token
from nbclient import NotebookClient

from flow.cli.commands import bbs
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import PE_KINDS, ArrayConfig, memory_ports
from flow.hardware.emit import emit, modules
from flow.hardware.fields import ERRORS, SUBGROUP
from flow.simulation.engines.base import RESET_EDGES, Command, Scope
from flow.simulation.engines.icarus import IcarusEngine
from flow.simulation.engines.waveform import Trace, read
from tests.helpers.layers import random_codes, random_layer, single
from tests.helpers.tools import require_engine, require_tool

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FRONT = [
    ROOT / name
    for name in (
        *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"),
        *("models/README.md", "rtl_out/README.md"),
    )
]
PAGES = [*FRONT, *sorted(DOCS.glob("*.md"))]


def tokens(page: Path) -> list[Token]:
    return MarkdownIt().enable("table").parse(page.read_text())


# -------------------------------------------------------------------------------- tutorial
def fences(page: Path) -> Iterator[tuple[str, str]]:
    """(language, text) of every fenced block."""
    for token in tokens(page):
        if token.type == "fence":
            yield token.info.strip(), token.content


def commands(text: str) -> Iterator[tuple[str, str]]:
    """(command, what it prints) of a console block: commands follow "$ "."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def matches(expected: str, got: str) -> bool:
    """Line by line, blanks at the ends of lines aside. "..." in a line is any text, as a line any lines."""
    pattern = ""
    for line in expected.splitlines():
        within = re.escape(line.rstrip()).replace(re.escape("..."), ".*")
        pattern += r"(?:.*\n)*?" if line == "..." else rf"{within} *\n"
    return re.fullmatch(pattern, got) is not None


def test_output_is_compared() -> None:
    assert matches("a\n...\nd ... f\n", "a   \nb\nc\nd e f\n") and matches("...\n", "") and matches("", "")
    assert not matches("a\n", "a\nb\n") and not matches("a\n...\n", "b\n") and not matches("a.c\n", "abc\n")


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The tutorial, done: its files are written, its commands run in order. The folder, and what is not as printed."""
    for tool in ("iverilog", "make", "cc"):
        require_tool(tool)
    require_engine("verilator")
    programs, place = tmp_path_factory.mktemp("programs"), tmp_path_factory.mktemp("tutorial")
    for name, call in (("python", '"$@"'), ("bbs", '-c "from flow.cli import main; main()" "$@"')):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {call}\n')
        (programs / name).chmod(0o755)
    shutil.copytree(ROOT / "models", place / "models")
    (place / "rtl_out").mkdir()
    environment = os.environ | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    wrong = []
    for language, text in fences(DOCS / "tutorial.md"):
        named = re.match(r"(?:# |/\* )([\w.]+)(?: \*/)?\n", text)
        if language in ("python", "c"):
            assert named, f"a block of the tutorial has no file name in its first line: {text}"
            (place / named[1]).write_text(text)
            continue
        assert language == "console", language
        for command, expected in commands(text):
            done = subprocess.run(
                ["bash", "-c", f"({command}) 2>&1"], cwd=place, env=environment, capture_output=True, text=True
            )
            if done.returncode != 0 or not matches(expected, done.stdout):
                wrong.append(f"$ {command}\n{done.stdout}exit status {done.returncode}")
    return place, wrong


@pytest.mark.full
def test_the_tutorial_runs(tutorial: tuple[Path, list[str]]) -> None:
    place, wrong = tutorial
    assert not wrong, "\n\n".join(wrong)
    assert (place / "rtl_out" / "own" / "report.json").exists()


@pytest.mark.full
def test_outputs_lists_all_there_is(tutorial: tuple[Path, list[str]]) -> None:
    """Files and folders of a build, and the keys of its report."""
    build = tutorial[0] / "rtl_out" / "digits"
    page = (DOCS / "outputs.md").read_text()
    top = json.loads((build / "manifest.json").read_text())["axi"]["top"]
    written = {path.name.replace(top, "TOP_axi") + "/" * path.is_dir() for path in build.iterdir()}
    named = set(re.findall(r"`([\w.]+/?)(?:\w+/|\w+\.\w+)?`", page))
    assert written <= named, written - named
    report = json.loads((build / "report.json").read_text())
    keys = set(report) | set(report["summary"]) | set(report["layers"][0]) | set(report["summary"]["accuracy"])
    assert keys <= named, keys - named


# -------------------------------------------------------------------------------- notebook
@pytest.mark.full
def test_the_notebook_runs_and_says_what_it_shows() -> None:
    """Every cell anew; cycles and verdict are those that are stored, accuracies may differ in their last digits."""
    shown = nbformat.read(DOCS / "notebook.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    fresh = deepcopy(shown)
    NotebookClient(fresh, timeout=500, resources={"metadata": {"path": str(ROOT)}}).execute()
    for old, new in zip(shown.cells, fresh.cells, strict=True):
        if old.cell_type == "code":
            assert [output.output_type for output in old.outputs] == [output.output_type for output in new.outputs]
            for before, after in zip(old.outputs, new.outputs, strict=True):
                if "cycles" in before.get("text", "") or "array" in before.get("text", ""):
                    assert before.text == after.text
    assert "pass 15,415 cycles" in json.dumps(shown)


# -------------------------------------------------------------------------------- links
def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    inline = [
        after for token, after in zip(tokens(page), tokens(page)[1:], strict=False) if token.type == "heading_open"
    ]
    words = [re.sub(r"[^\w\- ]", "", heading.content.lower()) for heading in inline]
    return {word.replace(" ", "-") for word in words}


def links(page: Path) -> Iterator[str]:
    """Where the links and images of a page lead."""
    for token in tokens(page):
        for child in token.children or ():
            target = child.attrs.get("href", child.attrs.get("src"))
            if target is not None:
                yield str(target)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    """Files and headings exist. Of addresses elsewhere only the form is checked: tests do without a network."""
    for link in links(page):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https" and "." in parts.netloc, link
            continue
        target = (page.parent / parts.path).resolve() if parts.path else page
        assert target.exists() and target.is_relative_to(ROOT), f"{page.name}: {link}"
        if parts.fragment:
            assert parts.fragment in anchors(target), f"{page.name}: {link}"


def test_every_page_is_in_the_index() -> None:
    named = {link.partition("#")[0] for link in links(DOCS / "index.md")}
    assert named == {page.name for kind in ("*.md", "*.ipynb") for page in DOCS.glob(kind)} - {"index.md"}


def test_files_the_docs_name_exist() -> None:
    """Paths of the project in code spans, such as `flow/network/reference.py`."""
    named = set()
    for page in PAGES:
        spans = [
            child.content for token in tokens(page) for child in token.children or () if child.type == "code_inline"
        ]
        named |= {span for span in spans if re.fullmatch(r"(?:flow|tests|bench|models|docs)/[\w./]+", span)}
    assert len(named) > 20
    assert not [name for name in sorted(named) if not (ROOT / name).exists()]


# -------------------------------------------------------------------------------- options
def spans(page: Path) -> list[str]:
    """What stands in code spans and code blocks, in order."""
    children = [child for token in tokens(page) for child in token.children or () if child.type == "code_inline"]
    blocks = [token.content for token in tokens(page) if token.type in ("fence", "code_block")]
    return [*(child.content for child in children), *blocks]


def documented() -> dict[str, set[str]]:
    """The options that each command has in the tables of docs/options.md; those of `bbs` itself under ""."""
    found: dict[str, set[str]] = {}
    header: list[str] = []
    for line in (DOCS / "options.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if not line.startswith("|"):
            header = []
        elif not header:
            header = cells
        elif header[0] == "option" and (names := re.findall(r"`(--?[a-z][a-z-]*)", cells[0])):
            for command in cells[1].split(", ") if "command" in header else [""]:
                found.setdefault(command, set()).update(names)
    return found


def test_options_lists_every_option() -> None:
    """Every command's options are in tables that name the command, and README and page name every command."""
    found = documented()
    for command, each in bbs.commands.items():
        options = {name for parameter in each.params for name in parameter.opts if name.startswith("-")}
        listed = found.get(command, set())
        assert options <= listed, f"bbs {command}: {sorted(options - listed)}"
    options = {name for parameter in bbs.params for name in parameter.opts}
    assert options <= found[""], sorted(options - found[""])
    named = set(re.findall(r"bbs (\w+)", " ".join(spans(DOCS / "options.md"))))
    readme = set(re.findall(r"bbs (\w+)", " ".join(spans(ROOT / "README.md"))))
    assert set(bbs.commands) <= readme and set(bbs.commands) <= named | set(found)


def test_the_readme_fits_on_two_screens() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 100 and all(len(line) <= 108 for line in lines if not line.startswith(("|", "!")))


# -------------------------------------------------------------------------------- messages
def texts() -> set[str]:
    """The texts in the package's sources; what is filled in is "\0"."""
    found = set()
    for file in (ROOT / "flow").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values]
                found.add("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_messages_are_the_codes() -> None:
    """Every message of the troubleshooting page is in the sources: all that stands between its "..."."""
    sources = texts()
    page = (DOCS / "troubleshooting.md").read_text()
    messages = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(messages) > 60
    for message in messages:
        parts = [part for part in message.split("...") if part]
        pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
        assert any(pattern.search(text) for text in sources), f"no message of the package reads: {message}"


# -------------------------------------------------------------------------------- rooms
def test_the_picture_of_the_rooms_is_the_packages() -> None:
    """If not, `python docs/rooms.py` draws it again."""
    spec = importlib.util.spec_from_file_location("rooms", DOCS / "rooms.py")
    assert spec and spec.loader
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)
    assert (DOCS / "rooms.svg").read_text() == drawing.picture()
    assert drawing.arrows({("c", "b"), ("b", "a"), ("c", "a")}) == {("c", "b"), ("b", "a")}


def test_architecture_has_a_section_for_every_room() -> None:
    front = ast.get_docstring(ast.parse((ROOT / "flow" / "__init__.py").read_text())) or ""
    rooms = re.findall(r"^(\w+)(?:\.py|/) ", front, re.MULTILINE)
    headings = re.findall(r"^## (.+)$", (DOCS / "architecture.md").read_text(), re.MULTILINE)
    assert [name for heading in headings for name in heading.split(", ")][: len(rooms)] == rooms


# -------------------------------------------------------------------------------- examples
def test_the_examples_on_numbers_are_true() -> None:
    """Python sessions of the page, one after the other in one namespace."""
    sessions = [text for language, text in fences(DOCS / "numbers.md") if language == "pycon"]
    assert len(sessions) == 3
    test = doctest.DocTestParser().get_doctest("".join(sessions), {}, "numbers.md", None, None)
    assert doctest.DocTestRunner().run(test).failed == 0


# -------------------------------------------------------------------------------- hardware
Port = tuple[str, str, str]  # name, direction, width as a formula


def port_tables() -> dict[str, list[Port]]:
    """The ports of each block, as the page says."""
    found: dict[str, list[Port]] = {}
    block, cells = "", []
    stream = tokens(DOCS / "hardware.md")
    for token, inner in zip(stream, [*stream[1:], stream[-1]], strict=True):
        if token.type == "heading_open":
            block = inner.content
        elif token.type == "td_open":
            cells.append(inner.content if inner.type == "inline" else "")
        elif token.type == "tr_close":
            if len(cells) == 4 and block.startswith("`"):  # a heading that names a block
                names, ways = re.findall(r"`(\w+)`", cells[0]), cells[1].split(", ")
                ways = ways if len(ways) == len(names) else ways * len(names)
                ports = ((n, w, cells[2]) for n, w in zip(names, ways, strict=True))
                found.setdefault(block.strip("`"), []).extend(ports)
            cells = []
    return found


CONFIGS = (
    *(
        ArrayConfig(rows, columns, kind, drain=drain)
        for kind in PE_KINDS
        for rows, columns, drain in [(4, 4, 4), (3, 5, 2)]
    ),
    *(ArrayConfig(3, 5, "pairs", drain=2, columns_per_cycle=together) for together in (2, 4)),
    ArrayConfig(4, 5, drain=2, map_words=96, tables=True),
    ArrayConfig(2, 2, drain=2, map_words=64, products=True),
    ArrayConfig(2, 3, drain=2, map_words=64, normalizer=True),
    ArrayConfig(2, 9, drain=2, map_words=64, operands=True),
    ArrayConfig(4, 3, "pairs", drain=2, map_words=64, operands=True, columns_per_cycle=2),
)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_the_port_tables_are_the_hardwares(config: ArrayConfig) -> None:
    """Every module of the Verilog has a table with its ports, their directions and widths, and no others."""
    tables = port_tables()
    names = {name: getattr(config, name) for name in ("rows", "columns", "lanes", "step", "beats", "columns_per_cycle")}
    names["line_bits"] = (config.map_words // config.rows - 1).bit_length()
    axi = AxiConfig()
    names |= {"data_bits": axi.data_bits, "address_bits": axi.address_bits}
    names["memories"] = len(memory_ports(config))
    names["reads"] = names["memories"] - 1
    for module in modules(config, axi).values():
        table = {name: (way, width) for name, way, width in tables[module.function]}
        if not config.map_words:
            table = {
                name: entry for name, entry in table.items() if not name.startswith("entry_") or "guard" in module.name
            }
        if not config.tables:
            table.pop("fill", None)
        if not config.normalizer:
            table.pop("constants", None)
            if module.function in ("post", "post_channel"):
                of_normalizer = ("gives", "given", "holds3", "holds4")
                table = {name: entry for name, entry in table.items() if name not in of_normalizer}
        if not config.products and module.function in ("post", "post_channel"):
            of_products = ("product", "minus", "late", "zero_low", "zero_high", "following")
            table = {name: entry for name, entry in table.items() if name not in of_products}
        if config.columns >= SUBGROUP and module.function == "operands":
            table.pop("first")
        ways = dict.fromkeys(module.inputs, "in") | dict.fromkeys(module.outputs, "out")
        assert {name: way for name, (way, _) in table.items()} == ways, module.name
        own = {name: value for name, value in module.arguments.items() if isinstance(value, int)}
        for name, (_, formula) in table.items():
            scope = {"bits": config.accumulator_bits, "log2": math.log2} | names | own
            allowed = [] if formula == "any" else [eval(part, scope) for part in formula.split(" or ")]
            width = len(module.ports[name]) or 1
            assert not allowed or width in allowed, f"{module.name}.{name} has {width} bits, not {formula}"


def test_blocks_are_where_the_page_says() -> None:
    page = (DOCS / "hardware.md").read_text()
    places = re.findall(r"^##+ `(\w+)`\n\n`([\w/.]+)`", page, re.MULTILINE)
    assert {name for name, _ in places} == set(port_tables())
    for name, place in places:
        functions = ast.walk(ast.parse((ROOT / place).read_text()))
        assert any(isinstance(each, ast.FunctionDef) and each.name == name for each in functions), f"{name}: {place}"


def test_every_block_has_a_table() -> None:
    written = {module.function for config in CONFIGS for module in modules(config, AxiConfig()).values()}
    assert set(port_tables()) == written


def test_the_errors_are_the_hardwares() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \| .*\|$", (DOCS / "hardware.md").read_text(), re.MULTILINE)
    assert rows == [(str(code), name) for code, (name, _) in enumerate(ERRORS)]


# -------------------------------------------------------------------------------- timing
def rendered(block: str, runs: dict[str, Trace]) -> str:
    """A diagram with the values of the run. Its first line names the instance and the edges, the others a signal."""
    lines = [line.split() for line in block.splitlines()]
    label, edges = lines[0][0], range(int(lines[0][1]), int(lines[0][-1]) + 1)
    run, _, path = label.rpartition(":")
    place = () if path == "accelerator" else tuple(path.split("."))
    rows = [(label, [str(edge) for edge in edges])]
    for signal, *_ in lines[1:]:
        values = runs[run].values(place, signal)
        rows.append((signal, cells([values[RESET_EDGES - 1 + edge] for edge in edges])))
    width = max(len(name) for name, _ in rows)
    return "".join(f"{name:<{width}}{''.join(f'{cell:>3}' for cell in row)}\n" for name, row in rows)


def cells(values: list[int | None]) -> list[str]:
    """A row of a diagram: numbers, or a letter for each new value if there are any above 99."""
    letters: dict[int, str] = {}
    if any(value is not None and value > 99 for value in values):
        for value in values:
            if value:
                letters.setdefault(value, chr(ord("A") + len(letters)))
    return ["x" if value is None else "." if value == 0 else letters.get(value, str(value)) for value in values]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Trace]:
    """Two channels of N = 5, two tiles, two steps on a 2x2 array: requantized (""), "raw", and of "pairs" elements."""
    require_tool("iverilog")
    folder = tmp_path_factory.mktemp("timing")
    traces = {}
    for name in ("", "raw", "pairs"):
        config = ArrayConfig(2, 2, drain=2)
        if name == "pairs":
            config = replace(config, pe="pairs", columns_per_cycle=2)
        simulator = IcarusEngine().open(emit(config, folder / config.pe))
        encoded, layer = random_layer(1, 32, 4, [5, 5], raw=name == "raw")
        work = single(encoded, layer, config, random_codes(1, layer))
        file = folder / f"{name}.vcd"
        words = {"output": work.scheduled.output_words}
        root = simulator.record(work.memories, Command(0, len(work.scheduled.blocks), 100), words, [Scope((), 0)], file)
        traces[name] = read(file, root)
    return traces


def test_the_diagrams_are_the_simulations(runs: dict[str, Trace]) -> None:
    blocks = [text for language, text in fences(DOCS / "hardware.md") if language == "text"]
    diagrams = [block for block in blocks if re.match(r"[\w:.]+ +\d", block)]
    assert len(diagrams) > 10
    for diagram in diagrams:
        assert diagram == rendered(diagram, runs)
