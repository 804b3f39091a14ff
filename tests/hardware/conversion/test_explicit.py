"""Modules with explicit widths: what is read, what stays, and, proven by Yosys, that they compute what MyHDL wrote."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import ArrayConfig
from flow.hardware.conversion import hierarchy
from flow.hardware.conversion.explicit import explicit
from flow.hardware.emit import _converted
from tests.helpers.tools import require_tool

GIVEN = """
module outer (
    clk,
    a,
    b,
    y
);

input clk;
input [7:0] a;
input [7:0] b;
output [3:0] y;
reg [3:0] y;

wire [3:0] counted;
wire [3:0] spare;
reg [7:0] memory [0:4-1];


always @(posedge clk) begin: step
    reg [2-1:0] place;
    place = 2'h0;
    place = (a[2-1:0] + 1);
    if (a[3]) begin
        memory[place] <= b;
    end
    case (place)
        'h0: begin
            y <= (counted + memory[a[7-1:5]][2-1:0]);
        end
        default: begin
            y <= $unsigned(1 ? 2 : 3);
        end
    endcase
end


inner inner0 (
    .x(b[8-1:1]),
    .count(counted),
    .spare(spare)
);
endmodule
"""
MAPS = ArrayConfig(2, 2, weight_depth=8, metadata_depth=4, activation_depth=8).with_maps(24, True, True, True, True)
PAIRS = ArrayConfig(2, 2, "pairs", columns_per_cycle=4, weight_depth=8, metadata_depth=4, activation_depth=8)
QUICK = (
    "accumulator", "align", "channel_place", "constant_multiplier", "guard", "norm_root", "pair_tables", "post_channel",
    "product_terms", "rounding_shift", "slice_value", "axi_requests",
)  # fmt: skip


def test_a_module_is_read_as_a_whole() -> None:
    """Widths, ranges, cases, memories; a line that is not understood; what neither a block nor a child reads."""
    text = explicit(GIVEN, {"inner": ["count", "spare"]})
    lines = [line.strip() for line in text.split("\n")]
    for line in (
        "reg [1:0] place;", "place = 2'h0;", "place = a[1:0] + 2'd1;", "if (a[3]) begin", "memory[place] <= b;",
        "2'h0: begin", "y <= counted + {2'd0, memory[a[6:5]][1:0]};", "y <= $unsigned(1 ? 2 : 3);", ".x(b[7:1]),",
    ):  # fmt: skip
        assert line in lines, line
    (unread,) = re.findall(r"assign _unused = &\{\s*(.*?)\s*\};", text, re.DOTALL)
    assert re.split(r",\s*", unread) == ["1'b0", "a[7]", "a[4]", "a[2]", "spare"]
    assert text.count("endmodule") == 1 and text.endswith("\n};\n\nendmodule\n")


def test_a_module_of_which_all_is_read_has_no_such_wire() -> None:
    assert "_unused" not in explicit(GIVEN.replace("a[3]", "a != 0").replace(".spare(spare)", ".more(spare)"), {})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """The modules of two accelerators by the names of their blocks, as MyHDL writes them and with explicit widths."""
    found = {}
    for config, axi in ((PAIRS, None), (MAPS, AxiConfig(32, 33))):
        folders = []
        with pytest.MonkeyPatch.context() as patch:
            for name in ("explicit", "implicit"):
                if name == "implicit":
                    patch.setattr(hierarchy, "explicit", lambda text, outputs: text)
                folders.append(tmp_path_factory.mktemp(name))
                _converted(config, axi, "verilog").write(folders[-1])
        for file in folders[0].iterdir():
            found[file.stem.removeprefix(config.name).strip("_")] = (folders[1] / file.name, file)
    return found


@pytest.mark.parametrize("name", QUICK)
def test_a_block_is_proven_to_compute_the_same(name: str, written: dict[str, tuple[Path, Path]]) -> None:
    prove(*written[name])


@pytest.mark.full
def test_every_block_is_proven_to_compute_the_same(written: dict[str, tuple[Path, Path]]) -> None:
    """All others; where memories become flip-flops that takes long, and they have no expressions."""
    for name, (before, after) in written.items():
        if name not in QUICK and not re.match(r"ram|bank|lane_words", name) and before.read_text() != after.read_text():
            prove(before, after)


def test_a_wrong_width_is_found(written: dict[str, tuple[Path, Path]], tmp_path: Path) -> None:
    before, after = written["rounding_shift"]
    wrong = tmp_path / after.name
    wrong.write_text(after.read_text().replace("doubled >>> whole", "doubled >> whole"))
    with pytest.raises(AssertionError, match="Found .* unproven"):
        prove(before, wrong)


def prove(before: Path, after: Path) -> None:
    """Every signal, register and connection to a child has the same function in both files, for all inputs."""
    top = before.stem
    children = sorted(set(re.findall(r"^(\w+) \w+ \($", before.read_text(), re.MULTILINE)) - {"module"})
    boxes = " ".join(f"read_verilog -lib {before.with_name(child)}.v;" for child in children)
    script = "".join(
        f"design -reset; {boxes} read_verilog {file}; hierarchy -check -top {top}; delete {top}/w:_unused; proc; "
        f"memory_map; opt_clean; expose -evert -evert-dff; opt_clean; rename -top {name}; design -stash {name}; "
        for name, file in (("before", before), ("after", after))
    )
    script += (
        "design -copy-from before -as before before; design -copy-from after -as after after; "
        "equiv_make before after both; hierarchy -top both; opt_clean; equiv_struct -icells; equiv_simple -short; "
        "equiv_status -assert"
    )
    done = subprocess.run([require_tool("yosys"), "-q", "-p", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
