"""MyHDL designs to Verilog and VHDL with their module hierarchy.

keywords.py   words that Verilog or VHDL keep for themselves
hierarchy.py  A `block` decorator and an `export` that keep the module hierarchy when MyHDL designs are converted
"""
