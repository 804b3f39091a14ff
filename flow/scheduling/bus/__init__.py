"""The cycles of a run behind AXI: a model of the accelerator's controllers and of its bus, from the memory images.

jobs.py     what a run's descriptors ask of memories, of the array and of the feature maps
parts.py    long runs by a part of them: of jobs that are alike, and of a job's tiles, some stand for all
streams.py  the ring of an operand stream: what it asks its memory for, what it holds for its reader
bursts.py   a memory with a latency, and the read and write ports that ask it for bursts
units.py    the controllers of array, results and feature maps: what each does in a cycle
model.py    a run, cycle after cycle: its cycles, beats and bursts
"""
