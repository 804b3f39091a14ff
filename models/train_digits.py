"""Trains digits_cnn.onnx on scikit-learn's digits, and writes its calibration and test arrays beside it.

python -m pip install torch==2.13.0 onnx scikit-learn
python models/train_digits.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn import functional

Array = NDArray[Any]

FOLDER = Path(__file__).parent
SEED = 7
TEST = 600
CALIBRATION = 200  # of the training images
EPOCHS = 60
BATCH = 64


class DigitsNet(nn.Module):
    """Three 3x3 convolutions, the third with a residual Add around it, pooling, one fully connected layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(32)
        self.down = nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False)
        self.down_norm = nn.BatchNorm2d(64)
        self.residual = nn.Conv2d(64, 64, 3, padding=1, bias=False)
        self.residual_norm = nn.BatchNorm2d(64)
        self.classify = nn.Linear(256, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Images [N, 1, 8, 8], 0 to 1, to logits [N, 10]."""
        x = functional.relu(self.stem_norm(self.stem(image)))
        x = functional.relu(self.down_norm(self.down(x)))
        x = functional.relu(x + self.residual_norm(self.residual(x)))
        x = functional.max_pool2d(x, 2)
        logits: Tensor = self.classify(torch.flatten(x, 1))
        return logits


def train(images: Tensor, labels: Tensor) -> DigitsNet:
    """Adam with a cosine schedule; images are shifted by up to one pixel."""
    network = DigitsNet()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(images)).split(BATCH):
            shift = torch.randint(-1, 2, (2,)).tolist()
            batch = torch.roll(functional.pad(images[part], (1, 1, 1, 1)), shift, (2, 3))[:, :, 1:-1, 1:-1]
            loss = functional.cross_entropy(network(batch), labels[part])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    return network.eval()


def export(network: DigitsNet, path: Path) -> None:
    """The network as ONNX, batch open, BatchNorm kept, without names of places and tools."""
    torch.onnx.export(
        network,
        (torch.zeros(1, 1, 8, 8),),
        str(path),
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
        opset_version=17,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        dynamo=False,
    )
    model = onnx.load(str(path))
    model.graph.name = "digits_cnn"
    model.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        node.name = node.name.strip("/").replace("/", "_")
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def digits() -> tuple[Array, Array, Array, Array]:
    """Training and test images float32 [N, 1, 8, 8], 0 to 1, and their labels int64 [N]: x, x_test, y, y_test."""
    data = load_digits()
    images = (data.images[:, None] / 16).astype(np.float32)
    labels = data.target.astype(np.int64)
    x, x_test, y, y_test = train_test_split(images, labels, test_size=TEST, random_state=SEED, stratify=labels)
    return x, x_test, y, y_test


def main() -> None:
    """Train, export, and print what came out."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # sums in the same order every time
    x, x_test, y, y_test = digits()
    network = train(torch.from_numpy(x), torch.from_numpy(y))
    with torch.no_grad():
        answers = network(torch.from_numpy(x_test)).argmax(1).numpy()
    export(network, FOLDER / "digits_cnn.onnx")
    np.savez_compressed(FOLDER / "digits_cnn_calibration.npz", x=x[:CALIBRATION], y=y[:CALIBRATION])
    np.savez_compressed(FOLDER / "digits_cnn_test.npz", x=x_test, y=y_test)
    weights = sum(parameter.numel() for parameter in network.parameters())
    print(f"{weights:,} parameters, {100 * (answers == y_test).mean():.2f} % of {TEST} held-out images")


if __name__ == "__main__":
    main()
