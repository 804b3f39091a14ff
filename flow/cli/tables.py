"""Output of the commands: tables of layers and nodes, the verdict, the Pareto front."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from flow import exploration
from flow.cache import Size
from flow.files import cache_folder
from flow.frontend.inspection import Inspection, Node, OnChipInspection, OnChipSegment
from flow.judgement.accuracy import Accuracy, OutputAccuracy
from flow.judgement.axi import AxiVerdict
from flow.judgement.diagnosis import IMAGES, Finding
from flow.judgement.fidelity import poorest
from flow.judgement.onchip import OnChipVerdict, extent
from flow.network.metrics import CLASSES, shown
from flow.output.report.layers import LayerCompression, LayerReport
from flow.output.report.report import CompressionReport, Report
from flow.output.report.summary import BusReport, Summary, bus_lines, clock_line, reached_line
from flow.scheduling.onchip.located import OUTSIDE, by_one_start

WIDTH = (
    None if sys.stdout and sys.stdout.isatty() else 120
)  # lines into a file or pipe are as long as a wide terminal's
NARROW, VERY_NARROW = 100, 70  # columns of a terminal
LAYER_WIDTH = 9  # columns that a layer's name has at least
WHOLE = 100_000  # columns of a file or pipe where no line may be wrapped
FEW_NODES = 40  # `bbs inspect` lists all nodes of a network that has no more
FEW_REASONS = 4  # why a larger network leaves the chip
FORMS = {"float": "float", "int8": "INT8", "pruned": "pruned"}  # of the network, as they are printed
MOST_OUTPUTS = 4  # outputs whose SQNR is printed, the worst first


def visible(text: str) -> str:
    """Text of a network's file as a terminal may show it: control characters, and those that turn text, as escapes."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def escape(text: str) -> str:
    """Such text for a table's cell."""
    return escape_markup(visible(text))


