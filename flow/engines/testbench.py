"""Testbenches in Verilog and VHDL: the memories of `flow.engines.base` around a device, and one run of it.

Without `cycles` the bench prints `CYCLES n` and leaves each written memory in `<port>.out.hex`. With `cycles`
it checks itself: the written memories against `<port>.expected.hex` and the number of cycles; it prints PASS
and ends with status 0, or prints FAIL with the reasons and ends with another status. Read memories come from
`<port>.hex`. A hex file has one word a line, most significant digit first, whole bytes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from flow.engines.base import (
    ADDRESS_BITS,
    COMMAND_BITS,
    RESET_EDGES,
    Device,
    DeviceError,
    Memory,
    MemoryPort,
    Result,
    beyond,
    not_done,
)


def write_hex(path: Path, memory: Memory) -> None:
    """Write a memory as a hex file, for $readmemh and hread."""
    digits = 2 * memory.shape[1]
    text = np.ascontiguousarray(memory[:, ::-1]).tobytes().hex()
    path.write_text("".join(text[at : at + digits] + "\n" for at in range(0, len(text), digits)))


def read_hex(path: Path, size: int) -> Memory:
    """Read a hex file of words of `size` bytes. RuntimeError if a bit is unknown (x, u, z)."""
    words = []
    for line in path.read_text().splitlines():
        word = line.split("//")[0].strip()
        if word:
            try:
                words.append(bytes.fromhex(word)[::-1])
            except ValueError:
                raise RuntimeError(f"{path.name}: unknown bits in word {len(words)}: {word}") from None
    return np.frombuffer(b"".join(words), np.uint8).reshape(-1, size).copy()


def write_inputs(folder: Path, memories: Mapping[str, Memory]) -> None:
    """Write the read memories where a testbench looks for them."""
    for name, memory in memories.items():
        write_hex(folder / f"{name}.hex", memory)


def read_outputs(
    folder: Path, output: str, device: Device, engine: str, depths: Mapping[str, int], limit: int
) -> Result:
    """The result of a testbench that has run in `folder` and printed `output`."""
    for line in output.splitlines():
        match line.split():
            case ["CYCLES", cycles]:
                try:
                    written = {
                        port.name: read_hex(folder / f"{port.name}.out.hex", port.bytes) for port in device.writes
                    }
                except RuntimeError as error:
                    raise DeviceError(f"{device.name}, {engine}: {error}") from None
                return Result(int(cycles), written)
            case ["LIMIT"]:
                raise not_done(device, engine, limit)
            case ["BEYOND", port, address, cycle]:
                raise beyond(device, engine, port, int(address, 16), depths[port], int(cycle))
    raise RuntimeError(f"{device.name}, {engine}: the simulation ended early:\n{output[-4000:]}")


def _lines(indent: int, lines: Sequence[str]) -> str:
    return "".join(" " * indent + line + "\n" for text in lines for line in text.splitlines())


def verilog_testbench(
    device_name: str,
    ports: Sequence[MemoryPort],
    depths: Mapping[str, int],
    first: int,
    count: int,
    limit: int,
    cycles: int | None = None,
) -> str:
    """The Verilog-2012 module tb_<device_name>. `depths` are the words of every memory, read or written."""
    reads = [port for port in ports if not port.lanes]
    writes = [port for port in ports if port.lanes]
    declare, load, sample, store, show, finish = [], [], [], [], [], []
    for port in ports:
        name, depth = port.name, depths[port.name]
        for signal, size in port.signals.items():
            kind = "reg " if signal == f"{name}_data" and not port.lanes else "wire"
            declare.append(f"{kind} [{size - 1}:0] {signal};")
        declare.append(f"reg  [{8 * port.bytes - 1}:0] {name}_memory [0:{depth - 1}];")
    for port in reads:
        name, depth = port.name, depths[port.name]
        declare += [f"reg  [{port.width - 1}:0] {name}_next;", f"reg  {name}_shown;"]
        load += [f'$readmemh("{name}.hex", {name}_memory);', f"{name}_data = 0;"]
        sample += [
            f"{name}_shown = {name}_en === 1'b1;",
            f"{name}_next = {name}_addr < {depth} ? {name}_memory[{name}_addr] : 0;",
        ]
        show.append(f"if ({name}_shown) {name}_data = {name}_next;")
    for port in writes:
        name, depth = port.name, depths[port.name]
        address = f"{name}_addr[{ADDRESS_BITS} * lane +: {ADDRESS_BITS}]"
        load.append(f"for (word = 0; word < {depth}; word = word + 1) {name}_memory[word] = 0;")
        store.append(
            f"for (lane = 0; lane < {port.lanes}; lane = lane + 1)\n"
            f"    if (!failed && {name}_valid[lane] === 1'b1) begin\n"
            f"        if ({address} >= {depth}) begin\n"
            f'            $display("BEYOND {name} %h %0d", {address}, cycle);\n'
            f"            failed = 1;\n"
            f"        end else {name}_memory[{address}] = {name}_data[{port.width} * lane +: {port.width}];\n"
            f"    end"
        )
        if cycles is None:
            finish.append(f'$writememh("{name}.out.hex", {name}_memory);')
        else:
            declare.append(f"reg  [{8 * port.bytes - 1}:0] {name}_expected [0:{depth - 1}];")
            load.append(f'$readmemh("{name}.expected.hex", {name}_expected);')
            finish.append(
                f"for (word = 0; word < {depth}; word = word + 1)\n"
                f"    if ({name}_memory[word] !== {name}_expected[word]) begin\n"
                f"        if (wrong < 10)\n"
                f'            $display("{name}[%0d] is %h, not %h", word,\n'
                f"                {name}_memory[word], {name}_expected[word]);\n"
                f"        wrong = wrong + 1;\n"
                f"    end"
            )
    if cycles is None:
        finish += ['$display("CYCLES %0d", cycle);', "$finish;"]
        failure = ["$finish;"]
    else:
        finish += [
            f"if (cycle != {cycles}) begin",
            f'    $display("done at cycle %0d, not {cycles}", cycle);',
            "    wrong = wrong + 1;",
            "end",
            "if (wrong == 0) begin",
            '    $display("PASS");',
            "    $finish;",
            """end else $fatal(1, "FAIL: %0d differences", wrong);""",
        ]
        failure = ['$fatal(1, "FAIL");']
    names = [
        "clk",
        "reset",
        "start",
        "first",
        "count",
        "busy",
        "done",
        *(s for port in ports for s in port.signals),
    ]
    return f"""// One run of {device_name}: four rising edges of reset, one of start, then until done.
