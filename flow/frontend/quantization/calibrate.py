"""Calibration: the method that finds the range of each activation, chosen by what the network's outputs lose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.frontend.operators import ARRAY_OPERATORS
from flow.frontend.quantization.plan import Plan
from flow.frontend.quantization.qdq import trial
from flow.frontend.quantization.ranges import METHODS, MINMAX, Range, histograms, measure, narrowed, spread
from flow.network.samples import Arrays
from flow.onnxtools import runtime
from flow.programs import in_parallel

AUTO = "auto"
CHOICES = (AUTO, *METHODS)
GOOD = 32.0  # dB: if every output keeps this with min-max ranges, no other method is tried
TRIED = 8  # samples that methods are compared on
GROUPS = 8  # parts of the network, in order, each of which may have another method
BETTER = 0.98  # of the loss: a method that is no better than this does not replace another


def check(method: str) -> None:
    """FlowError if `method` is no method of calibration."""
    if method not in CHOICES:
        raise FlowError(f"--calibrate is one of {', '.join(CHOICES)}, but it is '{method}'; name one of them")


@dataclass(frozen=True)
class Calibration:
    """Ranges by tensor, and how many of them each method found."""

    ranges: dict[str, Range]
    methods: dict[str, int]

    @property
    def words(self) -> str:
        """The methods, for a note."""
        names = {MINMAX: "min-max", "mse": "mean squared error"}
        told = {names.get(method, method): count for method, count in self.methods.items()}
        if len(told) == 1:
            return next(iter(told))
        return ", ".join(f"{name} ({count} tensors)" for name, count in told.items())


def calibrate(prepared: onnx.ModelProto, wanted: Plan, feeds: Arrays, unsigned: bool, method: str) -> Calibration:
    """The range of every tensor that is quantized, from calibration samples.

    `auto`: min-max if every output keeps `GOOD` dB. Otherwise the method that costs the outputs least, and then, part
    by part of the network, another if it costs less. The weights are not quantized yet when this is decided.
    """
    if not wanted.tensors:
        return Calibration({}, {})
    full = _representable(wanted, measure(prepared, dict.fromkeys(wanted.tensors.values()), feeds))
    everywhere = dict.fromkeys(full, MINMAX)
    if method == MINMAX or not all(np.isfinite([found.low, found.high]).all() for found in full.values()):
        return _calibration(everywhere, {MINMAX: full})
    trials = _Trials(prepared, wanted, full, feeds, unsigned) if method == AUTO else None
    if trials is not None and trials.worst(full) >= GOOD:
        return _calibration(everywhere, {MINMAX: full})
    counts = histograms(prepared, full, feeds)
    candidates = {
        each: {name: narrowed(each, found, counts[name]) for name, found in full.items()}
        for each in (METHODS if trials is not None else (method,))
    }
    if trials is None:
        return _calibration(dict.fromkeys(full, method), candidates)
    losses = {each: trials.loss(ranges) for each, ranges in candidates.items()}
    best = min(losses, key=lambda each: losses[each])
    chosen, least = dict.fromkeys(full, best), losses[best]
    for part in np.array_split(list(full), GROUPS):
        for each in METHODS:
            other = chosen | dict.fromkeys((str(name) for name in part), each)
            if other != chosen and (loss := trials.loss(_selected(other, candidates))) < BETTER * least:
                chosen, least = other, loss
    return _calibration(chosen, candidates)


def _representable(wanted: Plan, ranges: dict[str, Range]) -> dict[str, Range]:
    """Without the ranges of tensors that reach infinity, as masks do, and stay float; those of layers are kept."""
    layers = [node for node in wanted.nodes if node.op_type in ARRAY_OPERATORS]
    used = {wanted.tensors.get(name) for node in layers for name in (node.input[0], node.output[0])}
    return {
        name: found for name, found in ranges.items() if name in used or not np.isinf([found.low, found.high]).any()
    }


def _selected(chosen: Mapping[str, str], candidates: Mapping[str, Mapping[str, Range]]) -> dict[str, Range]:
    return {name: candidates[method][name] for name, method in chosen.items()}


def _calibration(chosen: Mapping[str, str], candidates: Mapping[str, Mapping[str, Range]]) -> Calibration:
    return Calibration(_selected(chosen, candidates), dict(Counter(chosen.values()).most_common()))


class _Trials:
    """The network with 8-bit activations, its ranges given anew at each run, against the float network."""

    def __init__(
        self, prepared: onnx.ModelProto, wanted: Plan, full: Mapping[str, Range], feeds: Arrays, unsigned: bool
    ) -> None:
        numbers = spread(len(next(iter(feeds.values()))), TRIED)
        self._feeds = [{name: array[n : n + 1] for name, array in feeds.items()} for n in numbers]
        self._trial = trial(prepared, wanted, full, unsigned)
        self._session = runtime.session(self._trial.model)
        real = runtime.session(prepared)
        self._real = self._stacked([runtime.run(real, one) for one in self._feeds])

    @staticmethod
    def _stacked(parts: list[runtime.Tensors]) -> dict[str, NDArray[np.float64]]:
        """Float outputs over all samples, flat; those whose shape is data are left out."""
        names = [name for name, array in parts[0].items() if isinstance(array, np.ndarray) and array.dtype.kind == "f"]
        return {
            name: np.concatenate([part[name].astype(np.float64).reshape(-1) for part in parts]) for name in names
        }  # fmt: skip

    def _noise(self, ranges: Mapping[str, Range]) -> list[float]:
        """The noise of each output as a share of its signal, its mean removed."""
        scales = self._trial.feeds(ranges)
        got = self._stacked(in_parallel(lambda one: runtime.run(self._session, one | scales), self._feeds))
        shares = []
        for name, real in self._real.items():
            signal = float(((real - real.mean()) ** 2).sum()) if real.size else 0.0
            if signal > 0 and np.isfinite(signal) and got[name].shape == real.shape:
                shares.append(float(((got[name] - real) ** 2).sum()) / signal)
        return shares

    def loss(self, ranges: Mapping[str, Range]) -> float:
        """The sum of all outputs' noise; an output that is lost altogether counts as one that is noise alone."""
        return sum(min(share, 1.0) + 1e-3 * min(share, 100.0) for share in self._noise(ranges))

    def worst(self, ranges: Mapping[str, Range]) -> float:
        """The signal-to-noise ratio of the worst output in dB; infinite if none can be compared."""
        return -10 * float(np.log10(max([*self._noise(ranges), 1e-20])))
