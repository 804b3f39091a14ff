"""The user's samples for calibration and evaluation, checked against the network's inputs."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from flow.errors import FlowError, first_line
from flow.files import sha256
from flow.network import madeup
from flow.network.metrics import TEXT, Metric, as_text
from flow.onnxtools.graph import graph_inputs

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Prepared:
    """Arrays that the user's function made of the samples in `place`, a file or a folder."""

    arrays: Arrays
    place: str


Source = Path | Arrays | Prepared  # an .npz file, or its arrays
RANDOM_SEED = 0
MADE_UP = f"made-up input (random, seed {RANDOM_SEED})"  # the source of such samples
LABELS = "y"  # the array of labels among the samples
MOST_INFLATED = 2**30  # bytes


@dataclass(frozen=True)
class Samples:
    """`feeds` by input name, [count, ...] each; `labels` [count, ...] or None; `source`: their origin, in words.

    `named`: labels of single outputs [count, ...], as `y_NAME`. `metric`: the one that the user asks for. `others`:
    arrays named as labels of an output that there is not.
    """

    feeds: Arrays
    labels: NDArray[Any] | None
    source: str
    made_up: bool = False  # random samples, because the user has none
    named: Arrays = field(default_factory=dict)
    metric: Metric | None = None
    others: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return len(next(iter(self.feeds.values())))

    def one(self, number: int) -> Arrays:
        """A batch of one."""
        return {name: array[number : number + 1] for name, array in self.feeds.items()}

    def digest(self) -> str | None:
        """The sha256 of inputs and labels."""
        return digest(self.feeds | self.every_label)

    @property
    def every_label(self) -> Arrays:
        """All labels, named as in a file: `y`, `y_NAME`."""
        return self.named | ({} if self.labels is None else {LABELS: self.labels})

    def with_labels(self, labels: Arrays) -> Samples:
        """The samples with these labels, named as in a file."""
        named = {name: array for name, array in labels.items() if name != LABELS}
        return replace(self, labels=labels.get(LABELS), named=named)

    def first(self, count: int) -> Samples:
        labels = None if self.labels is None else self.labels[:count]
        feeds, named = ({name: array[:count] for name, array in arrays.items()} for arrays in (self.feeds, self.named))
        return replace(self, feeds=feeds, labels=labels, named=named)


def beside(model: Path, suffix: str) -> Path | None:
    """The file MODEL_<suffix>.npz next to MODEL.onnx, if there is one."""
    path = model.with_name(f"{model.stem}_{suffix}.npz")
    return path if path.is_file() else None


def load(source: Source, model: onnx.ModelProto, what: str) -> Samples:
    """Samples for `model` from an .npz file or arrays, with the labels `y`, and `y_NAME` of output NAME, if any.

    FlowError as in `load_arrays` and `check_samples`, or when there is not one label for each sample.
    """
    found, origin = arrays(source), place(source, what)
    where = source if isinstance(source, Path) else origin
    feeds = check_samples(model, found, what)
    own = {f"{LABELS}_{value.name}" for value in model.graph.output}
    labels = {name: array for name, array in found.items() if name == LABELS or name in own}
    labels = {name: array for name, array in labels.items() if name not in feeds}  # an input may have that name
    count = len(next(iter(feeds.values())))
    for name, array in labels.items():
        if not array.ndim or len(array) != count:
            many = f"{len(array)} labels" if array.ndim else "a single value as labels"
            raise FlowError(
                f"{what} labels must be one for each sample, but '{where}' has {many} `{name}` for {count} samples; "
                "cut them to one length"
            )
    others = tuple(name for name in found if name.startswith(f"{LABELS}_") and name not in own and name not in feeds)
    return Samples(feeds, labels.pop(LABELS, None), origin, named=labels, others=others)


def label_key(labels: Mapping[str, NDArray[Any]], output: str) -> str:
    """The name of an output's labels: `y_NAME` if there are such, else `y`."""
    own = f"{LABELS}_{output}"
    return own if own in labels else LABELS


def place(source: Source, what: str) -> str:
    """Where samples are from, in words."""
    if isinstance(source, (Path, Prepared)):
        return source.name if isinstance(source, Path) else source.place
    return f"the {what} arrays"


def random(model: onnx.ModelProto, count: int) -> Samples:
    """Seeded random samples, for a user who has none, of the kinds that the network tells; see madeup.py."""
    return Samples(madeup.inputs(model, count, RANDOM_SEED), None, MADE_UP, made_up=True)


def arrays(source: Source) -> Arrays:
    """The arrays of samples by name. FlowError as `load_arrays`."""
    if isinstance(source, Prepared):
        return source.arrays
    return load_arrays(source) if isinstance(source, Path) else source


