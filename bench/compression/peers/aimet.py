"""AIMET for ONNX: cross-layer equalization, sequential MSE, AdaRound; weights per channel, symmetric.

AdaRound starts from the ranges of sequential MSE, as AIMET advises for few bits. By default it takes 10,000 steps a
layer; `adaround-1000` takes 1,000.
"""

from __future__ import annotations

import onnx
import torch
from aimet_onnx import QuantizationSimModel, apply_adaround, apply_seq_mse, int8
from aimet_onnx.common.defs import Int
from aimet_onnx.common.quantsim_config.utils import get_path_for_per_channel_config
from aimet_onnx.cross_layer_equalization import equalize_model

from bench.compression.peers.work import Task, work


def rounded(task: Task, equalized: bool = False, steps: int = 0) -> onnx.ModelProto:
    torch.manual_seed(0)
    if equalized:
        equalize_model(task.model)
    sim = QuantizationSimModel(
        task.model, param_type=Int(task.bits), activation_type=int8, config_file=get_path_for_per_channel_config()
    )
    apply_seq_mse(sim, task.batches)
    if steps:
        apply_adaround(sim, task.batches, steps)
    sim.fold_param_quantizers()
    result: onnx.ModelProto = QuantizationSimModel.remove_quantizers(sim.model.model)
    return result


TECHNIQUES = {
    "seqmse": rounded,
    "cle-seqmse": lambda task: rounded(task, equalized=True),
    "adaround-1000": lambda task: rounded(task, steps=1_000),
    "adaround": lambda task: rounded(task, steps=10_000),
}

if __name__ == "__main__":
    work("aimet-onnx", TECHNIQUES)
