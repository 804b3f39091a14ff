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
ROUNDS, COLUMNS = 8, 1024  # that are modelled first, of a group: at least so many, with so many bit columns
TILES, STEPS = 32, 128  # of a job: at least so many, with so many steps


@dataclass(frozen=True)
class Moment:
    """The end of a tile: its cycle, and beats of each memory that are read ahead of their use, or not yet written."""

    cycle: int
    buffered: tuple[int, ...]


@dataclass
class Alike:
    """Rounds that take alike, of which the first `kept` are modelled with `tiles` of each job."""

    rounds: list[tuple[Job, ...]]
    kept: int
    tiles: int

    @property
    def jobs(self) -> list[Job]:
        """The jobs that are modelled, in order."""
        return [_shortened(job, self.tiles) for round_ in self.rounds[: self.kept] for job in round_]

    def more(self, ends: Sequence[Sequence[Moment]]) -> bool:
        """Whether more must be modelled, which is done next; `ends` are the tiles of its jobs that were modelled."""
        size = len(self.rounds[0])
        kept, tiles = self.kept, self.tiles
        if kept < len(self.rounds) and not _steady([job[-1] for job in ends[size - 1 :: size]]):
            self.kept = min(len(self.rounds), 2 * kept)
        whole = [job.tiles for round_ in self.rounds[:kept] for job in round_]
        middle = range(len(ends) // 4, len(ends) - len(ends) // 4)
        if any(len(ends[number]) < whole[number] and not _steady(ends[number]) for number in middle):
            self.tiles *= 2
        return (self.kept, self.tiles) != (kept, tiles)

    def missing(self, ends: Sequence[Sequence[Moment]]) -> float:
        """Cycles of what is not modelled."""
        size = len(self.rounds[0])
        jobs = [job for round_ in self.rounds[: self.kept] for job in round_]
        tiles = [(job.tiles - len(end)) * _pace(end) if job.tiles > len(end) else 0.0
                 for job, end in zip(jobs, ends, strict=True)]  # fmt: skip
        total, rounds = sum(tiles), len(self.rounds) - self.kept
        if rounds:
            quarter = self.kept // 4
            middle = tiles[quarter * size : -quarter * size]
            took = _pace([job[-1] for job in ends[size - 1 :: size]]) + sum(middle) * size / len(middle)
            total += rounds * took
        return total


def alike(jobs: Sequence[Job]) -> list[Alike]:
    """The jobs, in order."""
    return [_begun(list(group)) for _, group in groupby(_rounds(jobs), lambda round_: tuple(map(_kind, round_)))]


def sampled(groups: Sequence[Alike], run: Callable[[list[Job]], list[list[Moment]]]) -> float:
    """Cycles that the last `run` lacked; it gets the jobs that stand for all, and gives the ends of their tiles."""
    while True:
        ends = iter(run([job for group in groups for job in group.jobs]))
        found = [[next(ends) for _ in group.jobs] for group in groups]
        missing = sum(group.missing(end) for group, end in zip(groups, found, strict=True))
        grown = [group.more(end) for group, end in zip(groups, found, strict=True)]
        if not any(grown):
            return missing


def _begun(rounds: list[tuple[Job, ...]]) -> Alike:
    first = rounds[0][0]
    tiles = max(TILES, -(-STEPS // first.steps)) if len(rounds[0]) == 1 else first.tiles  # few, where windows are held
    columns = sum(min(tiles, job.tiles) * job.steps * job.slices for job in rounds[0])
    return Alike(rounds, min(len(rounds), max(ROUNDS, -(-COLUMNS // max(1, columns)))), tiles)


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
    counts = tuple(count for _, count in job.operands.values())
    return (
        counts, job.activation[1], job.tiles, job.steps, job.slices, job.hold, job.resident, job.post, job.channels,
        len(job.addresses), job.mirror, job.external, job.waits, job.turns, job.stored,
    )  # fmt: skip


def _shortened(job: Job, most: int) -> Job:
    """The job with `most` of its tiles, unless each has turns of its own at the banks."""
    if job.tiles <= most or job.turns or job.stored:
        return job
    base, count = job.activation
    return replace(job, tiles=most, activation=(base, count // job.tiles * most))


def _pace(ends: Sequence[Moment]) -> float:
    """Cycles from one end to the next, by a line through the middle half."""
    quarter = len(ends) // 4
    return _slope(ends[quarter : len(ends) - quarter])


def _slope(ends: Sequence[Moment]) -> float:
    at = np.arange(len(ends)) - (len(ends) - 1) / 2
    return float(at @ np.array([end.cycle for end in ends]) / (at @ at))


def _steady(ends: Sequence[Moment]) -> bool:
    """Whether the third quarter is as the second: in its pace, and in what is buffered at most."""
    quarter = len(ends) // 4
    second, third = ends[quarter : 2 * quarter], ends[2 * quarter : 3 * quarter]
    took, pace = third[-1].cycle - second[-1].cycle, _slope([*second, *third])
    if abs(_slope(third) - pace) > STEADY * pace:
        return False
    most = [np.array([end.buffered for end in some]).max(axis=0) for some in (second, third)]
    return bool((np.abs(most[1] - most[0]) <= STEADY * took).all())
