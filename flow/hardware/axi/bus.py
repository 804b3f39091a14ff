"""The AXI wrapper's parameters, its register map and where words lie in memory: what RTL and drivers share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final

from flow.errors import FlowError
from flow.hardware.config import MAX_COLUMNS, ArrayConfig, memory_ports
from flow.hardware.fields import DESCRIPTOR, ENTRY, MAP_DESCRIPTOR, PARAMETER
from flow.hardware.interface import MemoryPort

IDENTITY: Final = 0x42425346  # "BBSF"
VERSION: Final = 2  # of the register map
WIDTHS: Final = (32, 64, 128, 256, 512, 1024)  # bits of a beat
TYPICAL: Final = 4  # bit columns that are stored of a pruned weight
WIDEST: Final = 128  # bits of a bus that is chosen by the array
PAGE: Final = 4096  # bytes: no burst crosses it, and every base address is a multiple of it
MOST_BEATS: Final = 256  # of a burst, by the protocol
REGISTER_BYTES: Final = 4
INDEX_BITS: Final = 10  # of a register in the window of one page
COMMON: Final = 16  # registers before the first memory's
PER_MEMORY: Final = 4
# Each memory's registers have this place in every build; those of a memory that a build lacks stay reserved.
MEMORIES: Final = ("descriptor", "weight", "metadata", "activation", "parameter", "index", "entry", "output")
FILLED, WRITTEN = "activation", "output"  # by the host for every run; by the accelerator
ID_BITS: Final = 4  # of reads: the memory port's number
INCREMENTING: Final = 1  # AxBURST
CACHE: Final = 3  # AxCACHE: normal memory, bufferable, not cached
PROTECTION: Final = 0  # AxPROT: data, secure, unprivileged


@dataclass(frozen=True)
class AxiConfig:
    """The memory bus: bits of a beat (32 to 1024) and of an address (32 to 64), beats of a burst (1 to 256)."""

    data_bits: int = 64
    address_bits: int = 32
    burst: int = 16

    def __post_init__(self) -> None:
        if self.data_bits not in WIDTHS:
            raise FlowError(f"a bus of {self.data_bits} bits cannot be built: give --bus 32, 64, 128, 256, 512 or 1024")
        if not 32 <= self.address_bits <= 64:
            raise FlowError(
                f"a bus with addresses of {self.address_bits} bits cannot be built: give --address-bits 32 to 64"
            )
        most = min(MOST_BEATS, PAGE // self.beat)
        if not 1 <= self.burst <= most:
            raise FlowError(
                f"bursts of {self.burst} beats cannot be built: give 1 to {most} on a bus of {self.data_bits} bits"
            )

    @property
    def beat(self) -> int:
        """Bytes of a beat."""
        return self.data_bits // 8

    def stride(self, port: MemoryPort) -> int:
        """Bytes from one word of a memory to the next: a power of two, and a beat at least."""
        return max(self.beat, 1 << (port.bytes - 1).bit_length())

    def beats(self, port: MemoryPort) -> int:
        """Beats of a word, without those of padding."""
        return -(-port.bytes // self.beat)

    def together(self, port: MemoryPort) -> int:
        """The most words of a burst: those with beats of padding have a burst each."""
        beats = self.beats(port)
        return max(1, self.burst // beats) if beats * self.beat == self.stride(port) else 1


def fitting_bits(config: ArrayConfig) -> int:
    """The width of a bus that fits the array: the narrowest that brings a step's activations while a step is computed.

    Layer by layer, every step of every tile takes its activations from memory. A step is taken to have `TYPICAL` stored
    bit columns, or all in an element that prunes none. At most `WIDEST` bits: a wider bus needs a memory that gives as
    much a cycle, and pads more of its words.
    """
    columns = TYPICAL if config.element.encoded else MAX_COLUMNS
    needed = config.rows * config.step * 8 / config.slices(columns)
    return next(bits for bits in WIDTHS if bits >= min(needed, WIDEST))


@dataclass(frozen=True)
class MemoryRegion:
    """Where a memory lies: `words` words, `stride` bytes apart, from `offset` bytes on."""

    name: str
    words: int
    stride: int
    offset: int

    @property
    def end(self) -> int:
        return self.offset + self.words * self.stride


def regions(ports: Sequence[MemoryPort], axi: AxiConfig, words: Mapping[str, int]) -> list[MemoryRegion]:
    """One memory after the other, each from the next page on; `words` has how many words each has, by name.

    The memories that do not change from run to run come first: together they are one image (`image_bytes`).
    """
    placed: list[MemoryRegion] = []
    for port in sorted(ports, key=lambda port: (port.name == WRITTEN, port.name == FILLED)):
        offset = -(-placed[-1].end // PAGE) * PAGE if placed else 0
        placed.append(MemoryRegion(port.name, words[port.name], axi.stride(port), offset))
    return placed


def image_bytes(placed: Sequence[MemoryRegion]) -> int:
    """How many bytes, from the first on, the memories take that do not change from run to run."""
    return next(region.offset for region in placed if region.name == FILLED)


@dataclass(frozen=True)
class Field:
    """Bits `low` and up of a register.

    access: that of the register if "", "r", "pulse" (a one written has an effect, reads 0), "clear" (a one written
    clears it).
    """

    name: str
    low: int
    bits: int
    meaning: str
    access: str = ""

    @property
    def mask(self) -> int:
        return (1 << self.bits) - 1 << self.low


@dataclass(frozen=True)
class Register:
    """32 bits at byte `offset`. access: "r", "rw", or "w1" (a one written has an effect, reading shows the state)."""

    name: str
    offset: int
    access: str
    meaning: str
    fields: tuple[Field, ...] = ()

    @property
    def index(self) -> int:
        return self.offset // REGISTER_BYTES

    def field(self, name: str) -> Field:
        return next(field for field in self.fields if field.name == name)


def _common() -> tuple[tuple[str, str, str, tuple[Field, ...]], ...]:
    return (
        ("id", "r", f"{IDENTITY:#010x}", ()),
        ("version", "r", f"of this map: {VERSION}", ()),
        ("array", "r", "the array's size", (
            Field("rows", 0, 8, ""), Field("columns", 8, 8, ""), Field("lanes", 16, 8, "channels of one write"),
            Field("dense", 24, 1, "1: no bit columns are pruned (dense, parallel), 0: they are (BitVert, pairs)"),
        )),
        ("control", "rw", "starts a run", (
            Field("start", 0, 1, "write 1: run the command; no effect while busy; reads 0", "pulse"),
            Field("interrupt_enable", 1, 1, "irq is high while done is"),
            Field("abort", 2, 1, "write 1: end the run, whatever the bus does; no effect while not busy; reads 0",
                  "pulse"),
        )),
        ("status", "w1", "how the run stands", (
            Field("busy", 0, 1, "from start to done", "r"),
            Field("done", 1, 1, "all results are in memory, or the run has failed; write 1, or start, to clear",
                  "clear"),
            Field("read_error", 2, 1, "the bus answered a read of this run with an error", "r"),
            Field("write_error", 3, 1, "the bus answered a write of this run with an error", "r"),
            Field("stopping", 4, 1, "the bus has not answered all of an ended run; start has no effect", "r"),
            Field("error", 8, 4, "error code of the run, with done", "r"),
        )),
        ("command", "rw", "what to run; write it while not busy", (
            Field("first", 0, 16, "number of the first descriptor"), Field("count", 16, 16, "how many"),
        )),
        ("cycles", "r", "clock cycles of the last run, start to done", ()),
        ("cycles_high", "r", "its upper 32 bits", ()),
        ("busy_cycles", "r", "clock cycles of all runs since reset", ()),
        ("busy_cycles_high", "r", "its upper 32 bits", ()),
        ("features", "r", "what this accelerator has", (
            Field("address_bits", 0, 7, "of the bus"), Field("beat", 8, 4, "bytes of a beat, as a power of two"),
            Field("memories", 16, len(MEMORIES), "those that there are, in the order of their registers"),
        )),
        ("build", "r", "digest of the accelerator's parameters: memory images fit if their header has the same", ()),
        ("watchdog", "rw", "end a run after so many clock cycles; 0: never", ()),
    )  # fmt: skip


def register_map() -> dict[str, Register]:
    """All registers by name: the same in every build."""
    made = [
        Register(name, REGISTER_BYTES * i, access, meaning, fields)
        for i, (name, access, meaning, fields) in enumerate(_common())
    ]
    for number, memory in enumerate(MEMORIES):
        at = REGISTER_BYTES * (COMMON + PER_MEMORY * number)
        what = "a write waited, or its answer at the end" if memory == WRITTEN else "words were wanted and not there"
        waits = f"cycles of the last run in which {what}"
        made += [
            Register(f"{memory}_base", at, "rw", f"byte address of the {memory} memory, a multiple of {PAGE}"),
            Register(f"{memory}_base_high", at + 4, "rw", "its upper 32 bits"),
            Register(f"{memory}_stalls", at + 8, "r", waits),
        ]
    assert made[-1].index < 1 << INDEX_BITS and len(_common()) <= COMMON
    return {register.name: register for register in made}


def registers(ports: Sequence[MemoryPort]) -> dict[str, Register]:
    """The registers of a device with these memory ports, by name."""
    absent = set(MEMORIES) - {port.name for port in ports}
    return {name: each for name, each in register_map().items() if name.split("_")[0] not in absent}


def constants(config: ArrayConfig, axi: AxiConfig) -> dict[str, int]:
    """The values of the registers that tell what is built, by name."""
    there = [port.name for port in memory_ports(config)]
    array = {
        "rows": config.rows,
        "columns": config.columns,
        "lanes": config.lanes,
        "dense": not config.element.encoded,
    }
    features = {
        "address_bits": axi.address_bits,
        "beat": axi.beat.bit_length() - 1,
        "memories": sum(1 << place for place, name in enumerate(MEMORIES) if name in there),
    }
    return {
        "id": IDENTITY,
        "version": VERSION,
        "array": _packed("array", array),
        "features": _packed("features", features),
        "build": _digest(config, axi),
    }


def _packed(register: str, values: Mapping[str, int]) -> int:
    return sum(int(values[field.name]) << field.low for field in register_map()[register].fields)


def _digest(config: ArrayConfig, axi: AxiConfig) -> int:
    """32 bits that tell accelerators apart: parameters, bus, and the layouts of the words that they read."""
    layouts = (DESCRIPTOR, MAP_DESCRIPTOR, PARAMETER, ENTRY)
    told = json.dumps([VERSION, asdict(replace(config, prefix="")), asdict(axi), layouts], sort_keys=True)
    return int.from_bytes(hashlib.sha256(told.encode()).digest()[:4])
