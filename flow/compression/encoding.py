"""How pruned weights are stored: groups of 32 with N bit columns removed, one metadata byte each.

A group is 32 consecutive weights of one output channel. With N columns pruned, r of them are redundant sign
columns at the top and k = N - r are removed at the bottom, so that a weight is

    W' = (S << k) + d      S: 8-N bits, two's complement, one per weight;  r, d: one per group

(BBS paper, section III-B). Every number of the format is a field of `Encoding`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow.errors import FlowError


@dataclass(frozen=True)
class Encoding:
    """The numbers of the stored format (paper, sections III-B and V-A)."""

    weight_bits: int = 8
    group_size: int = 32
    constant_bits: int = 6
    shift_bits: int = 2
    max_columns_pruned: int = 6

    @property
    def constant_min(self) -> int:
        return -(1 << (self.constant_bits - 1))

    @property
    def constant_max(self) -> int:
        return (1 << (self.constant_bits - 1)) - 1

    @property
    def metadata_bits(self) -> int:
        return self.shift_bits + self.constant_bits

    @property
    def weight_min(self) -> int:
        return -(1 << (self.weight_bits - 1))

    @property
    def weight_max(self) -> int:
        return (1 << (self.weight_bits - 1)) - 1

    def max_redundant(self, columns_pruned: int) -> int:
        """The largest r: at most N, and at most what the metadata can hold."""
        return min((1 << self.shift_bits) - 1, columns_pruned)

    def kept_range(self, columns_pruned: int) -> tuple[int, int]:
        """Smallest and largest S with N columns pruned, both included."""
        half = 1 << (self.weight_bits - columns_pruned - 1)
        return -half, half - 1

    def group_bytes(self, columns_pruned: int) -> int:
        """Bytes of one packed group, its metadata byte included."""
        bits = (self.weight_bits - columns_pruned) * self.group_size + self.metadata_bits
        return bits // 8


BBS = Encoding()


def check_columns_pruned(columns_pruned: int, place: str = "") -> None:
    """Raise FlowError unless the format supports N; `place` names the layer in the message."""
    if columns_pruned not in range(BBS.max_columns_pruned + 1):  # refuses 2.5, too
        where = f" in {place}" if place else ""
        raise FlowError(
            f"pruned bit columns must be 0..{BBS.max_columns_pruned}, got {columns_pruned}{where}; "
            "choose a whole number in that range"
        )


@dataclass(frozen=True)
class EncodedGroups:
    """Groups of one N: kept S int8 [groups, 32], redundant r uint8 [groups], constant d int8 [groups]."""

    columns_pruned: int
    kept: NDArray[np.int8]
    redundant: NDArray[np.uint8]
    constant: NDArray[np.int8]

    @property
    def count(self) -> int:
        return int(self.kept.shape[0])

    def check(self) -> None:
        """Assert shapes, types and ranges of every field (a failure is a bug of the code that encoded the groups)."""
        assert 0 <= self.columns_pruned <= BBS.max_columns_pruned, self.columns_pruned
        assert self.kept.shape == (self.count, BBS.group_size), self.kept.shape
        assert self.redundant.shape == self.constant.shape == (self.count,)
        assert self.kept.dtype == self.constant.dtype == np.int8 and self.redundant.dtype == np.uint8
        if self.count == 0:
            return
        lowest, highest = BBS.kept_range(self.columns_pruned)
        assert lowest <= self.kept.min() and self.kept.max() <= highest
        assert self.redundant.max() <= BBS.max_redundant(self.columns_pruned)
        assert BBS.constant_min <= self.constant.min() and self.constant.max() <= BBS.constant_max
        if self.columns_pruned == 0:
            assert not self.redundant.any() and not self.constant.any()
        values = _values(self)
        assert BBS.weight_min <= values.min() and values.max() <= BBS.weight_max, "not legal INT8"


@dataclass(frozen=True)
class EncodedPart:
    """The channels of a layer that share one N.

    `channels` int64 [n] are their numbers in the layer, ascending; `groups` holds the groups of the first
    channel in order, then those of the second, and so on.
    """

    channels: NDArray[np.int64]
    groups: EncodedGroups


@dataclass(frozen=True)
class EncodedLayer:
    """A layer's weights as stored: one part per N in use, N ascending.

    `columns_pruned` int64 [channels] is each channel's N; `reduction` is the weights of one channel, without
    the padding of its last group.
    """

    reduction: int
    columns_pruned: NDArray[np.int64]
    parts: tuple[EncodedPart, ...]

    @property
    def channels(self) -> int:
        return int(self.columns_pruned.shape[0])

    @property
    def groups_per_channel(self) -> int:
        return -(-self.reduction // BBS.group_size)

    def check(self) -> None:
        """Assert that the parts hold every channel once, under its own N, with all its groups."""
        seen = [part.channels for part in self.parts]
        every = np.sort(np.concatenate(seen)) if seen else np.empty(0, np.int64)
        assert np.array_equal(every, np.arange(self.channels))
        for part in self.parts:
            part.groups.check()
            assert part.groups.count == part.channels.size * self.groups_per_channel
            assert (self.columns_pruned[part.channels] == part.groups.columns_pruned).all()


def _values(groups: EncodedGroups) -> NDArray[np.int16]:
    shift = (groups.columns_pruned - groups.redundant.astype(np.int16))[:, None]
    return (groups.kept.astype(np.int16) << shift) + groups.constant.astype(np.int16)[:, None]


def decode(groups: EncodedGroups) -> NDArray[np.int8]:
    """The weights (S << (N - r)) + d, int8 [groups, 32]; exact, since encoded groups are legal INT8."""
    return _values(groups).astype(np.int8)


def decode_layer(layer: EncodedLayer) -> NDArray[np.int8]:
    """The layer's weights int8 [channels, reduction], channels in their original order, padding removed."""
    weights = np.empty((layer.channels, layer.reduction), np.int8)
    for part in layer.parts:
        rows = decode(part.groups).reshape(part.channels.size, layer.groups_per_channel * BBS.group_size)
        weights[part.channels] = rows[:, : layer.reduction]
    return weights


