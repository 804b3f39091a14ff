"""The channels of AXI4 and AXI4-Lite, and how the wrapper's parts see registers, runs and bursts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flow.hardware.axi.bus import ID_BITS, INDEX_BITS
from flow.hardware.conversion.bundles import bits, flag
from flow.hardware.interface import COMMAND_BITS, ERROR_BITS


@dataclass(frozen=True)
class LiteAddress:
    """AXI4-Lite AW or AR, of a window of one page. `prot` is not looked at: buses must be able to connect it."""

    addr: Any = bits(INDEX_BITS + 2)
    prot: Any = bits(3)
    valid: Any = flag()
    ready: Any = flag()


@dataclass(frozen=True)
class LiteWrite:
    """AXI4-Lite W."""

    data: Any = bits(32)
    strb: Any = bits(4)
    valid: Any = flag()
    ready: Any = flag()


@dataclass(frozen=True)
class LiteRead:
    """AXI4-Lite R."""

    data: Any = bits(32)
    resp: Any = bits(2)
    valid: Any = flag()
    ready: Any = flag()


@dataclass(frozen=True)
class LiteResponse:
    """AXI4-Lite B."""

    resp: Any = bits(2)
    valid: Any = flag()
    ready: Any = flag()


@dataclass(frozen=True)
class Address:
    """AXI4 AW or AR."""

    id: Any = bits(ID_BITS)
    addr: Any = bits()
    len: Any = bits(8)
    size: Any = bits(3)
    burst: Any = bits(2)
    cache: Any = bits(4)
    prot: Any = bits(3)
    valid: Any = flag()
    ready: Any = flag()


@dataclass(frozen=True)
class Read:
    """AXI4 R."""

    id: Any = bits(ID_BITS)
    data: Any = bits()
    resp: Any = bits(2)
    last: Any = flag()
    valid: Any = flag()
    ready: Any = flag()


@dataclass(frozen=True)
class Write:
    """AXI4 W."""

    data: Any = bits()
    strb: Any = bits()
    last: Any = flag()
    valid: Any = flag()
    ready: Any = flag()


@dataclass(frozen=True)
class Response:
    """AXI4 B."""

    id: Any = bits(ID_BITS)
    resp: Any = bits(2)
    valid: Any = flag()
    ready: Any = flag()


@dataclass(frozen=True)
class RegisterAccess:
    """A register is written where `write` is high; `read_data` is that of `read_index`, combinational."""

    write: Any = flag()
    write_index: Any = bits(INDEX_BITS)
    write_data: Any = bits(32)
    write_strobe: Any = bits(4)
    read_index: Any = bits(INDEX_BITS)
    read_data: Any = bits(32)


@dataclass(frozen=True)
class Run:
    """The accelerator's host port as the registers drive it; `written`: all it has written is in memory."""

    start: Any = flag()
    first: Any = bits(COMMAND_BITS)
    count: Any = bits(COMMAND_BITS)
    done: Any = flag()
    error: Any = bits(ERROR_BITS)
    written: Any = flag()


@dataclass(frozen=True)
class Burst:
    """A read port wants `length` and one beats, `offset` bytes from its memory's base; granted in the same cycle."""

    request: Any = flag()
    offset: Any = bits()
    length: Any = bits(8)
    granted: Any = flag()
