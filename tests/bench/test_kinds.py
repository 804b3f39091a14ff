"""The bench of networks whole on chip: what is measured of one, and the networks themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from bench.kinds.__main__ import TRAINED, Row, found, shared, table
from bench.kinds.drawing import Drawing
from bench.kinds.measured import imported, predicted, simulated
from bench.kinds.networks import NETWORKS
from bench.kinds.thin import Thin, use
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit
from flow.simulation.engines import ENGINES
from tests.helpers.tools import require_engine

SMALL = ArrayConfig(4, 4, drain=2)


def divided() -> onnx.ModelProto:
    """A quotient of two maps, which leaves the chip."""
    net = Drawing(1)
    gate = net.function("Sigmoid", net.conv("x", 3, 8, 1))
    quotient = net.node("Div", net.conv("x", 3, 8, 3), gate)
    return net.model((3, 4, 3), net.conv(net.depthwise(quotient, 8, 3), 8, 4, 1, then=""))


def test_one_network_is_measured(tmp_path: Path) -> None:
    """By the RTL, in segments; the model knows the cycles but for some of the edges between the steps."""
    require_engine("icarus")
    given = imported("divided", divided())
    assert given.share == 1 and len(given.chain.segments) == 2
    assert any("Div" in reason for reason in given.left)
    config = shared([given], SMALL)
    told = simulated(given, config, ENGINES["icarus"].open(emit(config, tmp_path)))
    small = predicted(given, SMALL)
    assert told.verdict == "pass" and told.tier1_mismatches == 0 and told.cycles_ideal == small.ideal
    assert told.cycles <= small.cycles <= 1.3 * told.cycles
    (made,) = zip(
        *(column.cells for column in table([Row(given, False, small, small, told)], "ab").columns), strict=True
    )
    assert made[0] == "divided" and made[2:4] == ("2", "100.0 %")
    assert made[6] == "pass" and made[7].startswith("0 of ") and made[4] == made[5] == f"{given.words[0]:,}"


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_valid(name: str) -> None:
    onnx.checker.check_model(NETWORKS[name](), full_check=True)


def test_trained_networks_come_from_a_folder(tmp_path: Path) -> None:
    """Where it has them, else they are drawn."""
    assert found("DS-CNN", tmp_path)[1] is False
    (tmp_path / "models").mkdir()
    (tmp_path / "datasets").mkdir()
    onnx.save(NETWORKS["DS-CNN"](), tmp_path / "models" / f"{TRAINED['DS-CNN']}.onnx")
    np.savez(tmp_path / "datasets" / "dscnn_kws_calib.npz", x=np.ones((4, 1, 49, 10), np.float32))
    given, trained = found("DS-CNN", tmp_path)
    assert trained and given.samples.count == 4


@pytest.mark.parametrize(("groups", "of"), [(1, 3 / 8), (2, 1 / 2), (8, 1 / 8)])
def test_thin_layers_compute_zeros(groups: int, of: float) -> None:
    """No more than so much of what is computed is a product of the layer; a window of one tap fills no other place."""
    channels = 3 if groups == 1 else 8
    found = use(Thin(channels, 16 if groups == 1 else channels, 1, 1, 8, groups), ArrayConfig(4, 16))
    assert found.ideal <= found.cycles and 0 < found.products <= of