class _Terminal(Console):
    """A console that passes no control characters of what it is given on to the terminal."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(visible(each) if isinstance(each, str) else each for each in objects), **options)

    def on_broken_pipe(self) -> None:
        """Leave the BrokenPipeError, in whose handler this is called, to the command."""
        raise


class _Notes(_Terminal):
    """Notes and progress, which nothing depends on: where they cannot be written, they are left out."""

    def print(self, *objects: Any, **options: Any) -> None:
        with suppress(OSError):
            super().print(*objects, **options)


out = _Terminal(highlight=False, width=WIDTH)
err = _Notes(stderr=True, highlight=False)


def print_inspection(found: Inspection, every_node: bool) -> None:
    """The tables of `bbs inspect`: all nodes of a small network or if asked for, else operators and what stays behind.

    Into a file or pipe, lines are as long as they need be.
    """
    for note in found.notes:
        err.print(f"note: {note}", style="dim", soft_wrap=True, markup=False)
    console = out if sys.stdout and sys.stdout.isatty() else _Terminal(highlight=False, width=WHOLE)
    listed = every_node or bool(found.refused) or len(found.nodes) <= FEW_NODES
    if listed:
        _print_nodes(console, found.nodes, found.on_chip)
    else:
        console.print(_operator_table(found))
        if behind := [node for node in found.nodes if _place(node, found.on_chip) == "host" and node.macs]:
            console.print()
            _print_nodes(console, behind, found.on_chip)
        out.print(f"--all lists all {len(found.nodes):,} nodes.", soft_wrap=True)
    on_array = [node for node in found.nodes if node.target == "array"]
    macs, weights = sum(node.macs for node in on_array), sum(node.parameters for node in on_array)
    if found.folded:
        operators = ", ".join(f"{count} {op}" for op, count in found.folded.items())
        out.print(f"Folded into others at import: {operators}.", soft_wrap=True)
    if found.refused:
        return
    if found.uncounted:
        operators = ", ".join(f"{count} {op}" for op, count in found.uncounted.items())
        out.print(f"Not counted are the MACs of {operators}.", soft_wrap=True)
    layers = "1 layer" if len(on_array) == 1 else f"{len(on_array)} layers"
    out.print(
        f"The array takes {layers}: {macs:,} MACs ({100 * found.array_share:.1f} % of the network's), "
        f"{weights:,} weights.", soft_wrap=True,
    )  # fmt: skip
    if found.on_chip is not None:
        _print_segments(found, found.on_chip, listed)


def _print_segments(found: Inspection, there: OnChipInspection, listed: bool) -> None:
    """How much of the network runs on chip with `--on-chip`, and in how many segments; why it leaves, unless listed."""
    refusal = f"A build for this array is refused: {there.refused}."
    if not there.segments:
        nothing = "Nothing of it runs on chip: with --on-chip it runs layer by layer."
        out.print(refusal if there.refused else nothing, soft_wrap=True, markup=False)
        return
    count = len(there.segments)
    starts = by_one_start(there.around) if there.whole else "1 segment" if count == 1 else f"{count} segments"
    slower = f" ({there.cycles_bus:,} behind a bus of {there.bus} bits)" if there.bus else ""
    out.print(
        f"On chip, {starts}: {there.macs:,} MACs ({100 * there.macs / max(found.macs, 1):.1f} % of the network's), at "
        f"most {there.cycles:,} cycles a sample unpruned{slower}, {there.map_bytes / 1024:,.1f} KiB of feature maps, "
        f"array {there.array}.", soft_wrap=True,
    )  # fmt: skip
    if there.refused:
        out.print(refusal, soft_wrap=True, markup=False)
    for number, segment in enumerate(there.segments, 1):
        if not there.whole:
            _print_segment(number, segment)
    if there.around and listed:
        out.print(f"The host, before or behind: {', '.join(there.around)}.", soft_wrap=True, markup=False)
    off = dict.fromkeys(each.reason for each in there.nodes.values() if each.segment is None)
    reasons = [reason for reason in off if reason and reason != OUTSIDE]
    if reasons and not listed:
        more = f"; {len(reasons) - FEW_REASONS:,} more with --all" if len(reasons) > FEW_REASONS else ""
        out.print(f"It leaves the chip: {'; '.join(reasons[:FEW_REASONS])}{more}.", soft_wrap=True, markup=False)


def _print_segment(number: int, segment: OnChipSegment) -> None:
    """What one start runs, and what the host does and brings before it."""
    carried = [
        f"{name} {_few([f'{each} ({size:,} bytes)' for each, size in tensors.items()])}"
        for name, tensors in (("takes", segment.takes), ("gives", segment.gives))
    ]
    host = f"; before it the host computes {_few(segment.host)}" if segment.host else ""
    layers = "1 layer" if segment.layers == 1 else f"{segment.layers} layers"
    text = f"Segment {number}: {layers} and {segment.steps} more steps, {segment.cycles:,} cycles; {'; '.join(carried)}"
    out.print(f"{text}{host}.", soft_wrap=True, markup=False)


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - FEW_REASONS:,} more" if len(names) > FEW_REASONS else ""
    return ", ".join(names[:FEW_REASONS]) + more


def _print_nodes(console: Console, nodes: Sequence[Node], there: OnChipInspection | None) -> None:
    """One row for each node; on a narrow terminal the reasons stand below, by number."""
    narrow = console.width < NARROW
    table = Table(box=None, pad_edge=False)
    for name, side in (("node", "left"), ("operator", "left"), *(() if there and narrow else (("runs on", "left"),)),
                       ("output", "left"), ("MACs", "right"), ("weights", "right"),
                       *((("segment", "right"), ("cycles", "right"), ("bytes", "right")) if there else ()),
                       ("why", "left")):  # fmt: skip
        table.add_column(name, justify=side, overflow="fold", min_width=LAYER_WIDTH if name == "node" else None)
    numbers: dict[str, int] = {}
    for node in nodes:
        shape = "" if node.shape is None else "x".join(map(str, node.shape)) or "1"
        *placed, why = _there(node, there)
        if narrow and why:
            why = f"({numbers.setdefault(why, len(numbers) + 1)})"
        table.add_row(
            escape(node.name), node.op, *([] if there and narrow else [_place(node, there)]), shape,
            f"{node.macs:,}" if node.macs else "", f"{node.parameters:,}" if node.parameters else "", *placed, why,
        )  # fmt: skip
    console.print(table)
    for why, number in numbers.items():
        console.print(f"({number}) {why}", soft_wrap=True)


def _there(node: Node, there: OnChipInspection | None) -> list[str]:
    """Why a node runs where it does; with feature maps on chip, its segment, its cycles and its map's bytes, too."""
    found = there.nodes.get(node.name) if there else None
    if found is None:
        return ["", "", "", escape(node.reason)] if there else [escape(node.reason)]
    segment = "off" if found.segment is None else f"{found.segment}"
    why = node.reason if found.segment and node.target != "host" else found.reason
    return [segment, *(f"{cost:,}" if cost else "" for cost in (found.cycles, found.map_bytes)), escape(why)]


