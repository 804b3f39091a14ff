"""Control and status registers of the AXI wrapper: start, done, interrupt, addresses, counters."""

from __future__ import annotations

from collections.abc import Sequence

from myhdl import Signal, always_comb, always_seq, intbv, modbv

from flow.hardware.axi.bus import COMMON, MEMORIES, PAGE, PER_MEMORY, constants, registers
from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.wires import flags, join
from flow.hardware.fields import error_code
from flow.hardware.interface import COMMAND_BITS, ERROR_BITS, MemoryPort


@block
def axi_register(clk, reset, write, data, strobe, value, mask):
    """One register, value[32]: where write is high it takes the bytes of data[32] that strobe[4] marks.

    Bits outside mask stay 0. Latency: one cycle.
    """
    mask0, mask1, mask2, mask3 = (mask >> 8 * i & 255 for i in range(4))

    @always_seq(clk.posedge, reset=reset)
    def store():
        if write:
            if strobe[0]:
                value.next[8:] = data[8:] & mask0
            if strobe[1]:
                value.next[16:8] = data[16:8] & mask1
            if strobe[2]:
                value.next[24:16] = data[24:16] & mask2
            if strobe[3]:
                value.next[32:24] = data[32:24] & mask3

    return store


@block
def axi_counter(clk, reset, clear, count, value, bits):
    """value[bits]: cycles with count high since clear; it wraps."""
    cycles = Signal(modbv(0, min=0, max=2**bits))

    @always_comb
    def show():
        value.next = cycles

    @always_seq(clk.posedge, reset=reset)
    def step():
        if clear:
            cycles.next = 0
        elif count:
            cycles.next = cycles + 1

    return show, step


@block
def axi_wait(clk, reset, en, ready, valid, waits):
    """waits: a port's word was asked for, or would be, and is not there. Combinational.

    en, ready, valid: of a read port.
    """
    due = Signal(modbv(0, min=0, max=2**16))  # words

    @always_comb
    def show():
        waits.next = (en and (not ready)) or ((due != 0) and (not valid))

    @always_seq(clk.posedge, reset=reset)
    def count():
        if en and ready and (not valid):
            due.next = due + 1
        elif valid and (not (en and ready)):
            due.next = due - 1

    return show, count


def base_parts(values, name, extra):
    """The signals of a memory's base address, `extra` bits beyond 32, most significant first."""
    high = values.get(f"{name}_base_high")
    upper = [] if high is None else [high(extra, 0) if extra > 1 else high(0)]
    return [*upper, values[f"{name}_base"]]


def writable(ports: Sequence[MemoryPort], extra: int) -> dict[str, int]:
    """The registers that take what is written, with the bits that do."""
    masks = {"command": 2**32 - 1, "watchdog": 2**32 - 1}
    for port in ports:
        masks[f"{port.name}_base"] = 2**32 - PAGE
        if extra:
            masks[f"{port.name}_base_high"] = 2**extra - 1
    return masks


