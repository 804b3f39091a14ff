"""Brevitas: GPTQ, GPFQ and Qronos, with bias correction; weights per channel, symmetric, ranges of the least error.

Inputs of the layers have 8 bits meanwhile, with ranges from the samples. By default weights have 2^b - 1 values, with
"-full" 2^b.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import onnx
import torch
from brevitas import nn as qnn
from brevitas.core.scaling import ParameterFromStatsFromParameterScaling
from brevitas.graph.calibrate import bias_correction_mode, calibration_mode
from brevitas.graph.gpfq import gpfq_mode
from brevitas.graph.gptq import gptq_mode
from brevitas.graph.qronos import Qronos
from brevitas.graph.quantize import layerwise_quantize
from brevitas.nn.quant_layer import QuantWeightBiasInputOutputLayer
from brevitas.quant.scaled_int import Int8ActPerTensorFloat, Int8WeightPerChannelFloatMSE
from onnx import numpy_helper
from onnx2torch import convert

from bench.compression.peers.work import Task, constant_inputs, work

Mode = Callable[[torch.nn.Module], AbstractContextManager[Any]]


def rounded(task: Task, mode: Mode, narrow: bool) -> onnx.ModelProto:
    torch.manual_seed(0)
    batches = [tuple(torch.from_numpy(array) for array in batch.values()) for batch in task.batches]
    options = {
        "weight_quant": Int8WeightPerChannelFloatMSE.let(
            bit_width=task.bits, narrow_range=narrow, scaling_impl=ParameterFromStatsFromParameterScaling
        ),
        "input_quant": Int8ActPerTensorFloat,
        "return_quant_tensor": False,
    }
    layers = {torch.nn.Conv2d: (qnn.QuantConv2d, options), torch.nn.Linear: (qnn.QuantLinear, options)}
    network = layerwise_quantize(convert(task.model).eval(), compute_layer_map=layers).eval()
    with torch.no_grad():
        with calibration_mode(network):
            run(network, batches)
        run(network, batches[:1])  # sets the ranges of the weights
        with mode(network) as active:
            for _ in range(active.num_layers):
                run(active.model, batches)
                active.update()
        with bias_correction_mode(network):
            run(network, batches)
        write_back(network, task.model)
    return task.model


def run(network: torch.nn.Module, batches: list[tuple[torch.Tensor, ...]]) -> None:
    for batch in batches:
        network(*batch)


def write_back(network: torch.nn.Module, model: onnx.ModelProto) -> None:
    """The rounded weights and corrected biases, in the order of the layers."""
    found = [module for module in network.modules() if isinstance(module, QuantWeightBiasInputOutputLayer)]
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for (node, weights), module in zip(constant_inputs(model), found, strict=True):
        values = module.quant_weight().value.numpy()
        if list(values.shape) != list(weights.dims):
            values = values.T  # of a Gemm
        weights.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), weights.name))
        if len(node.input) > 2:
            bias = constants[node.input[2]]
            bias.CopyFrom(numpy_helper.from_array(module.bias.detach().numpy(), bias.name))


MODES: dict[str, Mode] = {
    "gptq": partial(gptq_mode, use_quant_activations=True, create_weight_orig=False, act_order=True),
    "gpfq": partial(gpfq_mode, act_order=True),
    "qronos": partial(gpfq_mode, act_order=True, algorithm_impl=Qronos),
}
TECHNIQUES = {
    **{name: partial(rounded, mode=mode, narrow=True) for name, mode in MODES.items()},
    **{f"{name}-full": partial(rounded, mode=mode, narrow=False) for name, mode in MODES.items()},
}

if __name__ == "__main__":
    work("brevitas", TECHNIQUES)
