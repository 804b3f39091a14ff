"""The command `bbs`.

tables.py    output of the commands: tables of layers and nodes, the verdict, the Pareto front
options.py   options of the command: those of the requests, and those that only a terminal needs
stages.py    progress on stderr: a bar for each stage in a terminal, a line a minute elsewhere
doctor.py    what is installed here, in which version, and what that allows
commands.py  the command `bbs`: arguments in, tables and progress out, exit status 0 (pass), 1 (fail) or 2 (refused)
"""

from flow.cli.commands import bbs, main

__all__ = ["bbs", "main"]
