"""bench/paper: cycle models against simulations lane by lane, layer tables against published counts, the sections."""

from __future__ import annotations

import html
import itertools
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from bench.area import IN_ARRAYS, Measured
from bench.paper import (
    accelerators,
    comparison,
    language,
    memory,
    page,
    pruned,
    published,
    statistics,
    studies,
    succession,
    successors,
    transitive,
    workloads,
)
from bench.paper.__main__ import main
from bench.paper.accelerators import Work
from bench.paper.kept import Kept
from bench.paper.sections import SECTIONS
from bench.paper.studies import Results, Study, run
from bench.paper.trained import pareto
from bench.paper.workloads import Source, Spec, Workload
from flow.compression.encoding import decode_layer
from flow.compression.prune import prune
from flow.hardware.config import ArrayConfig
from flow.hardware.synthesis import Area
from flow.network.model import ArrayLayer, Quantization
from flow.simulation import engines

SHIPPED = Path(__file__).parents[2] / "models" / "digits_cnn.onnx"
SMALL = ArrayConfig(rows=4, columns=4)


def small_layer(seed: int, channels: int = 10, reduction: int = 37, positions: int = 9, groups: int = 1) -> ArrayLayer:
    """A matrix product of odd sizes, weights of every magnitude, some of them zero."""
    generator = np.random.default_rng(seed)
    weights = (generator.integers(-128, 128, (channels, reduction)) >> generator.integers(0, 8, (channels, 1))).astype(
        np.int8
    )
    weights[generator.random(weights.shape) < 0.2] = 0
    made = workloads.layer(Spec("small", reduction, channels, positions), "test")
    return replace(made, weights=weights, groups=groups)


def blocks(layer: ArrayLayer, columns: int) -> list[NDArray[np.int64]]:
    size = layer.channels // layer.groups
    return [
        np.arange(begin, min(begin + columns, first + size))
        for first in range(0, layer.channels, size)
        for begin in range(first, first + size, columns)
    ]


Queues = Callable[[NDArray[np.int8]], list[int]]  # a step's weights of one PE to the work of each lane


