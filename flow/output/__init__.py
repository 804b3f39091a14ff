"""The output folder, and what it holds.

manifest.py  manifest.json: the request, and the sha256 of every file; what differs from it
folder.py    the output folder: written beside its place, moved there when complete
handoff/     what a build hands to tools that know nothing of this package
report/      report.json, report.html and its figures
build.py     A build: written to its folder, and read back by `bbs cosim`
"""
