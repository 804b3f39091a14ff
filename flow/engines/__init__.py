"""Simulation engines: one interface, four ways to run the device, the same bits and the same cycle count.

base.py       device, memories, the contract of one run
verilator.py  the Verilog compiled by Verilator: whole networks (harness.cpp is its loop)
native.py     MyHDL's own simulator: always there, for small layers
testbench.py  self-checking Verilog and VHDL testbenches, also shipped with the generated design
icarus.py     the Verilog under Icarus Verilog
ghdl.py       the VHDL under GHDL
"""

from flow.engines.base import Device, Engine, Memory, MemoryPort, Result, Simulator

__all__ = ["Device", "Engine", "Memory", "MemoryPort", "Result", "Simulator"]
