"""A network that was read becomes one that the flow can use: checked, one sample at a time, in standard ONNX."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx
from numpy.typing import NDArray

from flow.errors import FlowError
from flow.frontend.dialects.standard import standard_quantization
from flow.frontend.entry.batch import fix_batch
from flow.frontend.entry.checks import check, check_form
from flow.frontend.entry.intake import WHOLE, Shape, chosen_sizes, selectors, take
from flow.frontend.entry.load import read
from flow.frontend.preparation.upgrade import in_float32, upgraded
from flow.onnxtools import runtime
from flow.onnxtools.draws import random_nodes
from flow.onnxtools.graph import graph_inputs, node_name, opset

BLOCKED = "com.microsoft.nchwc"  # domain of operators on blocks of channels


@dataclass(frozen=True)
class Admitted:
    """The network, notes for the user, and the network before its quantization was made standard, if it was."""

    model: onnx.ModelProto
    notes: list[str]
    given: onnx.ModelProto | None


def admit(
    model: onnx.ModelProto,
    place: str,
    asked: Mapping[str, Shape] = MappingProxyType({}),
    samples: Sequence[Mapping[str, NDArray[Any]]] = (),
) -> Admitted:
    """A network that was read, made usable; `place` is the file named in messages, the rest as for `intake.take`.

    FlowError: invalid, too old, operators ONNX Runtime does not have, inputs that are not tensors, or sizes that are
    not known.
    """
    check_form(model, place)
    taken, notes = take(model, place, asked, samples)
    try:
        standard, changes = _standard(taken, place)
    except FlowError as error:
        if (other := _runnable(taken)) is not None:
            taken, note = other
            notes.append(note)
            standard, changes = _standard(taken, place)
        elif (sizes := chosen_sizes(model, taken)) and runtime.accepts(model):
            raise FlowError(_misfit(taken, place, sizes, samples, str(error))) from None
        else:
            raise
    if blocked := sum(node.domain == BLOCKED for node in taken.graph.node):
        changes.append(
            f"{blocked} operators have the layout of one processor ({BLOCKED}), and stay on the host: give the network "
            "that ONNX Runtime made this of, or save it with ORT_ENABLE_EXTENDED."
        )
    if drawn := random_nodes(taken):
        names = ", ".join(f"'{node_name(node)}'" for node in drawn)
        changes.append(
            f"Random numbers ({names}) are the same in every run here, so that networks can be compared; the networks "
            "that are written draw them."
        )
    if why := fix_batch(standard):
        changes.append(f"The batch is fixed to one sample: {why}.")
    if standard is not taken:
        fix_batch(taken)  # where one scale is of all samples, and made static in the standard form
    return Admitted(standard, [*notes, *changes], None if standard is taken else taken)


def _runnable(taken: onnx.ModelProto) -> tuple[onnx.ModelProto, str] | None:
    """A network that ONNX Runtime does not run as one that it runs, and a note on what was changed; None otherwise.

    It lacks kernels of float64 and bfloat16, and of operators of old operator sets.
    """
    if runtime.accepts(taken):
        return None
    single = in_float32(taken)
    if single is not taken and runtime.accepts(single):
        return (
            single,
            "The network given is computed in float32: ONNX Runtime lacks some of its operators in its own type.",
        )
    with contextlib.suppress(FlowError):
        newer = upgraded(single)
        if newer is not single and runtime.accepts(newer):
            words = f"The network given is computed as one of opset {opset(newer)}: ONNX Runtime lacks older operators."
            return newer, words
    return None


def _standard(taken: onnx.ModelProto, place: str) -> tuple[onnx.ModelProto, list[str]]:
    """The network with its quantization in standard form, checked, and what was changed."""
    standard, changes = standard_quantization(taken, place)
    check(standard, place)
    return standard, changes


def _misfit(
    taken: onnx.ModelProto, place: str, sizes: list[str], samples: Sequence[Mapping[str, Any]], reason: str
) -> str:
    """That a network which runs does not run with the sizes chosen, and what may help."""
    reason = reason.removeprefix(f"'{place}': ").partition("; mend the network")[0]
    numbers = [value.name for value in graph_inputs(taken) if value.type.tensor_type.elem_type in WHOLE]
    if selecting := sorted(selectors(taken, numbers)):
        names = ", ".join(f"'{name}'" for name in selecting)
        remedy = f"{names} selects a branch of an If: pass --calibration FILE.npz with one value of it in all samples"
        remedy += "" if samples else ", for 'bbs inspect', too"
    else:
        remedy = "give other sizes with --shape, or samples of other sizes"
    return f"'{place}' does not run with {' and '.join(sizes)}: {reason}; {remedy}"


def load(path: str | Path) -> onnx.ModelProto:
    """The network of an ONNX file, with its external data, made usable; see `admit`. FlowError if it cannot be read."""
    return admit(read(path), str(path)).model
