"""Every block in MyHDL's simulator against its model or plain arithmetic, extremes included."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.compression.encoding import decode_layer
from flow.compression.prune import prune
from flow.hardware.config import PE_KINDS, ArrayConfig
from flow.hardware.conversion.bundles import gathered
from flow.hardware.core.bundles import CheckedFields, Reader
from flow.hardware.core.guard import first_error, guard
from flow.hardware.core.ram import ram
from flow.hardware.core.stream import stream
from flow.hardware.core.write_back import unshuffle
from flow.hardware.elements.activation_sum import row_operand
from flow.hardware.elements.bundles import ColumnControl, DrainPort, RowOperands
from flow.hardware.elements.dense_pe import dense_pe
from flow.hardware.elements.pe import column_sum, pe
from flow.hardware.elements.scheduler import NOTHING, schedule_subgroup, scheduler
from flow.hardware.fields import DESCRIPTOR, ERRORS, MINUS_OFFSET, PRODUCT_OFFSET, error_code
from flow.hardware.interface import ERROR_BITS, ReadPort
from flow.hardware.maps.bundles import PostWork, TableWork
from flow.hardware.maps.collect import channel_place
from flow.hardware.maps.post import post
from flow.hardware.maps.tables import tables
from tests.helpers.clocking import Bench, packed, reset, signed, wire


@contextmanager
def bench(block: Any, clk: Any) -> Iterator[Bench]:
    made = Bench(block, clk)
    try:
        yield made
    finally:
        made.close()


# -------------------------------------------------------------------------------- guard
def right_descriptor(config: ArrayConfig) -> dict[str, int]:
    """The fields the guard looks at, of a block of three tiles, five steps and four columns."""
    return {
        "tiles": 3, "steps": 5, "columns": 4, "channels": 3, "hold": 0, "ahead": 0, "resident": 1, "weight_count": 20,
        "metadata_count": 3 if config.element.encoded else 0, "activation_count": 15 * config.beats,
        "parameter_count": -(-3 // config.lanes),
    }  # fmt: skip


@pytest.mark.parametrize("kind", [*PE_KINDS, "tables", "normalizer"])
def test_guard_is_its_model(kind: str) -> None:
    """Descriptors a cycle apart, most with fields off by one, doubled or at their ends: the first error's code."""
    config = ArrayConfig(
        2, 5, kind if kind in PE_KINDS else "bitvert", drain=3, weight_depth=32, metadata_depth=4, activation_depth=16
    )
    widths = dict(DESCRIPTOR) | {"post": 1, "entry_count": 16}
    right = right_descriptor(config) | {"post": 0, "entry_count": 0}
    if kind == "tables":
        config, widths, right = config.with_maps(64, True), widths | {"fill": 1}, right | {"fill": 0}
    if kind == "normalizer":
        config, own = config.with_maps(64, normalizer=True), {"constants": 1}
        widths, right = widths | own, right | {"constants": 0}
    assert first_error(right, config) == "none"
    clk, start, count, valid, error, failed = wire(), wire(), wire(16), wire(), wire(ERROR_BITS), wire()
    fields = {name: wire(widths[name]) for name in right}
    rng = np.random.default_rng(7)
    seen = set()
    with bench(guard(clk, reset(), start, count, valid, CheckedFields(**fields), error, failed, config), clk) as b:
        for _ in range(120):
            start.next, count.next = 1, 3
            b.step()
            start.next = 0
            assert int(error) == 0 and not failed
            wanted, before = "none", None
            for _ in range(3):
                hold, given = int(rng.integers(2)), before is not None and (before["hold"] or before["ahead"])
                drawn = right | {"hold": hold, "ahead": int(given and not hold and rng.integers(2))}
                if given and not drawn["ahead"]:
                    drawn["activation_count"] = 0
                for name in rng.choice(list(right), int(rng.integers(0, 3)), replace=False):
                    top = 2 ** widths[name] - 1
                    drawn[name] = int(rng.choice([0, 1, right[name] - 1, right[name] + 1, 2 * right[name], top]))
                    drawn[name] = min(max(drawn[name], 0), top)
                wanted = wanted if wanted != "none" else first_error(drawn, config, before)
                before = drawn
                valid.next = 1
                for name, value in drawn.items():
                    fields[name].next = value
                b.step()
            valid.next = 0
            b.step(2)
            assert int(error) == error_code(wanted) and bool(failed) == (wanted != "none")
            seen.add(wanted)
        start.next, count.next = 1, 0
        b.step()
        assert int(error) == error_code("command") and failed
    assert seen == {name for name, _ in ERRORS} - {"command", "aborted", "watchdog"}  # the host's