@block
@prefixed(access="", run="")
def axi_control(
    clk, reset, access, run, stopping, irq, bases, stalled, asked, received, read_failed, write_failed, ports, axi,
    config,
):  # fmt: skip
    """The registers of the accelerator behind AXI, and what they command.

    registers  write, write_index[10], write_data[32], write_strobe[4]; read_index[10] in, read_data[32] out,
               combinational
    core       start: one cycle, with first[16], count[16]; done, error[4]: as the accelerator has them; written: all
               it has written is in memory; stopping: reset it, and what asks for it: its run has been ended
    host       irq: level, while enabled and done
    bus        bases[address_bits * memories]: byte addresses, the first memory lowest; stalled[memories]: its port
               waits in this cycle; asked, received: a burst of reads is, or its last beat; read_failed,
               write_failed: the bus has answered with an error
    ports, axi, config   the memory ports, the bus, the array
    """
    layout = registers(ports)
    extra = axi.address_bits - 32
    control_at, status_at = layout["control"].index, layout["status"].index
    start_bit, enable_bit, abort_bit = (
        layout["control"].field(name).low for name in ("start", "interrupt_enable", "abort")
    )
    busy_bit, done_bit, read_bit, write_bit, stopping_bit, error_low = (
        layout["status"].field(name).low for name in ("busy", "done", "read_error", "write_error", "stopping", "error")
    )
    aborted, expired = error_code("aborted"), error_code("watchdog")
    error_high = error_low + ERROR_BITS
    enable_word, fixed = 1 << enable_bit, constants(config, axi)
    own_id, own_version, own_size, own_features, own_build = fixed.values()

    running, finishing, ended, enabled, starting = flags(5)
    read_bad, write_bad, starts, clears, never = flags(5)
    stops, settled, aborts, expires = flags(4)
    code = Signal(intbv(0)[ERROR_BITS:])
    pending = Signal(modbv(0, min=0, max=2**32))  # bursts of reads
    cycles, busy_cycles = Signal(intbv(0)[64:]), Signal(intbv(0)[64:])
    nothing = Signal(intbv(0)[32:])
    values = {name: Signal(intbv(0)[32:]) for name in layout if extra or not name.endswith("_base_high")}
    by_place = {layout[name].index: value for name, value in values.items()}
    places = COMMON + PER_MEMORY * len(MEMORIES)
    chosen = Signal(intbv(0)[places:])
    every = join(*(by_place.get(place, nothing) for place in reversed(range(places))))
    identity, version, size, features, build = (values[name] for name in fixed)
    settings, status = values["control"], values["status"]
    low, high, busy_low, busy_high = (
        values[name] for name in ("cycles", "cycles_high", "busy_cycles", "busy_cycles_high")
    )
    command, limit = values["command"], values["watchdog"]
    last = len(ports) - 1
    storing = Signal(intbv(0)[len(ports) :])  # stalled, and the output's while the last words are on their way
    all_bases = join(*(part for port in reversed(ports) for part in base_parts(values, port.name, extra)))

    @always_comb
    def commands():
        starts.next = (
            access.write
            and (access.write_index == control_at)
            and access.write_strobe[0]
            and access.write_data[start_bit]
            and (not running)
            and (not stops)
        )
        aborts.next = (
            access.write
            and (access.write_index == control_at)
            and access.write_strobe[0]
            and access.write_data[abort_bit]
            and running
        )
        clears.next = (
            access.write
            and (access.write_index == status_at)
            and access.write_strobe[0]
            and access.write_data[done_bit]
        )

    @always_comb
    def store():
        storing.next = stalled
        if finishing:
            storing.next[last] = True

    @always_comb
    def watch():
        expires.next = running and (limit != 0) and (cycles >= limit)

    @always_seq(clk.posedge, reset=reset)
    def walk():
        starting.next = starts
        if access.write and (access.write_index == control_at) and access.write_strobe[0]:
            enabled.next = access.write_data[enable_bit]
        if starts:
            running.next = True
            ended.next = False
            code.next = 0
            read_bad.next = False
            write_bad.next = False
        elif aborts or expires:
            finishing.next = False
            running.next = False
            ended.next = True
            if aborts:
                code.next = aborted
            else:
                code.next = expired
        else:
            if run.done and (not stops):
                finishing.next = True
                code.next = run.error
            if finishing and run.written:
                finishing.next = False
                running.next = False
                ended.next = True
            elif clears:
                ended.next = False
            if read_failed:
                read_bad.next = True
            if write_failed:
                write_bad.next = True

    @always_seq(clk.posedge, reset=reset)
    def end():
        # The core is reset for a cycle at least, so that it asks for nothing more, and until all is answered.
        if aborts or expires:
            stops.next = True
        elif settled and (pending == 0) and run.written:
            stops.next = False
        settled.next = stops and (not (settled and (pending == 0) and run.written))

    @always_seq(clk.posedge, reset=reset)
    def count():
        if asked and (not received):
            pending.next = pending + 1
        elif received and (not asked):
            pending.next = pending - 1

    @always_comb
    def core():
        stopping.next = stops
        run.start.next = starting
        run.first.next = command[COMMAND_BITS:]
        run.count.next = command[32:COMMAND_BITS]
        irq.next = ended and enabled
        bases.next = all_bases
        identity.next = own_id
        version.next = own_version
        size.next = own_size
        features.next = own_features
        build.next = own_build
        nothing.next = 0
        never.next = 0

    @always_comb
    def control():
        if enabled:
            settings.next = enable_word
        else:
            settings.next = 0

    @always_comb
    def state():
        word = intbv(0)[32:]
        word[:] = 0
        word[busy_bit] = running
        word[done_bit] = ended
        word[read_bit] = read_bad
        word[write_bit] = write_bad
        word[stopping_bit] = stops
        word[error_high:error_low] = code
        status.next = word

    @always_comb
    def counted():
        low.next = cycles[32:]
        high.next = cycles[64:32]
        busy_low.next = busy_cycles[32:]
        busy_high.next = busy_cycles[64:32]

    @always_comb
    def read():
        access.read_data.next = 0
        for i in range(places):
            lowest = 32 * i
            if access.read_index == i:
                access.read_data.next = every[lowest + 32 : lowest]

    @always_comb
    def choose():
        for i in range(places):
            chosen.next[i] = access.write and (access.write_index == i)

    parts = [
        axi_counter(clk, reset, starts, running, cycles, 64),
        axi_counter(clk, reset, never, running, busy_cycles, 64),
        [
            axi_counter(clk, reset, starts, storing(number), values[f"{port.name}_stalls"], 32)
            for number, port in enumerate(ports)
        ],
        [
            axi_register(
                clk, reset, chosen(layout[name].index), access.write_data, access.write_strobe, values[name], mask
            )
            for name, mask in writable(ports, extra).items()
        ],
    ]
    return commands, store, watch, walk, end, count, core, control, state, counted, read, choose, parts
