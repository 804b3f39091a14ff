"""A memory image in the formats that simulators, FPGA tools and firmware read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow.engines.base import Memory
from flow.engines.testbench import hex_digits, lines


def write(folder: Path, name: str, memory: Memory, width: int) -> None:
    """Write a memory of words of `width` bits as NAME.hex, .coe, .mif, .npy and .bin.

    hex   one word a line, most significant digit first, whole bytes: $readmemh, VHDL's hread
    coe   AMD (Xilinx) memory initialization file, one word of whole bytes for each address
    mif   Intel (Altera) memory initialization file, words of `width` bits
    npy   NumPy: uint8 [words, bytes per word], the least significant byte first
    bin   the same bytes and nothing else
    """
    digits = hex_digits(memory)
    (folder / f"{name}.hex").write_bytes(lines(digits))
    _write_coe(folder / f"{name}.coe", digits)
    _write_mif(folder / f"{name}.mif", digits, width)
    np.save(folder / f"{name}.npy", memory)
    (folder / f"{name}.bin").write_bytes(memory.tobytes())


def _write_coe(path: Path, digits: NDArray[np.uint8]) -> None:
    body = lines(digits, ",")
    path.write_bytes(b"memory_initialization_radix=16;\nmemory_initialization_vector=\n" + body[:-2] + b";\n")


def _write_mif(path: Path, digits: NDArray[np.uint8], width: int) -> None:
    addresses = np.arange(len(digits), dtype=">u4")[:, None].view(np.uint8)[:, ::-1]
    separator = np.broadcast_to(np.frombuffer(b" : ", np.uint8), (len(digits), 3))
    nibbles = -(-width // 4)
    body = lines(np.hstack([hex_digits(addresses), separator, digits[:, -nibbles:]]), ";")
    head = f"WIDTH={width};\nDEPTH={len(digits)};\nADDRESS_RADIX=HEX;\nDATA_RADIX=HEX;\nCONTENT BEGIN\n"
    path.write_bytes(head.encode() + body + b"END;\n")