def test_a_table_is_one_word_more_than_it_has() -> None:
    """A descriptor that fills has a word of parameters for eight bytes, and one more; another one eight channels."""
    config = ArrayConfig(2, 5, drain=3).with_maps(64, True)
    assert config.lanes == 2
    fills = right_descriptor(config) | {"post": 1, "fill": 1, "weight_count": 0, "metadata_count": 0, "columns": 1}
    fills |= {"channels": 66, "parameter_count": 33}
    assert first_error(fills, config) == "none"
    assert first_error(fills | {"channels": 67, "parameter_count": 34}, config) == "channels"
    assert first_error(fills | {"fill": 0}, config) == "channels"
    constants = fills | {"fill": 0, "constants": 1, "channels": 514, "parameter_count": 257}
    assert first_error(constants, config) == "none"
    assert first_error(constants | {"channels": 515, "parameter_count": 258}, config) == "channels"


# -------------------------------------------------------------------------------- tables
@pytest.mark.parametrize("lanes", [1, 3, 10])
def test_tables_are_filled_and_looked_up(lanes: int) -> None:
    """One after the other, with pauses between the words; only the low byte changes, and only of what goes through."""
    rows, bits = 2, 24
    clk, fill, through, read, ends, word = wire(), wire(), wire(), wire(), wire(), wire(64)
    sums, results = wire(bits * rows * lanes), wire(bits * rows * lanes)
    rng, work = np.random.default_rng(lanes), TableWork(fill, through)
    with bench(tables(clk, reset(), work, read, ends, word, sums, results, rows, lanes, bits), clk) as b:
        for _ in range(3):
            codes = rng.integers(0, 256, 256)
            shown = 0
            for number in range(33):
                fill.next, read.next, ends.next, word.next = 1, 1, number == 32, shown
                b.step()
                shown = packed(codes[8 * number : 8 * number + 8]) if number < 32 else packed([0xEE] * 8)
                for _ in range(int(rng.integers(0, 3))):  # its words wait for their reader, and others read theirs
                    read.next, ends.next, word.next = 0, 0, shown
                    b.step()
            fill.next, through.next = 0, 1
            for _ in range(20):
                drawn = rng.integers(0, 256, rows * lanes)
                read.next, ends.next, word.next = int(rng.integers(0, 2)), int(rng.integers(0, 2)), packed([0xDD] * 8)
                sums.next, through.next = packed(drawn, bits), 1
                b.step()
                used = rows * min(lanes, 8)
                assert int(results) == packed([*codes[drawn[:used]], *[0] * (rows * lanes - used)], bits)
                whole = rng.integers(0, 1 << bits, rows * lanes)
                sums.next, through.next = packed(whole, bits), 0
                b.step()
                assert int(results) == packed([*whole[:used], *[0] * (rows * lanes - used)], bits)


# -------------------------------------------------------------------------------- post-processing
WAYS = ("sum", "maximum", "product", "minus")


def of_a_step(way: str, factors: tuple[int, int], low: int, high: int) -> int:
    """What a step adds to a channel, as docs/numbers.md has it."""
    (f, g) = factors
    return {
        "sum": f * low + g * high, "maximum": max(low, high), "minus": f * low - g * high + MINUS_OFFSET,
        "product": (low - f % 256) * (high - g % 256) + PRODUCT_OFFSET,
    }[way]  # fmt: skip


