"""The accelerator in MyHDL, and its export to Verilog and VHDL.

conversion/     MyHDL designs to Verilog and VHDL with their module hierarchy
fields.py       the layout of descriptors, parameters and map entries, least significant field first
interface.py    the accelerator as others see it: memories, memory ports, and the device with its files
element.py      processing elements by name: what of each the rest of the flow needs, and how others are added
config.py       the parameters of one accelerator instance, and its memory ports
elements/       processing elements: what multiplies and adds
core/           what stands around the elements: streams, controllers, the array, write-back
maps/           feature maps on chip: their memory, windows out of it, results into it, post-processing
accelerator.py  the accelerator's top: streams, array, write-back and their controllers behind one host port
axi/            the accelerator as a part of a SoC: AXI4-Lite registers, and one AXI4 master for all its memories
emit.py         emits an accelerator as Verilog and VHDL, and describes it to the simulation engines
competitors/    processing elements of other bit-serial accelerators, and variants of BitVert's, to compare with ours
faults.py       faults for the Verilog, to show that they are caught and found
synthesis.py    synthesis estimates with open tools: cell area of a standard-cell library, FPGA cells, clock rate
blocks.py       what a whole accelerator takes, block by block, and the FPGAs that have as much
"""
