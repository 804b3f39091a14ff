"""What a build hands to tools that know nothing of this package.

formats.py      A memory image in the formats that simulators, FPGA tools and firmware read
whole.py        what the files of the hand-over have in common: names, words of memories, templates
memories.py     memory/, vectors/ and network/: images that tools load, and outputs to expect
testbenches.py  testbench/: one self-checking bench in SystemVerilog, VHDL and cocotb, and a Makefile
firmware.py     firmware/NAME.h: what a driver in C needs to load, start and read the accelerator
registers.py    firmware/axi/: registers and memory map of the accelerator behind AXI, for C and as Markdown
write.py        all that a build hands to tools that know nothing of this package
"""
