"""Samples through the RTL.

engines/    simulation engines: one interface, four ways to run the device, the same bits and the same cycle count
workers/    where simulations run: processes on this machine, or the workers of a Dask cluster
results.py  what a co-simulation gives: runs of layers and samples, mismatches, tensors from output words
cosim.py    co-simulation: whole samples through the RTL, layer by layer, each result compared with the reference
onchip.py   A whole network through the RTL by one start
"""
