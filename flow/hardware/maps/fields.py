"""What the blocks of the feature maps read, least significant field first.

A map of C channels, H rows and W columns lies as ceil(C / 8) octet planes. A word is eight channels of one pixel; the
word of pixel (y, x) of plane c is base + c * plane + y * W + x. Word a is in bank a % rows, at line a // rows.
"""

from __future__ import annotations

from typing import Final

WORD_BITS: Final = 64  # eight channels of one pixel
ADDRESS: Final = 24  # bits of a word's number
COORDINATE: Final = 16  # bits of a row or column, modulo: what is left of or above the map is large

# A walk goes over the windows of a map, `rows` of the array at a time. `word` is the word of the window's first tap,
# (x, y) its place, which may lie outside the map. Everything is modulo its width.
WALK: Final[tuple[tuple[str, int], ...]] = (
    ("word", ADDRESS),  # of window 0
    ("x", COORDINATE),
    ("y", COORDINATE),
    ("window", COORDINATE),  # number of window 0 in its row of windows
    ("windows", COORDINATE),  # in a row of windows
    ("step_word", ADDRESS),  # from one window to the next in its row
    ("step_x", COORDINATE),
    ("step_y", COORDINATE),  # from one row of windows to the next
    ("wrap_word", ADDRESS),  # what is added where a row of windows ends
    ("wrap_x", COORDINATE),
    ("tile_windows", COORDINATE),  # array rows modulo `windows`
    ("tile_word", ADDRESS),  # from a window to that of the same array row in the next tile
    ("tile_x", COORDINATE),
    ("tile_y", COORDINATE),
    ("positions", ADDRESS),  # windows in all
    ("height", COORDINATE),  # of the map: what lies beyond is padding
    ("width", COORDINATE),
)
WALK_BITS: Final = sum(width for _, width in WALK)

# The taps of a window, in the order row, column, octet: how many, and what is added to the word from one to the next.
TAPS: Final[tuple[tuple[str, int], ...]] = (
    ("taps_y", 12),
    ("taps_x", 12),
    ("taps_octet", 16),
    ("delta_octet", ADDRESS),
    ("delta_x", ADDRESS),  # from the last octet of a column to the first of the next column
    ("delta_y", ADDRESS),
    ("dilation_x", 8),
    ("dilation_y", 8),
    ("pad", 8),  # the byte outside the map
    ("filler", 1),  # a word of zeros after the taps of every tile
    ("external", 1),  # from the activation memory instead, word after word
    ("wait", 1),  # for everything before to be written
)
TAPS_BITS: Final = sum(width for _, width in TAPS)

# An entry says how eight channels of a finished tile go into one octet plane.
CHANNEL_BITS: Final = 8  # of one of them: the array column (6 bits), zero instead (1), write (1)
ENTRY: Final[tuple[tuple[str, int], ...]] = (
    *((f"channel_{i}", CHANNEL_BITS) for i in range(8)),
    ("offset", ADDRESS),  # added to the word
    ("offset_x", 8),
    ("offset_y", 8),
)
ENTRY_BITS: Final = sum(width for _, width in ENTRY)


def place(fields: tuple[tuple[str, int], ...], name: str) -> tuple[int, int]:
    """(end, begin) bit positions of a field, as MyHDL slices want them."""
    begin = 0
    for field, width in fields:
        if field == name:
            return begin + width, begin
        begin += width
    raise KeyError(name)