@pytest.mark.parametrize(("lanes", "products", "accumulator"), [(2, False, 32), (3, True, 32), (8, True, 31)])
def test_post_adds_both_octets_of_every_step(lanes: int, products: bool, accumulator: int) -> None:
    """Blocks of every way after each other one, of the smallest, the largest and drawn operands, with any stalls.

    As the sequencer has it: a step is followed by a pause, in which its word holds, and by any word in the next cycle.
    """
    rows, rng, most = 2, np.random.default_rng(6), (1 << 21) - 1
    clk, enable, valid, first, load, capture, drain = (wire() for _ in range(7))
    word, results = wire(128 * rows), wire(accumulator * rows * lanes)
    work = PostWork(wire(), wire(), wire(21), wire(21), *((wire(), wire()) if products else (None, None)))
    design = post(
        clk, reset(), enable, work, valid, first, load, word, capture, drain, results, None, rows, lanes, accumulator
    )  # fmt: skip
    ways = [way for way in WAYS if products or way in ("sum", "maximum")]
    due: list[tuple[int, list[int]]] = []  # the cycles that are enabled until a tile's totals are there, and these
    with bench(design, clk) as b:

        def cycle(*, valid_: bool = False, first_: bool = False, load_: bool = False) -> None:
            while True:
                moves = bool(rng.integers(0, 4))
                enable.next, valid.next, first.next, load.next = moves, valid_, first_, load_
                b.step()
                work.take.next = False
                if moves:
                    break
            due[:] = [(left - 1, totals) for left, totals in due]
            if due and due[0][0] == 0:
                check(due.pop(0)[1])

        def check(totals: list[int]) -> None:
            """Captured, and drained lane by lane; the array stands still meanwhile, as it may."""
            enable.next, capture.next = False, True
            b.step()
            capture.next, drain.next = False, True
            for lane in range(0, 8, lanes):
                of_lanes = [[*totals[8 * r : 8 * r + 8], *[0] * lanes][lane : lane + lanes] for r in range(rows)]
                assert int(results) == packed(np.array(of_lanes).T.flatten(), accumulator)
                b.step()
            drain.next = False

        for number in range(16):
            way = ways[number % len(ways)] if number % 2 else ways[int(rng.integers(0, len(ways)))]
            steps = 1 if way in ("product", "minus") else int(rng.integers(1, 4))
            room = most if steps == 1 else most // 4
            f, g = (int(each) for each in rng.choice([0, room, int(rng.integers(0, room))], 2))
            work.take.next, work.maximum.next = True, way == "maximum"
            work.factor_low.next, work.factor_high.next = f, g
            if products:
                work.product.next, work.minus.next = way == "product", way == "minus"
            for _ in range(2):
                cycle()
            for _ in range(int(rng.integers(1, 4))):
                octets = rng.choice([0, 255, *rng.integers(0, 256, 6)], (steps, 2, rows * 8))
                made = np.array([[of_a_step(way, (f, g), *map(int, pair)) for pair in step.T] for step in octets])
                totals = [int(each) for each in (made.max(axis=0) if way == "maximum" else made.sum(axis=0))]
                for step in range(steps):
                    word.next = packed(octets[step].flatten())
                    cycle(valid_=True, first_=step == 0, load_=True)
                    if step == steps - 1:
                        due.append((4, totals))
                    cycle()
                    word.next = packed(rng.integers(0, 256, 16 * rows))
                    for _ in range(int(rng.integers(0, 3))):
                        cycle()
        for _ in range(6):
            cycle()
        assert not due


