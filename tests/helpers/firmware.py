"""Compiles the C drivers that a build hands over."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flow.hardware.axi.bus import MemoryRegion, constants, image_bytes, regions, registers
from flow.hardware.interface import MemoryPort
from flow.output.manifest import Manifest
from tests.helpers.layers import spread
from tests.helpers.tools import require_tool

DRIVER = r"""
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include "HEADER"

static uint32_t device[1024];
static uint8_t memory[UPPER_PARTMEMORY_BYTES], image[UPPER_PARTMEMORY_BYTES], again[UPPER_PARTMEMORY_BYTES];

static size_t bytes_of(const char *path)
{
    FILE *file = fopen(path, "rb");
    size_t size;
    assert(file);
    memset(image, 0, sizeof image);
    size = fread(image, 1, sizeof image, file);
    fclose(file);
    return size;
}

static void load(const char *path, uint8_t *at, uint32_t words, uint32_t bytes, uint32_t stride)
{
    size_t size = (size_t)words * bytes;
    assert(bytes_of(path) == size);
    bbs_axi_spread(at, image, words, bytes, stride);
    bbs_axi_gather(again, at, words, bytes, stride);
    assert(!memcmp(image, again, size));
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
    const struct bbs_map *map = &NAME_PARTmap;
    const uint32_t wide = 34u << BBS_FEATURES_ADDRESS_BITS_SHIFT, narrow = 32u << BBS_FEATURES_ADDRESS_BITS_SHIFT;
    assert(argc == 1 + FILES + 3);
    LOADS
    /* The image is the same by one copy. */
    assert(map->bytes == sizeof memory && bytes_of(argv[argc - 3]) == map->image);
    assert(!memcmp(image, memory, (size_t)map->image));
    memset(again, 0x5a, sizeof again);
    bbs_copy(again, image, (size_t)map->image);
    bbs_clear(again + map->image, (size_t)(map->bytes - map->image));
    assert(!memcmp(again, image, sizeof image));
    /* The accelerator is the one that the header is for, or it is refused. */
    assert(bbs_axi_init(device, &NAME_accelerator) == BBS_NO_ACCELERATOR);
    device[BBS_REG_ID / 4] = BBS_IDENTITY;
    assert(bbs_axi_init(device, &NAME_accelerator) == BBS_OTHER_VERSION);
    device[BBS_REG_VERSION / 4] = BBS_VERSION;
    assert(bbs_axi_init(device, &NAME_accelerator) == BBS_OTHER_BUILD);
    device[BBS_REG_BUILD / 4] = BUILDu;
    assert(bbs_axi_init(device, &NAME_accelerator) == BBS_OK);
    /* Addresses that the bus does not have are refused, and nothing is written; never are they cut. */
    device[BBS_REG_FEATURES / 4] = narrow;
    memcpy(again, device, sizeof device);
    assert(bbs_axi_place(device, map, 0x122334000u) == BBS_OUT_OF_REACH);
    assert(bbs_axi_place(device, map, 0xfffff000u) == BBS_OUT_OF_REACH);
    assert(bbs_axi_place(device, map, UINT64_MAX - 4095u) == BBS_OUT_OF_REACH);
    assert(bbs_axi_place(device, map, 0x40000010u) == BBS_NOT_ALIGNED);
    assert(bbs_axi_place_one(device, BBS_REG_OUTPUT_BASE, 0x100000000u, 1) == BBS_OUT_OF_REACH);
    assert(bbs_axi_place_one(device, BBS_REG_OUTPUT_BASE, 0xfffff000u, 4097) == BBS_OUT_OF_REACH);
    assert(bbs_axi_start(device, 0x12345u, 1, 1) == BBS_NO_COMMAND && bbs_axi_start(device, 0, 0, 1) == BBS_NO_COMMAND);
    assert(bbs_axi_start(device, 0, 0x10000u, 1) == BBS_NO_COMMAND);
    assert(!memcmp(again, device, sizeof device));
    assert(bbs_axi_place_one(device, BBS_REG_OUTPUT_BASE, 0xfffff000u, 4096) == BBS_OK);
    assert(bbs_axi_place(device, map, 0xf0000000u) == BBS_OK && device[BBS_REG_OUTPUT_BASE / 4 + 1] == 0);
    device[BBS_REG_STATUS / 4] = BBS_STATUS_BUSY_MASK;
    assert(bbs_axi_start(device, 1, 2, 1) == BBS_BUSY && device[BBS_REG_COMMAND / 4] == 0);
    device[BBS_REG_STATUS / 4] = BBS_STATUS_STOPPING_MASK;
    assert(bbs_axi_start(device, 1, 2, 1) == BBS_BUSY && device[BBS_REG_COMMAND / 4] == 0);
    device[BBS_REG_CONTROL / 4] = BBS_CONTROL_INTERRUPT_ENABLE_MASK;
    bbs_axi_abort(device);
    assert(device[BBS_REG_CONTROL / 4] == (BBS_CONTROL_INTERRUPT_ENABLE_MASK | BBS_CONTROL_ABORT_MASK));
    bbs_axi_watchdog(device, 1234);
    assert(device[BBS_REG_WATCHDOG / 4] == 1234);
    device[BBS_REG_WATCHDOG / 4] = 0;
    device[BBS_REG_STATUS / 4] = 0;
    device[BBS_REG_FEATURES / 4] = wide;
    assert(bbs_axi_place(device, map, 0x122334000u) == BBS_OK);
    device[BBS_REG_ID / 4] = device[BBS_REG_VERSION / 4] = device[BBS_REG_BUILD / 4] = device[BBS_REG_FEATURES / 4] = 0;
    assert(bbs_axi_start(device, 0x1234u, 0x5678u, 1) == BBS_OK);
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

STRICT = ("-Wall", "-Wextra", "-Wconversion", "-Wpedantic", "-Werror")
C99 = ("gcc", "-std=c99", *STRICT)
CXX = ("g++", "-std=c++11", *STRICT)


def header(build: Path) -> Path:
    """The header with a build's data, in firmware/."""
    (found,) = (file for file in (build / "firmware").glob("*.h") if file.name != "bbs.h")
    return found


def compiled(
    source: str, scratch: Path, builds: Sequence[Path], options: Sequence[str] = ("-O1",), compiler: Sequence[str] = C99
) -> str:
    """The program that a C file makes with the headers of these builds; its path."""
    file, program = scratch / ("main.c" if compiler is C99 else "main.cc"), str(scratch / "program")
    file.write_text(source)
    tool, *flags = compiler
    folders = [option for build in builds for option in ("-I", str(build / "firmware"))]
    subprocess.run([require_tool(tool), *flags, *options, *folders, "-o", program, str(file)], check=True)
    return program


def check_driver(
    build: Path, scratch: Path, files: list[Path], ports: Sequence[MemoryPort], network: bool
) -> list[MemoryRegion]:
    """A C program with both headers loads these images, one for each port; the package's own map and layout agree."""
    name = header(build).stem
    part = "NETWORK_" if network else ""
    loads = (
        f"load(argv[{i}], memory + UPPER_PARTOFFSET_{port}, UPPER_PARTWORDS_{port}, UPPER_BYTES_{port}, "
        f"UPPER_STRIDE_{port});"
        for i, port in enumerate((port.name.upper() for port in ports), 1)
    )
    manifest = Manifest.read(build)
    axi = manifest.bus
    source = DRIVER.replace("LOADS", "\n    ".join(loads)).replace("HEADER", f"{name}.h")
    source = source.replace("UPPER_PART", f"UPPER_{part}").replace("NAME_PART", f"NAME_{part.lower()}")
    source = source.replace("UPPER_", f"{name.upper()}_").replace("NAME_", f"{name}_").replace("FILES", str(len(files)))
    source = source.replace("BUILDu", f"{constants(manifest.array, axi)['build']:#x}u")
    image = build / "firmware" / "axi" / ("network.bin" if network else "layers.bin")
    memory, device = (str(scratch / name) for name in ("memory", "device"))
    program = compiled(source, scratch, [build])
    subprocess.run([program, *map(str, files), str(image), memory, device], check=True)
    images = {
        port.name: np.fromfile(file, np.uint8).reshape(-1, port.bytes) for port, file in zip(ports, files, strict=True)
    }
    placed = regions(ports, axi, {name: len(image) for name, image in images.items()})
    want = np.zeros(placed[-1].end, np.uint8)
    for region in placed:
        octets = spread(images[region.name], region.stride)
        want[region.offset : region.offset + len(octets)] = np.frombuffer(octets, np.uint8)
    assert Path(memory).read_bytes() == want.tobytes()
    assert image.read_bytes() == want[: image_bytes(placed)].tobytes()
    layout = registers(ports)
    written = {"command": 0x56781234, "control": 3}
    for region in placed:
        address = 0x122334000 + region.offset
        written |= {f"{region.name}_base": address % 2**32, f"{region.name}_base_high": address >> 32}
    found = dict(enumerate(np.fromfile(device, np.uint32).tolist()))
    assert {index: value for index, value in found.items() if value} == {
        layout[name].index: value for name, value in written.items()
    }
    return placed
