"""SIGKILL at random moments of `bbs compile`, `bbs cosim --resume` and `bbs explore`: nothing half, nothing left.

    python -m bench.kills [--count 100] [--seed S] [--engine icarus] [--command compile|cosim|explore]

After each kill, the output is absent or whole; the programs that the command started have ended within `SECONDS`; the
same command, run again, ends as one that was never killed, and leaves no file of the killed one beside the output or
among the temporary files. A kill that comes when the command has ended is no kill: an earlier one follows.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

import flow
from bench.mutation import small_network
from flow.files import scratch
from flow.output.manifest import MANIFEST

COMMANDS = ("compile", "cosim", "explore")
SECONDS = 30.0
STUDY = 2  # designs
BBS = "from flow.cli import main; main()"


@dataclass(frozen=True)
class Place:
    """A folder with a network, its output, and the temporary files of all that runs here."""

    folder: Path
    engine: str

    @property
    def output(self) -> Path:
        return self.folder / "out"

    @property
    def temporary(self) -> Path:
        return self.folder / "temporary"

    def arguments(self, command: str) -> list[str]:
        model, output = str(self.folder / "small.onnx"), str(self.output)
        return {
            "compile": ["compile", model, "-o", output, "--array", "2x2", "--engine", self.engine, "--samples", "1",
                        "--preset", "moderate", "--processes", "1", "--resume"],
            "cosim": ["cosim", output, "--engine", self.engine, "--samples", "1", "--processes", "1", "--resume"],
            "explore": ["explore", model, "-o", output, "--trials", str(STUDY)],
        }[command]  # fmt: skip

    def start(self, command: str) -> subprocess.Popen[bytes]:
        self.temporary.mkdir(exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "-c", BBS, *self.arguments(command), "--quiet"],
            env={**os.environ, "TMPDIR": str(self.temporary)},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def finish(self, command: str) -> None:
        """Runs the command to its end. AssertionError if it fails."""
        process = self.start(command)
        printed, _ = process.communicate()
        assert process.returncode == 0, f"{command} ended with {process.returncode}: {printed.decode()}"

    def running(self) -> list[int]:
        """Processes whose temporary files belong here, but for this one."""
        mark, found = f"TMPDIR={self.temporary}".encode(), []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                if mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def left(self) -> list[str]:
        """Files of a command beside the output, or among the temporary ones."""
        beside = [path.name for path in self.folder.iterdir() if path.name.startswith(".")]
        return beside + [path.name for path in self.temporary.iterdir() if path.name.startswith("bbs")]

    def state(self, command: str) -> object:
        """What a command that ended well leaves, to compare."""
        if command == "explore":
            return any(design["best"] for design in json.loads((self.output / "explore.json").read_text())["designs"])
        return (self.output / MANIFEST).read_bytes()


def kill(place: Place, command: str, moment: float) -> bool:
    """One kill, `moment` seconds after the start; whether the command was still at work."""
    process = place.start(command)
    try:
        process.wait(moment)
        alive = False
    except subprocess.TimeoutExpired:
        alive = True
        process.send_signal(signal.SIGKILL)
    process.communicate()
    end = time.monotonic() + SECONDS
    while place.running():
        assert time.monotonic() < end, f"processes of a killed {command} run on: {place.running()}"
        time.sleep(0.1)
    if command != "explore" and place.output.exists():
        assert not flow.verify(place.output)[1].any, f"a killed {command} left half a build"
    return alive


def running_time(place: Place, command: str) -> float:
    """Seconds that the command takes when nothing ends it."""
    if command != "cosim":
        shutil.rmtree(place.output)
    began = time.monotonic()
    place.finish(command)
    return time.monotonic() - began


def kills(command: str, count: int, seed: int, engine: str, say: Callable[[str], None] = lambda text: None) -> int:
    """How often the command was started to kill it `count` times. AssertionError if one leaves what it must not."""
    generator, started = random.Random(seed), 0
    with scratch() as folder:
        place = Place(folder, engine)
        small_network(folder / "small.onnx")
        if command != "compile":
            place.finish("compile")
        if command == "explore":
            shutil.rmtree(place.output)
        place.finish(command)
        wanted = place.state(command)
        took = running_time(place, command)
        for number in range(count):
            killed = False
            while not killed:
                if command != "cosim":
                    shutil.rmtree(place.output)
                moment = generator.uniform(0.2, 1.0) * took
                killed = kill(place, command, moment)
                took, started = took if killed else moment, started + 1
            place.finish(command)
            assert place.state(command) == wanted, f"{command} ends otherwise after a kill"
            assert not place.left(), f"a killed {command} left {place.left()}"
            say(f"{command}: {number + 1} killed at work")
    return started


@click.command()
@click.option("--count", type=int, default=100, help="kills in all")
@click.option("--seed", type=int, default=0)
@click.option("--engine", default="icarus")
@click.option("--command", "commands", multiple=True, type=click.Choice(COMMANDS), default=COMMANDS)
def main(count: int, seed: int, engine: str, commands: tuple[str, ...]) -> None:
    for number, command in enumerate(commands):
        share = count // len(commands) + (number < count % len(commands))
        kills(command, share, seed, engine, click.echo)
        click.echo(f"{command}: killed {share} times at work; nothing half, nothing left")


if __name__ == "__main__":
    main()
