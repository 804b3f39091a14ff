"""What is proven of the emitted Verilog, in the order data takes; docs/hardware.md lists it.

A miter of the whole column step is out of reach, so it is cut where values may be anything: which activations are
chosen, their sum for each column, that sum's weight and sign, the total.
"""

from __future__ import annotations

from flow.hardware.axi.bus import COMMON, MEMORIES, constants, registers
from flow.hardware.config import ArrayConfig, memory_ports
from flow.hardware.core.requantizer import LATENCY
from flow.hardware.faults import FAULTS, Fault
from flow.hardware.fields import error_code
from flow.network import reference
from tests.formal.prover import Claim
from tests.formal.rtl import ARRAYS, BEAT, COLLECT, DEPTH, JOBS, TOGETHER, WRAPPED

COLUMNS = 4  # parts in which the 256 columns are proven, by their low two bits
PARTS = tuple(f"dut.multiplier_240.{total}_{factor}" for total in ("low", "high") for factor in ("low", "high"))
HALVES = ("dut.selected_low", "dut.selected_high", "dut.product")
REQUANTIZER = {  # the stages of its ports and registers
    "RESULT": 0, "BIAS": 1, "SUM": 2, "MULTIPLIER": 2, "SHIFT": 4, "RAW": 6, "PASSING": 7, "OCTET": LATENCY,
    "ACCUMULATOR": 32,
}  # fmt: skip
BUS_ARRAY, BUS = WRAPPED["axi"]
BUS_PORTS = memory_ports(BUS_ARRAY)  # the descriptors' first, the output last
UNITS = ARRAYS["units"]


