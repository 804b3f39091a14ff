"""What needs trained networks and data: accuracy against bits (figure 11, tables II and III, figure 17), against
energy x delay (figure 16), and our compression where it is as accurate as a preset.

Everything but the weights is the same for all methods: the INT8 network's activations, its calibration samples,
the layers of the array. At a preset's setting PTQ, BitWave and BBS leave the same sensitive channels whole.

As accurate as a preset means: on every second test sample no fewer right answers and no more divergence. What is
reported of that comparison is measured on the other samples, so that nothing is chosen by what it is judged by.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import onnx

from bench.compression.baselines import BASELINES, Baseline, Rows, with_real_weights
from bench.paper import accelerators
from bench.paper.comparison import ARRAY, Outcome, outcome
from bench.paper.pruned import Tradeoff
from bench.paper.workloads import Source, Workload, imported
from flow.compression import tune
from flow.compression.allocate import CHANNELS_PARALLEL, PRESETS, Allocation, allocate, average_bits
from flow.compression.budget import least_bits
from flow.compression.choice import pruning
from flow.compression.compress import encode
from flow.compression.encoding import BBS
from flow.frontend import admit, quantize
from flow.frontend.entry import checks
from flow.frontend.int8 import cut, rewrite
from flow.network import answers, samples
from flow.network.model import Network
from flow.network.task import top1
from flow.onnxtools import runtime

SENSITIVE = (0.0, 0.1, 0.2, 0.3)  # beta of figure 16
PRUNED = (1, 2, 3, 4, 5)  # N of figure 16
BUDGETS = (6.25, 5.5, 5.0, 4.5, 4.0, 3.5, 3.25)  # bits that ours is made with
SPEEDS = (3.0, 3.5, 3.75, 4.0, 4.5, 5.0)  # and times that the dense array takes longer
TOLERANCE = 0.01  # bits
EVERY, CHOOSING, JUDGING = slice(None), slice(0, None, 2), slice(1, None, 2)  # test samples
MEANS = frozenset(pruning().means)


@dataclass(frozen=True)
class Judged:
    """A network with other weights, on the test samples: top-1 0..1 (None: no labels), divergence, cosine.

    `cosine` is the mean cosine similarity of its outputs to the float (or source) network's.
    """

    method: str
    bits: float
    top1: float | None
    divergence: float
    cosine: float


@dataclass(frozen=True)
class Design:
    """A point of figure 16: what is run, how well, and how fast."""

    judged: Judged
    outcome: Outcome
    kind: str


@dataclass(frozen=True)
class Trained:
    """One network's results; `reference` is the source network itself, `samples` how many judged it.

    `matched`: by preset its design and ours that is as accurate, on the half of the samples not chosen by.
    """

    name: str
    samples: int
    reference: Judged
    at_presets: dict[str, list[Judged]]
    matched: dict[str, tuple[Design, Design]]
    designs: list[Design]


@dataclass(frozen=True)
class Within:
    """Ours within a budget: bits used, the network, N of every channel."""

    bits: float
    model: onnx.ModelProto
    allocation: Allocation


class Subject:
    """A network, its data, and one way to judge all that is made of it."""

    def __init__(self, given: Source) -> None:
        assert given.model is not None and given.calibration is not None and given.test is not None
        self.source = admit.load(given.model)
        known = samples.load(given.calibration, self.source, "calibration")
        made = quantize.quantize(self.source, known.feeds)
        self.network: Network = cut.partition(made.model, given.name)
        self.workload: Workload = imported(given)
        self.known = tune.calibration_data(self.network, self.source, made.prepared, known)
        self.test = samples.load(given.test, self.source, "evaluation")
        self.wanted = answers.class_scores(self.source, self.test.feeds)
        self.found = tune.survey(self.network, self.known, MEANS, lambda: None)
        self.made = [self._within(bits) for bits in BUDGETS if bits >= least_bits(self.network.layers)]
        self.fast = self._fast()

    def judge(self, method: str, bits: float, model: onnx.ModelProto, part: slice = EVERY) -> Judged:
        """The network on a part of the test samples."""
        feeds = {name: array[part] for name, array in self.test.feeds.items()}
        labels = self.test.labels
        share = None if labels is None else top1(runtime.predict(model, feeds), labels[part])
        wanted = replace(self.wanted, values=self.wanted.values[part])
        got = answers.class_scores(model, feeds)
        a, b = wanted.values, got.values
        norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
        cosine = float(((a * b).sum(axis=1) / np.maximum(norms, 1e-30)).mean())
        return Judged(method, bits, share, answers.divergence(wanted, got), cosine)

    def rule(self, method: str, columns: int, sensitive: float, label: str) -> tuple[Judged, Allocation]:
        """The paper's rule."""
        made = encode(self.network, pruning(columns=columns, sensitive=sensitive, method=method))
        bits = average_bits(self.network.layers, made.allocation)
        return self.judge(label, bits, made.network.model), made.allocation

    def baseline(self, name: str, columns: int, allocation: Allocation) -> Judged:
        """Another method on the channels that are pruned, with N bits less; the others stay INT8."""
        method: Baseline = BASELINES[name]
        budget = BBS.weight_bits - columns + (BBS.metadata_bits / BBS.group_size if name != "ptq" else 0)
        weights: dict[str, Rows] = {}
        bits = size = 0.0
        for layer in self.network.layers:
            chosen = allocation[layer.name] > 0
            rows = layer.weights.astype(np.float64)
            used = 0.0
            if chosen.any():
                rows[chosen], used = method(self.known.targets[layer.name][chosen], budget)
            weights[layer.name] = rows
            bits += layer.reduction * float(chosen.sum() * used + (~chosen).sum() * BBS.weight_bits)
            size += layer.weights.size
        return self.judge(name, bits / size, with_real_weights(self.network, weights))

    def _within(self, bits: float) -> Within:
        """Ours within a budget."""
        return self._made(tune.tune(self.network, self.known, self.found, bits, tune.Limits(CHANNELS_PARALLEL, MEANS)))

    def _fast(self) -> list[Within]:
        """Ours as fast as that: N of every block by the time it saves, not by the bits."""
        layers = self.network.layers
        tradeoff = Tradeoff(layers, self.found.curves, ARRAY)
        dense = sum(accelerators.stripes(layer, ARRAY).cycles for layer in layers)
        chosen = [tradeoff.within_cycles(dense / speed).allocation for speed in SPEEDS]
        tuned = [tune.refined(self.network, self.known, self.found, allocation, MEANS) for allocation in chosen]
        return [self._made(made) for made in tuned]

    def _made(self, tuned: tune.Tuned) -> Within:
        model = rewrite.with_layers(self.network.model, tuned.layers)
        return Within(average_bits(self.network.layers, tuned.allocation), model, tuned.allocation)

    def as_accurate(self, preset: onnx.ModelProto) -> Within | None:
        """The fastest of ours that is as accurate as that network; None if none is."""
        wanted = self.judge("", 0, preset, CHOOSING)
        for made in sorted([*self.made, *self.fast], key=lambda made: self._compute(made)):
            got = self.judge("", 0, made.model, CHOOSING)
            if got.divergence <= wanted.divergence and (got.top1 or 0) >= (wanted.top1 or 0):
                return made
        return None

    def _compute(self, made: Within) -> int:
        """Cycles, DRAM left out."""
        layers = self.network.layers
        return sum(accelerators.bitvert(layer, made.allocation[layer.name], ARRAY).cycles for layer in layers)


