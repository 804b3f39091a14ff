"""Matrix products of two maps through the RTL: equal to the reference to the bit, whatever their shapes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit, emit_wrapped
from flow.judgement.onchip import judge, passes
from flow.network.model import Network
from flow.scheduling.onchip import timing
from flow.scheduling.onchip.chain import ChainLayer, chain
from flow.scheduling.onchip.post import PostOp
from flow.scheduling.onchip.program import OnChip, assemble, fitted
from flow.simulation.axi import run_network
from flow.simulation.engines import ENGINES, Simulator
from flow.simulation.engines.behind_axi import Wrapped
from flow.simulation.onchip import ChainRun, by_reference, run
from tests.helpers.heads import Attention, float_attention, for_the_chip, partitioned
from tests.helpers.networks import feeds, pruned
from tests.helpers.stalls import stalled_device
from tests.helpers.tools import require_engine

TINY: dict[str, Any] = {"weight_depth": 64, "metadata_depth": 8, "activation_depth": 8}


def program(network: Network, config: ArrayConfig) -> tuple[Network, OnChip]:
    network, encoded = pruned(network, config.columns)
    linked = chain(network)
    return network, assemble(linked, encoded, config if config.map_words else fitted(config, linked))


def simulated(network: Network, onchip: OnChip, simulator: Simulator) -> ChainRun:
    done = run(network, onchip, simulator, {"x": feeds(network.model, 1, seed=5)["x"]})
    assert done.failure is None
    want = by_reference(onchip, {held.tensor: done.maps[held.tensor] for held in onchip.chain.inputs})
    for number, rows in want.items():
        assert np.array_equal(rows, done.rows[number]), onchip.chain.steps[number]
    return done


def predicted(network: Network, onchip: OnChip) -> int:
    time = timing.on_chip(onchip.chain, network.layers, onchip.config)
    stored = {
        step.layer.name: region.part.columns_pruned
        for region in onchip.regions
        if region.part is not None and isinstance(step := onchip.chain.steps[region.step], ChainLayer)
    }
    return time.beside + sum(time.of(layer, stored[layer.name]) for layer in network.layers)


def attentions() -> st.SearchStrategy[Attention]:
    """Heads of any number of channels, whole octets or not; any zero points that the hardware takes."""
    heads = st.tuples(st.integers(1, 3), st.one_of(st.integers(1, 14), st.just(8)))
    return st.builds(
        lambda tokens, inputs, heads, zeros, flags: Attention(
            tokens, inputs, heads[0], heads[1], zeros[0], zeros[1], flags[0], flags[1]
        ),
        st.integers(1, 11), st.integers(1, 9), heads, st.tuples(st.integers(-128, 127), st.integers(-31, 32)),
        st.tuples(st.booleans(), st.booleans()),
    )  # fmt: skip


def roomy(rows: int, columns: int) -> ArrayConfig:
    return ArrayConfig(rows, columns, **TINY, drain=2).with_maps(512 * rows, operands=True)


@pytest.fixture(scope="module")
def icarus(tmp_path_factory: pytest.TempPathFactory) -> Simulator:
    """An array of 4x4 with room for all maps of these tests."""
    require_engine("icarus")
    folder = tmp_path_factory.mktemp("icarus")
    return ENGINES["icarus"].open(emit(roomy(4, 4), folder), folder / "cache")


def test_products_of_any_shape(icarus: Simulator) -> None:
    """Q K^T and P V, of one head or several, by the same array; each product is ONNX Runtime's but for ties."""
    any_shape(roomy(4, 4), icarus)


@pytest.mark.full
@pytest.mark.parametrize("size", [(2, 3), (8, 20)], ids=lambda size: "x".join(map(str, size)))
def test_products_by_other_arrays(size: tuple[int, int], tmp_path: Path) -> None:
    """Of less than eight columns, and of more columns than rows."""
    require_engine("icarus")
    any_shape(roomy(*size), ENGINES["icarus"].open(emit(roomy(*size), tmp_path), tmp_path / "cache"))


