"""Design-space exploration.

space.py     the design space: array, weight buffer and pruning, and the designs that are always tried
evaluate.py  measures one design: answers, bits, cycles behind the bus, area and memory traffic
study.py     the Optuna study: its storage, and the search that continues it
explore.py   design-space exploration: the Pareto front of accuracy, cycles behind the bus, area and memory traffic
"""

from flow.exploration.explore import RESULT, explore
from flow.exploration.study import Found

__all__ = ["RESULT", "Found", "explore"]
