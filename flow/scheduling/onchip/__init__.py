"""Whole networks on chip: from the input's codes to the last layer's sums by one start, or in segments.

gains.py    a factor and a summand for each channel, in the numbers of post-processing
norms.py    Softmax and LayerNormalization over the channels of a position, in the integers of the hardware
runs.py     pixels in any order as runs, which walks take
lines.py    linear interpolation along an axis: lines between two neighbours
post.py     post-processing: residual additions, pooling, copies, tables, as the hardware computes them, bit by bit
heads.py    where the matrices of a matrix product lie in the maps, head by head
maps.py     tensors as feature maps: shapes, layouts, and the exception for nodes that do not run on chip
planes.py   convolutions of three spatial axes, whose planes become channels
tables.py   element-wise functions of one 8-bit tensor as tables, made by ONNX Runtime
drafts.py   what is known of a host segment's tensors while it is read, node by node
moves.py    nodes that only move elements, as copies of channels and pixels
arrange.py  tensors where their readers want them: channels first or last, copied, or turned
normed.py   nodes that normalize the channels of every position
constants.py constants as operands of post-processing: their codes, in the order of a map
finished.py what DequantizeLinear and QuantizeLinear make: drafts, and the operations that write maps
operands.py operands of nodes as maps, in the layout that the nodes want
pooling.py  nodes that pool windows, or all pixels
resizing.py nodes that interpolate pixels linearly
products.py matrix products of two maps
elementwise.py sums and products of two maps, of a map and a constant, and functions of one map
choices.py  the largest or smallest of maps, and a map where a mask says so
shaping.py  nodes that shape, move or join tensors
nodes.py    the nodes between two layers as post-processing operations
units.py    the units of a network that run on chip or not: layers, and the host's nodes, parted at 8-bit tensors
chain.py    a network as chains of layers and post-processing on chip, in segments, and what the host does between them
place.py    the address of each map in the memory of the feature maps
unroll.py   layers as the array reads them from the maps: whole octets of channels, unrolled pixels
walks.py    addresses of walks over maps: the windows of a tile, and planes in order
sweeps.py   post-processing as sweeps over maps, one descriptor each
matrices.py matrix products of two maps as channel blocks, two descriptors each
program.py  descriptors and memories of a whole network on chip
timing.py   the time of a whole network on chip as a function of N of its channels: what a budget limits
located.py  where every node of a network runs with feature maps on chip, and what it costs there
layout.py   layout of a network's inputs in the activation memory, and of every step's results in the output memory
"""
