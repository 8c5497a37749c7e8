"""Floors, cycles, printing, file sizes: the rules of the house, walked over the source."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "nets_deap"

# Bottom floor first. Every module of the package stands in exactly one row; an import at module
# level goes to a lower row or stays in its own.
FLOORS = [
    {"errors", "_checks", "_optional", "__init__"},
    {"unit_names", "catalogue"},
    {
        "bits",
        "masks",
        "selection",
        "units",
        "unit_tiles",
        "structure",
        "fronts",
        "fitness",
        "learnt",
        "budget",
        "statistics",
    },
    {"bitlist", "gated", "applied", "carried", "ticket_files", "hub", "ticket", "genome"},
    {"models", "data"},
    {
        "training",
        "operators",
        "chain",
        "blocks",
        "chain_cost",
        "narrow",
        "compact",
        "csr",
        "onnx_files",
        "footprint",
    },
    {"extra_objectives", "objectives", "task", "origin", "batching", "description", "evaluator"},
    {"engines"},
    {"tasks", "toolbox", "baselines", "sanity"},
    {"runs"},
    {"experiments", "plots", "frames", "boards", "bench", "slurm"},
    {
        "commands",
        "ticket_commands",
        "figure_commands",
        "run_commands",
        "cli_slurm",
        "cli_ticket",
        "completion",
        "cli",
        "__main__",
    },
]
FILES = sorted(ROOT.rglob("*.py"))


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def imports_of(path, everywhere=False):
    """Modules of the package that a file imports at module level, type-checking blocks left out."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree)) if everywhere else list(tree.body)
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nets_deap"):
            base = node.module.removeprefix("nets_deap").lstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}".lstrip(".")
                path_of = ROOT.joinpath(*full.split("."))
                is_module = path_of.with_suffix(".py").exists() or path_of.is_dir()
                found.add(full if is_module else base or "__init__")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "nets_deap":
                    found.add(alias.name.removeprefix("nets_deap").lstrip(".") or "__init__")
    return found


def floor_of(module):
    room = module.split(".")[0]
    rows = [i for i, floor in enumerate(FLOORS) if room in floor]
    assert len(rows) == 1, f"{module} must stand on exactly one floor, found on {rows}"
    return rows[0]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_down(path):
    here = name_of(path)
    for there in imports_of(path):
        assert floor_of(there) <= floor_of(here), f"{here} imports {there} from a higher floor"


def test_floors_name_only_what_exists():
    rooms = {name_of(path).split(".")[0] for path in FILES}
    assert set().union(*FLOORS) == rooms


def test_no_import_cycles():
    graph = {name_of(path): imports_of(path) - {"__init__"} for path in FILES}
    done, open_ = set(), []

    def visit(module):
        if module in done or module not in graph:
            return
        assert module not in open_, f"cycle: {' -> '.join([*open_, module])}"
        open_.append(module)
        for there in graph[module]:
            visit(there)
        open_.pop()
        done.add(module)

    for module in graph:
        visit(module)


def test_the_cycle_check_sees_a_package_import():
    assert "runs.folder" in imports_of(ROOT / "runs" / "recorder.py")
    assert "_checks" in imports_of(ROOT / "masks.py")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_stay_small(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_the_command_line_prints_or_parses(path):
    if path.name == "cli.py":
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
