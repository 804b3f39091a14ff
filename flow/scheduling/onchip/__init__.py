"""Whole networks on chip: from the input's codes to the last layer's sums by one start.

post.py     post-processing: residual additions, pooling, copies, as the hardware computes them, bit by bit
maps.py     tensors as feature maps: shapes, names, and why a node has no place on chip
nodes.py    the nodes between two layers as post-processing operations
chain.py    A network as one chain of layers and post-processing on chip, or the reason why it is none
place.py    where each map lies in the memory of the feature maps
unroll.py   layers as the array takes them from the maps, in whole octets of channels
walks.py    addresses of walks over maps: the windows of a tile, and planes in order
program.py  descriptors and memories of a whole network on chip
layout.py   where a network's inputs lie in the activation memory, and every step's results in the output memory
"""
