"""What stands around the elements: streams, controllers, the array, write-back.

bundles.py      what the controllers, streams and the array say to each other
wires.py        small wiring: fresh bits, signals joined into a bus, a delay of one cycle
ram.py          simple dual-port memory: one write port, one registered read port
stream.py       address generation and double buffering of one operand stream: memory port in, ring buffer, reader out
slices.py       bit columns in slices: cycles of a step, and what each slice counts
guard.py        checks descriptors: a run that could not end right ends with an error code
dispatcher.py   controller that walks the descriptors: hands each block's job to every unit that has become free
sequencer.py    compute controller: issues one bit column a cycle, tile after tile, as the streams have its operands
array.py        what the arrays (paper fig. 9: rows are windows, columns output channels) have in common
bitvert_array.py  the array of BitVert elements
dense_array.py  the array of dense elements
parallel_array.py  the array of bit-parallel elements
pairs_array.py     the array of pairs elements
requantizer.py  requantizer: y = clamp(rne((acc + b') * M * 2^-S) + z), one output byte a cycle
drain.py        drain controller: takes finished tiles from the array, row by row
write_back.py   write-back: requantizes drained sums and restores the channel order by the index table
"""
