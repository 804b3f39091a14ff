"""Checks descriptors: a run that could not end, or would read another block's words, ends with an error code."""

from myhdl import Signal, always_comb, always_seq, intbv

from flow.engines.base import ERROR_BITS
from flow.hardware.config import LEAST_COLUMNS, MAX_COLUMNS, ArrayConfig, error_code
from flow.hardware.hierarchy import block


def first_error(descriptor: dict[str, int], config: ArrayConfig) -> str:
    """The software model: the name in ERRORS of the first rule that a descriptor's fields break, or "none"."""
    field = descriptor
    bitvert = config.pe == "bitvert"
    rules = {
        "tiles": field["tiles"] >= 1 and (bool(field["resident"]) or field["tiles"] == 1),
        "steps": field["steps"] >= 1,
        "columns": LEAST_COLUMNS[config.pe] <= field["columns"] <= MAX_COLUMNS,
        "channels": 1 <= field["channels"] <= config.columns,
        "metadata_count": field["metadata_count"] == (-(-field["steps"] // 2) if bitvert else 0),
        "parameter_count": field["parameter_count"] == -(-field["channels"] // config.lanes),
        "buffer": not field["resident"]
        or (field["weight_count"] <= config.weight_depth and field["metadata_count"] <= config.metadata_depth),
        "weight_count": field["weight_count"] == field["steps"] * field["columns"],
        "activation_count": field["activation_count"] == field["tiles"] * field["steps"] * config.beats,
    }
    return next((name for name, holds in rules.items() if not holds), "none")


@block
def guard(
    clk, reset, start, count, valid,
    weight_count, metadata_count, activation_count, parameter_count, tiles, steps, channels, columns, resident,
    error, config,
):  # fmt: skip
    """The error code of a run, beside the dispatcher and off its path.

    control  start, count[16]: a run begins, of so many descriptors; valid: a descriptor is at hand, for one cycle
    data     descriptor fields
    out      error[4]: 0, or the place in ERRORS of the first rule that is broken; holds until the next start
    Latency: one cycle from start, three from valid. One descriptor a cycle.
    """
    none, command, no_tiles = error_code("none"), error_code("command"), error_code("tiles")
    no_steps, wrong_columns, wrong_channels = error_code("steps"), error_code("columns"), error_code("channels")
    wrong_weights, wrong_metadata = error_code("weight_count"), error_code("metadata_count")
    wrong_activations, wrong_parameters = error_code("activation_count"), error_code("parameter_count")
    too_large = error_code("buffer")
    array_columns, lanes, beats = config.columns, config.lanes, config.beats
    weight_depth, metadata_depth = config.weight_depth, config.metadata_depth
    least, most = LEAST_COLUMNS[config.pe], MAX_COLUMNS
    halving = 1 if config.pe == "bitvert" else 17  # metadata words: (steps + 1) >> halving

    steps_up = Signal(intbv(0)[17:])
    metadata_words = Signal(intbv(0)[17:])
    parameter_reach = Signal(intbv(0)[23:])
    parameter_limit = Signal(intbv(0)[17:])
    simple = Signal(intbv(0)[ERROR_BITS:])
    seen1, seen2 = Signal(bool(0)), Signal(bool(0))
    simple1, simple2, code = (Signal(intbv(0)[ERROR_BITS:]) for _ in range(3))
    steps1 = Signal(intbv(0)[16:])
    columns1 = Signal(intbv(0)[4:])
    tiles1 = Signal(intbv(0)[24:])
    weights1, weights2 = Signal(intbv(0)[32:]), Signal(intbv(0)[32:])
    activations1, activations2 = Signal(intbv(0)[32:]), Signal(intbv(0)[32:])
    weight_words2 = Signal(intbv(0)[20:])
    steps2 = Signal(intbv(0)[40:])
    activation_words = Signal(intbv(0)[41:])

    @always_comb
    def rounding():
        steps_up.next = steps + 1
        parameter_reach.next = parameter_count * lanes
        parameter_limit.next = channels + lanes

    @always_comb
    def metadata_of_steps():
        metadata_words.next = steps_up >> halving

    @always_comb
    def simple_rules():
        if tiles == 0 or ((not resident) and tiles != 1):
            simple.next = no_tiles
        elif steps == 0:
            simple.next = no_steps
        elif columns < least or columns > most:
            simple.next = wrong_columns
        elif channels == 0 or channels > array_columns:
            simple.next = wrong_channels
        elif metadata_count != metadata_words:
            simple.next = wrong_metadata
        elif parameter_reach < channels or parameter_reach >= parameter_limit:
            simple.next = wrong_parameters
        elif resident and (weight_count > weight_depth or metadata_count > metadata_depth):
            simple.next = too_large
        else:
            simple.next = none

    @always_seq(clk.posedge, reset=reset)
    def stages():
        seen1.next = valid
        simple1.next = simple
        steps1.next = steps
        columns1.next = columns
        tiles1.next = tiles
        weights1.next = weight_count
        activations1.next = activation_count
        seen2.next = seen1
        simple2.next = simple1
        weight_words2.next = steps1 * columns1
        steps2.next = tiles1 * steps1
        weights2.next = weights1
        activations2.next = activations1

    @always_comb
    def beats_of_steps():
        activation_words.next = steps2 * beats

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
            elif activations2 != activation_words:
                code.next = wrong_activations

    @always_comb
    def show():
        error.next = code

    return rounding, metadata_of_steps, simple_rules, stages, beats_of_steps, verdict, show
