"""Files of a build for other tools: simulators, FPGA tools, C compilers.

formats.py      a memory image in the formats that simulators, FPGA tools and firmware read
whole.py        common to all files of the hand-over: names, words of memories, templates
description.py  one description of a build: accelerator, memories, layers, network
memories.py     memory/, vectors/ and network/: memory images that tools load, and expected outputs
testbenches.py  testbench/: one self-checking bench in SystemVerilog, VHDL and cocotb, and a Makefile
firmware.py     firmware/bbs.h and NAME.h: C headers with which a driver loads, starts and reads the accelerator
registers.py    firmware/axi/: registers and memory map of the accelerator behind AXI, and images as they lie there
soc.py          soc/: the accelerator behind AXI for FuseSoC, SystemRDL, IP-XACT, Vivado, Quartus, LiteX, Linux, PYNQ
example.py      soc/example/: a system around the accelerator that runs the network in simulation, with its program
write.py        writes all files of a build for other tools
"""
