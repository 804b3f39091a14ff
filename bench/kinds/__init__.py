"""Networks of every kind that people have, whole on chip: `python -m bench.kinds`.

drawing.py   a float network, node by node, with drawn weights
networks.py  the networks: small ones, with the nodes of their kind
measured.py  one network on chip: what leaves it, the verdict by the RTL, cycles at two sizes
thin.py      first layers of few channels, grouped and depthwise layers: `python -m bench.kinds.thin`
"""
