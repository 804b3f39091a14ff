"""An imported network: its INT8 form, partitioned, and the facts that later stages read."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx

from flow.errors import FlowError
from flow.frontend.entry import checks
from flow.frontend.int8.cut import partition_canonical
from flow.frontend.preparation.prepare import prepare
from flow.frontend.quantization.calibrate import AUTO
from flow.frontend.quantization.ranges import MINMAX
from flow.frontend.quantize import Quantized, from_float, from_int8
from flow.network import samples
from flow.network.model import Network
from flow.network.samples import Samples


@dataclass(frozen=True)
class Imported:
    """The user's network and its INT8 form, ready for compression.

    source       the user's model, float or INT8, its quantization in standard form
    prepared     the float network that was quantized, BatchNorm folded; None if `source` is INT8
    network      the canonical INT8 network, indexed and partitioned
    calibration  the calibration samples, or None
    notes        changes and decisions, one sentence each, for the user
    given        the user's model as it came, if its quantization was not in standard form
    """

    source: onnx.ModelProto = field(repr=False)
    prepared: onnx.ModelProto | None = field(repr=False)
    network: Network
    calibration: Samples | None
    notes: tuple[str, ...]
    given: onnx.ModelProto | None = field(default=None, repr=False)

    @property
    def float_model(self) -> onnx.ModelProto | None:
        """The user's network if it is float; None if it is INT8."""
        return None if self.prepared is None else self.source


def import_calibrated(
    source: onnx.ModelProto,
    name: str,
    calibration: Samples | None,
    place: str,
    method: str = AUTO,
    products: bool = False,
) -> Imported:
    """The network `name`, quantized from the calibration samples where it is float, with ranges found by `method`.

    With `products`, so are matrix products of two activations.

    `source` must be loaded (from `place`) and checked, and the samples checked against it. FlowError when samples are
    needed and there are none, or the network cannot be quantized.
    """
    if checks.is_quantized(source):
        quantized = from_int8(source, products)
    elif calibration is not None:
        quantized = from_float(prepare(source), calibration.feeds, method=method, products=products)
    else:
        beside = "there are none" if place == name else f"there is no '{name}_calibration.npz' beside it"
        raise FlowError(
            f"'{place}' is a float network and needs calibration samples, but {beside}; "
            "pass --calibration FILE.npz with an array x"
        )
    return _imported(source, name, quantized, calibration)


def import_uncalibrated(source: onnx.ModelProto, name: str, products: bool = False) -> Imported:
    """As `import_calibrated`, with one random sample for a float network: where nodes run does not depend on it."""
    if checks.is_quantized(source):
        return _imported(source, name, from_int8(source, products), None)
    prepared = prepare(source)
    quantized = from_float(prepared, samples.random(prepared, 1).feeds, method=MINMAX, products=products)
    return _imported(source, name, quantized, None)


def _imported(source: onnx.ModelProto, name: str, quantized: Quantized, calibration: Samples | None) -> Imported:
    network = partition_canonical(quantized.model, name)
    return Imported(source, quantized.prepared, network, calibration, (*quantized.notes, *network.notes))
