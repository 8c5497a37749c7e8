import io
import logging
import os
import re
import sys
import types

import pytest

import nets_deap as nets
from nets_deap.errors import InvalidValueError
from nets_deap.runs import progress as module
from nets_deap.runs.progress import Progress
from nets_deap.runs.storage.rows import best_so_far, facts_shown


def test_lines_hold_the_numbers_and_the_time_left():
    out = io.StringIO()
    progress = Progress("lines", 3, out)
    for generation in (0, 1):
        progress.show(generation, {"best val_loss": 0.123456, "density to": "2 %", "front": 7})
    first, second = out.getvalue().splitlines()
    # With the first population, which may have begun with compiling, nothing is known of the rest.
    assert first == "generation 0/3  best val_loss 0.1235  density to 2 %  front 7  0 s"
    assert second == "generation 1/3  best val_loss 0.1235  density to 2 %  front 7  0 s, 0 s left"


def test_time_left_is_told_by_the_generations_after_the_first_population(monkeypatch):
    out, now = io.StringIO(), [0.0]
    monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: now[0]))
    progress = Progress("lines", 10, out)
    for generation, at in enumerate((300.0, 302.0, 308.0)):
        now[0] = at
        progress.show(generation, {})
    ends = [line.partition("  ")[2].strip() for line in out.getvalue().splitlines()]
    assert ends == ["300 s", "302 s, 18 s left", "308 s, 32 s left"]


def test_lines_without_a_number_of_generations_tell_the_time_spent():
    out = io.StringIO()
    Progress("lines", None, out).show(4, {})
    assert out.getvalue() == "generation 4    0 s\n"


def test_auto_is_lines_where_there_is_no_terminal():
    assert Progress("auto", 1, io.StringIO()).mode == "lines"


def test_auto_is_a_bar_in_a_notebook_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    shell = types.ModuleType("IPython")
    monkeypatch.setitem(sys.modules, "IPython", shell)
    for name, mode in (("ZMQInteractiveShell", "bar"), ("TerminalInteractiveShell", "lines")):
        shell.get_ipython = type(name, (), {})
        assert Progress("auto", 1, io.StringIO()).mode == mode


def test_none_is_silent():
    out = io.StringIO()
    progress = Progress("none", 1, out)
    progress.show(0, {"a": 1})
    progress.line("text")
    assert out.getvalue() == ""


def test_the_bar_counts_the_first_population():
    out = io.StringIO()
    progress = Progress("bar", 1, out)
    progress.show(0, {"hypervolume": 1.0})
    progress.line("a line")
    progress.show(1, {"hypervolume": 2.0})
    progress.close()
    assert "generation 1/1, 0 s left, hypervolume 2" in out.getvalue()
    assert "a line\n" in out.getvalue()


def test_unknown_modes_are_refused():
    with pytest.raises(InvalidValueError, match="Did you mean 'lines'"):
        Progress("line")


def test_a_run_that_goes_on_counts_what_was_done():
    out = io.StringIO()
    progress = Progress("lines", 9, out)
    progress.go_on(3, 400.0)
    progress.show(4, {})
    assert out.getvalue() == "generation 4/9    400 s, 400 s left\n"
    bar = Progress("bar", 9, out)
    bar.go_on(3, 400.0)
    bar.show(4, {})
    bar.close()
    assert "generation 4/9, 400 s left" in out.getvalue()


def test_more_generations_than_were_told_have_no_time_left_below_zero():
    out = io.StringIO()
    progress = Progress("lines", 3, out)
    for generation in (3, 4):
        progress.show(generation, {"loss": None})
    third, fourth = out.getvalue().splitlines()
    assert third.startswith("generation 3/3  loss -  ")
    assert fourth.startswith("generation 4  loss -  ")
    assert "left" in third
    assert "left" not in fourth


