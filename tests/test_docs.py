"""The documentation: it builds without a warning, names all that is public, and runs as written."""

import doctest
import importlib
import inspect
import json
import os
import re
import runpy
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from deap import creator
from support.written import blocks, smaller

import nets_deap as nets

pytestmark = pytest.mark.extra

ROOT = Path(__file__).parent.parent
DOCS = ROOT / ".docs"
PAGES = sorted(DOCS.rglob("*.md"))
# Pages about other libraries: each section is a script of its own, for who has that library.
APART = ("callbacks", "clusters", "libraries")
# Pages whose numbers are those that a reader would take.
LONG = ("baselines", "data", "deap", "export", "figures", "images", "ray", "structured")
MADE_CLASSES = ("Fitness", "FitnessXor", "Mine", "TicketXor")
SLOW = ("how-to/images", "how-to/ray")
PACKAGES = {"mlflow": ("mlflow", "sqlalchemy", "alembic"), "wandb": ("wandb",)}
PACKAGES |= {"skorch": ("skorch",), "lightning": ("lightning",), "boards": ("tensorboard",)}
PACKAGES["submitit"] = ("submitit",)
PACKAGES |= {name: (name,) for name in ("pymoo", "ribs", "torch_pruning")}


def scripts():
    for page in PAGES:
        text = page.read_text()
        name = str(page.relative_to(DOCS).with_suffix(""))
        if page.stem in APART:
            for section in re.split(r"^## ", text, flags=re.M)[1:]:
                if blocks(section):
                    yield f"{name}: {section.splitlines()[0]}", "\n".join(blocks(section))
        elif name != "index" and blocks(text):
            code = "\n".join(blocks(text))
            yield (
                name,
                smaller(code) if page.stem in LONG and page.parent.stem == "how-to" else code,
            )


SCRIPTS = dict(scripts())
WITH_OTHERS = [name for name in SCRIPTS if ":" in name]
WITH_OTHERS += ["from/pymoo", "from/pyribs", "from/torch-pruning"]
ALONE = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
    for name in SCRIPTS
    if name not in WITH_OTHERS
]


