"""The controllers of array, results and feature maps: what each does in a cycle, as `hardware/core/` and `maps/`."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from flow.hardware.config import ArrayConfig
from flow.hardware.core import array, requantizer
from flow.hardware.fields import ENTRY_DEPTH
from flow.hardware.maps.collect import TILES
from flow.hardware.maps.operands import BITS, step_beats
from flow.scheduling.bus.jobs import Job
from flow.scheduling.bus.streams import Ring

FINISHED = 1 << array.LATENCY  # the bit of a column on its way through the array that is a finished tile's
ANSWERED = 2  # the bit of an octet on its way from the banks


class Sequencer:
    """Issues bit columns (`core/sequencer.py`); `pipe` has a bit for each stage of the array with a tile's last one."""

    def __init__(self, encoded: bool, weight: Ring, metadata: Ring, activation: Ring) -> None:
        self.encoded, self.weight, self.metadata, self.activation = encoded, weight, metadata, activation
        self.job: Job | None = None
        self.tiles = self.steps = self.column = self.pipe = 0
        self.odd = self.issues = self.ends = self.paused = False

    @property
    def reads(self) -> bool:
        """Whether it reads a word of activations in this cycle."""
        return self.issues and self.column == 0

    def look(self, enable: bool, weights: bool, metadata: bool, activations: bool) -> None:
        """Whether a column is issued, and is the block's last; the operands that are here."""
        job = self.job
        self.issues = (
            job is not None
            and enable
            and not self.paused
            and (weights or job.post)
            and (self.column != 0 or activations)
            and (not self.encoded or job.post or metadata or self.column != 0 or self.odd)
        )
        self.ends = (
            self.issues and job is not None and self.column == job.slices - 1 and self.steps == 1 and self.tiles == 1
        )

    @property
    def ready(self) -> bool:
        return self.job is None or self.ends

    def move(self, enable: bool, job: Job | None) -> bool:
        """The edge; `job` is on offer. Whether anything has happened."""
        moved = self.issues or (enable and self.pipe != 0)
        last = pauses = False
        taken = job if self.ready else None
        if self.issues and self.job is not None:
            pauses = self.job.post and self.column == self.job.slices - 1
            last = self._issue()
        if enable:
            moved, self.paused = moved or self.paused, pauses
            self.pipe = self.pipe << 1 & 2 * FINISHED - 1 | last
        if taken is not None:
            self.job, self.tiles, self.steps, self.column, self.odd = taken, taken.tiles, taken.steps, 0, False
        elif self.ends:
            self.job, self.issues, self.ends = None, False, False
        return moved or taken is not None

    def _issue(self) -> bool:
        """Reads the column's operands; whether it is the last of its tile."""
        job = self.job
        assert job is not None
        last_tile, step_ends = self.tiles == 1, self.column == job.slices - 1
        tile_ends = step_ends and self.steps == 1
        release = last_tile or not job.resident
        if not job.post:
            self.weight.read(tile_ends and not release, release)
            if self.encoded and self.column == 0 and not self.odd:
                self.metadata.read(self.steps <= 2 and not release, release)
        if self.column == 0:
            self.activation.read(job.hold and last_tile and self.steps == 1, not job.hold)
        if not step_ends:
            self.column += 1
            return False
        self.column = 0
        if tile_ends:
            self.tiles, self.steps, self.odd = self.tiles - 1, job.steps, False
        else:
            self.steps, self.odd = self.steps - 1, not self.odd
        return tile_ends


class Operands:
    """A map's octets as the weights of a job (`maps/operands.py`), between the weight memory and its stream."""

    def __init__(self, config: ArrayConfig) -> None:
        self.last_word = config.slices(BITS) - 1
        self.last = {across: step_beats(config.rows, config.columns, across) - 1 for across in (False, True)}
        self.loading = self.across = self.own = self.filled = self.answers = False
        self.at_hand = self.beat = self.sent = self.flying = 0
        self.takes = self.sends = self.asks = False

    def room(self, activations: bool) -> bool:
        """Whether the sequencer sees the `activations` that are here."""
        return activations and (self.at_hand == 0 or (self.at_hand == 1 and not self.filled))

    def look(self, wants: bool, ready: bool) -> bool:
        """What is done in this cycle, in which the stream `wants` a word; whether it gets one."""
        self.takes = self.at_hand != 0 and not self.filled
        self.sends = self.own and wants and self.filled and self.flying == 0
        self.asks = not self.own and wants and ready
        return self.sends or self.asks

    def move(self, compute: Job | None, weight: Job | None, reads: bool, arrives: bool) -> bool:
        """The edge: jobs that are taken, a word of activations that is read, one of weights from the memory.

        Whether anything has happened.
        """
        moved = self.takes or self.sends or self.asks or self.answers
        self.answers = self.sends
        self.flying += self.asks - arrives
        if weight is not None:
            self.own = weight.operand
        loads, begins = self.loading, False
        if compute is not None:
            self.loading = begins = compute.operand and compute.post
        if begins and compute is not None:
            self.across, self.at_hand, self.beat, self.filled, self.sent = compute.across, 0, 0, False, 0
            return True
        if reads and loads:
            self.at_hand, moved = 2, True
        elif self.takes:
            self.at_hand -= 1
        if self.takes:
            self.filled = self.beat == self.last[self.across]
            self.beat = 0 if self.filled else self.beat + 1
        if self.sends:
            self.filled = self.sent != self.last_word
            self.sent = self.sent + 1 if self.filled else 0
        return moved


