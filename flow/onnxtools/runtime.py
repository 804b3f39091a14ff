"""Sessions of ONNX Runtime: for host segments, whole networks, the judge of tier 2.

Always graph optimisation level BASIC: above it ONNX Runtime fuses int8 kernels that saturate on CPUs without
VNNI. Of BASIC, what quantizes float weights between 8-bit activations, with one scale for all, is left out: it makes
another network.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from flow.errors import FlowError, first_line
from flow.onnxtools import external
from flow.onnxtools.draws import drawn_once

if TYPE_CHECKING:
    import onnxruntime as ort

Tensors = dict[str, NDArray[Any]]

LEFT_OUT = ["WeightBiasQuantization"]  # optimizers
BATCH = 32  # samples per run when the network's batch is free


def session(model: onnx.ModelProto, optimise: bool = True) -> ort.InferenceSession:
    """An inference session of `model` on the CPU, at graph optimisation level BASIC (or none), with one thread.

    Its random numbers are the same in every run (`drawn_once`). FlowError when ONNX Runtime does not accept the model.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_BASIC if optimise else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.enable_mem_pattern = False  # room for all tensors at once
    options.execution_order = ort.ExecutionOrder.PRIORITY_BASED  # of the file: what is dequantized is used at once
    options.log_severity_level = 4  # errors are raised as exceptions anyway
    drawn = drawn_once(model)
    outside = external.weights(drawn)
    try:
        active = ort.InferenceSession(
            external.externals_as_inputs(drawn).SerializeToString(), options, providers=["CPUExecutionProvider"],
            disabled_optimizers=LEFT_OUT,
        )  # fmt: skip
    except Exception as error:
        raise _refused(model.graph.name, error) from None
    return _Fed(active, outside) if outside else active


def accepts(model: onnx.ModelProto) -> bool:
    """Whether ONNX Runtime takes a network."""
    with contextlib.suppress(FlowError):
        session(model)
        return True
    return False


class _Fed:
    """A session that is fed its external constants, mapped from their files, at every run."""

    def __init__(self, active: ort.InferenceSession, outside: Tensors) -> None:
        self._active, self._outside = active, outside

    def get_inputs(self) -> list[Any]:
        return [entry for entry in self._active.get_inputs() if entry.name not in self._outside]

    def get_outputs(self) -> list[Any]:
        return list(self._active.get_outputs())

    def get_modelmeta(self) -> Any:
        return self._active.get_modelmeta()

    def run(self, names: list[str] | None, feeds: Tensors, options: Any = None) -> list[NDArray[Any]]:
        with external.released(self._outside.values()):
            values: list[NDArray[Any]] = self._active.run(names, {**feeds, **self._outside}, options)
        return values


def _refused(name: str, error: Exception, remedy: str = "mend the network, export again") -> FlowError:
    return FlowError(f"ONNX Runtime cannot run network '{name}': {first_line(error)}; {remedy}")


class Sessions:
    """Sessions created once per model and kept as long as this object lives."""

    def __init__(self) -> None:
        self._kept: dict[int, tuple[onnx.ModelProto, ort.InferenceSession]] = {}

    def get(self, model: onnx.ModelProto) -> ort.InferenceSession:
        """The session of `model`; the model is kept too, so that no other model gets its id."""
        if id(model) not in self._kept:
            self._kept[id(model)] = (model, session(model))
        return self._kept[id(model)][1]


def ends(model: onnx.ModelProto, feeds: Mapping[str, NDArray[Any]], seconds: float) -> bool:
    """Whether a run ends, with results or an error, within this time."""
    import onnxruntime as ort

    active, options = session(model), ort.RunOptions()
    timer = threading.Timer(seconds, setattr, (options, "terminate", True))
    timer.start()
    with contextlib.suppress(Exception):
        active.run(None, {entry.name: feeds[entry.name] for entry in active.get_inputs()}, options)
    ended = timer.is_alive()
    timer.cancel()
    return ended


def run(model: onnx.ModelProto | ort.InferenceSession, feeds: Mapping[str, NDArray[Any]]) -> Tensors:
    """All outputs by name; `feeds` may hold more tensors than the model's inputs. FlowError when the run fails."""
    active = session(model) if isinstance(model, onnx.ModelProto) else model
    names = [output.name for output in active.get_outputs()]
    try:
        values = active.run(names, {entry.name: feeds[entry.name] for entry in active.get_inputs()})
    except Exception as error:
        remedy = "give other samples, or mend the network and export it again"
        raise _refused(active.get_modelmeta().graph_name, error, remedy) from None
    found = dict(zip(names, values, strict=True))
    return found if active is model else own(found)


def own(outputs: Mapping[str, Any]) -> Tensors:
    """The outputs in memory of their own: as they are made, they keep all memory of their session."""
    return {name: np.array(value) if isinstance(value, np.ndarray) else value for name, value in outputs.items()}


