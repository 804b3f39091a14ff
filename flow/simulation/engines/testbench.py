"""Testbenches in Verilog and VHDL: the memories of `flow.simulation.engines.base` around a device, and one run of it.

Behind AXI, `axi_testbench` is the host and the memory on the bus (axi_bench.sv.j2).

A bench is compiled once and runs any command whose memories fit; it reads the command from `layer.txt`
(`write_command`). The templates bench.sv.j2 and bench.vhd.j2 list the other files that it reads and writes. A hex file
has one word a line, most significant digit first, whole bytes.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.hardware.axi.bus import PAGE, AxiConfig, constants, regions, register_map
from flow.hardware.axi.channels import Address, LiteAddress, LiteRead, LiteResponse, LiteWrite, Read, Response, Write
from flow.hardware.axi.control import writable
from flow.hardware.config import ArrayConfig, memory_ports
from flow.hardware.conversion.bundles import fresh
from flow.hardware.fields import error_code
from flow.hardware.interface import ADDRESS_BITS, COMMAND_BITS, ERROR_BITS, Device, Memory, MemoryPort
from flow.programs import last_words
from flow.simulation.engines.base import RESET_EDGES, Command, DeviceError, Result, beyond, not_done, refused, unknown

COMMAND = "layer.txt"
TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    undefined=jinja2.StrictUndefined,
)


def hex_digits(memory: Memory) -> NDArray[np.uint8]:
    """The words of a memory as ASCII hex digits, most significant first: uint8 [words, 2 * bytes per word]."""
    digits = binascii.hexlify(memory[:, ::-1].tobytes())
    return np.frombuffer(digits, np.uint8).reshape(len(memory), -1)


def lines(text: NDArray[np.uint8], end: str = "") -> bytes:
    """Rows of ASCII as lines that end in `end`."""
    width = text.shape[1]
    body = np.empty((len(text), width + len(end) + 1), np.uint8)
    body[:, :width] = text
    body[:, width:] = np.frombuffer(f"{end}\n".encode(), np.uint8)
    return body.tobytes()


def write_hex(path: Path, memory: Memory) -> None:
    """Write a memory as a hex file, for $readmemh and hread."""
    path.write_bytes(lines(hex_digits(memory)))


def read_hex(path: Path, size: int) -> Memory:
    """Read a hex file of words of `size` bytes. RuntimeError for unknown bits (x, u, z) or words of another size."""
    words = []
    for line in path.read_text(errors="replace").splitlines():
        word = line.split("//")[0].strip()
        if word:
            try:
                words.append(bytes.fromhex(word)[::-1])
            except ValueError:
                raise RuntimeError(f"{path.name}: unknown bits in word {len(words)}: {word[:100]}") from None
            if len(words[-1]) != size:
                raise RuntimeError(f"{path.name}: word {len(words) - 1} has {len(words[-1])} bytes, not {size}")
    return np.frombuffer(b"".join(words), np.uint8).reshape(-1, size).copy()


def write_inputs(folder: Path, memories: Mapping[str, Memory]) -> None:
    """Write the read memories where a testbench looks for them."""
    for name, memory in memories.items():
        write_hex(folder / f"{name}.hex", memory)


def write_command(
    folder: Path, ports: Sequence[MemoryPort], words: Mapping[str, int], command: Command, cycles: int = 0
) -> None:
    """Write a testbench's command, with the `words` of every memory and the expected cycles (0: not checked)."""
    values = asdict(command) | {"cycles": cycles}
    values |= {port.name: words[port.name] for port in ports}
    (folder / COMMAND).write_text("".join(f"{name} {value}\n" for name, value in values.items()))


def read_outputs(
    folder: Path, output: str, device: Device, engine: str, depths: Mapping[str, int], limit: int
) -> Result:
    """The result of a testbench that has run in `folder` and printed `output`."""
    try:
        for line in output.splitlines():
            match line.split():
                case ["CYCLES", cycles]:
                    return Result(int(cycles), _read_written(folder, device, engine))
                case ["ERROR", code, cycle]:
                    raise refused(device, engine, int(code), int(cycle))
                case ["UNKNOWN", cycle]:
                    raise unknown(device, engine, int(cycle))
                case ["LIMIT", _]:
                    raise not_done(device, engine, limit)
                case ["BEYOND", port, address, cycle]:
                    raise beyond(device, engine, port, int(address, 16), depths[port], int(cycle))
    except (OSError, ValueError, KeyError):  # not what a testbench writes
        pass
    raise FlowError(f"{engine} ended the simulation of {device.name} without a result: {last_words(output)}; "
                    "'bbs doctor' shows its version")  # fmt: skip


