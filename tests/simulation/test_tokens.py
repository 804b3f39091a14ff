"""Networks of tokens through the RTL by one start: maps that are turned, joined, and made of constants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit
from flow.judgement.onchip import judge, passes
from flow.scheduling.onchip import timing
from flow.scheduling.onchip.chain import ChainLayer, chain
from flow.scheduling.onchip.post import PostOp
from flow.scheduling.onchip.program import assemble
from flow.simulation.engines import ENGINES, Simulator
from flow.simulation.onchip import by_reference, run
from tests.helpers.heads import for_the_chip
from tests.helpers.networks import feeds, pruned
from tests.helpers.tokens import (
    Tokens,
    heads_first,
    image_attention,
    masked,
    mixer,
    recurrent,
    scaled,
    shared_keys,
    stacked,
    vit,
    windows,
)
from tests.helpers.tools import require_engine

TINY: dict[str, Any] = {"weight_depth": 64, "metadata_depth": 8, "activation_depth": 8}


def roomy(rows: int, columns: int) -> ArrayConfig:
    made = ArrayConfig(rows, columns, **TINY, drain=2)
    return made.with_maps(512 * rows, tables=True, products=True, normalizer=True, operands=True)


@pytest.fixture(scope="module")
def icarus(tmp_path_factory: pytest.TempPathFactory) -> Simulator:
    require_engine("icarus")
    folder = tmp_path_factory.mktemp("icarus")
    return ENGINES["icarus"].open(emit(roomy(4, 4), folder), folder / "cache")


def sizes() -> st.SearchStrategy[Tokens]:
    grid = st.tuples(st.integers(1, 2), st.integers(2, 4))
    return st.builds(Tokens, grid, st.integers(2, 11), st.integers(1, 5), st.booleans())


def simulated(model: onnx.ModelProto, config: ArrayConfig, simulator: Simulator) -> list[str]:
    """The kinds of the operations of the network, which runs by one start and is right, to the bit."""
    network, encoded = pruned(for_the_chip(model), config.columns)
    linked = chain(network)
    assert linked.whole, linked.left
    onchip = assemble(linked, encoded, config)
    done = run(network, onchip, simulator, {"x": feeds(network.model, 1, seed=5)["x"]})
    assert done.failure is None
    want = by_reference(onchip, {held.tensor: done.maps[held.tensor] for held in linked.inputs})
    for number, rows in want.items():
        assert np.array_equal(rows, done.rows[number]), linked.steps[number]
    verdicts = judge(network, onchip, [done])
    assert passes(verdicts, [done]) and not any(each.tier1_mismatches for each in verdicts), verdicts
    time = timing.on_chip(linked, network.layers, config)
    stored = {
        step.layer.name: region.part.columns_pruned
        for region in onchip.regions
        if region.part is not None and isinstance(step := linked.steps[region.step], ChainLayer)
    }
    assert done.cycles <= time.beside + sum(time.of(layer, stored[layer.name]) for layer in network.layers)
    return [step.kind for step in linked.steps if isinstance(step, PostOp)]


def test_class_tokens_and_positions(icarus: Simulator) -> None:
    """Constants as maps, put before others and added; of the last normalization the class token alone."""

    @settings(max_examples=2)
    @given(sizes(), st.integers(0, 99))
    def equal(net: Tokens, seed: int) -> None:
        kinds = simulated(vit(net, seed), roomy(4, 4), icarus)
        assert kinds.count("join") == 1 and kinds.count("layernorm") == 2 and "turn" not in kinds

    equal()


def test_tokens_and_channels_in_turn(icarus: Simulator) -> None:
    """What has tokens where channels are to be is turned, whatever their numbers."""

    @settings(max_examples=2)
    @given(sizes(), st.integers(0, 99))
    def equal(net: Tokens, seed: int) -> None:
        kinds = simulated(mixer(net, seed), roomy(4, 4), icarus)
        assert kinds.count("turn") == 2 and kinds.count("average") == 1

    equal()


def test_attention_in_windows(icarus: Simulator) -> None:
    """Pixels come in the order of windows, and back."""
    kinds = simulated(windows(2, 2), roomy(4, 4), icarus)
    assert kinds == ["gather", "matmul", "softmax", "matmul", "gather", "add", "layernorm"]


def test_heads_that_share_keys_and_values(icarus: Simulator) -> None:
    assert simulated(shared_keys(3, 2), roomy(4, 4), icarus) == ["matmul", "softmax", "matmul"]


def test_attention_whose_channels_are_first(icarus: Simulator) -> None:
    """The second product is computed transposed: its columns are then the channels of a map."""
    kinds = simulated(image_attention(2, 3), roomy(4, 4), icarus)
    assert [kind for kind in kinds if kind != "move"] == ["matmul", "softmax", "matmul", "add"]


@pytest.mark.full
def test_heads_along_axis_0(icarus: Simulator) -> None:
    assert simulated(heads_first(3, 2), roomy(4, 4), icarus) == ["matmul", "softmax", "matmul"]


def test_recurrence_by_one_start(icarus: Simulator) -> None:
    """Eight steps, whose states are maps: products of the array, of maps, and tables."""
    kinds = simulated(recurrent("GRU", 8), roomy(4, 4), icarus)
    assert kinds.count("table") >= 15 and {"move", "add", "product"} <= {*kinds}


@pytest.mark.full
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_layers_in_both_directions_by_one_start(icarus: Simulator, kind: str) -> None:
    """The states of all steps are joined as tokens, as each step's are of both directions."""
    assert simulated(stacked(kind, 2), roomy(4, 4), icarus).count("move") > 8