def study(given: Source, pareto: bool) -> Trained:
    """All that the sections show of one network; `pareto` asks for figure 16, too."""
    subject = Subject(given)
    reference = subject.judge("float" if not checks.is_quantized(subject.source) else "source", 8.0, subject.source)
    at_presets: dict[str, list[Judged]] = {}
    matched: dict[str, tuple[Design, Design]] = {}
    for name in PRESETS:
        at_presets[name], pair = _at_preset(subject, name)
        if pair is not None:
            matched[name] = pair
    designs = _designs(subject) if pareto else []
    return Trained(given.name, subject.test.count, reference, at_presets, matched, designs)


def _at_preset(subject: Subject, name: str) -> tuple[list[Judged], tuple[Design, Design] | None]:
    chosen, layers = PRESETS[name], subject.network.layers
    made = encode(subject.network, pruning(name))
    bits = average_bits(layers, made.allocation)
    allocation = allocate(layers, chosen.columns_pruned, chosen.sensitive)
    judged = [subject.judge("INT8", float(BBS.weight_bits), subject.network.model)]
    judged += [subject.baseline(other, chosen.columns_pruned, allocation) for other in ("ptq", "bit-flip")]
    whole = {layer.name: np.full(layer.channels, 1) for layer in layers}
    judged.append(subject.baseline("mxint", chosen.columns_pruned, whole))
    judged.append(subject.judge(f"BBS {name}", bits, made.network.model))
    fewer = [ours for ours in subject.made if ours.bits <= bits + TOLERANCE]
    if fewer:
        judged.append(subject.judge("ours, no more bits", fewer[0].bits, fewer[0].model))
    ours = subject.as_accurate(made.network.model)
    if ours is None:
        return judged, None
    pair = ((f"BBS {name}", bits, made.network.model, made.allocation),
            (f"ours, as accurate as {name}", ours.bits, ours.model, ours.allocation))  # fmt: skip
    first, second = (
        Design(subject.judge(label, used, model, JUDGING), outcome(label, subject.workload, n), label)
        for label, used, model, n in pair
    )
    return judged, (first, second)


def _designs(subject: Subject) -> list[Design]:
    """N and beta of the paper's rule, our budgets, and machines that need no pruning of ours."""
    work, layers = subject.workload, subject.network.layers
    designs: list[Design] = []

    def add(kind: str, made: tuple[Judged, Allocation]) -> None:
        designs.append(Design(made[0], outcome(kind, work, made[1]), kind))

    for columns in PRUNED:
        for sensitive in SENSITIVE:
            label = f"N {columns}, β {sensitive:.0%}"
            add("BBS, N and β", subject.rule("zero-point-shifting", columns, sensitive, label))
    for made in [*subject.made, *subject.fast]:
        add("ours", (subject.judge(f"{made.bits:.2f} bits", made.bits, made.model), made.allocation))
    whole = subject.judge("INT8", 8.0, subject.network.model)
    designs += [Design(whole, outcome(name, work), name) for name in ("stripes", "pragmatic", "bitlet")]
    every = {layer.name: np.full(layer.channels, 1) for layer in layers}
    flipped = subject.baseline("bit-flip", work.bitwave, every)
    return [*designs, Design(flipped, outcome("bitwave", work), "bitwave")]


def pareto(designs: list[Design], loss: Callable[[Design], float]) -> list[Design]:
    """The designs that no other beats in both loss and energy x delay, fastest first."""
    front: list[Design] = []
    for design in sorted(designs, key=lambda design: (design.outcome.edp, loss(design))):
        if not front or loss(design) < loss(front[-1]):
            front.append(design)
    return front
