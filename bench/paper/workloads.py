"""The networks of the paper as array layers: shapes from the published architectures, weights as they can be had.

The layer description is the flow's own `ArrayLayer`, so that allocation, schedule and cycle model are the very
ones of the compiler. Weights that are not at hand are stood in for by seeded Gaussian ones, quantized to INT8
per output channel: standard deviation sqrt(2 / fan-in) as He initialization has it, times a log-normal factor of
each channel (sigma 0.25), which trained networks show as different scales.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.compression.calibration import calibrate
from flow.errors import FlowError
from flow.frontend import quantize
from flow.frontend.admit import load as load_network
from flow.frontend.int8 import cut
from flow.network import reference, samples
from flow.network.model import ArrayLayer, Network, Quantization, Window

CHANNEL_SPREAD = 0.25
IMAGE = 224
TOKENS = 128  # of a sentence for BERT; the paper does not say
RELU_ZEROS = 0.5  # share of zeros a ReLU is taken to leave where no activations are at hand
RANDOM = 16  # samples that a network's zeros are counted on; random ones where it has none
TILE, SAMPLED_TILES = 16, 4  # windows of a position tile, and tiles of a layer whose activations are kept

BYTES = Quantization(np.float32(1), 0, False)


@dataclass(frozen=True)
class Spec:
    """One layer's shape: with `kernel` 0 a matrix product over `size` rows, else a convolution of a square map."""

    name: str
    inputs: int
    outputs: int
    size: int
    kernel: int = 0
    stride: int = 1
    zeros: float = 0.0  # share of zero activations at its input


@dataclass(frozen=True)
class Workload:
    """A network to run: its layers, and the share of zeros (0..1) among each layer's input activations.

    `stand_in` says that the weights are drawn, `parameters` counts those of the whole published network.
    `bitwave` is the number of bit columns that BitWave zeroes on it. `codes` are real activations, int8
    [groups, windows, reduction] by layer name, as the layer's input quantization has them; where there are none, which
    are zero is drawn with the share of `zeros`.
    """

    name: str
    layers: tuple[ArrayLayer, ...]
    zeros: Mapping[str, float]
    stand_in: bool
    parameters: int = 0
    bitwave: int = 3
    codes: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)


