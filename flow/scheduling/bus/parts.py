"""Long runs by a part of them: of jobs that are alike, and of a job's tiles, some stand for all.

What a job of many like it, or a tile of many, takes is what the middle half of those that are modelled took: buffers
fill before, and run empty behind. More are modelled until pace and buffers are steady in that half, so that what these
gain or lose takes the bus `STEADY` of the time at most. Jobs that share windows are one round: many like it are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

import numpy as np

from flow.scheduling.bus.jobs import Job

STEADY: Final = 0.02
ROUNDS = 8  # of a group that are modelled first, or four times as many if N varies
COLUMNS = 4096  # bit columns in these, at least
TILES, STEPS = 32, 128  # of a job: at least so many, with so many steps


@dataclass(frozen=True)
class Moment:
    """The end of a tile: its cycle, and beats of each memory that are read ahead of their use, or not yet written."""

    cycle: int
    buffered: tuple[int, ...]


@dataclass
class Alike:
    """Rounds that take alike, of which `kept` are modelled with `tiles` of each job: some in a row at some places.

    Where N varies from one to the next, each takes as long as its `needs`, on average: cycles of array or bus.
    """

    rounds: list[tuple[Job, ...]]
    needs: list[float]
    kept: int
    tiles: int

    @property
    def chosen(self) -> list[int]:
        """Numbers of the rounds that are modelled, in order."""
        if self.kept == len(self.rounds):
            return list(range(self.kept))
        first = np.linspace(0, len(self.rounds) - ROUNDS, -(-self.kept // ROUNDS)).astype(int)
        return sorted({int(at) + number for at in first for number in range(ROUNDS)})

    @property
    def jobs(self) -> list[Job]:
        """The jobs that are modelled, in order."""
        return [_shortened(job, self.tiles) for job in self._whole]

    @property
    def _whole(self) -> list[Job]:
        """The same jobs with all their tiles."""
        return [job for number in self.chosen for job in self.rounds[number]]

    @property
    def _needed(self) -> list[float]:
        """What the rounds need that are modelled."""
        return [self.needs[number] for number in self.chosen]

    def more(self, ends: Sequence[Sequence[Moment]]) -> bool:
        """Whether more must be modelled, which is done next; `ends` are the tiles of its jobs that were modelled."""
        kept, tiles, quarter = self.kept, self.tiles, len(ends) // 4
        middle = list(zip(self._whole, ends, strict=True))[quarter : len(ends) - quarter]
        if kept < len(self.rounds) and not _steady(self._ends(ends), self._needed):
            self.kept = 2 * kept if 4 * kept < len(self.rounds) else len(self.rounds)
        if any(len(end) < job.tiles and not _steady(end, [1] * len(end)) for job, end in middle):
            self.tiles *= 2
        return (self.kept, self.tiles) != (kept, tiles)

    def missing(self, ends: Sequence[Sequence[Moment]]) -> float:
        """Cycles of what is not modelled."""
        tiles = [_pace(end, [1] * len(end)) * lacks if (lacks := job.tiles - len(end)) else 0.0
                 for job, end in zip(self._whole, ends, strict=True)]  # fmt: skip
        needs = self._needed
        if len(needs) == len(self.rounds):
            return sum(tiles)
        pace = _pace(self._ends(ends), needs) + sum(tiles) / sum(needs)
        return sum(tiles) + pace * (sum(self.needs) - sum(needs))

    def _ends(self, ends: Sequence[Sequence[Moment]]) -> list[Moment]:
        """The ends of the rounds."""
        size = len(self.rounds[0])
        return [job[-1] for job in ends[size - 1 :: size]]


def alike(jobs: Sequence[Job], needs: Callable[[Sequence[Job]], float]) -> list[Alike]:
    """The jobs, in order; `needs`: cycles of array or bus that some need.

    Rounds that differ in N alone belong together if there are few of a kind in a row.
    """
    found: list[tuple[list[tuple[Job, ...]], bool]] = []  # rounds, and whether their N varies
    for _, group in groupby(_rounds(jobs), lambda round_: tuple(map(_kind, round_))):
        rounds, before, varies = list(group), *(found[-1] if found else ([], False))
        few = varies or min(len(before), len(rounds)) < ROUNDS
        if before and few and _shape(before[0]) == _shape(rounds[0]):
            found[-1] = before + rounds, True
        else:
            found.append((rounds, False))
    return [_begun(rounds, [needs(round_) for round_ in rounds], varies) for rounds, varies in found]


def sampled(groups: Sequence[Alike], run: Callable[[list[Job]], list[list[Moment]]]) -> float:
    """Cycles that the last `run` lacked; it gets the jobs that stand for all, and gives the ends of their tiles."""
    while True:
        ends = iter(run([job for group in groups for job in group.jobs]))
        found = [[next(ends) for _ in group.jobs] for group in groups]
        missing = sum(group.missing(end) for group, end in zip(groups, found, strict=True))
        grown = [group.more(end) for group, end in zip(groups, found, strict=True)]
        if not any(grown):
            return missing


def _begun(rounds: list[tuple[Job, ...]], needs: list[float], varies: bool) -> Alike:
    first = rounds[0][0]
    tiles = max(TILES, -(-STEPS // first.steps)) if len(rounds[0]) == 1 else first.tiles  # few, where windows are held
    columns = sum(min(tiles, job.tiles) * job.steps * job.slices for job in rounds[0])
    kept = max(4 * ROUNDS if varies else ROUNDS, -(-COLUMNS // max(1, columns)))
    return Alike(rounds, needs, min(len(rounds), kept), tiles)


def _rounds(jobs: Sequence[Job]) -> Iterator[tuple[Job, ...]]:
    """The jobs that share windows, one after the other."""
    begun = list[Job]()
    for job in jobs:
        begun.append(job)
        if not job.hold:
            yield tuple(begun)
            begun = []
    if begun:
        yield tuple(begun)


def _kind(job: Job) -> tuple[object, ...]:
    """What the time of a job follows from, but for what else is under way."""
    return job.slices, *[count for _, count in job.operands.values()], *_shape((job,))


def _shape(jobs: Sequence[Job]) -> tuple[object, ...]:
    """The same without N."""
    return tuple(
        (job.words, job.activation[1], job.tiles, job.steps, job.hold, job.resident, job.post, job.channels,
         len(job.addresses), job.mirror, job.external, job.waits, job.turns, job.stored)
        for job in jobs
    )  # fmt: skip


def _shortened(job: Job, most: int) -> Job:
    """The job with `most` of its tiles, unless each has turns of its own at the banks."""
    if job.tiles <= most or job.turns or job.stored:
        return job
    base, count = job.activation
    return replace(job, tiles=most, activation=(base, count // job.tiles * most))


def _pace(ends: Sequence[Moment], needs: Sequence[float], begin: float = 0.25, end: float = 0.75) -> float:
    """Cycles for each that is needed, by a line through this part of the ends."""
    part = slice(int(begin * len(ends)), int(end * len(ends)))
    at = np.cumsum(needs, dtype=np.float64)[part]
    at -= at.mean()
    return float(at @ np.array([each.cycle for each in ends[part]]) / (at @ at))


def _steady(ends: Sequence[Moment], needs: Sequence[float]) -> bool:
    """Whether the third quarter is as the second: in its pace, and in what is buffered at most."""
    quarter = len(ends) // 4
    second, third = ends[quarter : 2 * quarter], ends[2 * quarter : 3 * quarter]
    pace, later = (_pace(ends, needs, begin) for begin in (0.25, 0.5))
    if abs(later - pace) > STEADY * pace:
        return False
    most = [np.array([end.buffered for end in some]).max(axis=0) for some in (second, third)]
    return bool((np.abs(most[1] - most[0]) <= STEADY * (third[-1].cycle - second[-1].cycle)).all())
