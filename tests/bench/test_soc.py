"""What is kept of nextpnr's log; a build without a system is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

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
