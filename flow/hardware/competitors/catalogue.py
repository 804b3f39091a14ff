"""All processing elements by name, with the ports that simulation and synthesis need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from myhdl import Signal, intbv

from flow.hardware.competitors.bitlet import bitlet_pe
from flow.hardware.competitors.bitvert import Operands, bitvert_pe, code_bits
from flow.hardware.competitors.bitwave import bitwave_pe
from flow.hardware.competitors.plain import plain_pe
from flow.hardware.competitors.pragmatic import pragmatic_pe
from flow.hardware.competitors.stripes import stripes_pe
from flow.hardware.competitors.transitive import transitive_pe
from flow.hardware.conversion.bundles import gathered
from flow.hardware.conversion.hierarchy import export, forgotten
from flow.hardware.core.array import operand_register
from flow.hardware.core.bitvert_array import column_control
from flow.hardware.core.pairs_array import LINES, pairs_control
from flow.hardware.core.requantizer import requantizer
from flow.hardware.elements.activation_sum import row_operand
from flow.hardware.elements.bundles import ColumnControl, DrainPort, PairControl, PairOperands, RowOperands
from flow.hardware.elements.pair_tables import pair_tables
from flow.hardware.elements.pairs_pe import pairs_pe
from flow.hardware.elements.parallel_pe import parallel_pe
from flow.hardware.elements.pe import pe
from flow.hardware.elements.scheduler import scheduler

ACCUMULATOR_BITS = 32
WINDOW = 64  # of Bitlet: the 64:1 multiplexers of the BBS paper's comparison


@dataclass(frozen=True)
class Element:
    """A block with the widths of its ports, in their order, its parameters and bundles. Width 1 is a bool."""

    name: str
    make: Callable[..., Any]
    ports: Mapping[str, int]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("result",)
    bundles: Mapping[str, type[Any]] = field(default_factory=dict)

    def signals(self) -> dict[str, Any]:
        """Fresh signals of all ports."""
        return {name: Signal(bool(0)) if width == 1 else Signal(intbv(0)[width:]) for name, width in self.ports.items()}

    def instance(self, **signals: Any) -> Any:
        """The block on the signals of its ports."""
        made = {name: gathered(kind, signals) for name, kind in self.bundles.items()}
        inside = {name for bundle in made.values() for name in vars(bundle)}
        single = {name: signal for name, signal in signals.items() if name not in inside}
        return self.make(**single, **made, **self.parameters)

    def verilog(self, folder: Path) -> tuple[Path, ...]:
        """Its modules, one file each; the top is called `name`."""
        with forgotten():
            return tuple(export(lambda: self.instance(**self.signals()), self.name, folder, "verilog"))

    def vhdl(self, folder: Path) -> tuple[Path, ...]:
        with forgotten():
            return tuple(export(lambda: self.instance(**self.signals()), self.name, folder, "vhdl"))


def _pe(
    name: str,
    make: Callable[..., Any],
    operands: Mapping[str, int],
    controls: Mapping[str, int],
    bundles: Mapping[str, type[Any]] | None = None,
    **parameters: Any,
) -> Element:
    """An element with the clock, accumulator and drain ports that all have."""
    ports = {
        "clk": 1, "enable": 1, **operands, "valid": 1, "first": 1, **controls,
        "capture": 1, "drain": 1, "behind": ACCUMULATOR_BITS, "result": ACCUMULATOR_BITS,
    }  # fmt: skip
    all_bundles: dict[str, type[Any]] = {"port": DrainPort, **(bundles or {})}
    return Element(name, make, ports, {**parameters, "bits": ACCUMULATOR_BITS}, bundles=all_bundles)


def stripes(lanes: int) -> Element:
    operands = {"x": 8 * lanes, "column": lanes, "fine": 2}
    return _pe(f"stripes_{lanes}", stripes_pe, operands, {"negative": 1, "coarse": 1}, lanes=lanes)


def bitvert(group: int, optimized: bool) -> Element:
    """A variant of table IV."""
    count = 16 // group
    operands = {
        "x": 128, "choice": 8 * code_bits(group, optimized), "totals": count * (7 + group.bit_length()), "sum_all": 12,
        "invert": count, "offset": 6, "high": 1, "fine": 2,
    }  # fmt: skip
    name = f"bitvert_{group}_{'optimized' if optimized else 'plain'}"
    controls = {"negative": 1, "scale_high": 1, "coarse": 1}
    return _pe(name, bitvert_pe, operands, controls, {"operands": Operands}, group=group, optimized=optimized)


def plain(lanes: int) -> Element:
    """A plain INT8 dot product of so many weights."""
    return _pe(f"plain_{lanes}", plain_pe, {"activations": 8 * lanes, "weights": 8 * lanes}, {}, lanes=lanes)


def pairs(per_cycle: int) -> Element:
    """The pairs element with so many bit columns a cycle."""
    operands = {
        "single": 128, "both": 72, "total": 12, "triple": 14, "picks": LINES * per_cycle, "fine": 2, "size": 4,
        "coarse": 1, "minus": 1, "high": 1, "negative": 1,
    }  # fmt: skip
    bundles = {"row": PairOperands, "column": PairControl}
    return _pe(f"pairs_{per_cycle}", pairs_pe, operands, {}, bundles, per_cycle=per_cycle)


def _pairs_control(per_cycle: int) -> Element:
    outputs = {"picks": LINES * per_cycle, "fine": 2, "size": 4, "coarse": 1, "minus": 1, "high": 1}
    return Element(
        f"pairs_control_{per_cycle}", pairs_control,
        {"clk": 1, "enable": 1, "bits": 16 * per_cycle, "metadata": 8, "low_phase": 1, "high_phase": 1,
         "significance": 3, **outputs},
        {"per_cycle": per_cycle}, tuple(outputs), {"control": PairControl},
    )  # fmt: skip


OURS = _pe(
    "bitvert",
    pe,
    {"x_low": 64, "x_high": 64, "select_low": 12, "select_high": 12, "sum_low": 11, "sum_high": 11, "sum_all": 12,
     "invert_low": 1, "invert_high": 1, "piece": 3, "high": 1, "fine": 2},
    {"negative": 1, "scale_high": 1, "coarse": 1},
    {"row": RowOperands, "column": ColumnControl},
)  # fmt: skip
PARALLEL = _pe("parallel", parallel_pe, {"x": 8, "weight": 8}, {})  # the plain INT8 element
PRAGMATIC = _pe("pragmatic", pragmatic_pe, {"x": 64, "power": 24, "signs": 8, "busy": 8}, {})
BITLET = _pe("bitlet", bitlet_pe, {"x": 8 * WINDOW, "choice": 8 * WINDOW.bit_length()}, {}, window=WINDOW)
BITWAVE = _pe("bitwave", bitwave_pe, {"x": 64, "column": 8, "signs": 8, "fine": 2}, {"coarse": 1})
TRANSITIVE = replace(
    _pe("transitive", transitive_pe, {"x": 8, "prefix": 12, "total": 12, "fine": 2}, {"negative": 1, "coarse": 1}),
    outputs=("result", "total"),
)
VARIANTS = tuple(bitvert(group, optimized) for group in (16, 8, 4) for optimized in (False, True))
ELEMENTS = (stripes(8), stripes(16), PRAGMATIC, BITLET, BITWAVE, TRANSITIVE, OURS)

# What the PEs of a row or a column share, not counted in a PE, and what the lanes that leave the array go through.
SCHEDULER = Element(
    "scheduler", scheduler, {"clk": 1, "enable": 1, "bits": 8, "choice": 12, "invert": 1}, outputs=("choice", "invert")
)
OPERANDS = Element(
    "row_operand", row_operand,
    {"clk": 1, "enable": 1, "load": 1, "word": 128, "x_low": 64, "x_high": 64, "sum_low": 11, "sum_high": 11,
     "sum_all": 12},
    outputs=("x_low", "x_high", "sum_low", "sum_high", "sum_all"),
    bundles={"row": RowOperands},
)  # fmt: skip
REQUANTIZER = Element(
    "requantizer", requantizer,
    {"clk": 1, "enable": 1, "result": ACCUMULATOR_BITS, "bias": 32, "multiplier": 24, "shift": 6, "raw": 1, "zero": 8,
     "passing": 1, "low": 8, "high": 8, "octet": 8},
    {"bits": ACCUMULATOR_BITS},
    outputs=("octet",),
)  # fmt: skip

# What rows and columns of an array share, by element.
PAIR_TABLES = Element(
    "pair_tables", pair_tables,
    {"clk": 1, "enable": 1, "load": 1, "word": 128, "single": 128, "both": 72, "total": 12, "triple": 14},
    outputs=("single", "both", "total", "triple"),
    bundles={"row": PairOperands},
)  # fmt: skip
PAIRS_CONTROLS = tuple(_pairs_control(per_cycle) for per_cycle in (1, 2, 4))
_CHOICES = {
    "select_low": 12, "select_high": 12, "invert_low": 1, "invert_high": 1, "piece": 3, "high": 1, "fine": 2,
    "scale_high": 1, "coarse": 1,
}  # fmt: skip
COLUMN_CONTROL = Element(
    "column_control", column_control,
    {"clk": 1, "enable": 1, "bits": 16, "metadata": 8, "low_phase": 1, "high_phase": 1, "significance": 3, **_CHOICES},
    outputs=tuple(_CHOICES),
    bundles={"control": ColumnControl},
)  # fmt: skip
OCTET_REGISTER = Element("octet_register", operand_register, {"clk": 1, "enable": 1, "d": 8, "q": 8}, outputs=("q",))
PAIRS = tuple(pairs(per_cycle) for per_cycle in (1, 2, 4))
PLAINS = tuple(plain(lanes) for lanes in (1, 2, 4, 8))
