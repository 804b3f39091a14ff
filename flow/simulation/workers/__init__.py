"""Where simulations run: processes on this machine, or the workers of a Dask cluster.

job.py      one simulation job, which any process can run: a design's sources and the arguments of a run
local.py    processes on this machine
cluster.py  the workers of a Dask cluster
kept.py     stored simulation results, from which an interrupted run continues
open.py     where simulations run: processes on this machine, or the workers of a Dask cluster. Results are the same
"""
