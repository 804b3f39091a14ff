"""The accelerator's top: streams, array, write-back and their controllers behind one host port."""

from __future__ import annotations

from dataclasses import fields, replace

from myhdl import ResetSignal, Signal, always_comb, always_seq, intbv

from flow.hardware.conversion.bundles import fresh, prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.bundles import (
    CheckedFields,
    Column,
    ComputeWork,
    Drained,
    DrainWork,
    ReadControl,
    Reader,
    Unit,
    Units,
)
from flow.hardware.core.dispatcher import dispatcher
from flow.hardware.core.drain import drain_control
from flow.hardware.core.guard import guard
from flow.hardware.core.sequencer import sequencer
from flow.hardware.core.stream import stream
from flow.hardware.core.wires import join
from flow.hardware.core.write_back import write_back
from flow.hardware.fields import (
    ENTRY_BITS,
    ENTRY_DEPTH,
    INDEX_BITS,
    PARAMETER_BITS,
    SUBGROUP,
    TAPS,
    WALK,
    WORD_BITS,
    descriptor_slice,
)
from flow.hardware.interface import ERROR_BITS, ReadPort
from flow.hardware.maps.banks import banks
from flow.hardware.maps.bundles import (
    BankReads,
    BankWrites,
    FetchWork,
    Given,
    Kept,
    NormWork,
    OperandWork,
    PostWork,
    StoreWork,
    TableWork,
)
from flow.hardware.maps.fetch import fetch
from flow.hardware.maps.normalizer import normalizer
from flow.hardware.maps.operands import operands
from flow.hardware.maps.post import post
from flow.hardware.maps.store import store
from flow.hardware.maps.tables import tables

PARAMETER_DEPTH = 32  # words: two blocks of at most eight words each, and room


def post_work_of(descriptor, config):
    """The fields of a descriptor for `post`."""

    def bits(name):
        return descriptor.data(*descriptor_slice(name))

    work = replace(fresh(PostWork), factor_low=bits("factor_low"), factor_high=bits("factor_high"))
    if config.products:
        product, minus = (descriptor.data(descriptor_slice(name)[1]) for name in ("product", "minus"))
        work = replace(work, product=product, minus=minus)
    return work


def operand_work_of(jobs, descriptor, config):
    """The jobs of `operands`, and the fields it needs of them."""
    operand, post_bit, across, first = (
        descriptor_slice(name)[1] for name in ("operand", "post", "across", "factor_low")
    )
    return OperandWork(
        jobs.compute, jobs.weight, descriptor.data(operand), descriptor.data(post_bit), descriptor.data(across),
        descriptor.data(first + 3, first) if config.columns < SUBGROUP else None,
    )  # fmt: skip


