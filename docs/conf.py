"""Sphinx: Markdown pages, and the command reference made from the commands themselves."""

project = "bbs-flow"
extensions = ["myst_parser", "sphinx_click"]
html_theme = "furo"
html_title = "bbs-flow"
html_show_copyright = False
html_show_sphinx = False
myst_heading_anchors = 3  # headings can be linked to, as on GitHub
