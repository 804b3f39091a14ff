"""A memory image in the formats that simulators, FPGA tools and firmware read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow.engines.base import Memory
from flow.engines.testbench import hex_digits, write_hex


def write(folder: Path, name: str, memory: Memory, width: int) -> None:
    """Write a memory of words of `width` bits as NAME.hex, .coe, .mif, .npy and .bin.

    hex   one word a line, most significant digit first, whole bytes: $readmemh, VHDL's hread
    coe   AMD (Xilinx) memory initialization file, one word of whole bytes for each address
    mif   Intel (Altera) memory initialization file, words of `width` bits
    npy   NumPy: uint8 [words, bytes per word], the least significant byte first
    bin   the same bytes and nothing else
    """
    write_hex(folder / f"{name}.hex", memory)
    _write_coe(folder / f"{name}.coe", memory)
    _write_mif(folder / f"{name}.mif", memory, width)
    np.save(folder / f"{name}.npy", memory)
    (folder / f"{name}.bin").write_bytes(memory.tobytes())


def _write_coe(path: Path, memory: Memory) -> None:
    body = _lines(hex_digits(memory), ",")
    path.write_bytes(b"memory_initialization_radix=16;\nmemory_initialization_vector=\n" + body[:-2] + b";\n")


def _write_mif(path: Path, memory: Memory, width: int) -> None:
    addresses = np.arange(len(memory), dtype=">u4")[:, None].view(np.uint8)[:, ::-1]
    separator = np.broadcast_to(np.frombuffer(b" : ", np.uint8), (len(memory), 3))
    nibbles = -(-width // 4)
    body = _lines(np.hstack([hex_digits(addresses), separator, hex_digits(memory)[:, -nibbles:]]), ";")
    head = f"WIDTH={width};\nDEPTH={len(memory)};\nADDRESS_RADIX=HEX;\nDATA_RADIX=HEX;\nCONTENT BEGIN\n"
    path.write_bytes(head.encode() + body + b"END;\n")


def _lines(text: NDArray[np.uint8], end: str) -> bytes:
    """Rows of ASCII as lines that end in `end`."""
    ends = np.broadcast_to(np.frombuffer(f"{end}\n".encode(), np.uint8), (len(text), len(end) + 1))
    return np.hstack([text, ends]).tobytes()
