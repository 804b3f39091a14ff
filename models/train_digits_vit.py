"""Trains digits_vit.onnx, a vision transformer, on scikit-learn's digits; the samples are those of train_digits.py.

python -m pip install torch==2.13.0 onnx scikit-learn
python models/train_digits_vit.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional
from train_digits import CALIBRATION, TEST, digits

FOLDER = Path(__file__).parent
SEED = 7
EPOCHS = 150
BATCH = 64
WIDTH, HEADS, BLOCKS, PATCH = 64, 4, 3, 2


class Block(nn.Module):
    """Attention and a perceptron of one hidden layer, each with LayerNorm before and a residual around it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH)
        self.fc1 = nn.Linear(WIDTH, 2 * WIDTH)
        self.fc2 = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [N, tokens, width]."""
        count, tokens, _ = x.shape
        split = self.qkv(self.norm1(x)).reshape(count, tokens, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        query, key, value = split[0], split[1], split[2]
        weights = torch.softmax(query @ key.transpose(-2, -1) * (WIDTH // HEADS) ** -0.5, dim=-1)
        mixed = (weights @ value).transpose(1, 2).reshape(count, tokens, WIDTH)
        x = x + self.proj(mixed)
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))


class DigitsVit(nn.Module):
    """Patches of 2x2 as 16 tokens and a class token, three blocks, a linear classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, WIDTH, PATCH, stride=PATCH)
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.positions = nn.Parameter(0.02 * torch.randn(1, (8 // PATCH) ** 2 + 1, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Images [N, 1, 8, 8], 0 to 1, to logits [N, 10]."""
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.positions
        logits: Tensor = self.head(self.norm(self.blocks(x))[:, 0])
        return logits


def train(images: Tensor, labels: Tensor) -> DigitsVit:
    """AdamW with warm-up and a cosine schedule; images are shifted by up to one pixel."""
    network = DigitsVit()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=EPOCHS, pct_start=0.1)
    for _ in range(EPOCHS):
        for part in torch.randperm(len(images)).split(BATCH):
            shift = torch.randint(-1, 2, (2,)).tolist()
            batch = torch.roll(functional.pad(images[part], (1, 1, 1, 1)), shift, (2, 3))[:, :, 1:-1, 1:-1]
            loss = functional.cross_entropy(network(batch), labels[part], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    return network.eval()


def export(network: DigitsVit, path: Path) -> None:
    """The network as ONNX, batch open, without names of places and tools."""
    torch.onnx.export(
        network,
        (torch.zeros(1, 1, 8, 8),),
        str(path),
        input_names=["image"],
        output_names=["logits"],
        dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load(str(path))
    model.graph.name = "digits_vit"
    model.doc_string = ""
    for node in model.graph.node:
        node.doc_string = ""
        node.name = node.name.strip("/").replace("/", "_")
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def main() -> None:
    """Train, export, and print what came out."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # sums in the same order every time
    x, x_test, y, y_test = digits()
    network = train(torch.from_numpy(x), torch.from_numpy(y))
    with torch.no_grad():
        answers = network(torch.from_numpy(x_test)).argmax(1).numpy()
    export(network, FOLDER / "digits_vit.onnx")
    np.savez_compressed(FOLDER / "digits_vit_calibration.npz", x=x[:CALIBRATION], y=y[:CALIBRATION])
    np.savez_compressed(FOLDER / "digits_vit_test.npz", x=x_test, y=y_test)
    weights = sum(parameter.numel() for parameter in network.parameters())
    print(f"{weights:,} parameters, {100 * (answers == y_test).mean():.2f} % of {TEST} held-out images")


if __name__ == "__main__":
    main()
