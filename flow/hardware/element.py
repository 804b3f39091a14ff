"""Processing elements by name: what of each the rest of the flow needs, and how others are added.

An element of another package is registered by its entry point in the group `bbs_flow.elements`, whose object is an
`Element`, or for one process by `register`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any, Final

from flow.errors import FlowError
from flow.hardware.fields import SUBGROUP

GROUP: Final = "bbs_flow.elements"


@dataclass(frozen=True)
class Element:
    """One kind of element.

    name           of `ArrayConfig.pe`; the accelerator's module carries it
    array          the array block, with the parameters of flow/hardware/core/array.py, or where it is: "module:name"
    step           weights of one channel that it takes together, 8 or 16: `step` bits of a weight word for each array
                   column, step / 8 words of activations
    least_columns  bit columns that must at least be stored
    encoded        its weights are encoded: N columns pruned, and a metadata byte for each group of 32 weights, read
                   with every second step of 16. Otherwise all eight columns are stored, and there is no metadata
    parallel       a weight word holds one whole weight for each array column, and the eight columns of a step are its
                   eight weights. Otherwise it holds one bit of each of the `step` weights
    maps           whether it goes with feature maps on chip, whose windows come 16 channels at a time
    per_cycle      how many bit columns of a step it can take a cycle, one of which `ArrayConfig` names; a weight word
                   holds so many
    signed_digits  the constant d comes as low + 8 high with low -4 to 3, and not 0 to 7; the first cycle of a step
                   brings the low one, the second the high one
    words          packs a block's weight and metadata words, as `weight_words` of flow/scheduling/words.py, which does
                   it if this is None
    faults         of its blocks, for flow/hardware/faults.py: by block (kind, pattern, replacement)
    """

    name: str
    array: str | Callable[..., Any]
    step: int
    least_columns: int = 1
    encoded: bool = False
    parallel: bool = False
    maps: bool = False
    per_cycle: Sequence[int] = (1,)
    signed_digits: bool = False
    words: Callable[..., Any] | None = None
    faults: Mapping[str, Sequence[tuple[str, str, str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise FlowError(f"an element's name is part of a module's: '{self.name}' must be letters, digits and _")
        if self.parallel and (self.encoded or self.step != SUBGROUP):
            raise FlowError(f"element '{self.name}' takes whole weights: they must be eight, and not encoded")
        if self.step not in (SUBGROUP, 2 * SUBGROUP) or (self.encoded and self.step != 2 * SUBGROUP):
            raise FlowError(f"element '{self.name}' takes {self.step} weights: it must be 8, or 16, encoded always 16")
        if not set(self.per_cycle) <= {1, 2, 4} or (self.parallel and set(self.per_cycle) != {1}):
            raise FlowError(
                f"element '{self.name}' takes {', '.join(map(str, self.per_cycle))} bit columns a cycle: it must be 1, "
                "2 or 4, of whole weights 1"
            )

    @property
    def block(self) -> Callable[..., Any]:
        """The array block."""
        if not isinstance(self.array, str):
            return self.array
        module, _, name = self.array.partition(":")
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return found

    def metadata_words(self, steps: int) -> int:
        """Words of metadata for so many steps: one for a group, which is two steps."""
        return -(-steps // 2) if self.encoded else 0


BITVERT: Final = Element(
    "bitvert", "flow.hardware.core.bitvert_array:bitvert_array", 16,
    least_columns=2,  # the two pieces of a constant take a column each
    encoded=True, maps=True,
)  # fmt: skip
DENSE: Final = Element("dense", "flow.hardware.core.dense_array:dense_array", 8)
PARALLEL: Final = Element("parallel", "flow.hardware.core.parallel_array:parallel_array", 8, parallel=True)
PAIRS: Final = Element(
    "pairs", "flow.hardware.core.pairs_array:pairs_array", 16,
    least_columns=2,  # so that a step takes two cycles at least: one for each digit of a constant
    encoded=True, maps=True, per_cycle=(1, 2, 4), signed_digits=True,
)  # fmt: skip

_registered: dict[str, Element] = {element.name: element for element in (BITVERT, DENSE, PARALLEL, PAIRS)}


def register(element: Element) -> None:
    """Make an element known in this process. FlowError if another one has its name."""
    if _registered.setdefault(element.name, element) is not element:
        raise FlowError(f"there is an element '{element.name}' already; give this one another name")


def elements() -> dict[str, Element]:
    """All that are known, by name: ours, those of `register`, those of entry points."""
    for entry in entry_points(group=GROUP):
        if entry.name not in _registered:
            register(entry.load())
    return dict(_registered)


def loaded() -> tuple[Element, ...]:
    """Those that a design of this process can have: no package is searched for others, which takes long."""
    return tuple(_registered.values())


def element_of(name: str) -> Element:
    """The element of a name; FlowError with all names if there is none."""
    found = _registered.get(name) or elements().get(name)
    if found is None:
        raise FlowError(f"unknown PE kind '{name}': choose one of {', '.join(elements())}")
    return found
