"""Long runs by a part of them: of jobs that are alike, and of a job's tiles, some stand for all.

What a job of many like it, or a tile of many, takes once the buffers are as full as they get is what the last half of
those that are modelled took on average. Jobs that share windows are one round: many like it are alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from flow.hardware.config import ArrayConfig
from flow.scheduling.bus.jobs import Job

FILLS: Final = 4
LEAST: Final = (512, 256, 128, 64, 32, 16)  # jobs of a group, and tiles of a job, that are modelled


@dataclass(frozen=True)
class Part:
    """A job that is modelled: it lacks `tiles`, and after it `rounds` like the `modelled` ones behind part `since`."""

    job: Job
    tiles: int = 0
    rounds: int = 0
    since: int = 0
    modelled: int = 0


@dataclass(frozen=True)
class Transient:
    """How long a run may take to settle: words of activations, and of weights, that the buffers take in that time."""

    activations: int
    weights: int

    @classmethod
    def of(cls, config: ArrayConfig, latency: int) -> Transient:
        """Of an array behind a memory with this latency: some times as many as buffers hold and latency hides."""
        return cls(FILLS * (config.activation_depth + latency), FILLS * (config.weight_depth + latency))


def parts(jobs: Sequence[Job], work: Callable[[Sequence[Job]], float], most: float, settles: Transient) -> list[Part]:
    """The jobs that stand for all, in order: as many as are `work` of `most` at most, or the fewest there may be."""
    found: list[Part] = []
    for least in LEAST:
        found = _parts(jobs, least, settles)
        if work([part.job for part in found]) <= most:
            break
    return found


def _parts(jobs: Sequence[Job], least: int, settles: Transient) -> list[Part]:
    found: list[Part] = []
    for _, group in groupby(_rounds(jobs), lambda round_: tuple(map(_kind, round_))):
        alike = list(group)
        most = max(least, -(-settles.weights // max(1, sum(job.steps * job.slices for job in alike[0]))))
        kept = [job for round_ in alike[:most] for job in round_]
        found += [_shortened(job, max(least, -(-settles.activations // job.steps))) for job in kept]
        if len(alike) > most:
            half = most // 2
            since = len(found) - 1 - half * len(alike[0])
            found[-1] = replace(found[-1], rounds=len(alike) - most, since=since, modelled=half)
    return found


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


def _shortened(job: Job, most: int) -> Part:
    """The job with some of its tiles, unless each has turns of its own at the banks."""
    if job.tiles <= most or job.turns or job.stored:
        return Part(job)
    base, count = job.activation
    return Part(replace(job, tiles=most, activation=(base, count // job.tiles * most)), job.tiles - most)


def missing(found: Sequence[Part], ends: Sequence[Sequence[int]]) -> float:
    """Cycles of what the parts lack; `ends` are the cycles in which each tile of each part has left the array."""
    tiles = [part.tiles * _pace(times) if part.tiles else 0.0 for part, times in zip(found, ends, strict=True)]
    total = sum(tiles)
    for number, part in enumerate(found):
        if part.rounds:
            took = ends[number][-1] - ends[part.since][-1] + sum(tiles[part.since + 1 : number + 1])
            total += part.rounds * took / part.modelled
    return total


def _pace(times: Sequence[int]) -> float:
    """Cycles of a tile, by the last half."""
    half = len(times) // 2
    return (times[-1] - times[half]) / (len(times) - 1 - half)
