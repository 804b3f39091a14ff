"""soc/: the accelerator behind AXI as tools for systems on chip read it, all from one description."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow.hardware.axi.bus import ID_BITS, IDENTITY, PAGE, VERSION, Register, constants, register_map, registers
from flow.hardware.emit import Port
from flow.hardware.fields import ERRORS
from flow.output.handoff.firmware import c_name
from flow.output.handoff.whole import TEMPLATES, Handoff, written_as

MHZ = 100  # of the clock constraint, to be set to the system's
CHANNELS = ("aw", "ar", "w", "b", "r")  # the longer names first


@dataclass(frozen=True)
class BusPort:
    """A port of a bus: its channel, and its role there."""

    name: str
    bits: int
    output: bool
    channel: str
    part: str

    @property
    def role(self) -> str:
        return self.channel + self.part


@dataclass(frozen=True)
class Bus:
    """A bus of the accelerator."""

    name: str
    type: str  # by the protocol
    master: bool
    ports: tuple[BusPort, ...]

    @classmethod
    def of(cls, name: str, kind: str, ports: tuple[Port, ...]) -> Bus:
        found = []
        for port in ports:
            if port.name.startswith(f"{name}_"):
                role = port.name.removeprefix(f"{name}_")
                channel = next(each for each in CHANNELS if role.startswith(each))
                found.append(BusPort(port.name, port.bits, port.output, channel, role.removeprefix(channel)))
        return cls(name, kind, any(port.role == "arvalid" and port.output for port in found), tuple(found))


def write_soc(folder: Path, handoff: Handoff, told: Mapping[str, Any]) -> None:
    """soc/, and TOP.core beside it: FuseSoC finds files of a core below its place only. `told`: see `describe`."""
    wrapper = handoff.wrapper
    top, c = wrapper.name, c_name(handoff)
    fixed = constants(handoff.program.config, wrapper.axi)
    there = registers(handoff.device.ports)
    masks = {name: {field.name: field.mask for field in each.fields} for name, each in register_map().items()}
    values: dict[str, Any] = {
        "top": top, "c": c, "upper": c.upper(), "version": VERSION, "identity": IDENTITY, "page": PAGE,
        "title": f"Bit-serial accelerator of bbs-flow for {_plain(handoff.name)}",
        "axi": wrapper.axi, "id_bits": ID_BITS, "mhz": MHZ, "errors": ERRORS, "masks": masks,
        "registers": [_register(register, fixed, wrapper.axi.address_bits) for register in there.values()],
        "every": list(register_map().values()), "ports": wrapper.ports,
        "buses": [Bus.of("s_axil", "AXI4-Lite", wrapper.ports), Bus.of("m_axi", "AXI4", wrapper.ports)],
        "verilog": [path.name for path in wrapper.files], "vhdl": [path.name for path in wrapper.vhdl_files],
        "buffer": max(each["bytes"] for each in (told["map"], (told["network"] or told)["map"])), "litex": _litex,
    }  # fmt: skip
    place = folder / "soc"
    place.mkdir()
    for template in sorted((Path(__file__).parent / "soc").glob("*.j2")):
        named = written_as(template, top)
        target = folder / named if named.endswith(".core") else place / named
        target.write_text(TEMPLATES.get_template(f"soc/{template.name}").render(values))
    (place / f"{top}.json").write_text(json.dumps(told, indent=1) + "\n")


def _plain(name: str) -> str:
    """A name that is text in every format, without anything to escape."""
    return re.sub(r"[^\w .:-]", "_", name, flags=re.ASCII)


def _register(register: Register, fixed: Mapping[str, int], address_bits: int) -> dict[str, Any]:
    """A register with the fields that it has in this build: all of one register have a name, an access and a reset."""
    value, constant = fixed.get(register.name, 0), register.name in fixed
    fields = [
        {
            "name": field.name, "low": field.low, "bits": field.bits, "meaning": field.meaning,
            "access": "constant" if constant else field.access or register.access,
            "reset": (value & field.mask) >> field.low,
        }
        for field in register.fields
    ]  # fmt: skip
    if not fields:
        low, bits = 0, 32
        access = "constant" if constant else register.access
        if register.name.endswith("_base"):
            low = PAGE.bit_length() - 1
            bits -= low
        elif register.name.endswith("_base_high"):
            bits = address_bits - 32 or bits
            access = access if address_bits > 32 else "constant"
        fields = [{"name": "value", "low": low, "bits": bits, "meaning": "", "access": access, "reset": value}]
    return {
        "name": register.name, "offset": register.offset, "meaning": register.meaning, "reset": value,
        "access": "r" if all(field["access"] in ("r", "constant") for field in fields) else "rw", "fields": fields,
    }  # fmt: skip


def _litex(bus: Bus, port: BusPort) -> str:
    """A port's signal in LiteX: what is not the payload of a channel is beside it; a slave's address is cut."""
    signal = f"{'master' if bus.master else 'slave'}.{port.channel}.{port.part}"
    return f"{signal}[:{port.bits}]" if port.part == "addr" and not bus.master else signal
