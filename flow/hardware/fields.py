"""The layout of descriptors, parameters and map entries, least significant field first."""

from __future__ import annotations

from typing import Final

from flow.network import model

OFFSET: Final = model.OFFSET  # a byte on the wires is unsigned: the int8 code plus this
SUBGROUP: Final = 8  # activations that one sub-group of an element sees: an octet
WORD_BITS: Final = 64  # eight channels of one pixel
ADDRESS: Final = 24  # bits of a word's number
COORDINATE: Final = 16  # bits of a row or column, modulo: what is left of or above the map is large


def field_span(fields: tuple[tuple[str, int], ...], name: str) -> tuple[int, int]:
    """(end, begin) bit positions of a field, as MyHDL slices want them."""
    begin = 0
    for field, width in fields:
        if field == name:
            return begin + width, begin
        begin += width
    raise KeyError(name)


def _whole_words(fields: tuple[tuple[str, int], ...]) -> int:
    """Bits of a word that holds the fields: a multiple of 32."""
    return -(-sum(width for _, width in fields) // 32) * 32


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

# An entry says how eight channels of a finished tile go into one octet plane: of each the array column it is in,
# or zero instead, and whether it is written at all.
CHANNEL: Final[tuple[tuple[str, int], ...]] = (("column", 6), ("zero", 1), ("write", 1))
CHANNEL_BITS: Final = sum(width for _, width in CHANNEL)
ENTRY: Final[tuple[tuple[str, int], ...]] = (
    *((f"channel_{i}", CHANNEL_BITS) for i in range(8)),
    ("offset", ADDRESS),  # added to the word
    ("offset_x", 8),
    ("offset_y", 8),
)
ENTRY_BITS: Final = sum(width for _, width in ENTRY)
WRITES: Final = 1 << field_span(CHANNEL, "write")[1]  # of a channel in an entry
ZERO: Final = 1 << field_span(CHANNEL, "zero")[1]

# One descriptor is one channel block: up to `columns` output channels, every position tile. Least significant
# field first. Counts are in words of the memory they belong to.
DESCRIPTOR: Final[tuple[tuple[str, int], ...]] = (
    ("weight_base", 32),
    ("weight_count", 32),
    ("metadata_base", 32),
    ("metadata_count", 32),
    ("activation_base", 32),
    ("activation_count", 32),
    ("parameter_base", 32),
    ("parameter_count", 16),
    ("output_base", 32),
    ("tile_stride", 24),  # output words from one position tile to the next
    ("plane_stride", 16),  # output words from one byte plane of a raw result to the next
    ("tiles", 24),  # position tiles
    ("steps", 16),  # reduction steps of one tile
    ("channels", 16),  # channels of this block
    ("columns", 4),  # stored bit columns, 8 - N
    ("hold", 1),  # the block's windows stay in the buffer, for the next block, which fetches none of its own
    ("ahead", 1),  # the windows that are fetched with the block are the next one's; its own are there
    ("resident", 1),  # the block's weights stay in the buffer for all tiles
    ("raw", 1),  # write the 32-bit sums, byte plane by byte plane, instead of requantizing
    ("zero", 8),  # output zero point + OFFSET
    ("low", 8),  # clamp, + OFFSET
    ("high", 8),
)
DESCRIPTOR_BITS: Final = _whole_words(DESCRIPTOR)

# With feature maps on chip a descriptor goes on behind the last of these fields: where operands come from and results
# go, and post-processing.
FACTOR_BITS: Final = 21  # so that two bytes times their factors fit a 32-bit sum
PRODUCT_OFFSET: Final = 1 << 16  # added to a product, which is no longer negative then
MINUS_OFFSET: Final = 1 << 8 + FACTOR_BITS  # added to a difference, likewise
MAP_DESCRIPTOR: Final[tuple[tuple[str, int], ...]] = (
    ("post", 1),  # sums or maxima of windows instead of products; `factor_*` weigh the octets of a step
    ("maximum", 1),
    ("mirror", 1),  # results also go to the output port
    ("factor_low", FACTOR_BITS),
    ("factor_high", FACTOR_BITS),
    ("entry_base", 32),
    ("entry_count", 16),  # of a tile, into the maps; none if it is not kept
    *TAPS,
    *((f"fetch_{name}", width) for name, width in WALK),
    *((f"store_{name}", width) for name, width in WALK),
    ("through", 1),  # with tables: the results of post-processing go through the table
    ("fill", 1),  # with tables: lane 0 of the parameters are the words of a table, and one word more
    ("product", 1),  # with products: of the octets of a step, less the zero points in the `factor_*`
    ("minus", 1),  # with products: the high octet, times its factor, is subtracted
    ("normalize", 1),  # with a normalizer: channels of a position; maximum: Softmax; `factor_*` are NORM_LOW, NORM_HIGH
    ("applies", 1),  # with a normalizer: an octet of the positions that were measured last leaves it
    ("constants", 1),  # with a normalizer: lane 0 of the parameters are its constants, and one word more
    ("operand", 1),  # with operands: with `post`, octets become weights; else the weights are those, none of the memory
    ("across", 1),  # with operands: eight pixels of a channel are its weights, not eight channels of a pixel
)
MAP_DESCRIPTOR_BITS: Final = _whole_words((*DESCRIPTOR, *MAP_DESCRIPTOR)) - DESCRIPTOR_BITS  # what it adds
NORM_LOW: Final[tuple[tuple[str, int], ...]] = (
    ("count", 13),  # channels of a position
    ("centred", 1),  # their mean is taken out
)
NORM_HIGH: Final[tuple[tuple[str, int], ...]] = (
    ("centre", 8),  # the byte of real zero
    ("scale", 7),  # one less than how far results are shifted right
    ("negative", 1),  # their sign is changed
    ("doublings", 5),  # of the root of what is summed
)
EXPONENTIAL_BITS: Final = 32  # of an exponential behind the point
QUOTIENT_BITS: Final = 28  # of a quotient
MOST_NORMALIZED: Final = 4096  # channels of a position
MEASURED: Final = 64  # tiles whose sums the normalizer keeps
NORM_WORDS: Final = 256  # exponentials: most words of constants
TABLE_WORDS: Final = 32  # of eight bytes: for each byte the one that it becomes
ENTRY_DEPTH: Final = 64  # words of the entries' buffer: those of two blocks, or of a large one

# Per output channel, least significant field first.
PARAMETER: Final[tuple[tuple[str, int], ...]] = (("bias", 32), ("multiplier", 24), ("shift", 8))
PARAMETER_BITS: Final = sum(width for _, width in PARAMETER)
INDEX_BITS: Final = 16

# Why a run ended early: the error code is the place in this list.
ERRORS: Final[tuple[tuple[str, str], ...]] = (
    ("none", "the run is right"),
    ("command", "start with count 0"),
    ("tiles", "no tiles, or more than one of a block that is not resident"),
    ("steps", "no steps"),
    ("columns", "bit columns outside what the element takes: 2 to 8, dense 1 to 8"),
    ("channels", "no channels, or more than the array has columns"),
    ("weight_count", "not steps x columns"),
    ("metadata_count", "not a word for every two steps, dense none"),
    ("activation_count", "not tiles x steps x beats, or 0 where the windows are there"),
    ("parameter_count", "not channels / lanes, rounded up"),
    ("buffer", "a resident block whose weights or metadata are more than their buffer holds"),
    ("aborted", "ended by the host, behind AXI"),
    ("watchdog", "ended after as many cycles as the host permits, behind AXI"),
    ("hold", "windows to hold are more than their buffer, or those that are there are not as many as the block's"),
)


def error_code(name: str) -> int:
    """The code of an error."""
    return [error for error, _ in ERRORS].index(name)


def descriptor_slice(name: str) -> tuple[int, int]:
    """(end, begin) bit positions of a descriptor field, as MyHDL slices want them."""
    return field_span((*DESCRIPTOR, *MAP_DESCRIPTOR), name)
