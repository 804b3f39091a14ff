"""Faults for the Verilog, to show that they are caught and found: `inject` breaks one block of an accelerator."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flow.errors import FlowError
from flow.hardware.element import elements


@dataclass(frozen=True)
class Fault:
    """One mistake in the Verilog of a block: every match of `pattern` becomes `replacement`."""

    block: str
    kind: str
    pattern: str
    replacement: str

    @property
    def name(self) -> str:
        return f"{self.block}:{self.kind}"


_TABLE: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "accelerator": [
        ("stuck-resident", r"\.resident\([^)]*\)", ".resident(1'b0)"),
        ("swapped-wires", r"\.plane_stride\(([^)]*)\)", r".plane_stride(\1 + 16'd1)"),
    ],
    "dispatcher": [
        ("off-by-one", r"place \+ 16'd1", "place + 16'd2"),
        ("early-done", r"ends = block_done && \(to_finish == 16'd1\)", "ends = block_done"),
        ("stuck-job", r"assign index_job = [^;]*", "assign index_job = 1'b0"),
        ("dropped-handshake", r"taken <= settled", "taken <= (settled & 510)"),
    ],
    "guard": [
        ("too-strict", r"\(channels > most_channels\)", "(channels > 1)"),
        ("off-by-one", r"steps\} \+ 17'd1", "steps} + 17'd3"),
        ("swapped-operator", r"steps1 \* columns1", "steps1 + columns1"),
    ],
    "stream": [
        ("off-by-one", r"address <= base", "address <= (base + 1)"),
        ("short-count", r"remaining <= count", "remaining <= (count - 1)"),
        ("no-rewind", r"cursor <= tail", "cursor <= following"),
        ("skipping", r"address \+ 32'd1", "address + 32'd2"),
    ],
    "ram": [
        ("stuck-bit", r"<= write_data;\n    end\n    if", "<= (write_data | 1);\n    end\n    if"),
        ("no-bypass", r"write && \(write_addr == read_addr\)", "1'b0"),
        ("swapped-index", r"memory\[read_addr\]", "memory[read_addr ^ 1]"),
    ],
    "sequencer": [
        ("late-constant", r"\(column == 4'd1\)", "(column == 4'd2)"),
        ("off-by-one-shift", r"3'd7 - column\[2:0\]", "3'd6 - column[2:0]"),
        ("no-rewind", r"assign weight_rewind = [^;]*", "assign weight_rewind = 1'b0"),
        ("stuck-activations", r"assign activation_read = [^;]*", "assign activation_read = 1'b0"),
        ("never-first", r"issue && fresh", "1'b0"),
        ("odd-kept", r"odd <= !odd", "odd <= odd"),
    ],
    "array_stages": [
        ("early-finish", r"finished <= last4", "finished <= last3"),
        ("stuck-sign", r"negative4 <= load3", "negative4 <= 1'b0"),
    ],
    "bitvert_array": [
        ("swapped-index", r"(row_operand0_word\[63:0\] = activation_word)\[63:0\]", r"\1[127:64]"),
    ],
    "row_operand": [
        ("swapped-halves", r"x_low <= low", "x_low <= high"),
        ("dropped-carry", r"(\{1'b0, total_low\}) \+", r"\1 |"),
        ("wrong-sum", r"sum_high <= total_high", "sum_high <= total_low"),
    ],
    "activation_sum": [
        ("dropped-carry", r"(\{1'b0, low\}) \+", r"\1 ^"),
        ("swapped-index", r"x\[23:16\]", "x[15:8]"),
    ],
    "column_control": [
        ("off-by-one-shift", r"(significance - \{1'b0, stored\[7:6\]\})", r"\1 - 1"),
        ("swapped-pieces", r"stored\[5:3\]", "stored[2:0]"),
        ("stuck-high", r"high2 <= high_phase", "high2 <= 1'b0"),
        ("swapped-index", r"low_bits <= bits\[7:0\]", "low_bits <= bits[15:8]"),
    ],
    "scheduler": [
        ("off-by-one", r"ones > 4'd4", "ones > 4'd5"),
        ("stuck-invert", r"majority = 1'b1", "majority = 1'b0"),
        ("swapped-index", r"(choice\[5:3\] <= )code1", r"\1code2"),
    ],
    "priority_encoder": [
        ("swapped-index", r"code = 3'd1;", "code = 3'd2;"),
        ("selected-twice", r"(code = 3'd1;\s*left = )pending & 8'd\d+", r"\1pending"),
    ],
    "pe": [
        ("dropped-carry", r"(\{1'b0, selected_low\}) \+", r"\1 ^"),
        ("off-by-one-shift", r"selected\} << fine", "selected} << (fine + 1)"),
        ("stuck-sign", r"\(negative\)", "(1'b0)"),
        ("off-by-one-constant", r"offset_part\} << 3", "offset_part} << 2"),
    ],
    "subgroup": [
        ("dropped-carry", r"\+ (\{2'd0, y3\})", r"^ \1"),
        ("stuck-invert", r"if \(invert\)", "if (1'b0)"),
    ],
    "multiplexer": [
        ("stuck-0", r"(== 3'd4\) begin\s*y = )x\[[^\]]*\]", r"\g<1>0"),
        ("swapped-index", r"\] == 3'd2\)", "] == 3'd6)"),
    ],
    "constant_multiplier": [
        ("off-by-one-shift", r"total\} << 2", "total} << 1"),
        ("dropped-carry", r"(\{4'd0, one\}) \+", r"\1 |"),
        ("stuck-sign", r"four \^ 14'd16383", "four"),
    ],
    "align": [
        ("off-by-one-shift", r"partial\} << 4", "partial} << 3"),
        ("stuck-sign", r"if \(negative\)", "if (1'b0)"),
    ],
    "accumulator": [
        ("stuck-bit", r"result <= total", r"result <= (total | 128)"),
        ("dropped-carry", r"left \+ right", "left ^ right"),
        ("never-cleared", r"if \(!first\)", "if (1'b1)"),
        ("stuck-drain", r"result <= behind", "result <= result"),
    ],
    "byte_select": [
        ("swapped-index", r"word\[23:16\]", "word[31:24]"),
    ],
    "parallel_pe": [
        ("stuck-sign", r"factor = weight", "factor = weight & 127"),
        ("dropped-carry", r"activation \* factor", "activation * (factor | 1)"),
    ],
    "slice_count": [
        ("off-by-one", r"columns\} \+ 5'd1", "columns} + 5'd2"),
    ],
    "slice_places": [
        ("off-by-one", r"3'd6 \+ missing", "3'd5 + missing"),
    ],
    "pairs_array": [
        ("swapped-index", r"(pair_tables0_word\[63:0\] = activation_word)\[63:0\]", r"\1[127:64]"),
    ],
    "pair_tables": [
        ("dropped-carry", r"(taken\[39:32\]\}) \+", r"\1 ^"),
        ("swapped-index", r"both\[26:18\] <= s2", "both[26:18] <= s3"),
        ("off-by-one-shift", r"everything << 1", "everything << 2"),
    ],
    "pairs_control": [
        ("off-by-one-shift", r"(significance - \{1'b0, stored\[7:6\]\})", r"\1 - 1"),
        ("stuck-sign", r"minus <= minus3", "minus <= 1'b0"),
    ],
    "pick_lines": [
        ("swapped-index", r"first\[pair \+ 4\] = bits", "first[pair + 4] = !bits"),
        ("stuck-0", r"first\[pair\] && second\[pair\]", "1'b0"),
    ],
    "constant_digit": [
        ("dropped-carry", r"extended \+ carry", "extended"),
        ("swapped-pieces", r"stored\[5:3\]", "stored[2:0]"),
        ("off-by-one", r"\(digit == 4'd1\)", "(digit == 4'd3)"),
    ],
    "pairs_pe": [
        ("stuck-bit", r"increment = term", "increment = term | 64"),
    ],
    "pair_column": [
        ("dropped-carry", r"(\{1'b0, low\}) \+", r"\1 |"),
    ],
    "pair_choice": [
        ("stuck-0", r"sum_of_both = both\[[^\]]*\]", "sum_of_both = 0"),
        ("swapped-index", r"if \(picks\[1\]\)", "if (picks[2])"),
    ],
    "slice_value": [
        ("stuck-sign", r"if \(negative\)", "if (1'b0)"),
        ("dropped-carry", r"flipped \+ rest", "flipped ^ rest"),
    ],
    "aligned_term": [
        ("stuck-sign", r"if \(minus\)", "if (1'b0)"),
        ("dropped-carry", r"aligned \+ offset", "aligned ^ offset"),
    ],
    "weighed_slice": [
        ("stuck-shift", r"if \(shift\[0\]\)", "if (1'b1)"),
        ("swapped-index", r"if \(size\[2\]\)", "if (size[1])"),
    ],
    "drain_control": [
        ("swapped-stride", r"tile_base \+ \{8'd0, stride\}", "tile_base + plane_step"),
        ("stuck-capture", r"assign capture = take", "assign capture = 1'b0"),
        ("flipped-setting", r"kept_settings <= settings", "kept_settings <= (settings ^ 2)"),
        ("off-by-one", r"assign word_ends = !planes \|\| \(plane == 2'd3\)",
         "assign word_ends = !planes || (plane == 2'd2)"),
    ],
    "write_back": [
        ("stuck-0", r"output_valid = shown", "output_valid = 0"),
        ("swapped-index", r"(all_data\[7:0\] = )requantizer0_octet", r"\1requantizer1_octet"),
    ],
    "split": [
        ("off-by-one", r"parameters\[61:32\]", "parameters[60:31]"),
        ("flipped-bit", r"(bias = parameters\[31:0\])", r"\1 ^ 4096"),
        ("swapped-plane", r"plane\} \+ 3'd3", "plane} + 3'd2"),
    ],
    "delay": [
        ("stuck-0", r"q <= d", "q <= 0"),
        ("transparent", r"always @\(posedge clk\) begin: step\n(\s*)if \(enable\) begin\s*q <= d;\s*end",
         r"always @(*) begin: step\n\1q = d;"),
    ],
    "unshuffle": [
        ("dropped-carry", r"base \+ (\{16'd0, index\})", r"base | \1"),
        ("swapped-index", r"base \+ (\{16'd0, index\})", r"base + (\1 ^ 1)"),
    ],
    "requantizer": [
        ("truncating", r"zero\} \+ 9'd1", "zero}"),
        ("dropped-bias", r"(taken\}?) \+ addend", r"\1"),
        ("stuck-clamp", r"\(code < lowest\)", "1'b0"),
        ("dropped-zero", r"floor\} \+ offset", "floor}"),
    ],
    "multiplier_24": [
        ("dropped-carry", r"outer \+ inner", "outer ^ inner"),
        ("swapped-halves", r"(factor_low = \{1'b0, )multiplier\[11:0\]", r"\1multiplier[23:12]"),
    ],
    "rounding_shift": [
        ("off-by-one-shift", r"window5 >>> bits5", "window5 >>> (bits5 + 1)"),
        ("stuck-octets", r"(whole\[5:3\] = )shift\[5:3\]", r"\g<1>3"),
    ],
}  # fmt: skip


def of_elements() -> dict[str, Fault]:
    """The faults that elements of other packages bring with them, by name."""
    return {
        f"{block}:{kind}": Fault(block, kind, pattern, replacement)
        for element in elements().values()
        for block, faults in element.faults.items()
        for kind, pattern, replacement in faults
    }


FAULTS: Mapping[str, Fault] = {
    f"{block}:{kind}": Fault(block, kind, pattern, replacement)
    for block, faults in _TABLE.items()
    for kind, pattern, replacement in faults
}


def find(name: str) -> Fault:
    """The fault BLOCK:KIND; FlowError with what there is otherwise."""
    known = {**FAULTS, **of_elements()}
    if name in known:
        return known[name]
    block = name.partition(":")[0]
    if block in _TABLE:
        raise FlowError(f"unknown fault '{name}'; choose one of {', '.join(f'{block}:{k[0]}' for k in _TABLE[block])}")
    raise FlowError(f"unknown fault '{name}'; --fault takes BLOCK:KIND, with BLOCK one of {', '.join(_TABLE)}")


def inject(files: Sequence[Path], functions: Mapping[str, str], fault: Fault, folder: Path) -> tuple[Path, ...]:
    """The Verilog files with the fault in every module of its block; those that change are written to `folder`.

    `functions` gives the block of each module. FlowError when the block's text has no such place.
    """
    written, hits = [], 0
    for file in files:
        if functions.get(file.stem) != fault.block:
            written.append(file)
            continue
        text, count = re.subn(fault.pattern, fault.replacement, file.read_text())
        hits += count
        written.append(folder / file.name)
        written[-1].write_text(text)
    if not hits:
        raise FlowError(f"the fault {fault.name} has no place in this accelerator; choose another, or a larger array")
    return tuple(written)
