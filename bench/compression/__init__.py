"""Weight compression at equal average bits: BBS beside other post-training methods, on real networks.

baselines.py     methods that are quickly written down
peers/           other packages, each in an environment of its own
comparison.py    one network, compressed by all of them
__main__.py      python -m bench.compression
"""
