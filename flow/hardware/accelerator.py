"""The accelerator's top: streams, array, write-back and their controllers behind one host port."""

from __future__ import annotations

from myhdl import ResetSignal, Signal, always_comb, always_seq, intbv

from flow.hardware.config import SUBGROUP
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.array import array
from flow.hardware.core.dispatcher import dispatcher
from flow.hardware.core.drain import drain_control
from flow.hardware.core.guard import guard
from flow.hardware.core.sequencer import sequencer
from flow.hardware.core.stream import stream
from flow.hardware.core.write_back import write_back
from flow.hardware.fields import (
    ENTRY_BITS,
    ENTRY_DEPTH,
    INDEX_BITS,
    PARAMETER_BITS,
    TAPS,
    WALK,
    WORD_BITS,
    descriptor_slice,
)
from flow.hardware.interface import ERROR_BITS
from flow.hardware.maps.banks import banks
from flow.hardware.maps.fetch import fetch
from flow.hardware.maps.post import post
from flow.hardware.maps.store import store

PARAMETER_DEPTH = 32  # words: two blocks of at most eight words each, and room


@block
def accelerator(
    clk, reset, start, first, count, busy, done, error,
    descriptor_en, descriptor_addr, descriptor_ready, descriptor_valid, descriptor_data,
    weight_en, weight_addr, weight_ready, weight_valid, weight_data,
    metadata_en, metadata_addr, metadata_ready, metadata_valid, metadata_data,
    activation_en, activation_addr, activation_ready, activation_valid, activation_data,
    parameter_en, parameter_addr, parameter_ready, parameter_valid, parameter_data,
    index_en, index_addr, index_ready, index_valid, index_data,
    output_valid, output_addr, output_data, output_ready,
    config,
    entry_en=None, entry_addr=None, entry_ready=None, entry_valid=None, entry_data=None,
):  # fmt: skip
    """The whole accelerator.

    host     pulse start with first[16] and count[16] (descriptors), steady while it runs; busy; done: high for one
             cycle as the last result is written; error[4]: with done, 0 or the place in flow/hardware/config.py
             ERRORS of what is wrong with the command or a descriptor: results are not all written then; holds until
             the next start; start is not looked at while busy
    memory   read ports: *_en, *_addr[32] out, *_ready in: a request is taken at an edge where *_en and *_ready
             are high, and holds until then; *_valid, *_data in: the words in the order of the requests, one cycle
             later or more, looked at only while *_valid is high; descriptor_data holds until the next request for
             one is taken; a word's bytes lie lowest first, as in memory/*.hex
             descriptor  416 bits: one channel block, its fields as in flow/hardware/config.py DESCRIPTOR; with
                         feature maps 1280 bits: MAP_DESCRIPTOR follows
             weight      16 (dense: 8) bits for each array column: one bit column of as many weights
             metadata    a byte for each array column: d (6 bits, signed) below r (2 bits)
             activation  8 bytes for each row: u = x + 128
             parameter   for each lane: bias (32 bits, signed), multiplier (24), shift (8)
             index       for each lane: the channel's number (16 bits)
             entry       with feature maps: 104 bits, how eight channels go into them, as in maps/fields.py ENTRY
    output   output_valid[lanes], output_addr[32 * lanes], output_data[8 * rows * lanes] out: one word of `rows`
             bytes per lane and channel; output_ready in: all of them are taken where it is high, and hold until then
    """
    lanes, bits = config.lanes, config.accumulator_bits

    def field(name):
        return descriptor_data(*descriptor_slice(name))

    def flag():
        return Signal(bool(0))

    enable, finished, capture, drain = flag(), flag(), flag(), flag()
    valid, first_column, last_column, load, high_phase = flag(), flag(), flag(), flag(), flag()
    w_job, m_job, a_job, p_job, i_job, c_job, d_job, f_job, s_job = (flag() for _ in range(9))
    w_free, m_free, a_free, p_free, i_free, c_free, d_free = (flag() for _ in range(7))
    tile_done, tiles_done, written = flag(), flag(), flag()
    w_ready, m_ready, a_ready, p_ready, i_ready = (flag() for _ in range(5))
    w_read, w_rewind, w_release = flag(), flag(), flag()
    m_read, m_rewind, m_release = flag(), flag(), flag()
    a_read, never, always_high = flag(), flag(), Signal(bool(1))
    clear = ResetSignal(0, active=1, isasync=False)  # of the controllers that outlive a run
    flush = ResetSignal(0, active=1, isasync=False)  # of all that belongs to one run
    begins, ends, ended, halt, quiet, advance = (flag() for _ in range(6))
    w_quiet, m_quiet, a_quiet, p_quiet, i_quiet, o_quiet, e_quiet = (flag() for _ in range(7))
    code = Signal(intbv(0)[ERROR_BITS:])
    nothing = Signal(intbv(0)[16:])
    d_read, d_rewind, d_release, block_done, blocks_done = flag(), flag(), flag(), flag(), flag()
    significance = Signal(intbv(0)[3:])
    weight_word = Signal(intbv(0)[config.weight_bits :])
    metadata_word = Signal(intbv(0)[config.metadata_bits :])
    activation_word = Signal(intbv(0)[config.activation_bits * config.beats :])
    parameter_word = Signal(intbv(0)[PARAMETER_BITS * lanes :])
    index_word = Signal(intbv(0)[INDEX_BITS * lanes :])
    results = Signal(intbv(0)[bits * config.rows * lanes :])
    lanes_valid = Signal(intbv(0)[lanes:])
    base = Signal(intbv(0)[32:])
    plane = Signal(intbv(0)[2:])
    leaving = Signal(intbv(0)[lanes:])
    settings_end, _ = descriptor_slice("mirror" if config.map_words else "high")
    _, settings_begin = descriptor_slice("raw")
    settings = Signal(intbv(0)[settings_end - settings_begin :])
    _, resident_begin = descriptor_slice("resident")

    @always_comb
    def synchronous_reset():
        clear.next = reset
        flush.next = reset or ended

    @always_seq(clk.posedge, reset=clear)
    def after_the_end():
        ended.next = ends

    @always_comb
    def host():
        done.next = ends
        error.next = code

    @always_comb
    def stopping():
        halt.next = code != 0
        quiet.next = w_quiet and m_quiet and a_quiet and p_quiet and i_quiet and o_quiet and e_quiet

    if config.map_words:
        rows, words = config.rows, config.map_words
        line_bits = (words // rows - 1).bit_length()
        f_free, s_free, store_job, store_free, entry_job, entry_free, full = (flag() for _ in range(7))
        s_ready, s_read, s_rewind, s_release, summing, maximum, take = (flag() for _ in range(7))
        octet_en, octet_ready, octet_valid = flag(), flag(), flag()
        octet_addr = Signal(intbv(0)[32:])
        octets, read_data, write_data = (Signal(intbv(0)[WORD_BITS * rows :]) for _ in range(3))
        operand_port = (octet_en, octet_addr, octet_ready, octet_valid, octets)
        products, sums = (Signal(intbv(0)[bits * rows * lanes :]) for _ in range(2))
        bank_reads, bank_writes = (Signal(intbv(0)[rows:]) for _ in range(2))
        read_lines, write_lines = (Signal(intbv(0)[line_bits * rows :]) for _ in range(2))
        write_mask = Signal(intbv(0)[8:])
        entry_word = Signal(intbv(0)[ENTRY_BITS:])
        entry_count = field("entry_count")
        _, post_at = descriptor_slice("post")
        _, maximum_at = descriptor_slice("maximum")
        post_setting = settings(post_at - settings_begin)

        def fields_of(begin, end):
            return descriptor_data(descriptor_slice(end)[0], descriptor_slice(begin)[1])

        @always_comb
        def post_fields():
            summing.next = descriptor_data[post_at]
            maximum.next = descriptor_data[maximum_at]
            take.next = c_job and c_free

        @always_comb
        def store_jobs():
            store_job.next = s_job and entry_free
            entry_job.next = s_job and store_free
            s_free.next = store_free and entry_free

        @always_comb
        def what_drains():
            if post_setting:
                results.next = sums
            else:
                results.next = products

        maps = [
            post_fields, store_jobs, what_drains,
            banks(
                clk, bank_writes, write_mask, write_lines, write_data, bank_reads, read_lines, read_data, rows, words,
            ),
            fetch(
                clk, flush, f_job, f_free, fields_of(f"fetch_{WALK[0][0]}", f"fetch_{WALK[-1][0]}"),
                fields_of(TAPS[0][0], TAPS[-1][0]), field("activation_base"), field("activation_count"),
                octet_en, octet_ready, octet_valid, octets, bank_reads, read_lines, read_data,
                activation_en, activation_addr, activation_ready, activation_valid, activation_data,
                blocks_done, halt, rows, words,
            ),
            post(
                clk, flush, enable, take, maximum, field("factor_low"), field("factor_high"),
                valid, first_column, load, activation_word, capture, drain, sums, rows, lanes, bits,
            ),
            stream(
                clk, flush, entry_job, entry_free, field("entry_base"), entry_count,
                entry_en, entry_addr, entry_ready, entry_valid, entry_data,
                s_read, s_rewind, s_release, s_ready, entry_word, halt, e_quiet, ENTRY_BITS, ENTRY_DEPTH, 1,
            ),
            store(
                clk, flush, store_job, store_free, fields_of(f"store_{WALK[0][0]}", f"store_{WALK[-1][0]}"),
                entry_count, field("tiles"), leaving, tiles_done, output_data, full, halt,
                s_ready, s_read, s_rewind, s_release, entry_word,
                bank_writes, write_mask, write_lines, write_data, blocks_done,
                rows, max(config.columns, SUBGROUP), lanes, words,
            ),
        ]  # fmt: skip
    else:
        f_free = s_free = always_high
        summing, full, entry_count, products = never, never, nothing, results
        operand_port = (activation_en, activation_addr, activation_ready, activation_valid, activation_data)

        @always_comb
        def no_maps():
            blocks_done.next = written
            e_quiet.next = True

        maps = [no_maps]

    checking = guard(
        clk, clear, begins, count, descriptor_valid,
        field("weight_count"), field("metadata_count"), field("activation_count"), field("parameter_count"),
        field("tiles"), field("steps"), field("channels"), field("columns"), descriptor_data(resident_begin),
        summing, entry_count, code, config,
    )  # fmt: skip
    control = dispatcher(
        clk, clear, start, first, count, busy, begins, ends, code, quiet,
        descriptor_en, descriptor_addr, descriptor_ready, descriptor_valid,
        w_job, w_free, m_job, m_free, a_job, a_free, p_job, p_free, i_job, i_free, c_job, c_free, d_job, d_free,
        f_job, f_free, s_job, s_free, blocks_done,
    )  # fmt: skip
    weights = stream(
        clk, flush, w_job, w_free, field("weight_base"), field("weight_count"),
        weight_en, weight_addr, weight_ready, weight_valid, weight_data,
        w_read, w_rewind, w_release, w_ready, weight_word,
        halt, w_quiet, config.weight_bits, config.weight_depth, 1,
    )  # fmt: skip
    metadata = stream(
        clk, flush, m_job, m_free, field("metadata_base"), field("metadata_count"),
        metadata_en, metadata_addr, metadata_ready, metadata_valid, metadata_data,
        m_read, m_rewind, m_release, m_ready, metadata_word,
        halt, m_quiet, config.metadata_bits, config.metadata_depth, 1,
    )  # fmt: skip
    activations = stream(
        clk, flush, a_job, a_free, field("activation_base"), field("activation_count"),
        *operand_port,
        a_read, never, always_high, a_ready, activation_word,
        halt, a_quiet, config.activation_bits * config.beats, config.activation_depth, config.beats,
    )  # fmt: skip
    parameters = stream(
        clk, flush, p_job, p_free, field("parameter_base"), field("parameter_count"),
        parameter_en, parameter_addr, parameter_ready, parameter_valid, parameter_data,
        d_read, d_rewind, d_release, p_ready, parameter_word,
        halt, p_quiet, PARAMETER_BITS * lanes, PARAMETER_DEPTH, 1,
    )  # fmt: skip
    indices = stream(
        clk, flush, i_job, i_free, field("parameter_base"), field("parameter_count"),
        index_en, index_addr, index_ready, index_valid, index_data,
        d_read, d_rewind, d_release, i_ready, index_word,
        halt, i_quiet, INDEX_BITS * lanes, PARAMETER_DEPTH, 1,
    )  # fmt: skip
    compute = sequencer(
        clk, flush, c_job, c_free, field("tiles"), field("steps"), field("columns"), descriptor_data(resident_begin),
        summing, enable,
        w_ready, w_read, w_rewind, w_release, m_ready, m_read, m_rewind, m_release, a_ready, a_read,
        valid, first_column, last_column, load, high_phase, significance, config.pe,
    )  # fmt: skip
    elements = array(
        clk, flush, enable, valid, first_column, last_column, load, high_phase, significance,
        weight_word, metadata_word, activation_word, finished, capture, drain, products, config,
    )  # fmt: skip
    draining = drain_control(
        clk, flush, d_job, d_free, field("tiles"), field("channels"), field("output_base"), field("tile_stride"),
        field("plane_stride"), descriptor_data(settings_end, settings_begin),
        finished, enable, capture, drain, p_ready, i_ready, d_read, d_rewind, d_release,
        advance, lanes_valid, base, plane, tile_done, block_done, settings, lanes,
    )  # fmt: skip
    writing = write_back(
        clk, flush, results, lanes_valid, base, plane, tile_done, block_done, settings, parameter_word, index_word,
        advance, output_valid, output_addr, output_data, output_ready, leaving, tiles_done, full, written, o_quiet,
        config,
    )  # fmt: skip
    return (
        synchronous_reset, after_the_end, host, stopping, maps, checking, control,
        weights, metadata, activations, parameters, indices, compute, elements, draining, writing,
    )  # fmt: skip
