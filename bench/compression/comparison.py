"""One network with its samples, compressed by all methods and compared on the same test samples."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bench.compression.baselines import BASELINES, Rows, gptq, with_real_weights
from bench.compression.peers.call import Caller, Rounded
from flow.compression import tune
from flow.compression.allocate import PRESETS, average_bits
from flow.compression.calibration import calibrate, moments
from flow.compression.choice import pruning
from flow.compression.compress import encode
from flow.compression.effort import USUAL, effort
from flow.compression.prune import prune
from flow.errors import FlowError
from flow.frontend import admit, quantize
from flow.frontend.entry import checks
from flow.frontend.int8 import cut, rewrite
from flow.network import answers, samples
from flow.network.answers import Answers
from flow.network.metrics import CLASSES
from flow.network.model import ArrayLayer
from flow.network.samples import Samples
from flow.network.task import score_axes, tasks_of
from flow.onnxtools import runtime

BLOCK = 32  # channels that share one N


@dataclass(frozen=True)
class Result:
    """What a method reached with so many bits per weight.

    `reached` is the metric and `error` its standard error, in percent where it is a share, as `same` is. `kl` is the
    divergence of all samples, `divergences` that of each, float64 [samples]. `seconds` of the processor, NaN where
    they are not of interest.
    """

    method: str
    bits: float
    reached: float
    error: float
    same: float
    kl: float
    divergences: Rows
    seconds: float

    @property
    def kl_error(self) -> float:
        """The standard error of the mean divergence."""
        return float(self.divergences.std() / np.sqrt(len(self.divergences)))


@dataclass(frozen=True)
class Cell:
    """Ours and the best peer at one budget of bits."""

    budget: float
    ours: Result
    best: Result

    @property
    def ratio(self) -> float:
        """Our divergence over the peer's."""
        return self.ours.kl / self.best.kl

    @property
    def error(self) -> float:
        """The standard error of the ratio, by the delta method on pairs of divergences."""
        apart = self.ours.divergences - self.ratio * self.best.divergences
        return float(apart.std() / np.sqrt(len(apart)) / self.best.kl)


def divergences(wanted: Answers, got: Answers) -> Rows:
    """The divergence of each sample, float64 [samples]."""
    pairs = zip(wanted.values, got.values, strict=True)
    return np.array(
        [answers.divergence(replace(wanted, values=a[None]), replace(got, values=b[None])) for a, b in pairs]
    )


def uniform(layers: tuple[ArrayLayer, ...], bits: float) -> dict[str, NDArray[np.int64]]:
    """Every channel the same N, the least within the budget plus 0.05 bits, since last groups may be short."""
    for n in range(7):
        allocation = {layer.name: np.full(layer.channels, n) for layer in layers}
        if average_bits(layers, allocation) <= bits + 0.05:
            break
    return allocation


