"""Trains bytes_lm.onnx, a decoder of text byte by byte, and writes its calibration and test arrays beside it.

python -m pip install torch==2.13.0 onnx onnxscript
python models/train_bytes_lm.py

The text is the reference of Python's language that `help()` shows, from `pydoc_data/topics.py` of the Python that runs
this (PSF License Version 2); the network that ships was trained on that of Python 3.11.7.
"""

from __future__ import annotations

from pathlib import Path
from pydoc_data.topics import topics  # type: ignore[import-untyped]

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

FOLDER = Path(__file__).parent
SEED = 7
STEPS, BATCH, RATE = 5000, 64, 4e-3
VOCABULARY, LENGTH = 128, 64  # ASCII; tokens that the network sees at once
WIDTH, HEADS, BLOCKS, HIDDEN = 64, 4, 2, 160
PARTS, HELD_OUT = 64, 16  # every 16th of 64 parts of the text is for tests
CALIBRATION = 128  # sequences of the training text


def text() -> tuple[Tensor, Tensor]:
    """The tokens to train and to test with, int64 [count] each; a paragraph that occurs twice is there once."""
    paragraphs = dict.fromkeys(part.strip("\n") for name in sorted(topics) for part in topics[name].split("\n\n"))
    found = "\n\n".join(paragraphs).encode("ascii", "ignore")
    parts = np.array_split(np.frombuffer(found, np.uint8).astype(np.int64), PARTS)
    test = [number % HELD_OUT == HELD_OUT - 1 for number in range(PARTS)]
    training = [part for part, held_out in zip(parts, test, strict=True) if not held_out]
    tested = [part for part, held_out in zip(parts, test, strict=True) if held_out]
    return torch.from_numpy(np.concatenate(training)), torch.from_numpy(np.concatenate(tested))


def sequences(tokens: Tensor, starts: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens from each start, and for each the one that follows, int64 [starts, LENGTH]."""
    both = tokens[starts[:, None] + torch.arange(LENGTH + 1)]
    return both[:, :-1], both[:, 1:]


def rotated(x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021) of heads [N, heads, tokens, size]; tables [tokens, size]."""
    first, second = x.chunk(2, dim=-1)
    return x * cosines + torch.cat([-second, first], dim=-1) * sines


class Block(nn.Module):
    """Causal attention and a gated perceptron (SwiGLU), each with RMSNorm before and a residual around it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.RMSNorm(WIDTH, eps=1e-6), nn.RMSNorm(WIDTH, eps=1e-6)
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(4))
        self.gate, self.up = (nn.Linear(WIDTH, HIDDEN, bias=False) for _ in range(2))
        self.down = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
        """Tokens [N, tokens, width]."""
        count, tokens, _ = x.shape
        normed = self.norm1(x)
        query, key, value = (
            layer(normed).reshape(count, tokens, HEADS, WIDTH // HEADS).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        query, key = rotated(query, cosines, sines), rotated(key, cosines, sines)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(count, tokens, WIDTH))
        normed = self.norm2(x)
        return x + self.down(functional.silu(self.gate(normed)) * self.up(normed))


class BytesLm(nn.Module):
    """A table of tokens, two blocks, a linear layer with a score for each next token."""

    cosines: Tensor
    sines: Tensor

    def __init__(self) -> None:
        super().__init__()
        size = WIDTH // HEADS
        turns = torch.arange(LENGTH)[:, None] * 1000.0 ** (-torch.arange(0, size, 2) / size)
        self.register_buffer("cosines", torch.cat([turns, turns], dim=1).cos())
        self.register_buffer("sines", torch.cat([turns, turns], dim=1).sin())
        self.table = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.norm = nn.RMSNorm(WIDTH, eps=1e-6)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [N, LENGTH] to logits [N, LENGTH, VOCABULARY] of the token after each."""
        x = self.table(tokens)
        for block in self.blocks:
            x = block(x, self.cosines, self.sines)
        logits: Tensor = self.head(self.norm(x))
        return logits


def train(tokens: Tensor) -> BytesLm:
    """AdamW with warm-up and a cosine schedule, on sequences from anywhere in the text."""
    network = BytesLm()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS, pct_start=0.05)
    for _ in range(STEPS):
        given, wanted = sequences(tokens, torch.randint(len(tokens) - LENGTH, (BATCH,)))
        loss = functional.cross_entropy(network(given).flatten(0, 1), wanted.flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return network.eval()


def export(network: BytesLm, path: Path) -> None:
    """The network as ONNX, batch open, without names of places and tools."""
    tokens = torch.zeros(2, LENGTH, dtype=torch.int64)
    batch = torch.export.Dim("N")
    program = torch.onnx.export(
        network, (tokens,), input_names=["tokens"], output_names=["logits"], dynamic_shapes=({0: batch},),
        opset_version=18, dynamo=True,
    )  # fmt: skip
    assert program is not None
    model = program.model_proto
    model.graph.name = "bytes_lm"
    for part in (model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.value_info,
                 *model.graph.input, *model.graph.output, *model.functions):  # fmt: skip
        part.doc_string = ""
        part.ClearField("metadata_props")
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def main() -> None:
    """Train, export, and print what came out."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)  # sums in the same order every time
    training, tested = text()
    network = train(training)
    x, y = sequences(training, torch.linspace(0, len(training) - LENGTH - 1, CALIBRATION).long())
    x_test, y_test = sequences(tested, torch.arange(0, len(tested) - LENGTH, LENGTH))
    with torch.no_grad():
        loss = functional.cross_entropy(network(x_test).flatten(0, 1), y_test.flatten())
        known = functional.cross_entropy(network(x).flatten(0, 1), y.flatten())
    export(network, FOLDER / "bytes_lm.onnx")
    np.savez_compressed(FOLDER / "bytes_lm_calibration.npz", x=x.numpy(), y=y.numpy())
    np.savez_compressed(FOLDER / "bytes_lm_test.npz", x=x_test.numpy(), y=y_test.numpy())
    weights = sum(parameter.numel() for parameter in network.parameters())
    print(f"{weights:,} parameters, perplexity {loss.exp():.3f} on {y_test.numel():,} tokens that are held out, "
          f"{known.exp():.3f} of the training text")  # fmt: skip


if __name__ == "__main__":
    main()
