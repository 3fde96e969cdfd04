"""The site is whole: nothing public is left out, and what a page says to type can be typed."""

import ast
import builtins
import doctest
import html
import importlib.util
import inspect
import pkgutil
import re
import shlex
import shutil
import subprocess
import sys
from importlib import metadata
from urllib import parse

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


def loaded(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


pages, sheets, inventories = map(loaded, ("pages", "sheets", "inventories"))


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


def test_a_result_of_a_docstring_is_one_field():
    lines = ["One.", "", "Returns:", "  A dict by name: floats.", "  New.", "", "Raises:", "  E: x"]
    told = ["One.", "", ":returns: A dict by name: floats.", "  New.", "", "Raises:", "  E: x"]
    assert pages.returned(lines) == told


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
        # The names are those that the doctest of the library uses: first the public ones.
        own, imported = vars(inspect.getmodule(inspect.unwrap(x))), dict[str, object]()
        exec("\n".join(line.strip()[4:] for line in lines if ">>> from jaxsched" in line), imported)
        for name in imported.keys() & {node.id for node in names}:
            same = getattr(jaxsched, name) if name in dir(jaxsched) else own[name]
            assert inspect.unwrap(imported[name]) is inspect.unwrap(same), (x, name)
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
        if page.stem.startswith("compat_"):
            module = importlib.import_module(page.names[0][0])
            words = inspect.getdoc(module).replace("`", "").split()
            shown = html.unescape(re.sub("<[^>]*>", "", text)).replace("\u2019", "'").split()
            assert " ".join(words[-3:]) in " ".join(shown)  # the whole introduction is there
        if page.group != pages.MODULES:
            assert text.count('class="viewcode-link"') >= len(page.names), page.title
        assert " at 0x" not in text and "ForwardRef" not in text
    cosine = (site / "generated" / "reference" / "cosine.html").read_text()
    assert "<svg" in cosine and 'href="../../which_schedule.html"' in cosine


@pytest.mark.parametrize(
    ("text", "linked"),
    [
        ("cosine", ["cosine"]),
        ("jaxsched.cosine", ["jaxsched.cosine"]),
        ("constant(0.1) * reduce_on_plateau(patience=5)", ["constant", "reduce_on_plateau"]),
        ("cosine(0.1, 0.0, 10).cycle(mult=2)", ["cosine", "cycle"]),
        ("constant(0.1).take(9) >> linear(0.1, 0.0, 9)", ["constant", "take", "linear"]),
        ("compat.torch.StepLR(0.1, 30)", ["compat.torch.StepLR"]),
        ("step(opt_state)", ["step"]),
        ("step", []),
        ("step(state, batch, value)", []),
        ("optax.cosine_decay_schedule(0.1, 10)", []),
        ("x.clip(0, 1)", []),
        ("'cosine'", []),
    ],
)
def test_code_that_mentions_public_names_links_to_them(text, linked):
    assert [text[start:end] for start, end, _ in pages.links(text)] == linked


@pytest.mark.parametrize(
    ("text", "linked"),
    [
        ("optax.chain(optax.scale_by_adam(), x)", {"optax.chain", "optax.scale_by_adam"}),
        ("optax.sgdr_schedule", {"optax.schedules.sgdr_schedule"}),
        ("nnx.Optimizer", {"flax.nnx.optimizer.Optimizer"}),
        ("lax.scan", {"jax.lax.scan"}),
        ("TrainState", {"flax.training.train_state.TrainState"}),
        ("TrainState.apply_gradients", set()),
        ("compat.optax.adam", set()),
        ("optax.unknown", set()),
    ],
)
def test_code_that_mentions_names_of_other_libraries_links_to_them(text, linked):
    assert {target for *_, target in inventories.links(text)} == linked


def test_names_of_other_libraries_exist():
    for library in inventories.SITES:
        for name, _ in inventories.documented(library):
            assert pkgutil.resolve_name(name), name


def test_names_in_guides_and_docstrings_are_links(site):
    guide = (site / "which_schedule.html").read_text()
    assert 'href="generated/reference/warmup_cosine.html#jaxsched.warmup_cosine"' in guide
    assert 'href="generated/reference/schedule.html#jaxsched.Schedule.cycle"' in guide
    assert 'external" href="https://optax.readthedocs.io/' in (site / "faq.html").read_text()
    docstring = (site / "generated" / "reference" / "inject.html").read_text()
    assert 'href="override.html#jaxsched.override"' in docstring
    for file in site.glob("*.html"):
        assert not re.search(r"<h\d>[^\n]*jaxsched\.\w+\"", file.read_text()), file


def test_every_link_within_the_site_leads_somewhere(site):
    ids = {}
    for file in site.rglob("*.html"):
        for href in re.findall(r'<a [^>]*href=["\']([^"\']*)', file.read_text()):
            path, _, anchor = href.partition("#")
            if ":" in path or re.match(r"index-\d+$", anchor):  # a word of the index: its page
                continue
            target = (file.parent / path).resolve() if path else file
            assert target.exists(), (file, href)
            if anchor and "_modules" not in file.parts and target.suffix == ".html":
                if target not in ids:
                    ids[target] = set(re.findall(r'id="([^"]*)"', target.read_text()))
                assert anchor in ids[target], (file, href)


def test_a_page_tells_who_links_to_it_what_it_is(site):
    for file in [site / "index.html", site / "plateau.html", *site.glob("generated/**/*.html")]:
        text = file.read_text()
        for tag in ('name="description"', 'property="og:title"'):
            assert re.search(rf'<meta {tag} content="[^"]{{5,}}"', text), file
        assert "favicon.svg" in text
        assert f"jaxsched {metadata.version('jaxsched')}" in text


@pytest.fixture
def browser():
    pytest.importorskip("playwright")
    if not any(map(shutil.which, sheets.BROWSERS)):
        pytest.skip("no browser")


def test_copying_an_example_leaves_out_its_prompts_and_its_output(site, browser):
    script = (site / "_static" / "copybutton.js").read_text()
    (call,) = re.findall(r"return (formatCopyText\(text, '.*\))", script)
    told = ">>> for x in y:\n...     print(x)\n1\n2\n$ a command\n"
    functions = (site / "_static" / "copybutton_funcs.js").read_text().replace("export ", "")
    for _, page in sheets.opened([site / "quickstart.html"], 1280):
        copied = page.evaluate(f"(text) => {{ {functions}\nreturn {call} }}", told)
    assert copied.rstrip() == "for x in y:\n    print(x)\na command"


def test_every_picture_of_the_gallery_says_what_is_seen():
    gallery = "\n".join(pages.gallery(ROOT / "docs"))
    labels = re.findall(r'<svg [^>]*aria-label="([^"]*)"', gallery)
    assert len(labels) == gallery.count("<svg") > 60
    assert all(re.search("falls|rises|stays|starts", label) for label in labels)
    figures = re.findall("<figure>.*?</figure>", gallery)
    made = "stretch faster hold shift take clip maximum minimum join cycle"
    for name in made.split():
        (one,) = [x for x in figures if re.search(rf'aria-label="{name}:', x)]
        assert "stroke-dasharray" in one and "Dashed: " in one
    for name in ("a * b", "a + b"):
        (one,) = [x for x in figures if f'aria-label="{name}:' in x]
        assert one.count("stroke-dasharray") == 2
    assert not re.search('(stroke|fill)="#', gallery)  # a dark page has its own colours


@pytest.mark.parametrize("text", pages.listed(pages.REACTING))
def test_every_rule_of_the_gallery_acts(text):
    losses = {"value": (pages.HEARD, pages.LOSSES)}
    total = int(pages.HEARD[-1]) + 1
    schedule = jaxsched.parse(text)
    if pages.has_until(schedule):
        when = {"trigger_at": pages.TRIGGERED}
        values, _ = jaxsched.simulate(schedule, total_steps=total, **when)
        alone, _ = jaxsched.simulate(schedule, total_steps=total)
        assert values[total - 1] < 0.6 * alone[total - 1] < 0.6 * alone.max()
        return
    values, events = jaxsched.simulate(schedule, losses, total_steps=total)
    assert sum(int(when[-1]) for when in events.values()) > 0
    assert values.min() < 0.6 * values[0]
    assert "<polygon" in pages.figure(text, jaxsched.parse(text), pages.LOSSES)


SEARCHED = {
    "lr finder": "range_test",
    "SGDR": "which_schedule",
    "finetuning": "which_schedule",
    "LLM": "which_schedule",
    "warm restarts": "which_schedule",
    "which schedule": "which_schedule",
    "early stopping": "plateau",
    "ReduceLROnPlateau": "generated/reference/reduce_on_plateau",
    "cosine": "generated/reference/cosine",
}
FOUND = """async () => {
  const found = () => [...document.querySelectorAll("#search-results li > a:first-child")];
  for (let n = 0; n < 200 && found().length < 3; n++) await new Promise((r) => setTimeout(r, 25));
  return found().slice(0, 3).map((x) => x.getAttribute("href"));
}"""


def test_a_search_finds_a_sensible_page_among_the_first(site, browser):
    for _, page in sheets.opened([site / "search.html"], 1280):
        for words, sensible in SEARCHED.items():
            page.goto(f"{(site / 'search.html').as_uri()}?{parse.urlencode({'q': words})}")
            found = [href.partition(".html")[0] for href in page.evaluate(FOUND)]
            assert sensible in found, (words, found)


LETTERS = """() => Math.min(...[...document.querySelectorAll("article figure svg")].map((x) =>
  parseFloat(x.style.fontSize) * x.getBoundingClientRect().width / x.viewBox.baseVal.width))"""


@pytest.mark.parametrize("width", [390, 1280])
def test_no_page_is_wider_than_the_screen(site, browser, width):
    files = [x for x in sheets.pages_of(site) if x.parent.name != "reference"]
    files += [site / "generated" / "reference" / f"{stem}.html" for stem in ("schedule", "states")]
    files += [
        *sorted((site / "generated" / "reference").glob("*.html"))[:: 10 if width > 390 else 4]
    ]
    opened = sheets.opened(files, width)
    found = {file.stem: page.evaluate(sheets.WIDE) for file, page in opened}
    assert not {stem: wide for stem, wide in found.items() if wide}
    assert len(found) > 50
    for file, page in sheets.opened([site / "generated" / "gallery.html"], width):
        assert page.evaluate(LETTERS) >= 11  # pixels, of the text in pictures
        contents = page.locator(".toc-drawer").bounding_box()
        assert (contents["x"] < width) == (width == 1280), file


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