class Comparison:
    """One network with its samples, on which the models of all methods are compared."""

    def __init__(
        self,
        model: Path,
        calibration: Path,
        test: Path,
        count: int | None,
        metric: str | None = None,
        level: int = USUAL,
    ) -> None:
        self.source = admit.load(model)
        self.calibrated = samples.load(calibration, self.source, "calibration")
        quantized = quantize.quantize(self.source, self.calibrated.feeds)
        self.prepared = quantized.prepared
        self.network = cut.partition(quantized.model, model.stem)
        self.calibration_data = tune.calibration_data(
            self.network, self.source, quantized.prepared, self.calibrated, effort=effort(level)
        )
        self.test: Samples = samples.load(test, self.source, "evaluation")
        self.test = replace(self.test.first(count or self.test.count), metric=metric)
        self.output = self.source.graph.output[0].name
        found = tasks_of(runtime.predict_all(self.source, self.test.feeds), self.test)
        self.task = found.get(self.output)
        self.metric = "top-1" if self.task is None else self.task.metric
        self.scores = {self.output: 1, **score_axes(found)}
        self.wanted = self._answers(self.source)
        self.seconds: dict[str, NDArray[np.float32]] = {}
        begin = time.process_time()
        self.survey = tune.survey(self.network, self.calibration_data, frozenset(pruning().means), lambda: None)
        self.survey_seconds = time.process_time() - begin
        self.results: list[Result] = []
        self.cells: list[Cell] = []
        self.peers: dict[int, list[Result]] = {}

    def _answers(self, model: onnx.ModelProto) -> Answers:
        return answers.answers(model, self.test.feeds, self.scores)[self.output]

    def judge(self, method: str, bits: float, model: onnx.ModelProto, seconds: float = float("nan")) -> Result:
        got = self._answers(model)
        outputs = runtime.predict(model, self.test.feeds)
        reached = float("nan") if self.task is None else self.task.measure(outputs)[0]
        error = float("nan")
        if self.metric in CLASSES:
            error, reached = 100 * float(np.sqrt(reached * (1 - reached) / self.test.count)), 100 * reached
        same, kl = answers.agreement(self.wanted, got), answers.divergence(self.wanted, got)
        each = divergences(self.wanted, got)
        self.results.append(Result(method, bits, reached, error, 100 * (same or 0.0), kl, each, seconds))
        return self.results[-1]

    def measure_inputs(self) -> None:
        """The second moments of every layer's inputs on the calibration samples; of the first group's."""

        def measured(layer: ArrayLayer, tensors: list[NDArray[Any]]) -> ArrayLayer:
            if layer.groups == 1 and len(found := moments(layer, tensors).parts) == 1:
                self.seconds[layer.name] = found[0][0]
            return layer

        calibrate(self.network, self.calibration_data.samples.feeds, measured)

    def run(self, budgets: list[float], advance: Callable[[], None], caller: Caller | None = None) -> None:
        """All methods at each of these budgets of bits; peers, too, if there is a caller."""
        network, layers = self.network, self.network.layers
        self.judge("float" if not checks.is_quantized(self.source) else "source", 32, self.source)
        self.judge("int8", 8, network.model)
        self.measure_inputs()
        for name in PRESETS:
            compressed = encode(network, pruning(name))
            self.judge(f"bbs preset {name}", average_bits(layers, compressed.allocation), compressed.network.model)
        for bits in budgets:
            ours = self._at(bits)
            if caller is not None and (beside := self._peers(min(int(bits), 8), caller)):
                self.cells.append(Cell(bits, ours, min(beside, key=lambda result: result.kl)))
            advance()

    def _at(self, bits: float) -> Result:
        """Ours; the baselines beside it."""
        network, layers = self.network, self.network.layers
        means = frozenset(pruning().means)
        begin = time.process_time()
        tuned = tune.tune(network, self.calibration_data, self.survey, bits, tune.Limits(BLOCK, means))
        seconds = self.survey_seconds + time.process_time() - begin
        model = rewrite.with_layers(network.model, tuned.layers)
        ours = self.judge("bbs budgeted", average_bits(layers, tuned.allocation), model, seconds)
        allocation = uniform(layers, bits)
        plain = {layer.name: prune(layer.weights, allocation[layer.name])[1].astype(float) for layer in layers}
        self.judge("bbs optimal", average_bits(layers, allocation), with_real_weights(network, plain))
        size = sum(layer.weights.size for layer in layers)
        for name, baseline in BASELINES.items():
            weights = {layer.name: baseline(self.calibration_data.targets[layer.name], bits) for layer in layers}
            used = sum(weights[layer.name][1] * layer.weights.size for layer in layers) / size
            self.judge(name, used, with_real_weights(network, {key: rows for key, (rows, _) in weights.items()}))
        if len(self.seconds) == len(layers):
            targets = self.calibration_data.targets
            compensated = {name: gptq(targets[name], bits, second)[0] for name, second in self.seconds.items()}
            self.judge("gptq", min(int(bits), 8), with_real_weights(network, compensated))
        return ours

    def _peers(self, bits: int, caller: Caller) -> list[Result]:
        """All peers that have so many bits; each is judged once."""
        if bits not in self.peers:
            self.peers[bits] = [self._beside(rounded) for rounded in caller.all(bits)]
        return self.peers[bits]

    def _beside(self, rounded: Rounded) -> Result:
        """A peer's network. If its activations are real, they get 8 bits, with ranges from the same samples."""
        model = rounded.model
        if not checks.is_quantized(model):
            quantized = quantize.quantize(model, self.calibrated.feeds)
            network = cut.partition(quantized.model, self.network.name)
            assert quantized.prepared is not None
            weights = rewrite.real_weights(quantized.prepared, network.layers)
            if missing := {layer.name for layer in network.layers} - weights.keys():
                raise FlowError(
                    f"a peer rounds all layers, but {rounded.peer.name} did not return '{missing.pop()}' as it was; "
                    "leave this peer out"
                )
            model = with_real_weights(network, weights)
        return self.judge(rounded.peer.name, rounded.bits, model, rounded.seconds)