@block
@prefixed(host="", memories="")
def accelerator(clk, reset, host, memories, config):
    """The whole accelerator.

    host     pulse start with first[16] and count[16] (descriptors), steady while it runs; busy; done: high for one
             cycle as the last result is written; error[4]: with done, 0, or the code of what is wrong with the
             command or a descriptor; some results are not written then; holds until the next start; start is
             ignored while busy
    memory   read ports: *_en, *_addr[32] out, *_ready in: a request is taken at an edge where *_en and *_ready
             are high, and holds until then; *_valid, *_data in: the words in the order of the requests, one cycle
             later or more, sampled only while *_valid is high; descriptor_data holds until the next request for
             one is taken; a word's bytes lie lowest first, as in memory/*.hex
             descriptor  416 bits: one channel block; with feature maps 1280 bits, with their fields from bit 400 on
             weight      16 (dense: 8) bits for each array column: one bit column of as many weights
             metadata    a byte for each array column: d (6 bits, signed) below r (2 bits)
             activation  8 bytes for each row: u = x + 128
             parameter   for each lane: bias (32 bits, signed), multiplier (24), shift (8)
             index       for each lane: the channel's number (16 bits)
             entry       with feature maps: 104 bits, how eight channels go into them
    output   output_valid[lanes], output_addr[32 * lanes], output_data[8 * rows * lanes] out: one word of `rows`
             bytes per lane and channel; output_ready in: all of them are taken where it is high, and hold until then
    """
    rows, lanes, bits = config.rows, config.lanes, config.accumulator_bits
    descriptor = memories.descriptor

    def field(name):
        return descriptor.data(*descriptor_slice(name))

    def flag():
        return Signal(bool(0))

    def bit(name):
        return descriptor.data(descriptor_slice(name)[1])

    def fields_of(begin, end):
        return descriptor.data(descriptor_slice(end)[0], descriptor_slice(begin)[1])

    # The run, and how it ends.
    clear = ResetSignal(0, active=1, isasync=False)  # of the controllers that outlive a run
    flush = ResetSignal(0, active=1, isasync=False)  # of all that belongs to one run
    begins, ends, ended, halt, quiet, written, block_written = (flag() for _ in range(7))
    weights_quiet, metadata_quiet, activations_quiet, parameters_quiet = (flag() for _ in range(4))
    indices_quiet, writes_quiet, entries_quiet = (flag() for _ in range(3))
    code = Signal(intbv(0)[ERROR_BITS:])
    never, always_high, nothing = flag(), Signal(bool(1)), Signal(intbv(0)[16:])

    # What every descriptor's jobs say.
    jobs = Units(*(fresh(Unit) for _ in fields(Units)))
    if not config.map_words:
        jobs = replace(jobs, fetch=Unit(flag(), always_high), store=Unit(flag(), always_high))
    settings_end, _ = descriptor_slice("mirror" if config.map_words else "high")
    _, settings_begin = descriptor_slice("raw")
    own = config.unit_fields  # of the settings, below mirror
    settings = Signal(intbv(0)[settings_end - settings_begin + len(own) :])  # of the results that leave the array

    # Operands, the bit column under way, results.
    weight_words = fresh(Reader, word=config.weight_bits)
    metadata_words = fresh(Reader, word=config.metadata_bits)
    activation_words = fresh(Reader, word=config.activation_bits * config.beats)
    parameter_words = fresh(Reader, word=PARAMETER_BITS * lanes)
    index_words = replace(parameter_words, ready=flag(), word=Signal(intbv(0)[INDEX_BITS * lanes :]))  # read with them
    enable, finished, capture, drain = flag(), flag(), flag(), flag()
    column = fresh(Column)
    drained = fresh(Drained, lanes_valid=lanes)
    results = Signal(intbv(0)[bits * rows * lanes :])
    kept = Kept(Signal(intbv(0)[lanes:]), flag(), memories.output.data, flag() if config.map_words else never)

    @always_comb
    def synchronous_reset():
        clear.next = reset
        flush.next = reset or ended

    @always_seq(clk.posedge, reset=clear)
    def after_the_end():
        ended.next = ends

    @always_comb
    def at_the_end():
        host.done.next = ends
        host.error.next = code

    @always_comb
    def stopping():
        quiet.next = (
            weights_quiet
            and metadata_quiet
            and activations_quiet
            and parameters_quiet
            and indices_quiet
            and writes_quiet
            and entries_quiet
        )

    if config.map_words:
        words = config.map_words
        line_bits = (words // rows - 1).bit_length()
        summing, store_ready, entries_ready, store_job, entries_job = (flag() for _ in range(5))
        entry_words = fresh(Reader, word=ENTRY_BITS)
        octets = fresh(ReadPort, data=WORD_BITS * rows)  # of the maps, or from outside
        products, sums = (Signal(intbv(0)[bits * rows * lanes :]) for _ in range(2))
        reading = fresh(BankReads, reads=rows, read_lines=line_bits * rows, read_data=WORD_BITS * rows)
        writing = fresh(BankWrites, writes=rows, write_lines=line_bits * rows, write_data=WORD_BITS * rows)
        post_work = post_work_of(descriptor, config)
        entry_count = field("entry_count")
        _, post_at = descriptor_slice("post")
        _, maximum_at = descriptor_slice("maximum")
        post_setting = settings(post_at - settings_begin)
        fetch_work = FetchWork(
            fields_of(f"fetch_{WALK[0][0]}", f"fetch_{WALK[-1][0]}"), fields_of(TAPS[0][0], TAPS[-1][0]),
            field("activation_base"), field("activation_count"),
        )  # fmt: skip
        store_work = StoreWork(
            fields_of(f"store_{WALK[0][0]}", f"store_{WALK[-1][0]}"), entry_count, field("tiles")
        )  # fmt: skip

        @always_comb
        def post_fields():
            summing.next = descriptor.data[post_at]
            post_work.maximum.next = descriptor.data[maximum_at]
            post_work.take.next = jobs.compute.job and jobs.compute.ready

        @always_comb
        def store_jobs():
            store_job.next = jobs.store.job and entries_ready
            entries_job.next = jobs.store.job and store_ready
            jobs.store.ready.next = store_ready and entries_ready

        @always_comb
        def what_drains():
            if post_setting:
                results.next = sums
            else:
                results.next = products

        own_at = dict(zip(own, range(settings_end - 1 - settings_begin, len(settings)), strict=False))
        if config.tables:
            through_at, fill_at = own_at["through"], own_at["fill"]
            results_of_post = Signal(intbv(0)[bits * rows * lanes :])
            looking_up = tables(
                clk, flush, TableWork(fill=settings(fill_at), through=settings(through_at)), parameter_words.read,
                drained.tile_done, parameter_words.word(PARAMETER_BITS, 0), results_of_post, sums, rows, lanes, bits,
            )  # fmt: skip
        else:
            results_of_post, looking_up = sums, []

        if config.normalizer:
            normal = fresh(Given, given=32 * rows)
            norm_work = NormWork(
                post_work.take, bit("normalize"), bit("applies"), post_work.maximum, field("factor_low"),
                field("factor_high"), settings(own_at["constants"]),
            )  # fmt: skip
            normalizing = normalizer(
                clk, flush, enable, norm_work, column.valid, column.first, column.load,
                activation_words.word(WORD_BITS * rows, 0), parameter_words.read, drained.tile_done,
                parameter_words.word(PARAMETER_BITS, 0), normal, rows,
            )  # fmt: skip
        else:
            normal, normalizing = None, []

        maps = [
            looking_up, normalizing, post_fields, store_jobs, what_drains,
            banks(
                clk, writing.writes, writing.write_mask, writing.write_lines, writing.write_data,
                reading.reads, reading.read_lines, reading.read_data, rows, words,
            ),
            fetch(
                clk, flush, jobs.fetch.job, jobs.fetch.ready, fetch_work,
                octets.en, octets.ready, octets.valid, octets.data, reading, memories.activation,
                block_written, halt, rows, words,
            ),
            post(
                clk, flush, enable, post_work, column.valid, column.first, column.load, activation_words.word,
                capture, drain, results_of_post, normal, rows, lanes, bits,
            ),
            stream(
                clk, flush, entries_job, entries_ready, field("entry_base"), entry_count, memories.entry, entry_words,
                halt, entries_quiet, ENTRY_BITS, ENTRY_DEPTH, 1,
            ),
            store(
                clk, flush, store_job, store_ready, store_work, kept, halt, replace(entry_words, word=None),
                entry_words.word, writing, block_written, rows, max(config.columns, SUBGROUP), lanes, words,
            ),
        ]  # fmt: skip
    else:
        octets, products = memories.activation, results
        summing, entry_count = never, nothing

        @always_comb
        def no_maps():
            block_written.next = written
            entries_quiet.next = True

        maps = [no_maps]

    weight_memory, octets_ready = memories.weight, activation_words.ready
    if config.operands:
        weight_memory, octets_ready = fresh(ReadPort, data=config.weight_bits), flag()
        maps.append(
            operands(
                clk, flush, operand_work_of(jobs, descriptor, config),
                replace(activation_words, rewind=None, discard=None), octets_ready, weight_memory, memories.weight,
                halt, config,
            )
        )  # fmt: skip

    drain_settings = descriptor.data(settings_end, settings_begin)
    own_fields = dict(zip(own, map(bit, own), strict=True))
    if own:
        drain_settings = join(
            descriptor.data(settings_end - 1), *reversed(own_fields.values()),
            descriptor.data(settings_end - 1, settings_begin),
        )  # fmt: skip
    hold, ahead, resident = bit("hold"), bit("ahead"), bit("resident")
    checked = CheckedFields(
        field("weight_count"), field("metadata_count"), field("activation_count"), field("parameter_count"),
        field("tiles"), field("steps"), field("channels"), field("columns"), hold, ahead, resident, summing,
        entry_count, own_fields.get("fill"), own_fields.get("constants"),
    )  # fmt: skip
    compute_work = ComputeWork(field("tiles"), field("steps"), field("columns"), hold, resident, summing)
    drain_work = DrainWork(
        field("tiles"), field("channels"), field("output_base"), field("tile_stride"), field("plane_stride"),
        drain_settings,
    )  # fmt: skip
    checking = guard(clk, clear, begins, host.count, descriptor.valid, checked, code, halt, config)
    control = dispatcher(
        clk, clear, host.start, host.first, host.count, host.busy, begins, ends, halt, quiet,
        replace(descriptor, data=None), jobs, block_written,
    )  # fmt: skip
    weight_stream = stream(
        clk, flush, jobs.weight.job, jobs.weight.ready, field("weight_base"), field("weight_count"),
        weight_memory, weight_words, halt, weights_quiet, config.weight_bits, config.weight_depth, 1,
    )  # fmt: skip
    metadata_stream = stream(
        clk, flush, jobs.metadata.job, jobs.metadata.ready, field("metadata_base"), field("metadata_count"),
        memories.metadata, metadata_words, halt, metadata_quiet, config.metadata_bits, config.metadata_depth, 1,
    )  # fmt: skip
    activation_stream = stream(
        clk, flush, jobs.activation.job, jobs.activation.ready, field("activation_base"), field("activation_count"),
        octets, activation_words, halt, activations_quiet,
        config.activation_bits * config.beats, config.activation_depth, config.beats,
    )  # fmt: skip
    parameter_stream = stream(
        clk, flush, jobs.parameter.job, jobs.parameter.ready, field("parameter_base"), field("parameter_count"),
        memories.parameter, parameter_words, halt, parameters_quiet, PARAMETER_BITS * lanes, PARAMETER_DEPTH, 1,
    )  # fmt: skip
    index_stream = stream(
        clk, flush, jobs.index.job, jobs.index.ready, field("parameter_base"), field("parameter_count"),
        memories.index, index_words, halt, indices_quiet, INDEX_BITS * lanes, PARAMETER_DEPTH, 1,
    )  # fmt: skip
    compute = sequencer(
        clk, flush, jobs.compute.job, jobs.compute.ready, compute_work, enable,
        ReadControl(weight_words.ready, weight_words.read, weight_words.rewind, weight_words.discard),
        ReadControl(metadata_words.ready, metadata_words.read, metadata_words.rewind, metadata_words.discard),
        ReadControl(octets_ready, activation_words.read, activation_words.rewind, activation_words.discard),
        column, config.element.encoded, config.columns_per_cycle,
    )  # fmt: skip
    elements = config.element.block(
        clk, flush, enable, column, weight_words.word, metadata_words.word, activation_words.word,
        finished, capture, drain, products, config,
    )  # fmt: skip
    draining = drain_control(
        clk, flush, jobs.drain.job, jobs.drain.ready, drain_work, finished, enable, capture, drain,
        parameter_words.ready, index_words.ready, replace(parameter_words, ready=None, word=None), drained,
        settings, lanes,
    )  # fmt: skip
    write = write_back(
        clk, flush, results, drained, settings, parameter_words.word, index_words.word, memories.output,
        kept.valid, kept.tile_done, kept.full, written, writes_quiet, config,
    )  # fmt: skip
    return (
        synchronous_reset, after_the_end, at_the_end, stopping, maps, checking, control, weight_stream, metadata_stream,
        activation_stream, parameter_stream, index_stream, compute, elements, draining, write,
    )  # fmt: skip
