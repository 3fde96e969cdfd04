"""The site: `sphinx-build -W docs site`. `pages.py` writes its gallery and its reference."""

from __future__ import annotations

import html
import importlib
import inspect
import re
import sys
import tomllib
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import inventories
import jax
import pages

jax.Array.__qualname__ = "Array"  # pages show this name, and not that of a private module
about = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
project = "jaxsched"
author = "The jaxsched authors"
copyright = author
version = release = about["version"]

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_parser",
    "sphinx_copybutton",
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
intersphinx_mapping = inventories.write(Path(__file__).parent / "generated" / "inventories")
intersphinx_timeout = 5
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"jaxsched {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = [("copy_text.js", {"defer": "defer"})]
html_favicon = "_static/favicon.svg"
html_show_sphinx = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def setup(app: Any) -> None:
    """Write the generated pages before they are read, and connect what changes them."""
    app.connect("builder-inited", lambda app: pages.write(Path(app.srcdir)))
    app.connect("autodoc-process-docstring", docstring, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", signature)
    app.connect("doctree-read", link_names)
    app.connect("html-page-context", describe_page)
    app.connect("viewcode-follow-imported", home)
    app.connect("viewcode-find-source", source)


def docstring(app: Any, what: str, name: str, of: Any, options: Any, lines: Any) -> None:
    """An indented paragraph is a formula, an example has its imports, a result is one sentence."""
    lines[:] = pages.returned(pages.pasteable(pages.literal(lines), of))


ARRAY_LIKE = re.compile(r"[~\w.]*\bArray \| [~\w.]*ndarray \| [~\w. |]*\bcomplex\b")


def signature(app: Any, what: str, name: str, of: Any, options: Any, told: Any, back: Any) -> Any:
    """Types as the code has them: `ArrayLike`, not all that it stands for."""
    return tuple(
        text and ARRAY_LIKE.sub("ArrayLike", re.sub(r"TypeAliasForwardRef\('(\w+)'\)", r"\1", text))
        for text in (told, back)
    )


def link_names(app: Any, doctree: Any) -> None:
    """Code in the text that mentions public names links to their pages."""
    from docutils import nodes
    from sphinx import addnodes

    for literal in [*doctree.findall(nodes.literal)]:
        above = [*ancestors(literal)]
        linked = nodes.title, nodes.reference, addnodes.pending_xref, addnodes.download_reference
        if any(isinstance(node, linked) for node in above) or len(literal.children) != 1:
            continue
        known = {name for node in above if isinstance(node, addnodes.desc) for name in own(node)}
        text, parts, at = literal.astext(), [], 0
        for start, end, target in sorted([*pages.links(text), *inventories.links(text)]):
            if target in known or text[start:end] in known:
                continue
            inside = nodes.inline("", text[start:end])
            ours = target.startswith("jaxsched.")  # other sites may drop a page
            at_ = {"refdomain": "py", "reftype": "obj", "reftarget": target, "refwarn": ours}
            parts += [nodes.Text(text[at:start]), addnodes.pending_xref("", inside, **at_)]
            parts[-1]["refdoc"] = app.env.docname
            at = end
        if parts:
            literal.children = []
            literal += [part for part in [*parts, nodes.Text(text[at:])] if part.astext()]


def ancestors(node: Any) -> Any:
    """The nodes around a node."""
    while node.parent is not None:
        node = node.parent
        yield node


def own(described: Any) -> Any:
    """What a name is within its own description: the name itself and its arguments."""
    from sphinx import addnodes

    for signature in described.findall(addnodes.desc_signature):
        yield f"{signature['module']}.{signature['fullname']}"
        for argument in signature.findall(addnodes.desc_parameter):
            yield from (name.astext() for name in argument.findall(addnodes.desc_sig_name))


def describe_page(app: Any, name: str, template: str, context: Any, doctree: Any) -> None:
    """What search engines and previews of links show: a title, and the first words of a page."""
    from docutils import nodes

    paragraphs = [*doctree.findall(nodes.paragraph)] if doctree else []
    words = next((node.astext() for node in paragraphs if node.astext()), "").split()
    text = about["description"] if name == "index" or not words else " ".join(words)
    text = text if len(text) <= 200 else f"{text[:200].rpartition(' ')[0]} ..."
    title = re.sub("<.*?>", "", context.get("title", "")) or project
    title = project if name == "index" else f"{html.unescape(title)} - {project}"
    tags = {
        'name="description"': text,
        'property="og:title"': title,
        'property="og:description"': text,
        'property="og:site_name"': project,
        'property="og:type"': "website",
    }
    lines = [f'<meta {key} content="{html.escape(value)}">' for key, value in tags.items()]
    context["metatags"] = "\n".join([context.get("metatags", ""), *lines])


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
