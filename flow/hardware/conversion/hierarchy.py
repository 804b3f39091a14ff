"""A `block` decorator and an `export` that keep the module hierarchy when MyHDL designs are converted.

MyHDL's own `convert()` flattens a design into one module. Here every block becomes a module of its own:
during an export each call of a block converts its function on copies of the signals it got, once per distinct
(function, parameters, port types), and stands in the parent as an instantiation. Outside an export `block`
builds the ordinary MyHDL block, so simulation and conversion share one source.

What a block may be given
    ports       Signals of bool, intbv or modbv, ResetSignals; inputs also as `bus(high, low)`, `bus(bit)`,
                ConcatSignal, an undriven Signal (a constant, negative ones too) or an element of a list
    bundles     frozen dataclasses of ports, of bundles, and of None for a port that is not there; tuples of ports
                and bundles. Field `f` of parameter `p` is port `p_f`, number 0 of a tuple `p_0`, and so on inwards;
                `prefixed` gives a parameter another prefix than its name and an underscore
    parameters  None, bool, int, str, float, enum members, tuples and lists of these, frozen dataclasses
    not         lists of Signals; bundles with anything else in them; an output tied to a slice or a ConcatSignal

How to write what converts
    * A wire's name is its name in the block, `<bundle>_<field>` in a bundle that the block makes before its first
      process or child, else `<instance>_<port>`; Signals in (nested) lists, in loops and without a name are
      therefore fine as connections between children.
    * A process reaches a port as `bundle.field`; a tuple is for connections, a process names its parts first.
    * A list of Signals that a process uses becomes an array. Its elements may be connected to children, but
      all of them must be driven by children or all by processes; a mixture is refused.
    * A constant Signal (never driven) is for ports. In an expression its sign is lost in Verilog: use an int.
    * `low = 4 * i` first, then `y.next[low + 4:low] = ...` or `x[low + 4:low]`; `low` must be a
      variable of its own, and the width a number. In Verilog it is written out (offsets.py).
    * In Verilog all widths are written out (explicit.py). High bits of a sum that is shifted down at once cannot be:
      give the sum a Signal of its own. What nothing reads is read by a wire `_unused`, but not bits of an integer in
      a process: write its expression where it is used.
    * One operator per assignment where signs or widths mix; `signed.next = unsigned` is fine
      when the signed one has at least one bit more.
    * A modbv accumulator wraps alike everywhere if what it adds, sign bit included, is no wider than itself;
      VHDL's resize of a wider signed sum keeps the sign instead of wrapping.
    * No slice of a ConcatSignal, no ConcatSignal without a name inside another one, no 1-bit slice `b(4, 3)`
      inside a ConcatSignal: write `b(3)`.
    * Keywords of Verilog and VHDL cannot name ports and lists. Blocks, processes and other signals of such a
      name get a suffix, and so does a process called like a signal.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Literal

import myhdl._instance
import myhdl._util
import myhdl._Waiter
from myhdl import ConcatSignal, ResetSignal, Signal, ToVerilogWarning, ToVHDLWarning, intbv
from myhdl._block import _Block as Block
from myhdl._block import block_decorator
from myhdl._extractHierarchy import _UserVerilogCode, _UserVhdlCode
from myhdl._ShadowSignal import _ShadowSignal, _SliceSignal
from myhdl._Signal import _Signal
from myhdl._simulator import _signals
from myhdl.conversion._toVerilog import _ToVerilogConvertor, toVerilog
from myhdl.conversion._toVHDL import _shortversion, _ToVHDLConvertor, toVHDL
from myhdl.conversion._toVHDLPackage import _package

from flow.hardware.conversion.bundles import ExportError, copied, is_bundle, is_frozen, parts_of, ports_of, signals_in
from flow.hardware.conversion.explicit import explicit
from flow.hardware.conversion.keywords import KEYWORDS
from flow.hardware.conversion.offsets import inline_offsets

Language = Literal["verilog", "vhdl"]
PACKAGE = f"pck_myhdl_{_shortversion}"  # of what MyHDL's VHDL needs
TAKEN = {"next", "posedge", "negedge", "max", "min", "val", "signed"}  # attributes that MyHDL reads as a Signal's


class _Inspect:
    """Stands for `inspect` inside MyHDL: frames without their source lines, sources read once, the rest unchanged."""

    def __getattr__(self, name: str) -> Any:
        return getattr(inspect, name)

    @staticmethod
    def stack() -> list[tuple[FrameType, str, int, str]]:
        """The innermost frames, as many as MyHDL looks at, in the order and layout of `inspect.stack`."""
        frame: FrameType | None = sys._getframe(1)
        frames: list[tuple[FrameType, str, int, str]] = []
        while frame is not None and len(frames) < 8:
            frames.append((frame, frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
            frame = frame.f_back
        return frames

    @staticmethod
    def getsourcelines(item: Any) -> tuple[list[str], int]:
        """As `inspect`: MyHDL asks three times for each process of each instance, which is a function of its own."""
        function = inspect.unwrap(item)
        code = getattr(function, "__code__", None) or getattr(function, "f_code", None)
        return inspect.getsourcelines(item) if code is None else _source_lines(code.co_filename, code)

    @classmethod
    def getsource(cls, item: Any) -> str:
        return "".join(cls.getsourcelines(item)[0])


@cache
def _source_lines(file: str, code: CodeType) -> tuple[list[str], int]:
    """The lines of a code object and the number of the first; code of two files may be equal."""
    return inspect.getsourcelines(code)


class _BlockInspect(_Inspect):
    """Reads no source: MyHDL stores the lines of every block when it is imported, and never looks at them."""

    @staticmethod
    def getsourcelines(item: Any) -> tuple[list[str], int]:
        return [], 0


for _module in (myhdl._instance, myhdl._util, myhdl._Waiter):
    setattr(_module, "inspect", _Inspect())  # noqa: B010
setattr(myhdl._block, "inspect", _BlockInspect())  # noqa: B010
myhdl._util._dedent = myhdl._Waiter._dedent = cache(myhdl._util._dedent)


@dataclasses.dataclass
class Module:
    """One converted module: what it was made from, the ports it drives, and the instances in it.

    `outputs` holds the type and initial value of each port it drives, `children` (instance, module) names.
    """

    name: str
    source: block
    arguments: dict[str, Any]
    outputs: dict[str, tuple[Any, ...]]
    children: list[tuple[str, str]]

    @property
    def ports(self) -> dict[str, Any]:
        """Signals of the types of its ports, by name."""
        return ports_of(self.source.func, self.arguments)

    @property
    def function(self) -> str:
        """The block's name in the MyHDL source."""
        return str(self.source.func.__name__)

    @property
    def inputs(self) -> list[str]:
        """Names of the ports it reads."""
        return [name for name in self.ports if not self.drives(name)]

    def drives(self, port: str) -> bool:
        return port in self.outputs

    def fits(self, ports: dict[str, Any]) -> bool:
        """Whether the ports it drives have the types and reset values of `ports`."""
        return all(_output_type(ports[name]) == kind for name, kind in self.outputs.items())

    def build(self) -> tuple[Block, dict[str, Any]]:
        """The block alone, to simulate, and its ports: fresh Signals by name."""
        arguments = {name: copied(value) for name, value in self.arguments.items()}
        return self.source(**arguments), ports_of(self.source.func, arguments)