@pytest.mark.parametrize("name", ALONE)
def test_code_of_the_pages_runs_as_written(name, tmp_path, monkeypatch):
    if name == "how-to/ray":
        pytest.importorskip("ray", reason='workers need the extra "ray"')
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.py").write_text(SCRIPTS[name])
    try:
        runpy.run_path(str(tmp_path / "page.py"))
    finally:
        for made in MADE_CLASSES:
            creator.__dict__.pop(made, None)


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_OTHERS)
def test_code_with_other_libraries_runs_as_written(name, tmp_path):
    (needed,) = (key for key in PACKAGES if re.search(rf"\b{key}\b", SCRIPTS[name]))
    for package in PACKAGES[needed]:
        pytest.importorskip(package)
    # In a process of its own: these libraries warn, keep threads, and change global settings.
    (tmp_path / "page.py").write_text(SCRIPTS[name] + CHECKS.get(needed, ""))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if needed == "submitit":  # programs of SLURM that know no cluster
        environment["PATH"] = str(Path(sys.executable).parent)
    done = subprocess.run(
        [sys.executable, "page.py"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# What the other side must have seen, appended to the page's own code.
CHECKS = {
    "submitit": """
from nets_deap.runs.storage.reader import RunReader
assert [len(RunReader(Path("runs") / f"seed{s}").history()) for s in (0, 1)] == [41, 41]
""",
    "boards": """
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator("runs/tb").Reload()
assert [p.step for p in events.Scalars("search/hypervolume")] == [0, 1, 2, 3]
""",
    "mlflow": """
(run,) = mlflow.search_runs(output_format="list")
client = mlflow.MlflowClient()
history = client.get_metric_history(run.info.run_id, "hypervolume")
assert [point.step for point in history] == [0, 1, 2, 3]
assert run.data.params["task"] == "xor"
assert {f.path for f in client.list_artifacts(run.info.run_id)} == {"config.json", "front.csv"}
""",
    "wandb": """
wandb.teardown()  # its writer's process ends when everything is on the disk
import struct
from pathlib import Path
from wandb.proto import wandb_internal_pb2
(folder,) = Path("wandb").glob("offline-run-*")
(log,) = folder.glob("*.wandb")
data, at, held, steps = log.read_bytes(), 7, b"", []
while at + 7 <= len(data):  # framed as LevelDB's logs: blocks of 32 KiB, parts of records
    left = 32768 - at % 32768
    if left < 7:
        at += left
        continue
    length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
    held += data[at + 7 : at + 7 + length]
    at += 7 + length
    if kind in (1, 4):
        record = wandb_internal_pb2.Record.FromString(held)
        held = b""
        if record.HasField("history"):
            names = {item.key or item.nested_key[0] for item in record.history.item}
            assert {"hypervolume", "val_loss_min", "front"} <= names, names
            steps.append(record.history.step.num)
assert steps == [0, 1, 2, 3], steps
assert len(list(folder.glob("files/media/table/front_*.table.json"))) == 4
""",
    "skorch": """
kept = net.module_[0].weight != 0, net.module_[2].weight != 0
assert sum(int(k.sum()) for k in kept) == ticket.kept < len(ticket.mask)
assert net.score(x, y) > 0.5
""",
    "lightning": """
trained = module.net[0].parametrizations.weight.original
assert not torch.equal(trained, task.model[0].weight)
""",
}


MODULES = [p for p in sorted((ROOT / "nets_deap").rglob("*.py")) if ">>> " in p.read_text()]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_examples_of_docstrings_run(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed


def test_docstrings_are_markup_that_sphinx_reads():
    for path in sorted((ROOT / "nets_deap").rglob("*.py")):
        text = path.read_text()
        assert not re.search(r"::$", text, re.M), f"{path}: write it as >>> lines"
        assert not re.search(r"``[\w.]+``s\b", text), f"{path}: a letter after `` breaks the markup"


def test_first_lines_of_properties_have_no_colon():
    """Napoleon would take what is before it for the type, and leave it out."""
    for name in nets.__all__:
        for member, value in inspect.getmembers(getattr(nets, name)):
            if isinstance(value, property) and not member.startswith("_"):
                first = (value.__doc__ or "").partition("\n")[0]
                assert ": " not in first, f"{name}.{member}: {first}"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    pytest.importorskip("sphinx")
    for extension in ("furo", "myst_nb", "sphinxarg"):
        pytest.importorskip(extension)
    out = tmp_path_factory.mktemp("docs")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", str(DOCS), str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def public_names():
    for attribute in nets._MODULES:
        module = getattr(nets, attribute)
        own = [
            n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__
        ]
        names = getattr(module, "__all__", [n for n in own if not n.startswith("_")])
        yield from (f"{module.__name__}.{name}" for name in names)
    for name in nets.__all__:
        yield f"nets_deap.{name}"
        if inspect.isclass(getattr(nets, name)):
            yield from (f"nets_deap.{name}.{member}" for member in members(getattr(nets, name)))


def members(kind):
    """Return a class's public methods and properties, without those of its public bases."""
    public = [getattr(nets, name) for name in nets.__all__]
    for one in kind.__mro__:
        if one is not kind and one in public:
            return
        if one.__module__.startswith("nets_deap"):
            for name, value in vars(one).items():
                documented = inspect.isroutine(value) or isinstance(value, (property, classmethod))
                if documented and not name.startswith("_"):
                    yield name


@pytest.mark.slow
def test_every_public_name_is_documented(built):
    head = (built / "objects.inv").read_bytes().split(b"\n", 4)
    text = zlib.decompress(head[4]).decode()
    there = {line.split(" ", 1)[0] for line in text.splitlines() if " py:" in line}
    # A name may stand under its home, such as nets_deap.evolution.objectives.Objective.
    for name, home in nets._HOMES.items():
        long, short = f"nets_deap.{home}.{name}", f"nets_deap.{name}"
        there |= {short + one.removeprefix(long) for one in there if one.startswith(long)}
    for name, home in nets._MODULES.items():
        if f"nets_deap.{home}" in there:
            there.add(f"nets_deap.{name}")
    missing = sorted(set(public_names()) - there)
    assert not missing, f"name them in .docs/api: {missing}"


@pytest.mark.slow
def test_every_command_is_documented(built):
    from nets_deap.cli.main import _parser

    text = re.sub(r"<[^>]+>", "", (built / "cli.html").read_text())

    def walk(parser):
        yield parser.prog
        for action in parser._actions:
            if isinstance(action.choices, dict):
                for child in action.choices.values():
                    yield from walk(child)

    commands = list(walk(_parser()))
    assert "nets-deap ticket export" in commands
    assert not [one for one in commands if one not in text]


def test_every_figure_is_in_the_gallery():
    text = (DOCS / "gallery.rst").read_text()
    names = [name for name in nets.plots.__all__ if name != "sized"]
    assert sorted(re.findall(r"^:py:func:`~nets_deap.plots.(\w+)`", text, re.M)) == sorted(names)
    assert all(f"   nets.plots.{name}(" in text for name in names)


def test_the_changes_begin_with_the_version_that_is_cited():
    changes = (ROOT / ".github" / "CHANGELOG.md").read_text()
    citation = (ROOT / ".github" / "CITATION.cff").read_text()
    assert f"\nversion = {nets.__version__}\n" in (ROOT / "setup.cfg").read_text()
    assert re.search(r"^## (\S+)", changes, re.M)[1] == nets.__version__
    assert f"\nversion: {nets.__version__}\n" in citation


def test_every_notebook_and_page_is_in_a_list():
    """Sphinx says so too, but only where it builds."""
    lists = "\n".join(page.read_text() for page in DOCS.rglob("*.md"))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        assert f"\nnotebooks/{path.stem}\n" in lists


def test_every_objective_is_in_the_table():
    assert "{{ objectives }}" in (DOCS / "how-to" / "own-objective.md").read_text()
    text = runpy.run_path(str(DOCS / "conf.py"))["table_of_objectives"]()
    named = {name.partition(":")[0] for name in re.findall(r"^\| `(.*?)` \|", text, re.M)}
    assert named == {*nets.objectives.OBJECTIVES, *nets.objectives.FACTORIES}
    for name, direction in re.findall(r"^\| `(.*?)` \| (\w+)", text, re.M):
        (objective,) = nets.objectives.resolve(name)
        assert objective.direction == direction
        assert objective.about
        assert objective.about in text


def test_every_file_of_a_run_is_described():
    from nets_deap.runs.storage import paths

    table = (DOCS / "files.md").read_text().partition("## Run folder")[2]
    rows = re.findall(r"^\| (`.*?`) \|", table.partition("## Ticket")[0], re.M)
    named = {name for row in rows for name in re.findall(r"`(.*?)`", row)}
    folders = {f"{paths.TICKETS}/*.safetensors", f"{paths.CHECKPOINTS}/*.npz"}
    assert named == {*paths.FILES, *folders, f"{paths.CHECKPOINTS}/{paths.PARTIAL}", paths.LOCK}


def test_every_field_of_a_ticket_and_column_of_a_log_is_described(tmp_path):
    from safetensors import safe_open

    found = nets.search(
        nets.tasks.xor(hidden=4),
        population=4,
        generations=1,
        path=tmp_path / "r",
        progress="none",
        inherit="none",
    )
    file = next((tmp_path / "r" / "tickets").glob("*.safetensors"))
    with safe_open(file, framework="np") as held:
        fields = json.loads(held.metadata()["nets_deap"])
        names = [*held.keys(), *held.metadata(), *fields, *fields["origin"], *fields["fitness"]]
    columns = json.loads((tmp_path / "r" / "log.jsonl").read_text().splitlines()[0])
    objectives = found.front[0].fitness.names
    names += [column for column in columns if not column.startswith(objectives)]
    text = (DOCS / "files.md").read_text()
    assert not [name for name in names if f"`{name}`" not in text]
