"""Weight compression at equal average bits: BBS three ways beside other post-training methods, on real networks.

    python -m bench.compression MODEL.onnx CALIBRATION.npz TEST.npz [--bits 6.25,4.25,3.25] [--samples K]
                                [--metric NAME] [--plot FILE.svg]

Everything but the weights is the same: the INT8 network's activations, calibration samples, the layers of the
array. Bits count metadata: a byte for 32 weights in BBS, MXINT (shared exponent) and bit-flip (which columns).

    bbs budgeted   the default of `bbs compile --bits`: N by block, refined on calibration data
    bbs optimal    one N for all, the exact optimum of every group; no data
    bbs preset     the paper's two points, data-free
    ptq            per channel, rounded to b bits over the weights' range
    ptq clipped    the same, the range searched for the least squared error
    gptq           the same range, the error of every weight rounded compensated in the later ones (Frantar et al.,
                   ICLR 2023), on the calibration samples
    mxint          Microscaling: 32 weights share a power of two, b bits each (OCP MX specification)
    bit-flip       BitWave (Shi et al., HPCA 2024): in sign and magnitude, 32 weights share which N columns are zero

The metric is top-1, or that of --metric, such as perplexity. "same" is the share of samples (or positions) on which
float (or INT8) network agree, "KL" the divergence of the class scores, "se" one standard error of a share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from rich.console import Console
from rich.table import Table

from flow.compression import tune
from flow.compression.allocate import PRESETS, average_bits
from flow.compression.calibration import calibrate, moments
from flow.compression.choice import pruning
from flow.compression.compress import encode
from flow.compression.prune import prune
from flow.frontend import admit, quantize
from flow.frontend.entry import checks
from flow.frontend.int8 import cut, rewrite
from flow.frontend.int8.layers import from_rows
from flow.network import answers, samples
from flow.network.metrics import CLASSES, METRICS
from flow.network.model import ArrayLayer, Network
from flow.network.samples import Samples
from flow.network.task import score_axes, tasks_of
from flow.onnxtools import runtime
from flow.onnxtools.graph import node_name
from flow.output.report.plot import Point, curves

Rows = NDArray[np.float64]  # [channels, reduction], in units of the layer's INT8 scales
Baseline = Callable[[Rows, float], tuple[Rows, float]]  # weights and a budget to weights and bits per weight

GROUP = 32
METADATA = 8 / GROUP
CLIPS = np.linspace(0.3, 1.0, 29)


def round_to(rows: Rows, bits: int, reach: Rows) -> Rows:
    """Symmetric rounding to `bits` bits over -reach..reach, which broadcasts."""
    top = 2 ** (bits - 1) - 1
    step = np.maximum(reach, 1e-12) / max(top, 0.5)
    rounded: Rows = np.clip(np.rint(rows / step), -top - 1, top) * step
    return rounded


def ptq(rows: Rows, budget: float) -> tuple[Rows, float]:
    bits = min(int(budget), 8)
    return round_to(rows, bits, np.abs(rows).max(axis=1, keepdims=True)), bits


def ptq_clipped(rows: Rows, budget: float) -> tuple[Rows, float]:
    bits = min(int(budget), 8)
    return round_to(rows, bits, clipped_reach(rows, bits)), bits


def clipped_reach(rows: Rows, bits: int) -> Rows:
    """The range of every channel, [channels, 1], that rounding to `bits` bits has the least squared error in."""
    reach = np.abs(rows).max(axis=1, keepdims=True)
    tries = np.stack([round_to(rows, bits, reach * clip) for clip in CLIPS])
    clipped: Rows = reach * CLIPS[((tries - rows) ** 2).sum(axis=2).argmin(axis=0)][:, None]
    return clipped


def gptq(rows: Rows, budget: float, second: NDArray[np.float32]) -> tuple[Rows, float]:
    """`second`: the second moments of the inputs, [reduction, reduction]."""
    bits = min(int(budget), 8)
    reach, left, rounded = clipped_reach(rows, bits), rows.copy(), np.empty_like(rows)
    damped = second.astype(np.float64) + 0.01 * max(float(np.diag(second).mean()), 1e-9) * np.eye(len(second))
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    for place in range(rows.shape[1]):
        rounded[:, place] = round_to(left[:, place : place + 1], bits, reach)[:, 0]
        error = (left[:, place] - rounded[:, place]) / upper[place, place]
        left[:, place:] -= error[:, None] * upper[place, place:]
    return rounded, bits


def mxint(rows: Rows, budget: float) -> tuple[Rows, float]:
    bits = min(int(budget - METADATA), 8)
    groups = _grouped(rows)
    largest = np.abs(groups).max(axis=2, keepdims=True)
    step = np.exp2(np.floor(np.log2(np.maximum(largest, 1e-12))) - (bits - 2))
    rounded = np.clip(np.rint(groups / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * step
    return _rows(rounded, rows.shape[1]), bits + METADATA


def bit_flip(rows: Rows, budget: float) -> tuple[Rows, float]:
    zero = max(7 - int(budget - METADATA - 1), 0)  # of seven magnitude columns; the sign stays
    codes = np.clip(np.rint(_grouped(rows)), -127, 127)
    best, least = codes, np.full(codes.shape[:2], np.inf)
    for columns in combinations(range(7), zero):
        mask = 127 & ~sum(1 << column for column in columns)
        levels = np.array([value for value in range(128) if value & ~mask == 0])
        nearest = levels[np.abs(np.arange(128)[:, None] - levels).argmin(axis=1)]
        tried = np.sign(codes) * nearest[np.abs(codes).astype(int)]
        error = ((tried - codes) ** 2).sum(axis=2)
        best = np.where((error < least)[..., None], tried, best)
        least = np.minimum(error, least)
    return _rows(best, rows.shape[1]), 8 - zero + METADATA * (zero > 0)


def _grouped(rows: Rows) -> Rows:
    padding = -rows.shape[1] % GROUP
    return np.pad(rows, [(0, 0), (0, padding)]).reshape(len(rows), -1, GROUP)


def _rows(groups: Rows, reduction: int) -> Rows:
    return groups.reshape(len(groups), -1)[:, :reduction]


BASELINES: dict[str, Baseline] = {"ptq": ptq, "ptq clipped": ptq_clipped, "mxint": mxint, "bit-flip": bit_flip}


def with_real_weights(network: Network, weights: dict[str, Rows]) -> onnx.ModelProto:
    """The INT8 network with these weights in float32, which need not lie on the INT8 grid."""
    copy = onnx.ModelProto()
    copy.CopyFrom(network.model)
    nodes = {node_name(node): node for node in copy.graph.node}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in copy.graph.initializer}
    for layer in network.layers:
        real = weights[layer.name] * layer.weight_scales[:, None]
        array = from_rows(nodes[layer.name], real.astype(np.float32), shapes[layer.weight_tensor])
        copy.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), f"{layer.name}_real"))
        nodes[layer.name].input[1] = f"{layer.name}_real"
    return copy


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
        self, model: Path, calibration: Path, test: Path, count: int | None, metric: str | None = None
    ) -> None:
        self.source = admit.load(model)
        calibrated = samples.load(calibration, self.source, "calibration")
        quantized = quantize.quantize(self.source, calibrated.feeds)
        self.network = cut.partition(quantized.model, model.stem)
        self.calibration_data = tune.calibration_data(self.network, self.source, quantized.prepared, calibrated)
        self.test: Samples = samples.load(test, self.source, "evaluation")
        self.test = replace(self.test.first(count or self.test.count), metric=metric)
        self.output = self.source.graph.output[0].name
        found = tasks_of(runtime.predict_all(self.source, self.test.feeds), self.test)
        self.task = found.get(self.output)
        self.metric = "top-1" if self.task is None else self.task.metric
        self.scores = {self.output: 1, **score_axes(found)}
        self.wanted = self._answers(self.source)
        self.seconds: dict[str, NDArray[np.float32]] = {}
        self.survey = tune.survey(self.network, self.calibration_data, frozenset(pruning().means), lambda: None)
        self.results: list[tuple[str, float, float, float, float, float]] = []

    def _answers(self, model: onnx.ModelProto) -> answers.Answers:
        return answers.answers(model, self.test.feeds, self.scores)[self.output]

    def judge(self, method: str, bits: float, model: onnx.ModelProto) -> None:
        got = self._answers(model)
        outputs = runtime.predict(model, self.test.feeds)
        reached = float("nan") if self.task is None else self.task.measure(outputs)[0]
        error = float("nan")
        if self.metric in CLASSES:
            error, reached = 100 * float(np.sqrt(reached * (1 - reached) / self.test.count)), 100 * reached
        same, kl = answers.agreement(self.wanted, got), answers.divergence(self.wanted, got)
        self.results.append((method, bits, reached, error, 100 * (same or 0.0), kl))

    def measure_inputs(self) -> None:
        """The second moments of every layer's inputs on the calibration samples; of the first group's."""

        def measured(layer: ArrayLayer, tensors: list[NDArray[Any]]) -> ArrayLayer:
            if layer.groups == 1 and len(found := moments(layer, tensors).parts) == 1:
                self.seconds[layer.name] = found[0][0]
            return layer

        calibrate(self.network, self.calibration_data.samples.feeds, measured)

    def run(self, budgets: list[float], advance: Callable[[], None]) -> None:
        network, layers = self.network, self.network.layers
        self.judge("float" if not checks.is_quantized(self.source) else "source", 32, self.source)
        self.judge("int8", 8, network.model)
        self.measure_inputs()
        for name in PRESETS:
            compressed = encode(network, pruning(name))
            self.judge(f"bbs preset {name}", average_bits(layers, compressed.allocation), compressed.network.model)
        for bits in budgets:
            self._at(bits)
            advance()

    def _at(self, bits: float) -> None:
        network, layers = self.network, self.network.layers
        means = frozenset(pruning().means)
        tuned = tune.tune(network, self.calibration_data, self.survey, bits, tune.Limits(GROUP, means))
        model = rewrite.with_layers(network.model, tuned.layers)
        self.judge("bbs budgeted", average_bits(layers, tuned.allocation), model)
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


def series(results: list[tuple[str, float, float, float, float, float]], scale: float) -> dict[str, list[Point]]:
    """The results by method, without those of the two uncompressed networks; `scale`: 100 for percent, else 1."""
    by_method: dict[str, list[Point]] = {}
    for method, bits, reached, _, _, kl in results[2:]:
        by_method.setdefault(method, []).append(Point(bits, reached / scale, kl))
    return by_method


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("calibration", type=click.Path(path_type=Path))
@click.argument("test", type=click.Path(path_type=Path))
@click.option("--bits", default="8,6.25,5,4.5,4.25,3.5,3.25")
@click.option("--samples", "count", type=int)
@click.option("--metric", type=click.Choice(list(METRICS)))
@click.option("--plot", "file", type=click.Path(path_type=Path))
def main(model: Path, calibration: Path, test: Path, bits: str, **options: Any) -> None:
    """Compare on one network and print the table."""
    comparison = Comparison(model, calibration, test, options["count"], options["metric"])
    file, percent = options["file"], comparison.metric in CLASSES
    comparison.run([float(part) for part in bits.split(",")], lambda: None)
    table = Table(box=None, pad_edge=False, title=f"{model.stem}, {comparison.test.count:,} samples")
    for name in ("method", "bits", f"{comparison.metric}{' %' if percent else ''}", "se", "same %", "KL"):
        table.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    for method, used, reached, error, same, kl in comparison.results:
        found = f"{reached:.2f}" if percent else f"{reached:.4g}"
        table.add_row(method, f"{used:.2f}", found, f"{error:.2f}" if percent else "", f"{same:.2f}", f"{kl:.4f}")
    Console(width=120).print(table)
    if file is not None:
        scale = 100 if percent else 1
        reference = comparison.results[0][2] / scale
        curves(series(comparison.results, scale), reference, model.stem, file, comparison.metric)


if __name__ == "__main__":
    main()
