"""Tier 0: the INT8 network against the source network, for every output, and whether every product is still there.

If an output is poor, the first poor tensor shows where the error begins; its values and its quantization scale show the
likely cause.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.frontend.imported import Imported
from flow.judgement.accuracy import json_number, sqnr_of
from flow.judgement.diagnosis import Finding
from flow.network.metrics import TEXT
from flow.network.samples import MADE_UP, Arrays, Samples
from flow.onnxtools import runtime
from flow.onnxtools.draws import RANDOM
from flow.onnxtools.edit import drop_unused_nodes
from flow.onnxtools.graph import Graph, graph_inputs, node_name, reads

PRODUCTS = ("Conv", "ConvTranspose", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "RNN")
QUANTIZATION = ("QuantizeLinear", "DequantizeLinear")
POOR = 10.0  # dB: an output below this is another signal
COARSE = 20.0  # dB: an output below this has a cause, and the first tensor below is where that begins
SAMPLES = 32  # compared at most
BEYOND = 0.01  # share of values outside the quantization range above which the range is the cause
FEW_STEPS = 4.0  # quantization steps: if a tensor's standard deviation is smaller, 8 bits are wasted
TRIED_MACS = 2e10  # that finding the tensor which costs most may take
GAIN = 1.0  # dB: a tensor is a cause if its 8 bits cost as much
FAR = 4.0  # factor by which the largest values of calibration and evaluation samples may differ


@dataclass(frozen=True)
class OutputFidelity:
    """One output: `sqnr` in dB with the mean removed, None if equal; the largest error; the share of equal values.

    All are None for an output that is not a numeric tensor, or has another shape in the INT8 network.
    """

    name: str
    sqnr: float | None
    largest_error: float | None
    equal: float | None

    @property
    def poor(self) -> bool:
        return self.sqnr is not None and self.sqnr < POOR

    @property
    def coarse(self) -> bool:
        return self.sqnr is not None and self.sqnr < COARSE


@dataclass(frozen=True)
class Fidelity:
    """Tier 0: the outputs of the INT8 network; `lost` are products of the source network that are missing from it.

    If an output is coarse, `begins` is the first node whose result 8 bits do not represent well, or the input, and
    `cause` the likely cause.
    """

    samples: int
    source: str
    outputs: tuple[OutputFidelity, ...]
    lost: tuple[str, ...] = ()
    begins: str | None = None
    cause: str | None = None

    @property
    def made_up(self) -> bool:
        """Whether the samples are made up."""
        return self.source == MADE_UP

    @property
    def faithful(self) -> bool:
        """Whether the INT8 network stands for the source network: no product is lost, no output is poor."""
        return not self.lost and not any(output.poor for output in self.outputs)


def fidelity(imported: Imported, evaluation: Samples) -> Fidelity:
    """How well the INT8 network stands for the source network.

    It is compared on the evaluation samples, or, if these are made up, on the calibration samples.
    """
    samples = imported.calibration if evaluation.made_up and imported.calibration is not None else evaluation
    few = samples.first(min(samples.count, SAMPLES))
    step = _step(imported.source, imported.network.model)
    wanted, got = _source_outputs(imported, few.feeds, step), _all_outputs(imported.network.model, few.feeds, step)
    outputs = tuple(_compared(name, wanted[name], got.get(name)) for name in wanted)
    lost = unaccounted(imported.source, imported.network.model)
    found = Fidelity(few.count, samples.source, outputs, lost)
    if lost or not any(output.coarse for output in outputs) or imported.prepared is None:
        return found
    begins, cause = _explained(imported, few)
    return Fidelity(few.count, samples.source, outputs, lost, begins, cause)


def _step(*models: onnx.ModelProto) -> int:
    """Samples per run: the batch that an input of one of the networks is fixed to, or `runtime.BATCH`."""
    dims = [value.type.tensor_type.shape.dim for model in models for value in graph_inputs(model)]
    return min((dim[0].dim_value for dim in dims if dim and dim[0].dim_value > 0), default=runtime.BATCH)


def _source_outputs(imported: Imported, feeds: Arrays, step: int) -> dict[str, list[NDArray[Any]]]:
    """The outputs of the network as it came; of its standard form if ONNX Runtime does not know the operators."""
    if imported.given is not None:
        with contextlib.suppress(FlowError):
            return _all_outputs(imported.given, feeds, step)
    return _all_outputs(imported.source, feeds, step)


def _all_outputs(model: onnx.ModelProto, feeds: Arrays, step: int) -> dict[str, list[NDArray[Any]]]:
    """Every output that is a tensor, batch after batch of `step` samples."""
    session, count = runtime.session(model), len(next(iter(feeds.values())))
    outputs: dict[str, list[NDArray[Any]]] = {}
    for start in range(0, count, step):
        for name, array in runtime.run(session, {n: a[start : start + step] for n, a in feeds.items()}).items():
            if isinstance(array, np.ndarray):
                outputs.setdefault(name, []).append(array)
    return outputs


def _compared(name: str, wanted: Sequence[NDArray[Any]], got: Sequence[NDArray[Any]] | None) -> OutputFidelity:
    shapes = [array.shape for array in wanted]
    if got is None or [array.shape for array in got] != shapes or wanted[0].dtype.kind in TEXT:
        return OutputFidelity(name, None, None, None)
    first, second = (np.concatenate([array.reshape(-1) for array in arrays]) for arrays in (wanted, got))
    equal = float((first == second).mean()) if first.size else 1.0
    if first.dtype.kind != "f":
        return OutputFidelity(name, None, None, equal)
    real, other = first.astype(np.float64), second.astype(np.float64)
    apart = real != other
    errors = np.abs(real[apart] - other[apart])
    largest = float(errors.max(initial=0.0)) if np.isfinite(errors).all() else None
    return OutputFidelity(name, json_number(sqnr_of(real, other)), largest, equal)


def explained(found: Fidelity) -> tuple[Finding, ...]:
    """The findings of tier 0, if it fails."""
    lost = tuple(
        Finding("0", name, "import", f"the product '{name}' of the network has vanished at import: please report it")
        for name in found.lost
    )
    poor = [output for output in found.outputs if output.poor]
    if not poor:
        return lost
    worst = min(poor, key=lambda output: output.sqnr or 0.0)
    begins = f", beginning at '{found.begins}'" if found.begins else ""
    text = f"output '{worst.name}' of the INT8 network keeps {worst.sqnr:.1f} dB of the network's{begins}"
    return (*lost, Finding("0", found.begins or worst.name, found.cause or "unknown", text))


# -------------------------------------------------------------------------------- where it begins, and why


def _explained(imported: Imported, samples: Samples) -> tuple[str | None, str]:
    """The node, or the input, of the first tensor that 8 bits do not represent well, and the likely cause."""
    assert imported.prepared is not None
    if (scaled := scaled_otherwise(imported, samples)) is not None:
        return None, scaled
    model, graph, constants = imported.network.model, Graph.of(imported.prepared), imported.network.graph
    quantizers = {node.input[0]: node for node in model.graph.node if node.op_type == "QuantizeLinear"}
    few = {name: array[:8] for name, array in samples.feeds.items()}
    for name in few.keys() & quantizers.keys():
        if (bad := _coarse(few[name].astype(np.float64), constants, quantizers[name])) is not None:
            return name, bad
    names = [name for name in quantizers if name in graph.producers and name in constants.producers]
    wanted, got = (_tensors(each, names, few) for each in (imported.prepared, model))
    for name in names:
        if wanted[name].shape != got[name].shape or not wanted[name].size:
            continue
        real = wanted[name].astype(np.float64)
        if (bad := _coarse(real, constants, quantizers[name])) is not None:
            return node_name(graph.producers[name]), bad
        if sqnr_of(real, got[name].astype(np.float64)) < COARSE:
            begins = node_name(graph.producers[name])
            return begins, _costliest(imported, few) or (
                "either its input is that inaccurate already, or its weights lose too much at 8 bits"
            )
    return None, _costliest(imported, few) or "8 bits are too few for this network"


def _costliest(imported: Imported, feeds: Arrays) -> str | None:
    """The 8-bit tensor without which the worst output would keep the most; None if that takes too long to find."""
    assert imported.prepared is not None
    network, wanted = imported.network, _flat(imported.prepared, feeds)
    pairs = [node for node in network.model.graph.node if node.op_type == "QuantizeLinear"]
    samples = len(next(iter(feeds.values())))
    if samples * len(pairs) * sum(layer.macs for layer in network.layers) > TRIED_MACS:
        return None
    before = _worst(wanted, _flat(network.model, feeds))
    found = {node.input[0]: _worst(wanted, _flat(_real(network.model, node), feeds)) for node in pairs}
    name = max(found, key=lambda each: found[each], default="")
    if not name or found[name] - before < GAIN:
        return None
    return f"range: the 8 bits of tensor '{name}' cost most: of the worst output {found[name]:.1f} dB were left without"


def _flat(model: onnx.ModelProto, feeds: Arrays) -> dict[str, NDArray[np.float64]]:
    """The real outputs of a network, over all samples."""
    outputs = _all_outputs(model, feeds, _step(model))
    flat = {name: np.concatenate([array.reshape(-1) for array in arrays]) for name, arrays in outputs.items()}
    return {name: array.astype(np.float64) for name, array in flat.items() if array.dtype.kind == "f"}


def _worst(wanted: Arrays, got: Arrays) -> float:
    """The SQNR in dB of the worst output."""
    same = [name for name in wanted if name in got and got[name].shape == wanted[name].shape]
    return min((sqnr_of(wanted[name], got[name]) for name in same), default=math.inf)


def _real(model: onnx.ModelProto, quantize: onnx.NodeProto) -> onnx.ModelProto:
    """The network with this tensor in real numbers instead of 8 bits."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] == quantize.output[0]:
            node.op_type, node.input[:] = "Identity", quantize.input[:1]
            del node.attribute[:]
    return copy


