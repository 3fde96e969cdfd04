"""The site: `sphinx-build -W docs site`. `pages.py` writes its gallery and its reference."""

from __future__ import annotations

import importlib
import inspect
import sys
import tomllib
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import pages

about = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
project = "jaxsched"
author = "The jaxsched authors"
copyright = author
version = release = about["version"]

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_parser",
]
exclude_patterns = ["rules/draw.py"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
default_role = "code"  # docstrings say `this` of names and of code
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True  # `warmup=linear`, without an address
autodoc_type_aliases = {name: name for name in ("ArrayLike", "Length", "List", "Axis", "Metrics")}
napoleon_use_rtype = False
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"jaxsched {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False


def setup(app: Any) -> None:
    """Write the generated pages before they are read, and connect what changes them."""
    app.connect("builder-inited", lambda app: pages.write(Path(app.srcdir)))
    app.connect("autodoc-process-docstring", docstring, priority=400)  # before napoleon
    app.connect("viewcode-follow-imported", home)
    app.connect("viewcode-find-source", source)


def docstring(app: Any, what: str, name: str, of: Any, options: Any, lines: Any) -> None:
    """An indented paragraph is a formula, shown as it stands; an example has its imports."""
    lines[:] = pages.pasteable(pages.literal(lines), of)


def made_of(x: Any) -> Any:
    """The class or the function in which the code of a public name is."""
    x = inspect.unwrap(x)
    free = inspect.getclosurevars(x).nonlocals if inspect.isfunction(x) else {}
    return free.get("cls", x)  # what `factory` makes has the code of a class


def home(app: Any, module: str, name: str) -> str | None:
    """The module in which a public name is written."""
    x: Any = importlib.import_module(module)
    for part in name.split("."):
        x = getattr(x, part, None)
    return getattr(made_of(x), "__module__", None)


def source(app: Any, module: str) -> Any:
    """The code of a module; a function that `factory` makes is at its class."""
    from sphinx.pycode import ModuleAnalyzer

    analyzer = ModuleAnalyzer.for_module(module)
    analyzer.find_tags()
    tags = dict(analyzer.tags)
    for name in pages.public():
        of = made_of(getattr(pages.js, name))
        if getattr(of, "__module__", "") == module and of.__name__ in tags:
            tags.setdefault(name, tags[of.__name__])
    return analyzer.code, tags
