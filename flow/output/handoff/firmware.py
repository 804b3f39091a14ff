"""firmware/bbs.h and NAME.h: C headers with which a driver loads, starts and reads the accelerator."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flow.hardware.axi.bus import IDENTITY, PAGE, VERSION, register_map
from flow.hardware.fields import ERRORS
from flow.output.handoff.whole import TEMPLATES, Handoff

SHARED = "bbs"  # the header of all builds


def write_firmware(folder: Path, handoff: Handoff, told: Mapping[str, Any]) -> None:
    """firmware/bbs.h, the same in all builds, and NAME.h, this build's data: a program may have those of several.

    NAME.h has all a driver needs to load the memories, start each layer and read its outputs. If the whole network runs
    on chip, also what is needed to start it. `told` is the build's `describe`.
    """
    (folder / "firmware").mkdir()
    shared = TEMPLATES.get_template(f"{SHARED}.h.j2").render(
        registers=list(register_map().values()), errors=ERRORS, identity=IDENTITY, version=VERSION, page=PAGE
    )
    (folder / "firmware" / f"{SHARED}.h").write_text(shared)
    name = c_name(handoff)
    text = TEMPLATES.get_template("firmware.h.j2").render(
        told, c=name, upper=name.upper(), top=handoff.device.name, version=VERSION,
        bytes={memory["name"]: memory["bytes"] for memory in told["memories"]},
    )  # fmt: skip
    (folder / "firmware" / f"{name}.h").write_text(text)


def c_name(handoff: Handoff) -> str:
    """What the names of a build begin with in C."""
    return identifier(handoff.program.config.prefix or handoff.name)


def identifier(name: str) -> str:
    """A name as C identifiers begin with it; none of bbs.h begins so."""
    plain = re.sub(r"\W", "_", name, flags=re.ASCII)
    return plain if re.match(rf"(?!{SHARED})[a-z]", plain, re.IGNORECASE) else f"net_{plain}"


def _c_string(text: str) -> str:
    """A C string literal; other characters than plain ASCII as octal escapes of their UTF-8 bytes."""
    plain = (chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode())
    return f'"{"".join(plain)}"'


def _c_comment(text: str) -> str:
    """Text that neither ends a comment nor leaves its line."""
    return " ".join(text.replace("*/", "* /").replace("/*", "/ *").split())


def _c_float(value: float) -> str:
    digits = f"{value:.9g}"
    return digits + ("f" if "." in digits or "e" in digits else ".0f")


TEMPLATES.filters |= {"c_string": _c_string, "c_comment": _c_comment, "c_float": _c_float}
