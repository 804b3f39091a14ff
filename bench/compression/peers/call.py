"""Has a package round the weights of a float network, in a process with the package's own Python."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx

from flow.errors import FlowError
from flow.files import scratch, write_json, write_model, write_npz
from flow.network.samples import Arrays
from flow.programs import run

ROOT = Path(__file__).parents[3]
SECONDS = 12 * 3600.0  # that a technique may take
WHOLE = range(2, 9)


@dataclass(frozen=True)
class Peer:
    """A technique of a package, and the numbers of bits that it has; `package` is the name of its worker here."""

    package: str
    technique: str
    bits: Collection[int] = WHOLE

    @property
    def name(self) -> str:
        return f"{self.package} {self.technique}"


PEERS = (
    Peer("aimet", "seqmse"),
    Peer("aimet", "cle-seqmse"),
    Peer("aimet", "adaround-1000"),
    Peer("aimet", "adaround"),
    Peer("brevitas", "gptq"),
    Peer("brevitas", "gptq-full"),
    Peer("brevitas", "gpfq"),
    Peer("brevitas", "gpfq-full"),
    Peer("brevitas", "qronos"),
    Peer("brevitas", "qronos-full"),
    Peer("nncf", "ptq", (8,)),
    Peer("ort", "minmax", (4, 8)),
    Peer("ort", "percentile", (4, 8)),
)
PACKAGES = tuple(dict.fromkeys(peer.package for peer in PEERS))


@dataclass(frozen=True)
class Package:
    """A package as it is installed: its Python, and its name and version there."""

    python: str
    version: str


def packages(text: str) -> dict[str, Package]:
    """The packages of "aimet=/path/to/python,ort"; without a path, in this Python. FlowError if one does not work."""
    found = {}
    for part in text.split(","):
        name, _, python = part.partition("=")
        if name not in PACKAGES:
            raise FlowError(f"--peers takes {', '.join(PACKAGES)}, but it has '{name}'; change --peers")
        python = python or sys.executable
        try:
            found[name] = Package(python, _worker(python, name).splitlines()[-1])
        except FlowError as error:
            reason = str(error).rpartition("; ")[0]
            raise FlowError(
                f"'{name}' of --peers needs a Python that has the package, but with '{python}' {reason}; "
                "docs/figures.md has an environment for it"
            ) from None
    return found


def _worker(python: str, package: str, arguments: Iterable[str] = (), folder: Path = ROOT) -> str:
    """What the package's worker prints."""
    name = f"{__package__}.{package}"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONNOUSERSITE": "1"}
    command = [python, "-m", name, *arguments]
    return run(command, f"-m {name}", folder=folder, environment=environment, seconds=SECONDS)


@dataclass(frozen=True)
class Rounded:
    """What a peer made of the network, and the seconds of the processor that it took."""

    peer: Peer
    bits: int
    model: onnx.ModelProto
    seconds: float


@dataclass(frozen=True)
class Caller:
    """A float network, samples to round it by, and who is to; results are kept in `folder` and used again.

    Techniques in `without` are left out.
    """

    model: onnx.ModelProto
    feeds: Arrays
    packages: dict[str, Package]
    folder: Path
    without: Collection[str] = ()

    def all(self, bits: int) -> list[Rounded]:
        """The networks of all peers that have so many bits. FlowError if one fails."""
        asked = [peer for peer in PEERS if peer.package in self.packages and peer.technique not in self.without]
        return [self._one(peer, bits) for peer in asked if bits in peer.bits]

    def _one(self, peer: Peer, bits: int) -> Rounded:
        package = self.packages[peer.package]
        kept = self.folder / f"{self._digest()}_{package.version}_{peer.technique}_{bits}.onnx"
        notes = kept.with_suffix(".json")
        if not notes.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            with scratch() as folder:
                files = [folder / name for name in ("float.onnx", "samples.npz", "rounded.onnx")]
                write_model(files[0], self.model)
                write_npz(files[1], self.feeds)
                printed = _worker(package.python, peer.package, [peer.technique, str(bits), *map(str, files)], folder)
                write_model(kept, onnx.load(files[2]))
            write_json(notes, json.loads(printed.splitlines()[-1]))
        return Rounded(peer, bits, onnx.load(kept), json.loads(notes.read_text())["seconds"])

    def _digest(self) -> str:
        digest = hashlib.sha256(self.model.SerializeToString(deterministic=True))
        for name, array in sorted(self.feeds.items()):
            digest.update(name.encode() + array.tobytes())
        return digest.hexdigest()[:12]
