"""A network that was read becomes one that the flow can use: checked, one sample at a time, in standard ONNX."""

from __future__ import annotations

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
from flow.onnxtools import runtime
from flow.onnxtools.draws import random_nodes
from flow.onnxtools.graph import graph_inputs, node_name


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
        standard, changes = standard_quantization(taken, place)
        check(standard, place)
    except FlowError as error:
        if (sizes := chosen_sizes(model, taken)) and runtime.accepts(model):
            raise FlowError(_misfit(taken, place, sizes, samples, str(error))) from None
        raise
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