def digest(source: Source) -> str | None:
    """The sha256 of an .npz file or of arrays; None if the file does not exist."""
    if isinstance(source, Path):
        return sha256(source) if source.is_file() else None
    sha = hashlib.sha256()
    for name, array in sorted(arrays(source).items()):
        sha.update(f"{name}{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


def load_arrays(path: str | Path) -> Arrays:
    """The arrays of an .npz file by name: `x` (or the network's input names), and `y` where there are labels.

    FlowError: no such file, not an .npz, empty, or pickled Python objects inside.
    """
    file = Path(path)
    if file.is_dir():
        raise FlowError(
            f"samples must be an .npz file, but '{file}' is a folder; add --preprocess FILE.py:FUNCTION, which makes "
            "the network's inputs of each of its files"
        )
    if not file.is_file():
        raise FlowError(f"samples must be an .npz file, but there is no file '{file}'; check the path")
    try:
        if not zipfile.is_zipfile(file):
            raise FlowError(f"'{file}' is not an .npz archive; save the samples with numpy.savez(x=...)")
        _check_archive(file)
        with np.load(file, allow_pickle=False) as archive:
            arrays: Arrays = {name: archive[name] for name in archive.files}
    except FlowError:
        raise
    except Exception as error:  # zip, NumPy's header parser and memory fail in many ways
        if "pickle" in str(error):
            raise FlowError(
                f"samples must be plain arrays, but '{file}' holds pickled data; save numeric arrays with numpy.savez"
            ) from None
        raise FlowError(
            f"'{file}' cannot be read as .npz: {first_line(error)}; save it again with numpy.savez"
        ) from None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise FlowError(f"samples must be arrays, but '{name}' of '{file}' is no .npy file; save with numpy.savez")
    if not arrays:
        raise FlowError(f"'{file}' holds no arrays; save the samples with numpy.savez(x=...)")
    return arrays


def _check_archive(file: Path) -> None:
    """FlowError for an archive that is small but inflates beyond `MOST_INFLATED`."""
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if entry.file_size > max(MOST_INFLATED, 100 * entry.compress_size):
                raise FlowError(
                    f"samples may not inflate more than a hundredfold, but '{entry.filename}' of '{file}' grows from "
                    f"{entry.compress_size:,} bytes to {entry.file_size / 2**30:.1f} GiB; save it with numpy.savez"
                )


def check_samples(model: onnx.ModelProto, samples: NDArray[Any] | Mapping[str, NDArray[Any]], what: str) -> Arrays:
    """Samples [count, ...] by input name, in the types and shapes of the model's inputs.

    A bare array, or `x` of a dict, feeds a network of one input; `y` is left out. `what` ("calibration")
    names the samples in messages. FlowError: missing input, wrong type or shape, NaN or infinity, no samples.
    """
    inputs = graph_inputs(model)
    by_name = {"x": samples} if isinstance(samples, np.ndarray) else dict(samples)
    feeds: Arrays = {}
    for value in inputs:
        array = by_name.get(value.name, by_name.get("x") if len(inputs) == 1 else None)
        if array is None:
            raise FlowError(
                f"{what} samples must name every input, but '{value.name}' is missing among {sorted(by_name)}; "
                "add an array of that name"
            )
        if array.dtype.kind in TEXT and value.type.tensor_type.elem_type == TensorProto.STRING:
            array = as_text(array)
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        _check_array(value, array, what)
        feeds[value.name] = array
    counts = {name: len(array) for name, array in feeds.items()}
    if len(set(counts.values())) > 1:
        raise FlowError(f"{what} arrays must hold equally many samples, but they hold {counts}; cut them to one length")
    return feeds


def _check_array(value: onnx.ValueInfoProto, array: NDArray[Any], what: str) -> None:
    tensor = value.type.tensor_type
    text = tensor.elem_type == TensorProto.STRING
    kind = "str" if text else str(np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)))
    if array.dtype.kind != "U" if text else array.dtype != kind:
        raise FlowError(
            f"{what} samples for input '{value.name}' must be {kind}, but they are {array.dtype}; "
            f"convert them with astype('{kind}')"
        )
    shape = [dim.dim_value for dim in tensor.shape.dim][1:]
    if list(array.shape[1:]) != shape or array.ndim != len(tensor.shape.dim):
        raise FlowError(
            f"{what} samples for input '{value.name}' must have shape {['samples', *shape]}, but they have "
            f"{list(array.shape)}; reshape them"
        )
    if len(array) == 0:
        raise FlowError(f"{what} needs at least one sample for input '{value.name}', but there are 0; add samples")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise FlowError(
            f"{what} samples for input '{value.name}' must be finite, but "
            f"{np.count_nonzero(~np.isfinite(array))} values are NaN or infinite; clean the file"
        )