def any_shape(config: ArrayConfig, icarus: Simulator) -> None:
    @settings(max_examples=4)
    @given(attentions(), st.integers(0, 99))
    def equal(net: Attention, seed: int) -> None:
        network, onchip = program(partitioned(net, seed), config)
        kinds = [step.kind for step in onchip.chain.steps if isinstance(step, PostOp)]
        assert kinds.count("matmul") == 2 and onchip.chain.whole, onchip.chain.left
        done = simulated(network, onchip, icarus)
        for verdict in judge(network, onchip, [done]):
            if verdict.kind == "matmul":
                assert verdict.tier1_mismatches == 0 and verdict.tier2_mismatches == 0, verdict
        assert done.cycles <= predicted(network, onchip)

    equal()


@pytest.mark.full
def test_every_engine_computes_the_same(tmp_path: Path) -> None:
    """MyHDL's own simulator, Icarus and Verilator: the same bits in the same cycles, of both orientations."""
    net = Attention(3, 4, 1, 9, -20, 7)
    network, onchip = program(partitioned(net), ArrayConfig(2, 2, **TINY, drain=2))
    assert onchip.config.name.endswith("_operands")
    cycles = set()
    for engine in ("icarus", "myhdl", "verilator"):
        require_engine(engine)
        simulator = ENGINES[engine].open(emit(onchip.config, tmp_path / engine))
        cycles.add(simulated(network, onchip, simulator).cycles)
    assert len(cycles) == 1


@pytest.mark.full
@pytest.mark.parametrize("sizes", [(4, 5, 2), (4, 9, 4), (16, 4, 1)])
def test_elements_of_several_bit_columns(sizes: tuple[int, int, int], tmp_path: Path) -> None:
    require_engine("icarus")
    rows, columns, per_cycle = sizes
    config = ArrayConfig(rows, columns, "pairs", **TINY, drain=2, columns_per_cycle=per_cycle)
    network, onchip = program(partitioned(Attention(9, 5, 2, 8, 33, -31, joined=True)), config)
    done = simulated(network, onchip, ENGINES["icarus"].open(emit(onchip.config, tmp_path)))
    assert done.cycles <= predicted(network, onchip) <= 1.3 * done.cycles


@pytest.mark.full
@pytest.mark.parametrize("seed", [1, 2])
def test_ports_that_keep_it_waiting(seed: int, tmp_path: Path) -> None:
    """Weights of the memory are still under way when those of a map follow, and the other way round."""
    require_engine("verilator")
    network, onchip = program(partitioned(Attention(7, 6, 2, 8, -20, 7)), ArrayConfig(4, 4, **TINY, drain=2))
    simulated(network, onchip, ENGINES["verilator"].open(stalled_device(onchip.config, seed, tmp_path)))


@pytest.mark.full
def test_behind_axi(tmp_path: Path) -> None:
    """Words are fetched ahead of the accelerator, but none for weights that come from a map."""
    require_engine("icarus")
    network, onchip = program(partitioned(Attention(5, 6, 2, 8, -20, 7)), ArrayConfig(4, 4, **TINY, drain=2))
    device, wrapper = emit_wrapped(onchip.config, AxiConfig(), tmp_path)
    done = simulated(network, onchip, ENGINES["icarus"].open(device))
    assert all(each.right for each in run_network(Wrapped(wrapper, onchip.config, "icarus"), "net", onchip, done))


def test_a_float_network_is_quantized_for_the_chip(tmp_path: Path) -> None:
    """Both products and the Softmax between them, of all heads, by one start, and the verdict passes."""
    require_engine("icarus")
    config = replace(roomy(4, 4), normalizer=True)
    network, onchip = program(for_the_chip(float_attention()), config)
    found = [step for step in onchip.chain.steps if isinstance(step, PostOp)]
    assert [step.kind for step in found] == ["matmul", "softmax", "matmul"] and onchip.chain.whole
    across = [step.matrices.across for step in found if step.matrices]
    assert across == [False, True] and all(step.input_quantizations[-1].zero_point == 0 for step in found[::2])
    done = simulated(network, onchip, ENGINES["icarus"].open(emit(config, tmp_path), tmp_path / "cache"))
    verdicts = judge(network, onchip, [done])
    assert passes(verdicts, [done]), verdicts
