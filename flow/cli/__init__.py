"""The command `bbs`.

tables.py    what the commands print: tables of layers and nodes, the verdict, the Pareto front
stages.py    progress on stderr: a bar for each stage in a terminal, a line a minute elsewhere
options.py   the options that commands share
commands.py  the command `bbs`: arguments in, tables and progress out, exit status 0 (pass), 1 (fail) or 2 (refused)
"""

from flow.cli.commands import bbs, main

__all__ = ["bbs", "main"]
