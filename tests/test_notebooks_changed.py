"""The notebooks after what readers do to them: other settings, cells run twice, an interrupt.

In smoke mode, and in this process: a kernel for each would take longer than the notebooks.
"""

import json
from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parent.parent / "notebooks"
# What is replaced in the code, by number: another seed or two, and another size or setting or two.
SEEDS = {
    1: {"hidden=10, seed=0": "hidden=10, seed=3", "random.seed(0)": "random.seed(5)"},
    2: {"dataset=dataset, seed=0": "dataset=dataset, seed=4", "random.seed(0)": "random.seed(5)"},
    3: {"[0]) if SMOKE": "[7]) if SMOKE", "search(task,": "search(task, seed=2,"},
    4: {"manual_seed(0)": "manual_seed(3)", "seed=0, progress": "seed=2, progress"},
    5: {"recipe=recipe, seed=0": "recipe=recipe, seed=4", "random.seed(0)": "random.seed(5)"},
    6: {"dataset=dataset, seed=0": "dataset=dataset, seed=4", "options, seed=0": "options, seed=6"},
    7: {"([0], 300)": "([3], 300)"},
}
SIZES = {
    1: {"hidden=10": "hidden=20", "10 if SMOKE": "16 if SMOKE"},
    2: {"(8, 2, 200)": "(12, 3, 200)", "members=4": "members=3"},
    3: {"(1, 2, 3, 4) if": "(1, 3, 5) if", '"snip"]': '"grasp"]'},
    4: {"n = 64": "n = 24", "(4, 2) if SMOKE": "(7, 2) if SMOKE"},
    5: {"(4, 2) if SMOKE": "(7, 3) if SMOKE", "weights=(3, 1)": "weights=(1, 1)"},
    6: {"population=20": "population=26", "density=(0.005, 1.0)": "density=(0.01, 1.0)"},
    7: {"(20, 22, 25, 28, 30)": "(18, 24, 30)", 'generations": 4': 'generations": 2'},
}


class Notebook:
    """The code of a notebook, and the names that it has made."""

    def __init__(self, number, changes):
        (path,) = FOLDER.glob(f"{number}-*.ipynb")
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        self.cells = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
        for old, new in changes.items():
            assert any(old in cell for cell in self.cells), f"{old!r} is no longer there"
            self.cells = [cell.replace(old, new) for cell in self.cells]
        self.names, self.path = {"__name__": "__main__"}, path

    def run(self, cells, times=1):
        for i in cells:
            code = compile(self.cells[i], f"{self.path.stem}, cell {i}", "exec")
            for _ in range(times):
                exec(code, self.names)

    @property
    def all(self):
        return range(len(self.cells))

    def place_of(self, text):
        (place,) = (i for i in self.all if text in self.cells[i])
        return place


@pytest.fixture(autouse=True)
def as_in_smoke_mode(monkeypatch):
    monkeypatch.setenv("NETS_DEAP_SMOKE", "1")
    with mpl.rc_context({"figure.max_open_warning": 0}):
        yield
    plt.close("all")


@pytest.mark.parametrize("number", SEEDS)
def test_with_another_seed(number):
    notebook = Notebook(number, SEEDS[number])
    notebook.run(notebook.all)


@pytest.mark.parametrize("number", SIZES)
def test_with_other_settings(number):
    notebook = Notebook(number, SIZES[number])
    notebook.run(notebook.all)


@pytest.mark.parametrize("number", SIZES)
def test_with_every_cell_run_twice(number):
    notebook = Notebook(number, {})
    notebook.run(notebook.all, times=2)


def test_an_interrupt_leaves_the_cells_below_at_work_and_can_be_gone_on_from():
    notebook = Notebook(2, {"(8, 2, 200)": "(8, 5, 200)"})
    place = notebook.place_of("eaMuPlusLambda(")
    notebook.run(range(place))
    names = notebook.names
    select, selections = names["toolbox"].select, []

    def impatient(*args):
        selections.append(args)
        if len(selections) == 3:
            raise KeyboardInterrupt
        return select(*args)

    names["toolbox"].register("select", impatient)
    with pytest.raises(KeyboardInterrupt):
        notebook.run([place])
    names["toolbox"].register("select", select)
    notebook.run(range(place + 1, len(notebook.cells)))
    assert names["recorder"].generation == 2
    stopped = names["front"]
    notebook.run(range(place, len(notebook.cells)))
    assert names["recorder"].generation == 5
    assert names["front"] is not stopped
    assert len(names["recorder"].logbook) == 6
    assert names["recorder"].logbook[-1]["gen"] == 5
