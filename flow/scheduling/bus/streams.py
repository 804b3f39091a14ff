"""The ring of an operand stream: what it asks its memory for, what it holds for its reader (`core/stream.py`)."""

from __future__ import annotations

from flow.scheduling.bus.jobs import Words


class Ring:
    """`depth` words of `beats` words of the memory; counters as in the RTL, but without their wrap."""

    __slots__ = (
        "address", "beats", "cursor", "depth", "half", "head", "odd", "remaining", "requested", "tail", "touched",
    )  # fmt: skip

    def __init__(self, depth: int, beats: int) -> None:
        self.depth, self.beats = depth, beats
        self.address = self.remaining = 0
        self.requested = self.head = self.tail = self.cursor = 0
        self.touched = False  # by its reader, since that was last cleared
        self.half = self.odd = False  # of the word that is asked for next, that arrives next

    def wants(self) -> bool:
        """Whether it asks for a word."""
        return self.remaining > 0 and (self.half or self.requested - self.tail < self.depth)

    def here(self, arrives: bool) -> bool:
        """Whether its reader may read, with what arrives in this cycle."""
        return self.cursor != self.head or (arrives and (self.beats == 1 or self.odd))

    def move(self, taken: bool, arrives: bool, job: Words | None) -> None:
        """The edge: a request is taken, a word arrives, a job is offered."""
        if taken:
            self.address += 1
            self.remaining -= 1
            if self.beats == 1:
                self.requested += 1
            else:
                self.requested += self.half
                self.half = not self.half
        elif job is not None and not self.remaining:
            self.address, self.remaining = job
        if arrives:
            if self.beats == 1:
                self.head += 1
            else:
                self.head += self.odd
                self.odd = not self.odd

    def read(self, rewind: bool, discard: bool) -> None:
        following = self.cursor + 1
        self.touched = True
        self.cursor = self.tail if rewind else following
        if discard:
            self.tail = following
