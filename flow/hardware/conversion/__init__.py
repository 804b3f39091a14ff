"""MyHDL designs to Verilog and VHDL with their module hierarchy.

keywords.py     words that Verilog or VHDL keep for themselves
bundles.py      bundles: frozen dataclasses of Signals that blocks take as one parameter
offsets.py      offsets of part selects in a loop as constants
expressions.py  expressions of Verilog: read, written, their widths and signs
widths.py       expressions whose operands all have the width of their context
explicit.py     modules of Verilog with explicit widths, and a wire that reads what nothing else reads
hierarchy.py    a `block` decorator and an `export` that keep the module hierarchy when MyHDL designs are converted
"""