def _place(node: Node, there: OnChipInspection | None) -> str:
    """Where a node runs: on the array, in post-processing, or on the host."""
    found = there.nodes.get(node.name) if there else None
    return node.target if found is None else found.place


def _operator_table(found: Inspection) -> Table:
    """How many nodes of each operator run where, with the most MACs first."""
    table = Table(box=None, pad_edge=False)
    for name in ("operator", "array", "post-processing", "host", "MACs", "weights"):
        table.add_column(name, justify="left" if name == "operator" else "right")
    operators: dict[str, list[Node]] = {}
    for node in found.nodes:
        operators.setdefault(node.op, []).append(node)
    macs = {op: sum(node.macs for node in nodes) for op, nodes in operators.items()}
    for op, nodes in sorted(operators.items(), key=lambda item: (-macs[item[0]], -len(item[1]), item[0])):
        places = [_place(node, found.on_chip) for node in nodes]
        counts = [places.count(place) for place in ("array", "post-processing", "host")]
        weights = sum(node.parameters for node in nodes)
        table.add_row(op, *(f"{count:,}" if count else "" for count in (*counts, macs[op], weights)))
    return table


def print_report(report: Report | CompressionReport) -> None:
    """The tables of `bbs compile`, `bbs cosim` and `bbs compress`."""
    for note in report.notes:
        err.print(f"note: {note}", style="dim", soft_wrap=True, markup=False)
    out.print(_layer_table(report))
    summary = report.summary
    line = [f"{summary.bits_per_weight:.2f} bits per weight ({summary.compression_ratio:.2f}x smaller)"]
    if isinstance(summary, Summary):
        line += _hardware(summary, report.bus if isinstance(report, Report) else None)
    out.print(", ".join(line) + ".", soft_wrap=True)
    if summary.budget is not None and summary.preset != "default":
        out.print(reached_line(summary.budget, summary.predicted), soft_wrap=True)
    if isinstance(report, Report) and report.bus is not None:
        for words in bus_lines(report.bus):
            out.print(words, soft_wrap=True)
    if isinstance(summary, Summary) and summary.clock is not None:
        out.print(clock_line(summary.clock), soft_wrap=True)
    _print_fidelity(report)
    _print_answers(summary.accuracy)
    if isinstance(report, Report):
        _print_verdict(report)


def _print_fidelity(report: Report | CompressionReport) -> None:
    """Tier 0: how well the INT8 network stands for the source network."""
    fidelity = report.summary.fidelity
    if fidelity is None:
        return
    decibels = poorest(fidelity.outputs)
    shown = [f"'{name}' {decibel:.1f} dB" for name, decibel in list(decibels.items())[:MOST_OUTPUTS]]
    more = f" and {len(decibels) - len(shown)} better ones" if len(decibels) > len(shown) else ""
    if shown:
        on = ", on made-up input" if fidelity.made_up else ""
        line = f"INT8 against the network given (tier 0){on}: {', '.join(shown)}{more}."
        out.print(line, soft_wrap=True, markup=False)
    for finding in report.findings:
        if finding.tier == "0":
            _print_finding(finding)


