"""Pieces: every cell of a layer once, or a sample of its tiles with its corners; in RTL the same bits as in one run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from flow.compression.encoding import EncodedLayer
from flow.compression.prune import prune
from flow.errors import FlowError
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit
from flow.hardware.fields import descriptor_slice
from flow.hardware.interface import Memory
from flow.network.model import ArrayLayer, Window
from flow.scheduling.blocks import Program
from flow.scheduling.cycles import layer_cycles
from flow.scheduling.pieces import LONGEST, Piece, Plan, memories, plan, sample, with_shipped
from flow.scheduling.schedule import schedule
from flow.simulation.cosim import Rtl, run_layer
from flow.simulation.engines import ENGINES
from flow.simulation.engines.base import Command, Result, Simulator
from flow.simulation.results import LayerRun, expected_rows
from tests.helpers.layers import layer_of, random_layer, random_weights
from tests.helpers.tools import require_engine

CONFIG = ArrayConfig(2, 4)
SMALL = CONFIG.with_weight_buffer(16)  # weights of longer reductions pass through it once per tile


def convolution(seed: int) -> tuple[EncodedLayer, ArrayLayer]:
    """Three groups of six channels over eleven windows of 40 values."""
    rng = np.random.default_rng(seed)
    encoded, pruned = prune(random_weights(rng, 18, 40), rng.choice([0, 2, 4], 18), "optimal")
    window = Window((1, 1), (1, 1), (0, 0, 0, 0), (1, 1))
    inputs, outputs = (120, 1, 11), (18, 1, 11)
    return encoded, layer_of(pruned, 11, rng, window=window, groups=3, input_shape=inputs, output_shape=outputs)


def program(config: ArrayConfig = CONFIG) -> Program:
    """Layers of several N, of one tile, of one channel, raw, grouped, and one too large for the small buffer."""
    made = [
        random_layer(0, 40, 25, [0] * 5 + [3] * 9 + [4] * 2),
        random_layer(1, 90, 9, [2] * 10 + [6], raw=True),
        random_layer(2, 8, 1, [0]),
        random_layer(3, 8, 2, [5] * 30),
        convolution(4),
        random_layer(6, 8, 12, [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4),
    ]
    layers = [replace(layer, name=f"layer {number}") for number, (_, layer) in enumerate(made)]
    return schedule([encoded for encoded, _ in made], layers, config)


def covered(work: Plan, number: int) -> NDArray[np.int64]:
    """How often each output [positions, channels] of a layer is computed."""
    layer = work.program.layers[number].layer
    times = np.zeros((layer.positions, layer.channels), np.int64)
    for piece in work.pieces[number]:
        assert sum(part.tiles for part in piece.parts) >= len(piece.tiles)
        for _, positions, channels in piece.cells(work.program.config):
            times[positions, channels] += 1
    return times


# -------------------------------------------------------------------------------- plans
@pytest.mark.parametrize("config", [CONFIG, SMALL])
@pytest.mark.parametrize("largest", [1, 300, 5000, 10**9])
def test_a_plan_covers_every_output_once(config: ArrayConfig, largest: int) -> None:
    work = plan(program(config), largest)
    for number, pieces in enumerate(work.pieces):
        assert (covered(work, number) == 1).all()
        for piece in pieces:
            tiles = sum(part.tiles for part in piece.parts)
            assert tiles == 1 or piece.scheduled.ideal_cycles * config.elements <= largest
        assert largest < 10**9 or len(pieces) == 1
    assert work.cycles == sum(piece.cycles for pieces in work.pieces for piece in pieces)


@pytest.mark.parametrize("config", [CONFIG, SMALL])
@pytest.mark.parametrize("coverage", [0.001, 0.02, 0.3, 0.9])
def test_a_sample_has_the_corners_and_the_share(config: ArrayConfig, coverage: float) -> None:
    made = program(config)
    work = plan(made, 300, coverage)
    for number, scheduled in enumerate(made.layers):
        times = covered(work, number)
        assert times.max() == 1
        assert times.mean() >= coverage
        blocks = {int(block.channels[0]): block for block in scheduled.blocks}.values()
        first, *_, last = [*blocks, *blocks]
        for block in (first, last, min(blocks, key=lambda each: len(each.channels))):
            assert times[0, block.channels].all() and times[-1, block.channels].all()
        met = {block.columns for block in blocks if times[:, block.channels].any()}
        assert met == {block.columns for block in scheduled.blocks}


def test_a_sample_is_no_larger_than_it_must_be() -> None:
    """One random tile beside the corners when the share is small, and no tile more than the share needs."""
    encoded, layer = random_layer(5, 16, 200, [0] * 8)
    made = schedule([encoded], [layer], CONFIG)
    tile = CONFIG.rows * CONFIG.columns / (200 * 8)
    assert covered(plan(made, 300, 0.001), 0).mean() == pytest.approx(5 * tile)
    for coverage in (0.1, 0.5):
        share = covered(plan(made, 300, coverage), 0).mean()
        assert coverage <= share < coverage + tile


def test_a_sample_is_drawn_from_its_seed() -> None:
    encoded, layer = random_layer(5, 16, 200, [0] * 8)
    made = schedule([encoded], [layer], CONFIG)
    drawn = [covered(plan(made, 300, 0.1, seed), 0) for seed in (0, 0, 1)]
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
    seen = [covered(plan(made, 300, 0.1, seed), 0) for seed in range(60)]
    assert np.any(seen, axis=0).all()  # there is no tile that is never drawn


def test_a_share_of_nothing_and_no_share() -> None:
    assert plan(program(), 300, 0.0).pieces == ((),) * 6
    assert sample(program().layers[0], CONFIG, 0, np.random.default_rng(0)) == []
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(FlowError, match=r"must be 0 to 1.*--coverage"):
            plan(program(), 300, wrong)


def test_one_layer_at_least_is_whole() -> None:
    """The shortest, if all are in pieces; but not if that takes too long, nor where nothing is simulated."""
    layers = [random_layer(0, 40, 25, [0] * 5 + [3] * 9 + [4] * 2), random_layer(1, 90, 9, [2] * 10 + [6], raw=True)]
    named = [replace(layer, name=str(number)) for number, (_, layer) in enumerate(layers)]
    made = schedule([encoded for encoded, _ in layers], named, CONFIG)
    whole = plan(made, 10**9)
    assert whole.shipped == 2 and with_shipped(whole, 10**9) is whole
    cycles = [layer_cycles(scheduled, CONFIG) for scheduled in made.layers]
    shortest, longest = min(cycles), LONGEST * 8
    work = plan(made, 8)
    assert work.shipped == 0 and with_shipped(work, 8) is work and shortest * CONFIG.elements > longest
    enough = -(-shortest * CONFIG.elements // LONGEST)
    assert with_shipped(work, enough - 1) is work
    changed = with_shipped(work, enough)
    number = cycles.index(shortest)
    assert changed.shipped == 1 and changed.pieces[number][0].shipped
    assert changed.pieces[:number] + changed.pieces[number + 1 :] == work.pieces[:number] + work.pieces[number + 1 :]
    assert (covered(changed, number) == 1).all()
    nothing = plan(made, 8, 0.0)
    assert with_shipped(nothing, enough) is nothing


def test_a_whole_layer_has_the_programs_memories() -> None:
    """Not a word of them changed; those of a part are its own."""
    made = program()
    for number, scheduled in enumerate(made.layers):
        (piece,) = plan(made, 10**9).pieces[number]
        windows = np.zeros((scheduled.layer.groups, scheduled.layer.positions, scheduled.layer.reduction), np.int8)
        read = memories(piece, made, windows)
        assert piece.start == scheduled.first and all(read[name] is made.memories[name] for name in made.memories)
        part = plan(made, 8).pieces[number][0]
        if not part.shipped:  # a layer of one tile
            assert part.start == 0 and len(memories(part, made, windows)["descriptor"]) == len(part.parts)


# -------------------------------------------------------------------------------- RTL
class Watched:
    """A simulator that notes the cycles of its runs."""

    def __init__(self, inner: Simulator) -> None:
        self.inner = inner
        self.cycles: list[int] = []

    def run(self, memories: dict[str, Memory], command: Command, writes: dict[str, int]) -> Result:
        result = self.inner.run(memories, command, writes)
        self.cycles.append(result.cycles)
        return result


@pytest.fixture(scope="module", params=[CONFIG, SMALL], ids=["resident", "streamed"])
def simulator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Simulator, Program]:
    """The RTL, and the program with one wrong weight bit in each layer: what pieces give cannot be the reference's."""
    require_engine("icarus")
    made = program(request.param)
    weight = made.memories["weight"]
    weight[:: len(weight) // 40] ^= 1
    return ENGINES["icarus"].open(emit(made.config, tmp_path_factory.mktemp("pieces"))), made


def tensors(made: Program) -> list[NDArray[np.int8]]:
    rng = np.random.default_rng(7)
    shapes = [scheduled.layer.input_shape for scheduled in made.layers]
    return [rng.integers(-128, 128, (1, *shape)).astype(np.int8) for shape in shapes]


def runs(made: Program, simulator: Simulator, pieces: tuple[tuple[Piece, ...], ...] | None) -> list[LayerRun]:
    return [
        run_layer(Rtl(made, simulator), scheduled, tensor, None if pieces is None else pieces[number])
        for number, (scheduled, tensor) in enumerate(zip(made.layers, tensors(made), strict=True))
    ]


@pytest.mark.parametrize("field", ["activation_base", "activation_count", "output_base", "tiles"])
def test_a_wrong_descriptor_fails(simulator: tuple[Simulator, Program], field: str) -> None:
    """Its lowest bit flipped, in a layer that is one piece."""
    inner, made = simulator[0], program(simulator[1].config)
    scheduled = made.layers[1]
    place = (scheduled.first, descriptor_slice(field)[1])
    descriptor = made.memories["descriptor"].copy()
    descriptor[place[0], place[1] // 8] ^= 1 << place[1] % 8
    spoilt = replace(made, memories={**made.memories, "descriptor": descriptor})
    right, wrong = (run_layer(Rtl(each, inner), scheduled, tensors(made)[1]) for each in (made, spoilt))
    assert right.shipped and wrong.shipped and not right.mismatches and wrong.mismatches


def test_array_rows_without_a_window_are_compared(simulator: tuple[Simulator, Program]) -> None:
    """They are in the output memory, too, and in what the testbench expects of it."""
    inner, made = simulator
    scheduled, config = made.layers[1], made.config
    assert scheduled.layer.positions % config.rows

    class Spoils:
        def run(self, memories: dict[str, Memory], command: Command, writes: dict[str, int]) -> Result:
            result = inner.run(memories, command, writes)
            result.memories["output"][-1, -1] ^= 1
            return result

    right, wrong = (run_layer(Rtl(made, each), scheduled, tensors(made)[1]) for each in (inner, Spoils()))
    assert wrong.mismatches == right.mismatches + 1 and (wrong.rows == right.rows).all()


def test_pieces_give_the_bits_and_cycles_of_the_whole(simulator: tuple[Simulator, Program]) -> None:
    inner, made = simulator
    whole = runs(made, inner, None)
    assert sum(run.mismatches for run in whole) > 0  # the wrong bits
    assert [run.cycles for run in whole] == [layer_cycles(scheduled, made.config) for scheduled in made.layers]
    work, watched = plan(made, 1000), Watched(inner)
    for number, run in enumerate(runs(made, watched, work.pieces)):
        assert (run.rows == whole[number].rows).all()
        assert (run.mismatches, run.cycles) == (whole[number].mismatches, whole[number].cycles)
        assert (run.simulated, run.pieces) == (run.rows.size, len(work.pieces[number]))
    assert watched.cycles == [piece.cycles for pieces in work.pieces for piece in pieces]


def test_a_sample_gives_the_whole_layers_bits_where_it_is(simulator: tuple[Simulator, Program]) -> None:
    """And the reference's elsewhere."""
    inner, made = simulator
    whole, work = runs(made, inner, None), plan(made, 1000, 0.2)
    for number, run in enumerate(runs(made, inner, work.pieces)):
        inside = covered(work, number) == 1
        assert run.simulated == inside.sum() < inside.size or inside.all()
        wanted = expected_rows(run.layer, run.layer.input_quantization.to_int8(run.tensor))
        assert (run.rows == np.where(inside, whole[number].rows, wanted)).all()


def test_a_layer_of_which_nothing_runs_is_the_references(simulator: tuple[Simulator, Program]) -> None:
    inner, made = simulator
    for run in runs(made, inner, plan(made, 1000, 0.0).pieces):
        assert (run.simulated, run.pieces, run.mismatches) == (0, 0, 0)
        assert (run.rows == expected_rows(run.layer, run.layer.input_quantization.to_int8(run.tensor))).all()
