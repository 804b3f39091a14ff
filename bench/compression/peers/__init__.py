"""Other packages that quantize weights, each in an environment of its own.

    call.py                                  has a worker round a network's weights, and keeps the result
    work.py                                  what all workers share
    aimet.py brevitas.py nncf.py ort.py      a worker for each package

Only call.py imports flow; workers run where it is not installed.
"""
