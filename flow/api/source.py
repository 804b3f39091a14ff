"""The user's network: from a file, or in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import onnx

from flow.frontend import load
from flow.frontend.checks import check
from flow.frontend.dialects import standard_quantization
from flow.network import samples


@dataclass(frozen=True)
class Source:
    """The user's network: the model, quantized in standard form, its name, and its file if it has one.

    `notes`: what the standard form changed. `given`: the model as it came, for ONNX Runtime to compute its answers.
    """

    model: onnx.ModelProto
    name: str
    file: Path | None
    notes: tuple[str, ...] = ()
    given: onnx.ModelProto | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """The origin of the network, for messages."""
        return str(self.file or self.name)

    def checked(self) -> Source:
        """This source. FlowError if the network cannot be used."""
        check(self.model, self.place)
        return self

    def samples(self, given: samples.Source | None, role: str) -> samples.Source | None:
        """The `given` samples, or those of the file MODEL_<role>.npz beside the network's file, if there is one."""
        if given is not None or self.file is None:
            return given
        return samples.beside(self.file, role)


def read_source(model: Path | onnx.ModelProto) -> Source:
    """A network from a file or from memory, its quantization in standard form. FlowError when it cannot be read."""
    if isinstance(model, onnx.ModelProto):
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in model.graph.name)
        return _standard(load.from_memory(model), name or "network", None)
    return _standard(load.read(model), model.stem, model)


def _standard(given: onnx.ModelProto, name: str, file: Path | None) -> Source:
    model, notes = standard_quantization(given, str(file or name))
    return Source(model, name, file, tuple(notes), None if model is given else given)
