"""Which hardware block does not do what its MyHDL source says, by replaying its ports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import myhdl

from flow.hardware.conversion.hierarchy import Module, forgotten
from flow.hardware.element import loaded
from flow.simulation.engines.native import ONE_AT_A_TIME
from flow.simulation.engines.waveform import Place, Trace


def blame(parts: Mapping[str, Module], trace: Trace, name: str, place: Place = ()) -> tuple[Place, str] | None:
    """The innermost instance that does not do what its MyHDL source says, and its block; None if all do.

    `name` is the module at `place`. The top is not replayed: it is at fault if no instance within it is,
    because a mismatch at its ports must have a cause.
    """
    module = parts[name]
    children = [
        (label, child) for label, child in module.children if trace.has((*place, label), _first_port(parts[child]))
    ]
    large = [pair for pair in children if is_array(parts[pair[1]])]
    if place and not is_array(module) and replay(module, trace, place) is None:
        return None
    for label, child in [pair for pair in children if pair not in large] + large:
        if guilty := blame(parts, trace, child, (*place, label)):
            return guilty
    if is_array(module) and replay(module, trace, place) is None:
        return None
    return place or (name,), module.function


def is_array(module: Module) -> bool:
    return any(module.source is element.block for element in loaded())


def _first_port(module: Module) -> str:
    return module.inputs[0]


def replay(module: Module, trace: Trace, place: Place) -> tuple[int, str] | None:
    """Simulates one module on its inputs in the trace; the first edge and output that differ, None if none does."""
    expected = {name: trace.values(place, name) for name in module.outputs if trace.has(place, name)}
    driven = {name: trace.values(place, name) for name in module.inputs if name != "clk" and trace.has(place, name)}
    differences: list[tuple[int, str]] = []
    with ONE_AT_A_TIME, forgotten():
        block, ports = module.build()
        clocked = "clk" in ports

        def drive() -> Iterator[Any]:
            for edge in range(trace.edges):
                for name, values in driven.items():
                    value = values[edge]
                    if value is not None:
                        ports[name].next = _as_port(ports[name], value)
                yield myhdl.delay(1)
                for name, values in expected.items():
                    value = values[edge]
                    if value is not None and int(ports[name].val) != _as_port(ports[name], value):
                        differences.append((edge, name))
                        raise myhdl.StopSimulation
                if clocked:
                    ports["clk"].next = 1
                    yield myhdl.delay(1)
                    ports["clk"].next = 0
                    yield myhdl.delay(1)

        simulation = myhdl.Simulation(block, drive())
        try:
            simulation.run(None, quiet=1)
        except (ValueError, IndexError):
            return None  # inputs that the source never expects: this instance cannot be judged
        finally:
            simulation.quit()
    return differences[0] if differences else None


def _as_port(port: Any, value: int) -> int:
    """The unsigned value of a waveform in the type of a port."""
    if port.min is not None and port.min < 0 and value >> (len(port) - 1):
        return value - (1 << len(port))
    return value
