"""The accelerator's top: streams, array, write-back and their controllers behind one host port."""

from myhdl import ResetSignal, Signal, always_comb, intbv

from flow.hardware.array import array
from flow.hardware.config import INDEX_BITS, PARAMETER_BITS, descriptor_slice
from flow.hardware.dispatcher import dispatcher
from flow.hardware.drain import drain_control, write_back
from flow.hardware.hierarchy import block
from flow.hardware.sequencer import sequencer
from flow.hardware.stream import stream

PARAMETER_DEPTH = 32  # words: two blocks of at most eight words each, and room


@block
def accelerator(
    clk, reset, start, first, count, busy, done,
    descriptor_en, descriptor_addr, descriptor_data,
    weight_en, weight_addr, weight_data,
    metadata_en, metadata_addr, metadata_data,
    activation_en, activation_addr, activation_data,
    parameter_en, parameter_addr, parameter_data,
    index_en, index_addr, index_data,
    output_valid, output_addr, output_data,
    config,
):  # fmt: skip
    """The whole accelerator.

    host     pulse start with first[16] and count[16] (descriptors); busy; done: high for one cycle when every
             result has been written
    memory   six read ports: *_en, *_addr[32] out, *_data in, one cycle latency, the word held until the next
             request; a word's bytes lie lowest first, as in memory/*.hex
             descriptor  416 bits: one channel block, its fields as in flow/hardware/config.py DESCRIPTOR
             weight      16 (dense: 8) bits for each array column: one bit column of as many weights
             metadata    a byte for each array column: d (6 bits, signed) below r (2 bits)
             activation  8 bytes for each row: u = x + 128
             parameter   for each lane: bias (32 bits, signed), multiplier (24), shift (8)
             index       for each lane: the channel's number (16 bits)
    output   output_valid[lanes], output_addr[32 * lanes], output_data[8 * rows * lanes]: one word of `rows` bytes
             per lane and channel
    """
    lanes, bits = config.lanes, config.accumulator_bits

    def field(name):
        return descriptor_data(*descriptor_slice(name))

    def flag():
        return Signal(bool(0))

    enable, finished, capture, drain = flag(), flag(), flag(), flag()
    valid, first_column, last_column, load, high_phase = flag(), flag(), flag(), flag(), flag()
    w_job, m_job, a_job, p_job, i_job, c_job, d_job = (flag() for _ in range(7))
    w_free, m_free, a_free, p_free, i_free, c_free, d_free = (flag() for _ in range(7))
    w_ready, m_ready, a_ready, p_ready, i_ready = (flag() for _ in range(5))
    w_read, w_rewind, w_release = flag(), flag(), flag()
    m_read, m_rewind, m_release = flag(), flag(), flag()
    a_read, never, always_high = flag(), flag(), Signal(bool(1))
    clear = ResetSignal(0, active=1, isasync=False)
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
    settings = Signal(intbv(0)[25:])
    settings_end, _ = descriptor_slice("high")
    _, settings_begin = descriptor_slice("raw")

    @always_comb
    def synchronous_reset():
        clear.next = reset

    control = dispatcher(
        clk, clear, start, first, count, busy, done, descriptor_en, descriptor_addr,
        w_job, w_free, m_job, m_free, a_job, a_free, p_job, p_free, i_job, i_free, c_job, c_free, d_job, d_free,
        blocks_done,
    )  # fmt: skip
    weights = stream(
        clk, clear, w_job, w_free, field("weight_base"), field("weight_count"),
        weight_en, weight_addr, weight_data, w_read, w_rewind, w_release, w_ready, weight_word,
        config.weight_bits, config.weight_depth, 1,
    )  # fmt: skip
    metadata = stream(
        clk, clear, m_job, m_free, field("metadata_base"), field("metadata_count"),
        metadata_en, metadata_addr, metadata_data, m_read, m_rewind, m_release, m_ready, metadata_word,
        config.metadata_bits, config.metadata_depth, 1,
    )  # fmt: skip
    activations = stream(
        clk, clear, a_job, a_free, field("activation_base"), field("activation_count"),
        activation_en, activation_addr, activation_data, a_read, never, always_high, a_ready, activation_word,
        config.activation_bits * config.beats, config.activation_depth, config.beats,
    )  # fmt: skip
    parameters = stream(
        clk, clear, p_job, p_free, field("parameter_base"), field("parameter_count"),
        parameter_en, parameter_addr, parameter_data, d_read, d_rewind, d_release, p_ready, parameter_word,
        PARAMETER_BITS * lanes, PARAMETER_DEPTH, 1,
    )  # fmt: skip
    indices = stream(
        clk, clear, i_job, i_free, field("parameter_base"), field("parameter_count"),
        index_en, index_addr, index_data, d_read, d_rewind, d_release, i_ready, index_word,
        INDEX_BITS * lanes, PARAMETER_DEPTH, 1,
    )  # fmt: skip
    _, resident_begin = descriptor_slice("resident")
    compute = sequencer(
        clk, clear, c_job, c_free, field("tiles"), field("steps"), field("columns"), descriptor_data(resident_begin),
        enable,
        w_ready, w_read, w_rewind, w_release, m_ready, m_read, m_rewind, m_release, a_ready, a_read,
        valid, first_column, last_column, load, high_phase, significance, config.pe,
    )  # fmt: skip
    elements = array(
        clk, clear, enable, valid, first_column, last_column, load, high_phase, significance,
        weight_word, metadata_word, activation_word, finished, capture, drain, results, config,
    )  # fmt: skip
    draining = drain_control(
        clk, clear, d_job, d_free, field("tiles"), field("channels"), field("output_base"), field("tile_stride"),
        field("plane_stride"), descriptor_data(settings_end, settings_begin),
        finished, enable, capture, drain, p_ready, i_ready, d_read, d_rewind, d_release,
        lanes_valid, base, plane, block_done, settings, lanes,
    )  # fmt: skip
    writing = write_back(
        clk, clear, results, lanes_valid, base, plane, block_done, settings, parameter_word, index_word,
        output_valid, output_addr, output_data, blocks_done, config,
    )  # fmt: skip
    return (
        synchronous_reset, control, weights, metadata, activations, parameters, indices, compute, elements,
        draining, writing,
    )  # fmt: skip
