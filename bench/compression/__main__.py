"""Weight compression at equal average bits: BBS three ways beside other post-training methods, on real networks.

    python -m bench.compression MODEL.onnx CALIBRATION.npz TEST.npz [--bits 6.25,4.25,3.25] [--samples K]
                                [--metric NAME] [--plot FILE.svg] [--effort LEVEL]
                                [--peers aimet=PYTHON,brevitas=PYTHON,nncf=PYTHON,ort] [--without TECHNIQUE] ...

Everything but the weights is the same: the INT8 network's activations, calibration samples, the layers of the
array. Bits count metadata: a byte for 32 weights in BBS, MXINT (shared exponent) and bit-flip (which columns).

    bbs budgeted   the default of `bbs compile --bits`: N by block, refined on calibration data
    bbs optimal    one N for all, the exact optimum of every group; no data
    bbs preset     the paper's two points, data-free
    ptq, ptq clipped, gptq, mxint, bit-flip: see baselines.py

With --peers, other packages take part, each in an environment of its own (docs/figures.md says how to make it). They
round all weights to the whole number of bits that the budget has, by the same calibration samples. Their activations
get 8 bits as ours do, with ranges from the peer's own network; `ort` and `nncf` return quantized networks, which are
judged as they are. Every method has one scale for each channel, which nobody's bits count. The second table compares
ours with the best peer, budget by budget. What peers made is kept in --kept and used again; --without leaves out a
technique, such as `adaround`, which takes its default length.

--effort is that of `bbs compress`. The metric is top-1, or that of --metric, such as perplexity. "same" is the share of
samples (or positions) on which float (or INT8) network agree, "KL" the divergence of the class scores in nats, "se" one
standard error of the value before it, "s" seconds of the processor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from bench.compression.comparison import Cell, Comparison, Result
from bench.compression.peers.call import PEERS, Caller, packages
from flow.compression.effort import USUAL
from flow.errors import FlowError
from flow.network.metrics import CLASSES, METRICS
from flow.output.report.plot import Point, curves


def series(results: Sequence[Result], scale: float) -> dict[str, list[Point]]:
    """The results by method, without those of the two uncompressed networks; `scale`: 100 for percent, else 1."""
    by_method: dict[str, list[Point]] = {}
    for result in results[2:]:
        by_method.setdefault(result.method, []).append(Point(result.bits, result.reached / scale, result.kl))
    return by_method


def methods_table(results: Sequence[Result], metric: str, title: str) -> Table:
    table, percent = Table(box=None, pad_edge=False, title=title), metric in CLASSES
    for name in ("method", "bits", f"{metric}{' %' if percent else ''}", "se", "same %", "1000 KL", "se", "s"):
        table.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    for result in results:
        reached = f"{result.reached:.2f}" if percent else f"{result.reached:.4g}"
        table.add_row(
            result.method, f"{result.bits:.2f}", reached, f"{result.error:.2f}" if percent else "",
            f"{result.same:.2f}", *_thousandths(result),
            "" if math.isnan(result.seconds) else f"{result.seconds:.0f}",
        )  # fmt: skip
    return table


def _thousandths(result: Result) -> tuple[str, str]:
    """The divergence and its standard error."""
    return f"{1000 * result.kl:.4g}", f"{1000 * result.kl_error:.2g}"


def cells_table(cells: Sequence[Cell]) -> Table:
    table = Table(box=None, pad_edge=False, title="bbs budgeted and the best peer")
    for name in ("budget", "our bits", "1000 KL", "se", "peer", "bits", "1000 KL", "se", "ratio", "se"):
        table.add_column(name, justify="left" if name == "peer" else "right", no_wrap=True)
    for cell in cells:
        ours, best = cell.ours, cell.best
        table.add_row(
            f"{cell.budget:g}", f"{ours.bits:.2f}", *_thousandths(ours), best.method,
            f"{best.bits:g}", *_thousandths(best), f"{cell.ratio:.2f}", f"{cell.error:.2f}",
        )  # fmt: skip
    return table


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.argument("calibration", type=click.Path(path_type=Path))
@click.argument("test", type=click.Path(path_type=Path))
@click.option("--bits", default="8,6.25,5,4.5,4.25,3.5,3.25")
@click.option("--samples", "count", type=int)
@click.option("--effort", type=int, default=USUAL)
@click.option("--metric", type=click.Choice(list(METRICS)))
@click.option("--plot", "file", type=click.Path(path_type=Path))
@click.option("--peers", help="PACKAGE=PYTHON,...")
@click.option("--without", multiple=True, type=click.Choice([peer.technique for peer in PEERS]))
@click.option("--kept", default="rtl_out/peers", type=click.Path(path_type=Path))
def main(model: Path, calibration: Path, test: Path, bits: str, **options: Any) -> None:
    """Compare on one network and print the tables."""
    peers = packages(options["peers"]) if options["peers"] else {}
    comparison = Comparison(model, calibration, test, options["count"], options["metric"], options["effort"])
    file, percent = options["file"], comparison.metric in CLASSES
    caller = None
    if peers:
        if comparison.prepared is None:
            raise FlowError(f"peers round float networks, but '{model}' is quantized already; leave out --peers")
        caller = Caller(comparison.prepared, comparison.calibrated.feeds, peers, options["kept"], options["without"])
    comparison.run([float(part) for part in bits.split(",")], lambda: None, caller)
    title = f"{model.stem}, {comparison.test.count:,} samples"
    console = Console(width=120)
    console.print(methods_table(comparison.results, comparison.metric, title))
    if comparison.cells:
        console.print(cells_table(comparison.cells))
    if file is not None:
        scale = 100 if percent else 1
        reference = comparison.results[0].reached / scale
        curves(series(comparison.results, scale), reference, model.stem, file, comparison.metric)


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except (FlowError, click.ClickException) as error:
        raise SystemExit(f"error: {error}") from None
