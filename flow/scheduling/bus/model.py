"""A run behind AXI, cycle after cycle: what its cycles and beats will be.

The controllers of the accelerator and of the bus are followed as the RTL has them, without data. Cycles in which
nothing happens but waiting for the memory are passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flow.hardware.accelerator import PARAMETER_DEPTH
from flow.hardware.axi.bus import AxiConfig
from flow.hardware.config import ArrayConfig, memory_ports
from flow.hardware.maps.collect import TILES
from flow.scheduling.blocks import Bytes
from flow.scheduling.bus.bursts import AheadPort, ReadPort, Reads, SlowMemory, Writes
from flow.scheduling.bus.jobs import OPERANDS, Job, Words, jobs
from flow.scheduling.bus.parts import Moment, alike, sampled
from flow.scheduling.bus.streams import Ring
from flow.scheduling.bus.units import ANSWERED, FINISHED, Drain, Fetch, Operands, Sequencer, Store

MAP_UNITS = ("fetch", "store")
UNITS = ("weight", "metadata", "activation", "parameter", "index", "compute", "drain", *MAP_UNITS)
MOST = 300_000  # cycles of a run that is modelled whole
NOBODY: dict[str, Job] = {}
WEIGHT, METADATA, PARAMETER, INDEX, ENTRY = range(len(OPERANDS))  # the streams' places


@dataclass(frozen=True)
class BusTime:
    """Cycles of a run from start to done, as the register has them; beats and bursts by memory."""

    cycles: int
    beats: Mapping[str, int]
    bursts: Mapping[str, int]

    @property
    def busiest(self) -> int:
        """Beats of the busier direction."""
        read = sum(beats for name, beats in self.beats.items() if name != "output")
        return max(read, self.beats["output"])


def bus_time(
    memories: Mapping[str, Bytes], start: Words, config: ArrayConfig, axi: AxiConfig, memory: SlowMemory,
    most: int = MOST,
) -> BusTime:  # fmt: skip
    """A run of the descriptors `start` (first, count) of a schedule's memories.

    It is modelled whole if the array, or the bus, needs `most` cycles at most; else by `parts`, and its bursts are
    estimates, too.
    """
    return jobs_time(jobs(memories, *start, config), config, axi, memory, most)


def jobs_time(made: list[Job], config: ArrayConfig, axi: AxiConfig, memory: SlowMemory, most: int) -> BusTime:
    """A run of these jobs; see `bus_time`."""

    def needs(jobs: Sequence[Job]) -> float:
        busiest = BusTime(0, needed := _beats(jobs, config, axi), needed).busiest
        return max(busiest * max(1.0, axi.beat / memory.bandwidth), sum(j.tiles * j.steps * j.slices for j in jobs))

    if needs(made) <= most:
        return Model(made, config, axi, memory).run()
    some = BusTime(0, {}, {})

    def run(part: list[Job]) -> list[list[Moment]]:
        nonlocal some
        model = Model(part, config, axi, memory)
        some = model.run()
        return model.ends

    missing, beats = sampled(alike(made, needs), run), _beats(made, config, axi)
    bursts = {name: round(some.bursts[name] * count / max(1, some.beats[name])) for name, count in beats.items()}
    return BusTime(round(some.cycles + missing), beats, bursts)


def _beats(made: Sequence[Job], config: ArrayConfig, axi: AxiConfig) -> dict[str, int]:
    """Beats of these jobs by memory."""
    ports = {port.name: port for port in memory_ports(config)}
    words = dict.fromkeys(ports, 0)
    for job in made:
        for name, (_, count) in job.fetched.items():
            words[name] += count
        words["descriptor"] += 1
        words["activation"] += job.activation[1] if job.external or not config.map_words else 0
        words["output"] += job.tiles * job.channels * len(job.addresses) if job.mirror else 0
    return {name: count * axi.beats(ports[name]) for name, count in words.items()}


class _Stream:
    """An operand stream, from the bus by words ahead to the accelerator's ring.

    here: its reader may read; awake: something may happen in the next cycle without anything from outside.
    """

    def __init__(self, name: str, ring: Ring, port: AheadPort, operands: Operands | None = None) -> None:
        self.name, self.ring, self.port, self.operands = name, ring, port, operands
        self.unit = "store" if name == "entry" else name  # that takes its job
        self.here = self.wants = self.gets = False
        self.awake = True

    @property
    def buffered(self) -> int:
        """Beats that have come and were not read."""
        ring, ahead = self.ring, self.port.ring
        return (ring.head - ring.cursor + ahead.head - ahead.cursor) * self.port.beats_of_word

    def look(self, cycle: int) -> None:
        ring, port = self.ring, self.port
        if self.awake or (port.due and port.due[0] == cycle):
            self.awake = True
            port.look(cycle)
            self.wants = ring.remaining > 0 and ring.requested - ring.tail < ring.depth
            self.gets = self.wants and port.ready
            if self.operands:
                self.gets = self.operands.look(self.wants, port.ready)
            self.here = self.arrives or ring.cursor != ring.head
        else:
            self.here = ring.cursor != ring.head

    @property
    def arrives(self) -> bool:
        """Whether a word comes in this cycle."""
        return self.port.shown or (self.operands is not None and self.operands.answers)

    def move(self, job: Job | None, known: Job | None, granted: bool) -> None:
        """The edge: its job is taken, one will come, its burst is granted."""
        ring, port, own = self.ring, self.port, False
        if self.wants:
            if self.gets:
                ring.address += 1
                ring.remaining -= 1
                ring.requested += 1
        elif job is not None and not ring.remaining:
            ring.address, ring.remaining = job.operands[self.name]
        if self.arrives:
            ring.head += 1
        if self.operands:
            own = self.operands.own
            if known is not None and known.operand:
                known = None  # the port ahead is told of no job
        port.move(granted, known.operands[self.name] if known else None, self.wants and not own)
        self.awake = port.awake or ring.touched or job is not None
        ring.touched = False


class Model:
    """A run of these jobs behind AXI, cycle after cycle.

    ends: of each job, when its tiles have left the array.
    """

    def __init__(self, made: list[Job], config: ArrayConfig, axi: AxiConfig, memory: SlowMemory) -> None:
        self.jobs, self.start = made, (0, len(made))
        self.ends: list[list[Moment]] = [[] for _ in made]
        self.ending = 0  # the job whose tiles leave
        self.reads = Reads(config, axi, memory)
        self.writes = Writes(memory_ports(config)[-1], axi, memory)
        depths = {
            "weight": config.weight_depth, "metadata": config.metadata_depth, "parameter": PARAMETER_DEPTH,
            "index": PARAMETER_DEPTH,
        }  # fmt: skip
        self.rings = {name: Ring(depth, 1) for name, depth in depths.items()}
        self.activation = Ring(config.activation_depth, config.beats)
        self.fetch = self.store = None
        if config.map_words:
            self.fetch, self.store = Fetch(config.rows), Store(config.rows)
            self.rings["entry"] = self.store.entries
        rings = self.rings
        ahead = {port.name: port for port in self.reads.ports if isinstance(port, AheadPort)}
        self.operands = Operands(config) if config.operands else None
        self.streams = [
            _Stream(name, ring, ahead[name], self.operands if name == "weight" else None)
            for name, ring in rings.items()
        ]
        self.descriptors = ahead["descriptor"]
        self.outside = next(port for port in self.reads.ports if port.name == "activation")
        self.sequencer = Sequencer(config.element.encoded, rings["weight"], rings["metadata"], self.activation)
        self.drain = Drain(rings["parameter"], rings["index"])
        # The dispatcher.
        self.units = UNITS if config.map_words else UNITS[: -len(MAP_UNITS)]
        self.known = 0  # descriptors whose words have come from the bus
        self.number = -1  # of the job on offer
        self.offers: dict[str, Job] = {}  # to the units that have not taken it
        self.octet_taken = self.octet_outside = self.octet_arrives = False  # in this cycle; outside: not from the maps
        self.to_finish = len(made)
        self.to_fetch = len(made) - 1
        self.waiting = True

    def run(self) -> BusTime:
        """The cycles until all results are in memory, or until the run stands still, as wrong descriptors have it."""
        cycle, done = 1, False
        while not done or not self.writes.written:
            moved, done = self._cycle(cycle, done)
            following = cycle + 1 if moved or done else self._next(cycle)
            if following is None:
                break
            cycle = following
        ports = [(port.name, port.beats, port.bursts) for port in self.reads.ports]
        ports.append(("output", self.writes.beats, self.writes.bursts))
        return BusTime(cycle, {name: beats for name, beats, _ in ports}, {name: bursts for name, _, bursts in ports})

    def _next(self, cycle: int) -> int | None:
        """The next cycle in which something comes, after one in which nothing has happened; None if nothing does."""
        coming = [*self.reads.next(), *self.writes.next(cycle)]
        if self.fetch and self.store:
            coming += [self.fetch.start, self.store.start]
        return min((each for each in coming if each > cycle), default=None)

    def _cycle(self, cycle: int, done: bool) -> tuple[bool, bool]:
        """One cycle: whether anything has happened, and whether the accelerator is done with it or was before."""
        descriptors, drain, sequencer, writes = self.descriptors, self.drain, self.sequencer, self.writes
        for stream in self.streams:
            stream.look(cycle)
        self._present(cycle)
        self._octets(cycle)
        finished = sequencer.pipe & FINISHED != 0
        if drain.busy or finished:
            full = self.store is not None and self.store.staged == TILES
            drain.look(not writes.full, full, self.streams[PARAMETER].here and self.streams[INDEX].here, finished,
                       "drain" in self.offers)  # fmt: skip
        if sequencer.job is not None:
            octets = self.activation.here(self.octet_arrives)
            if self.operands:
                octets = self.operands.room(octets)
            sequencer.look(drain.enable, self.streams[WEIGHT].here, self.streams[METADATA].here, octets)
        accepted, complete = self._accepted() if self.offers else (NOBODY, False)
        granted = self.reads.grant(cycle)
        last = drain.stages[-1] if drain.moves else None
        tile_done, block_done = last is not None and last.tile_done, last is not None and last.block_done
        if tile_done:
            self.ends[self.ending].append(Moment(cycle, self._buffered()))
            self.ending += block_done
        if self.store:
            block_done = self.store.block_done

        reads_octets = sequencer.reads
        moved = self.reads.moved or complete or len(accepted) > 0
        written = last.addresses if last is not None and last.addresses else None
        if written is not None or writes.busy:
            moved |= writes.move(cycle, written)
        if drain.busy or finished or accepted:
            moved |= drain.move(accepted.get("drain"))
        if sequencer.job is not None or sequencer.pipe or accepted:
            moved |= sequencer.move(drain.enable, accepted.get("compute"))
        if self.fetch and self.store:
            moved |= self.fetch.move(accepted.get("fetch"), self.octet_outside, self.outside.arrives, block_done)
            if self.store.busy or accepted or tile_done:
                moved |= self.store.move(cycle, accepted.get("store"), tile_done, self.streams[ENTRY].here)
        moved |= self._operands(accepted, granted, reads_octets)
        if descriptors.awake or complete or self.waiting or granted is descriptors:
            moved |= self._dispatch(cycle, complete, granted)
        if accepted:
            self.offers = {unit: job for unit, job in self.offers.items() if unit not in accepted}
        if block_done:
            self.to_finish -= 1
        return moved, done or self.to_finish == 0

    def _buffered(self) -> tuple[int, ...]:
        """Beats of each memory that are read ahead of their use, or not yet written."""
        ring = self.activation
        octets = (ring.head - ring.cursor) * ring.beats * self.outside.beats_of_word
        return (*[stream.buffered for stream in self.streams], octets, self.writes.held * self.writes.beats_of_word)

    def _present(self, cycle: int) -> None:
        """What the descriptors' port does; a job that it shows is on offer."""
        descriptors = self.descriptors
        if descriptors.awake or (descriptors.due and descriptors.due[0] == cycle):
            descriptors.awake = True
            descriptors.look(cycle)
            if descriptors.shown:
                self.number += 1
                self.offers = dict.fromkeys(self.units, self.jobs[self.number])

    def _accepted(self) -> tuple[dict[str, Job], bool]:
        """The units that take the job on offer in this cycle, and whether all have it then."""
        taken = {unit: job for unit, job in self.offers.items() if self._ready(unit, job)}
        return taken, len(taken) == len(self.offers)

    def _ready(self, unit: str, job: Job) -> bool:
        if unit in self.rings:
            return not self.rings[unit].remaining
        if unit == "compute":
            return self.sequencer.ready
        if unit == "drain":
            return self.drain.ready
        if unit == "activation":
            return not self.activation.remaining
        assert self.fetch and self.store
        return self.fetch.ready(job) if unit == "fetch" else self.store.ready and not self.store.entries.remaining

    def _octets(self, cycle: int) -> None:
        """The octets of activations that are asked for and come in this cycle."""
        ring, port, fetch = self.activation, self.outside, self.fetch
        port.look(cycle)
        wants = ring.remaining > 0 and (ring.half or ring.requested - ring.tail < ring.depth)
        if fetch is None:
            port.wants, port.address = wants, ring.address
            port.ask()
            self.octet_taken = self.octet_outside = port.accepts
            self.octet_arrives = port.arrives
            return
        fetch.look(cycle, self.offers.get("fetch") if self.offers else None)
        inside = wants and fetch.inside and fetch.turns <= 1
        fetch.goes = inside
        if fetch.outside or port.gathering or port.asks:
            port.wants = wants and fetch.outside
            if port.wants and fetch.job is not None:
                port.address = fetch.job.activation[0] + fetch.octet
            port.ask()
        self.octet_outside = fetch.outside and port.accepts
        self.octet_taken = inside or self.octet_outside
        self.octet_arrives = port.arrives or fetch.answering & ANSWERED != 0

    def _operands(self, accepted: Mapping[str, Job], granted: ReadPort | None, reads: bool) -> bool:
        """The edge of all streams; `reads`: of the activations a word is read. Whether anything has happened."""
        arrives = self.streams[WEIGHT].port.shown
        known = None
        if self.descriptors.arrives:
            known = self.jobs[self.known]
            self.known += 1
        moved = False
        for stream in self.streams:
            if stream.awake or accepted or known or granted is stream.port or stream.ring.touched:
                stream.move(accepted.get(stream.unit), known, granted is stream.port)
                moved |= stream.awake
        if self.operands:
            moved |= self.operands.move(accepted.get("compute"), accepted.get("weight"), reads, arrives)
            self.streams[WEIGHT].awake = True
        if self.octet_taken or self.octet_arrives or accepted:
            job = accepted.get("activation")
            self.activation.move(self.octet_taken, self.octet_arrives, job.activation if job else None)
        if self.octet_outside or self.outside.arrives or granted is self.outside:
            self.outside.gather(granted is self.outside)
            return True
        return moved

    def _dispatch(self, cycle: int, complete: bool, granted: ReadPort | None) -> bool:
        """The edge of the dispatcher and of its port. Whether anything has happened."""
        asks = self.waiting or (complete and self.to_fetch > 0)
        if complete and self.to_fetch:
            self.to_fetch -= 1
        self.waiting = asks and not self.descriptors.ready
        self.descriptors.move(granted is self.descriptors, self.start if cycle == 1 else None, asks)
        return self.descriptors.awake
