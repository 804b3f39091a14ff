"""Where simulations run: processes on this machine, or the workers of a Dask cluster.

job.py      one simulation job: a design's sources and the arguments of a run, in any process
local.py    processes on this machine
cluster.py  the workers of a Dask cluster
kept.py     results that are kept, so that a run that was stopped goes on
open.py     where simulations run: processes on this machine, or the workers of a Dask cluster. Results are the same
"""
