"""Samples through the RTL.

engines/    simulation engines: one interface, four ways to run the device, the same bits and the same cycle count
workers/    where simulations run: processes on this machine, or the workers of a Dask cluster
results.py  results of co-simulation: runs of layers and samples, mismatches, tensors from output words
cosim.py    co-simulation: whole samples through the RTL, layer by layer, each result compared with the reference
onchip.py   co-simulation of a whole network on chip, by one start of the accelerator for each segment
axi.py      a layer, and the whole network on chip, through the accelerator behind AXI
"""
