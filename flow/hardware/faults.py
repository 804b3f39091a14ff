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
        ("off-by-one", r"\(place \+ 1\)", "(place + 2)"),
        ("early-done", r"ends = \(block_done && \(to_finish == 1\)\)", "ends = block_done"),
        ("stuck-job", r"assign index_job = [^;]*", "assign index_job = 1'b0"),
        ("dropped-handshake", r"taken <= settled", "taken <= (settled & 510)"),
    ],
    "guard": [
        ("too-strict", r"\(channels > most_channels\)", "(channels > 1)"),
        ("off-by-one", r"\(steps \+ 1\)", "(steps + 3)"),
        ("swapped-operator", r"\(steps1 \* columns1\)", "(steps1 + columns1)"),
    ],
    "stream": [
        ("off-by-one", r"address <= base", "address <= (base + 1)"),
        ("short-count", r"remaining <= count", "remaining <= (count - 1)"),
        ("no-rewind", r"cursor <= tail", "cursor <= following"),
        ("skipping", r"\(address \+ 1\)", "(address + 2)"),
    ],
    "ram": [
        ("stuck-bit", r"<= write_data;\n    end\n    if", "<= (write_data | 1);\n    end\n    if"),
        ("no-bypass", r"\(write && \(write_addr == read_addr\)\)", "1'b0"),
        ("swapped-index", r"memory\[read_addr\]", "memory[read_addr ^ 1]"),
    ],
    "sequencer": [
        ("late-constant", r"\(column == 1\)", "(column == 2)"),
        ("off-by-one-shift", r"\(7 - column\[3-1:0\]\)", "(6 - column[3-1:0])"),
        ("no-rewind", r"assign weight_rewind = [^;]*", "assign weight_rewind = 1'b0"),
        ("stuck-activations", r"assign activation_read = [^;]*", "assign activation_read = 1'b0"),
        ("never-first", r"\(issue && fresh\)", "1'b0"),
        ("odd-kept", r"odd <= \(!odd\)", "odd <= odd"),
    ],
    "array_stages": [
        ("early-finish", r"finished <= last4", "finished <= last3"),
        ("stuck-sign", r"negative4 <= load3", "negative4 <= 1'b0"),
    ],
    "bitvert_array": [
        ("swapped-index", r"(row_operand0_word\[64-1:0\] = activation_word)\[64-1:0\]", r"\1[128-1:64]"),
    ],
    "row_operand": [
        ("swapped-halves", r"x_low <= low", "x_low <= high"),
        ("dropped-carry", r"\(total_low \+ total_high\)", "(total_low | total_high)"),
        ("wrong-sum", r"sum_high <= total_high", "sum_high <= total_low"),
    ],
    "activation_sum": [
        ("dropped-carry", r"\(low \+ high\)", "(low ^ high)"),
        ("swapped-index", r"x\[24-1:16\]", "x[16-1:8]"),
    ],
    "column_control": [
        ("off-by-one-shift", r"\(significance - stored\[8-1:6\]\)", "(significance - stored[8-1:6] - 1)"),
        ("swapped-pieces", r"stored\[6-1:3\]", "stored[3-1:0]"),
        ("stuck-high", r"high2 <= high_phase", "high2 <= 1'b0"),
        ("swapped-index", r"low_bits <= bits\[8-1:0\]", "low_bits <= bits[16-1:8]"),
    ],
    "scheduler": [
        ("off-by-one", r"\(ones > 4\)", "(ones > 5)"),
        ("stuck-invert", r"majority = 1'b1", "majority = 1'b0"),
        ("swapped-index", r"(choice\[6-1:3\] <= )code1", r"\1code2"),
    ],
    "priority_encoder": [
        ("swapped-index", r"code = 1;", "code = 2;"),
        ("selected-twice", r"(code = 1;\s*left = )\(pending & \d+\)", r"\1pending"),
    ],
    "pe": [
        ("dropped-carry", r"\(selected_low \+ selected_high\)", "(selected_low ^ selected_high)"),
        ("off-by-one-shift", r"\(selected << fine\)", "(selected << (fine + 1))"),
        ("stuck-sign", r"\(negative\)", "(1'b0)"),
        ("off-by-one-constant", r"\(offset_part << 3\)", "(offset_part << 2)"),
    ],
    "subgroup": [
        ("dropped-carry", r"\(\(\(y0 \+ y1\) \+ y2\) \+ y3\)", "(((y0 + y1) + y2) ^ y3)"),
        ("stuck-invert", r"if \(invert\)", "if (1'b0)"),
    ],
    "multiplexer": [
        ("stuck-0", r"(== 4\)\) begin\s*y = )x\[[^\]]*\]", r"\g<1>0"),
        ("swapped-index", r"\] == 2\)", "] == 6)"),
    ],
    "constant_multiplier": [
        ("off-by-one-shift", r"\(total << 2\)", "(total << 1)"),
        ("dropped-carry", r"\(one \+ two\)", "(one | two)"),
        ("stuck-sign", r"\(four \^ 16383\)", "four"),
    ],
    "align": [
        ("off-by-one-shift", r"\(partial << 4\)", "(partial << 3)"),
        ("stuck-sign", r"if \(negative\)", "if (1'b0)"),
    ],
    "accumulator": [
        ("stuck-bit", r"result <= total", r"result <= (total | 128)"),
        ("dropped-carry", r"\(left \+ right\)", "(left ^ right)"),
        ("never-cleared", r"if \(\(!first\)\)", "if (1'b1)"),
        ("stuck-drain", r"result <= behind", "result <= result"),
    ],
    "byte_select": [
        ("swapped-index", r"word\[24-1:16\]", "word[32-1:24]"),
    ],
    "parallel_pe": [
        ("stuck-sign", r"factor = \$signed\(weight\)", "factor = (weight & 127)"),
        ("dropped-carry", r"\(activation \* factor\)", "(activation * (factor | 1))"),
    ],
    "slice_count": [
        ("off-by-one", r"\(columns \+ 1\)", "(columns + 2)"),
    ],
    "slice_places": [
        ("off-by-one", r"\(6 \+ missing\)", "(5 + missing)"),
    ],
    "pairs_array": [
        ("swapped-index", r"(pair_tables0_word\[64-1:0\] = activation_word)\[64-1:0\]", r"\1[128-1:64]"),
    ],
    "pair_tables": [
        ("dropped-carry", r"\(taken\[40-1:32\] \+ taken\[48-1:40\]\)", "(taken[40-1:32] ^ taken[48-1:40])"),
        ("swapped-index", r"both\[27-1:18\] <= s2", "both[27-1:18] <= s3"),
        ("off-by-one-shift", r"\(everything << 1\)", "(everything << 2)"),
    ],
    "pairs_control": [
        ("off-by-one-shift", r"\(significance - stored\[8-1:6\]\)", "(significance - stored[8-1:6] - 1)"),
        ("stuck-sign", r"minus <= minus3", "minus <= 1'b0"),
    ],
    "pick_lines": [
        ("swapped-index", r"first\[\(pair \+ 4\)\] = bits", "first[(pair + 4)] = !bits"),
        ("stuck-0", r"\(first\[pair\] && second\[pair\]\)", "1'b0"),
    ],
    "constant_digit": [
        ("dropped-carry", r"\(extended \+ carry\)", "extended"),
        ("swapped-pieces", r"stored\[6-1:3\]", "stored[3-1:0]"),
        ("off-by-one", r"\(digit == 1\)", "(digit == 3)"),
    ],
    "pairs_pe": [
        ("stuck-bit", r"= \$signed\(term\)", "= $signed(term | 64)"),
    ],
    "pair_column": [
        ("dropped-carry", r"\(low \+ high\)", "(low | high)"),
    ],
    "pair_choice": [
        ("stuck-0", r"sum_of_both = both\[[^\]]*\]", "sum_of_both = 0"),
        ("swapped-index", r"if \(picks\[1\]\)", "if (picks[2])"),
    ],
    "slice_value": [
        ("stuck-sign", r"if \(negative\)", "if (1'b0)"),
        ("dropped-carry", r"\(flipped \+ rest\)", "(flipped ^ rest)"),
    ],
    "aligned_term": [
        ("stuck-sign", r"if \(minus\)", "if (1'b0)"),
        ("dropped-carry", r"\(aligned \+ offset\)", "(aligned ^ offset)"),
    ],
    "weighed_slice": [
        ("stuck-shift", r"if \(shift\[0\]\)", "if (1'b1)"),
        ("swapped-index", r"if \(size\[2\]\)", "if (size[1])"),
    ],
    "drain_control": [
        ("swapped-stride", r"\(tile_base \+ stride\)", "(tile_base + plane_step)"),
        ("stuck-capture", r"assign capture = take", "assign capture = 1'b0"),
        ("flipped-setting", r"kept_settings <= settings", "kept_settings <= (settings ^ 2)"),
        ("off-by-one", r"assign word_ends = \(\(!planes\) \|\| \(plane == 3\)\)",
         "assign word_ends = ((!planes) || (plane == 2))"),
    ],
    "write_back": [
        ("stuck-0", r"output_valid = shown", "output_valid = 0"),
        ("swapped-index", r"(all_data\[8-1:0\] = )requantizer0_octet", r"\1requantizer1_octet"),
    ],
    "split": [
        ("off-by-one", r"parameters\[62-1:32\]", "parameters[61-1:31]"),
        ("flipped-bit", r"(bias = )(parameters\[32-1:0\])", r"\1(\2 ^ 4096)"),
        ("swapped-plane", r"\(plane \+ 3\)", "(plane + 2)"),
    ],
    "delay": [
        ("stuck-0", r"q <= d", "q <= 0"),
        ("transparent", r"always @\(posedge clk\) begin: step\n(\s*)if \(enable\) begin\s*q <= d;\s*end",
         r"always @(*) begin: step\n\1q = d;"),
    ],
    "unshuffle": [
        ("dropped-carry", r"\(base \+ index\)", "(base | index)"),
        ("swapped-index", r"\(base \+ index\)", "(base + (index ^ 1))"),
    ],
    "requantizer": [
        ("truncating", r"\(zero \+ 1\)", "zero"),
        ("dropped-bias", r"\(taken \+ addend\)", "taken"),
        ("stuck-clamp", r"\(code < lowest\)", "1'b0"),
        ("dropped-zero", r"\(floor \+ offset\)", "floor"),
    ],
    "multiplier_24": [
        ("dropped-carry", r"\(outer \+ inner\)", "(outer ^ inner)"),
        ("swapped-halves", r"(factor_low = )multiplier\[12-1:0\]", r"\1multiplier[24-1:12]"),
    ],
    "rounding_shift": [
        ("off-by-one-shift", r"(window5 >>> )(\$signed\(\{1'b0, bits5\}\))", r"\1(\2 + 1)"),
        ("stuck-octets", r"(whole\[6-1:3\] = )shift\[6-1:3\]", r"\g<1>3"),
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
