"""The user's network: from a file, or in memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from flow.frontend import load
from flow.frontend.checks import check
from flow.network import samples


@dataclass(frozen=True)
class Source:
    """The user's network: the model, its name, and its file if it has one."""

    model: onnx.ModelProto
    name: str
    file: Path | None

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
    """A network from a file or from memory, unchanged. FlowError when it cannot be read."""
    if isinstance(model, onnx.ModelProto):
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in model.graph.name)
        return Source(load.from_memory(model), name or "network", None)
    return Source(load.read(model), model.stem, model)