def frames(out):
    """What a terminal shows one after the other."""
    return [part for part in re.split(r"[\r\n]", out.getvalue()) if part.strip()]


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_bar_fits_the_terminal(columns, monkeypatch):
    out = io.StringIO()
    out.fileno = lambda: 1
    monkeypatch.setattr(module.os, "get_terminal_size", lambda _: os.terminal_size((columns, 24)))
    still = types.SimpleNamespace(monotonic=lambda: 0.0)
    monkeypatch.setattr(module, "time", still)
    progress = Progress("bar", 200, out)
    facts = {"best val_loss": 0.12345, "density to": "0.36 %", "front": 30, "hypervolume": 2.14}
    for generation in (0, 1):
        progress.show(generation, facts)
    progress.close()
    shown = frames(out)
    assert max(map(len, shown)) < columns
    whole = "generation 1/200, 0 s left, best val_loss 0.1235, density to 0.36 %"
    assert (whole in shown[-1]) == (columns >= 80)
    assert ("hypervolume 2.14" in shown[-1]) == (columns == 200)


def test_the_first_population_has_a_bar_and_what_is_logged_a_line_of_its_own():
    out = io.StringIO()
    progress = Progress("bar", 3, out)
    logger = logging.getLogger("nets_deap")
    before = logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [], False  # as where nothing has set logging up
    try:
        with progress.beginning():
            logger.warning("a word")
        progress.close()
        assert logger.handlers == []
    finally:
        logger.handlers, logger.propagate = before
    assert "| first population" in frames(out)[0]
    assert "a word" in [frame.strip() for frame in frames(out)]


def test_a_first_population_that_fails_leaves_no_bar():
    progress = Progress("bar", 3, io.StringIO())
    with pytest.raises(KeyError), progress.beginning():
        raise KeyError
    assert progress._bar is None


# ---- what a search shows


@pytest.mark.parametrize("inherit", ["none", "weights"])
def test_the_best_never_worsens_and_what_is_called_front_is_one(inherit, capsys):
    recipe = nets.Recipe(lr=0.05, batch_size=4, steps=10, loss="binary_cross_entropy")
    task = nets.tasks.xor(hidden=10, recipe=recipe)
    found = nets.search(task, population=6, generations=5, inherit=inherit, progress="lines")
    err = capsys.readouterr().err
    best = [float(value) for value in re.findall(r"best val_loss (\S+)", err)]
    assert len(best) == 6
    assert best == sorted(best, reverse=True)
    sparsest = [float(value) for value in re.findall(r"density to (\S+) %", err)]
    assert sparsest == sorted(sparsest, reverse=True)
    if inherit == "none":
        assert f"  front {len(found.front)}  " in err.splitlines()[-1]
    else:  # what is held meanwhile has trained for different lengths, and is no front yet
        assert "  front " not in err
        assert "  niches " in err
        told = f"front: {len(found.front)} tickets that none dominates, measured after 10 steps"
        assert told in err


def test_a_run_that_goes_on_knows_the_best_of_before(tmp_path, capsys):
    recipe = nets.Recipe(lr=0.05, batch_size=4, steps=10, loss="binary_cross_entropy")

    def go(generations, **more):
        task = nets.tasks.xor(hidden=10, recipe=recipe)
        given = {"population": 6, "inherit": "none", "progress": "lines", **more}
        nets.search(task, path=tmp_path / "r", generations=generations, **given)
        return re.findall(r"(best .*?)  \d+ s", capsys.readouterr().err)

    go(3)
    assert go(6, resume=True)[-1] == go(6, overwrite=True)[-1]


def test_the_best_of_a_log_is_by_each_objectives_direction():
    directions = {"val_loss": -1.0, "val_accuracy": 1.0}
    rows = [
        {"val_loss_min": 0.3, "val_accuracy_max": 0.7},
        {"val_loss_min": 0.4, "val_accuracy_max": None},
        {"val_loss_min": None, "val_accuracy_max": 0.6},
    ]
    best = best_so_far(rows, directions, {})
    assert best == {"val_loss": 0.3, "val_accuracy": 0.7}
    assert best_so_far([{"val_loss_min": 0.1, "val_accuracy_max": 0.1}], directions, best) == {
        "val_loss": 0.1, "val_accuracy": 0.7,
    }  # fmt: skip
    facts = facts_shown({"front_size": 3, "hypervolume": 1.0}, directions, {})
    assert facts["best val_loss"] is None
