"""The rooms of the package import one way: no circle, and few floors."""

import ast
import graphlib
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "jaxsched"


def name_of(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


FILES = {name_of(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def imported(name):
    """The files that a file imports, also inside functions, but not for type checkers alone."""
    tree = ast.parse(FILES[name].read_text())
    branches = [x for x in ast.walk(tree) if isinstance(x, ast.If)]
    typing = [x for x in branches if "TYPE_CHECKING" in ast.unparse(x.test)]
    ignored = {id(x) for branch in typing for part in branch.body for x in ast.walk(part)}
    found = set()
    for x in ast.walk(tree):
        if id(x) in ignored:
            continue
        if isinstance(x, ast.Import):
            found |= {each.name for each in x.names}
        if isinstance(x, ast.ImportFrom):
            assert x.level == 0, f"{name} has a relative import"
            found |= {f"{x.module}.{each.name}" for each in x.names}
            found.add(x.module)
    # A package is loaded before its files, so an import of it alone is the import of its names.
    return {x for x in found if x in FILES and x != name and not name.startswith(f"{x}.")}


GRAPH = {name: imported(name) for name in FILES}


def test_no_file_imports_itself_through_others():
    tuple(graphlib.TopologicalSorter(GRAPH).static_order())  # raises and names the circle


def room(name):
    return name.split(".")[1] if "." in name else name


def rooms():
    """Each room, and those from which it imports."""
    graph = {room(name): set() for name in GRAPH}
    for name, others in GRAPH.items():
        graph[room(name)] |= {room(other) for other in others} - {room(name)}
    return graph


def test_rooms_import_from_rooms_above_them_in_the_table():
    table = re.findall(r"^\| (`.*?`) \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    places = [re.findall(r"`(\w+)(?:/|\.py)`", row) for row in table]
    floor = {name: i for i, row in enumerate(row for row in places if row) for name in row}
    graph = rooms()
    entries = {"jaxsched", "__main__", "_public"}  # they show the package, and stand above all
    assert set(floor) == set(graph) - entries
    wrong = [(x, y) for x in floor for y in graph[x] if floor.get(y, 99) > floor[x]]
    assert not wrong


def test_the_package_has_few_floors():
    graph, floor = rooms(), {}
    for name in graphlib.TopologicalSorter(graph).static_order():
        floor[name] = 1 + max((floor[x] for x in graph[name]), default=0)
    assert max(floor.values()) <= 11, floor
