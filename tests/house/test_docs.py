"""The site is whole: nothing public is left out, and what a page says to type can be typed."""

import ast
import builtins
import doctest
import importlib.util
import inspect
import re
import shlex
import subprocess
import sys

import jax
import pytest
from scripts import ROOT

import jaxsched
from jaxsched._text import _names
from jaxsched.cli import _options, main

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "generated" not in page.parts]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SHOWN = {"plot", "compare", "describe", "list"}  # what a command does in a moment

spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pages)


def blocks(kind):
    for page in PAGES:
        for found, text in BLOCK.findall(page.read_text()):
            if found == kind:
                yield page, text


def commands():
    """Every line that a page says to type, without its remark."""
    for page, text in blocks("bash"):
        for line in text.replace("\\\n", " ").splitlines():
            for part in line.split("&&"):
                if words := shlex.split(part, comments=True):
                    yield pytest.param(words, id=f"{page.stem}: {' '.join(words)[:60]}")


def test_everything_public_is_in_the_reference_once():
    names = {name: getattr(jaxsched, name) for name in dir(jaxsched)}
    public = {name for name, x in names.items() if callable(x)}
    listed = [name for names in pages.REFERENCE.values() for name in names.split()]
    assert sorted(listed) == sorted(public)
    assert [*listed, "compat", "states"] == jaxsched.__all__ and dir(jaxsched) == sorted(
        jaxsched.__all__
    )
    assert sorted(pages.STATES.split()) == sorted(jaxsched.states.__all__)


def test_every_schedule_and_method_is_in_the_gallery():
    texts = [text for part in pages.GALLERY.values() for text in pages.listed(part)]
    texts += pages.listed(pages.REACTING)
    words = set(re.findall(r"\w+", "\n".join(texts)))
    with_a_page = {page.stem for page in (ROOT / "docs" / "rules").glob("*.md")}
    ours = {name for name in _names.factories() if hasattr(jaxsched, name)}
    known = {*ours, *_names.methods()}
    assert known - words <= with_a_page
    for text in texts:
        jaxsched.parse(text)


def test_formulas_of_a_docstring_become_code():
    lines = ["One.", "", "    a = b**2", "    c", "", "Two:", "", "Args:", "    x: y", "", "    z"]
    told = ["One.", "", "::", "", "    a = b**2", "    c", "", "Two:", "", "Args:", "    x: y"]
    assert pages.literal(lines)[: len(told)] == told


def documented():
    """Every object that the reference documents, and the methods of its classes."""
    for page in pages.sheets():
        for module, name in page.names:
            x = getattr(importlib.import_module(module), name)
            yield x
            if inspect.isclass(x):
                own = {key: inspect.unwrap(each) for key, each in vars(x).items() if key[0] != "_"}
                yield from filter(inspect.isfunction, own.values())


def test_every_name_has_a_page_and_a_line_in_the_index():
    names = [each for page in pages.sheets() for each in page.names]
    assert len(set(names)) == len(names)
    assert {name for module, name in names if module == "jaxsched"} == set(pages.public())
    stems = [page.stem for page in pages.sheets()]
    assert len({stem.lower() for stem in stems}) == len(stems)
    index = "\n".join(pages.reference())
    for page in pages.sheets():
        assert f"](reference/{page.stem}.md): " in index
        assert f"\nreference/{page.stem}\n" in index
    assert not re.findall(r"^- \S+: \W*$", index, re.MULTILINE)


def test_an_example_of_the_reference_imports_what_it_uses():
    seen = 0
    for x in documented():
        lines = pages.pasteable((inspect.getdoc(x) or "").splitlines(), x)
        found = doctest.DocTestParser().get_examples("\n".join(lines))
        tree = ast.parse("".join(each.source for each in found))
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        bound = {node.id for node in names if not isinstance(node.ctx, ast.Load)} | set(
            dir(builtins)
        )
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                bound |= {(each.asname or each.name).partition(".")[0] for each in node.names}
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                bound.add(node.name)
            elif isinstance(node, ast.arg):
                bound.add(node.arg)
        assert {node.id for node in names} <= bound, x
        seen += bool(found)
    assert seen > 150


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built as a reader of the README builds it."""
    pytest.importorskip("sphinx")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out


def test_a_page_of_the_reference_says_what_it_should(site):
    for page in pages.sheets():
        text = (site / "generated" / "reference" / f"{page.stem}.html").read_text()
        for module, name in page.names:
            assert f'id="{module}.{name}"' in text
        assert "See also" in text
        if page.group != pages.MODULES:
            assert text.count('class="viewcode-link"') >= len(page.names), page.title
        assert " at 0x" not in text
    cosine = (site / "generated" / "reference" / "cosine.html").read_text()
    assert "<svg" in cosine and 'href="../../which_schedule.html"' in cosine


def plain(page):
    """The blocks of Python on a page that have no prompts."""
    found = [text for kind, text in BLOCK.findall(page.read_text()) if kind == "python"]
    return [text for text in found if not text.lstrip().startswith(">>>")]


def in_an_example(text):
    scripts = [flat(script.read_text()) for script in (ROOT / "examples").glob("*.py")]
    return all(any(flat(line) in script for script in scripts) for line in text.splitlines())


@pytest.mark.parametrize(
    "page", [page for page in PAGES if plain(page)], ids=lambda page: page.stem
)
def test_a_page_runs_as_it_is_copied(page, tmp_path, monkeypatch):
    """A reader copies its blocks into an empty file, or they are lines of an example."""
    blocks = plain(page)
    if not all(map(in_an_example, blocks)):
        monkeypatch.chdir(tmp_path)
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            exec(compile("\n".join(blocks), page.name, "exec"), {})


def flat(text):
    return re.sub(r"\s+", "", text)


@pytest.mark.parametrize("words", [*commands()])
def test_what_a_page_says_to_type_can_be_typed(words, capsys, tmp_path, monkeypatch):
    words = words[words.index("jaxsched") :] if "jaxsched" in words[:6] else words
    if words[0] == "jaxsched":
        if words[1] in SHOWN:
            monkeypatch.chdir(tmp_path)
            with jax.numpy_dtype_promotion("standard"):
                assert main(words[1:]) == 0
            assert capsys.readouterr().out
        elif "--help" not in words:
            _options(words[1:])
    elif words[0] == "python" and words[1] != "-m":
        assert (ROOT / words[1]).exists()
    else:
        known = {"pip": "install", "python": "-m", "uv": "run", "bash": ".ci/run"}
        assert words[1] == known[words[0]]


def test_the_table_of_the_guide_is_what_the_command_prints(capsys):
    page = (ROOT / "docs" / "plotting.md").read_text()
    (line,) = re.findall(r"^jaxsched compare .*$", page, re.MULTILINE)
    (table,) = [text for kind, text in BLOCK.findall(page) if kind == "text"]
    assert main(shlex.split(line)[1:]) == 0
    assert capsys.readouterr().out.endswith(table)
