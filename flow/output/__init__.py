"""The output folder, and what it holds.

typed.py     dataclasses as JSON, and JSON read back as dataclasses, checked
report/      report.json, report.html and its figures
manifest.py  manifest.json: the request, and the sha256 of every file; what differs from it
folder.py    the output folder: written beside its place, moved there when complete
handoff/     what a build hands to tools that know nothing of this package
build.py     A build: written to its folder, and read back by `bbs cosim`
schema.py    JSON Schemas of report.json and manifest.json
"""