class _Export:
    """The state of one export: what was converted, the names taken, the instances per open block."""

    def __init__(self, name: str, folder: Path, language: Language, named: Mapping[str, str], prefix: str) -> None:
        self.top = name
        self.named = named
        self.prefix = f"{prefix}_" if prefix else ""
        self.package = f"{self.prefix}{PACKAGE}"
        self.folder = folder
        self.language = language
        self.modules: dict[tuple[Any, ...], list[Module]] = {}
        self.children: list[list[_Instance]] = [[]]
        self.names: set[str] = {name.lower()}
        self.files: list[Path] = []
        self.counts: list[dict[str, int]] = [{}]
        self.driven: dict[str, list[str]] = {}

    def module_name(self, function: str) -> str:
        """The function's name behind the prefix, with an index when taken and a suffix when it is a keyword."""
        if len(self.counts) == 1:
            return self.top
        plain = self.prefix + (function + "_block" if function.lower() in KEYWORDS else function)
        base = self.named.get(function, plain)
        name, index = base, 0
        while name.lower() in self.names:
            index += 1
            name = f"{base}_{index}"
        self.names.add(name.lower())
        return name

    def label(self, function: str) -> str:
        """The next instance name of a function inside the block being built."""
        count = self.counts[-1]
        index = count[function] = count.get(function, -1) + 1
        return f"{function}{index}"

    def convert(self, block: Block, name: str, ports: dict[str, Any]) -> list[str]:
        """Write one elaborated block with these ports as a module; returns the names of the ports it drives."""
        block.sigdict = _named(block, ports)
        block.argnames, block.argdict = list(ports), ports
        block._inferInterface = _nothing
        verilog = self.language == "verilog"
        converter = _VerilogModule() if verilog else _VhdlModule()
        converter.name = name
        converter.directory = str(self.folder)
        if not verilog:
            converter.no_myhdl_package = True
            converter.use_clauses = f"use work.{self.package}.all;\n"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ToVerilogWarning)
            warnings.simplefilter("ignore", ToVHDLWarning)
            warnings.filterwarnings("error", "VHDL (keyword|variable)|Previously used", ToVHDLWarning)
            try:
                converter(block)
            except ToVHDLWarning as warning:
                raise ExportError(f"{name}: {warning}; rename it (VHDL knows no case)") from warning
        self.files.append(self.folder / f"{name}{'.v' if verilog else '.vhd'}")
        self.driven[name] = converter.outputs
        if verilog:
            self.files[-1].write_text(explicit(self.files[-1].read_text(), self.driven))
        return converter.outputs


