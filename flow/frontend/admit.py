"""A network that was read becomes one that the flow can use: checked, one sample at a time, in standard ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import onnx
from numpy.typing import NDArray

from flow.frontend.dialects.standard import standard_quantization
from flow.frontend.entry.checks import check, check_form
from flow.frontend.entry.intake import Shape, take
from flow.frontend.entry.load import read


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
    standard, changes = standard_quantization(taken, place)
    check(standard, place)
    return Admitted(standard, [*notes, *changes], None if standard is taken else taken)


def load(path: str | Path) -> onnx.ModelProto:
    """The network of an ONNX file, with its external data, made usable; see `admit`. FlowError if it cannot be read."""
    return admit(read(path), str(path)).model