def _print_finding(finding: Finding) -> None:
    which = "Before any tier" if finding.tier == IMAGES else f"Tier {finding.tier}"
    text = f"{which}, cause: {finding.cause}. {finding.text}."
    out.print(text, soft_wrap=True, markup=False)


def _hardware(summary: Summary, bus: BusReport | None) -> list[str]:
    line = [f"{summary.cycles:,} cycles a sample" + (f" ({bus.cycles:,} behind the bus)" if bus else "")]
    if summary.speedup is not None:
        line.append(f"{summary.speedup:.2f}x faster than dense PEs")
    line.append(f"{100 * summary.utilization:.1f} % utilization")
    if summary.area:
        line.append(f"about {summary.area.transistors / 1e6:.1f} million transistors")
        fits = [each.device for each in summary.area.devices if each.fits]
        line.append(f"fits {', '.join(fits)}" if fits else "fits none of the FPGAs in the report")
    return line


def _print_answers(accuracy: Accuracy) -> None:
    """What every output is worth in each form of the network, and what INT8 and pruning did to it."""
    if (own := accuracy.own) is not None:
        found = [f"{FORMS[form]} {shown(None, value)}" for form, value in own.values.items() if form in FORMS]
        on = f"on {accuracy.samples:,} samples of {accuracy.source}{', lower is better' if own.lower else ''}"
        out.print(f"{own.metric} {on}: {', '.join(found)}.", soft_wrap=True, markup=False)
    only = accuracy.outputs[0] if len(accuracy.outputs) == 1 else None
    if only is not None and only.scores and only.metric in (None, "top-1"):
        _print_classes(accuracy, only)
        return
    worst = sorted(accuracy.outputs, key=lambda output: -(output.divergence.get("pruned") or 0.0))[:MOST_OUTPUTS]
    for output in accuracy.outputs:
        if output in worst:
            _print_output(accuracy, output)
    if len(accuracy.outputs) > len(worst):
        out.print(f"{len(accuracy.outputs) - len(worst)} more outputs changed less; --json has them.")


def _print_classes(accuracy: Accuracy, only: OutputAccuracy) -> None:
    """A classifier of one output."""
    forms = {"float": accuracy.float, "INT8": accuracy.int8, "pruned": accuracy.pruned}
    shown = [f"{name} {100 * share:.2f} %" for name, share in forms.items() if share is not None]
    if shown:
        out.print(f"Top-1 on {accuracy.samples:,} samples of {accuracy.source}: {', '.join(shown)}.")
    for pair, words in _pairs_apart(accuracy, only).items():
        out.print(f"{pair[0].upper()}{pair[1:]}: {words}.", soft_wrap=True)


def _print_output(accuracy: Accuracy, output: OutputAccuracy) -> None:
    """The metric of an output in each form, then INT8 and pruned against float, or pruned against INT8."""
    where = f"Output '{output.name}'"
    for metric, values in ((output.metric, output.values), (output.second, output.second_values)):
        found = [f"{FORMS[form]} {shown(metric, value)}" for form, value in values.items() if form in FORMS]
        if found:
            on = f" on {accuracy.samples:,} samples of {accuracy.source}"
            out.print(f"{where}, {metric}{on}: {', '.join(found)}.", soft_wrap=True, markup=False)
    for pair, words in _pairs_apart(accuracy, output).items():
        out.print(f"{where}, {pair}: {words}.", soft_wrap=True, markup=False)


def _pairs_apart(accuracy: Accuracy, output: OutputAccuracy) -> dict[str, str]:
    """How far INT8 and pruned are from float, and pruned from INT8, in words: which of them lost what."""
    base, on = "float" if "int8" in output.divergence else "INT8", " on made-up input" if accuracy.made_up else ""
    found = {
        f"{FORMS[form]} against {base}{on}": _apart(
            output.scores, output.agreement.get(form), distance, output.sqnr.get(form)
        )
        for form, distance in output.divergence.items() if form in FORMS
    }  # fmt: skip
    alone = output.by_pruning
    if base == "float" and alone:
        words = _apart(output.scores, alone.get("agreement"), alone.get("divergence"), alone.get("sqnr"))
        found[f"pruned against INT8{on}"] = words
    return found