@dataclass(frozen=True)
class Result:
    """What leaves the array together: the addresses of the lanes that write it to the output memory, if it is."""

    addresses: tuple[int, ...]
    tile_done: bool
    block_done: bool
    kept: bool


class Drain:
    """Takes finished tiles from the array and requantizes them (`core/drain.py`, `core/write_back.py`)."""

    def __init__(self, parameters: Ring, indices: Ring) -> None:
        self.parameters, self.indices = parameters, indices
        self.job: Job | None = None
        self.tile = self.word = self.plane = 0
        self.draining = self.goes = self.tile_ends = self.ends = self.takes = False
        self.enable = True
        self.moves = True
        self.stages: deque[Result | None] = deque([None] * requantizer.LATENCY, requantizer.LATENCY)
        self.under_way = 0  # results in stages

    @property
    def busy(self) -> bool:
        """Whether there is anything to do, or to look at, before a tile is finished."""
        return self.draining or self.under_way > 0 or not self.enable

    def look(self, room: bool, full: bool, operands: bool, finished: bool, offered: bool) -> None:
        """What is done in this cycle.

        room: the output port takes a write; full: the feature maps take nothing more; operands: parameters and indices
        are here; finished: a tile waits in the array; offered: a job is on offer
        """
        last, job = self.stages[-1], self.job
        held = full and last is not None and (last.kept or last.tile_done)
        self.moves = (room or last is None or not last.addresses) and not held
        self.goes = self.draining and self.moves and (self.plane != 0 or operands)
        self.tile_ends = self.ends = False
        last_tile = False
        if self.goes and job is not None:
            last_tile = self.tile == job.tiles - 1
            self.tile_ends = self.plane == len(job.addresses) - 1 and self.word == job.words - 1
            self.ends = self.tile_ends and last_tile
        available = (job is not None and not self.draining) or (self.tile_ends and (not last_tile or offered))
        self.enable = not finished or available
        self.takes = finished and available

    @property
    def ready(self) -> bool:
        return self.job is None or self.ends

    def move(self, job: Job | None) -> bool:
        """The edge; `job` is on offer. Whether anything has happened."""
        moved = self.goes or self.takes or (self.moves and self.under_way > 0)
        result = self._go() if self.goes else None
        taken = job if self.job is None or self.ends else None
        if self.moves and (self.under_way or result):
            self.under_way += (result is not None) - (self.stages[-1] is not None)
            self.stages.appendleft(result)
        if self.takes:
            self.draining = True
        elif self.tile_ends:
            self.draining = False
        if taken is not None:
            self.job, self.tile, self.word, self.plane = taken, 0, 0, 0
        elif self.ends:
            self.job = None
        return moved or taken is not None

    def _go(self) -> Result:
        job, plane, word = self.job, self.plane, self.word
        assert job is not None
        if plane == 0:
            last_tile = self.tile == job.tiles - 1
            for ring in (self.parameters, self.indices):
                ring.read(word == job.words - 1 and not last_tile, last_tile)
        addresses: tuple[int, ...] = ()
        if job.mirror:
            base = self.tile * job.stride
            addresses = tuple(base + each for each in job.addresses[plane][word])
        if plane < len(job.addresses) - 1:
            self.plane += 1
        else:
            self.plane, self.word = 0, word + 1
            if self.tile_ends:
                self.tile, self.word = self.tile + 1, 0
        return Result(addresses, self.tile_ends, self.ends, len(job.addresses) == 1)


