"""Compression: which channels are pruned, how, and the pruned INT8 network that comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from flow import importer
from flow.allocate import CHANNELS_PARALLEL, Allocation, allocate, preset
from flow.encoding import EncodedLayer
from flow.errors import FlowError
from flow.network import ArrayLayer, Network
from flow.prune import METHODS, prune

DEFAULT_PRESET = "moderate"


@dataclass(frozen=True)
class Pruning:
    """What to prune: N of the pruned channels, the share of sensitive channels (0..1), the method.

    `name` is the preset's, or "custom".
    """

    name: str
    columns: int
    sensitive: float
    method: str


@dataclass(frozen=True)
class Compressed:
    """A network before (`original`) and after pruning, and its layers as stored."""

    original: Network
    network: Network
    allocation: Allocation  # N per channel, by layer
    encoded: tuple[EncodedLayer, ...]


def pruning(
    preset_name: str | None = None,
    columns: int | None = None,
    sensitive: float | None = None,
    method: str | None = None,
) -> Pruning:
    """The user's choice, completed: a preset, or single values over the moderate preset's, method optimal.

    FlowError: preset and single values together, an unknown preset or method.
    """
    single = {"columns": columns, "sensitive": sensitive, "method": method}
    given = [name for name, value in single.items() if value is not None]
    if preset_name is not None and given:
        raise FlowError(
            f"a preset fixes columns, sensitive and method, but preset '{preset_name}' came together with "
            f"{', '.join(given)}; give one or the other"
        )
    chosen = preset(preset_name or DEFAULT_PRESET)
    if not given:
        return Pruning(preset_name or DEFAULT_PRESET, chosen.columns_pruned, chosen.sensitive, chosen.method)
    if method is not None and method not in METHODS:
        raise FlowError(f"unknown pruning method '{method}'; choose one of {', '.join(METHODS)}")
    return Pruning(
        "custom",
        chosen.columns_pruned if columns is None else columns,
        chosen.sensitive if sensitive is None else sensitive,
        method or "optimal",
    )


def encode(
    network: Network,
    chosen: Pruning,
    channels_parallel: int = CHANNELS_PARALLEL,
    advance: Callable[[], None] = lambda: None,
) -> Compressed:
    """Allocate, prune and encode every array layer; `advance` is called after each.

    FlowError when no layer can run on the array, or a value of `chosen` is out of range.
    """
    if not network.layers:
        reasons = " ".join(network.notes) or "it has no Conv, Gemm or MatMul."
        raise FlowError(
            f"network '{network.name}' has no layer for the array: {reasons} "
            "Check it with 'bbs inspect', and export its weights as constants"
        )
    allocation = allocate(network.layers, chosen.columns, chosen.sensitive, channels_parallel)
    encoded: list[EncodedLayer] = []
    weights = {}
    for layer in network.layers:
        stored, weights[layer.name] = prune(layer.weights, allocation[layer.name], chosen.method, layer.name)
        encoded.append(stored)
        advance()
    model = importer.with_layers(
        network.model, [replace(layer, weights=weights[layer.name]) for layer in network.layers]
    )
    pruned = importer.cut(model, network.name)
    _check_same_layers(network.layers, pruned.layers)
    return Compressed(network, pruned, allocation, tuple(encoded))


def _check_same_layers(before: tuple[ArrayLayer, ...], after: tuple[ArrayLayer, ...]) -> None:
    """Pruning changes weights only: the pruned model must cut into the very same layers."""
    assert [layer.name for layer in before] == [layer.name for layer in after]
