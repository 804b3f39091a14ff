"""Has a package round the weights of a float network, in a process with the package's own Python."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import onnx

from flow.errors import FlowError
from flow.files import scratch, write_json, write_model, write_npz
from flow.network.samples import Arrays
from flow.programs import run

ROOT = Path(__file__).parents[3]
SECONDS = 6 * 3600.0
WHOLE = range(2, 9)  # bits


@dataclass(frozen=True)
class Peer:
    """A technique of a package, whose worker is <package>.py; `bits` are those that it has."""

    package: str
    technique: str
    bits: Collection[int] = WHOLE

    @property
    def name(self) -> str:
        return f"{self.package} {self.technique}"


PEERS = (
    Peer("aimet", "seqmse"),
    Peer("aimet", "cle-seqmse"),
    Peer("aimet", "adaround"),
    Peer("brevitas", "gptq"),
    Peer("brevitas", "gpfq"),
    Peer("brevitas", "qronos"),
    Peer("nncf", "ptq", (8,)),
    Peer("ort", "minmax", (4, 8)),
    Peer("ort", "percentile", (4, 8)),
)


@dataclass(frozen=True)
class Rounded:
    """A peer's network, the seconds of the processor that it took, and the package's version."""

    peer: Peer
    bits: int
    model: onnx.ModelProto
    seconds: float
    version: str


def interpreters(text: str) -> dict[str, str]:
    """Packages and their Pythons of "aimet=/path/to/python,ort"; without a path, this Python. FlowError if unknown."""
    found = {name: path or sys.executable for name, _, path in (part.partition("=") for part in text.split(","))}
    known = {peer.package for peer in PEERS}
    if unknown := sorted(set(found) - known):
        raise FlowError(f"--peers takes {', '.join(sorted(known))}, but it has '{unknown[0]}'; remove it")
    return found


def asked(pythons: dict[str, str], bits: int) -> list[Peer]:
    """The techniques of these packages that have so many bits."""
    return [peer for peer in PEERS if peer.package in pythons and bits in peer.bits]


@dataclass(frozen=True)
class Caller:
    """A float network and samples to round it by; results are kept in `folder`, so that none is computed twice."""

    model: onnx.ModelProto
    feeds: Arrays
    pythons: dict[str, str]
    folder: Path

    def rounded(self, peer: Peer, bits: int) -> Rounded:
        """The network with weights of so many bits. FlowError if the Python or the package is missing, or it fails."""
        kept = self.folder / f"{self._digest()}_{peer.package}_{peer.technique}_{bits}.onnx"
        notes = kept.with_suffix(".json")
        if not notes.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            said = self._work(peer, bits, kept)
            write_json(notes, said)
        told = json.loads(notes.read_text())
        return Rounded(peer, bits, onnx.load(kept), told["seconds"], told["version"])

    def _work(self, peer: Peer, bits: int, result: Path) -> dict[str, object]:
        worker, python = f"bench.compression.peers.{peer.package}", self.pythons[peer.package]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONNOUSERSITE": "1"}
        with scratch() as folder:
            write_model(folder / "float.onnx", self.model)
            write_npz(folder / "samples.npz", self.feeds)
            files = [str(folder / name) for name in ("float.onnx", "samples.npz", "rounded.onnx")]
            command = [python, "-m", worker, peer.technique, str(bits), *files]
            printed = run(command, f"-m {worker}", folder=folder, environment=environment, seconds=SECONDS)
            write_model(result, onnx.load(files[-1]))
        said: dict[str, object] = json.loads(printed.splitlines()[-1])
        return said

    def _digest(self) -> str:
        digest = hashlib.sha256(self.model.SerializeToString(deterministic=True))
        for name, array in sorted(self.feeds.items()):
            digest.update(name.encode() + array.tobytes())
        return digest.hexdigest()[:12]
