"""The verbs: what a user calls, from Python or by the command `bbs`.

options.py   options: each is defined once, with its name, type, default, check and help
requests.py  one request for each verb, of options that several of them share
source.py    the user's network: from a file, or in memory
speed.py     the time of a network on an array, with ideal memories and behind a bus
yardstick.py what other prunings of a network are worth, on the evaluation samples
inputs.py    the user's inputs, and the defaults of those left out: network, samples, pruning
front.py     other budgets beside the one chosen: the front of accuracy against bits and cycles
simulate.py  simulation for `compile` and `cosim`: how much of it, the workers, and the runs through the RTL
compile.py   `compile`: the whole pipeline on one screen, from the network to RTL, vectors, verdict and report
compress.py  `compress`: the pruned INT8 network alone, and the sweep over bit budgets behind its plot
cosim.py     `cosim`: an earlier build simulated again, from its own files
inspect.py   `inspect`: where every node of a network would run, and why
verify.py    `verify`: whether the files of an earlier build are unchanged
"""

from flow.api.compile import compile
from flow.api.compress import compress
from flow.api.cosim import cosim
from flow.api.inspect import inspect
from flow.api.verify import verify

__all__ = ["compile", "compress", "cosim", "inspect", "verify"]
