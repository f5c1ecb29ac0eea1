"""How Sphinx builds these pages: `nox -s docs`."""

from __future__ import annotations

from importlib.metadata import version as version_of

project = "stario_trio"
author = "The stario_trio authors"
copyright = "The stario_trio authors"
release = version_of("stario-trio")
version = release

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"stario_trio {release}"
