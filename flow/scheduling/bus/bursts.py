"""A memory with a latency, and the read and write ports that ask it for bursts: as `hardware/axi/`, in cycles."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from flow.errors import FlowError
from flow.hardware.axi.bus import PAGE, AxiConfig
from flow.hardware.axi.top import JOBS, QUEUE, depths_ahead
from flow.hardware.config import ArrayConfig, memory_ports
from flow.hardware.interface import MemoryPort
from flow.scheduling.bus.jobs import Words
from flow.scheduling.bus.streams import Ring

MOST_WRITES = 255  # bursts under way
LONGEST = 10_000  # cycles of latency


@dataclass(frozen=True)
class SlowMemory:
    """The memory behind the bus.

    latency      cycles from the one that takes a burst's address, or the last beat that is written, to its first beat,
                 or its answer, beyond the one that a memory at the bus needs
    bandwidth    bytes a cycle of reads, and as many of writes, at most those of a beat
    outstanding  bursts of reads, and of writes, that it takes before the first of them ends; 0: any number
    """

    latency: int = 40
    bandwidth: int = 16
    outstanding: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.latency <= LONGEST:
            raise FlowError(
                f"a memory that takes {self.latency:,} cycles to answer is not modelled: "
                f"give --latency 0 to {LONGEST:,}"
            )
        if self.bandwidth < 1:
            raise FlowError(f"a memory of {self.bandwidth} bytes a cycle gives nothing: give --bandwidth 1 or more")
        if self.outstanding < 0:
            raise FlowError(f"a memory takes no number of {self.outstanding} bursts: give 0, for any number, or more")


class Pace:
    """When the next beat may come: as often as `bandwidth` bytes a cycle make a beat, every cycle at most."""

    def __init__(self, bandwidth: int, beat: int) -> None:
        self.bytes, self.whole = min(bandwidth, beat), beat
        self.due = 0  # in parts of a cycle, of which it has `bytes`

    @property
    def next(self) -> int:
        """The first cycle that may have a beat."""
        return -(-self.due // self.bytes)

    def beat(self, cycle: int) -> int:
        """The first cycle from `cycle` on that has a beat."""
        at = max(cycle, self.next)
        passed = at * self.bytes
        self.due = (self.due if passed - self.due < self.bytes else passed) + self.whole  # what was not used is lost
        return at


class ReadPort:
    """A read port on the bus (`axi/read.py`): `wants` the word at `address`, gathers bursts, gets words."""

    def __init__(self, port: MemoryPort, axi: AxiConfig) -> None:
        self.name = port.name
        self.page = PAGE // axi.stride(port)
        self.most = axi.together(port)
        self.beats_of_word = axi.beats(port)
        self.due: deque[int] = deque()  # cycles in which a word is there
        self.arrives = False
        self.wants = self.accepts = self.asks = self.gathering = False
        self.address = self.following = self.words = 0
        self.beats = self.bursts = 0

    def look(self, cycle: int) -> None:
        """Whether a word arrives in this cycle."""
        due = self.due
        self.arrives = len(due) > 0 and due[0] == cycle
        if self.arrives:
            due.popleft()

    def ask(self) -> None:
        """Whether the word that is wanted is taken in this cycle, or else a burst is asked for."""
        if self.gathering:
            follows = self.address == self.following and self.following % self.page != 0 and self.words != self.most
            self.accepts = self.wants and follows
            self.asks = not self.accepts
        else:
            self.accepts, self.asks = self.wants, False

    def gather(self, granted: bool) -> bool:
        """The edge. Whether anything has happened."""
        if granted:
            self.gathering = False
            return True
        if self.accepts:
            self.words = self.words + 1 if self.gathering else 1
            self.gathering, self.following = True, self.address + 1
            return True
        return self.arrives


class AheadPort(ReadPort):
    """A read port with words that are fetched before the accelerator asks for them (`axi/ahead.py`).

    awake: something may happen in the next cycle without anything from outside.
    """

    def __init__(self, port: MemoryPort, axi: AxiConfig, depth: int) -> None:
        super().__init__(port, axi)
        self.depth = depth
        self.ring = Ring(depth, 1)
        self.jobs: deque[Words] = deque()
        self.offered: Words | None = None
        self.fetched = 0  # or asked for, and not taken
        self.closed = False
        self.open_below = depth - min(depth // 2, self.most)
        self.ready = self.shown = False
        self.awake = True

    def look(self, cycle: int) -> None:
        ring, due = self.ring, self.due
        self.arrives = arrives = len(due) > 0 and due[0] == cycle
        if arrives:
            due.popleft()
        self.ready = arrives or ring.cursor != ring.head
        self.wants = not self.closed and ring.remaining > 0 and ring.requested - ring.tail < ring.depth
        self.address = ring.address
        self.ask()

    def move(self, granted: bool, job: Words | None, taking: bool) -> None:
        """The edge: a burst is granted, a job comes, the accelerator asks for a word."""
        ring, takes, accepts = self.ring, taking and self.ready, self.accepts
        awake = self.gather(granted) or self.shown or takes
        if self.fetched == self.depth:
            awake, self.closed = awake or not self.closed, True
        elif self.closed and self.fetched <= self.open_below:
            awake, self.closed = True, False
        free = ring.remaining == 0
        if accepts:
            ring.address += 1
            ring.remaining -= 1
            ring.requested += 1
            self.fetched += 1
        if self.arrives:
            ring.head += 1
        if takes:
            self.fetched -= 1
            ring.cursor += 1
            ring.tail = ring.cursor
        self.shown = takes
        if job is not None or self.jobs or self.offered is not None:
            awake = self._offer(free, job) or awake
        self.awake = awake

    def _offer(self, free: bool, job: Words | None) -> bool:
        """The edge of the jobs: a `free` ring takes the one that is offered. Whether anything has happened."""
        offered = self.offered
        if offered is not None and free:
            self.ring.address, self.ring.remaining = offered
        moved = job is not None
        if self.jobs and (offered is None or free):
            self.offered, moved = self.jobs.popleft(), True
        elif offered is not None and free:
            self.offered, moved = None, True
        if job is not None:
            self.jobs.append(job)
            assert len(self.jobs) <= JOBS
        return moved


class Reads:
    """The read address channel, and the beats that answer it."""

    def __init__(self, config: ArrayConfig, axi: AxiConfig, memory: SlowMemory) -> None:
        depths = depths_ahead(config)
        self.ports = [
            AheadPort(port, axi, depths[port.name]) if port.name in depths else ReadPort(port, axi)
            for port in memory_ports(config)
            if not port.lanes
        ]
        self.memory, self.pace = memory, Pace(memory.bandwidth, axi.beat)
        self.turn = 0
        self.waiting: tuple[ReadPort, int] | None = None  # a burst, and how many words
        self.shown: tuple[ReadPort, int] | None = None
        self.moved = False
        self.ends: deque[int] = deque()  # cycles after which a burst is no longer under way

    def grant(self, cycle: int) -> ReadPort | None:
        """The port whose burst is taken in this cycle; the address channel moves on."""
        number = self._choice()
        self.moved = False
        if number < 0 and not self.waiting and not self.shown:
            return None
        limit = self.memory.outstanding
        before = self.waiting, self.shown
        while self.ends and self.ends[0] < cycle:
            self.ends.popleft()
        ready = not limit or len(self.ends) < limit
        chosen = None
        if (not self.waiting or not self.shown or ready) and number >= 0:
            chosen = self.ports[number]
            self.turn = 0 if number == len(self.ports) - 1 else number + 1
        if self.shown and ready:
            self._answer(*self.shown, cycle)
            self.shown = None
        if self.waiting and not self.shown:
            self.shown, self.waiting = self.waiting, None
        if chosen:
            assert self.waiting is None
            self.waiting = chosen, chosen.words
        self.moved = chosen is not None or before != (self.waiting, self.shown)
        return chosen

    def _choice(self) -> int:
        first = -1
        for number, port in enumerate(self.ports):
            if port.asks:
                if number >= self.turn:
                    return number
                if first < 0:
                    first = number
        return first

    def _answer(self, port: ReadPort, words: int, cycle: int) -> None:
        first, beat = cycle + 1 + self.memory.latency, 0
        beats, due, pace = port.beats_of_word, port.due, self.pace
        for _ in range(words):
            for _ in range(beats):
                beat = pace.beat(first)
            due.append(beat + 1)
        self.ends.append(beat)
        port.beats += words * beats
        port.bursts += 1

    def next(self) -> list[int]:
        """Cycles in which something will come."""
        coming = [port.due[0] for port in self.ports if port.due]
        return coming + ([self.ends[0] + 1] if self.ends and self.shown else [])


@dataclass
class Writes:
    """The write port: the lanes' words wait in a queue, and those that follow each other become a burst."""

    port: MemoryPort
    axi: AxiConfig
    memory: SlowMemory
    beats: int = 0
    bursts: int = 0
    queue: deque[tuple[int, ...]] = field(default_factory=deque)  # addresses of the lanes that write
    front: tuple[int, ...] | None = None
    lane: int = 0
    held: int = 0  # words of bursts
    words: int = 0  # of the burst that is gathered; 0: none is
    following: int = 0
    left: int = 0  # words of the burst that is sent; 0: none is
    beat: int = 0
    addressed: bool = False  # the address of the burst that is sent is shown
    opened: int = 0  # bursts whose address is taken, with beats to come
    answers: deque[int] = field(default_factory=deque)
    outstanding: int = 0

    def __post_init__(self) -> None:
        self.most, self.beats_of_word = self.axi.together(self.port), self.axi.beats(self.port)
        self.page = PAGE // self.axi.stride(self.port)
        self.room = 1 << (2 * self.most - 1).bit_length()
        self.pace = Pace(self.memory.bandwidth, self.axi.beat)
        self.full = self.busy = False

    @property
    def written(self) -> bool:
        return not (self.queue or self.front or self.words or self.addressed or self.left or self.outstanding)

    def move(self, cycle: int, taken: tuple[int, ...] | None) -> bool:
        """The edge; `taken` are the addresses that the lanes write. Whether anything has happened."""
        self.busy = True
        answered = bool(self.answers) and self.answers[0] <= cycle
        if answered:
            self.answers.popleft()
        limit = self.memory.outstanding
        ready = not limit or self.opened + len(self.answers) + answered < limit
        sends = self.left > 0 and self.pace.next <= cycle and (ready or self.opened > 0)
        last_beat = self.beat == self.beats_of_word - 1
        last = last_beat and self.left == 1
        address = None
        if self.front is not None and self.lane < len(self.front):
            address = self.front[self.lane]
        follows = address == self.following and self.following % self.page != 0 and 0 < self.words < self.most
        extends = follows and self.held != self.room
        free = (not self.addressed or ready) and (self.left == 0 or (sends and last))
        issues = self.words > 0 and free and not extends and self.outstanding != MOST_WRITES
        begins = address is not None and (not self.words or issues) and not extends and self.held != self.room
        accepts = extends or begins
        advances = sends and last_beat and not last
        addressed = self.addressed and ready
        if addressed:
            self.addressed, self.opened = False, self.opened + 1
        self._send(cycle, sends, last_beat)
        if issues:
            self.left, self.beat, self.addressed = self.words, 0, True
            self.bursts += 1
        self.outstanding += issues - answered
        self.held += accepts - (issues or advances)
        if address is not None and accepts:
            self.words, self.following = self.words + 1 if extends else 1, address + 1
        elif issues:
            self.words = 0
        stepped = self._step(self.front is not None and (address is None or accepts))
        if taken is not None:
            self.queue.append(taken)
        self.full = len(self.queue) == QUEUE
        self.busy = not self.written
        return bool(taken is not None or answered or sends or issues or accepts or stepped or addressed)

    def _send(self, cycle: int, sends: bool, last_beat: bool) -> None:
        if not sends:
            return
        self.pace.beat(cycle)
        self.beats += 1
        if not last_beat:
            self.beat += 1
            return
        self.beat = 0
        self.left -= 1
        if not self.left:
            self.opened -= 1
            self.answers.append(cycle + self.memory.latency + 1)

    def _step(self, steps: bool) -> bool:
        """The next lane, or the next of the queue; `steps`: this lane is done."""
        ends = steps and self.lane == self.port.lanes - 1
        if steps:
            self.lane = 0 if ends else self.lane + 1
        if self.queue and (self.front is None or ends):
            self.front = self.queue.popleft()
            return True
        if ends:
            self.front = None
        return steps

    def next(self, cycle: int) -> list[int]:
        """Cycles in which something will come."""
        paced = [max(cycle + 1, self.pace.next)] if self.left else []
        return paced + ([self.answers[0]] if self.answers else [])
