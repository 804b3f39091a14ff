"""Measures one design: answers, bits, cycles behind the bus, area and memory traffic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flow.api.yardstick import Yardstick
from flow.compression import tune
from flow.compression.allocate import average_bits
from flow.compression.choice import Pruning
from flow.compression.compress import Compressed, encode
from flow.compression.prune import METHODS
from flow.compression.refine import REFINEMENTS
from flow.exploration.space import BUDGET, Design
from flow.files import cache_folder, scratch
from flow.frontend.imported import Imported
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import ArrayConfig
from flow.hardware.emit import emit
from flow.hardware.synthesis import Estimate, estimate
from flow.network.samples import Samples
from flow.scheduling.behind import behind
from flow.scheduling.bus.bursts import SlowMemory
from flow.scheduling.cycles import layer_cycles
from flow.scheduling.schedule import schedule
from flow.scheduling.traffic import memory_traffic


@dataclass(frozen=True)
class Measured:
    """The measurements of a design. Cycles and bytes of traffic are one sample's.

    `accuracy` is the value of the metric, None without labels. `cycles` are those with ideal memories, `cycles_bus`
    those behind the bus, by its model.
    """

    accuracy: float | None
    divergence: float
    bits_per_weight: float
    cycles: int
    cycles_bus: int
    transistors: int
    traffic: int

    @property
    def values(self) -> tuple[float, float, float, float]:
        """The objectives: the metric or, without labels, the divergence; cycles behind the bus, area and traffic."""
        answers = self.divergence if self.accuracy is None else self.accuracy
        return answers, self.cycles_bus, self.transistors, self.traffic


class Evaluator:
    """Measures designs of one network, behind the bus of each array, with this memory.

    Results that designs share are computed once.
    """

    def __init__(
        self, imported: Imported, evaluation_set: Samples, output_weight: Mapping[str, float] | None,
        axi: Callable[[ArrayConfig], AxiConfig], memory: SlowMemory,
    ) -> None:  # fmt: skip
        self._imported, self._axi, self._memory = imported, axi, memory
        self._evidence = None
        if imported.calibration is not None:
            data = tune.calibration_data(
                imported.network, imported.source, imported.prepared, imported.calibration, output_weight
            )
            survey = tune.survey(imported.network, data, frozenset(REFINEMENTS), lambda: None)
            self._evidence = tune.Evidence(data, survey)
        self._yardstick = Yardstick.of(imported, evaluation_set, output_weight)
        self._compressed: dict[tuple[Pruning, int], tuple[Compressed, float | None, float]] = {}
        self._areas: dict[ArrayConfig, Estimate] = {}

    @property
    def metric(self) -> str | None:
        """The metric by which the answers are judged; None if by their divergence."""
        return self._yardstick.metric

    @property
    def rising(self) -> bool:
        """Whether more of what the answers are judged by is better."""
        return self.metric is not None and not self._yardstick.lower

    @property
    def methods(self) -> tuple[str, ...]:
        """The pruning methods that are possible: a budget needs calibration samples."""
        return (*METHODS, BUDGET) if self._evidence is not None else tuple(METHODS)

    def measure(self, design: Design) -> Measured:
        """Measures a design. FlowError when it cannot be built."""
        config = design.config
        compressed, accuracy, kl = self._answers(design.chosen, design.columns)
        program = schedule(compressed.encoded, compressed.network.layers, config)
        traffic = sum(sum(memory_traffic(scheduled, config).values()) for scheduled in program.layers)
        cycles = sum(layer_cycles(scheduled, config) for scheduled in program.layers)
        slower = behind(program, None, self._axi(config), self._memory).whole
        bits = average_bits(compressed.network.layers, compressed.allocation)
        return Measured(accuracy, kl, bits, cycles, slower, self._area(config).transistors, traffic)

    def _answers(self, chosen: Pruning, columns: int) -> tuple[Compressed, float | None, float]:
        """The pruned network, its metric, and its divergence from the float network, or else the INT8 one."""
        key = (chosen, columns)
        if key not in self._compressed:
            compressed = encode(self._imported.network, chosen, columns, evidence=self._evidence)
            self._compressed[key] = compressed, *self._yardstick.measure(compressed.network.model)
        return self._compressed[key]

    def _area(self, config: ArrayConfig) -> Estimate:
        if config not in self._areas:
            with scratch() as folder:
                files = emit(config, folder).files
                self._areas[config] = estimate(files, config.name, cache_folder(None))
        return self._areas[config]
