"""The cycle model: what a layer takes on the array, from its blocks alone.

Compute and write-back overlap: while one tile's sums leave through the result registers the next is computed,
so that a tile costs the larger of the two. A block starts when its operands have arrived; they are fetched
while the block before it is computed.
"""

from __future__ import annotations

from flow.hardware.config import ArrayConfig
from flow.schedule import Block, LayerSchedule

START = 4  # from start to the first operand in its ring: descriptor, job, request, word
PIPELINE = 5  # from a column's issue to its tile's sums being complete
FINISH = 6  # from the last channel leaving the array to done


def drain_cycles(block: Block, planes: int, config: ArrayConfig) -> int:
    """Cycles in which one tile's channels leave the array, `config.lanes` at a time."""
    return planes * -(-len(block.channels) // config.lanes)


def layer_cycles(scheduled: LayerSchedule, config: ArrayConfig) -> int:
    """Cycles from start to done of one layer, as the RTL counts them."""
    ready, finished, drain = START, 0, 0
    for block in scheduled.blocks:
        compute = block.steps * block.columns
        through = drain_cycles(block, scheduled.planes, config)
        taken = finished + drain  # when write-back has taken the descriptor, the next one is fetched
        first = max(finished + max(drain, compute), ready + compute + PIPELINE)
        finished = first + (block.tiles - 1) * max(compute, through)
        ready, drain = taken + START, through
    return finished + drain + FINISH
