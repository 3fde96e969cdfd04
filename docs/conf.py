"""The site: `sphinx-build -W docs site`. `pages.py` writes its gallery and its reference."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import pages

project = "jaxsched"
author = "The jaxsched authors"
copyright = author

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
exclude_patterns = ["rules/draw.py"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
default_role = "code"  # docstrings say `this` of names and of code
autodoc_typehints = "none"  # they are in words, with units and shapes
napoleon_use_rtype = False
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = "jaxsched"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False


def setup(app: Any) -> None:
    """Write the generated pages before they are read; formulas in docstrings are code."""
    app.connect("builder-inited", lambda app: pages.write(Path(app.srcdir)))
    app.connect("autodoc-process-docstring", formulas_as_code, priority=400)  # before napoleon


def formulas_as_code(app: Any, what: str, name: str, of: Any, options: Any, lines: Any) -> None:
    """An indented paragraph is a formula: to be shown as it stands."""
    lines[:] = pages.literal(lines)