def batch_size(active: ort.InferenceSession, usual: int = BATCH) -> int:
    """Samples per run: the batch the network's inputs are fixed to, or `usual`."""
    fixed = [entry.shape[0] for entry in active.get_inputs() if entry.shape]
    return min((size for size in fixed if isinstance(size, int)), default=usual)


def as_feeds(names: list[str], x: NDArray[Any] | Mapping[str, NDArray[Any]]) -> Tensors:
    """Arrays by input name; `x` is such a dict, or the array of the only input."""
    return {names[0]: x} if isinstance(x, np.ndarray) else dict(x)


def predict(
    model: onnx.ModelProto | ort.InferenceSession, x: NDArray[Any] | Mapping[str, NDArray[Any]]
) -> NDArray[Any]:
    """The first output for every sample of `x` ([samples, ...], or a dict of such arrays by input name)."""
    active, feeds = _ready(model, x)
    first = active.get_outputs()[0].name
    together = _together(active, feeds, (first,))
    return together[first] if together else joined(_one_by_one(active, feeds, (first,))[first], first)


def predict_all(model: onnx.ModelProto | ort.InferenceSession, x: NDArray[Any] | Mapping[str, NDArray[Any]]) -> Tensors:
    """Every output for every sample of `x`, as `predict`, by name in the network's order.

    An output that is no tensor, or whose shape depends on the sample, is left out.
    """
    active, feeds = _ready(model, x)
    names = [output.name for output in active.get_outputs()]
    found = _together(active, feeds, names)
    rest = [name for name in names if name not in found]
    for name, parts in _one_by_one(active, feeds, rest).items() if rest else ():
        if all(isinstance(part, np.ndarray) for part in parts):
            with contextlib.suppress(FlowError):
                found[name] = joined(parts, name)
    return {name: found[name] for name in names if name in found}


def _ready(
    model: onnx.ModelProto | ort.InferenceSession, x: NDArray[Any] | Mapping[str, NDArray[Any]]
) -> tuple[ort.InferenceSession, Tensors]:
    active = session(model) if isinstance(model, onnx.ModelProto) else model
    return active, as_feeds([entry.name for entry in active.get_inputs()], x)


def _parts(active: ort.InferenceSession, feeds: Tensors, step: int, names: Collection[str]) -> list[Tensors]:
    """These outputs of `step` samples after another."""
    samples = len(next(iter(feeds.values())))
    parts = []
    for start in range(0, samples, step):
        outputs = run(active, {name: array[start : start + step] for name, array in feeds.items()})
        parts.append({name: outputs[name] for name in names})
    return parts


def _one_by_one(active: ort.InferenceSession, feeds: Tensors, names: Collection[str]) -> dict[str, list[NDArray[Any]]]:
    parts = _parts(active, feeds, 1, names)
    return {name: [part[name] for part in parts] for name in names}


def _together(active: ort.InferenceSession, feeds: Tensors, names: Collection[str]) -> Tensors:
    """Those of these outputs that can be computed for many samples at a time: their first axis is the batch."""
    entries = [entry for entry in active.get_outputs() if entry.name in names]
    entries = [entry for entry in entries if not (entry.shape and isinstance(entry.shape[0], int))]
    step, samples = batch_size(active), len(next(iter(feeds.values())))
    batches = {entry.shape[0] for entry in active.get_inputs() if entry.shape} - {None}
    usable = {entry.name: bool(entry.shape) and entry.shape[0] in batches for entry in entries}
    if not all(usable.values()):
        alone = run(active, {name: array[:1] for name, array in feeds.items()})
        shapes = {name: np.shape(alone[name]) if isinstance(alone[name], np.ndarray) else () for name in usable}
        usable = {name: sure or shapes[name][:1] == (1,) for name, sure in usable.items()}
    chosen = [name for name, sure in usable.items() if sure]
    parts = _parts(active, feeds, step, chosen) if chosen else []
    found: Tensors = {}
    for name in chosen:
        arrays = [part[name] for part in parts]
        wanted = [(min(step, samples - number * step), *np.shape(arrays[0])[1:]) for number in range(len(arrays))]
        if all(np.shape(array) == shape for array, shape in zip(arrays, wanted, strict=True)):
            found[name] = np.concatenate(arrays)
    return found


def joined(parts: Sequence[NDArray[Any]], name: str) -> NDArray[Any]:
    """Outputs of one sample each as one array, samples along axis 0; outputs without a batch axis get one in front.

    FlowError where the shape depends on the sample: such outputs cannot be compared.
    """
    if other := next((part.shape for part in parts if part.shape != parts[0].shape), None):
        raise FlowError(
            f"the first output must have one shape for all samples, but '{name}' has {list(parts[0].shape)} and "
            f"{list(other)}; export the network up to what comes before"
        )
    return np.concatenate(parts) if parts[0].ndim and len(parts[0]) == 1 else np.stack(parts)
