"""Checks descriptors: a run that could not end, or would read another block's words, ends with an error code."""

from __future__ import annotations

from myhdl import Signal, always_comb, always_seq, intbv, modbv

from flow.hardware.config import MAX_COLUMNS, ArrayConfig
from flow.hardware.conversion.bundles import prefixed
from flow.hardware.conversion.hierarchy import block
from flow.hardware.core.slices import slice_count
from flow.hardware.fields import ENTRY_DEPTH, NORM_WORDS, SUBGROUP, TABLE_WORDS, error_code
from flow.hardware.interface import ERROR_BITS


def first_error(descriptor: dict[str, int], config: ArrayConfig, before: dict[str, int] | None = None) -> str:
    """The software model: the name in ERRORS of the first rule that a descriptor's fields break, or "none".

    `before` is the descriptor before it in the run, if there is one.
    """
    field = descriptor
    windows = field["tiles"] * field["steps"]
    needed, given = windows * config.beats, 0  # words of activations: the block's, and those that are there
    if before is not None and before["hold"]:
        given = before["tiles"] * before["steps"] * config.beats
    elif before is not None and before["ahead"]:
        given = before["activation_count"]
    fetched = field["activation_count"]
    post = bool(field.get("post", 0))
    least = 1 if post else config.element.least_columns
    words = TABLE_WORDS if field.get("fill", 0) else NORM_WORDS if field.get("constants", 0) else 0
    octets = config.lanes * (words + 1) if words else SUBGROUP
    rules = {
        "tiles": field["tiles"] >= 1 and (bool(field["resident"]) or field["tiles"] == 1),
        "steps": field["steps"] >= 1,
        "columns": least <= field["columns"] <= MAX_COLUMNS,
        "channels": 1 <= field["channels"] <= (octets if post else config.columns),
        "metadata_count": field["metadata_count"] == (0 if post else config.element.metadata_words(field["steps"])),
        "parameter_count": field["parameter_count"] == -(-field["channels"] // config.lanes),
        "buffer": (
            not field["resident"]
            or (field["weight_count"] <= config.weight_depth and field["metadata_count"] <= config.metadata_depth)
        )
        and field.get("entry_count", 0) <= ENTRY_DEPTH,
        "weight_count": field["weight_count"] == (0 if post else field["steps"] * config.slices(field["columns"])),
        "activation_count": fetched == (0 if given else needed) or bool(given and field["ahead"]),
        "hold": (not field["hold"] or windows <= config.activation_depth)
        and not (field["ahead"] and (field["hold"] or not given or not fetched))
        and given in (0, needed),
    }
    return next((name for name, holds in rules.items() if not holds), "none")


@block
@prefixed(fields="")
def guard(clk, reset, start, count, valid, fields, error, failed, config):
    """The error code of a run, beside the dispatcher and off its path.

    control  start, count[16]: a run begins, of so many descriptors; valid: a descriptor is at hand, for one cycle
    data     descriptor fields; post and entry_count are 0 where there are no feature maps
    out      error[4]: 0, or the place in ERRORS of the first rule that is broken; holds until the next start;
             failed: it is not 0
    Latency: one cycle from start, three from valid. One descriptor a cycle.
    """
    none, command, no_tiles = error_code("none"), error_code("command"), error_code("tiles")
    no_steps, wrong_columns, wrong_channels = error_code("steps"), error_code("columns"), error_code("channels")
    wrong_weights, wrong_metadata = error_code("weight_count"), error_code("metadata_count")
    wrong_activations, wrong_parameters = error_code("activation_count"), error_code("parameter_count")
    too_large, wrong_hold = error_code("buffer"), error_code("hold")
    array_columns, lanes, beats = config.columns, config.lanes, config.beats
    weight_depth, metadata_depth, activation_depth = config.weight_depth, config.metadata_depth, config.activation_depth
    least, most = config.element.least_columns, MAX_COLUMNS
    halving = 1 if config.element.encoded else 17  # metadata words: (steps + 1) >> halving

    entry_depth, octet = ENTRY_DEPTH, SUBGROUP
    most_channels = Signal(intbv(0)[16:])
    steps_up = Signal(intbv(0)[17:])
    metadata_words = Signal(intbv(0)[17:])
    parameter_reach = Signal(intbv(0)[23:])
    parameters_over = Signal(modbv(0, min=0, max=2**24))  # places without a channel; many if there are too few
    words_overflow, entries_overflow = Signal(bool(0)), Signal(bool(0))
    # Which rules are broken, a cycle after the descriptor; and the first of them.
    tiles_break, steps_break, columns_break, channels_break, metadata_break, parameters_break, buffer_breaks = (
        Signal(bool(0)) for _ in range(7)
    )
    simple = Signal(intbv(0)[ERROR_BITS:])
    seen1, seen2, post1 = Signal(bool(0)), Signal(bool(0)), Signal(bool(0))
    all_metadata_words = Signal(intbv(0)[17:])
    simple2, code = (Signal(intbv(0)[ERROR_BITS:]) for _ in range(2))
    steps1 = Signal(intbv(0)[16:])
    columns1 = Signal(intbv(0)[4:])
    tiles1 = Signal(intbv(0)[24:])
    weights1, weights2 = Signal(intbv(0)[32:]), Signal(intbv(0)[32:])
    activations1, activations2 = Signal(intbv(0)[32:]), Signal(intbv(0)[32:])
    weight_words2 = Signal(intbv(0)[20:])
    steps2 = Signal(intbv(0)[40:])
    activation_words = Signal(intbv(0)[41:])
    hold1, hold2, ahead1, ahead2 = (Signal(bool(0)) for _ in range(4))
    given = Signal(bool(0))  # the windows of the next block are there
    given_words = Signal(intbv(0)[32:])  # so many of them
    wrong_count, wrong_windows = Signal(bool(0)), Signal(bool(0))
    if config.columns_per_cycle > 1:
        slices1 = Signal(intbv(0)[4:])
        counting = slice_count(columns1, slices1, config.columns_per_cycle)
    else:
        slices1, counting = columns1, []

    @always_comb
    def rounding():
        steps_up.next = fields.steps + 1
        parameter_reach.next = fields.parameter_count * lanes

    @always_comb
    def metadata_of_steps():
        all_metadata_words.next = steps_up >> halving

    @always_comb
    def metadata_of_products():
        if fields.post:
            metadata_words.next = 0
        else:
            metadata_words.next = all_metadata_words

    if config.tables or config.normalizer:
        table_channels, norm_channels = config.lanes * (TABLE_WORDS + 1), config.lanes * (NORM_WORDS + 1)
        never = Signal(bool(0))
        fills = fields.fill if config.tables else never
        constants = fields.constants if config.normalizer else never

        @always_comb
        def reach():
            if fields.post and fills:
                most_channels.next = table_channels
            elif fields.post and constants:
                most_channels.next = norm_channels
            elif fields.post:
                most_channels.next = octet
            else:
                most_channels.next = array_columns

    else:

        @always_comb
        def reach():
            if fields.post:
                most_channels.next = octet
            else:
                most_channels.next = array_columns

    @always_comb
    def overflows():
        parameters_over.next = parameter_reach - fields.channels
        words_overflow.next = fields.weight_count > weight_depth or fields.metadata_count > metadata_depth
        entries_overflow.next = fields.entry_count > entry_depth

    @always_seq(clk.posedge, reset=reset)
    def broken_rules():
        tiles_break.next = fields.tiles == 0 or ((not fields.resident) and fields.tiles != 1)
        steps_break.next = fields.steps == 0
        columns_break.next = (
            (fields.columns < least and (not fields.post)) or fields.columns == 0 or fields.columns > most
        )
        channels_break.next = fields.channels == 0 or fields.channels > most_channels
        metadata_break.next = fields.metadata_count != metadata_words
        parameters_break.next = parameters_over >= lanes
        buffer_breaks.next = (fields.resident and words_overflow) or entries_overflow

    @always_comb
    def simple_rules():
        if tiles_break:
            simple.next = no_tiles
        elif steps_break:
            simple.next = no_steps
        elif columns_break:
            simple.next = wrong_columns
        elif channels_break:
            simple.next = wrong_channels
        elif metadata_break:
            simple.next = wrong_metadata
        elif parameters_break:
            simple.next = wrong_parameters
        elif buffer_breaks:
            simple.next = too_large
        else:
            simple.next = none

    @always_seq(clk.posedge, reset=reset)
    def stages():
        seen1.next = valid
        post1.next = fields.post
        steps1.next = fields.steps
        columns1.next = fields.columns
        tiles1.next = fields.tiles
        weights1.next = fields.weight_count
        activations1.next = fields.activation_count
        hold1.next = fields.hold
        ahead1.next = fields.ahead
        seen2.next = seen1
        simple2.next = simple
        if post1:
            weight_words2.next = 0
        else:
            weight_words2.next = steps1 * slices1
        steps2.next = tiles1 * steps1
        weights2.next = weights1
        activations2.next = activations1
        hold2.next = hold1
        ahead2.next = ahead1

    @always_comb
    def beats_of_steps():
        activation_words.next = steps2 * beats

    @always_comb
    def windows_rules():
        if given:
            wrong_count.next = (not ahead2) and activations2 != 0
        else:
            wrong_count.next = activations2 != activation_words
        wrong_windows.next = (
            (hold2 and steps2 > activation_depth)
            or (ahead2 and (hold2 or (not given) or activations2 == 0))
            or (given and activation_words != given_words)
        )

    @always_seq(clk.posedge, reset=reset)
    def what_is_given():
        if start:
            given.next = False
        elif seen2:
            given.next = hold2 or ahead2
            if hold2:
                given_words.next = activation_words[32:]  # if they are more, it is an error
            else:
                given_words.next = activations2

    @always_seq(clk.posedge, reset=reset)
    def verdict():
        if start:
            if count == 0:
                code.next = command
            else:
                code.next = none
        elif seen2 and (code == none):
            if simple2 != none:
                code.next = simple2
            elif weights2 != weight_words2:
                code.next = wrong_weights
            elif wrong_count:
                code.next = wrong_activations
            elif wrong_windows:
                code.next = wrong_hold

    @always_seq(clk.posedge, reset=reset)
    def stop():
        if start:
            failed.next = count == 0
        elif seen2:
            failed.next = failed or (simple2 != none) or (weights2 != weight_words2) or wrong_count or wrong_windows

    @always_comb
    def show():
        error.next = code

    return (
        rounding, metadata_of_steps, metadata_of_products, reach, overflows, broken_rules, simple_rules, counting,
        stages, beats_of_steps, windows_rules, what_is_given, verdict, stop, show,
    )  # fmt: skip
