"""What is kept of nextpnr's log; a build without a system is refused."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench import soc
from bench.soc import LAMPS, SYSTEM, constraints, memory_bytes, summary
from flow.errors import FlowError

SAID = """Info: Device utilisation:
Info: 	          TRELLIS_IO:       9/    365     2%
Info: 	              ALU54B:       0/     78     0%
Info: 	        TRELLIS_COMB:   18630/  83640    22%

Info: Placed 9 cells based on constraints.
Info: Max frequency for clock '$glbnet$clk$TRELLIS_IO_IN': 36.63 MHz (PASS at 25.00 MHz)
Info: Max frequency for clock '$glbnet$clk$TRELLIS_IO_IN': 33.33 MHz (PASS at 25.00 MHz)
"""


def test_what_is_kept_of_the_log() -> None:
    assert summary(SAID).splitlines() == [
        "TRELLIS_IO:       9/    365     2%", "TRELLIS_COMB:   18630/  83640    22%",
        "clock: 33.33 MHz, where the board has 25.00 MHz",
    ]  # fmt: skip


def test_every_port_has_a_pin() -> None:
    ports = SYSTEM.read_text().split("module soc (")[1].split(")")[0]
    assert ports == "input wire clk, output reg [7:0] lamps" and len(set(LAMPS)) == 8
    assert constraints().count("LOCATE") == 9 and 'FREQUENCY PORT "clk" 25 MHZ;' in constraints()


def test_a_build_without_a_system_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="has no soc/example; compile the network with --soc"):
        memory_bytes(tmp_path, "top_axi")
    (tmp_path / "soc" / "example").mkdir(parents=True)
    (tmp_path / "soc" / "example" / "top_axi_soc.v").write_text("localparam integer RAM_BYTES = 262144;\n")
    assert memory_bytes(tmp_path, "top_axi") == 262144


def test_an_interruption_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM as Ctrl-C; where the log cannot be written, no work begins."""

    def ended(folder: Path, route: bool) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        return "placed"

    monkeypatch.setattr(soc, "placed", ended)
    before = signal.getsignal(signal.SIGTERM)
    try:
        done = CliRunner().invoke(soc.main, [str(tmp_path), "--log", str(tmp_path / "log")])
        nowhere = CliRunner().invoke(soc.main, [str(tmp_path), "--log", str(tmp_path / "none" / "log")])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (done.exit_code, done.output) == (1, "Error: interrupted; nothing was written\n")
    assert nowhere.exit_code == 1 and "cannot be written: No such file or directory" in nowhere.output
    assert not any(tmp_path.iterdir())