def banks(config: ArrayConfig) -> dict[str, int]:
    """The macros of an array with feature maps: rows, lanes, bits of the number of a bank's line."""
    return {
        "ROWS": config.rows, "LANES": config.lanes, "LINE_BITS": (config.map_words // config.rows - 1).bit_length(),
    }  # fmt: skip


BANKS, TWO = banks(UNITS), banks(ARRAYS["maps"])
LAYOUT = registers(BUS_PORTS)
REGISTERS = {  # the places and constants of registers; LACKING: the memory that this array does not have
    "CONTROL": LAYOUT["control"].index, "STATUS": LAYOUT["status"].index, "COMMAND": LAYOUT["command"].index,
    "WATCHDOG": LAYOUT["watchdog"].index, "CYCLES": LAYOUT["cycles"].index, "FEATURES": LAYOUT["features"].index,
    "BUILD": LAYOUT["build"].index, "BASES": COMMON, "LACKING": MEMORIES.index("entry"),
    "STALLS": LAYOUT["descriptor_stalls"].index - COMMON, "ABORTED": error_code("aborted"),
    "EXPIRED": error_code("watchdog"),
    **dict(zip(("ID", "VERSION", "SIZE", "FEATURE_BITS", "BUILD_HASH"), constants(BUS_ARRAY, BUS).values(),
               strict=True)),
}  # fmt: skip


def of(*names: str) -> tuple[Fault, ...]:
    """Faults of the table: all of a block, or BLOCK:KIND."""
    return tuple(fault for name in names for fault in FAULTS.values() if name in (fault.block, fault.name))


def reading(number: int) -> dict[str, int]:
    """The macros of a read port: bits of its words, bytes from one to the next, beats of one."""
    port = BUS_PORTS[number]
    return {"NUMBER": number, "WIDTH": port.width, "STRIDE": BUS.stride(port), "BEATS": -(-port.bytes // BUS.beat)}


CLAIMS = (
    Claim("scheduler", "bitvert", "scheduler.sv", of("scheduler", "priority_encoder"), 4, forever=True),
    Claim("priority encoders", "bitvert", "encoders.sv", of("priority_encoder")),
    Claim("column control", "bitvert", "control.sv", of("column_control"), 5),
    Claim("row operands", "bitvert", "operands.sv", of("row_operand", "activation_sum"), 3),
    Claim("sub-group", "bitvert", "subgroup.sv", of("subgroup", "multiplexer"), 3),
    *(
        Claim(
            f"columns {part + 1} of {COLUMNS}", "bitvert", "columns.sv", of("subgroup:dropped-carry", "multiplexer"), 2,
            cases=({"part": part},),
        )
        for part in range(COLUMNS)
    ),
    Claim("ones and zeros", "bitvert", "whole.sv", (), 4, forever=True),
    Claim(
        "constant multiplier", "bitvert", "constant.sv", of("constant_multiplier"),
        cases=tuple({"piece": piece, "high": high} for piece in range(8) for high in range(2)),
    ),
    Claim(
        "element's wires", "bitvert", "pe.sv",
        (
            Fault("pe", "swapped-halves", r"\.x\(x_low\)", ".x(x_high)"),
            Fault("pe", "swapped-sums", r"\.total\(sum_high\)", ".total(sum_low)"),
            Fault("pe", "stuck-high", r"\.high\(high\)", ".high(1'b0)"),
        ),
        3, macros={"PROVE_WIRES": 1},
    ),
    Claim("element's term", "bitvert", "pe.sv", of("pe", "align"), 2, macros={"PROVE_TERM": 1}, cut=HALVES),
    Claim(
        "element's sum", "bitvert", "pe.sv", of("accumulator"), 4, forever=True,
        macros={"PROVE_SUM": 1}, cut=("dut.increment",),
    ),
    Claim(
        "dense element's term", "dense", "dense_pe.sv",
        (*of("align"), Fault("dense_pe", "stuck-0", r"y5 = x\[[^\]]*\]", "y5 = 0")), 3, macros={"PROVE_TERM": 1},
    ),
    Claim(
        "dense element's sum", "dense", "dense_pe.sv", of("accumulator"), 4, forever=True,
        macros={"PROVE_SUM": 1}, cut=("dut.term",),
    ),
    Claim("bit-parallel element's term", "parallel", "parallel_pe.sv", of("byte_select", "parallel_pe"), 4),
    Claim("pairs' tables", "pairs", "pair_tables.sv", of("pair_tables"), 3),
    Claim("pairs' control", "pairs", "pairs_control.sv", of("pairs_control", "pick_lines", "constant_digit"), 5),
    Claim("pairs' picks", "pairs", "pair_column.sv", of("pair_choice"), macros={"PROVE_PICKS": 1}),
    Claim(
        "pairs' column", "pairs", "pair_column.sv", of("pair_column"), 2, macros={"PROVE_SUM": 1},
        cut=tuple(f"dut.y{pair}" for pair in range(8)),
    ),
    Claim(
        "pairs element's wires", "pairs", "pairs_pe.sv",
        (Fault("pairs_pe", "swapped-columns", r"every\[11:0\] = pair_column0", "every[11:0] = pair_column1"),),
        2, macros={"PROVE_WIRES": 1},
    ),
    Claim(
        "pairs element's value", "pairs", "pairs_pe.sv", of("slice_value"), macros={"PROVE_VALUE": 1},
        cut=("dut.every",),
    ),
    Claim(
        "pairs element's term", "pairs", "pairs_pe.sv", of("pairs_pe", "weighed_slice", "aligned_term"), 2,
        macros={"PROVE_TERM": 1}, cut=("dut.value",),
    ),
    Claim(
        "pairs element's sum", "pairs", "pairs_pe.sv", of("accumulator"), 4, forever=True, macros={"PROVE_SUM": 1},
        cut=("dut.increment",),
    ),
    Claim("slices", "pairs", "slices.sv", of("slice_count", "slice_places")),
    Claim(
        "roots and quotients", "units", "root.sv",
        (
            Fault("root_step", "off-by-one", r"wide\} << 2\) \+ 49'd1", "wide} << 2)"),
            Fault("root_step", "swapped-result", r"left = upper\[47:0\]", "left = rest"),
            Fault("root_step", "off-by-one-shift", r"rest\} << 1", "rest} << 2"),
        ),
    ),
    Claim(
        "normalizer's quotients", "units", "norm_root.sv",
        (
            Fault("norm_root", "overflowing", r"radicand\[63:48\] == 16'd0", "radicand[63:49] == 15'd0"),
            Fault("norm_root", "same-bits", r"\.pair\(radicand\[61:60\]\)", ".pair(radicand[63:62])"),
            Fault("norm_root", "half-divisor", r"wide << 1", "wide"),
        ),
        1,
    ),
    Claim(
        "normalizer's sums", "units", "norm_lane.sv",
        (
            Fault("norm_lane", "smallest", r"code > largest", "code < largest"),
            Fault("norm_lane", "stuck-sign", r"size2 = -value2", "size2 = value2"),
            Fault("norm_lane", "not-centred", r" - \$signed\(\{\{12\{centre2\[21\]\}\}, centre2\}\)", ""),
        ),
        1, free=("exponential", "norm_places", "norm_root"),
    ),
    Claim(
        "normalizer's results", "units", "norm_lane.sv",
        (
            Fault("norm_lane", "truncating", r"shifted \+ 63'sd1", "shifted"),
            Fault("norm_lane", "wrapping", r"if \(!halved\[62\] && .*\) begin", "if (1'b0) begin"),
        ),
        macros={"PROVE_RESULT": 1}, cut=("dut.product4", "dut.lifted4"),
        free=("exponential", "norm_places", "norm_root"),
    ),
    Claim(
        "normalizer's course", "units", "norm_control.sv",
        (
            Fault("norm_control", "half-octet", r"\(at_now\[2:0\] == 3'd7\) && ", ""),
            Fault("norm_control", "fillers", r"inside_signal = at_now < ", "inside_signal = at_now <= "),
            Fault("norm_control", "first-tile-only", r"fresh <= 1'b0", "fresh <= 1'b1"),
        ),
        4, forever=True,
    ),
    Claim(
        "normalizer's fields", "units", "normalizer.sv",
        (
            Fault("normalizer", "late-fields", r"high1 <= this_high", "high1 <= next_high"),
            Fault("normalizer", "swapped-index", r"\.octet\(operand\[127:64\]\)", ".octet(operand[63:0])"),
            Fault("normalizer", "one-too-many", r"read && !ends", "read"),
        ),
        5, cut=tuple(f"dut.norm_lane{row}.product4" for row in range(UNITS.rows)), macros=BANKS,
        free=("exponential", "norm_places", "norm_root"),
    ),
    *(
        Claim(
            f"requantizer's sum of {ARRAYS[design].accumulator_bits} bits", design, "requantizer.sv",
            of("requantizer:dropped-bias", "split:swapped-plane"), LATENCY,
            macros=REQUANTIZER | {"PROVE_SUM": 1, "ACCUMULATOR": ARRAYS[design].accumulator_bits},
        )
        for design in ("bitvert", "narrow")
    ),
    Claim(
        "requantizer's partial products", "bitvert", "requantizer.sv", of("multiplier_24:swapped-halves"), 2,
        macros=REQUANTIZER | {"PROVE_PARTS": 1},
    ),
    Claim(
        "requantizer's product", "bitvert", "requantizer.sv", of("multiplier_24:dropped-carry"), 2,
        macros=REQUANTIZER | {"PROVE_PRODUCT": 1}, cut=PARTS,
    ),
    Claim(
        "requantizer's rounding", "bitvert", "requantizer.sv",
        (
            *(fault for fault in of("requantizer", "rounding_shift") if fault.kind != "dropped-bias"),
            Fault("requantizer", "half-up", r"\(rest \|\| halves\[1\]\)", "1'b1"),
        ),
        4, macros=REQUANTIZER | {"PROVE_ROUNDING": 1, "SHIFTS": reference.MAX_SHIFT}, cut=("dut.product",),
        cases=tuple({"shift[5:3]": high} for high in range(reference.MAX_SHIFT // 8 + 1)),
    ),
    Claim(
        "banks' arbiter", "units", "arbiter.sv",
        (
            Fault("row_choice", "granted-twice", r"granted = pending\[(\d)\] && .*;", r"granted = pending[\1];"),
            Fault("row_choice", "unasked", r"granted = pending\[\d\] && ", "granted = "),
            Fault("row_choice", "starved", r"if \(pending\[i\] && ", "if ("),
            Fault("bank_choice", "swapped-line", r"\(24 \* i\) \+ 2 \+:", "(24 * i) + 1 +:"),
            Fault("bank_choice", "swapped-row", r"who = i\[1:0\]", "who = ~i[1:0]"),
        ),
        UNITS.rows, macros=BANKS,
    ),
    Claim(
        "banks' words", "units", "routes.sv",
        (
            Fault("gather", "unasked", r"if \(granted\[j\]\)", "if (1'b1)"),
            Fault("gather", "never-padded", r"if \(fresh\)", "if (1'b0)"),
            Fault("gather", "swapped-index", r"source = sources\[2 \* j", "source = sources[2 * (3 - j)"),
            Fault("spread", "swapped-index", r"row = chosen\[2 \* b", "row = chosen[2 * (3 - b)"),
        ),
        macros=BANKS,
    ),
    Claim(
        "bank", "bank", "bank.sv",
        (
            Fault("bank", "swapped-byte", r"write_data\[15:8\]", "write_data[23:16]"),
            Fault("bank", "unmasked", r"if \(mask\[2\]\)", "if (1'b1)"),
            Fault("bank", "swapped-line", r"memory\[read_line\]", "memory[read_line ^ 1]"),
        ),
        4, forever=True,
    ),
    Claim(
        "row's windows", "maps", "windows.sv",
        (
            Fault("lane", "never-wraps", r"window >= wrap_from", "1'b0"),
            Fault("lane", "stuck", r"else if \(advance\)", "else if (1'b1)"),
            Fault("in_map", "padding", r"place < size", "place <= size"),
        ),
        1, macros=TWO, cases=tuple({"few": few} for few in range(3)),
    ),
    Claim(
        "walks over windows", "maps", "walker.sv",
        (
            Fault("walker", "late-end", r"\+ 17'd1\) >=", "+ 17'd1) >"),
            Fault("walker", "swapped-ways", r"\.wrap_word\(over_word\)", ".wrap_word(tile_word)"),
        ),
        3, forever=True, macros=TWO,
    ),
    Claim(
        "two walkers", "maps", "walkers.sv",
        (
            Fault("walkers", "disturbed", r"restart0 = job && !begun && second", "restart0 = job && !begun"),
            Fault("walkers", "swapped-windows", r"addresses = places1", "addresses = places0"),
            Fault("walkers", "begun-twice", r"begun <= 1'b1", "begun <= 1'b0"),
        ),
        3, forever=True, macros=TWO, free=("walker",),
    ),
    Claim(
        "store's words", "maps", "store.sv",
        (
            Fault("store", "hasty", r"load = at_hand && free", "load = at_hand"),
            Fault("store", "taken-twice", r"remaining = pending & ~granted", "remaining = pending"),
            Fault("store", "late-mask", r"write_mask <= mask", "write_mask <= write_mask"),
        ),
        1, macros=TWO | {"PROVE_WORDS": 1}, free=("walkers", "collect"),
    ),
    Claim(
        "store's entries", "maps", "store.sv",
        (
            Fault("store", "too-soon", r"staged > 3'd1", "staged > 3'd0"),
            Fault("store", "no-rewind", r"entries_left == 16'd1", "1'b0"),
            Fault("store", "early-report", r"flushing && free", "flushing"),
        ),
        6, forever=True, macros=TWO,
        free=("walkers", "collect"),
    ),
    Claim(
        "fetched words", "maps", "fetch.sv",
        (
            Fault("fetch", "late-padding", r"pad2 <= pad1", "pad2 <= pad"),
            Fault("fetch", "early", r"last2 <= ends1", "last2 <= valid1"),
            Fault("fetch", "overtaken", r"settled = .*;", "settled = 1'b1;"),
        ),
        7, forever=True, macros=TWO | {"PROVE_WORDS": 1}, free=("walkers",),
    ),
    Claim(
        "fetch's taps", "maps", "fetch.sv",
        (
            Fault("fetch", "no-filler", r"filling \|\| \(taps_end && !fills\)", "filling || taps_end"),
            Fault("fetch", "hasty", r"behind == 8'd1", "1'b1"),
        ),
        5, forever=True, macros=TWO, free=("walkers",),
    ),
    Claim(
        "collected channels", "collect", "collect.sv",
        (
            Fault("channel_place", "other-lane", r"lane = column", "lane = ~column"),
            Fault("channel_word", "never-zero", r"if \(!zero && ", "if ("),
            Fault("collect", "stuck-slot", r"slot <= slot .*;", "slot <= slot;"),
        ),
        5, forever=True, macros=COLLECT,
    ),
    Claim(
        "tables", "tables", "tables.sv",
        (
            Fault("lookup", "swapped-index", r"result\[7:3\]", "result[6:2]"),
            Fault("tables", "stuck", r"number <= number \+ 5'd1", "number <= number"),
        ),
        4, forever=True, macros=TWO,
    ),
    Claim(
        "terms of products", "units", "product_terms.sv",
        (
            Fault("product_terms", "no-zero", r"\{14'd0, following\} - .*;", "{14'd0, following};"),
            Fault("product_terms", "no-offset", r"part\[31 - 2\] <= 1'b1", "part[31 - 2] <= 1'b0"),
            Fault("product_terms", "stuck-sign", r"left = 9'd0 - ", "left = "),
        ),
        1,
    ),
    *(
        Claim(
            f"post-processing's sums of {ARRAYS[design].accumulator_bits} bits", design, "post_channel.sv",
            (
                Fault("post_channel", "minimum", r"part\[7:0\] > ", "part[7:0] < "),
                Fault("post_channel", "never-first", r"else if \(first\)", "else if (1'b0)"),
                *more,
            ),
            1, macros={"BITS": ARRAYS[design].accumulator_bits, design.upper(): 1},
        )
        for design, more in (
            ("maps", [Fault("post_channel", "dropped-factor", r"x \* factor", "x * (factor | 1)")]),
            ("units", [Fault("post_channel", "stuck-sign", r"\{2\{part\[30\]\}\}", "2'd0")]),
        )
    ),
    Claim(
        "post-processing's operands", "maps", "post.sv",
        (
            Fault("post", "swapped-factors", r"factor <= low1", "factor <= high1"),
            Fault("post", "swapped-index", r"x\(octets2\[79:72\]\)", "x(octets2[71:64])"),
        ),
        5, macros=TWO | {"BITS": 24}, cut=tuple(f"dut.post_channel{channel}.part" for channel in range(16)),
    ),
    Claim(
        "post-processing's operands beside units", "units", "post.sv",
        (
            Fault("signs", "late", r"multiplies <= product1", "multiplies <= this_product"),
            Fault("post", "added-to", r"valid4 && !holds4", "valid4"),
        ),
        5, macros=BANKS | {"BITS": 32, "UNITS": 1}, free=("product_terms",),
    ),
    Claim(
        "maps as weights", "units", "octets.sv",
        (
            Fault("operand_column", "unsigned", r"pixels \^ 64'h8080808080808080", "pixels"),
            Fault("operands", "too-soon", r"\(at_hand == 2'd1\) && !filled", "(at_hand == 2'd1)"),
            Fault("operands", "overtaking", r"\(filled && \(flying == 17'd0\)\)", "filled"),
        ),
        5, forever=True, macros=BANKS,
    ),
    Claim("buffer", "stream 1", "ram.sv", of("ram"), 6, forever=True, macros={"WIDTH": BEAT}),
    *(
        Claim(
            f"stream of {beats} beats a word", f"stream {beats}", "stream.sv",
            (
                *of("stream", "ram"),
                Fault("stream", "overfull", r"!full", "1'b1"),
                Fault("stream", "too-soon", r"following != head", "1'b1"),
                Fault("stream", "never-full", r"full <= fills", "full <= 1'b0"),
                Fault("stream", "dropped-request", r"\(!halt \|\| waiting\)", "!halt"),
            ),
            5 + DEPTH * beats, forever=True,
            macros={"WIDTH": BEAT * beats, "BEAT": BEAT, "BEATS": beats, "DEPTH": DEPTH, f"BEATS_{beats}": 1},
        )
        for beats in (1, 2)
    ),
    *(
        Claim(
            f"{design} compute controller's reading", design, "sequencer.sv",
            (
                Fault("sequencer", "impatient", r"\(weight_ready \|\| weightless\)", "1'b1"),
                Fault("sequencer", "let-go", r"activation_release = !held", "activation_release = 1'b1"),
            ),
            macros={design.upper(): 1},
        )
        for design in ("bitvert", "dense", "pairs")
    ),
    Claim(
        "post-processing's words", "bitvert", "steps.sv", (Fault("sequencer", "hasty", r" && !paused", ""),), 5
    ),
    Claim(
        "drain controller's reading", "bitvert", "drain_control.sv",
        (
            *of("drain_control:stuck-capture"),
            Fault("drain_control", "impatient", r"parameter_ready && index_ready", "parameter_ready"),
        ),
        macros={"LANES": ARRAYS["bitvert"].lanes},
    ),
    *(
        Claim(
            name, design, "write_back.sv",
            (
                Fault("write_back", "impatient", r"moves = \(output_ready \|\| \(shown == .*?0\)\)", "moves = 1'b1"),
                Fault("write_back", "overfull", r"!held", "1'b1"),
                Fault("write_back", "taken-twice", r"output_valid = \d'[bd]0;", "output_valid = shown;"),
            ), 3,
            macros={
                "LANES": ARRAYS[design].lanes, "ROWS": ARRAYS[design].rows, "SETTINGS": settings,
                "RESULTS": ARRAYS[design].lanes * ARRAYS[design].rows * ARRAYS[design].accumulator_bits,
            },
        )
        for name, design, settings in (("output port", "narrow", 25), ("output port beside maps", "maps", 28))
    ),
    Claim(
        "dispatcher", "bitvert", "dispatcher.sv",
        (*of("dispatcher"), Fault("dispatcher", "deaf", r"&& !failed", "&& 1'b1")), 8, forever=True,
    ),
    Claim(
        "AXI registers' channels", "axi", "axi_lite.sv",
        (
            Fault("axi_lite", "forgotten-response", r"else if \(bready\)", "else if (1'b1)"),
            Fault("axi_lite", "late-word", r"rdata <= read_data", "rdata <= rdata"),
            Fault("axi_lite", "hasty", r"!take && !answered", "!take"),
        ),
        5, forever=True,
    ),
    Claim(
        "AXI registers' values", "axi", "axi_control.sv",
        (
            Fault("axi_register", "any-strobe", r"if \(strobe\[1\]\)", "if (1'b1)"),
            Fault("axi_register", "unaligned", r"data\[15:8\] & 8'd240", "data[15:8]"),
            Fault("axi_control", "swapped-places", r"every\[191:160\] = command", "every[191:160] = limit"),
            Fault("axi_control", "any-place", r"chosen\[i\] = write &&.*;", "chosen[i] = write;"),
        ),
        3, forever=True, macros=REGISTERS | {"PROVE_REGISTERS": 1},
    ),
    Claim(
        "AXI runs", "axi", "axi_control.sv",
        (
            Fault("axi_control", "started-twice", r"write_data\[0\] && !running", "write_data[0]"),
            Fault("axi_control", "started-while-stopping", r"&& !stops;", ";"),
            Fault("axi_control", "early", r"\(finishing && written\)", "(finishing)"),
            Fault("axi_control", "late-watchdog", r"cycles >= ", "cycles > "),
            Fault("axi_control", "deaf", r"if \(aborts \|\| expires\) begin\s+stops", "if (expires) begin stops"),
            Fault("axi_control", "forgotten-reads", r"settled && \(pending == 32'd0\)", "settled"),
            Fault("axi_control", "hasty", r"\(settled && ", "("),
            Fault("axi_control", "always-on", r"irq = ended && enabled", "irq = ended"),
        ),
        6, forever=True, macros=REGISTERS | {"PROVE_RUN": 1},
    ),
    Claim(
        "AXI counters", "axi", "axi_control.sv",
        (
            Fault("axi_counter", "never-cleared", r"if \(clear\)", "if (1'b0)"),
            Fault("axi_control", "end-not-counted", r"storing\[6\] = 1'b1", "storing[6] = stalled[6]"),
        ),
        5, forever=True, macros=REGISTERS | {"PROVE_COUNTERS": 1},
    ),
    Claim(
        "AXI waits", "axi", "axi_wait.sv",
        (
            Fault("axi_wait", "one-too-many", r"en && ready && !valid", "en && ready"),
            Fault("axi_wait", "forgotten-words", r"\(due != 16'd0\)", "1'b0"),
            Fault("axi_wait", "taken-ones", r"\(en && !ready\)", "en"),
        ),
        5, forever=True,
    ),
    Claim(
        "AXI read addresses", "axi", "axi_requests.sv",
        (
            Fault("axi_requests", "impatient", r"\(!shown \|\| arready\);", "1'b1;"),
            Fault("axi_requests", "other-base", r"picked == i\[2:0\]", "choice == i[2:0]"),
            Fault("axi_requests", "no-offset", r"picked_base \+ picked_offset", "picked_base"),
        ),
        5, forever=True, macros={"PORTS": len(BUS_PORTS) - 1},
    ),
    Claim(
        "AXI writes", "axi", "axi_write.sv",
        (
            Fault("axi_write", "impatient", r"\(!address_shown \|\| awready\)", "1'b1"),
            Fault("axi_write", "early", r"&& \(outstanding == 8'd0\)", "&& 1'b1"),
            Fault("axi_write", "full-too-soon", r"full <= fills", "full <= 1'b1"),
            Fault("axi_write", "over-the-page", r"&& open_page", "&& 1'b1"),
            Fault("axi_write", "one-beat", r"length <= all_beats\[7:0\] - 8'd1", "length <= 0"),
        ),
        6, forever=True,
        macros={
            "LANES": BUS_ARRAY.lanes, "ROWS": BUS_ARRAY.rows, "STRIDE": BUS.stride(BUS_PORTS[-1]),
            "MOST": BUS.together(BUS_PORTS[-1]),
        },
    ),
    Claim(
        "AXI words ahead", "ahead", "axi_ahead.sv",
        (
            *of("ram:no-bypass", "stream:off-by-one"),
            Fault("stream", "overfull", r"!full", "1'b1"),
            Fault("axi_ahead", "lost-request", r"accepted = passes", "accepted = wants"),
            Fault("axi_ahead", "lost-job", r"\(!offered \|\| free\)", "1'b1"),
            Fault("axi_ahead", "never-shut", r"\(!closed \|\| ", "(1'b1 || "),
            Fault("axi_ahead", "hasty", r"here <= 3'd2", "here <= 3'd3"),
            Fault("axi_ahead", "stuck", r"\(!closed \|\| failed\)", "!closed"),
            Fault("axi_ahead", "deaf", r"halt = .*;", "halt = 1'b0;"),
            Fault("axi_ahead", "early", r"shown <= takes", "shown <= en"),
            Fault("axi_ahead", "taken-twice", r"takes = en && words_ready", "takes = en"),
        ),
        13, forever=True,
        macros={"WIDTH": BEAT, "DEPTH": DEPTH, "JOBS": JOBS, "TOGETHER": TOGETHER},
    ),
    Claim(
        "AXI bursts", "axi", "axi_read.sv",
        (
            Fault("axi_read", "over-the-page", r"&& open_page", "&& 1'b1"),
            Fault("axi_read", "any-address", r"\(addr == following\)", "1'b1"),
            Fault("axi_read", "any-identifier", r"rvalid && \(rid == .*\)", "rvalid"),
            Fault("axi_read", "lost-beat", r"mine && \(received == .*\)", "mine"),
        ),
        6, forever=True, macros=reading(3) | {"MOST": BUS.burst // reading(3)["BEATS"]},
    ),
    Claim(
        "AXI bursts of padded words", "axi", "axi_read.sv",
        (
            Fault("axi_read", "padding", r"all_beats\[7:0\] - 8'd1", "all_beats[7:0]"),
            Fault("axi_read", "two-words", r"&& !full", "&& 1'b1"),
        ),
        6, forever=True, macros=reading(0) | {"PADDED": 1, "MOST": 1},
    ),
)  # fmt: skip
