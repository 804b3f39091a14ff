"""Whole networks on chip: from the input's codes to the last layer's sums by one start.

post.py      what stands between the layers, in the integers the hardware computes
chain.py     a network as layers and such operations, or why it is none
place.py     where each map lies
unroll.py    layers as the array takes them from the maps
program.py   descriptors and memories
layout.py    where inputs go, and results lie
run.py       the run, and the judgement on it
"""
