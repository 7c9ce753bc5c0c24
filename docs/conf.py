"""How Sphinx makes the site of these pages: `python -m sphinx -W -n docs site`. The same files read well alone."""

# ruff: noqa: INP001, A001 - Sphinx reads names of its own from a script beside the pages

from __future__ import annotations

project = "chronos"
copyright = "the authors of chronos"
extensions = ["myst_parser"]
exclude_patterns = ["man", "schemas", "openapi"]
html_theme = "furo"
html_title = "chronos"
html_copy_source = False
html_show_sphinx = False
myst_heading_anchors = 4
"""Headings are linked to by the names that a forge gives them."""