def _apart(scores: bool, same: float | None, distance: float | None, decibel: float | None) -> str:
    """How far two forms of an output are from each other, in words."""
    parts = []
    if same is not None:
        parts.append(f"same {'class' if scores else 'value'} for {100 * same:.2f} %")
    if scores:
        parts.append(f"divergence (KL) {distance or 0.0:.2g}")
    elif same is None:
        parts.append(
            f"error over variance {distance or 0.0:.2g}" + (f" ({decibel:.1f} dB)" if decibel is not None else "")
        )
    return ", ".join(parts)


def print_cache(sizes: Mapping[str, Size], removed: bool) -> None:
    """The table of `bbs cache`: entries and bytes of each kind, in the cache or removed from it."""
    table = Table(box=None, pad_edge=False)
    for head in ("kind", "entries", "MiB"):
        table.add_column(head, justify="left" if head == "kind" else "right")
    for kind, size in sizes.items():
        table.add_row(kind, f"{size.entries:,}", f"{size.bytes / 2**20:,.1f}")
    out.print(table)
    total = sum(size.bytes for size in sizes.values()) / 2**20
    did = "were removed from" if removed else "are in"
    out.print(f"{total:,.1f} MiB {did} {cache_folder(None)}.", soft_wrap=True, markup=False)


def print_front(found: Sequence[exploration.Found], metric: str | None, clock: float | None) -> None:
    """The table of `bbs explore`: the Pareto front; `metric` is that of the answers, `clock` in MHz."""
    best = sorted((each for each in found if each.best), key=lambda each: each.measured.cycles_bus)
    share = metric in CLASSES
    heads = ["bbs compile", *([] if metric is None else [f"{metric}{' %' if share else ''}"]), "KL", "bits", "cycles"]
    heads += ["bus", *(["inferences/s"] if clock else []), "M transistors", "KiB traffic"]
    table = Table(box=None, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="left" if head == "bbs compile" else "right", no_wrap=head != "bbs compile")
    for each in best:
        got = each.measured
        value = "" if got.accuracy is None else f"{100 * got.accuracy:.2f}" if share else shown(metric, got.accuracy)
        table.add_row(
            each.design.options, *([] if metric is None else [value]), f"{got.divergence:.2g}",
            f"{got.bits_per_weight:.2f}", f"{got.cycles:,}", f"{got.cycles_bus:,}",
            *([f"{1e6 * clock / got.cycles_bus:,.0f}"] if clock else []),
            f"{got.transistors / 1e6:.2f}", f"{got.traffic / 1024:.1f}",
        )  # fmt: skip
    out.print(table)
    out.print(f"{len(best)} of {len(found)} designs are on the Pareto front.")


def _layer_table(report: Report | CompressionReport) -> Table:
    """One row for each layer. A narrow terminal has heads of two lines, a very narrow one no operators."""
    narrow, very_narrow = out.width < NARROW, out.width < VERY_NARROW
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0) if narrow else (0, 1))
    sampled = isinstance(report, Report) and report.summary.rtl_share < 1
    heads = ["layer", "operator", "N: channels", "bits", "SQNR dB"]
    if isinstance(report, Report):
        heads += ["cycles", "bus", "speed-up", "util. %", "tier 1", "tier 2"]
    else:
        heads += ["MSE", "KL", "sensitive"]
    heads += ["RTL %"] if sampled else []
    left = ("layer", "operator", "N: channels")
    for head in heads:
        if head == "operator" and very_narrow:
            continue
        shown = head.replace(" ", "\n").replace("speed-up", "speed-\nup") if narrow else head
        table.add_column(
            shown, justify="left" if head in left else "right", overflow="fold",
            no_wrap=head not in (("layer", "N: channels") if narrow else ("layer",)),
            min_width=LAYER_WIDTH if head == "layer" else None,
        )  # fmt: skip
    for layers in _alike(report.layers, sampled):
        name, operator, *cells = _cells(layers[0], sampled)
        name += f" (and {len(layers) - 1} more)" if len(layers) > 1 else ""
        table.add_row(name, *([] if very_narrow else [operator]), *cells)
    return table


