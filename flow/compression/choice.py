"""The user's choice of how much to prune: the paper's rule, or a budget of bits or of an array's time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from flow.compression.allocate import preset
from flow.compression.effort import USUAL, effort
from flow.compression.encoding import BBS
from flow.compression.prune import METHODS
from flow.compression.refine import REFINEMENTS
from flow.errors import FlowError

DATA_FREE = "moderate"  # the preset used without calibration samples
BITS, CYCLES, ENERGY = OBJECTIVES = ("bits", "cycles", "energy")  # what --max-drop keeps low
DEFAULT_BITS = 5.0  # bits per weight: about those of the moderate preset on a large network


@dataclass(frozen=True)
class Pruning:
    """What to prune: the paper's rule, or a budget.

    `name`   the preset's, "custom", "budget" or "default" (a budget if there are calibration samples)
    rule     `columns` is N of the pruned channels, `sensitive` the unpruned share (0..1), `method` of prune.METHODS
    budget   `bits` per weight on average; or `speedup` over dense PEs, or `cycles` of one sample, on the array; or
             `max_drop`, the permitted loss in points of top-1, with the least of `objective` (of OBJECTIVES). `block`
             channels share one N (None: as many as the array has columns); `means`: refinements
             (refine.REFINEMENTS); `effort`: how long to try (effort.EFFORTS); `output_weight`: how much the error of
             an output counts, by its name; the others count 1
    """

    name: str
    columns: int | None = None
    sensitive: float | None = None
    method: str | None = None
    bits: float | None = None
    speedup: float | None = None
    cycles: int | None = None
    max_drop: float | None = None
    objective: str = BITS
    block: int | None = None
    means: tuple[str, ...] = ()
    effort: int = USUAL
    output_weight: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def budgeted(self) -> bool:
        """Whether calibration samples are needed."""
        return any(each is not None for each in (self.bits, self.speedup, self.cycles, self.max_drop))

    @property
    def limited(self) -> str:
        """What is limited, of OBJECTIVES. But for bits, which blocks of channels are pruned depends on the array."""
        return CYCLES if self.speedup is not None or self.cycles is not None else self.objective


@dataclass(frozen=True)
class Choice:
    """The user's options; see `Pruning`."""

    preset: str | None = None
    columns: int | None = None
    sensitive: float | None = None
    method: str | None = None
    bits: float | None = None
    speedup: float | None = None
    cycles: int | None = None
    max_drop: float | None = None
    objective: str | None = None
    block: int | None = None
    means: tuple[str, ...] = REFINEMENTS
    effort: int | None = None
    output_weight: Mapping[str, float] | None = None


def pruning(preset_name: str | None = None, **values: Any) -> Pruning:
    """The user's choice, completed; `values` are the fields of `Choice`.

    A preset of the paper; or single values of its rule (otherwise the moderate preset's, but method optimal); or a
    budget; without any of these, a budget of 5 bits. FlowError: two of them together, an unknown preset or method, a
    value out of range, an unknown field.
    """
    names = [each.name for each in fields(Choice)]
    if unknown := next((name for name in values if name not in names), None):
        raise FlowError(f"there is no option '{unknown}' of pruning; choose of {', '.join(names)}")
    return complete(Choice(**{"preset": preset_name} | values))


def complete(choice: Choice) -> Pruning:
    """The pruning that a choice stands for; see `pruning`."""
    rule = {name: getattr(choice, name) for name in ("columns", "sensitive", "method")}
    budget = {
        "bits": choice.bits, "speedup": choice.speedup, "cycles": choice.cycles, "max-drop": choice.max_drop
    }  # fmt: skip
    told = [[name for name, value in group.items() if value is not None] for group in (rule, budget)]
    kinds = [*([f"preset '{choice.preset}'"] if choice.preset is not None else [])]
    kinds += [words for words in (", ".join(told[0]), " and ".join(told[1])) if words]
    if len(kinds) > 1 or len(told[1]) > 1:
        raise FlowError(f"{' came together with '.join(kinds)}: each says how much to prune; give one of them")
    if choice.preset is not None:
        chosen = preset(choice.preset)
        return Pruning(choice.preset, chosen.columns_pruned, chosen.sensitive, chosen.method)
    if told[0]:
        return _rule(choice.columns, choice.sensitive, choice.method)
    return _budget(choice)


def _rule(columns: int | None, sensitive: float | None, method: str | None) -> Pruning:
    usual = preset(DATA_FREE)
    if method is not None and method not in METHODS:
        raise FlowError(f"unknown pruning method '{method}'; choose one of {', '.join(METHODS)}")
    return Pruning(
        "custom",
        usual.columns_pruned if columns is None else columns,
        usual.sensitive if sensitive is None else sensitive,
        method or "optimal",
    )


def _budget(choice: Choice) -> Pruning:
    _check_amount(choice)
    timed = choice.speedup is not None or choice.cycles is not None
    objective = choice.objective or (CYCLES if timed else BITS)
    if objective not in OBJECTIVES:
        raise FlowError(f"unknown objective '{objective}'; choose one of {', '.join(OBJECTIVES)}")
    if choice.objective is not None and choice.max_drop is None:
        raise FlowError("an objective says what --max-drop keeps low; give --max-drop, too")
    block = choice.block
    if block is not None and block < 1:
        raise FlowError(f"channels that share one N must be 1 or more, but they are {block}; change --block")
    if block is not None and objective != BITS:
        raise FlowError(
            f"with a budget of {objective} as many channels share one N as the array has columns, but --block is "
            f"{block}; leave it out"
        )
    unknown = sorted(set(choice.means) - set(REFINEMENTS))
    if unknown:
        raise FlowError(f"unknown refinement '{unknown[0]}'; choose of {', '.join(REFINEMENTS)}")
    level = USUAL if choice.effort is None else choice.effort
    effort(level)
    how = Pruning(
        "budget", block=block, means=choice.means, effort=level, output_weight=_weights(choice.output_weight or {})
    )
    if choice.bits is None and choice.max_drop is None and not timed:
        return replace(how, name="default", bits=DEFAULT_BITS)
    return replace(
        how, bits=choice.bits, speedup=choice.speedup, cycles=choice.cycles, max_drop=choice.max_drop,
        objective=objective,
    )  # fmt: skip


def _check_amount(choice: Choice) -> None:
    bits, speedup, cycles, max_drop = choice.bits, choice.speedup, choice.cycles, choice.max_drop
    if bits is not None and not 0 < bits <= BBS.weight_bits:
        raise FlowError(f"a budget is more than 0 and at most 8 bits per weight, but it is {bits:g}; change --bits")
    if speedup is not None and not 1 <= speedup < math.inf:
        raise FlowError(f"a speed-up over dense PEs must be 1 or more, but it is {speedup:g}; change --speedup")
    if cycles is not None and cycles < 1:
        raise FlowError(f"a budget must be 1 cycle or more, but it is {cycles}; change --cycles")
    if max_drop is not None and not 0 <= max_drop <= 100:
        raise FlowError(f"the drop allowed must be 0 to 100 points, but it is {max_drop:g}; change --max-drop")


def _weights(weights: Mapping[str, float]) -> dict[str, float]:
    for name, weight in weights.items():
        if not 0 <= weight < math.inf:
            raise FlowError(
                f"the weight of an output must be 0 or more, but that of '{name}' is {weight:g}; change --output-weight"
            )
    return dict(sorted(weights.items()))
