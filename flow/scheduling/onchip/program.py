"""Descriptors and memories of a whole network on chip."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from flow.compression.encoding import BBS, EncodedLayer
from flow.errors import FlowError
from flow.hardware.config import MAX_COLUMNS, ArrayConfig
from flow.hardware.fields import (
    ADDRESS,
    ENTRY,
    ENTRY_BITS,
    INDEX_BITS,
    NORM_HIGH,
    NORM_LOW,
    PARAMETER_BITS,
    SUBGROUP,
    TABLE_WORDS,
    WRITES,
    ZERO,
    descriptor_slice,
)
from flow.network.model import INT8_MAX, INT8_MIN, OFFSET
from flow.network.reference import check_accumulator
from flow.scheduling.blocks import Block, Bytes, LayerSchedule, check_width, layer_schedule
from flow.scheduling.onchip import post
from flow.scheduling.onchip.chain import Chain, ChainLayer, Segment
from flow.scheduling.onchip.maps import POINT, as_map
from flow.scheduling.onchip.matrices import MatrixBlock, blocks
from flow.scheduling.onchip.place import OCTET, Place, places, words
from flow.scheduling.onchip.post import PostOp, Requantization, Shape
from flow.scheduling.onchip.sweeps import ALL, Entry, Normal, Sweep, Written, constants, sweeps
from flow.scheduling.onchip.unroll import LayerPart, parts
from flow.scheduling.onchip.walks import MapWalk, line_walk, prefixed, taps
from flow.scheduling.schedule import descriptor_values
from flow.scheduling.words import (
    Image,
    channel_parameters,
    pack_descriptor,
    pack_fields,
    pack_parameters,
    parameter_words,
    weight_words,
)

LINES = 64  # the maps' memory is a multiple of this many lines

LACKS = {  # by unit: a network needs it, an array has none
    "tables": "the network has element-wise functions, but the array was built without tables; build it again",
    "products": "the network has products or differences of maps, but the array was built without products; "
    "build it again",
    "normalizer": "the network normalizes channels on chip, but the array was built without a normalizer; "
    "build it again",
    "operands": "the network has matrix products of two maps, but the array was built without maps as weights; "
    "build it again",
}


@dataclass(frozen=True)
class OutputRegion:
    """Part of the output memory: results of a part of a layer, or of a sweep of an operation."""

    step: int
    base: int
    words: int
    scheduled: LayerSchedule | None = None
    part: LayerPart | None = None
    sweep: Sweep | Written | None = None


@dataclass(frozen=True)
class OnChip:
    """A network on chip, ready to run: memories uint8 [words, bytes], all descriptors in order.

    `places` are those of each segment's maps. `regions` say how to read the output memory; `layout.activations` fills
    the activation memory. By step, `ideal_cycles` are the cycles of the bit columns alone, `ends` the number of
    descriptors up to and with the step.
    """

    config: ArrayConfig
    chain: Chain
    places: tuple[Mapping[str, Place], ...]
    memories: dict[str, Bytes]
    regions: tuple[OutputRegion, ...]
    output_words: int
    ideal_cycles: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def descriptors(self) -> int:
        return len(self.memories["descriptor"])

    @property
    def parts(self) -> list[LayerPart]:
        """The layers as they are stored, in parts."""
        return [region.part for region in self.regions if region.part is not None]

    @property
    def segment_steps(self) -> tuple[range, ...]:
        """The numbers of the steps of each segment."""
        ends = accumulate(len(segment.steps) for segment in self.chain.segments)
        return tuple(
            range(end - len(segment.steps), end) for end, segment in zip(ends, self.chain.segments, strict=True)
        )

    @property
    def starts(self) -> tuple[tuple[int, int], ...]:
        """The descriptors of each segment: the first, and how many."""
        ends = [0, *(self.ends[steps[-1]] for steps in self.segment_steps)]
        return tuple((first, end - first) for first, end in pairwise(ends))

    def written(self, output: Bytes, steps: Collection[int]) -> Bytes:
        """The output memory with the words of these steps alone; all others are 0."""
        result = np.zeros_like(output)
        for region in self.regions:
            if region.step in steps:
                words = slice(region.base, region.base + region.words)
                result[words] = output[words]
        return result

    @property
    def firsts(self) -> tuple[int, ...]:
        """By step, the number of its first descriptor; those that load a segment's inputs are of no step."""
        firsts = [0, *self.ends[:-1]]
        for segment, steps in zip(self.chain.segments, self.segment_steps, strict=True):
            firsts[steps[0]] += len(segment.inputs)
        return tuple(firsts)