def drawn(channels: int, reduction: int, seed: str) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Stand-in weights int8 [channels, reduction] and their scales float32 [channels]."""
    generator = np.random.default_rng(zlib.crc32(seed.encode()))
    weights = generator.standard_normal((channels, reduction), np.float32)
    largest = np.maximum(np.abs(weights).max(axis=1, keepdims=True), np.float32(1e-6))
    codes = np.rint(weights * (127 / largest)).astype(np.int8)
    deviation = np.sqrt(2 / reduction) * np.exp(CHANNEL_SPREAD * generator.standard_normal(channels))
    return codes, (deviation * largest[:, 0] / 127).astype(np.float32)


def layer(spec: Spec, network: str) -> ArrayLayer:
    """The layer of that shape, with stand-in weights."""
    out = -(-spec.size // spec.stride)
    window: Window | None = None
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = (spec.size, spec.inputs), (spec.size, spec.outputs)
    if spec.kernel:
        window = Window((spec.kernel,) * 2, (spec.stride,) * 2, _pads(spec, out), (1, 1))
        shapes = (spec.inputs, spec.size, spec.size), (spec.outputs, out, out)
    reduction = spec.inputs * max(spec.kernel, 1) ** 2
    weights, scales = drawn(spec.outputs, reduction, f"{network}/{spec.name}")
    return ArrayLayer(
        name=spec.name,
        op="Conv" if spec.kernel else "MatMul",
        input=f"{spec.name}.in",
        output=f"{spec.name}.out",
        weight_tensor=f"{spec.name}.weight",
        weights=weights,
        weight_scales=scales,
        bias=np.zeros(spec.outputs, np.int32),
        input_quantization=BYTES,
        output_quantization=BYTES,
        clamp=(-128, 127),
        input_shape=shapes[0],
        output_shape=shapes[1],
        window=window,
    )


def _pads(spec: Spec, out: int) -> tuple[int, ...]:
    both = max((out - 1) * spec.stride + spec.kernel - spec.size, 0)
    return (both - both // 2,) * 2 + (both // 2,) * 2


# -------------------------------------------------------------------------------- the architectures


def vgg16() -> list[Spec]:
    """Simonyan and Zisserman, 2015, configuration D."""
    specs: list[Spec] = []
    size, inputs = IMAGE, 3
    for stage, (count, width) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]):
        for number in range(count):
            zeros = RELU_ZEROS if specs else 0.0
            specs.append(Spec(f"conv{stage + 1}_{number + 1}", inputs, width, size, 3, zeros=zeros))
            inputs = width
        size //= 2
    widths = [inputs * size * size, 4096, 4096, 1000]
    for number in range(3):
        specs.append(Spec(f"fc{number + 6}", widths[number], widths[number + 1], 1, zeros=RELU_ZEROS))
    return specs


def resnet34() -> list[Spec]:
    """He et al., 2016: two 3x3 convolutions a block."""
    return _resnet([3, 4, 6, 3], bottleneck=False)


def resnet50() -> list[Spec]:
    """He et al., 2016: 1x1, 3x3 (with the stride, as in today's weights), 1x1."""
    return _resnet([3, 4, 6, 3], bottleneck=True)


def _resnet(counts: Sequence[int], bottleneck: bool) -> list[Spec]:
    specs, size, inputs = [Spec("conv1", 3, 64, IMAGE, 7, 2)], IMAGE // 4, 64
    for stage, count in enumerate(counts):
        width = 64 << stage
        outputs = 4 * width if bottleneck else width
        for block in range(count):
            stride = 2 if stage and not block else 1
            name, after = f"layer{stage + 1}.{block}", size // stride
            relu = partial(Spec, zeros=RELU_ZEROS)
            if bottleneck:
                specs += [
                    relu(f"{name}.conv1", inputs, width, size, 1),
                    relu(f"{name}.conv2", width, width, size, 3, stride),
                    relu(f"{name}.conv3", width, outputs, after, 1),
                ]
            else:
                specs += [
                    relu(f"{name}.conv1", inputs, width, size, 3, stride),
                    relu(f"{name}.conv2", width, width, after, 3),
                ]
            if inputs != outputs:
                specs.append(relu(f"{name}.downsample", inputs, outputs, size, 1, stride))
            inputs, size = outputs, after
    return [*specs, Spec("fc", inputs, 1000, 1, zeros=0.0)]


def vit(width: int) -> list[Spec]:
    """Dosovitskiy et al., 2021: patches of 16x16, 12 blocks, 197 tokens."""
    grid = IMAGE // 16
    specs = [Spec("patches", 3, width, IMAGE, 16, 16)]
    for block in range(12):
        specs += [
            Spec(f"{block}.qkv", width, 3 * width, grid * grid + 1),
            Spec(f"{block}.proj", width, width, grid * grid + 1),
            Spec(f"{block}.fc1", width, 4 * width, grid * grid + 1),
            Spec(f"{block}.fc2", 4 * width, width, grid * grid + 1),
        ]
    return [*specs, Spec("head", width, 1000, 1)]


def bert() -> list[Spec]:
    """Devlin et al., 2019, base: 12 blocks of width 768, with the pooler and a classifier of two classes."""
    specs = []
    for block in range(12):
        specs += [Spec(f"{block}.{name}", 768, 768, TOKENS) for name in ("query", "key", "value", "output")]
        specs += [Spec(f"{block}.intermediate", 768, 3072, TOKENS), Spec(f"{block}.dense", 3072, 768, TOKENS)]
    return [*specs, Spec("pooler", 768, 768, 1), Spec("classifier", 768, 2, 1)]


@dataclass(frozen=True)
class Architecture:
    """A layer table, the parameters the published network has beside the weights listed, and BitWave's columns.

    `bitwave` is what the authors' simulator has for the network (yc2367/BitSim, sim/test_bitwave.py: weights of
    5 bits, sign and four columns, or of 6).
    """

    specs: Callable[[], list[Spec]]
    others: Callable[[list[Spec]], int]
    bitwave: int


def _biases(specs: list[Spec]) -> int:
    return sum(spec.outputs for spec in specs)


def _norms(specs: list[Spec]) -> int:
    """A BatchNorm after each convolution: a factor and a bias; the classifier has a bias."""
    return sum(2 * spec.outputs if spec.kernel else spec.outputs for spec in specs)


def _vit_others(specs: list[Spec]) -> int:
    """Biases, two LayerNorms a block and one at the end, class token, 197 positions."""
    width = specs[0].outputs
    return _biases(specs) + (2 * 12 + 1) * 2 * width + width + 197 * width


def _bert_others(specs: list[Spec]) -> int:
    """Biases, two LayerNorms a block and one of the embeddings; 30,522 words, 512 positions, 2 segments."""
    return _biases(specs) + (2 * 12 + 1) * 2 * 768 + (30522 + 512 + 2) * 768


ARCHITECTURES: dict[str, Architecture] = {
    "VGG-16": Architecture(vgg16, _biases, 3),
    "ResNet-34": Architecture(resnet34, _norms, 2),
    "ResNet-50": Architecture(resnet50, _norms, 3),
    "ViT-Small": Architecture(lambda: vit(384), _vit_others, 2),
    "ViT-Base": Architecture(lambda: vit(768), _vit_others, 3),
    "BERT-base": Architecture(bert, _bert_others, 3),
}


def weights_of(spec: Spec) -> int:
    return spec.inputs * spec.outputs * max(spec.kernel, 1) ** 2


def stand_in(name: str) -> Workload:
    """One of the six networks, weights drawn."""
    architecture = ARCHITECTURES[name]
    specs = architecture.specs()
    return Workload(
        name,
        tuple(layer(spec, name) for spec in specs),
        {spec.name: spec.zeros for spec in specs},
        True,
        sum(weights_of(spec) for spec in specs) + architecture.others(specs),
        architecture.bitwave,
    )


# -------------------------------------------------------------------------------- ONNX files


@dataclass(frozen=True)
class Source:
    """Where a network comes from: a layer table by name, or an ONNX file with its samples, if there are any."""

    name: str
    model: Path | None = None
    calibration: Path | None = None
    test: Path | None = None

    @property
    def trained(self) -> bool:
        """Whether there are data to judge its answers by."""
        return self.calibration is not None and self.test is not None

    def files(self) -> list[Path]:
        """What its results may depend on: the samples, and what lies beside the model (external weights). Of a layer
        table none."""
        found = [file for file in (self.calibration, self.test) if file is not None]
        if self.model is not None and self.model.parent.is_dir():
            found += self.model.parent.iterdir()
        return sorted({file.resolve() for file in found if file.is_file()})


TABLES = tuple(Source(name) for name in ARCHITECTURES)


def source(model: Path, datasets: Path | None = None) -> Source:
    """An ONNX file, with the samples that lie beside it or, by the name it contains, among the data sets."""
    calibration, test = samples.beside(model, "calibration"), samples.beside(model, "test")
    if datasets is not None:
        for file in sorted(datasets.glob("*_calib.npz")):
            name = file.name.removesuffix("_calib.npz")
            if _same_words(name, model.stem):
                calibration = calibration or file
                found = file.with_name(f"{name}_test.npz")
                test = test or (found if found.is_file() else None)
    return Source(model.stem, model, calibration, test)


def _same_words(name: str, stem: str) -> bool:
    return set(name.split("_")) <= set(stem.split("_"))


def load(given: Source) -> Workload:
    """The network's layers. FlowError when the file or its samples cannot be used, or nothing runs on the array."""
    return stand_in(given.name) if given.model is None else imported(given)


def imported(given: Source) -> Workload:
    """An ONNX network as the compiler takes it, with the zeros among its activations on its calibration samples.

    Without samples random ones are taken. A network of uint8 or zero-point activations counts codes that stand for
    zero.
    """
    assert given.model is not None
    model = load_network(given.model)
    known = given.calibration
    seen = samples.load(known, model, "calibration") if known is not None else samples.random(model, RANDOM)
    network = cut.partition(quantize.quantize(model, seen.feeds).model, given.name)
    if not network.layers:
        raise FlowError(f"network '{given.model}' has no layer for the array; see 'bbs inspect'")
    zeros, codes = _activations(network, seen.first(RANDOM))
    size = sum(layer.weights.size for layer in network.layers)
    return Workload(given.name, network.layers, zeros, False, size, codes=codes)


def _activations(network: Network, seen: samples.Samples) -> tuple[dict[str, float], dict[str, NDArray[np.int8]]]:
    """Share of zeros at every layer's input, and of the first sample's windows the codes of some tiles."""
    shares: dict[str, float] = {}
    kept: dict[str, NDArray[np.int8]] = {}

    def look(layer: ArrayLayer, tensors: list[NDArray[Any]]) -> ArrayLayer:
        zero = layer.input_quantization.zero_point
        codes = [layer.input_quantization.to_int8(tensor) for tensor in tensors]
        shares[layer.name] = sum(int((array == zero).sum()) for array in codes) / sum(array.size for array in codes)
        windows = reference.windows(layer, codes[0][:1])
        kept[layer.name] = windows[:, : SAMPLED_TILES * TILE].copy()
        return layer

    calibrate(network, seen.feeds, look)
    return shares, kept