def _alike(layers: Sequence[LayerCompression], sampled: bool) -> list[list[LayerCompression]]:
    """The layers by rows of the table: one row for those that share weights and all figures."""
    rows: dict[tuple[str, ...], list[LayerCompression]] = {}
    for layer in layers:
        rows.setdefault((layer.weights_of or layer.name, *_cells(layer, sampled)[1:]), []).append(layer)
    return list(rows.values())


def _cells(layer: LayerCompression, sampled: bool) -> list[str]:
    return [*_pruned_cells(layer), *_own_cells(layer, sampled)]


def _pruned_cells(layer: LayerCompression) -> list[str]:
    return [
        escape(layer.name),
        layer.op,
        " ".join(f"{n}:{count}" for n, count in layer.columns_pruned.items()),
        f"{layer.bits_per_weight:.2f}",
        "equal" if layer.weight_sqnr is None else f"{layer.weight_sqnr:.1f}",
    ]


def _own_cells(layer: LayerCompression, sampled: bool) -> list[str]:
    """Cells on how the layer ran in RTL, or, if it did not run, on what pruning did to its weights."""
    if not isinstance(layer, LayerReport):
        return [f"{layer.weight_mse:.2f}", f"{layer.weight_kl:.4f}", str(layer.sensitive_channels)]
    cells = [
        f"{layer.cycles:,}",
        f"{layer.cycles_bus:,}",
        "" if layer.speedup is None else f"{layer.speedup:.2f}x",
        f"{100 * layer.utilization:.1f}",
        f"{layer.tier1_mismatches:,}",
        f"{layer.tier2_mismatches:,}",
    ]
    return [*cells, f"{100 * layer.rtl_share:.2f}"] if sampled else cells


def _print_verdict(report: Report) -> None:
    summary = report.summary
    accuracy, share = summary.accuracy, summary.rtl_share
    samples = f"{summary.samples} sample{'s' if summary.samples != 1 else ''}"
    by = "RTL" if share == 1 else "RTL and reference"
    if accuracy.rtl is not None and accuracy.pruned_simulated is not None:
        found = accuracy.classified
        metric = "top-1" if found is None else found.metric or ""
        what = metric.capitalize() if len(accuracy.outputs) < 2 or found is None else f"Output '{found.name}', {metric}"
        out.print(
            f"{what} on the {samples} simulated: {by} {100 * accuracy.rtl:.2f} %, "
            f"pruned network {100 * accuracy.pruned_simulated:.2f} %."
        )
    if (own := accuracy.own) is not None and "rtl" in own.values:
        rtl, pruned = (own.values[form] for form in ("rtl", "pruned_simulated"))
        out.print(
            f"{own.metric} on the {samples} simulated: {by} {shown(None, rtl)}, pruned network {shown(None, pruned)}.",
            soft_wrap=True, markup=False,
        )  # fmt: skip
    for finding in report.findings:
        if finding.tier != "0":  # printed already
            _print_finding(finding)
    if report.on_chip is not None:
        _print_on_chip(report.on_chip, report.summary.cycles_dense, report.bus)
    if report.axi is not None:
        _print_axi(report.axi)
    if share < 1:
        of = "Nothing" if not share else f"{100 * share:.2f} % of the MACs"
        out.print(f"{of} went through RTL{', the rest' if share else ': all'} through the integer reference.")
    if share:
        print_shipped(summary.shipped_layers, len(report.layers))
    if report.images is not None and report.images.undecoded:
        undecoded = " and ".join(report.images.undecoded)
        out.print(f"The element packs its own words: {undecoded} could not be read back.", soft_wrap=True)
    article = "an" if summary.array.startswith(("8", "11x", "18x")) else "a"
    where = f"on {article} {summary.array} array by {summary.engine}" if share else "by the integer reference"
    poor = summary.fidelity is not None and not summary.fidelity.faithful
    because = ": the INT8 network does not stand for the network given (tier 0, above)" if poor else ""
    out.print(
        f"Verdict: [bold]{summary.verdict or 'none'}[/bold]{because}. {samples} {where}: {_unlike(summary)} "
        f"(by at most {summary.tier2_max_lsb} LSB).",
        soft_wrap=True,
    )