`timescale 1ns/1ps
module tb_{device_name};

reg  clk, reset, start;
reg  [{COMMAND_BITS - 1}:0] first, count;
wire busy, done;
integer cycle, lane, word, wrong;
reg  failed, ended;
{_lines(0, declare)}
{device_name} dut (
{_lines(4, [f".{name}({name})," for name in names])[:-2]}
);

initial begin
    clk = 0;
    reset = 1;
    start = 0;
    first = {first};
    count = {count};
    cycle = 0;
    wrong = 0;
    failed = 0;
    ended = 0;
{_lines(4, load)}    #1;
    repeat ({RESET_EDGES}) begin
        clk = 1;
        #1;
        clk = 0;
        #1;
    end
    reset = 0;
    start = 1;
    #1;
    while (!ended && !failed) begin
        cycle = cycle + 1;
        // What the edge samples, then the edge itself, then what changes after it.
{_lines(8, sample + store)}        ended = !failed && cycle > 1 && done === 1'b1;
        if (!ended && !failed && cycle == {limit}) begin
            $display("LIMIT");
            failed = 1;
        end
        clk = 1;
        #1;
        clk = 0;
        start = 0;
{_lines(8, show)}        #1;
    end
    if (failed) begin
{_lines(8, failure)}    end else begin
{_lines(8, finish)}    end
end

endmodule
"""


def vhdl_testbench(
    device_name: str,
    ports: Sequence[MemoryPort],
    depths: Mapping[str, int],
    first: int,
    count: int,
    limit: int,
    cycles: int | None = None,
) -> str:
    """The VHDL-2008 entity tb_<device_name>. `depths` are the words of every memory, read or written."""
    reads = [port for port in ports if not port.lanes]
    writes = [port for port in ports if port.lanes]
    signals, declare, load, sample, store, show, finish = [], [], [], [], [], [], []
    maps = [f"{name} => {name}" for name in ("clk", "reset", "start", "first", "count", "busy", "done")]
    for port in ports:
        name, depth, bits = port.name, depths[port.name], 8 * port.bytes
        for signal, size in port.signals.items():
            signals.append(f"signal {signal}: unsigned({size - 1} downto 0) := (others => '0');")
            maps.append(f"{signal} => {signal}" + ("(0)" if signal == f"{name}_en" else ""))
        declare += [
            f"type {name}_words is array (0 to {depth - 1}) of unsigned({bits - 1} downto 0);",
            f"variable {name}_memory: {name}_words;",
        ]

    def lane_slice(size: int) -> str:
        return f"{size} * lane + {size - 1} downto {size} * lane"

    read_word = "readline(hex, text_line);\nhread(text_line, {target}(word));"
    for port in reads:
        name, depth = port.name, depths[port.name]
        declare += [
            f"variable {name}_next: unsigned({port.width - 1} downto 0);",
            f"variable {name}_shown: boolean;",
        ]
        load.append(_vhdl_load(f"{name}.hex", f"{name}_memory", depth, read_word))
        sample += [
            f"{name}_shown := {name}_en(0) = '1';",
            f"{name}_next := (others => '0');",
            f"if {name}_shown and {name}_addr < {depth} then",
            f"    {name}_next := {name}_memory(to_integer({name}_addr))({port.width - 1} downto 0);",
            "end if;",
        ]
        show += [f"if {name}_shown then", f"    {name}_data <= {name}_next;", "end if;"]
    for port in writes:
        name, depth, width, bits = port.name, depths[port.name], port.width, 8 * port.bytes
        load.append(f"for word in 0 to {depth - 1} loop\n    {name}_memory(word) := (others => '0');\nend loop;")
        declare.append(f"variable {name}_at: unsigned({ADDRESS_BITS - 1} downto 0);")
        store.append(
            f"for lane in 0 to {port.lanes - 1} loop\n"
            f"    if not failed and {name}_valid(lane) = '1' then\n"
            f"        {name}_at := {name}_addr({lane_slice(ADDRESS_BITS)});\n"
            f"        if {name}_at >= {depth} then\n"
            f'            print("BEYOND {name} " & to_hstring({name}_at) & " " & integer\'image(cycle));\n'
            f"            failed := true;\n"
            f"        else\n"
            f"            {name}_memory(to_integer({name}_at)) :=\n"
            f"                resize({name}_data({lane_slice(width)}), {bits});\n"
            f"        end if;\n"
            f"    end if;\n"
            f"end loop;"
        )
        if cycles is None:
            finish.append(
                f'file_open(hex, "{name}.out.hex", write_mode);\n'
                f"for word in 0 to {depth - 1} loop\n"
                f"    hwrite(text_line, {name}_memory(word));\n"
                f"    writeline(hex, text_line);\n"
                f"end loop;\n"
                f"file_close(hex);"
            )
        else:
            declare.append(f"variable {name}_expected: {name}_words;")
            load.append(_vhdl_load(f"{name}.expected.hex", f"{name}_expected", depth, read_word))
            finish.append(
                f"for word in 0 to {depth - 1} loop\n"
                f"    if {name}_memory(word) /= {name}_expected(word) then\n"
                f"        if wrong < 10 then\n"
                f'            print("{name}[" & integer\'image(word) & "] is " &\n'
                f"                to_hstring({name}_memory(word)) &\n"
                f'                ", not " & to_hstring({name}_expected(word)));\n'
                f"        end if;\n"
                f"        wrong := wrong + 1;\n"
                f"    end if;\n"
                f"end loop;"
            )
    if cycles is None:
        finish += ['print("CYCLES " & integer\'image(cycle));', "finish;"]
        failure = ["finish;"]
    else:
        finish += [
            f"if cycle /= {cycles} then",
            f'    print("done at cycle " & integer\'image(cycle) & ", not {cycles}");',
            "    wrong := wrong + 1;",
            "end if;",
            "if wrong = 0 then",
            '    print("PASS");',
            "    finish;",
            "else",
            '    print("FAIL: " & integer\'image(wrong) & " differences");',
            "    finish(1);",
            "end if;",
        ]
        failure = ['print("FAIL");', "finish(1);"]
    return f"""-- One run of {device_name}: four rising edges of reset, one of start, then until done.
library ieee;
use ieee.std_logic_1164.all;
use ieee.numeric_std.all;
use std.textio.all;
use std.env.all;

entity tb_{device_name} is
end entity;

architecture bench of tb_{device_name} is
    signal clk: std_logic := '0';
    signal reset: std_logic := '1';
    signal start: std_logic := '0';
    signal first: unsigned({COMMAND_BITS - 1} downto 0) := to_unsigned({first}, {COMMAND_BITS});
    signal count: unsigned({COMMAND_BITS - 1} downto 0) := to_unsigned({count}, {COMMAND_BITS});
    signal busy, done: std_logic;
{_lines(4, signals)}
    procedure print(message: string) is
        variable text_line: line;
    begin
        write(text_line, message);
        writeline(output, text_line);
    end procedure;
begin

    dut: entity work.{device_name} port map (
{_lines(8, [f"{text}," for text in maps])[:-2]}
    );

    process is
        file hex: text;
        variable text_line: line;
        variable cycle, wrong: natural := 0;
        variable failed, ended: boolean := false;
{_lines(8, declare)}    begin
{_lines(8, load)}        wait for 1 ns;
        for edge in 1 to {RESET_EDGES} loop
            clk <= '1';
            wait for 1 ns;
            clk <= '0';
            wait for 1 ns;
        end loop;
        reset <= '0';
        start <= '1';
        wait for 1 ns;
        while not ended and not failed loop
            cycle := cycle + 1;
            -- What the edge samples, then the edge itself, then what changes after it.
{_lines(12, sample + store)}            ended := not failed and cycle > 1 and done = '1';
            if not ended and not failed and cycle = {limit} then
                print("LIMIT");
                failed := true;
            end if;
            clk <= '1';
            wait for 1 ns;
            clk <= '0';
            start <= '0';
{_lines(12, show)}            wait for 1 ns;
        end loop;
        if failed then
{_lines(12, failure)}        else
{_lines(12, finish)}        end if;
        wait;
    end process;

end architecture;
"""


def _vhdl_load(file: str, target: str, depth: int, read_word: str) -> str:
    body = _lines(4, [read_word.format(target=target)])
    return f'file_open(hex, "{file}", read_mode);\nfor word in 0 to {depth - 1} loop\n{body}end loop;\nfile_close(hex);'
