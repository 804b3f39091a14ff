"""The user's network: from a file, or in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import onnx

from flow.frontend import admit
from flow.frontend.entry import load
from flow.frontend.entry.intake import Shape
from flow.network import samples
from flow.network.preprocess import prepare
from flow.network.usercode import UserFunction


@dataclass(frozen=True)
class Source:
    """The user's network: the model, its name, its file if it has one, and notes on how it was taken.

    `given`: the model as it came, for ONNX Runtime, if its quantization was not in standard form. `preprocess` makes
    inputs of samples; `prepared` keeps what it has made, by role.
    """

    model: onnx.ModelProto
    name: str
    file: Path | None
    notes: tuple[str, ...] = ()
    given: onnx.ModelProto | None = field(default=None, repr=False)
    preprocess: UserFunction | None = None
    prepared: dict[str, samples.Source] = field(default_factory=dict, repr=False)

    @property
    def place(self) -> str:
        """The origin of the network, for messages."""
        return str(self.file or self.name)

    def admitted(
        self, shapes: Mapping[str, Shape] = MappingProxyType({}), given: Sequence[samples.Source | None] = ()
    ) -> Source:
        """This source, its network taking one sample at a time, quantized in standard form. FlowError if unusable.

        Open axes get the sizes of `shapes`, or else those of the samples `given`.
        """
        known = [samples.arrays(each) for each in given if each is not None]
        taken = admit.admit(self.model, self.place, shapes, known)
        return replace(self, model=taken.model, notes=tuple(taken.notes), given=taken.given)

    def samples(self, given: samples.Source | None, role: str) -> samples.Source | None:
        """The `given` samples, or those of the file MODEL_<role>.npz beside the network's file, if there is one.

        With a function to preprocess them, what that makes of them, once for each role.
        """
        if given is None and self.file is not None:
            given = samples.beside(self.file, role)
        if given is None or self.preprocess is None or isinstance(given, samples.Prepared):
            return given
        if role not in self.prepared:
            self.prepared[role] = prepare(self.preprocess, given, "evaluation" if role == "test" else role)
        return self.prepared[role]


def read_source(model: Path | onnx.ModelProto, lean: bool = False) -> Source:
    """A network from a file or from memory, unchanged; `lean`: see `load.read`. FlowError when it cannot be read."""
    if isinstance(model, onnx.ModelProto):
        name = "".join(c if c.isalnum() or c in "-_." else "_" for c in model.graph.name)
        return Source(load.from_memory(model, lean), name or "network", None)
    return Source(load.read(model, lean), model.stem, model)
