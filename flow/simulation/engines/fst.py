"""What an FST file, GTKWave's compressed form of waveforms, declares: its scopes and signals, without their values.

The file is a list of blocks, each a byte for its kind and its length; one of them has the hierarchy, packed. Of some
writers (GHDL) it is one block, with such a list packed as a whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

HIERARCHY = {4: "gzip", 6: "lz4", 7: "lz4 twice"}  # kinds of blocks, and how they are packed
WHOLE = 254  # the kind of a block that is a packed file
ATTRIBUTE, ATTRIBUTE_END, SCOPE, UPSCOPE = 252, 253, 254, 255  # every other byte is the type of a signal
GZIP = 31  # zlib's name of a stream with gzip's header


@dataclass(frozen=True)
class Declared:
    """A signal: the names of its scopes, its own with the range if it is a vector, and its bits."""

    scopes: tuple[str, ...]
    name: str
    bits: int


def declarations(file: Path) -> Iterator[Declared]:
    """The signals of `file`, in its order; a signal under several names is there under each."""
    text, at = _hierarchy(file), 0
    scopes: list[str] = []
    while at < len(text):
        kind = text[at]
        if kind == UPSCOPE:
            scopes.pop()
            at += 1
        elif kind == ATTRIBUTE_END:
            at += 1
        elif kind == SCOPE:
            name, at = _name(text, at + 2)
            _, at = _name(text, at)  # of the module
            scopes.append(name)
        elif kind == ATTRIBUTE:
            _, at = _name(text, at + 3)
            _, at = _number(text, at)
        else:
            name, at = _name(text, at + 2)
            bits, at = _number(text, at)
            _, at = _number(text, at)  # of the signal that this one is, too
            yield Declared(tuple(scopes), name, bits)


def _hierarchy(file: Path) -> bytes:
    with file.open("rb") as opened:
        stream: BinaryIO = opened
        while head := stream.read(9):
            kind, length = head[0], int.from_bytes(head[1:], "big")
            if kind == WHOLE:
                stream = BytesIO(zlib.decompress(stream.read(length - 8)[8:], GZIP))
                continue
            if kind not in HIERARCHY:
                stream.seek(length - 8, 1)
                continue
            size, data = int.from_bytes(stream.read(8), "big"), stream.read(length - 16)
            if kind == 4:
                return zlib.decompress(data, GZIP)
            return _lz4(_lz4(data[8:], int.from_bytes(data[:8], "big")) if kind == 7 else data, size)
    raise ValueError(f"'{file}' has no hierarchy")


def _name(text: bytes, at: int) -> tuple[str, int]:
    end = text.index(0, at)
    return text[at:end].decode(), end + 1


def _number(text: bytes, at: int) -> tuple[int, int]:
    """Seven bits a byte, the lowest first; the last byte has no high bit."""
    value = shift = 0
    while True:
        value |= (text[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if text[at - 1] < 128:
            return value, at


def _lz4(data: bytes, size: int) -> bytes:
    """A block of LZ4: literals, then a copy of what came `offset` bytes before, and so on; the last has no copy."""
    found, at = bytearray(), 0
    while at < len(data):
        token = data[at]
        count, at = _length(data, at + 1, token >> 4)
        found += data[at : at + count]
        at += count
        if at < len(data):
            offset = int.from_bytes(data[at : at + 2], "little")
            count, at = _length(data, at + 2, token & 15)
            count += 4
            last = bytes(found[-offset:])
            found += (last * (count // offset + 1))[:count]
    if len(found) != size:
        raise ValueError(f"a block of LZ4 has {len(found)} bytes, but should have {size}")
    return bytes(found)


def _length(data: bytes, at: int, nibble: int) -> tuple[int, int]:
    if nibble < 15:
        return nibble, at
    while True:
        nibble, at = nibble + data[at], at + 1
        if data[at - 1] < 255:
            return nibble, at