def print_shipped(shipped: int, layers: int) -> None:
    """How many layers ran from the descriptors that ship, if these are not all."""
    if not shipped:
        out.print(
            "No layer ran from the descriptors that ship: each is too long to simulate in one piece. Descriptors of "
            "the pieces were rewritten; those that ship were read back, field by field.", soft_wrap=True,
        )  # fmt: skip
    elif shipped < layers:
        out.print(
            f"{shipped} of {layers} layers ran from the descriptors that ship; those of the others were read back, "
            "field by field.", soft_wrap=True,
        )  # fmt: skip


def _unlike(summary: Summary) -> str:
    """How many elements differ from the integer reference and from ONNX Runtime, in words."""
    from_runtime = f"{summary.tier2_mismatches:,}"
    judged = f"{summary.elements:,} elements"
    if not summary.rtl_share:
        return f"{from_runtime} of {judged} differ from ONNX Runtime"
    sampled = summary.rtl_share < 1
    simulated = f"{summary.elements_rtl:,} elements" if sampled else judged
    other = f"{from_runtime} of {judged}" if sampled else from_runtime
    return f"{summary.tier1_mismatches:,} of {simulated} differ from the integer reference, {other} from ONNX Runtime"


def _print_on_chip(found: OnChipVerdict, dense: int | None, bus: BusReport | None) -> None:
    """The whole network on chip, segment by segment; `dense` cycles of all layers on dense PEs."""
    if found.failure:
        out.print(f"On chip the whole network did not finish: {found.failure}.", soft_wrap=True, markup=False)
        return
    for step in found.steps:
        if step.tier1_mismatches:
            wrong = f"{step.tier1_mismatches:,} of {step.elements:,} elements differ from the integer reference"
            out.print(f"On chip, step '{step.name}': {wrong}.", soft_wrap=True, markup=False)
    ties = f", {found.tier2_ties} more at a tie" if found.tier2_ties else ""
    faster = f" ({dense / found.cycles:.2f}x the speed of dense PEs, layer by layer)" if dense and found.cycles else ""
    slower = f", {bus.on_chip:,} behind the bus" if bus and bus.on_chip else ""
    out.print(
        f"On chip, {extent(found)}: {found.cycles:,} cycles{slower}{faster}, {100 * (found.utilization or 0):.1f} % "
        f"utilization, {found.map_bytes / 1024:,.1f} KiB of feature maps; {found.tier1_mismatches} of "
        f"{found.elements:,} elements differ from the integer reference, {found.tier2_mismatches} from ONNX "
        f"Runtime (by at most {found.tier2_max_lsb} LSB){ties}.", soft_wrap=True,
    )  # fmt: skip
    for output in found.outputs:
        if output.mismatches:
            out.print(
                f"On chip, output '{output.name}': {output.mismatches:,} of {output.elements:,} elements are not those "
                "of the whole INT8 network in ONNX Runtime.", soft_wrap=True, markup=False,
            )  # fmt: skip
    if found.alone:
        out.print(f"Not on chip, but one by one: {', '.join(found.alone)}.", soft_wrap=True, markup=False)


def _print_axi(found: AxiVerdict) -> None:
    """The runs behind AXI."""
    told = []
    for run in found.runs:
        network = "the whole network" if run.segment is None else f"segment {run.segment} of the network"
        what = f"layer '{run.name}'" if run.kind == "layer" else network
        differ = f"{run.mismatches:,} of {run.words:,} output words differ"
        told.append(f"{what}: {f'failed, {run.failure}' if run.failure else differ}")
    out.print(f"Behind AXI, with random stalls, by {found.engine}, {'; '.join(told)}.", soft_wrap=True, markup=False)
