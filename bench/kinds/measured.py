"""One network on chip: what leaves it, the verdict by the RTL, cycles at two sizes of the array."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.compression.choice import pruning
from flow.compression.compress import Compressed, encode
from flow.frontend import admit
from flow.frontend.imported import import_calibrated
from flow.hardware.config import ArrayConfig
from flow.judgement.onchip import OnChipVerdict, judge, judge_outputs, summary
from flow.network import samples
from flow.network.model import Network
from flow.network.samples import Samples
from flow.onnxtools.graph import graph_inputs
from flow.scheduling.onchip import timing
from flow.scheduling.onchip.chain import Chain, chain
from flow.scheduling.onchip.place import least_words, places, words
from flow.scheduling.onchip.program import OnChip, assemble, fitted
from flow.simulation.engines.base import Simulator
from flow.simulation.onchip import cosimulate

CALIBRATION = 16  # samples


@dataclass(frozen=True)
class Imported:
    """A network as the compiler takes it, with its calibration samples and what of it runs on chip."""

    name: str
    network: Network
    chain: Chain
    samples: Samples

    @property
    def share(self) -> float:
        """Of the layers' multiplications, those on chip."""
        on_chip = sum(layer.macs for segment in self.chain.segments for layer in segment.layers)
        return on_chip / sum(layer.macs for layer in self.network.layers)

    @property
    def words(self) -> tuple[int, int]:
        """Words of 8 bytes that the maps need, and those of the maps alive at once, at most."""
        return max(map(words, places(self.chain))), least_words(self.chain)

    @property
    def left(self) -> tuple[str, ...]:
        """Why something leaves the chip between two layers, and what the host computes around them."""
        return (*(each.reason for each in self.chain.left if each.returns), *self.chain.around)


def drawn(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Normal numbers for every input."""
    rng = np.random.default_rng(0)
    shapes = {each.name: [dim.dim_value for dim in each.type.tensor_type.shape.dim[1:]] for each in graph_inputs(model)}
    return {name: rng.normal(0, 1, (CALIBRATION, *shape)).astype(np.float32) for name, shape in shapes.items()}


def imported(name: str, given: onnx.ModelProto | Path, calibration: Path | None = None) -> Imported:
    """The network in INT8, with its products of activations, too; without samples those that are `drawn`."""
    model = admit.load(given) if isinstance(given, Path) else admit.admit(given, name).model
    known = calibration if calibration is not None else drawn(model)
    seen = samples.load(known, model, "calibration").first(CALIBRATION)
    network = import_calibrated(model, name, seen, name, products=True).network
    return Imported(name, network, chain(network), seen)


def compressed(given: Imported, config: ArrayConfig) -> Compressed:
    return encode(given.network, pruning("moderate"), config.columns)


def program(given: Imported, made: Compressed, config: ArrayConfig) -> OnChip:
    """The compressed network's program on this array, which has room for its maps."""
    names = (layer.name for layer in made.network.layers)
    return assemble(chain(made.network), dict(zip(names, made.encoded, strict=True)), config)


@dataclass(frozen=True)
class Predicted:
    """Cycles of all segments by the model, and those of the bit columns alone."""

    cycles: int
    ideal: int

    @property
    def utilization(self) -> float:
        return self.ideal / self.cycles


def predicted(given: Imported, config: ArrayConfig) -> Predicted:
    made = compressed(given, config)
    fitting = fitted(config, given.chain)
    time = timing.on_chip(given.chain, made.network.layers, config)
    there = [layer for segment in given.chain.segments for layer in segment.layers]
    columns = made.allocation
    cycles = time.beside + sum(time.of(layer, columns[layer.name]) for layer in there)
    return Predicted(cycles, sum(program(given, made, fitting).ideal_cycles))


def simulated(given: Imported, config: ArrayConfig, simulator: Simulator) -> OnChipVerdict:
    """One sample through the RTL, as `bbs compile` judges it."""
    made = compressed(given, config)
    onchip, one = program(given, made, config), given.samples.first(1)
    runs = cosimulate(made.network, onchip, simulator, one, 1)
    return summary(onchip, runs, judge(made.network, onchip, runs), judge_outputs(made.network, runs, one))
