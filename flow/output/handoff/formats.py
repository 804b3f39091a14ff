"""A memory image in the formats that simulators, FPGA tools and firmware read."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow.hardware.interface import Memory
from flow.simulation.engines.testbench import hex_digits, lines

PART = 2**24  # bytes of a memory written at a time


def write(folder: Path, name: str, memory: Memory, width: int) -> None:
    """Write a memory of words of `width` bits as NAME.hex, .coe, .mif, .npy and .bin.

    hex   one word a line, most significant digit first, whole bytes: $readmemh, VHDL's hread
    coe   AMD (Xilinx) memory initialization file, one word of whole bytes for each address
    mif   Intel (Altera) memory initialization file, words of `width` bits
    npy   NumPy: uint8 [words, bytes per word], the least significant byte first
    bin   the same bytes and nothing else
    """
    np.save(folder / f"{name}.npy", memory)
    paths = [folder / f"{name}.{kind}" for kind in ("bin", "hex", "coe", "mif")]
    mif_head = f"WIDTH={width};\nDEPTH={len(memory)};\nADDRESS_RADIX=HEX;\nDATA_RADIX=HEX;\nCONTENT BEGIN\n"
    with ExitStack() as stack:
        binary, plain, coe, mif = (stack.enter_context(path.open("wb")) for path in paths)
        coe.write(b"memory_initialization_radix=16;\nmemory_initialization_vector=\n")
        mif.write(mif_head.encode())
        step = max(1, PART // memory.shape[1])
        for first in range(0, len(memory), step):
            part = np.ascontiguousarray(memory[first : first + step])
            digits = hex_digits(part)
            binary.write(part.data)
            plain.write(lines(digits))
            text = lines(digits, ",")
            coe.write(text if first + len(part) < len(memory) else text[:-2] + b";\n")
            mif.write(lines(_addressed(first, digits, -(-width // 4)), ";"))
        mif.write(b"END;\n")


def _addressed(first: int, digits: NDArray[np.uint8], nibbles: int) -> NDArray[np.uint8]:
    """Lines ADDRESS : WORD for words from address `first` on, each with its last `nibbles` digits."""
    addresses = np.arange(first, first + len(digits), dtype=">u4")[:, None].view(np.uint8)[:, ::-1]
    separator = np.broadcast_to(np.frombuffer(b" : ", np.uint8), (len(digits), 3))
    return np.hstack([hex_digits(addresses), separator, digits[:, -nibbles:]])
