"""Networks of every kind, whole on chip: what leaves the chip, the verdict by the RTL, cycles and utilization.

    python -m bench.kinds [NETWORK ...] [--data FOLDER] [--array 8x8] [--larger 16x32] [--no-rtl]

Small networks with drawn weights; those of `TRAINED` from `--data` (or $BBS_DATA), a folder with models/*.onnx and
datasets/NAME_calib.npz, if it has them. Preset moderate. One sample of each runs through Verilator, on an array with
all units and room for the largest. "words" are those of the maps, "alive" those of maps that are needed at once, below
which no places can be; "differ" are the elements of all steps that are not the integer reference's (tier 1b). Cycles at
the second size are those of the model, and so are all with `--no-rtl`; "util." are the bit columns' own cycles over
all, "on chip" is the share of the layers' multiplications.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.kinds.measured import Imported, Predicted, imported, predicted, simulated
from bench.kinds.networks import NETWORKS
from bench.paper.workloads import source
from flow.api.options import SIZE
from flow.errors import FlowError
from flow.hardware.config import UNITS, ArrayConfig
from flow.hardware.emit import emit
from flow.judgement.onchip import OnChipVerdict
from flow.scheduling.onchip.program import needed_words
from flow.simulation import engines
from flow.simulation.engines.base import Simulator

MODELS = Path(__file__).parents[2] / "models"
TRAINED = {  # by name, the file; those without a drawn network ship with the project
    "ResNet-8": "mlperf_resnet8_cifar10_bn",
    "ResNet-20": "resnet20_cifar10",
    "DS-CNN": "mlperf_dscnn_kws_bn",
    "digits_vit": "digits_vit",
}
NAMES = (*NETWORKS, *(name for name in TRAINED if name not in NETWORKS))


@dataclass(frozen=True)
class Row:
    """What was found of one network; no verdict without the RTL."""

    given: Imported
    trained: bool
    small: Predicted
    large: Predicted
    verdict: OnChipVerdict | None = None


def found(name: str, data: Path | None) -> tuple[Imported, bool]:
    """The network of this name, and whether it is trained."""
    if name in TRAINED:
        folders = [MODELS, *([] if data is None else [data / "models"])]
        files = [file for folder in folders if (file := folder / f"{TRAINED[name]}.onnx").is_file()]
        if files:
            known = source(files[0], None if data is None else data / "datasets")
            return imported(name, files[0], known.calibration), True
    return imported(name, NETWORKS[name]()), False


def shared(networks: Sequence[Imported], config: ArrayConfig) -> ArrayConfig:
    """This array with all units, and room for the maps of each of the networks."""
    needed = max(needed_words(each.chain, config.rows) for each in networks)
    return config.with_maps(needed, **dict.fromkeys(UNITS, True))


def simulator(config: ArrayConfig, folder: Path) -> Simulator:
    engine, _ = engines.select("verilator")
    (opened,) = engines.open_all(engine, [emit(config, folder)], lambda: None)
    return opened


def table(rows: Sequence[Row], sizes: Sequence[str]) -> Table:
    result = Table(box=None, pad_edge=False)
    heads = (
        "network",
        "MACs",
        "starts",
        "on chip",
        "words",
        "alive",
        "verdict",
        "differ",
        f"cycles {sizes[0]}",
        "util.",
    )
    for head in (*heads, f"cycles {sizes[1]}", "util."):
        result.add_column(head, justify="left" if head == "network" else "right", no_wrap=True)
    for row in rows:
        chain, told = row.given.chain, row.verdict
        macs = sum(layer.macs for layer in row.given.network.layers)
        judged = ("", "") if told is None else (told.verdict, f"{told.tier1_mismatches:,} of {told.elements:,}")
        small = row.small if told is None else Predicted(told.cycles, told.cycles_ideal)
        result.add_row(
            row.given.name + (", trained" if row.trained else ""), f"{macs / 1e6:.2f} M", str(len(chain.segments)),
            f"{100 * row.given.share:.1f} %", *(f"{each:,}" for each in row.given.words), *judged,
            f"{small.cycles:,}", f"{small.utilization:.3f}", f"{row.large.cycles:,}", f"{row.large.utilization:.3f}",
        )  # fmt: skip
    return result


@click.command(help=(__doc__ or "").split("\n\n")[0])
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option("--data", envvar="BBS_DATA", type=click.Path(path_type=Path))
@click.option("--array", default="8x8", help="Of the RTL.")
@click.option("--larger", default="16x32", help="Of the model's second column.")
@click.option("--rtl/--no-rtl", default=True, help="Simulate.")
def main(names: tuple[str, ...], data: Path | None, array: str, larger: str, rtl: bool) -> None:
    """Print the table, then what leaves the chip."""
    config, large = (ArrayConfig(*SIZE.parse(size)) for size in (array, larger))
    networks = [found(name, data) for name in names or NAMES]
    rows = [Row(each, trained, predicted(each, config), predicted(each, large)) for each, trained in networks]
    console = Console(width=160, highlight=False)
    if rtl:
        config = shared([each for each, _ in networks], config)
        with tempfile.TemporaryDirectory() as folder:
            opened = simulator(config, Path(folder))
            for number, row in enumerate(rows):
                click.echo(f"{number + 1} of {len(rows)}: {row.given.name}", err=True)
                told = simulated(row.given, config, opened)
                rows[number] = Row(row.given, row.trained, row.small, row.large, told)
    console.print(table(rows, (array, larger)))
    for row in rows:
        if row.given.left:
            console.print(f"{row.given.name}: {'; '.join(row.given.left)}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    try:
        main(standalone_mode=False)
    except (FlowError, click.ClickException) as error:
        raise SystemExit(f"error: {error}") from None
