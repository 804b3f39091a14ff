"""Testbenches in Verilog and VHDL: the memories of `flow.simulation.engines.base` around a device, and one run of it.

A bench is compiled once and runs any command whose memories fit; it reads the command from `layer.txt`
(`write_command`). The templates bench.sv.j2 and bench.vhd.j2 list the other files that it reads and writes. A hex file
has one word a line, most significant digit first, whole bytes.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import jinja2
import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.hardware.interface import ADDRESS_BITS, COMMAND_BITS, ERROR_BITS, Device, Memory, MemoryPort
from flow.programs import last_words
from flow.simulation.engines.base import RESET_EDGES, Command, DeviceError, Result, beyond, not_done, refused

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
