"""The notebooks as they lie in the repository: whole, run in order, without traces of a machine.

Whether they still run is another matter: ``pytest --nbmake notebooks`` runs them.
"""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
HEADINGS = ["Question", "Method", "Run", "Figure", "What we learn", "Limits"]
MOST_LINES = 12
MOST_BYTES = 500_000
SWITCH = 'SMOKE = os.environ.get("NETS_DEAP_SMOKE") == "1"'
# Paths with a home, a temporary or a package folder in them, on any system; and what a kernel says
# when something is not as it should be.
TRACES = re.compile(
    r"/(?:home|root|tmp|Users|opt|var|usr|work|mnt|data)/|[A-Z]:\\|site-packages|Traceback|Warning"
)


def texts_of(output):
    """Yield all text of an output, pictures left out."""
    if output["output_type"] == "stream":
        yield "".join(output["text"])
    for kind, content in output.get("data", {}).items():
        if not kind.startswith("image/"):
            yield "".join(content)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def code_of(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def test_there_are_eight_by_number_and_the_readme_links_them():
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{n}-" for n in range(1, 9)]
    readme = (FOLDER.parent / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\((notebooks/.*?\.ipynb)\)", readme) == [
        f"notebooks/{path.name}" for path in NOTEBOOKS
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_files_are_small(path):
    assert path.stat().st_size < MOST_BYTES


def test_the_format_is_that_of_version_4(notebook):
    assert (notebook["nbformat"], notebook["nbformat_minor"] >= 5) == (4, True)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        extra = {"outputs", "execution_count"} if cell["cell_type"] == "code" else set()
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | extra
        assert cell["metadata"] == {}, "times of execution differ from run to run"


def test_every_cell_was_run_in_order_without_an_error(notebook):
    code = code_of(notebook)
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data"}
    assert all(output.get("name", "stdout") == "stdout" for output in outputs)
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_cells_are_short(notebook):
    for cell in code_of(notebook):
        lines = [line for line in "".join(cell["source"]).splitlines() if line.strip()]
        imports = [line for line in lines if line.startswith(("import ", "from "))]
        assert len(lines) - len(imports) <= MOST_LINES, lines[0]


def test_each_has_a_question_and_an_answer(notebook):
    prose = "\n".join("".join(c["source"]) for c in notebook["cells"] if c not in code_of(notebook))
    assert re.findall(r"^## (.*)$", prose, re.M) == HEADINGS
    method = prose.split("## Method")[1].split("\n#")[0]
    assert len(re.findall(r"^\d\. ", method, re.M)) == 5
    assert "TODO" not in prose


def test_the_first_cells_say_how_to_run_it_in_seconds_and_do_it(notebook):
    first, setup = notebook["cells"][:2]
    assert "NETS_DEAP_SMOKE=1" in "".join(first["source"])
    assert SWITCH in "".join(setup["source"])
    assert any(" if SMOKE else " in "".join(cell["source"]) for cell in code_of(notebook))


def test_nothing_tells_of_the_machine_they_were_run_on(notebook):
    for cell in notebook["cells"]:
        said = ["".join(cell["source"])]
        said += [text for output in cell.get("outputs", []) for text in texts_of(output)]
        for text in said:
            assert TRACES.search(text) is None, TRACES.search(text)
