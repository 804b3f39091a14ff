"""The accelerator as a part of a SoC: AXI4-Lite registers, and one AXI4 master for all its memories.

bus.py       parameters, register map, where words lie in memory
channels.py  the channels, and how the parts see registers, runs and bursts
lite.py      AXI4-Lite slave
control.py   registers, start and done, interrupt, counters
read.py      one read port: requests in a row become bursts, beats become words
ahead.py     a run's descriptors, before the accelerator asks for them
requests.py  one read address channel for all read ports
write.py     the write port: words to bursts
top.py       all of it around the accelerator
"""