def bit_columns(groups: EncodedGroups) -> NDArray[np.bool_]:
    """The stored columns, bool [groups, 8-N, 32], most significant (the sign of S) first."""
    columns = BBS.weight_bits - groups.columns_pruned
    significance = np.arange(columns - 1, -1, -1, dtype=np.uint8)[None, :, None]
    bits = (groups.kept.view(np.uint8)[:, None, :] >> significance) & np.uint8(1)
    return bits.astype(np.bool_)


def from_bit_columns(columns: NDArray[np.bool_]) -> NDArray[np.int8]:
    """S int8 [groups, 32] of columns bool [groups, 8-N, 32]: the inverse of `bit_columns`."""
    count = columns.shape[1]
    weight = 1 << np.arange(count - 1, -1, -1, dtype=np.int16)
    weight[0] = -weight[0]  # two's complement: the first column counts negative
    kept: NDArray[np.int16] = np.einsum("gcw,c->gw", columns.astype(np.int16), weight)
    return kept.astype(np.int8)


# One packed group, C = 8-N columns, 4C+1 bytes:
#
#   byte   0 .. 3          4 .. 7          ...   4C-4 .. 4C-1       4C
#        | column C-1    | column C-2    | ... | column 0        | metadata |
#          (sign of S)                                             7 6 5 4 3 2 1 0
#                                                                 | r | d          |
#   A column is a 32-bit little-endian word: weight i of the group is bit i (byte i // 8, bit i % 8).
#   d is 6 bits two's complement.
def pack(groups: EncodedGroups) -> bytes:
    """The groups as bytes, one after the other, in the layout drawn above; N=0 stores r = d = 0."""
    words = np.packbits(bit_columns(groups), axis=2, bitorder="little")
    words = words.reshape(groups.count, BBS.group_bytes(groups.columns_pruned) - 1)
    low = groups.constant.view(np.uint8) & np.uint8((1 << BBS.constant_bits) - 1)
    metadata = (groups.redundant << np.uint8(BBS.constant_bits)) | low
    return np.concatenate([words, metadata[:, None]], axis=1).tobytes()


def unpack(data: bytes, columns_pruned: int) -> EncodedGroups:
    """The groups that `pack` stored with N = `columns_pruned`.

    Raises FlowError if N is out of range or the data is no whole number of groups.
    """
    check_columns_pruned(columns_pruned)
    size = BBS.group_bytes(columns_pruned)
    if len(data) % size:
        raise FlowError(
            f"packed groups with N={columns_pruned} take {size} bytes each, got {len(data)} bytes; "
            "pass whole groups and the N they were packed with"
        )
    rows = np.frombuffer(data, np.uint8).reshape(-1, size)
    count, columns = rows.shape[0], BBS.weight_bits - columns_pruned
    words = rows[:, :-1].reshape(count, columns, BBS.group_size // 8)
    bits = np.unpackbits(words, axis=2, bitorder="little").astype(np.bool_)
    metadata = rows[:, -1]
    free = np.uint8(8 - BBS.constant_bits)  # shifted left, then arithmetically right: extends the sign of d
    constant = (metadata << free).view(np.int8) >> free.view(np.int8)
    redundant = metadata >> np.uint8(BBS.constant_bits)
    return EncodedGroups(columns_pruned, from_bit_columns(bits), redundant, constant)


def bits_per_weight(columns_pruned: int) -> float:
    """Bits a weight counts for: 8 - N + 8/32 with N > 0, and 8 with N = 0.

    The stream keeps a metadata byte for N = 0 as well (always zero, so that all groups have one layout); the
    paper's averages do not count it for unpruned channels, and neither does this function.
    """
    check_columns_pruned(columns_pruned)
    if columns_pruned == 0:
        return float(BBS.weight_bits)
    return BBS.weight_bits - columns_pruned + BBS.metadata_bits / BBS.group_size
