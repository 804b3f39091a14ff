"""Time and energy of a network on an array as functions of N of its channels: with ideal memories, and behind a bus."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Final

from flow.compression.allocate import Allocation
from flow.compression.budget import total, unpruned
from flow.compression.compress import Predicted
from flow.compression.prune import prune
from flow.hardware.axi.bus import AxiConfig, fitting_bits
from flow.hardware.config import ArrayConfig
from flow.network.model import Network
from flow.scheduling.behind import Behind, behind
from flow.scheduling.bus.bursts import SlowMemory
from flow.scheduling.energy import energy_on, modelled
from flow.scheduling.onchip.chain import Chain, chain
from flow.scheduling.onchip.program import assemble
from flow.scheduling.onchip.timing import OnChipTime, on_chip
from flow.scheduling.schedule import schedule
from flow.scheduling.timing import LayerByLayer, layer_by_layer

QUICK: Final = "rounded-averaging"  # descriptors follow from N alone, so the quickest method will do


@dataclass(frozen=True)
class Speed:
    """Time and energy of one sample on this array, behind this bus with this memory, by the models.

    It is that of the whole network on chip if the array has room for feature maps, otherwise layer by layer.
    """

    network: Network
    config: ArrayConfig
    axi: AxiConfig
    memory: SlowMemory

    @classmethod
    def by_default(cls, network: Network, config: ArrayConfig) -> Speed:
        """Behind the bus that fits the array, with the memory that is taken for granted."""
        return cls(network, config, AxiConfig(fitting_bits(config)), SlowMemory())

    @cached_property
    def time(self) -> LayerByLayer | OnChipTime:
        """The time with ideal memories."""
        layers = self.network.layers
        return (
            on_chip(self._chain, layers, self.config) if self.config.map_words else layer_by_layer(layers, self.config)
        )

    def cycles(self, allocation: Allocation) -> int:
        """Cycles with ideal memories."""
        return self.time.beside + total(self.network.layers, self.time, allocation)

    def energy(self, allocation: Allocation) -> float | None:
        """Microjoules, to four places; None where there is no model of them."""
        if not modelled(self.config):
            return None
        return round(total(self.network.layers, energy_on(self.config), allocation) * 1e-6, 4)

    def cycles_bus(self, allocation: Allocation) -> int:
        """Cycles behind the bus."""
        return self.behind(allocation).whole

    def spent(self, allocation: Allocation) -> tuple[int, int, float | None]:
        """Cycles with ideal memories, cycles behind the bus, microjoules."""
        return self.cycles(allocation), self.cycles_bus(allocation), self.energy(allocation)

    def behind(self, allocation: Allocation) -> Behind:
        """The network behind the bus."""
        network, config = self.network, self.time.config
        encoded = {layer.name: prune(layer.weights, allocation[layer.name], QUICK)[0] for layer in network.layers}
        program = schedule([encoded[layer.name] for layer in network.layers], network.layers, config)
        onchip = assemble(self._chain, encoded, config) if config.map_words else None
        return behind(program, onchip, self.axi, self.memory)

    def predicted(self, allocation: Allocation, known: Behind | None = None) -> Predicted:
        """What the report says of a network with these N, which `known` is behind the bus, if it has been scheduled."""
        config, whole = self.config, unpruned(self.network.layers)
        cycles, slower = self.cycles(allocation), (known or self.behind(allocation)).whole
        return Predicted(
            f"{config.rows}x{config.columns}", isinstance(self.time, OnChipTime), cycles, slower,
            self.cycles(whole), self.cycles_bus(whole), self.axi.data_bits,
            self.time.dense, round(self.time.dense / cycles, 4), self.energy(allocation), self.energy(whole),
        )  # fmt: skip

    @cached_property
    def _chain(self) -> Chain:
        return chain(self.network)
