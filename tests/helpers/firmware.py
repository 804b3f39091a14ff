"""Compiles the C drivers that a build hands over."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flow.hardware.axi.bus import MemoryRegion, regions, registers
from flow.hardware.interface import MemoryPort
from flow.output.manifest import Manifest
from tests.helpers.layers import spread
from tests.helpers.tools import require_tool

DRIVER = r"""
#include <assert.h>
#include <stdio.h>
#include "axi/registers.h"
#include "HEADER"

static uint32_t device[1024];
static uint8_t memory[PREFIXMEMORY_BYTES], image[PREFIXMEMORY_BYTES], again[PREFIXMEMORY_BYTES];

static void load(const char *path, uint8_t *at, uint32_t words, uint32_t bytes, uint32_t stride)
{
    FILE *file = fopen(path, "rb");
    size_t size = (size_t)words * bytes;
    assert(file && fread(image, 1, sizeof image, file) == size);
    fclose(file);
    bbs_axi_spread(at, image, words, bytes, stride);
    bbs_axi_gather(again, at, words, bytes, stride);
    assert(!memcmp(image, again, size));
    memset(image, 0, sizeof image);
}

static void show(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert(file && fwrite(data, 1, size, file) == size);
    fclose(file);
}

/* Files in the order of the ports: loaded where the header says; the memory and the registers written are shown. */
int main(int argc, char **argv)
{
    assert(argc == 1 + FILES + 2);
    LOADS
    bbs_axi_PLACE(device, 0x1122334000u);
    bbs_axi_start(device, 0x1234u, 0x5678u, 1);
    show(argv[argc - 2], memory, sizeof memory);
    show(argv[argc - 1], device, sizeof device);
    device[BBS_REG_STATUS / 4] = BBS_STATUS_DONE_MASK;
    assert(bbs_axi_wait(device) == 0 && device[BBS_REG_STATUS / 4] == BBS_STATUS_DONE_MASK);
    device[BBS_REG_STATUS / 4] = BBS_STATUS_DONE_MASK | (uint32_t)BBS_ERROR_BUFFER << BBS_STATUS_ERROR_SHIFT;
    assert(bbs_axi_finish(device) >> BBS_STATUS_ERROR_SHIFT == BBS_ERROR_BUFFER);
    device[BBS_REG_STATUS / 4] = BBS_STATUS_DONE_MASK | BBS_STATUS_READ_ERROR_MASK;
    assert(bbs_axi_wait(device) == BBS_STATUS_READ_ERROR_MASK);
    return 0;
}
"""

STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror", "-O1")


def check_driver(
    build: Path, scratch: Path, files: list[Path], ports: Sequence[MemoryPort], network: bool
) -> list[MemoryRegion]:
    """A C program with both headers loads these images, one for each port; the package's own map and layout agree."""
    loads = (
        f"load(argv[{i}], memory + PREFIXOFFSET_{name}, PREFIXWORDS_{name}, BBS_BYTES_{name}, BBS_STRIDE_{name});"
        for i, name in enumerate((port.name.upper() for port in ports), 1)
    )
    (header,) = (build / "firmware").glob("*.h")
    source = DRIVER.replace("LOADS", "\n    ".join(loads)).replace("PREFIX", "BBS_NETWORK_" if network else "BBS_")
    source = source.replace("PLACE", "place_network" if network else "place").replace("HEADER", header.name)
    (scratch / "driver.c").write_text(source.replace("FILES", str(len(files))))
    program, memory, device = (str(scratch / name) for name in ("driver", "memory", "device"))
    include = ["-I", str(build / "firmware")]
    subprocess.run([require_tool("gcc"), *STRICT, *include, "-o", program, str(scratch / "driver.c")], check=True)
    subprocess.run([program, *map(str, files), memory, device], check=True)
    axi = Manifest.read(build).bus
    images = [np.fromfile(file, np.uint8).reshape(-1, port.bytes) for port, file in zip(ports, files, strict=True)]
    words = {port.name: len(image) for port, image in zip(ports, images, strict=True)}
    placed = regions(ports, axi, words)
    want = np.zeros(placed[-1].end, np.uint8)
    for region, image in zip(placed, images, strict=True):
        octets = spread(image, region.stride)
        want[region.offset : region.offset + len(octets)] = np.frombuffer(octets, np.uint8)
    assert Path(memory).read_bytes() == want.tobytes()
    layout = registers(ports)
    written = {"command": 0x56781234, "control": 3}
    for region in placed:
        address = 0x1122334000 + region.offset
        written |= {f"{region.name}_base": address % 2**32, f"{region.name}_base_high": address >> 32}
    found = dict(enumerate(np.fromfile(device, np.uint32).tolist()))
    assert {index: value for index, value in found.items() if value} == {
        layout[name].index: value for name, value in written.items()
    }
    return placed
