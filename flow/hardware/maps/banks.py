"""The memory of the feature maps: one bank for each array row, one word of eight bytes a bank in a cycle."""

from __future__ import annotations

from myhdl import Signal, always, always_comb, intbv

from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.wires import join
from flow.hardware.fields import WORD_BITS


@block
def bank(clk, write, mask, write_line, write_data, read, read_line, read_data, lines):
    """One bank: a write port with a mask of bytes, a registered read port that holds its word until the next read.

    A word that is written at the same time is read as it was before.
    """
    memory = [Signal(intbv(0)[WORD_BITS:]) for _ in range(lines)]

    @always(clk.posedge)
    def access():
        if write:
            if mask[0]:
                memory[write_line].next[8:0] = write_data[8:0]
            if mask[1]:
                memory[write_line].next[16:8] = write_data[16:8]
            if mask[2]:
                memory[write_line].next[24:16] = write_data[24:16]
            if mask[3]:
                memory[write_line].next[32:24] = write_data[32:24]
            if mask[4]:
                memory[write_line].next[40:32] = write_data[40:32]
            if mask[5]:
                memory[write_line].next[48:40] = write_data[48:40]
            if mask[6]:
                memory[write_line].next[56:48] = write_data[56:48]
            if mask[7]:
                memory[write_line].next[64:56] = write_data[64:56]
        if read:
            read_data.next = memory[read_line]

    return access


@block
def banks(clk, writes, mask, write_lines, write_data, reads, read_lines, read_data, rows, words):
    """All banks.

    write    writes[rows], mask[8] (alike for all), write_lines[line bits * rows], write_data[64 * rows]
    read     reads[rows], read_lines[line bits * rows]; read_data[64 * rows], one cycle later
    """
    bits = (words // rows - 1).bit_length()
    outputs = [Signal(intbv(0)[WORD_BITS:]) for _ in range(rows)]
    together = join(*reversed(outputs))
    parts = [
        bank(
            clk, writes(b), mask, write_lines(bits * b + bits, bits * b),
            write_data(WORD_BITS * b + WORD_BITS, WORD_BITS * b), reads(b), read_lines(bits * b + bits, bits * b),
            outputs[b], words // rows,
        )
        for b in range(rows)
    ]  # fmt: skip

    @always_comb
    def port():
        read_data.next = together

    return parts, port