def test_products_over_the_last_of_four_axes(icarus: Simulator) -> None:
    """Their rows are all pixels; scales of channels behind them are in their weights."""
    kinds = simulated(scaled(2, 3), roomy(4, 4), icarus)
    assert kinds == ["layernorm", "table", "add"]


@pytest.mark.parametrize(
    "kind",
    ["where input", *(pytest.param(f"where {kind}", marks=pytest.mark.full) for kind in ("causal", "input causal"))],
)
def test_attention_where_a_mask_says_so(icarus: Simulator, kind: str) -> None:
    """Conditions are constants, or of the sample: then the host makes them numbers, which are loaded as a map."""
    kinds = simulated(masked(kind, 3), roomy(4, 4), icarus)
    assert kinds.count("choice") == 1 and kinds.count("softmax") == 1


@pytest.mark.parametrize(
    "kind", ["causal", "input causal", *(pytest.param(kind, marks=pytest.mark.full) for kind in ("column", "input"))]
)
def test_attention_with_a_mask(icarus: Simulator, kind: str) -> None:
    """A constant mask is one more operand of the scores; one of the sample is loaded beside its tokens, for all."""
    kinds = simulated(masked(kind, 3), roomy(4, 4), icarus)
    assert kinds.count("add") == 2 and kinds.count("softmax") == 1


@pytest.mark.full
def test_the_units_of_tokens_in_vhdl(tmp_path: Path) -> None:
    """Maps as weights, normalizations, tables and products: no bit is unknown, and none differs."""
    require_engine("ghdl")
    device = ENGINES["ghdl"].open(emit(roomy(2, 2), tmp_path))
    kinds = simulated(masked("where input causal", 2), roomy(2, 2), device)
    assert {"matmul", "gather", "choice", "softmax", "layernorm", "add"} <= {*kinds}


@pytest.mark.full
@pytest.mark.parametrize("size", [(2, 3), (8, 16)], ids=lambda size: "x".join(map(str, size)))
def test_other_arrays(size: tuple[int, int], tmp_path: Path) -> None:
    """Of less than eight columns, and of more columns than rows."""
    require_engine("icarus")
    device = ENGINES["icarus"].open(emit(roomy(*size), tmp_path), tmp_path / "cache")
    simulated(vit(Tokens((1, 3), 9, 3), 1), roomy(*size), device)
    simulated(mixer(Tokens((1, 3), 9, 3), 2), roomy(*size), device)