class Fetch:
    """Octets of windows out of the feature maps, or passed on from the activation memory (`maps/fetch.py`)."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.job: Job | None = None
        self.external = False  # of the last job
        self.waits = False
        self.octet = self.flying = self.behind = 0
        self.turns = self.answering = 0  # of the octet under way: cycles left
        self.next_start: int | None = None  # the cycle in which the walker that waits is at its first tile
        self.start = 0
        self.inside = self.outside = self.goes = False  # it may go on with the maps; from outside; it does

    def look(self, cycle: int, offered: Job | None) -> None:
        """Whether it may go on in this cycle; a job that is `offered` has its walker made ready."""
        job = self.job
        if offered is not None and self.next_start is None:
            self.next_start = cycle + 1 + self.rows
        if job is None:
            self.inside = self.outside = False
        else:
            begins = not self.waits or self.behind == 1
            self.outside = begins and job.external
            self.inside = begins and not job.external and cycle >= self.start

    def ready(self, offered: Job) -> bool:
        """Whether it takes a job in this cycle."""
        return self.job is None and (self.flying == 0 or offered.external == self.external)

    def move(self, job: Job | None, outside: bool, arrives: bool, block_done: bool) -> bool:
        """The edge; `job` is taken, an octet is asked for or comes from `outside`. Whether anything has happened."""
        goes = self.goes or outside
        moved = bool(goes or self.turns or self.answering or job or block_done or arrives)
        if not moved:
            return False
        answers = self.answering & ANSWERED != 0 or arrives
        self.answering = self.answering << 1 & 2 * ANSWERED - 1 | (self.turns == 1)
        if self.goes and self.job is not None:
            self.turns = self.job.turns[self.octet]
        elif self.turns:
            self.turns -= 1
        if goes and self.job is not None:
            self.waits = False
            self.octet += 1
            if self.octet == self.job.activation[1]:
                self.job = None
        self.flying += goes - answers
        self.behind += (job is not None) - block_done
        if job is not None and self.next_start is not None:
            self.job = job if job.activation[1] else None
            self.octet, self.external, self.waits = 0, job.external, job.waits
            self.start, self.next_start = self.next_start, None
        return moved


class Store:
    """Results into the feature maps (`maps/store.py`)."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.entries = Ring(ENTRY_DEPTH, 1)
        self.job: Job | None = None
        self.pending: Job | None = None
        self.start = self.next_start = 0
        self.left = self.tiles = self.staged = self.turns = self.stored = 0
        self.at_hand = self.flushing = self.block_done = False

    @property
    def ready(self) -> bool:
        return self.pending is None

    @property
    def busy(self) -> bool:
        """Whether there is anything to do before a tile is finished or a job comes."""
        return self.staged > 0 or self.turns > 0 or self.at_hand or self.flushing or self.block_done or (
            self.pending is not None and self.job is None
        )  # fmt: skip

    def move(self, cycle: int, job: Job | None, tile_done: bool, entries_here: bool) -> bool:
        """The edge; `job` is on offer and taken by both. Whether anything has happened."""
        under_way, free = self.job, self.turns <= 1
        load = self.at_hand and free
        empty = under_way is not None and not self.flushing and under_way.entries == 0 and self.staged > 0
        finished = (load and self.left == 0) or empty
        block_ends = finished and self.tiles == 1
        moved = bool(load or finished or self.turns or self.flushing or self.block_done or tile_done or job is not None)
        self.block_done = self.flushing and free
        self.flushing = block_ends or (self.flushing and not free)
        if load and under_way is not None:
            self.turns = under_way.stored[self.stored]
            self.stored += 1
        else:
            self.turns = max(0, self.turns - 1)
        there = self.staged > finished
        if tile_done and not finished and self.staged != TILES:
            self.staged += 1
        elif finished and not tile_done:
            self.staged -= 1
        if finished and under_way is not None:
            self.left, self.tiles = under_way.entries, self.tiles - 1
        reads = there and self._read(cycle, entries_here and (load or not self.at_hand))
        self.at_hand = reads or (self.at_hand and not load)
        return self._begin(cycle, job, block_ends) or moved or reads

    def _read(self, cycle: int, here: bool) -> bool:
        """Read the next entry of the tile whose turn it is; whether there is one, and `here`."""
        if self.job is None or not here or cycle < self.start or self.left == 0 or self.tiles == 0:
            return False
        self.entries.read(self.left == 1 and self.tiles != 1, self.tiles == 1)
        self.left -= 1
        return True

    def _begin(self, cycle: int, job: Job | None, block_ends: bool) -> bool:
        begins = self.pending is not None and (self.job is None or block_ends)
        if begins and self.pending is not None:
            self.job, self.start = self.pending, self.next_start
            self.left, self.tiles, self.stored, self.pending = self.job.entries, self.job.tiles, 0, None
        elif block_ends:
            self.job = None
        if job is not None:
            self.pending, self.next_start = job, cycle + 1 + self.rows
        return begins