def simulated(layer: ArrayLayer, config: ArrayConfig, step: int, queues: Queues) -> Work:
    """Every cycle of every tile, block and step: each lane of each PE takes one item from its queue."""
    cycles = useful = intra = inter = 0
    for _ in range(-(-layer.positions // config.rows)):
        for members in blocks(layer, config.columns):
            for begin in range(0, layer.reduction, step):
                lanes = [queues(layer.weights[channel, begin : begin + step]) for channel in members]
                first = True
                while first or any(any(lane) for lane in lanes):
                    for pe in lanes:
                        if first or any(pe):  # a PE with nothing to do has its first cycle
                            busy = sum(count > 0 for count in pe)
                            useful, intra = useful + busy, intra + len(pe) - busy
                        else:
                            inter += len(pe)
                    lanes = [[max(count - 1, 0) for count in pe] for pe in lanes]
                    cycles += 1
                    first = False
    return Work(cycles, useful, intra, inter)


def lanes_of(values: list[int]) -> list[int]:
    return values + [0] * (8 - len(values))


def ones(value: int) -> int:
    return bin(value).count("1")


@pytest.mark.parametrize(("seed", "groups"), [(0, 1), (1, 2), (2, 5)])
def test_pragmatic_is_its_simulation(seed: int, groups: int) -> None:
    layer = small_layer(seed, groups=groups)

    def queues(weights: NDArray[np.int8]) -> list[int]:
        return lanes_of([ones(min(abs(int(w)), 127)) for w in weights])

    assert accelerators.pragmatic(layer, SMALL) == simulated(layer, SMALL, 8, queues)


def test_pragmatic_with_sign_is_its_simulation() -> None:
    layer = small_layer(3)

    def queues(weights: NDArray[np.int8]) -> list[int]:
        return lanes_of([ones(min(abs(int(w)), 127)) + (w < 0) for w in weights])

    assert accelerators.pragmatic(layer, SMALL, sign=True) == simulated(layer, SMALL, 8, queues)


@pytest.mark.parametrize("window", [8, 32, 64])
def test_bitlet_is_its_simulation(window: int) -> None:
    layer = small_layer(window, reduction=100, groups=2)

    def queues(weights: NDArray[np.int8]) -> list[int]:
        return [sum(int(w) >> bit & 1 for w in weights) for bit in range(8)]

    assert accelerators.bitlet(layer, SMALL, window) == simulated(layer, SMALL, window, queues)


@pytest.mark.parametrize("seed", [0, 1])
def test_bitwave_is_its_simulation(seed: int) -> None:
    layer = small_layer(seed, groups=2)
    cycles = 0
    for _ in range(-(-layer.positions // SMALL.rows)):
        for members in blocks(layer, SMALL.columns):
            for begin in range(0, layer.reduction, 8):
                magnitudes = [[min(abs(int(w)), 127) for w in layer.weights[c, begin : begin + 8]] for c in members]
                columns = [sum(any(m >> bit & 1 for m in step) for bit in range(7)) for step in magnitudes]
                cycles += max(1, *columns)
    assert accelerators.bitwave(layer, SMALL).cycles == cycles


def test_bitwave_with_zeroed_columns_is_that_of_flipped_weights() -> None:
    """The lowest columns of weights that use all seven are zeroed: as many cycles as the model foretold."""
    layer = small_layer(5)
    signs = np.where(layer.weights < 0, -1, 1)
    full = replace(
        layer, weights=np.where(np.arange(layer.reduction) % 8 == 0, 127 * signs, layer.weights).astype(np.int8)
    )
    for zeroed in (1, 2, 3):
        kept = np.minimum(np.abs(full.weights.astype(int)), 127) >> zeroed << zeroed
        flipped = replace(full, weights=(np.sign(full.weights) * kept).astype(np.int8))
        foretold = accelerators.bitwave(full, SMALL, zeroed)
        assert foretold.cycles == accelerators.bitwave(flipped, SMALL).cycles == 3 * 3 * 5 * (7 - zeroed)


def test_stripes_takes_eight_cycles_a_step_and_the_rtl_schedule_says_so() -> None:
    layer = small_layer(6)
    work = accelerators.stripes(layer, SMALL)
    assert work.cycles == 3 * 3 * 5 * 8  # tiles, blocks, steps, bits
    bits = sum(ones(int(w) & 255) for w in layer.weights.reshape(-1))
    assert work.useful == 3 * bits
    assert work.useful + work.intra + work.inter == 3 * 5 * 8 * 8 * layer.channels


@pytest.mark.parametrize("seed", [0, 1])
def test_bitvert_is_its_simulation(seed: int) -> None:
    """Column by column of the decoded S; the rarer bit of each eight is what the multipliers take."""
    layer = small_layer(seed, reduction=64)
    n = np.array([0, 0, 2, 2, 2, 2, 4, 4, 4, 4])
    encoded, _ = prune(layer.weights, n, "zero-point-shifting")
    cycles = useful = slots = 0
    for columns in (0, 2, 4):
        members = np.flatnonzero(n == columns)
        part = next(part for part in encoded.parts if part.groups.columns_pruned == columns)
        kept = part.groups.kept.reshape(len(members), -1)
        for begin in range(0, len(members), SMALL.columns):
            block = kept[begin : begin + SMALL.columns]
            for step in range(0, layer.reduction, 16):
                for bit in range(8 - columns):
                    cycles += 1
                    slots += 8 * len(block)
                    useful += sum(
                        min(count, 8 - count)
                        for row in block
                        for half in (row[step : step + 8], row[step + 8 : step + 16])
                        for count in [sum(int(s) >> bit & 1 for s in half)]
                    )
    tiles = 3
    work = accelerators.bitvert_split(layer, encoded, SMALL)
    assert work.cycles == accelerators.bitvert(layer, n, SMALL).cycles == tiles * cycles
    assert work == Work(work.cycles, tiles * useful, tiles * (slots - useful), 0)


@pytest.mark.parametrize("groups", [1, 2])
def test_sparten_is_its_simulation(groups: int) -> None:
    layer = small_layer(7, channels=10, reduction=150, positions=9, groups=groups)
    generator = np.random.default_rng(0)
    nonzero = generator.random((groups, layer.positions, layer.reduction)) < 0.4
    size, cycles = layer.channels // groups, 0
    for tile in range(0, layer.positions, SMALL.rows):
        for members in blocks(layer, SMALL.columns):
            for begin in range(0, layer.reduction, 128):
                matches = [
                    sum(
                        bool(layer.weights[channel, k]) and bool(nonzero[channel // size, row, k])
                        for k in range(begin, min(begin + 128, layer.reduction))
                    )
                    for channel in members
                    for row in range(tile, min(tile + SMALL.rows, layer.positions))
                ]
                cycles += max(1, *matches)
    assert accelerators.sparten(layer, nonzero, SMALL).cycles == cycles


def test_ant_counts_tiles_of_its_own_array() -> None:
    layer = small_layer(8, channels=33, reduction=40, positions=41)
    assert accelerators.ant(layer).cycles == 6 * 3 * 3 * 3  # bits; 33/16 channels, 41/20 windows, 40/16 weights


# -------------------------------------------------------------------------------- successors
def tile_counts(rows: list[int], width: int = 8) -> NDArray[np.int64]:
    return np.bincount(rows, minlength=1 << width).astype(np.int64)[:, None]


def walked(schedule: transitive.Schedule, rows: list[int], x: list[int], fixed: bool = False) -> tuple[list[int], int]:
    """The sums of a tile's rows, made one at a time as its tree says; cycles of its slowest lane.

    `fixed`: the tree is that of many tiles.
    """
    sums, cycles = {0: 0}, [0] * len(x)
    for pattern in transitive.order(len(x)):
        if schedule.needed[pattern, 0]:
            prefix, lane = int(schedule.prefix[pattern, 0]), int(schedule.lane[pattern, 0])
            more = pattern ^ prefix
            assert prefix & pattern == prefix and more.bit_count() == 1
            if prefix:
                assert schedule.lane[prefix, 0] == lane, "a lane keeps to its own tree"
                others = [pattern & ~(1 << bit) for bit in range(len(x)) if pattern >> bit & 1]
                free = [cycles[int(schedule.lane[each, 0])] for each in others if schedule.needed[each, 0]]
                assert fixed or cycles[lane] == min(free), "of several prefixes the one in the lane with least to do"
            sums[pattern] = sums[prefix] + x[more.bit_length() - 1]
            cycles[lane] += max(rows.count(pattern), 1)
    return [sums[row] for row in rows], max(1, *cycles)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("tree", [transitive.dynamic, transitive.static])
def test_transitive_array_gives_every_rows_sum_in_the_cycles_of_its_lanes(
    seed: int, tree: Callable[..., transitive.Schedule]
) -> None:
    generator = np.random.default_rng(seed)
    x = [int(value) for value in generator.integers(0, 256, 8)]
    for rows in ([], [0, 0], [255], [0b11, 0b11, 0b1110000], generator.integers(0, 256, 20 << seed).tolist()):
        schedule = tree(tile_counts(rows))
        sums, cycles = walked(schedule, rows, x, tree is transitive.static)
        assert sums == [sum(value for bit, value in enumerate(x) if row >> bit & 1) for row in rows]
        assert schedule.cycles.tolist() == [cycles]


def test_fill_ins_are_nearly_as_few_as_can_be() -> None:
    """Four inputs: every set of further sums is tried."""
    generator = np.random.default_rng(0)
    ours = least = 0
    for _ in range(60):
        rows = generator.choice(np.arange(1, 16), int(generator.integers(1, 6)), replace=False).tolist()
        others = [pattern for pattern in range(1, 16) if pattern not in rows]
        fewest = min(
            len(more)
            for size in range(5)
            for more in itertools.combinations(others, size)
            for made in [{0, *rows, *more}]
            if all(any(row & ~(1 << bit) in made for bit in range(4) if row >> bit & 1) for row in made if row)
        )
        found = int(transitive.dynamic(tile_counts(rows, 4)).needed.sum()) - 1 - len(rows)
        assert fewest <= found <= fewest + 1, rows
        ours, least = ours + found, least + fewest
    assert 0 < least <= ours < 1.15 * least


def rows_of(values: NDArray[np.int8], bits: int) -> list[int]:
    """Bit rows of weights [channels, up to 8 inputs]."""
    return [sum((int(w) >> bit & 1) << lane for lane, w in enumerate(row)) for row in values for bit in range(bits)]


@pytest.mark.parametrize(("groups", "bits"), [(1, 8), (2, 8), (5, 8), (2, 4)])
def test_transitive_array_is_its_tiles(groups: int, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 80 channels: tiles of 256 rows, 32 channels in 8 bits, of one group and eight inputs."""
    monkeypatch.setattr(transitive, "ADDERS", 8 * SMALL.rows * 2)  # two units
    layer = small_layer(11, channels=80, groups=groups)
    codes = layer.weights
    if bits == 4:
        codes = np.array([[round(w * 7 / max(1, *map(abs, row))) for w in row] for row in codes.tolist()], np.int8)
    size, each, cycles = 80 // groups, 256 // bits, 0
    for first in range(0, 80, size):
        for begin in range(first, first + size, min(each, size)):
            channels = codes[begin : min(begin + each, first + size)]
            for k in range(0, layer.reduction, 8):
                tile = channels[:, k : k + 8]
                schedule = transitive.dynamic(tile_counts(rows_of(tile, bits)))
                cycles += walked(schedule, rows_of(tile, bits), [0] * 8)[1]
    assert transitive.transitive(layer, SMALL, bits=bits).work.cycles == -(-cycles * 3 // 2)  # tiles of windows, units


def test_transitive_array_on_stored_columns_is_its_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transitive, "ADDERS", 8 * SMALL.rows)  # one unit
    layer = small_layer(12, channels=40, reduction=40)
    n = np.repeat([0, 2, 4], [8, 12, 20])
    encoded, _ = prune(layer.weights, n, "zero-point-shifting")
    cycles = 0
    for part in encoded.parts:
        columns = part.groups.columns_pruned
        kept = part.groups.kept.reshape(len(part.channels), -1)[:, : layer.reduction]
        for k in range(0, layer.reduction, 8):
            rows = rows_of(kept[:, k : k + 8], 8 - columns) + [255] * (columns > 0)
            cycles += walked(transitive.dynamic(tile_counts(rows)), rows, [0] * 8)[1]
        constants = part.groups.constant.reshape(len(part.channels), -1)
        for group in constants.T:
            cycles += -(-sum(ones(int(d) & 63) for d in group) // 8)
    assert transitive.of_columns(layer, encoded, SMALL).work.cycles == 3 * cycles  # tiles of windows


def test_transitive_array_measures_some_tiles_of_large_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    (layer,) = layers_of((512, 256, 16))
    every = transitive.transitive(layer, ArrayConfig())
    monkeypatch.setattr(transitive, "MOST_TILES", 64)
    some = transitive.transitive(layer, ArrayConfig())
    assert some != every and some.work.cycles == pytest.approx(every.work.cycles, rel=0.02)


@pytest.mark.parametrize("bits", [4, 3])
def test_bitmod_takes_the_nearest_value_of_the_best_type(bits: int) -> None:
    generator = np.random.default_rng(bits)
    weights = generator.integers(-128, 128, (3, 200)).astype(np.int8)
    made = successors.bitmod_weights(weights, bits)
    positive = successors.BITMOD_VALUES[bits]
    for row in range(3):
        best: list[tuple[float, list[float]]] = [(np.inf, [])] * 2
        for special in successors.BITMOD_SPECIAL[bits]:
            values = sorted({*positive, *(-value for value in positive), special})
            needed = [
                max(min(0, *group) / values[0], max(0, *group) / values[-1])
                for group in (weights[row, :128].tolist(), weights[row, 128:].tolist())
            ]
            step = max(needed) / 127
            for number, begin in enumerate((0, 128)):
                scale = round(needed[number] / step) * step
                group = weights[row, begin : begin + 128].tolist()
                near = [min(values, key=lambda value, w=w, s=scale: abs(value * s - w)) * scale for w in group]  # type: ignore[misc]
                error = sum((a - w) ** 2 for a, w in zip(near, group, strict=True))
                best[number] = min(best[number], (error, near))
        errors = [((made[row, part] - weights[row, part]) ** 2).sum() for part in (slice(0, 128), slice(128, 200))]
        assert errors == pytest.approx([error for error, _ in best])
    layer = small_layer(13)
    assert successors.bitmod(layer, SMALL, bits).cycles == 3 * 3 * 5 * 2  # tiles, blocks, steps, terms
    assert successors.bitmod_bits(bits) == bits + 10 / 128


def test_panacea_is_its_products() -> None:
    """Every outer product of slices of four weights and four activations."""
    layer = small_layer(14, channels=10, positions=9, groups=2)
    codes = np.random.default_rng(0).integers(-128, -100, (2, 9, 37)).astype(np.int8)
    codes[:, ::3] = -128
    zero = replace(layer, input_quantization=Quantization(np.float32(1), -128, False))
    fewest = []
    for high in (lambda x: (x + 128) >> 4 != 0, lambda x: not -8 <= x + 128 <= 7):
        products = 0
        for group, first in ((0, 0), (1, 5)):
            for channel in (first, first + 4):
                for window in range(0, 9, 4):
                    for k in range(37):
                        w = layer.weights[channel : min(channel + 4, first + 5), k].tolist()
                        x = codes[group, window : window + 4, k].tolist()
                        products += (1 + any(not -8 <= v <= 7 for v in w)) * (1 + any(high(v) for v in x))
        fewest.append(products)
    assert successors.sliced(zero, codes).operations == min(fewest)
    assert successors.panacea(zero, codes).cycles == -(-min(fewest) // 128)


def test_mcbp_merges_equal_columns() -> None:
    layer = small_layer(15, channels=10, positions=9, groups=2)
    additions = 0
    for first in (0, 5):
        for begin in (first, first + 4):
            fours = layer.weights[begin : min(begin + 4, first + 5)]
            for bit in range(8):
                columns = [tuple(int(w) >> bit & 1 for w in column) for column in fours.T]
                additions += sum(any(column) for column in columns) + sum(sum(column) for column in set(columns))
    assert successors.mcbp(layer, SMALL).cycles == -(-additions * 3 * 4 // 4096)
    small = layers_of((32, 8, 1))[0]
    weights = np.where(np.arange(32) % 8 == 0, 5, 0).astype(np.int8) * np.ones((8, 1), np.int8)
    # bits 0 and 2: a column in eight is one, (7 + 5) / 8 bits for four weights; the other five planes a bit for four
    assert successors.mcbp_bits(replace(small, weights=weights)) == pytest.approx(1 + 2 * 12 / 8 / 4 + 5 / 4)


def test_a_network_on_the_successors(digits: Workload) -> None:
    found = succession.study(digits)
    assert set(found.lines) == set(succession.NAMES)
    assert found.compute("plain") == 8 and found.compute("bitmod 4") == 4
    assert 1 / 8 < found.density["transitive"] <= found.density["static"] < 1 / 4
    assert found.lines["transitive"].compute <= found.lines["static"].compute
    assert found.lines["bitmod 4"].bits == pytest.approx(4.078, abs=1e-3)
    assert found.noise["BitMoD, 3 bits"][1] < found.noise["BitMoD, 4 bits"][1]
    assert found.noise["BBS, N = 4"][1] <= found.noise["ours, N = 4"][1]


def test_successors_are_compared_at_equal_area(digits: Workload) -> None:
    """Transitive Array's 4,096 lanes, of one unit of area each, against 512 elements of 10 with what they share."""
    study = Study(Source("ResNet-50"), succession=succession.study(digits))
    found = study.succession
    assert found is not None
    without = {row.what: row for row in SECTIONS["successors"](Results([study])).rows}
    claim = without["Transitive Array over BitVert, N = 0"]
    assert claim.ours == found.compute("transitive") / found.compute("bitvert") and claim.paper == 3.97
    assert not any("equal area" in what for what in without)

    def block(name: str, area: float) -> Measured:
        return Measured(name, Area(area, 1, 1, 1), Area(area, 1, 1, 1), {}, {})

    areas = {element.name: block(element.name, 0) for element in IN_ARRAYS}
    areas |= {name: block(name, 10) for name in ("bitvert", "pairs_1", "pairs_2", "pairs_4", "plain_8", "stripes_8")}
    areas |= {"transitive": block("transitive", 1), "pragmatic": block("pragmatic", 10)}
    section = SECTIONS["successors"](Results([study], areas=areas))
    rows = {row.what: row.ours for row in section.rows}
    assert rows["Transitive Array over BitVert, N = 0, at equal area"] == pytest.approx(claim.ours * 5120 / 4096)
    assert '<table class="prose">' in page.html([section], ["ResNet-50"], 1.0) and section.tables[0].prose
    assert len(section.tables) == 6 and all(
        len(row) == len(table.header) for table in section.tables for row in table.rows
    )


# -------------------------------------------------------------------------------- networks
PUBLISHED = {  # parameters as torchvision, timm and transformers report them, 1e9 MACs of the weights
    "VGG-16": (138_357_544, 15.47),
    "ResNet-34": (21_797_672, 3.66),
    "ResNet-50": (25_557_032, 4.09),
    "ViT-Small": (22_050_664, 4.24),
    "ViT-Base": (86_567_656, 16.85),
    "BERT-base": (109_483_778, 10.87),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_layer_tables_have_the_published_parameters_and_macs(name: str) -> None:
    architecture = workloads.ARCHITECTURES[name]
    specs = architecture.specs()
    parameters, macs = PUBLISHED[name]
    assert sum(map(workloads.weights_of, specs)) + architecture.others(specs) == parameters
    outputs = [spec.outputs * (-(-spec.size // spec.stride)) ** (2 if spec.kernel else 1) for spec in specs]
    total = sum(spec.inputs * max(spec.kernel, 1) ** 2 * out for spec, out in zip(specs, outputs, strict=True))
    assert total / 1e9 == pytest.approx(macs, abs=0.006)


def test_a_layer_has_the_shapes_of_its_convolution() -> None:
    made = workloads.layer(Spec("c", 3, 64, 224, 7, 2), "test")
    assert made.weights.shape == (64, 147) and made.positions == 112 * 112
    assert made.window is not None and made.window.pads == (3, 3, 2, 2)


def test_drawn_weights_are_seeded_and_fill_eight_bits() -> None:
    codes, scales = workloads.drawn(8, 100, "a")
    again, _ = workloads.drawn(8, 100, "a")
    other, _ = workloads.drawn(8, 100, "b")
    assert (codes == again).all() and (codes != other).any()
    assert (np.abs(codes.astype(int)).max(axis=1) == 127).all() and (scales > 0).all()


def test_samples_are_found_beside_a_model_and_by_name(tmp_path: Path) -> None:
    assert workloads.source(SHIPPED).trained
    for name in ("net_calib.npz", "net_test.npz", "other_calib.npz"):
        (tmp_path / name).touch()
    found = workloads.source(tmp_path / "big_net_v2.onnx", tmp_path)
    assert (found.calibration, found.test) == (tmp_path / "net_calib.npz", tmp_path / "net_test.npz")
    assert not workloads.source(tmp_path / "netting.onnx", tmp_path).trained


@pytest.fixture(scope="module")
def digits() -> Workload:
    return workloads.load(workloads.source(SHIPPED))


def test_an_onnx_network_brings_its_own_zeros(digits: Workload) -> None:
    assert [layer.name for layer in digits.layers] == list(digits.zeros)
    assert digits.zeros["stem_Conv"] > 0.3  # the background of the digits
    for layer in digits.layers:
        codes = digits.codes[layer.name]
        assert codes.shape == (layer.groups, min(layer.positions, 64), layer.reduction) and codes.dtype == np.int8
    assert not digits.stand_in


# -------------------------------------------------------------------------------- memory, energy, pruning
def layers_of(*sizes: tuple[int, int, int]) -> list[ArrayLayer]:
    """Matrix products (inputs, outputs, rows)."""
    return [
        workloads.layer(Spec(f"l{number}", inputs, outputs, rows), "test")
        for number, (inputs, outputs, rows) in enumerate(sizes)
    ]


def moved(layers: list[ArrayLayer], bits: float = 8.0) -> list[memory.Traffic]:
    names = [layer.name for layer in layers]
    return memory.traffic(layers, dict.fromkeys(names, bits), dict.fromkeys(names, 8.0))


def test_maps_that_fit_stay_on_chip() -> None:
    first, second = moved(layers_of((64, 64, 100), (64, 10, 100)))
    assert first == memory.Traffic(64 * 64, 6400, 0)
    assert second == memory.Traffic(640, 0, 1000)  # the last result leaves


def test_what_fits_neither_buffer_is_fetched_again() -> None:
    wide, long = layers_of((1024, 1024, 512), (512, 512, 4096))
    (traffic,) = moved([wide])  # 1 MB of weights, 512 KB of input: 2 x weights + input is less than input x 4
    assert traffic.weights + traffic.inputs == min(2 * 2**20 + 2**19, 4 * 2**19 + 2**20)
    (traffic,) = moved([long])  # 256 KB of weights fit
    assert (traffic.weights, traffic.inputs) == (2**18, 2**21)


def test_fewer_bits_move_fewer_bytes_and_a_layer_takes_the_longer_time() -> None:
    layers = layers_of((64, 64, 100))
    assert moved(layers, 4.0)[0].weights == moved(layers)[0].weights / 2
    traffic = memory.Traffic(100, 0, 61)
    assert traffic.cycles == 11
    assert memory.times([Work(3), Work(30)], [traffic, traffic]) == 11 + 30


def test_ours_is_faster_with_no_more_noise() -> None:
    layers = layers_of((64, 64, 256), (64, 32, 256))
    preset = pruned.preset("moderate", layers)
    ours = pruned.ours(layers, preset.noise, ArrayConfig())
    assert 0 < ours.noise <= preset.noise
    run = [
        sum(accelerators.bitvert(layer, n[layer.name], ArrayConfig()).cycles for layer in layers)
        for n in (ours.allocation, preset.allocation)
    ]
    assert run[0] < run[1]
    for n in ours.allocation.values():  # whole blocks share one N
        assert all(len(set(part)) == 1 for part in np.array_split(np.sort(n), max(len(n) // 32, 1)))


def test_cycles_are_spent_where_they_save_most_error() -> None:
    """Two blocks of equal cost: the one that loses less is pruned; the brute force finds nothing better."""
    layers = layers_of((64, 32, 256), (64, 32, 256))
    steep, flat = (np.outer(np.ones(32), np.arange(7.0) ** 2 * weight) for weight in (5, 1))
    tradeoff = pruned.Tradeoff(layers, {"l0": steep, "l1": flat}, ArrayConfig())
    each = 16 * 4  # tiles x steps: cycles of one column
    for budget in range(4, 17):
        found = tradeoff.within_cycles(budget * each)
        n = [int(found.allocation[name][0]) for name in ("l0", "l1")]
        spent = sum(8 - columns for columns in n)
        assert spent <= budget
        reachable = [
            32 * (5 * a**2 + b**2) for a in range(7) for b in range(7) if 16 - a - b <= spent
        ]  # fmt: skip
        assert found.noise == min(reachable)
    again = tradeoff.within_error(found.noise)
    assert again.noise <= found.noise


def test_noise_is_that_of_the_decoded_weights() -> None:
    (layer,) = layers_of((100, 8, 1))
    encoded, _ = prune(layer.weights, np.full(8, 4), "optimal")
    real = layer.weights * layer.weight_scales[:, None].astype(float)
    lost = decode_layer(encoded) * layer.weight_scales[:, None].astype(float) - real
    wanted = (lost**2).sum(axis=1) / (real**2).sum()
    assert pruned.noises(layer, 4, "optimal") == pytest.approx(wanted)


def test_energy_adds_up(digits: Workload) -> None:
    found = comparison.outcome("stripes", digits)
    names = [layer.name for layer in digits.layers]
    total = sum(t.total for t in memory.traffic(digits.layers, dict.fromkeys(names, 8.0), dict.fromkeys(names, 8.0)))
    assert found.energy.dram == pytest.approx(total * 162.5)
    pes = found.compute * 512 * 0.37e-3 / 800e6 * 1e12
    assert found.energy.chip > pes
    assert found.edp == found.energy.total * found.cycles


def test_statistics_of_known_weights() -> None:
    (layer,) = layers_of((8, 2, 1))
    weights = np.array([[0, 0, 0, 0, -1, -1, -1, -1], [1] * 8], np.int8)
    work = Workload("w", (replace(layer, weights=weights),), {"l0": 0.0}, True)
    found = statistics.sparsity(work)
    assert found.values == 4 / 16
    assert found.twos_complement == 1 - (4 * 8 + 8) / 128
    assert found.sign_magnitude == 1 - (4 * 2 + 8) / 128
    assert found.bidirectional == 1 - (8 * 4 + 0) / 128


def test_divergence_of_unchanged_weights_is_zero() -> None:
    (layer,) = layers_of((32, 4, 1))
    even = replace(layer, weights=(layer.weights // 16 * 16).astype(np.int8))
    found = statistics.divergences(Workload("w", (even,), {"l0": 0.0}, True))
    assert found[4][1]["optimal"] == found[4][1]["zero-point-shifting"] == 0
    assert found[2][1]["bit-flip"] >= 0


def test_olive_keeps_outliers_and_gives_up_their_neighbours() -> None:
    rows = np.array([[1.0, -2.0, 3.0, 24.0, 5.0, 7.0, -48.0, 4.0]])
    made = language._paired(rows.reshape(1, -1, 2)).reshape(-1)
    assert made.tolist() == [1, -2, 0, 24, 5, 7, -48, 0]


# -------------------------------------------------------------------------------- kept results
def test_a_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured again unless the network, its samples, the sections or the code are others."""
    for file in SHIPPED.parent.glob("digits_cnn*"):
        shutil.copy(file, tmp_path)
    kept, given = Kept(tmp_path / "kept"), workloads.source(tmp_path / SHIPPED.name)
    first = run([given], ["fig3"], None, lambda name: None, kept)
    assert [file.suffix for file in kept.folder.iterdir()] == [".pickle"]

    def measured(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(studies, "ProcessPoolExecutor", measured)
    told: list[str] = []
    again = run([given], ["fig3"], None, told.append, Kept(kept.folder))
    assert again.studies == first.studies and told == [given.name]
    other = Kept(kept.folder)
    other.code = "another"
    with pytest.raises(AssertionError, match="measured again"):
        run([given], ["fig3"], None, told.append, other)
    with pytest.raises(AssertionError, match="measured again"):
        run([given], ["fig3", "tab6"], None, told.append, kept)
    os.utime(tmp_path / "digits_cnn_test.npz", ns=(0, 0))
    with pytest.raises(AssertionError, match="measured again"):
        run([given], ["fig3"], None, told.append, kept)


# -------------------------------------------------------------------------------- sections
@pytest.mark.full
def test_the_front_has_no_beaten_design(digits: Workload, tmp_path: Path) -> None:
    results = run([workloads.source(SHIPPED)], ["fig11", "fig16"], None, lambda name: None, Kept(tmp_path))
    trained = results.studies[0].trained
    assert trained is not None
    front = pareto(trained.designs, lambda design: design.judged.divergence)
    for design in trained.designs:
        assert any(
            other.outcome.edp <= design.outcome.edp and other.judged.divergence <= design.judged.divergence
            for other in front
        )
    by_name = {judged.method: judged for judged in trained.at_presets["moderate"]}
    assert by_name["ours, no more bits"].bits <= by_name["BBS moderate"].bits + 0.01
    assert by_name["ours, no more bits"].divergence < by_name["BBS moderate"].divergence
    _, ours = trained.matched["moderate"]
    assert ours.judged.bits <= by_name["BBS moderate"].bits
    for key in ("fig11", "fig16", "fig17"):
        assert SECTIONS[key](results).rows


@pytest.mark.full
def test_models_equal_the_rtl(digits: Workload) -> None:
    from bench.paper import rtl

    if engines.ENGINES["verilator"].available():
        pytest.skip("needs Verilator and a C++ compiler")
    checks = rtl.check([digits], engines.ENGINES["verilator"])
    assert len(checks) == 6 and {check.pe for check in checks} == {"bitvert", "dense"}
    assert all(check.agrees for check in checks), checks
    assert not replace(checks[0], model=checks[0].model + 1).agrees


@pytest.mark.full
def test_the_small_paper_network_has_its_rows_and_page(digits: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """All sections of weights alone, on one of the paper's networks made small."""
    specs = [Spec("a", 64, 64, 64), Spec("b", 64, 128, 64)]
    small = workloads.Architecture(lambda: specs, lambda listed: 0, 3)
    monkeypatch.setitem(workloads.ARCHITECTURES, "ResNet-50", small)
    work = workloads.stand_in("ResNet-50")
    study = Study(
        Source("ResNet-50"),
        comparison.compare(work),
        statistics.sparsity(work),
        statistics.divergences(work),
        statistics.columns_sweep(work),
        succession=succession.study(work),
    )
    results = Results([study])
    made = [SECTIONS[key](results) for key in SECTIONS]
    text = page.html(made, ["ResNet-50"], 1.0)
    for section in made:
        assert html.escape(section.title, quote=False) in text.replace("&#39;", "'") and section.differs
    told = json.loads(page.as_json(made))["sections"]
    speed = {row["what"]: row for row in told["fig12"]["rows"]}
    row = speed["BitVert, moderate: geometric mean"]
    assert row["paper"] == published.SPEEDUP["moderate"] and row["ratio"] == row["ours"] / row["paper"]
    assert row["ours"] == study.comparison.speedup("moderate")  # type: ignore[union-attr]
    assert speed["BitVert, ours, moderate's noise: geometric mean"]["bold"]


@pytest.mark.full
def test_command_line(tmp_path: Path) -> None:
    runner = CliRunner()
    done = runner.invoke(main, ["--only", "tab6", "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "Table VI" in (tmp_path / "paper.html").read_text()
    assert list(json.loads((tmp_path / "paper.json").read_text())["sections"]) == ["tab6"]
    for arguments, words in (
        (["--only", "fig99"], "unknown section 'fig99'"),
        (["--only", "tab6", "--data", str(tmp_path)], "models/*.onnx"),
        (["--only", "tab6", "--network", str(SHIPPED)], "two networks are called 'digits_cnn'"),
    ):
        failed = runner.invoke(main, [*arguments, "-o", str(tmp_path)])
        assert failed.exit_code == 2 and words in failed.output, failed.output