# -------------------------------------------------------------------------------- scheduler
def test_scheduler_selects_every_pending_bit_once_for_all_columns() -> None:
    clk, enable, bits, choice, invert = wire(), wire(1, 1), wire(8), wire(12), wire()
    with bench(scheduler(clk, enable, bits, choice, invert), clk) as b:
        for value in range(256):
            bits.next = value
            b.step()
            codes = [int(choice) >> (3 * lane) & 7 for lane in range(4)]
            assert (tuple(codes), bool(invert)) == schedule_subgroup(value)
            taken = [lane + code for lane, code in enumerate(codes) if code != NOTHING]
            wanted = value ^ 0xFF if value.bit_count() > 4 else value
            assert all(code <= 4 or code == NOTHING for code in codes)
            assert sorted(taken) == [i for i in range(8) if wanted >> i & 1]
            assert bool(invert) == (value.bit_count() > 4)
        enable.next = 0
        bits.next = 0
        b.step()
        assert int(choice) == packed(codes, 3)


@given(st.integers(0, 255), st.lists(st.integers(0, 255), min_size=8, max_size=8))
def test_the_model_of_a_column_is_its_sum(bits: int, x: list[int]) -> None:
    assert column_sum(bits, x) == sum(value for i, value in enumerate(x) if bits >> i & 1)


