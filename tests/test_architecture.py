"""The rules of the house, walked over the source: floors, circles, printing, file sizes."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "nets_deap"

# Bottom floor first. A room is a folder at the top of the package; ``loose`` is the files there
# that any room may import. An import of any kind goes to a lower floor or stays in its room.
FLOORS = [
    {"loose"},
    {"inputs"},
    {"data", "models"},
    {"tickets"},
    {"training"},
    {"evolution", "baselines"},
    {"runs"},
    {"experiments"},
    {"plots"},
    {"__init__"},
    {"cli"},
    {"__main__"},
]
LOOSE = {"errors", "names", "_atomic", "_checks", "_optional", "_table"}
MOST_LINES = 300
FILES = sorted(ROOT.rglob("*.py"))
HERE = Path(__file__).parent
TESTS = sorted(HERE.rglob("test_*.py"))


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def imported_by(tree):
    """Yield the module that each import names, wherever it stands, and the names it takes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            if (node.module or "").split(".")[0] == "nets_deap":
                base = node.module.removeprefix("nets_deap").lstrip(".")
                for alias in node.names:
                    full = f"{base}.{alias.name}".lstrip(".")
                    yield (full, "") if full in MODULES else (base or "__init__", alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "nets_deap":
                    yield alias.name.removeprefix("nets_deap").lstrip(".") or "__init__", ""


GRAPH = {
    here: sorted(set(imported_by(ast.parse(path.read_text())))) for here, path in MODULES.items()
}


def room_of(module):
    room = module.split(".")[0]
    return "loose" if room in LOOSE else room


def floor_of(module):
    rows = [i for i, floor in enumerate(FLOORS) if room_of(module) in floor]
    assert len(rows) == 1, f"{module} must stand on exactly one floor, found on {rows}"
    return rows[0]


def circle_in(graph):
    """Return the modules of one circle of imports in order, the first again at the end, or none."""
    done, path = set(), []

    def visit(module):
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        path.append(module)
        for there in graph.get(module, ()):
            if found := visit(there):
                return found
        path.pop()
        done.add(module)
        return []

    return next((found for module in graph if (found := visit(module))), [])


@pytest.mark.parametrize("here", MODULES)
def test_imports_go_down(here):
    """Imports of every kind: at module level, inside functions, under ``TYPE_CHECKING``."""
    for there, _ in GRAPH[here]:
        same = room_of(there) == room_of(here)
        assert same or floor_of(there) < floor_of(here), f"{here} imports {there} from above"


def test_floors_name_only_what_exists():
    assert set().union(*FLOORS) == {room_of(module) for module in MODULES}
    assert set(MODULES) >= LOOSE


def test_few_modules_are_loose():
    assert len([path for path in FILES if path.parent == ROOT]) <= 8


def test_files_form_no_circle():
    graph = {here: [there for there, _ in found] for here, found in GRAPH.items()}
    found = circle_in(graph)
    assert not found, " -> ".join(found)


def test_folders_within_a_room_form_no_circle():
    """What one folder of a room takes from another, it does not give back, by whatever way."""
    graph = defaultdict(set)
    for here, found in GRAPH.items():
        for there, _ in found:
            mine, its = (
                (name if MODULES[name].name == "__init__.py" else name.rpartition(".")[0])
                for name in (here, there)
            )
            deep = mine.count(".") and its.count(".")
            if mine != its and deep and room_of(here) == room_of(there):
                graph[mine].add(its)
    found = circle_in(graph)
    assert not found, " -> ".join(found)


@pytest.mark.parametrize("here", MODULES)
def test_no_private_name_crosses_a_room(here):
    for there, name in GRAPH[here]:
        if room_of(there) != room_of(here):
            private = [part for part in f"{there}.{name}".split(".") if part.startswith("_")]
            private = [part for part in private if part not in {"__init__", *LOOSE}]
            assert not private, f"{here} takes {name or there} of another room"


def test_the_walk_sees_every_kind_of_import():
    source = (
        "import nets_deap.errors\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from nets_deap.tickets.ticket import Ticket\n"
        "def late():\n    from nets_deap import _checks\n"
    )
    found = {there for there, _ in imported_by(ast.parse(source))}
    assert found == {"errors", "tickets.ticket", "_checks"}
    assert circle_in({"a": ["b"], "b": ["c"], "c": ["b"]}) == ["b", "c", "b"]
    assert circle_in({"a": ["b", "c"], "b": ["c"], "c": []}) == []


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_long_file_says_why(path):
    text = path.read_text()
    if len(text.splitlines()) > MOST_LINES:
        about = ast.get_docstring(ast.parse(text))
        assert "One file" in about, f"{name_of(path)} is long: split it, or say why it is one file"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_command_line_prints_or_parses(path):
    if path.is_relative_to(ROOT / "cli"):
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print"
        if isinstance(node, ast.Import):
            assert all(alias.name != "argparse" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_unpickles(path):
    text = path.read_text()
    for word in ("import pickle", "torch.load", "allow_pickle=True", "weights_only=False"):
        assert word not in text


def test_tests_stand_in_the_rooms_that_they_are_about():
    for folder in {path.parent for path in TESTS} - {HERE}:
        assert (ROOT / folder.relative_to(HERE)).is_dir(), f"there is no room {folder.name}"


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_no_test_file_imports_another(path):
    """What several of them share stands in ``tests/support/``."""
    names = {other.stem for other in TESTS}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").rpartition(".")[2] not in names
            assert names.isdisjoint(alias.name for alias in node.names)
        elif isinstance(node, ast.Import):
            assert names.isdisjoint(alias.name.rpartition(".")[2] for alias in node.names)


def test_one_module_calls_the_code_that_finite_numbers_alone_are_safe_for():
    calls = ("import moocore", "from moocore", "hypervolume(tools", "tools.hypervolume")
    callers = [here for here, path in MODULES.items() if any(c in path.read_text() for c in calls)]
    assert callers == ["evolution.fronts"]