def _tensors(model: onnx.ModelProto, names: Sequence[str], feeds: Arrays) -> dict[str, NDArray[Any]]:
    """These tensors of a network, over all samples."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    drop_unused_nodes(copy)
    return {
        name: np.concatenate([np.atleast_1d(a) for a in arrays])
        for name, arrays in _all_outputs(copy, feeds, _step(copy)).items()
    }


def _coarse(real: NDArray[np.float64], graph: Graph, quantizer: onnx.NodeProto) -> str | None:
    """What is wrong with the quantization range of a tensor; None if it is good."""
    scale, zero = (graph.constant(name) for name in quantizer.input[1:3])
    if scale is None or zero is None or scale.size != 1:
        return None
    limits = np.iinfo(zero.dtype)
    step = float(scale.item())
    low, high = ((limit - int(zero.item())) * step for limit in (limits.min, limits.max))
    beyond = float(((real < low - step) | (real > high + step)).mean())
    if beyond > BEYOND:
        return (
            f"range: {100 * beyond:.1f} % of the values lie outside {low:.3g} to {high:.3g}, the range of calibration"
        )
    spread = float(real.std())
    if 0 < spread < FEW_STEPS * step:
        return (
            f"range: a few values reach {real.min():.3g} to {real.max():.3g}, so that the others, with a standard "
            f"deviation of {spread:.2g}, share steps of {step:.2g}"
        )
    return None


def scaled_otherwise(imported: Imported, samples: Samples) -> str | None:
    """How the calibration samples are scaled otherwise than the samples judged here; None if they are scaled alike."""
    if imported.calibration is None or imported.calibration is samples:
        return None
    for value in graph_inputs(imported.source):
        calibrated, judged = (s.feeds[value.name] for s in (imported.calibration, samples))
        if judged.dtype.kind != "f" or not judged.size:
            continue
        reach, own = (float(np.abs(array).max()) for array in (calibrated, judged))
        if own > 0 and not 1 / FAR <= reach / own <= FAR:
            first, second = (f"from {array.min():.3g} to {array.max():.3g}" for array in (calibrated, judged))
            return (
                f"calibration: its samples reach {first} at input '{value.name}', those judged here {second}; "
                "scale them alike"
            )
    return None


# -------------------------------------------------------------------------------- products


def unaccounted(source: onnx.ModelProto, network: onnx.ModelProto) -> tuple[str, ...]:
    """Products of the source network that are lost.

    A product is accounted for if its node or its output is in the network, if the output is constant or never read, or
    if an identical product is in the network.
    """
    names = {node_name(node) for node in network.graph.node if node.op_type not in QUANTIZATION}
    tensors = {name for node in network.graph.node for name in node.output}
    tensors |= {tensor.name for tensor in network.graph.initializer}
    live, varying = _live(source), _varying(source)
    missing: dict[tuple[Any, ...], str] = {}
    present: set[tuple[Any, ...]] = set()
    for node in source.graph.node:
        if node.op_type not in PRODUCTS or not live.intersection(node.output) or not varying.intersection(node.output):
            continue
        name = node_name(node)
        twin = (node.op_type, *node.input, *(entry.SerializeToString() for entry in node.attribute))
        if any(output in tensors for output in node.output) or any(_derived(name, other) for other in names):
            present.add(twin)
        else:
            missing.setdefault(twin, name)
    return tuple(name for twin, name in missing.items() if twin not in present)


def _derived(name: str, other: str) -> bool:
    """Whether `other` is the node name `name`, or a name that ONNX Runtime or import derived from it."""
    return other == name or re.match(rf"{re.escape(name)}[/_]", other) is not None


def _live(model: onnx.ModelProto) -> set[str]:
    """Tensors that an output depends on."""
    needed = {value.name for value in model.graph.output}
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(reads(node))
    return needed


def _varying(model: onnx.ModelProto) -> set[str]:
    """Tensors that depend on an input, or on random numbers."""
    varying = {value.name for value in graph_inputs(model)}
    for node in model.graph.node:
        if varying.intersection(reads(node)) or node.op_type in RANDOM:
            varying.update(name for name in node.output if name)
    return varying


def poorest(outputs: Sequence[OutputFidelity]) -> Mapping[str, float]:
    """The SQNR in dB of the outputs that have one, the worst first."""
    decibels = {output.name: output.sqnr for output in outputs if output.sqnr is not None}
    return dict(sorted(decibels.items(), key=lambda pair: pair[1]))
