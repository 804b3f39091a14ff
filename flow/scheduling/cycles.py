"""Cycle model of a layer on the array, from its channel blocks alone.

Times are rising clock edges, numbered as in the engines: edge 1 samples `start`. The RTL's latencies, all from its
block docstrings:

    a stream that accepts a job at edge t requests its first word at t + 1; the array may use it at t + 2
    a bit column, or slice of them, issued at edge t completes its tile, if it is the last one, at t + CAPTURE, where
    the sums are captured
    a captured tile leaves the array in the `drain` edges that follow; the next tile can be captured at the last
    of them; results are in memory WRITE_BACK edges later

While a tile leaves, the next one is computed; if that is finished first, the array waits. Not modelled:
a stream that waits for room in its buffer delays the next block's fetch, not the block under way.
"""

from __future__ import annotations

from dataclasses import dataclass

from flow.hardware.config import ArrayConfig
from flow.hardware.core import array, requantizer
from flow.scheduling.blocks import LayerSchedule

CAPTURE = 1 + array.LATENCY  # edges from a tile's last column, issued, to its capture
WRITE_BACK = requantizer.LATENCY  # edges from the last channels leaving the array to done
STORE = 3  # further edges in an array with on-chip feature maps, even if windows come from outside


@dataclass
class _Stream:
    """Edge at which the stream accepts its job, and edge at which it has requested the job's last word."""

    taken: int = 0
    fetched: int = 0

    def take(self, offered: int, words: int) -> int:
        """Accept a job that is offered from edge `offered` on; returns the edge of acceptance."""
        self.taken = max(offered, self.fetched) + 1
        self.fetched = self.taken + words
        return self.taken


@dataclass(frozen=True)
class Breakdown:
    """Where a layer's cycles go; every edge from start to done counts once.

    compute  a bit column is issued
    load     before a block's first column, for its descriptor or its operands
    drain    after the last column of the layer, until its results are in memory
    stall    the next column is available, but the previous tile has not left the array
    """

    compute: int
    load: int
    drain: int
    stall: int

    @property
    def cycles(self) -> int:
        return self.compute + self.load + self.drain + self.stall


def layer_cycles(scheduled: LayerSchedule, config: ArrayConfig) -> int:
    """Edges from start to done of one layer, both counted."""
    return breakdown(scheduled, config).cycles


def breakdown(scheduled: LayerSchedule, config: ArrayConfig) -> Breakdown:
    """The edges from start to done of one layer, both counted, by what they are spent on."""
    weights, metadata, activations, parameters = (_Stream() for _ in range(4))
    offered = 1  # the edge after which the block's descriptor is available
    issued = captured = natural = 0  # of the previous block: last column, last capture, and when that was due
    left = begun = 0  # of the previous block: its last channels leave the array, its job for the feature maps begins
    load = stall = 0
    element, lanes, beats = config.element, config.lanes, config.beats
    for block in scheduled.blocks:
        compute = block.steps * block.slices
        words = -(-len(block.channels) // lanes)
        drain = scheduled.planes * words
        metadata_words = element.metadata_words(block.steps)
        accepted = [
            weights.take(offered, compute),
            metadata.take(offered, metadata_words),
            activations.take(offered, block.fetched * block.steps * beats),
            parameters.take(offered, words),
            max(offered + 1, issued),
            max(offered + 1, left),
        ]
        if config.map_words:  # the store accepts a job when the previous one begins, and begins it when that ends
            accepted.append(max(offered + 1, begun + 1))
            begun = max(accepted[6] + 1, left + WRITE_BACK + 1 if issued else 0)
        start = max(accepted[0] + 2, accepted[4] + 1)
        if not block.given:
            start = max(start, accepted[2] + 1 + beats)
        if element.encoded:
            start = max(start, accepted[1] + 2)
        load += start - issued - 1
        if natural <= start < captured:  # nothing is issued while the array waits
            stall += captured - start
            start = captured
        waited = captured - natural if start < natural else 0
        due = start + compute - 1 + CAPTURE + waited
        free = left if offered < left else accepted[5] + 1
        capture = max(due, free) if issued else due
        if block.tiles > 1:
            capture += (block.tiles - 2) * max(compute, drain)
            due = capture + compute
            capture = max(due, capture + drain)
        issued, natural, captured, left = due - CAPTURE, due, capture, capture + drain
        stall += issued + 1 - start - block.tiles * compute
        offered = max(accepted)
    last = left + WRITE_BACK + (STORE if config.map_words else 0)
    return Breakdown(scheduled.ideal_cycles, load, last - issued, stall)