# -------------------------------------------------------------------------------- channels of a tile
@pytest.mark.parametrize("lanes", [1, 2, 3, 4, 6, 8])
def test_a_column_is_in_the_lane_and_at_the_place_that_it_left(lanes: int) -> None:
    columns = 8
    slots = -(-columns // lanes)
    slot_bits = max(1, (slots - 1).bit_length())
    least, column, place, lane = wire(2 + slot_bits), wire(6), wire(2 + slot_bits), wire(6)
    with bench(channel_place(least, column, place, lane, lanes, slots), None) as b:
        for number in range(columns):
            least.next, column.next = 3 << slot_bits, number
            b.step()
            assert (int(place) - int(least), int(lane)) == divmod(number, lanes)


# -------------------------------------------------------------------------------- operands
@pytest.mark.parametrize("fill", [0, 255, None])
def test_row_operand_sums_its_activations(fill: int | None) -> None:
    clk, enable, load, word = wire(), wire(1, 1), wire(1, 1), wire(128)
    outs = [wire(64), wire(64), wire(11), wire(11), wire(12)]
    rng, before = np.random.default_rng(1), (0, 0, 0, 0, 0)
    with bench(row_operand(clk, enable, load, word, RowOperands(*outs)), clk) as b:
        for _ in range(5):
            x = rng.integers(0, 256, 16) if fill is None else np.full(16, fill)
            word.next = packed(x)
            load.next = 1
            b.step()
            load.next = 0
            word.next = 0
            want = (packed(x[:8]), packed(x[8:]), x[:8].sum(), x[8:].sum(), x.sum())
            for shown in (before, (*want[:2], *before[2:]), want, want):
                enable.next = 0
                b.step(2)  # edges that do not count
                assert tuple(int(out) for out in outs) == shown
                enable.next = 1
                b.step()
            before = want


# -------------------------------------------------------------------------------- processing elements
class PeBench:
    """A BitVert PE with the operands its array column and row would give it, for one tile of groups."""

    BITS = 32

    def __init__(self) -> None:
        self.clk = wire()
        self.one = {name: wire() for name in ("enable", "valid", "first", "negative", "high", "scale_high")}
        self.one |= {name: wire() for name in ("capture", "drain", "invert_low", "invert_high", "coarse")}
        widths = {"x_low": 64, "x_high": 64, "sum_low": 11, "sum_high": 11, "sum_all": 12}
        widths |= {"select_low": 12, "select_high": 12, "piece": 3, "fine": 2}
        self.wide = {name: wire(width) for name, width in widths.items()}
        self.behind, self.result = wire(self.BITS), wire(self.BITS)
        ports = {**self.one, **self.wide, "behind": self.behind, "result": self.result}
        bundles: dict[str, type[Any]] = {"row": RowOperands, "column": ColumnControl, "port": DrainPort}
        made = {name: gathered(bundle, ports) for name, bundle in bundles.items()}
        single = {name: ports[name] for name in ("enable", "valid", "first", "negative")}
        self.bench = Bench(pe(clk=self.clk, **single, **made, bits=self.BITS), self.clk)

    def _set(self, **values: int) -> None:
        for name, value in values.items():
            (self.one[name] if name in self.one else self.wide[name]).next = value

    def dot(self, kept: np.ndarray, redundant: list[int], constant: list[int], columns: int, x: np.ndarray) -> int:
        """kept [groups * 32] of `columns` bits, r and d per group, x unsigned bytes [groups * 32]."""
        stages: tuple[list[dict[str, int]], ...] = [], [], []
        for step in range(len(kept) // 16):
            part, group = slice(16 * step, 16 * step + 16), step // 2
            halves = x[part][:8], x[part][8:]
            for column in range(columns):
                bits = [int(w) >> (columns - 1 - column) & 1 for w in kept[part]]
                codes, inverts = zip(*(schedule_subgroup(packed(bits[i : i + 8], 1)) for i in (0, 8)), strict=True)
                d, shift = constant[group] & 63, 7 - column - redundant[group]
                stages[0].append({
                    "enable": 1, "x_low": packed(halves[0]), "x_high": packed(halves[1]),
                    "select_low": packed(codes[0], 3), "select_high": packed(codes[1], 3),
                })  # fmt: skip
                stages[1].append({
                    "sum_low": int(halves[0].sum()), "sum_high": int(halves[1].sum()), "sum_all": int(x[part].sum()),
                    "invert_low": int(inverts[0]), "invert_high": int(inverts[1]), "high": int(column == 1),
                    "piece": (d & 7, d >> 3)[column] if column < 2 else 0, "fine": shift & 3,
                })  # fmt: skip
                stages[2].append({
                    "valid": 1, "first": int(step == column == 0), "negative": int(column == 0),
                    "scale_high": int(column == 1), "coarse": shift >> 2,
                })  # fmt: skip
        for now in zip([*stages[0], {}, {}], [{}, *stages[1], {}], [{}, {}, *stages[2]], strict=True):
            self._set(**now[0], **now[1], **now[2])
            self.bench.step()
        self._set(valid=0, capture=1)
        self.bench.step()
        self._set(capture=0)
        return signed(int(self.result), self.BITS)


@contextmanager
def processing_element() -> Iterator[PeBench]:
    """MyHDL takes one simulation at a time: every check has a PE of its own."""
    made = PeBench()
    try:
        yield made
    finally:
        made.bench.close()


EXTREME = {
    "all -128": np.full((1, 32), -128, np.int8),
    "all 127": np.full((1, 32), 127, np.int8),
    "alternating": np.tile(np.array([-128, 127], np.int8), 16)[None],
    "zero": np.zeros((1, 32), np.int8),
}


@pytest.mark.parametrize("n", range(7))
@pytest.mark.parametrize("weights", EXTREME.values(), ids=EXTREME.keys())
def test_pe_is_a_dot_product_at_the_extremes(weights: np.ndarray, n: int) -> None:
    for fill in (0, 255):
        _check_pe(weights, n, np.full(weights.size, fill))


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(0, 6), groups=st.integers(1, 3))
def test_pe_is_a_dot_product(seed: int, n: int, groups: int) -> None:
    rng = np.random.default_rng(seed)
    spread = int(rng.choice([2, 20, 128]))
    weights = rng.integers(-spread, spread, (1, 32 * groups)).astype(np.int8)
    _check_pe(weights, n, rng.integers(0, 256, weights.size))


def _check_pe(weights: np.ndarray, n: int, x: np.ndarray) -> None:
    encoded, pruned = prune(weights, np.array([n]), "optimal")
    groups = encoded.parts[0].groups
    shifts, constants = groups.redundant.tolist(), groups.constant.tolist()
    with processing_element() as element:
        got = element.dot(groups.kept.reshape(-1), shifts, constants, 8 - n, x.astype(np.int64))
    assert np.array_equal(decode_layer(encoded), pruned)
    assert got == int((pruned[0].astype(np.int64) * x).sum())


@pytest.mark.parametrize("r", range(4))
@pytest.mark.parametrize("d", [-32, -31, -1, 0, 1, 7, 8, 31])
def test_pe_takes_every_shift_and_constant(r: int, d: int) -> None:
    rng = np.random.default_rng(100 * r + d + 32)
    kept = rng.integers(-4, 4, 32).astype(np.int8)  # N = 5: three columns
    x = rng.integers(0, 256, 32)
    with processing_element() as element:
        got = element.dot(kept, [r], [d], 3, x)
    assert got == int((((kept.astype(np.int64) << (5 - r)) + d) * x).sum())


def test_result_registers_drain() -> None:
    with processing_element() as element:
        element.behind.next = 0xDEADBEEF
        element.one["drain"].next = 1
        element.bench.step()
        assert int(element.result) == 0xDEADBEEF


@pytest.mark.parametrize("fill", [-128, 127, None])
def test_dense_pe_is_a_dot_product(fill: int | None) -> None:
    names = ("enable", "valid", "first", "negative", "coarse", "capture", "drain")
    clk, flags = wire(), {name: wire() for name in names}
    x, bits_in, fine, behind, result = wire(64), wire(8), wire(2), wire(32), wire(32)
    port = DrainPort(flags["capture"], flags["drain"], behind, result)
    controls = {name: flags[name] for name in ("enable", "valid", "first", "negative", "coarse")}
    made = dense_pe(clk=clk, x=x, bits_in=bits_in, fine=fine, port=port, bits=32, **controls)
    rng = np.random.default_rng(3)
    weights = rng.integers(-128, 128, 24) if fill is None else np.full(24, fill)
    values = rng.integers(0, 256, 24) if fill is None else np.full(24, 255)
    with bench(made, clk) as b:
        flags["enable"].next = 1
        for edge in range(26):  # column `edge` at stage 2, the one before at stage 3, the one before that at stage 4
            part, column = slice(edge // 8 * 8, edge // 8 * 8 + 8), edge % 8
            if edge < 24:
                x.next = packed(values[part])
                bits_in.next = packed([int(w) >> (7 - column) & 1 for w in weights[part]], 1)
            fine.next = (7 - (edge - 1) % 8) & 3
            flags["valid"].next = int(edge >= 2)
            flags["first"].next = int(edge == 2)
            flags["negative"].next = int((edge - 2) % 8 == 0)
            flags["coarse"].next = (7 - (edge - 2) % 8) >> 2
            b.step()
        flags["valid"].next = 0
        flags["capture"].next = 1
        b.step()
        assert signed(int(result), 32) == int((weights * values).sum())


# -------------------------------------------------------------------------------- memories
def test_ram_reads_what_was_written_even_at_once() -> None:
    clk, write, read = wire(), wire(), wire()
    write_addr, read_addr, data, q = wire(3), wire(3), wire(16), wire(16)
    rng = np.random.default_rng(4)
    model = [0] * 8
    with bench(ram(clk, write, write_addr, data, read, read_addr, q, 16, 8), clk) as b:
        shown = 0
        for _ in range(200):
            w, r = (bool(v) for v in rng.integers(0, 2, 2))
            wa, ra, value = int(rng.integers(8)), int(rng.integers(8)), int(rng.integers(2**16))
            write.next, read.next = w, r
            write_addr.next, read_addr.next, data.next = wa, ra, value
            b.step()
            if w:
                model[wa] = value
            if r:
                shown = model[ra]
            assert int(q) == shown


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), beats=st.sampled_from([1, 2]))
def test_stream_delivers_its_jobs_in_order(seed: int, beats: int) -> None:
    """Random jobs, some read twice (rewound), reader and memory at a random pace: the words come in order, none lost.

    A request waits until the memory is ready, answers take their time, and in between the data are garbage.
    """
    rng = np.random.default_rng(seed)
    depth, width = 8, 16 * beats
    memory = rng.integers(0, 2**16, 200)
    jobs = [(int(rng.integers(0, 100)), int(rng.integers(1, 5)) * beats) for _ in range(4)]
    repeats = [int(rng.integers(1, 4)) for _ in jobs]
    want, script = [], []
    for (base, count), times in zip(jobs, repeats, strict=True):
        part = memory[base : base + count].reshape(-1, beats)
        for time in range(times):
            for i, beat in enumerate(part):
                last = i == len(part) - 1
                want.append(packed(beat, 16))
                script.append((int(last and time < times - 1), int(time == times - 1)))
    clk, job, job_ready, base, count = wire(), wire(), wire(), wire(32), wire(32)
    en, addr, free, valid, data = wire(), wire(32), wire(), wire(), wire(16)
    read, rewind, discard, ready, word = wire(), wire(), wire(), wire(), wire(width)
    halt, quiet = wire(), wire()
    made = stream(
        clk, reset(), job, job_ready, base, count, ReadPort(en, addr, free, valid, data),
        Reader(read, rewind, discard, ready, word), halt, quiet, width, depth, beats,
    )  # fmt: skip
    got: list[int] = []
    asked: list[int] = []
    offered, waiting = 0, -1
    with bench(made, clk) as b:
        for _ in range(4000):
            if len(got) == len(want):
                break
            job.next = int(offered < len(jobs))
            if offered < len(jobs):
                base.next, count.next = jobs[offered]
            free.next = int(rng.integers(2))
            valid.next = int(bool(asked) and rng.integers(2))
            data.next = int(memory[asked.pop(0)]) if valid.next else int(rng.integers(2**16))
            b.settle()
            wanted = len(got)
            take = bool(ready) and wanted < len(want) and bool(rng.integers(0, 3))
            read.next = int(take)
            if wanted < len(want):
                rewind.next, discard.next = script[wanted]
            b.settle()
            accepted = bool(job) and bool(job_ready)
            assert waiting < 0 or (en and addr == waiting)
            waiting = int(addr) if en and not free else -1
            if en and free:
                asked.append(int(addr))
            b.step()
            if take:
                got.append(int(word))
            offered += int(accepted)
        assert quiet
    assert got == want


