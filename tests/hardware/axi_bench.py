"""The accelerator behind AXI under cocotb: third-party bus models around it, random layers, stalls, resets, errors.

`tests/hardware/test_axi.py` runs it; environment: CONFIG and AXI as JSON, LAYERS and STALLED, numbers of layers.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, ReadOnly, RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

from flow.hardware.axi.bus import PAGE, AxiConfig, constants, registers
from flow.hardware.config import ArrayConfig, memory_ports
from flow.hardware.fields import error_code
from flow.hardware.interface import Memory
from flow.scheduling.cycles import layer_cycles
from flow.scheduling.words import pack_fields, unpack_fields
from tests.helpers.layers import WRONG, Job, broken, gathered, random_job, spread

CONFIG = ArrayConfig(**json.loads(os.environ["CONFIG"]))
AXI = AxiConfig(**json.loads(os.environ["AXI"]))
PORTS = {port.name: port for port in memory_ports(CONFIG)}
MAP = registers(tuple(PORTS.values()))
FILL = 0x5A  # of the output memory before a run
PERIOD = 2  # ns, of the clock
LIMIT = 30_000  # cycles of a layer, stalls included


class Bench:
    """The device with its register master, its memory, and checks of the protocol's rules."""

    def __init__(self, dut: Any, seed: int = 0) -> None:
        self.dut = dut
        self.random = random.Random(seed)
        Clock(dut.aclk, PERIOD, "ns").start()
        reset = {"reset": dut.aresetn, "reset_active_level": False}
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.aclk, **reset)
        self.ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.aclk, size=2**22, **reset)
        logging.getLogger("cocotb").setLevel(logging.WARNING)
        self.bursts: dict[int, int] = {}  # the most beats that each memory was asked for at once

    async def reset(self, cycles: int = 2) -> None:
        self.dut.aresetn.value = 0
        await ClockCycles(self.dut.aclk, cycles)
        self.dut.aresetn.value = 1
        await RisingEdge(self.dut.aclk)

    def channels(self) -> list[Any]:
        """Every channel of both buses, as the models drive them."""
        lite, ram = self.master, self.ram
        return [
            *(lite.write_if.aw_channel, lite.write_if.w_channel, lite.write_if.b_channel),
            *(lite.read_if.ar_channel, lite.read_if.r_channel),
            *(ram.write_if.aw_channel, ram.write_if.w_channel, ram.write_if.b_channel),
            *(ram.read_if.ar_channel, ram.read_if.r_channel),
        ]  # fmt: skip

    def stall(self, shares: Sequence[float] = (0.2, 0.5, 0.8)) -> None:
        """Random pauses on every channel, each with a pace of its own: one of these shares of the cycles."""
        for channel in self.channels():
            channel.set_pause_generator(self._pauses(self.random.choice(shares), self.random.random()))

    def run_free(self) -> None:
        for channel in self.channels():
            channel.clear_pause_generator()
            channel.pause = False

    @staticmethod
    def _pauses(share: float, seed: float) -> Iterator[bool]:
        own = random.Random(seed)
        return (own.random() < share for _ in itertools.count())

    async def watch(self) -> None:
        """What the device drives holds until it is taken; bursts are whole beats within a page."""
        dut = self.dut
        signals = {
            "m_axi_ar": ("id", "addr", "len", "size", "burst"), "m_axi_aw": ("id", "addr", "len", "size", "burst"),
            "m_axi_w": ("data", "strb", "last"), "s_axil_b": ("resp",), "s_axil_r": ("data", "resp"),
        }  # fmt: skip
        handles = {  # looked up once, not in every cycle
            channel: [getattr(dut, channel + part) for part in ("valid", "ready", *parts)]
            for channel, parts in signals.items()
        }
        edge, settled, reset = RisingEdge(dut.aclk), ReadOnly(), dut.aresetn
        held: dict[str, list[int]] = {}
        while True:
            await edge
            await settled
            if not int(reset.value):
                held = {}
                continue
            for channel, (valid, ready, *parts) in handles.items():
                given = int(valid.value)
                payload = [int(part.value) for part in parts] if given else []
                assert channel not in held or payload == held[channel], f"{channel} changed before it was taken"
                held.pop(channel, None)
                if given and not int(ready.value):
                    held[channel] = payload
                if given and channel in ("m_axi_ar", "m_axi_aw"):
                    memory, address, length, size, burst = payload
                    octets = (length + 1) * AXI.beat
                    assert 1 << size == AXI.beat and burst == 1 and address % AXI.beat == 0
                    assert address // PAGE == (address + octets - 1) // PAGE, f"a burst of {octets} from {address:#x}"
                    if channel == "m_axi_ar" and channel not in held:
                        self.bursts[memory] = max(length + 1, self.bursts.get(memory, 0))

    async def write(self, name: str, value: int) -> None:
        await self.master.write_dword(MAP[name].offset, value)

    async def read(self, name: str) -> int:
        return int(await self.master.read_dword(MAP[name].offset))

    async def load(self, memories: Mapping[str, Memory], output_words: int) -> int:
        """Puts the memories of a run somewhere and tells the device where; the byte address of the output memory."""
        at, places = PAGE * self.random.randrange(4), {}
        sizes = {name: len(memory) for name, memory in memories.items()} | {"output": output_words}
        for name, words in sizes.items():
            places[name] = at
            stride = AXI.stride(PORTS[name])
            octets = bytes([FILL]) * (words * stride)
            if name != "output":
                octets = spread(memories[name], stride)
            self.ram.write(at, octets)
            await self.write(f"{name}_base", at + self.random.randrange(PAGE))  # the low bits are not looked at
            at += -(-words * stride // PAGE) * PAGE + PAGE * self.random.randrange(2)
        return places["output"]

    async def start(self, first: int, count: int, interrupt: bool = True) -> None:
        await self.write("command", first | count << 16)
        await self.write("control", 1 | 2 * interrupt)

    async def finish(self, limit: int = LIMIT) -> dict[str, int]:
        """Waits for the interrupt, so many cycles at most, and clears it; the status by field."""
        dut = self.dut
        if not int(dut.irq.value):
            await with_timeout(RisingEdge(dut.irq), PERIOD * limit, "ns")
        status = await self.read("status")
        found = {field.name: status >> field.low & ((1 << field.bits) - 1) for field in MAP["status"].fields}
        assert found["done"] and not found["busy"], found
        await self.write("status", 1 << MAP["status"].field("done").low)
        assert not int(dut.irq.value) and not await self.read("status") & 3
        return found

    def results(self, place: int, words: int) -> Memory:
        """The words of the output memory; nothing was written between them."""
        port = PORTS["output"]
        stride = AXI.stride(port)
        octets = bytes(self.ram.read(place, words * stride))
        beside = np.frombuffer(octets, np.uint8).reshape(-1, stride)[:, port.bytes :]
        assert (beside == FILL).all(), "bytes beside the results were written"
        return gathered(octets, stride, port.bytes)

    async def launch(self, work: Job, interrupt: bool = True) -> int:
        """Loads a layer and starts it; the byte address of its output memory."""
        place = await self.load(work.memories, len(work.want))
        await self.start(work.scheduled.first, len(work.scheduled.blocks), interrupt)
        return place

    async def abort(self) -> None:
        """Ends the run, with an interrupt."""
        await self.write("control", 2 | 1 << MAP["control"].field("abort").low)

    async def stopping(self) -> bool:
        """Whether the bus has not answered all that a run asked for which was ended."""
        return bool(await self.read("status") >> MAP["status"].field("stopping").low & 1)

    async def finish_well(self, limit: int = LIMIT) -> int:
        """As `finish`, of a run in which nothing was wrong; its cycles."""
        status = await self.finish(limit)
        assert not status["error"] and not status["read_error"] and not status["write_error"], status
        return await self.read("cycles")

    async def run(self, work: Job) -> int:
        """One layer, every byte of its output memory compared; its cycles."""
        place = await self.launch(work)
        cycles = await self.finish_well()
        assert np.array_equal(self.results(place, len(work.want)), work.want), "the results are wrong"
        return cycles


def across_pages(work: Job) -> Job:
    """The same job with words before each of its memories, so that its middle is where a page ends."""
    memories = dict(work.memories)
    fields = [unpack_fields(word, CONFIG.descriptor) for word in memories["descriptor"]]
    for name in ("weight", "metadata", "activation", "parameter"):
        page = PAGE // AXI.stride(PORTS[name])
        before = -(len(memories[name]) // 2) % page
        for each in (name, "index") if name == "parameter" else (name,):
            octets = memories[each].shape[1]
            memories[each] = np.concatenate([np.full((before, octets), 0xE1, np.uint8), memories[each]])
        for descriptor in fields:
            descriptor[f"{name}_base"] += before
    packed = [pack_fields(each, CONFIG.descriptor, CONFIG.descriptor_bits, "moved") for each in fields]
    return Job(work.scheduled, memories | {"descriptor": np.stack(packed)}, work.want)


@cocotb.test()
async def registers_are_as_the_map_says(dut: Any) -> None:
    bench = Bench(dut)
    await bench.reset()
    for name, value in constants(CONFIG, AXI).items():
        assert await bench.read(name) == value, name
    for name, register in MAP.items():
        value = await bench.read(name)
        if register.access == "rw":
            assert value == 0
            await bench.write(name, 0xDEADBEEC)
    for name, register in MAP.items():
        value = await bench.read(name)
        if name.endswith("_base"):
            assert value == 0xDEADB000
        elif name.endswith("_base_high"):
            assert value == 0xDEADBEEC & ((1 << AXI.address_bits - 32) - 1)
        elif name in ("command", "watchdog"):
            assert value == 0xDEADBEEC
        else:
            assert register.access == "r" or value == 0, name
    await bench.master.write(MAP["command"].offset + 1, b"\x12")  # one byte
    assert await bench.read("command") == 0xDEAD12EC
    assert int.from_bytes((await bench.master.read(0xFF0, 4)).data, "little") == 0  # no register there


@cocotb.test()
async def layers_one_after_the_other(dut: Any) -> None:
    """LAYERS random small layers, start after done, on memories that are ready; now and then behind stalls."""
    bench = Bench(dut, 1)
    await bench.reset()
    cycles = model = waits = 0
    for seed in range(int(os.environ["LAYERS"])):
        if seed % 10 == 0:
            bench.stall()
        elif seed % 10 == 3:
            bench.run_free()
        work = random_job(seed, CONFIG, small=True)
        took = await bench.run(work)
        if seed % 10 >= 3:
            cycles, model = cycles + took, model + layer_cycles(work.scheduled, CONFIG)
        if seed % 10 == 9:
            lost = took - layer_cycles(work.scheduled, CONFIG)
            waits = sum([await bench.read(f"{name}_stalls") for name in PORTS])
            assert lost <= waits, f"{lost} cycles lost, {waits} cycles of waiting"
    dut._log.warning("%d cycles behind AXI, %d with memories at the ports", cycles, model)
    assert cycles > model and waits


@cocotb.test()
async def stalls_on_every_channel(dut: Any) -> None:
    """Larger layers, every channel of both buses pausing at random, the protocol's rules watched."""
    bench = Bench(dut, 2)
    await bench.reset()
    cocotb.start_soon(bench.watch())
    for seed in range(int(os.environ["STALLED"])):
        bench.stall()
        await bench.run(across_pages(random_job(seed, CONFIG)))
    beats = AXI.stride(PORTS["weight"]) // AXI.beat
    together = max(1, AXI.burst // beats)  # words in a row are asked for by one burst
    assert bench.bursts[list(PORTS).index("weight")] == together * beats


@cocotb.test()
async def reset_in_the_middle_of_a_layer(dut: Any) -> None:
    """Whatever is under way is forgotten; the next run is right."""
    bench = Bench(dut, 3)
    await bench.reset()
    cocotb.start_soon(bench.watch())
    work = random_job(11, CONFIG)
    bench.stall()
    whole = await bench.run(work)
    for part in range(1, 9):
        await bench.launch(work)
        await ClockCycles(dut.aclk, part * whole // 9)
        assert await bench.read("status") & 1
        await bench.reset(1 + part % 2)
        assert not await bench.read("status") and not int(dut.irq.value)
        await bench.run(random_job(20 + part, CONFIG, small=True))


@cocotb.test()
async def wrong_descriptors_end_with_their_code(dut: Any) -> None:
    """No hang, the code, nothing left under way: the next layer, without a reset, is right."""
    bench = Bench(dut, 4)
    await bench.reset()
    cocotb.start_soon(bench.watch())
    met = 0
    for number, (_, changes) in enumerate(WRONG):
        (bench.stall if number % 2 else bench.run_free)()
        work = random_job(5, CONFIG)
        bad, expected = broken(work, number % len(work.scheduled.blocks), CONFIG, **changes)
        if expected == "none":  # of another array's
            continue
        met += 1
        await bench.launch(bad)
        status = await bench.finish()
        assert status["error"] == error_code(expected), (expected, status)
        await bench.run(random_job(number, CONFIG, small=True))
    assert met > 15
    await bench.start(0, 0)
    assert (await bench.finish())["error"] == error_code("command")


@cocotb.test()
async def bus_errors_are_reported(dut: Any) -> None:
    """A bus that answers with errors does not hang the device; status says which kind."""
    bench = Bench(dut, 5)
    await bench.reset()
    work = random_job(2, CONFIG, small=True)

    async def refuse(*_: Any) -> bytes:
        raise ValueError

    kinds = ("read_error", bench.ram.read_if, "_read"), ("write_error", bench.ram.write_if, "_write")
    for kind, model, access in kinds:
        sound = getattr(model, access)
        setattr(model, access, refuse)
        await bench.launch(work)
        status = await bench.finish()
        assert [name for name, *_ in kinds if status[name]] == [kind]
        setattr(model, access, sound)
        await bench.run(work)


@cocotb.test()
async def a_bus_that_stops_answering(dut: Any) -> None:
    """On any channel, at any time: abort and watchdog end the run; when all is answered, the next one is right."""
    bench = Bench(dut, 8)
    await bench.reset()
    cocotb.start_soon(bench.watch())
    work = random_job(11, CONFIG)
    whole = await bench.run(work)
    ram = bench.ram
    silent = [ram.read_if.ar_channel, ram.read_if.r_channel, *(
        getattr(ram.write_if, f"{name}_channel") for name in ("aw", "w", "b")
    )]  # fmt: skip
    for number, channel in enumerate([*silent, *silent]):
        watched, limit = number % 2, 2 * whole + 10 * number
        await bench.write("watchdog", limit if watched else 0)
        await bench.launch(work)
        await ClockCycles(dut.aclk, number * whole // 12)
        channel.pause = True
        await ClockCycles(dut.aclk, 3 * whole)
        if not watched:
            assert await bench.read("status") & 1 and not int(dut.irq.value)
            await bench.abort()
        status = await bench.finish()
        assert status["error"] == error_code("watchdog" if watched else "aborted") and status["stopping"]
        cycles = await bench.read("cycles")
        assert cycles == limit + 1 if watched else cycles > limit
        await bench.start(0, 1)  # of no effect
        await ClockCycles(dut.aclk, 20)
        assert await bench.stopping()
        assert not await bench.read("status") & 3 and not int(dut.irq.value)
        channel.pause = False
        while await bench.stopping():
            pass
        await bench.run(random_job(20 + number, CONFIG, small=True))


@cocotb.test()
async def aborts_in_the_middle_of_a_layer(dut: Any) -> None:
    """What was asked for before comes later, behind stalls, and is not taken for what the next run asks for."""
    bench = Bench(dut, 9)
    await bench.reset()
    cocotb.start_soon(bench.watch())
    await bench.write("watchdog", 2**32 - 1)
    work = random_job(11, CONFIG)
    bench.stall()
    whole = await bench.run(work)
    for part in range(1, 9):
        bench.stall()
        await bench.launch(work)
        await ClockCycles(dut.aclk, part * whole // 24)  # stalls differ: a run may be much shorter than the first
        assert await bench.read("status") & 1
        await bench.abort()
        assert (await bench.finish())["error"] == error_code("aborted")
        while await bench.stopping():
            pass
        await bench.run(random_job(20 + part, CONFIG, small=True))


@cocotb.test()
async def start_while_busy_and_interrupts(dut: Any) -> None:
    """A start while busy is not looked at; without its enable there is no interrupt."""
    bench = Bench(dut, 6)
    await bench.reset()
    work = random_job(4, CONFIG)
    place = await bench.launch(work, interrupt=False)
    for _ in range(3):
        await bench.write("control", 1)
    while await bench.read("status") & 1:
        pass
    assert not int(dut.irq.value)
    await bench.write("control", 2)
    assert int(dut.irq.value)
    cycles, busy = await bench.finish_well(), await bench.read("busy_cycles")
    assert np.array_equal(bench.results(place, len(work.want)), work.want)
    assert cycles == busy > layer_cycles(work.scheduled, CONFIG)
    await bench.run(work)
    assert await bench.read("busy_cycles") == busy + await bench.read("cycles")
    assert await bench.read("activation_stalls") > 0