def _read_written(folder: Path, device: Device, engine: str) -> dict[str, Memory]:
    try:
        return {port.name: read_hex(folder / f"{port.name}.out.hex", port.bytes) for port in device.writes}
    except RuntimeError as error:
        raise DeviceError(f"{device.name}, {engine}: {error}") from None


def verilog_testbench(
    device_name: str, ports: Sequence[MemoryPort], words: Mapping[str, int], layered: Sequence[str] = ()
) -> str:
    """The SystemVerilog module tb_<device_name>, for memories of at most `words`, read or written.

    The read memories named in `layered` come from the layer's folder, the others from that of the memory images.
    """
    return _bench("bench.sv.j2", device_name, ports, words, layered)


def vhdl_testbench(
    device_name: str, ports: Sequence[MemoryPort], words: Mapping[str, int], layered: Sequence[str] = ()
) -> str:
    """The VHDL-2008 entity tb_<device_name>, as `verilog_testbench`."""
    return _bench("bench.vhd.j2", device_name, ports, words, layered)


def bus_bytes(config: ArrayConfig, axi: AxiConfig, words: Mapping[str, int]) -> int:
    """Bytes that memories of so many `words` take on the bus, whole pages."""
    end = regions(memory_ports(config), axi, words)[-1].end
    return -(-end // PAGE) * PAGE


def axi_testbench(name: str, config: ArrayConfig, axi: AxiConfig, octets: int, layered: Sequence[str] = ()) -> str:
    """The SystemVerilog module tb_<name>: host and memory around the wrapper `name`, as `verilog_testbench`.

    The memories of a layer, as `regions` places them, take at most so many `octets`.
    """
    ports = memory_ports(config)
    placed = [region.name for region in regions(ports, axi, {port.name: 1 for port in ports})]
    stride = {port.name: axi.stride(port) for port in ports}
    wires = _wires(axi)
    sizes = {signal: size for _, size, signal in wires}
    held = {
        channel: sum(size for signal, size in sizes.items() if signal in [f"m_axi_{channel}{part}" for part in parts])
        for channel, parts in (("ar", _REQUEST), ("aw", _REQUEST), ("w", ("data", "strb", "last")))
    }
    return TEMPLATES.get_template("axi_bench.sv.j2").render(
        name=name,
        core=config.name,
        ports=ports,
        placed=sorted(ports, key=lambda port: placed.index(port.name)),
        bytes={port.name: port.bytes for port in ports},
        stride=stride,
        images=[port.name for port in ports if not port.lanes and port.name not in layered],
        layered=layered,
        base=AXI_BASE,
        beat=axi.beat,
        beats=octets // axi.beat,
        data_bits=axi.data_bits,
        page=PAGE,
        wires=wires,
        held=held,
        steps=_accesses(config, axi),
        error=register_map()["status"].field("error"),
        going=sum(1 << register_map()["status"].field(name).low for name in ("busy", "stopping")),
        command_bits=COMMAND_BITS,
        patience=sum(each // axi.beat for each in stride.values()),
    )


AXI_BASE = 0x4000_0000  # byte address of the memories on the bus
_REQUEST = ("id", "addr", "len", "size", "burst")
# The channels of the registers' bus and of the memories', and whether the wrapper takes what they carry.
_SLAVE = (("aw", LiteAddress, True), ("w", LiteWrite, True), ("b", LiteResponse, False), ("ar", LiteAddress, True),
          ("r", LiteRead, False))  # fmt: skip
_MASTER = (("ar", Address, False), ("r", Read, True), ("aw", Address, False), ("w", Write, False),
           ("b", Response, True))  # fmt: skip


def _wires(axi: AxiConfig) -> list[tuple[str, int, str]]:
    """The bus signals of the wrapper: "in" or "out" as it sees them, bits, name."""
    widths = {"addr": axi.address_bits, "data": axi.data_bits, "strb": axi.beat}
    found = []
    for bus, channels, own in (("s_axil", _SLAVE, {}), ("m_axi", _MASTER, widths)):
        for channel, kind, taken in channels:
            signals: dict[str, Any] = vars(fresh(kind, **own))
            for part, signal in signals.items():
                direction = "in" if taken != (part == "ready") else "out"
                found.append((direction, len(signal), f"{bus}_{channel}{part}"))
    return found


WATCHDOG = 16  # cycles, fewer than any run takes
PATTERN = 0x9E3779B1  # whose multiples differ in every byte


def _accesses(config: ArrayConfig, axi: AxiConfig) -> list[tuple[int, str, int, str]]:
    """What the host does, in order: number, access, byte offset of the register, value in Verilog.

    Every register that can be written has a number of its own first, and keeps the bits that it has. Before the run
    that counts, there are four that end early: by the watchdog, by the host, by a command of no descriptors, and by an
    error of the second descriptor, or the only one. Whatever they leave in the accelerator, the run behind them is
    right.
    """
    at = {name: register.offset for name, register in register_map().items()}
    status, control = register_map()["status"], register_map()["control"]
    done, error = 1 << status.field("done").low, status.field("error").low
    start, abort = (1 << control.field(name).low for name in ("start", "abort"))
    interrupt = 1 << control.field("interrupt_enable").low
    expired, nothing, tiles = (str(done | error_code(name) << error) for name in ("watchdog", "command", "tiles"))
    masks = writable(memory_ports(config), axi.address_bits - 32)
    drawn = {name: number * PATTERN % 2**32 | interrupt for number, name in enumerate(masks, 1)}
    known = constants(config, axi)
    accesses = [("expect", at[name], f"32'h{known[name]:x}") for name in known]
    accesses += [("write", at[name], f"32'h{drawn[name]:x}") for name in masks]
    accesses += [("expect", at[name], f"32'h{drawn[name] & mask:x}") for name, mask in masks.items()]
    accesses.append(("expect", at["control"], "0"))  # none of these was the interrupt's
    for port in memory_ports(config):
        place = f"BASE + {port.name}_at * BEAT"
        accesses.append(("write", at[f"{port.name}_base"], place))
        accesses.append(("write", at[f"{port.name}_base_high"], f"({place}) >> 32"))
    accesses += [
        ("write", at["watchdog"], "0"),
        ("write", at["command"], "0"),
        ("write", at["control"], str(start | interrupt)),
        ("done", 0, ""),
        ("idle", at["status"], nothing),
        ("write", at["command"], "{count, first}"),
        ("write", at["watchdog"], str(WATCHDOG)),
        ("write", at["control"], str(start | interrupt)),
        ("wait", 0, ""),
        ("idle", at["status"], expired),
        ("write", at["watchdog"], "0"),
        ("write", at["control"], str(start)),
        ("write", at["control"], str(abort)),
        ("idle", at["status"], ""),  # it may have ended before
        ("break", 0, ""),
        ("write", at["control"], str(start | interrupt)),
        ("done", 0, ""),
        ("idle", at["status"], tiles),
        ("mend", 0, ""),
        ("write", at["control"], str(start | interrupt)),
        ("done", 0, ""),
        ("status", at["status"], str(done)),
        ("expect", at["control"], str(interrupt)),
        ("cycles", at["cycles"], ""),
        ("write", at["status"], str(done)),
        ("expect", at["status"], "0"),
    ]
    return [(number, *access) for number, access in enumerate(accesses)]


def _bench(
    template: str, name: str, ports: Sequence[MemoryPort], words: Mapping[str, int], layered: Sequence[str]
) -> str:
    reads = [port for port in ports if not port.lanes]
    memory_signals = [signal for port in ports for signal in port.signals]
    return TEMPLATES.get_template(template).render(
        name=name,
        ports=ports,
        reads=reads,
        writes=[port for port in ports if port.lanes],
        images=[port.name for port in reads if port.name not in layered],
        layered=layered,
        words=words,
        flags={flag for port in ports for flag in port.flags},
        signals=["clk", "reset", "start", "first", "count", "busy", "done", "error", *memory_signals],
        address_bits=ADDRESS_BITS,
        command_bits=COMMAND_BITS,
        error_bits=ERROR_BITS,
        reset_edges=RESET_EDGES,
    )