def test_a_halted_stream_takes_its_answers_and_becomes_quiet() -> None:
    """The request that waits is held until it is taken; then nothing more is asked for."""
    clk, job, base, count, en, addr, free, valid = wire(), wire(), wire(32), wire(32), wire(), wire(32), wire(), wire()
    halt, quiet, ready = wire(), wire(), wire()
    made = stream(
        clk, reset(), job, wire(), base, count, ReadPort(en, addr, free, valid, wire(16)),
        Reader(wire(), wire(), wire(), ready, wire(16)), halt, quiet, 16, 8, 1,
    )  # fmt: skip
    with bench(made, clk) as b:
        job.next, count.next, base.next, free.next = 1, 5, 30, 1
        b.step()
        job.next = 0
        b.step(2)  # two requests taken
        free.next = 0
        b.step()  # the third waits
        halt.next = 1
        b.step(3)
        assert en and addr == 32 and not quiet
        free.next = 1
        b.step()
        assert not en and not quiet
        valid.next = 1
        b.step(2)
        assert not quiet
        b.step()
        assert quiet and not en


def test_unshuffle_adds_the_index() -> None:
    clk, enable, base, index, address = wire(), wire(1, 1), wire(32), wire(16), wire(32)
    with bench(unshuffle(clk, enable, base, index, address), clk) as b:
        base.next, index.next = 1000, 23
        b.step()
        assert int(address) == 1023
        base.next, enable.next = 5, 0
        b.step()
        assert int(address) == 1023
        enable.next = 1
        b.step()
        assert int(address) == 28
