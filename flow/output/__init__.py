"""The output folder and its contents.

typed.py     dataclasses as JSON, and JSON read back as dataclasses, checked
report/      report.json, report.html and its figures
manifest.py  manifest.json: the request, and the sha256 of every file; how a folder differs from it
folder.py    the output folder: written beside its place, moved there when complete
handoff/     files of a build for other tools: simulators, FPGA tools, C compilers
build.py     a build: written to its folder, and read back by `bbs cosim`
schema.py    JSON Schemas of report.json and manifest.json
"""