_export: _Export | None = None


class block(block_decorator):  # noqa: N801 - a decorator, in lower case as all of them
    """Decorator of every hardware block: `myhdl.block`, and one module per block inside `export`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Block:
        if _export is None:
            name = myhdl._block._uniqueify_name(f"{self.func.__name__}{self.calls}")
            self.calls += 1
            return Block(self.func, self, name, self.srcfile, self.srcline, False, *args, **kwargs)

        function = self.func.__name__
        bound = inspect.signature(self.func).bind(*args, **kwargs)
        bound.apply_defaults()
        key = (self.func, *((name, _key(function, name, value)) for name, value in bound.arguments.items()))
        ports = ports_of(self.func, bound.arguments)
        for name in ports:
            if name.lower() in KEYWORDS:
                raise ExportError(f"{function}: port {name!r} is a keyword of Verilog or VHDL; rename it")
        known = _export.modules.setdefault(key, [])
        module = next((m for m in known if m.fits(ports)), None)
        if module is None:
            module = self._convert(_export, bound, ports)
            known.append(module)

        # MyHDL looks at the frames: the instance must be constructed right here.
        label = _export.label(function)
        instance = Block(_nothing, self, label, self.srcfile, self.srcline, False)
        signals = dict(ports)
        for name, signal in ports.items():
            if name in module.outputs:
                _drive(signal, f"{function}: port {name}")
            else:
                _read(signal, name, signals)
        instance.symdict = instance.sigdict = signals
        language = _VerilogInstance if _export.language == "verilog" else _VhdlInstance
        code = language(module.name, label, ports, self)
        _export.children[-1].append(code)
        instance.verilog_code = instance.vhdl_code = code
        return instance

    def _convert(self, state: _Export, bound: inspect.BoundArguments, ports: dict[str, Any]) -> Module:
        """Write the block as a module, on copies of the Signals it was given."""
        bound.arguments.update({name: copied(value) for name, value in bound.arguments.items()})
        function = self.func.__name__
        module_name = state.module_name(function)
        state.counts.append({})
        state.children.append([])
        inner = Block(self.func, self, function, self.srcfile, self.srcline, False, *bound.args, **bound.kwargs)
        inner.symdict, inner.sigdict, inner.memdict = (
            _ordered(self.func, names) for names in (inner.symdict, inner.sigdict, inner.memdict)
        )
        inner.__doc__ = _described(self.func, bound.arguments)
        state.counts.pop()
        outputs = state.convert(inner, module_name, ports_of(self.func, bound.arguments))
        children = [(instance.label, instance.module) for instance in state.children.pop()]
        driven = {name: _output_type(ports[name]) for name in outputs}
        return Module(module_name, self, dict(bound.arguments), driven, children)


def export(
    build: Callable[[], Block],
    name: str,
    folder: Path,
    language: Language,
    modules: dict[str, Module] | None = None,
    named: Mapping[str, str] | None = None,
    prefix: str = "",
) -> list[Path]:
    """Write a design as one file per module; returns the files in compile order, the top last.

    build     makes fresh top-level Signals, instantiates the top block on them and returns it
    name      the top module's name; the others are called after their functions, with an index where a
              function occurs with several parameters or port types
    language  "verilog" or "vhdl" (then MyHDL's package file comes first)
    modules   takes the modules by name, if given
    named     names of modules, by function, that are not to be called after it
    prefix    what the names of all modules but the top and `named` begin with, MyHDL's package included

    Equal designs give equal bytes. Raises ExportError, or MyHDL's ConversionError, naming the block.
    """
    global _export
    if language not in ("verilog", "vhdl"):
        raise ExportError(f'the language is "verilog" or "vhdl", not {language!r}')
    if _export is not None:
        raise ExportError("an export is running; build() must not start another")
    if name.lower() in KEYWORDS:
        raise ExportError(f"the top module cannot be called {name!r}, a keyword")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    options = (toVerilog.no_testbench, toVerilog.no_myhdl_header, toVHDL.no_myhdl_header)
    toVerilog.no_testbench = toVerilog.no_myhdl_header = toVHDL.no_myhdl_header = True
    _export = state = _Export(name, folder, language, named or {}, prefix)
    try:
        if language == "vhdl":
            package = folder / f"{state.package}.vhd"
            package.write_text(_package.replace(PACKAGE, state.package))
            state.files.append(package)
        build()
    finally:
        _export = None
        toVerilog.no_testbench, toVerilog.no_myhdl_header, toVHDL.no_myhdl_header = options
    if not state.files or state.files[-1].stem != name:
        raise ExportError("build() must instantiate the top block, decorated with hierarchy.block, and return it")
    if modules is not None:
        modules.update({module.name: module for known in state.modules.values() for module in known})
    return state.files


@contextmanager
def forgotten() -> Iterator[None]:
    """What is built and simulated inside leaves nothing in MyHDL's global lists of signals and names, nor sees any.

    They only ever grow, and every simulation walks them.
    """
    signals, names, instances = list(_signals), set(myhdl._block._name_set), set(myhdl._block._inst_name_set)
    _signals.clear()
    try:
        yield
    finally:
        _signals[:] = signals
        myhdl._block._name_set.intersection_update(names)
        myhdl._block._inst_name_set.intersection_update(instances)


def _ordered(function: Callable[..., Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """What MyHDL has found by name in the frame of a block, in the order in which the block's function binds the names.

    Pythons differ in the order of a frame's locals, and 3.12 keeps the variables of comprehensions there, which name
    nothing here.
    """
    bound, passing = _bound(function)
    first = {name: names[name] for name in bound if name in names}
    return first | {name: value for name, value in names.items() if name not in first and name not in passing}


@cache
def _bound(function: Callable[..., Any]) -> tuple[tuple[str, ...], frozenset[str]]:
    """The names that a function binds, in the order of its text, and those that only comprehensions bind."""
    tree = ast.parse(textwrap.dedent(_Inspect.getsource(function)))
    targets = [node.target for node in ast.walk(tree) if isinstance(node, ast.comprehension)]
    passing = {node for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
    found = [(node.lineno, node.col_offset, node.arg) for node in ast.walk(tree) if isinstance(node, ast.arg)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node not in passing:
            found.append((node.lineno, node.col_offset, node.id))
    bound = tuple(dict.fromkeys(name for _, _, name in sorted(found)))
    return bound, frozenset(node.id for node in passing) - {*bound}


def _nothing() -> tuple[()]:
    return ()


def _named(block: Block, ports: dict[str, Any]) -> dict[str, Any]:
    """The Signals of a block that have a name in it: ports, MyHDL's, those in bundles that it makes itself."""
    for name, signal in block.sigdict.items():
        if ports.get(name, signal) is not signal:
            raise ExportError(f"{block.func.__name__}: port {name} has the name of another signal; rename one of them")
    named: dict[str, Any] = {**ports, **block.sigdict}
    for name, value in block.symdict.items():
        if is_bundle(value):
            for within, signal in signals_in(name, value, f"{name}_"):
                named.setdefault(within, signal)
    return named


def _described(function: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
    """The comment at the head of a module: its block's docstring, and the values of its parameters."""
    sets = {name: dict(parts_of(value)) for name, value in arguments.items() if _is_set(value)}
    given = {name: value for name, value in arguments.items() if isinstance(value, (int, str, float))}
    for name, values in sets.items():
        given |= {field if len(sets) == 1 else f"{name}.{field}": value for field, value in values.items()}
    shown = [f"{name} {value}" for name, value in given.items() if isinstance(value, (int, str, float)) and value != ""]
    doc = inspect.getdoc(function) or ""
    if not shown:
        return doc
    lines = textwrap.fill(f"Parameters: {', '.join(shown)}", 110, subsequent_indent=" " * 12, break_on_hyphens=False)
    return f"{doc}\n\n{lines}"


def _is_set(value: Any) -> bool:
    """Whether it is a dataclass of parameters."""
    return dataclasses.is_dataclass(value) and not is_bundle(value)


def _key(function: str, name: str, value: Any) -> tuple[Any, ...]:
    """What of an argument decides which module is instantiated."""
    if isinstance(value, _Signal):
        if value._type not in (bool, intbv) or not value._nrbits:
            raise ExportError(f"{function}: port {name} is a bool or an intbv or modbv of known width")
        reset = (value.active, value.isasync) if isinstance(value, ResetSignal) else None
        return value._type, value._nrbits, value._min, value._max, reset
    if not is_bundle(value):
        return (_freeze(f"{function}: parameter {name}", value),)
    if not isinstance(value, tuple) and not is_frozen(value):
        raise ExportError(
            f"{function}: parameter {name} is a {type(value).__name__}, which can change; "
            "a bundle of Signals is a frozen dataclass"
        )
    keys = []
    for part, item in parts_of(value):
        if part in TAKEN:
            raise ExportError(f"{function}: parameter {name}: {part!r} means something else in a process; rename it")
        if isinstance(item, _Signal) or is_bundle(item):
            keys.append(_key(function, f"{name}.{part}", item))
        elif item is None or item == ():
            keys.append(item)
        else:
            raise ExportError(
                f"{function}: parameter {name}.{part} is a {type(item).__name__}; "
                "a bundle holds Signals, bundles, or None for a port that is not there"
            )
    return type(value), *keys


def _freeze(where: str, value: Any) -> Any:
    """A hashable stand-in of a parameter; equal ones of different types (1, True) stay different."""
    if value is None or isinstance(value, (bool, int, float, str, enum.Enum)):
        return type(value), value
    if isinstance(value, (tuple, list)):
        return type(value), tuple(_freeze(where, item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and is_frozen(value):
        return type(value), tuple(_freeze(f"{where}.{name}", item) for name, item in parts_of(value))
    raise ExportError(
        f"{where} is a {type(value).__name__}; a block takes Signals, None, numbers, strings, "
        "tuples of them and frozen dataclasses, also of Signals"
    )


def _output_type(signal: Any) -> tuple[Any, ...]:
    """What matters of a driven signal beyond the port's type: how it wraps and its reset value."""
    return type(signal._init), int(signal._init)


def _drive(signal: Any, where: str) -> None:
    """Mark a signal as driven by an instance."""
    if isinstance(signal, _ShadowSignal):
        raise ExportError(f"{where} is an output, so it cannot be tied to a slice or a ConcatSignal")
    if signal._driven:
        raise ExportError(f"{where} drives a signal that another block drives too")
    signal._driven = "wire"
    signal._markUsed()


def _read(signal: Any, name: str, signals: dict[str, Any]) -> None:
    """Mark a signal and all it is made of as read; the parts join `signals`, to be named and declared."""
    signals.setdefault(name, signal)
    signal._markRead()
    signal._markUsed()
    if isinstance(signal, _SliceSignal):
        _read(signal._sig, f"{name}_bus", signals)
    elif isinstance(signal, ConcatSignal):
        signal._driven = "wire"
        for index, part in enumerate(signal._sigargs):
            _read(part, f"{name}_part{index}", signals)


class _Instance:
    """The text of an instantiation, written when MyHDL has named the signals."""

    module: str
    label: str
    ports: dict[str, Any]

    def __init__(self, module: str, label: str, ports: dict[str, Any], source: block) -> None:
        code: tuple[Any, ...] = ("", {}, module, source.func, source.srcfile, source.srcline)
        super().__init__(*code)
        self.module = module
        self.label = label
        self.ports = ports

    def connections(self) -> dict[str, str]:
        """Port name to the text of what it is connected to."""
        return {port: signal._name.strip() for port, signal in self.ports.items()}


class _VerilogInstance(_Instance, _UserVerilogCode):
    def __str__(self) -> str:
        lines = ",\n".join(f"    .{port}({actual})" for port, actual in self.connections().items())
        return f"\n{self.module} {self.label} (\n{lines}\n);\n"


class _VhdlInstance(_Instance, _UserVhdlCode):
    def __str__(self) -> str:
        lines = ",\n".join(f"    {port} => {actual}" for port, actual in self.connections().items())
        return f"\n{self.label}: entity work.{self.module}\n    port map (\n{lines}\n    );\n"

    def connections(self) -> dict[str, str]:
        """As in Verilog; a slice of a signed bus is unsigned in MyHDL, which VHDL wants to be told."""
        actuals = super().connections()
        for port, signal in self.ports.items():
            if isinstance(signal, _SliceSignal) and signal._right is not None and _signed(signal._sig):
                actuals[port] = f"unsigned({actuals[port]})"
        return actuals


def _signed(signal: Any) -> bool:
    return signal._min is not None and signal._min < 0


def _prepare(block: Block, signals: list[Any], memories: list[Any], trees: list[Any], hdl: str) -> list[str]:
    """Settle the names before MyHDL writes a module, refuse what it would write wrongly.

    Returns the names of the ports that the module drives.
    Called with MyHDL's analysis: the signals and arrays by name, and the processes and instances in order.
    """
    where = block.func.__name__
    for name in block.argnames:
        block.argdict[name]._name = name
        _name_slices(block.argdict[name], hdl)
    for memory in memories:
        if memory._used:
            _prepare_list(where, memory, hdl)
    for signal in signals:
        _prepare_signal(where, signal, hdl)
    taken = {signal._name.lower() for signal in signals} | {memory.name.lower() for memory in memories}
    _label(trees, taken | KEYWORDS)
    return [name for name in block.argnames if block.argdict[name]._driven]


def _prepare_list(where: str, memory: Any, hdl: str) -> None:
    """Name the elements of an array, or refuse it."""
    if memory.name.lower() in KEYWORDS:
        raise ExportError(f"{where}: list {memory.name!r} is a keyword of Verilog or VHDL; rename it")
    for element in memory.mem:
        _name_slices(element, hdl)
    if memory._driven == "reg" and any(element._driven == "wire" for element in memory.mem):
        raise ExportError(f"{where}: list {memory.name} is driven by processes and by blocks; use two lists")


def _prepare_signal(where: str, signal: Any, hdl: str) -> None:
    """Give a signal a legal name, and a ConcatSignal or a constant the form that the language takes."""
    if signal._name.lower() in KEYWORDS:
        signal._name += "_signal"
        _name_slices(signal, hdl)
    if isinstance(signal, ConcatSignal):
        if any(part._name is None for part in signal._sigargs) and (signal._read or signal._used):
            raise ExportError(f"{where}: a part of ConcatSignal {signal._name} has no name; assign it to one")
        if hdl == "VHDL":
            signal._args = tuple(_unsigned_part(part) for part in signal._args)
    elif hdl == "Verilog" and not signal._driven and _signed(signal) and signal._val < 0:
        bits = signal._nrbits
        signal._val = intbv(int(signal._val) % 2**bits)[bits:]  # MyHDL writes decimal literals


def _label(trees: list[Any], taken: set[str] | frozenset[str]) -> None:
    """Names of processes and instances that nothing else has."""
    taken = set(taken)
    for tree in trees:
        _sort_signals(tree)
        attribute = "label" if isinstance(tree, _Instance) else "name"
        label = getattr(tree, attribute)
        while label.lower() in taken:
            label += "_unit" if isinstance(tree, _Instance) else "_process"
        taken.add(label.lower())
        setattr(tree, attribute, label)


def _sort_signals(tree: Any) -> None:
    """MyHDL lists a process's signals in the order of a set, which changes from run to run."""
    for attribute in ("senslist", "sigregs"):
        signals = getattr(tree, attribute, None)
        if signals and all(isinstance(signal, _Signal) for signal in signals):
            setattr(tree, attribute, sorted(signals, key=lambda signal: signal._name))


def _name_slices(signal: Any, hdl: str) -> None:
    for part in signal._slicesigs:
        part._setName(hdl)


def _unsigned_part(part: Any) -> Any:
    """A part of a ConcatSignal as VHDL needs it: of the unsigned type that the whole has."""
    base = part._sig if isinstance(part, _SliceSignal) else part
    if not isinstance(part, _Signal) or len(part) < 2 or not _signed(base):
        return part
    stand_in = Signal(intbv(0)[len(part) :])
    stand_in._name = f"unsigned({part._name})"
    return stand_in


class _VerilogModule(_ToVerilogConvertor):
    """MyHDL's converter with `_prepare` at its hook."""

    outputs: list[str]

    def _convert_filter(self, h: Any, intf: Any, siglist: Any, memlist: Any, genlist: Any) -> None:
        self.outputs = _prepare(intf, siglist, memlist, genlist, "Verilog")
        for tree in genlist:
            if not isinstance(tree, _Instance):
                inline_offsets(tree)


class _VhdlModule(_ToVHDLConvertor):
    """MyHDL's converter with `_prepare` at its hook."""

    outputs: list[str]

    def _convert_filter(self, h: Any, intf: Any, siglist: Any, memlist: Any, genlist: Any) -> None:
        self.outputs = _prepare(intf, siglist, memlist, genlist, "VHDL")