def needed_words(chain: Chain, rows: int) -> int:
    """Words of memory the maps of this chain's largest segment need, rounded up to a size that can be built."""
    step = rows * LINES
    return -(-max(map(words, places(chain)), default=0) // step) * step


def fitted(config: ArrayConfig, chain: Chain) -> ArrayConfig:
    """The same array with a memory for the maps of this chain and with the units that its operations need."""
    return config.with_maps(needed_words(chain, config.rows), **chain.units)


@dataclass
class _Images:
    """The memory images of a chain while it is assembled, including the descriptors; `places` are the segment's."""

    config: ArrayConfig
    chain: Chain
    places: Mapping[str, Place] = field(default_factory=dict)
    made: defaultdict[str, Image] = field(default_factory=lambda: defaultdict(Image))
    regions: list[OutputRegion] = field(default_factory=list)
    output_words: int = 0

    def add(self, name: str, image: Bytes) -> tuple[int, int]:
        """Append an image to its memory; returns its first word and number of words."""
        return self.made[name].add(image)

    def region(
        self, step: int, size: int, scheduled: LayerSchedule | None = None, part: LayerPart | None = None,
        sweep: Sweep | Written | None = None,
    ) -> int:  # fmt: skip
        """Reserve room in the output memory; returns its first word."""
        base = self.output_words
        self.regions.append(OutputRegion(step, base, size, scheduled, part, sweep))
        self.output_words += size
        return base

    def memories(self, widths: Mapping[str, int]) -> dict[str, Bytes]:
        result = {}
        for name, width in widths.items():
            parts = [part for part in self.made[name].parts if len(part)]
            result[name] = np.ascontiguousarray(np.concatenate(parts)) if parts else np.zeros((1, width), np.uint8)
        return result


def assemble(chain: Chain, encoded: Mapping[str, EncodedLayer], config: ArrayConfig) -> OnChip:
    """The program of a whole network; `encoded` are its layers' pruned weights, by name.

    The results of all steps are also written to the output port, for comparison; see `outputs_only`.
    FlowError when the maps do not fit the memory, or a count its field.
    """
    map_places = places(chain)
    if (needed := max(map(words, map_places))) > config.map_words:
        raise FlowError(
            f"the feature maps need {needed:,} words of 8 bytes, but the memory has {config.map_words:,}; "
            "build the array with as many"
        )
    for unit, needs in chain.units.items():
        if needs and not getattr(config, unit):
            raise FlowError(LACKS[unit])
    images, ideal, ends = _Images(config, chain), list[int](), list[int]()
    for segment, images.places in zip(chain.segments, map_places, strict=True):
        _segment(images, segment, encoded, ideal, ends)
    widths = {
        "descriptor": config.descriptor_bits // 8, "weight": config.weight_bits // 8,
        "metadata": config.metadata_bits // 8, "parameter": config.lanes * 8, "index": config.lanes * 2,
        "entry": ENTRY_BITS // 8,
    }  # fmt: skip
    memories = images.memories(widths)
    if len(memories["descriptor"]) >= 1 << 16:
        raise FlowError("the network needs more than 65,535 descriptors; use a larger array or deeper buffers")
    return OnChip(
        config,
        chain,
        map_places,
        memories,
        tuple(images.regions),
        max(1, images.output_words),
        tuple(ideal),
        tuple(ends),
    )


def _segment(
    images: _Images, segment: Segment, encoded: Mapping[str, EncodedLayer], ideal: list[int], ends: list[int]
) -> None:
    """Add a segment: its inputs are loaded, then its steps follow; `ideal` and `ends` grow by one for each step."""
    for held in segment.inputs:
        _load(images, images.places[held.tensor])
    settled, makers = 0, {held.tensor: -1 for held in segment.inputs}
    for place, step in enumerate(segment.steps):
        number = len(ends)
        waits = place == 0 or any(makers[name] >= settled for name in step.inputs)
        settled = place if waits else settled
        if isinstance(step, ChainLayer):
            ideal.append(_layer(images, number, step, encoded[step.layer.name], waits))
        elif step.matrices:
            ideal.append(_matrices(images, number, step, waits))
        else:
            _post(images, number, step, waits)
            ideal.append(0)
        makers[step.output] = place
        ends.append(images.made["descriptor"].used)


def outputs_only(onchip: OnChip) -> Bytes:
    """The descriptors of a run that writes only the network's outputs, at the same addresses as a full run."""
    _, mirror = descriptor_slice("mirror")
    descriptors, wanted = onchip.memories["descriptor"].copy(), set(onchip.chain.output_steps.values())
    for number, (first, end) in enumerate(pairwise((0, *onchip.ends))):
        if number not in wanted:
            descriptors[first:end, mirror // 8] &= ~np.uint8(1 << mirror % 8)
    return descriptors


def _descriptor(images: _Images, where: str, values: Mapping[str, int]) -> None:
    images.add("descriptor", pack_descriptor(values, images.config, where)[None])


def _entry_words(place: Place, channel: NDArray[np.int64], dy: NDArray[np.int64], dx: NDArray[np.int64]) -> Bytes:
    """Entries that put array columns with these channels and unrolled pixels into the octets of a map."""
    entries: dict[tuple[int, int, int], dict[str, int]] = {}
    for column, (c, y, x) in enumerate(zip(channel.tolist(), dy.tolist(), dx.tolist(), strict=True)):
        octet = c // OCTET
        entry = entries.setdefault((octet, y, x), {name: 0 for name, _ in ENTRY})
        entry[f"channel_{c % OCTET}"] = WRITES | column
        for beyond in range(place.shape[0] - octet * OCTET, OCTET):  # channels that the map does not have read as zero
            entry[f"channel_{beyond}"] = WRITES | ZERO
        entry |= {"offset": octet * place.plane + y * place.shape[2] + x, "offset_x": x, "offset_y": y}
    return np.stack([pack_fields(entry, ENTRY, ENTRY_BITS, "an entry") for entry in entries.values()])


def _layer(images: _Images, number: int, step: ChainLayer, encoded: EncodedLayer, waits: bool) -> int:
    """Add a layer's descriptors and operands; returns the cycles of its bit columns."""
    layer, config = step.layer, images.config
    check_accumulator(layer)
    target, ideal = images.places.get(layer.output), 0
    output = result_shape(images.chain, step)
    for part in parts(step, encoded, output, config):
        check_width(part.layer, config)
        scheduled = layer_schedule(part.layer, part.columns_pruned, config)
        blocks = scheduled.blocks
        ideal += scheduled.ideal_cycles
        base = images.region(number, scheduled.output_words, scheduled, part)
        packed, placed = channel_parameters(part.layer), dict[int, dict[str, int]]()
        for block in blocks:
            channel = int(block.channels[0])  # blocks of one tile each share their words
            if channel not in placed:
                placed[channel] = _operands(images, part, block, packed, target)
            values = descriptor_values(scheduled, block, config) | placed[channel]
            values |= {"output_base": base + values["output_base"], "activation_base": 0, "mirror": 1}
            values |= _walks(images, step, part, block) | {"wait": int(waits)}
            _descriptor(images, layer.name, values)
            waits = False
    return ideal


def _operands(
    images: _Images, part: LayerPart, block: Block, packed: NDArray[np.uint64], target: Place | None
) -> dict[str, int]:
    """Put the words a block reads into the memories; returns the descriptor's fields with their addresses."""
    config, channels = images.config, block.channels
    weight, metadata = weight_words(block, part.layer, part.encoded, config)
    parameters, index = parameter_words(block, packed, config)
    made, owner = images.made, part.layer.weight_tensor
    images.add("index", index)
    placed = {"parameter": images.add("parameter", parameters), "weight": made["weight"].share(weight, owner),
              "metadata": made["metadata"].share(metadata, owner)}  # fmt: skip
    if target:
        entries = _entry_words(target, part.channel[channels], part.dy[channels], part.dx[channels])
        placed["entry"] = images.add("entry", entries)
    return {f"{name}_base": at[0] for name, at in placed.items()} | {
        f"{name}_count": at[1] for name, at in placed.items()
    }


def _walks(images: _Images, step: ChainLayer, part: LayerPart, block: Block) -> dict[str, int]:
    """The descriptor's fields for the walks over a block's windows and over the results in the target map."""
    config, window = images.config, part.window
    source = replace(images.places[step.source.tensor], shape=step.source.shape)
    target = images.places.get(step.output)
    first = block.first_tile * config.rows
    positions = min(part.positions - first, block.tiles * config.rows)
    over = MapWalk(
        source.word(part.first_octet), source.shape[2], source.shape[1:], part.grid[1], positions, first,
        step=(window.strides[0], window.strides[1]), origin=(-window.pads[0], -window.pads[1]),
    )  # fmt: skip
    fields = taps(window, part.octets, source.plane, source.shape[2], config.beats)
    fields |= {"pad": step.source.quantization.zero_point + OFFSET} | prefixed("fetch", over.fields(config.rows))
    if target:
        _, height, width = result_shape(images.chain, step)
        into = MapWalk(target.base, width, (height, width), part.grid[1], positions, first, step=part.unroll)
        fields |= prefixed("store", into.fields(config.rows))
    return fields


def result_shape(chain: Chain, step: ChainLayer) -> Shape:
    """The map shape of a layer's results, also of 32-bit sums, which are stored in no map."""
    layer = step.layer
    if layer.output_quantization:
        return chain.held[layer.output].shape
    return as_map(layer.output_shape, layer.window is None, layer.name)


def _load(images: _Images, place: Place) -> None:
    """Add an input's descriptor, which copies its words in order from the activation memory."""
    config = images.config
    tiles = -(-place.words // config.rows)
    begin, _ = images.add("activation", np.zeros((tiles * config.beats, 1), np.uint8))
    walk = line_walk(place.base, place.words, config.rows)
    identity = Requantization(-OFFSET, *post.UNIT)
    job = _PostJob(
        f"input of {place.words} words", identity, 0, (INT8_MIN, INT8_MAX), place.words, 1, (Entry(ALL),),
        {"activation_base": begin, "maximum": 1, "external": 1, "taps_y": 1, "taps_x": 1, "taps_octet": config.beats}
        | prefixed("fetch", walk),
        prefixed("store", walk), 0,
    )  # fmt: skip
    _post_descriptor(images, job)


def _post(images: _Images, number: int, op: PostOp, waits: bool) -> None:
    """Add an operation's descriptors."""
    if op.norm is not None:
        brought = np.array(op.norm.constants, "<u8").view(np.uint8).reshape(-1, OCTET)
        _fill(images, op.name, "constants", brought)
    _sweeps(images, number, op, sweeps(op, images.places, images.config.rows), waits)


def _sweeps(images: _Images, number: int, op: PostOp, made: Iterable[Sweep], waits: bool) -> None:
    """Add the descriptors of an operation's sweeps; the first waits, if asked."""
    config = images.config
    for sweep in made:
        if sweep.table:
            _fill(images, op.name, "fill", np.frombuffer(sweep.table, np.uint8).reshape(TABLE_WORDS, OCTET))
        base = None
        if len(sweep.results):
            size = -(-sweep.positions // config.rows) * OCTET
            base = images.region(number, size, sweep=sweep)
        fields = taps(sweep.window, sweep.octets, sweep.plane, sweep.pitch, config.beats, waits or sweep.waits)
        steps = -(-fields["taps_y"] * fields["taps_x"] * sweep.octets // config.beats)
        own: dict[str, int] = {}
        if sweep.normal is not None:
            fields, steps, own = _normal(sweep, sweep.normal, waits, config)
        operands = fields | {
            "maximum": int(sweep.maximum), "pad": sweep.pad, "through": int(bool(sweep.table)),
            "factor_low": sweep.factors[0], "factor_high": sweep.factors[1], "product": int(sweep.product),
            "minus": int(sweep.minus),
        }  # fmt: skip
        kept = op.output in images.places if len(sweep.results) else sweep.normal is None
        job = _PostJob(
            op.name, sweep.requantization, sweep.zero, sweep.clamp, sweep.positions, steps, sweep.entries,
            operands | own | prefixed("fetch", sweep.over.fields(config.rows)),
            prefixed("store", sweep.into.fields(config.rows)) if kept else {}, op.output_shape[2], base,
        )  # fmt: skip
        _post_descriptor(images, job)
        waits = False


def _normal(
    sweep: Sweep, normal: Normal, waits: bool, config: ArrayConfig
) -> tuple[dict[str, int], int, dict[str, int]]:
    """The taps of a sweep of the normalizer, its steps, and the other fields.

    It takes a channel a cycle and sees the low octet of a step alone: each octet is there for all beats of as many
    steps as have eight cycles.
    """
    norm, octets = normal.norm, sweep.octets
    repeats = SUBGROUP // config.slices(MAX_COLUMNS)
    fields = taps(sweep.window, 1, 0, 0, config.beats, waits or sweep.waits) | {
        "taps_y": normal.passes, "taps_x": octets, "taps_octet": repeats * config.beats, "dilation_x": 0,
        "dilation_y": 0, "filler": 0, "delta_octet": 0, "delta_x": sweep.plane,
        "delta_y": -(octets - 1) * sweep.plane % (1 << ADDRESS),
    }  # fmt: skip
    low = {"count": norm.channels, "centred": int(norm.centred)}
    high = {
        "centre": norm.zero, "scale": norm.shift(normal.fraction) if normal.applies else 0,
        "negative": int(normal.negative), "doublings": norm.doublings,
    }  # fmt: skip
    own = {
        "normalize": 1, "applies": int(normal.applies), "maximum": int(norm.softmax), "columns": MAX_COLUMNS,
        "factor_low": _number(low, NORM_LOW), "factor_high": _number(high, NORM_HIGH),
    }  # fmt: skip
    return fields, normal.passes * octets * repeats, own


def _number(values: dict[str, int], fields: tuple[tuple[str, int], ...]) -> int:
    return int.from_bytes(pack_fields(values, fields, 32, "a normalization").tobytes(), "little")


def _matrices(images: _Images, number: int, op: PostOp, waits: bool) -> int:
    """Add the descriptors of a matrix product of two maps; returns the cycles of its bit columns."""
    ideal = 0
    _sweeps(images, number, op, constants(op, images.places), waits)
    waits = waits or bool(op.constants)
    for block in blocks(op, images.places, images.config):
        _weights_of_map(images, op, block, waits)
        ideal += _matrix_block(images, number, op, block)
        waits = False
    return ideal


def _weights_of_map(images: _Images, op: PostOp, block: MatrixBlock, waits: bool) -> None:
    """Add the descriptor that makes a map's octets the weights of the next one; it gives no results."""
    config = images.config
    steps = -(-block.weight_octets // config.beats)
    job = _PostJob(
        op.name, post.IDENTITY, 0, (INT8_MIN, INT8_MAX), 1, steps, (Entry(ALL),),
        {**block.weight_taps, **prefixed("fetch", block.weights.fields(config.rows)), "wait": int(waits),
         "maximum": 1, "operand": 1, "across": int(op.matrices is not None and op.matrices.across),
         "factor_low": block.first},
        {}, 0,
    )  # fmt: skip
    _post_descriptor(images, job)


def _matrix_block(images: _Images, number: int, op: PostOp, block: MatrixBlock) -> int:
    """Add the descriptor of a block whose weights are those of a map; returns the cycles of its bit columns."""
    config, count = images.config, len(block.channels)
    slices = config.slices(BBS.weight_bits)
    results = np.zeros((count, 5), np.int64)
    results[:, 0], results[:, 1] = block.channels, np.arange(count)
    pixel, matrices = block.head.result[1], op.matrices
    assert matrices is not None
    written = Written(results, (0, pixel), (1, matrices.rows_of(block.head)), count)
    base = images.region(number, block.tiles * count, sweep=written)
    constant = -op.input_quantizations[1].zero_point % (1 << BBS.constant_bits)
    metadata = np.full((-(-block.steps // 2), config.metadata_bits // 8), constant, np.uint8)
    metadata_base, metadata_count = images.add("metadata", metadata)
    numbers = op.requantization()
    packed = pack_parameters(*(np.full(count, value) for value in (numbers.bias, numbers.multiplier, numbers.shift)))
    columns = Block(0, np.arange(count), BBS.weight_bits, slices, block.steps, block.tiles, 0, True)
    parameters, index = parameter_words(columns, packed, config)
    parameter_base, parameter_count = images.add("parameter", parameters)
    images.add("index", index)
    fields: dict[str, int] = {}
    if target := images.places.get(op.output):
        nothing = np.zeros(count, np.int64)
        entries = _entry_words(target, block.channels, nothing, nothing)
        fields["entry_base"], fields["entry_count"] = images.add("entry", entries)
        fields |= prefixed("store", block.into.fields(config.rows))
    _descriptor(images, op.name, {
        "weight_base": 0, "weight_count": block.steps * slices, "metadata_base": metadata_base,
        "metadata_count": metadata_count, "activation_count": block.tiles * block.steps * config.beats,
        "parameter_base": parameter_base, "parameter_count": parameter_count, "output_base": base,
        "tile_stride": count, "plane_stride": count, "tiles": block.tiles, "steps": block.steps, "channels": count,
        "columns": BBS.weight_bits, "resident": 1, "zero": op.zero + OFFSET, "low": op.clamp[0] + OFFSET,
        "high": op.clamp[1] + OFFSET, "mirror": 1, "operand": 1, **block.taps,
        **prefixed("fetch", block.over.fields(config.rows)), **fields,
    })  # fmt: skip
    return block.steps * slices * block.tiles


def _fill(images: _Images, where: str, field: str, words: Bytes) -> None:
    """Add the descriptor that brings a unit's constants: one tile of nothing, whose parameters are these words."""
    config, count = images.config, len(words) + 1  # the last word is none of them: hardware/maps/tables.py
    parameters = np.zeros((count, config.lanes * PARAMETER_BITS // 8), np.uint8)
    parameters[:-1, :OCTET] = words
    parameter_base, parameter_count = images.add("parameter", parameters)
    images.add("index", np.zeros((count, config.lanes * INDEX_BITS // 8), np.uint8))
    nothing = MapWalk(0, 0, (0, 0), 1, 1).fields(config.rows)
    _descriptor(images, where, {
        "parameter_base": parameter_base, "parameter_count": parameter_count, "activation_count": config.beats,
        "tiles": 1, "steps": 1, "channels": count * config.lanes, "columns": 1, "resident": 1, "post": 1, field: 1,
        **taps(POINT, 1, 0, 0, config.beats), **prefixed("fetch", nothing),
    })  # fmt: skip


@dataclass(frozen=True)
class _PostJob:
    """One descriptor of post-processing: eight channels of `positions` windows; the processing elements idle.

    `operands` are the fields that say what is read, `target` those that say where the maps' memory is written (none:
    nowhere), by `entries` into a map with `pitch` words to a row of pixels. `base` is the place in the output memory
    (None: not written there).
    """

    where: str
    requantization: Requantization
    zero: int
    clamp: tuple[int, int]
    positions: int
    steps: int
    entries: tuple[Entry, ...]
    operands: dict[str, int]
    target: dict[str, int]
    pitch: int
    base: int | None = None


def _entry_word(entry: Entry, job: _PostJob) -> NDArray[np.uint8]:
    fields = {f"channel_{number}": channel for number, channel in enumerate(entry.channels)}
    fields |= {"offset": entry.dy * job.pitch + entry.dx, "offset_x": entry.dx, "offset_y": entry.dy}
    return pack_fields(fields, ENTRY, ENTRY_BITS, job.where)


def _post_descriptor(images: _Images, job: _PostJob) -> None:
    """Add the job's parameters, entries and descriptor."""
    config, steps, requantization = images.config, job.steps, job.requantization
    tiles = -(-job.positions // config.rows)
    block = Block(0, np.arange(OCTET), 1, 1, steps, tiles, 0, True)
    numbers = (requantization.bias, requantization.multiplier, requantization.shift)
    packed = pack_parameters(*(np.broadcast_to(np.asarray(value), (OCTET,)) for value in numbers))
    parameters, index = parameter_words(block, packed, config)
    parameter_base, parameter_count = images.add("parameter", parameters)
    images.add("index", index)
    entries = np.stack([_entry_word(entry, job) for entry in job.entries])
    entry_base, entry_count = images.add("entry", entries if job.target else entries[:0])
    _descriptor(images, job.where, {
        "parameter_base": parameter_base, "parameter_count": parameter_count,
        "activation_count": tiles * steps * config.beats, "output_base": job.base or 0, "tile_stride": OCTET,
        "plane_stride": OCTET, "tiles": tiles, "steps": steps, "channels": OCTET, "columns": 1, "resident": 1,
        "zero": job.zero + OFFSET, "low": job.clamp[0] + OFFSET, "high": job.clamp[1] + OFFSET, "post": 1,
        "mirror": int(job.base is not None), "entry_base": entry_base, "entry_count": entry_count, **job.operands,
        **job.target,
    })  # fmt: skip
