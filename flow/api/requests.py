"""One request for each verb, of options that several of them share."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from flow.api.options import (
    FUNCTION,
    METRIC,
    NETWORK,
    PATH,
    PRUNING,
    REAL,
    SAMPLES,
    SHAPES,
    SIZE,
    SWITCH,
    TEXT,
    WEIGHTS,
    WHOLE,
    Request,
    argument,
    option,
)
from flow.compression.allocate import PRESETS
from flow.compression.choice import BITS, ENERGY, OBJECTIVES, Choice, Pruning, complete
from flow.compression.effort import EFFORTS, USUAL
from flow.compression.encoding import BBS
from flow.compression.prune import METHODS
from flow.compression.refine import REFINEMENTS
from flow.errors import FlowError
from flow.files import neighbour
from flow.frontend.quantization.calibrate import AUTO, CHOICES
from flow.frontend.quantization.calibrate import check as check_method
from flow.hardware import faults
from flow.hardware.axi.bus import AxiConfig, fitting_bits
from flow.hardware.config import PE_KINDS, ArrayConfig
from flow.hardware.element import BITVERT
from flow.network.metrics import METRICS, Metric
from flow.network.usercode import UserFunction
from flow.scheduling.bus.bursts import SlowMemory
from flow.scheduling.energy import energy_on
from flow.scheduling.pieces import check_coverage
from flow.simulation.engines import ENGINES
from flow.simulation.engines.base import FORMS
from flow.simulation.workers.open import check as check_workers

SampleSource = Path | dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False, kw_only=True)
class OutputWeightOption(Request):
    output_weight: dict[str, float] | None = option(
        WEIGHTS, None, "Budget: how much an output counts; repeatable. Default: 1 each.", metavar="NAME=WEIGHT",
        recorded=False,
    )  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class PruningOptions(OutputWeightOption):
    """How much to prune: `pruning` follows from the other options, or is passed itself."""

    bits: float | None = option(
        REAL, None, "Budget: bits per weight on average; default: 5.", metavar="B", recorded=False
    )
    speedup: float | None = option(
        REAL, None, "Budget: at least so much faster than dense PEs on the array.", metavar="X", recorded=False
    )
    cycles: int | None = option(
        WHOLE, None, "Budget: at most so many cycles a sample on the array.", metavar="CYCLES", recorded=False
    )
    max_drop: float | None = option(
        REAL, None, "Fewest bits (or --objective) that lose no more top-1 than this.", metavar="POINTS", recorded=False
    )
    objective: str | None = option(
        TEXT, None, f"What --max-drop makes few: {', '.join(OBJECTIVES)}; default bits.", metavar="NAME",
        recorded=False,
    )  # fmt: skip
    block: int | None = option(
        WHOLE, None, "Channels that share one N; default: the array's columns.", metavar="C", recorded=False
    )
    effort: int | None = option(
        WHOLE,
        None,
        f"Budget: how long to try, 0 to {len(EFFORTS) - 1}; default {USUAL}.",
        metavar="LEVEL",
        recorded=False,
    )
    bias_correction: bool = option(SWITCH, True, "Budget: leave the biases.", recorded=False)
    compensation: bool = option(SWITCH, True, "Budget: round every weight by itself.", recorded=False)
    scale_search: bool = option(SWITCH, True, "Budget: leave the weight scales.", recorded=False)
    preset: str | None = option(
        TEXT, None, f"The paper's rule: one of {', '.join(PRESETS)}.", metavar="NAME", recorded=False
    )
    columns: int | None = option(
        WHOLE, None, f"Bit columns to prune, 0 to {BBS.max_columns_pruned}.", metavar="N", recorded=False
    )
    sensitive: float | None = option(
        REAL, None, "Share of channels left whole, 0 to 1.", metavar="BETA", recorded=False
    )
    method: str | None = option(TEXT, None, f"One of {', '.join(METHODS)}.", metavar="NAME", recorded=False)
    pruning: Pruning | None = option(PRUNING, None, "A Pruning, or the name of a preset.", flag=None)

    def check(self) -> None:
        names = ("preset", "columns", "sensitive", "method", "bits", "max_drop", "block", "output_weight", "speedup",
                 "cycles", "objective", "effort")  # fmt: skip
        values = {name: getattr(self, name) for name in names}
        switches = (self.bias_correction, self.compensation, self.scale_search)
        if self.pruning is None:
            on = dict(zip(("bias", "compensation", "scales"), switches, strict=True))
            refinements = tuple(name for name in REFINEMENTS if on[name])
            object.__setattr__(self, "pruning", complete(Choice(**values, means=refinements)))
        elif any(value is not None for value in values.values()) or not all(switches):
            raise FlowError("'pruning' came together with options that it consists of; give one or the other")
        super().check()

    @property
    def chosen(self) -> Pruning:
        """The pruning that the options describe."""
        assert self.pruning is not None
        return self.pruning

    def command(self, verb: str, *left_out: str, **values: Any) -> str:
        """See `Request.command`: how much to prune is spelled from `pruning`, however it was given."""
        return super().command(verb, *left_out, **pruning_options(self.chosen), **values)


def pruning_options(chosen: Pruning) -> dict[str, Any]:
    """The options of `PruningOptions` that stand for a pruning."""
    by_preset = chosen.name in PRESETS
    names = ("columns", "sensitive", "method", "bits", "speedup", "cycles", "max_drop", "block", "output_weight")
    own = {name: None if by_preset or (name, chosen.name) == ("bits", "default") else getattr(chosen, name)
           for name in names}  # fmt: skip
    switches = {"bias_correction": "bias", "compensation": "compensation", "scale_search": "scales"}
    on = {option: refinement in chosen.means or not chosen.budgeted for option, refinement in switches.items()}
    effort = chosen.effort if chosen.budgeted and chosen.effort != USUAL else None
    asked = chosen.objective if chosen.max_drop is not None and chosen.objective != BITS else None
    return {**own, **on, "preset": chosen.name if by_preset else None, "objective": asked, "effort": effort}


NOT_AGAIN = ("resume", "processes", "scheduler")  # how a run is done, which those who repeat it choose anew


@dataclass(frozen=True, eq=False, kw_only=True)
class NetworkOptions(Request):
    """The network, and what it needs to run: sizes of its open axes, samples to quantize it with."""

    model: Path | onnx.ModelProto = argument(NETWORK, "MODEL.onnx", "The network.")
    shape: dict[str, tuple[int, ...]] | None = option(
        SHAPES, None, "Sizes of an input's axes, or of an axis by its symbol; repeatable. Default: the samples' sizes.",
        metavar="NAME=SIZE,...",
    )  # fmt: skip
    calibration: SampleSource | None = option(
        SAMPLES, None, "Samples x to quantize and tune with; default: MODEL_calibration.npz.", metavar="FILE.npz"
    )
    preprocess: UserFunction | None = option(
        FUNCTION, None, "Your function that makes inputs of samples: of a dict of arrays, or of each file of a folder.",
        metavar="FILE.py:FUNCTION",
    )  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class DataOptions(NetworkOptions):
    """Samples: files, or arrays; and what is made of them."""

    calibrate: str = option(
        TEXT, AUTO, f"How ranges of activations are found: {', '.join(CHOICES)}; default {AUTO}.", metavar="METHOD"
    )
    evaluate: SampleSource | None = option(
        SAMPLES, None, "Samples x and labels y to evaluate and simulate; default: MODEL_test.npz.", metavar="FILE.npz"
    )

    def check(self) -> None:
        check_method(self.calibrate)
        super().check()


@dataclass(frozen=True, eq=False, kw_only=True)
class MetricOption(Request):
    metric: Metric | None = option(
        METRIC, None,
        f"How labels and outputs are compared: {', '.join(METRICS)}, or your function; default: as they tell.",
        metavar="NAME|FILE.py:FUNCTION",
    )  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class ArrayOption(Request):
    array: tuple[int, int] | None = option(
        SIZE, None,
        "Size of the array; default 16x32, 4x4 for the slow engines. As many channels as columns share one N.",
        metavar="ROWSxCOLUMNS",
    )  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class SimulationOptions(Request):
    """The engine, the workers and the amount of simulation. Of the engine, a build records only the version."""

    engine: str | None = option(
        TEXT, None, f"One of {', '.join(ENGINES)}; default: verilator, else myhdl.", metavar="NAME", recorded=False
    )
    samples: int | None = option(WHOLE, None, "How many samples to simulate.", metavar="K")
    coverage: float = option(
        REAL, 1.0, "Least share of each layer to simulate in RTL, 0 to 1, a sample of its tiles; default 1.",
        metavar="SHARE",
    )  # fmt: skip
    scheduler: str | None = option(
        TEXT, None, "Dask scheduler whose workers simulate; default: this machine.", metavar="tcp://HOST:PORT",
        recorded=False,
    )  # fmt: skip
    processes: int | None = option(WHOLE, None, "Processes here; default: the processors.", metavar="P", recorded=False)

    def check(self) -> None:
        check_coverage(self.coverage)
        check_workers(self.scheduler, self.processes)
        super().check()


@dataclass(frozen=True, eq=False, kw_only=True)
class ClockOption(Request):
    clock: float | None = option(
        REAL, None, "Clock in MHz: the report gives milliseconds a sample and inferences a second.", metavar="MHZ"
    )

    def check(self) -> None:
        super().check()
        if self.clock is not None and not 0 < self.clock < math.inf:
            raise FlowError(f"a clock must be more than 0 MHz, but it is {self.clock:g}; change --clock")


@dataclass(frozen=True, eq=False, kw_only=True)
class BusOptions(Request):
    """The AXI bus, and the memory behind it as the model of the bus takes it to be."""

    bus: int | None = option(
        WHOLE, None, "Bits of the AXI bus, 32 to 1024; default: as the array needs, 32 to 128.", metavar="BITS"
    )
    latency: int = option(
        WHOLE, SlowMemory.latency, "Cycles until the memory behind the bus answers, for its model; default "
        f"{SlowMemory.latency}.", metavar="CYCLES",
    )  # fmt: skip
    bandwidth: int = option(
        WHOLE, SlowMemory.bandwidth, "Bytes a cycle that this memory gives, for its model; default "
        f"{SlowMemory.bandwidth}.", metavar="BYTES",
    )  # fmt: skip

    def check(self) -> None:
        super().check()
        if self.bus is not None:
            AxiConfig(self.bus)
        SlowMemory(self.latency, self.bandwidth)

    def axi(self, config: ArrayConfig, address_bits: int = AxiConfig.address_bits) -> AxiConfig:
        """The bus of this array."""
        return AxiConfig(fitting_bits(config) if self.bus is None else self.bus, address_bits)

    @property
    def memory(self) -> SlowMemory:
        """The memory behind the bus."""
        return SlowMemory(self.latency, self.bandwidth)


@dataclass(frozen=True, eq=False, kw_only=True)
class InspectRequest(BusOptions, NetworkOptions):
    """Show where every node would run, and why."""

    on_chip: bool = option(SWITCH, False, "Show, too, where every node would run with feature maps on chip.")
    array: tuple[int, int] | None = option(
        SIZE, None, "Size of the array whose cycles --on-chip shows; default 16x32.", metavar="ROWSxCOLUMNS"
    )

    def check(self) -> None:
        super().check()
        for name, value in (("array", self.array), ("bus", self.bus)):
            if value is not None and not self.on_chip:
                raise FlowError(f"--{name} makes no difference to where nodes run layer by layer: give --on-chip, too, "
                                f"or leave --{name} out")  # fmt: skip
        self.config.with_maps(self.config.rows * 64)

    @property
    def config(self) -> ArrayConfig:
        """The array, without feature maps. FlowError if it cannot be built."""
        return ArrayConfig(*(self.array or ()))


@dataclass(frozen=True, eq=False, kw_only=True)
class CompressRequest(BusOptions, ArrayOption, MetricOption, DataOptions, PruningOptions):
    """Write the pruned INT8 network; no hardware."""

    output: Path = argument(PATH, "OUT.onnx", "The pruned network.", flag="--output")
    plot: Path | None = option(PATH, None, "Curves over bits per weight.", metavar="FILE.svg", recorded=False)
    force: bool = option(SWITCH, False, "Replace an earlier output.", recorded=False)


@dataclass(frozen=True, eq=False, kw_only=True)
class CompileRequest(
    ClockOption, BusOptions, SimulationOptions, ArrayOption, MetricOption, DataOptions, PruningOptions
):
    """Prune, write RTL and vectors, co-simulate, judge."""

    output: Path = argument(PATH, "DIR", "The folder of the build.", flag="--output")
    pe: str = option(
        TEXT, BITVERT.name, f"Processing element: {', '.join(PE_KINDS)}, or an installed package's; default bitvert.",
        metavar="NAME",
    )  # fmt: skip
    columns_per_cycle: int = option(
        WHOLE, 1, "Bit columns that a pairs element takes a cycle: 1, 2 or 4; default 1.", metavar="COUNT"
    )
    drain: int = option(
        WHOLE, ArrayConfig.drain, "Cycles in which sums leave the array, 1 to 8: more, fewer requantizers; default 4.",
        metavar="CYCLES",
    )  # fmt: skip
    weight_buffer: int | None = option(
        WHOLE, None, "Words of the weight buffer, a power of two; default 1024.", metavar="WORDS"
    )
    address_bits: int = option(
        WHOLE, 32, "Bits of an address on the AXI bus, 32 to 64; default 32, which reach 4 GiB.", metavar="BITS"
    )
    prefix: str | None = option(
        TEXT, None, "Name of the top module, with which all others begin; default: by element and array.",
        metavar="NAME",
    )  # fmt: skip
    on_chip: bool = option(SWITCH, False, "Feature maps on chip: the network in as few starts as can be, too.")
    front: bool = option(SWITCH, False, "Measure other budgets, too: accuracy against bits and cycles, in the report.")
    soc: bool = option(SWITCH, False, "Write soc/example, too: a small system whose processor runs the network.")
    synth: bool = option(SWITCH, False, "Add Yosys' estimates to the report: area, FPGAs that have as much.")
    force: bool = option(SWITCH, False, "Replace an earlier output.", recorded=False)
    resume: bool = option(
        SWITCH, False, "Keep an earlier build of the same request if it is whole, else go on with it.", recorded=False
    )

    def check(self) -> None:
        super().check()
        self.axi(self.sized(self.array), self.address_bits)

    def sized(self, size: tuple[int, int] | None) -> ArrayConfig:
        """The requested array with this size (rows, columns). FlowError if it, or its maps on chip, cannot be built."""
        config = replace(
            ArrayConfig(*(size or ())), pe=self.pe, columns_per_cycle=self.columns_per_cycle, drain=self.drain,
            prefix=self.prefix or "",
        )  # fmt: skip
        sized = config if self.weight_buffer is None else config.with_weight_buffer(self.weight_buffer)
        with_maps = sized.with_maps(sized.rows * 64) if self.on_chip else sized
        if self.chosen.objective == ENERGY:
            energy_on(with_maps)
        return sized


@dataclass(frozen=True, eq=False, kw_only=True)
class CosimRequest(ClockOption, SimulationOptions, MetricOption):
    """Co-simulate an earlier build again, from its own files."""

    folder: Path = argument(PATH, "DIR", "The folder of the build.")
    fault: str | None = option(
        TEXT, None, "Break a hardware block first, to see it caught and found.", metavar="BLOCK:KIND"
    )
    waves: str | None = option(
        TEXT, None, "Record a layer, one of its position tiles, or the whole network on chip ('network').",
        metavar="LAYER[:TILE]", recorded=False,
    )  # fmt: skip
    waves_format: str | None = option(
        TEXT, None, f"Form of the waveforms: {' or '.join(FORMS)}; default {FORMS[0]}.", metavar="NAME", recorded=False
    )
    waves_output: Path | None = option(
        PATH, None, "Where the waveforms go; default: DIR-waves beside the build.", metavar="FOLDER", recorded=False
    )
    resume: bool = option(SWITCH, False, "Go on where a run of this build was stopped.", recorded=False)

    def check(self) -> None:
        super().check()
        if self.waves_output is not None and self.waves is None:
            raise FlowError("--waves-output says where waveforms go, but none are asked for; add --waves LAYER")
        if self.waves_format is not None and self.waves is None:
            raise FlowError("--waves-format says how waveforms are written, but none are asked for; add --waves LAYER")
        if self.waves_form not in FORMS:
            raise FlowError(f"waveforms are written as {' or '.join(FORMS)}, but not as '{self.waves_form}'; "
                            "change --waves-format")  # fmt: skip
        if self.waves_folder.resolve().is_relative_to(self.folder.resolve()):
            raise FlowError(f"'{self.waves_folder}' is in the build, which does not change; "
                            "choose another folder as --waves-output")  # fmt: skip
        if self.fault is not None:
            faults.find(self.fault)

    @property
    def waves_form(self) -> str:
        return self.waves_format or FORMS[0]

    @property
    def waves_folder(self) -> Path:
        """Where the waveforms go."""
        return self.waves_output or neighbour(self.folder, "-waves")


@dataclass(frozen=True, eq=False, kw_only=True)
class VerifyRequest(Request):
    """Check that an earlier build is as it was built, by the sha256 of every file."""

    folder: Path = argument(PATH, "DIR", "The folder of the build.")


@dataclass(frozen=True, eq=False, kw_only=True)
class ExploreRequest(ClockOption, BusOptions, OutputWeightOption, MetricOption, DataOptions):
    """Search array, buffer and pruning for the best designs."""

    output: Path = argument(PATH, "DIR", "The folder of the study.", flag="--output")
    trials: int = option(WHOLE, 100, "Designs in the study, in the end; default 100.", metavar="T")
    storage: str | None = option(
        TEXT, None, "Where Optuna keeps the study; default: the SQLite file DIR/explore.db.", metavar="URL"
    )
    study: str | None = option(TEXT, None, "The study's name; default: the network's.", metavar="NAME")

    def check(self) -> None:
        super().check()
        if self.trials < 1:
            raise FlowError(f"an exploration tries one design or more, but they are {self.trials}; change --trials")
