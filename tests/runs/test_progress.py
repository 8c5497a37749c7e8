import io
import sys
import types

import pytest

from nets_deap.errors import InvalidValueError
from nets_deap.runs.progress import Progress


def test_lines_hold_the_numbers_and_the_time_left():
    out = io.StringIO()
    Progress("lines", 3, out).show(1, {"best val_loss": 0.123456, "front": 7})
    assert out.getvalue().startswith("generation 1/3  best val_loss 0.1235  front 7  ")
    assert out.getvalue().endswith(" s left\n")


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
    assert "2/2" in out.getvalue()
    assert "hypervolume=2" in out.getvalue()
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
    assert "5/10" in out.getvalue()


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
