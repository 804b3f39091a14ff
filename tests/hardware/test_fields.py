"""The layout of words is said once, and what pages and docstrings say of it is computed from there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from flow.hardware.accelerator import accelerator
from flow.hardware.fields import (
    CHANNEL,
    CHANNEL_BITS,
    DESCRIPTOR,
    DESCRIPTOR_BITS,
    MAP_DESCRIPTOR,
    MAP_DESCRIPTOR_BITS,
    PARAMETER,
    PARAMETER_BITS,
    WRITES,
    ZERO,
    descriptor_slice,
)
from flow.scheduling.words import pack_parameters, unpack_fields

PAGE = (Path(__file__).parents[2] / "docs" / "hardware.md").read_text()


def bits(fields: tuple[tuple[str, int], ...]) -> int:
    return sum(width for _, width in fields)


def test_the_fields_of_maps_begin_where_it_is_said() -> None:
    """Right behind the last field of a plain descriptor, not behind its word."""
    begin = descriptor_slice(MAP_DESCRIPTOR[0][0])[1]
    assert begin == bits(DESCRIPTOR) < DESCRIPTOR_BITS
    said = [
        int(number) for text in (PAGE, str(accelerator.__doc__)) for number in re.findall(r"from bit (\d+) on", text)
    ]
    assert said == [begin, begin]


def test_words_hold_their_fields() -> None:
    whole = DESCRIPTOR_BITS + MAP_DESCRIPTOR_BITS
    for fields, width in ((DESCRIPTOR, DESCRIPTOR_BITS), ((*DESCRIPTOR, *MAP_DESCRIPTOR), whole)):
        assert bits(fields) <= width < bits(fields) + 32 and width % 32 == 0
    assert (DESCRIPTOR_BITS, whole, PARAMETER_BITS, CHANNEL_BITS) == (416, 1280, 64, 8)
    assert re.search(rf"`descriptor_data` .* {DESCRIPTOR_BITS} or {whole} ", PAGE)


def test_flags_of_an_entry_are_the_bits_above_its_column() -> None:
    assert dict(CHANNEL)["column"] == 6 and (ZERO, WRITES) == (0x40, 0x80)


def test_parameters_are_packed_as_their_fields_say() -> None:
    given = {"bias": np.array([-5, 7]), "multiplier": np.array([2**23, 2**24 - 1]), "shift": np.array([1, 57])}
    words = pack_parameters(*given.values())
    for number, word in enumerate(words):
        found = unpack_fields(np.frombuffer(int(word).to_bytes(8, "little"), np.uint8), PARAMETER)
        wanted = {name: int(values[number]) for name, values in given.items()}
        assert found == wanted | {"bias": wanted["bias"] % 2**32}
