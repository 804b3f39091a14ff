"""Post-training methods that BBS is compared with, and their weights in the INT8 network.

ptq            per channel, rounded to b bits over the weights' range
ptq clipped    the same, the range searched for the least squared error
gptq           the same range, the error of every weight rounded compensated in the later ones (Frantar et al.,
               ICLR 2023), on the calibration samples
mxint          Microscaling: 32 weights share a power of two, b bits each (OCP MX specification)
bit-flip       BitWave (Shi et al., HPCA 2024): in sign and magnitude, 32 weights share which N columns are zero
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from flow.frontend.int8.layers import from_rows
from flow.network.model import Network
from flow.onnxtools.graph import node_name

Rows = NDArray[np.float64]  # [channels, reduction], in units of the layer's INT8 scales
Baseline = Callable[[Rows, float], tuple[Rows, float]]  # weights and a budget to weights and bits per weight

GROUP = 32
METADATA = 8 / GROUP
CLIPS = np.linspace(0.3, 1.0, 29)


def round_to(rows: Rows, bits: int, reach: Rows) -> Rows:
    """Symmetric rounding to `bits` bits over -reach..reach, which broadcasts."""
    top = 2 ** (bits - 1) - 1
    step = np.maximum(reach, 1e-12) / max(top, 0.5)
    rounded: Rows = np.clip(np.rint(rows / step), -top - 1, top) * step
    return rounded


def ptq(rows: Rows, budget: float) -> tuple[Rows, float]:
    bits = min(int(budget), 8)
    return round_to(rows, bits, np.abs(rows).max(axis=1, keepdims=True)), bits


def ptq_clipped(rows: Rows, budget: float) -> tuple[Rows, float]:
    bits = min(int(budget), 8)
    return round_to(rows, bits, clipped_reach(rows, bits)), bits


def clipped_reach(rows: Rows, bits: int) -> Rows:
    """The range of every channel, [channels, 1], that rounding to `bits` bits has the least squared error in."""
    reach = np.abs(rows).max(axis=1, keepdims=True)
    tries = np.stack([round_to(rows, bits, reach * clip) for clip in CLIPS])
    clipped: Rows = reach * CLIPS[((tries - rows) ** 2).sum(axis=2).argmin(axis=0)][:, None]
    return clipped


def gptq(rows: Rows, budget: float, second: NDArray[np.float32]) -> tuple[Rows, float]:
    """`second`: the second moments of the inputs, [reduction, reduction]."""
    bits = min(int(budget), 8)
    reach, left, rounded = clipped_reach(rows, bits), rows.copy(), np.empty_like(rows)
    damped = second.astype(np.float64) + 0.01 * max(float(np.diag(second).mean()), 1e-9) * np.eye(len(second))
    upper = np.linalg.cholesky(np.linalg.inv(damped)).T
    for place in range(rows.shape[1]):
        rounded[:, place] = round_to(left[:, place : place + 1], bits, reach)[:, 0]
        error = (left[:, place] - rounded[:, place]) / upper[place, place]
        left[:, place:] -= error[:, None] * upper[place, place:]
    return rounded, bits


def mxint(rows: Rows, budget: float) -> tuple[Rows, float]:
    bits = min(int(budget - METADATA), 8)
    groups = _grouped(rows)
    largest = np.abs(groups).max(axis=2, keepdims=True)
    step = np.exp2(np.floor(np.log2(np.maximum(largest, 1e-12))) - (bits - 2))
    rounded = np.clip(np.rint(groups / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * step
    return _rows(rounded, rows.shape[1]), bits + METADATA


def bit_flip(rows: Rows, budget: float) -> tuple[Rows, float]:
    zero = max(7 - int(budget - METADATA - 1), 0)  # of seven magnitude columns; the sign stays
    codes = np.clip(np.rint(_grouped(rows)), -127, 127)
    best, least = codes, np.full(codes.shape[:2], np.inf)
    for columns in combinations(range(7), zero):
        mask = 127 & ~sum(1 << column for column in columns)
        levels = np.array([value for value in range(128) if value & ~mask == 0])
        nearest = levels[np.abs(np.arange(128)[:, None] - levels).argmin(axis=1)]
        tried = np.sign(codes) * nearest[np.abs(codes).astype(int)]
        error = ((tried - codes) ** 2).sum(axis=2)
        best = np.where((error < least)[..., None], tried, best)
        least = np.minimum(error, least)
    return _rows(best, rows.shape[1]), 8 - zero + METADATA * (zero > 0)


def _grouped(rows: Rows) -> Rows:
    padding = -rows.shape[1] % GROUP
    return np.pad(rows, [(0, 0), (0, padding)]).reshape(len(rows), -1, GROUP)


def _rows(groups: Rows, reduction: int) -> Rows:
    return groups.reshape(len(groups), -1)[:, :reduction]


BASELINES: dict[str, Baseline] = {"ptq": ptq, "ptq clipped": ptq_clipped, "mxint": mxint, "bit-flip": bit_flip}


def with_real_weights(network: Network, weights: dict[str, Rows]) -> onnx.ModelProto:
    """The INT8 network with these weights in float32, which need not lie on the INT8 grid."""
    copy = onnx.ModelProto()
    copy.CopyFrom(network.model)
    nodes = {node_name(node): node for node in copy.graph.node}
    shapes = {tensor.name: tuple(tensor.dims) for tensor in copy.graph.initializer}
    for layer in network.layers:
        real = weights[layer.name] * layer.weight_scales[:, None]
        array = from_rows(nodes[layer.name], real.astype(np.float32), shapes[layer.weight_tensor])
        copy.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), f"{layer.name}_real"))
        nodes[layer.name].input[1] = f"{layer.name}_real"
    return copy
