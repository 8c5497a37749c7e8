"""The commands ``compare``, ``baseline`` and ``ticket check``, in this process."""

import csv
import json
import sys

import pytest

import nets_deap as nets
from nets_deap.cli.main import main
from nets_deap.experiments.methods import METHODS

XOR = ["xor-mlp100", "--device", "cpu", "--set", "final.steps=3"]
TINY = [*XOR, "--budget", "3000", "--densities", "0.3,0.1", "--set", "search.population=4"]
TINY += ["--set", "search.generations=2"]
SMALL = ["--preset", *XOR]


def rows_of(path):
    return list(csv.DictReader((path / "rows.csv").read_text().splitlines()))


@pytest.fixture
def ticket(tmp_path):
    """A file with a tenth of the weights of xor-mlp100, seed 0."""
    task = nets.tasks.xor(hidden=100, seed=0)
    found = nets.baselines.random_erk(task, 0.1)
    return str(found.tickets[0].save(tmp_path / "t.safetensors"))


# ---- compare


def test_compare_prints_the_summary_and_goes_on_in_its_folder(tmp_path, capsys):
    out = tmp_path / "c"
    arguments = ["compare", *TINY, "--methods", "erk,evolution", "--out", str(out)]
    assert main([*arguments, "--seeds", "1"]) == 0
    text = capsys.readouterr().out
    assert [line.split()[2] for line in text.splitlines()[:3]] == ["dense", "evolution", "erk"]
    assert (out / "summary.txt").read_text() in text + "\n"
    assert text.endswith(f"folder: {out}\n")
    assert (out / "comparison.png").read_bytes().startswith(b"\x89PNG")
    rows = rows_of(out)
    spent = {float(row["search_dense_steps"]) for row in rows if row["method"] == "evolution"}
    assert all(2999 < one <= 3000 for one in spent)
    assert main([*arguments, "--seeds", "2"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("seed ")]
    assert [line.split()[1] for line in lines] == ["1", "1", "1"]
    assert [row["ticket"] for row in rows_of(out)][: len(rows)] == [row["ticket"] for row in rows]


def test_without_matplotlib_only_the_figure_of_compare_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    out = tmp_path / "c"
    assert main(["compare", *TINY, "--methods", "erk", "--seeds", "1", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "\ncomparison.png was not drawn: " in text
    assert 'pip install -e ".[plots]"' in text
    assert (out / "summary.txt").read_text() in text + "\n"
    assert not (out / "comparison.png").exists()


def test_compare_has_a_default_folder_and_a_first_seed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = ["compare", *TINY, "--methods", "random", "--seeds", "2", "--first-seed", "5"]
    assert main(arguments) == 0
    assert {row["seed"] for row in rows_of(tmp_path / "runs/compare-xor-mlp100")} == {"5", "6"}


def test_compare_refuses_another_budget_in_its_folder(tmp_path, capsys):
    out = str(tmp_path / "c")
    arguments = ["compare", *TINY, "--methods", "erk", "--seeds", "1", "--out", out]
    assert main(arguments) == 0
    assert main([*arguments, "--budget", "3001"]) == 2
    error = capsys.readouterr().err
    assert "budget = 3001 (there: 3000)" in error
    assert error.startswith("nets-deap: error: ")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--densities", "0.1,x"], "--densities must be numbers: expected 0.1,0.02, got '0.1,x'"),
        (["--densities", "1"], "densities must be in range"),
        (["--methods", "erk,imq"], "Did you mean 'imp'"),
        (["--seeds", "0"], "compare must have work"),
        (["--first-seed", "-1"], "seeds must be in range"),
        (["--budget", "0"], "budget must be in range"),
        (["--set", "recipe.lrr=1"], "Did you mean 'recipe.lr'"),
    ],
)
def test_bad_input_to_compare_is_status_2_and_no_files(
    arguments, text, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *TINY, "--methods", "erk", "--seeds", "1", *arguments]) == 2
    captured = capsys.readouterr()
    assert text in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_preset_without_a_budget_needs_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", *XOR, "--methods", "imp", "--seeds", "1"]) == 2
    assert "--budget must be given" in capsys.readouterr().err
    assert main(["baseline", "imp", *SMALL]) == 2
    assert "--budget must be given" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    # One that the preset has, or gets, will do.
    assert main(["baseline", "one-shot", *SMALL, "--set", "search.budget=17"]) == 0
    assert "search of 17 steps x networks" in capsys.readouterr().out


def test_an_interrupt_of_compare_is_130_and_keeps_what_was_done(tmp_path, monkeypatch, capsys):
    from nets_deap.experiments import compare

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "find", interrupt)
    out = tmp_path / "c"
    assert main(["compare", *TINY, "--methods", "erk", "--seeds", "1", "--out", str(out)]) == 130
    assert [p.name for p in (out / "results").iterdir()] == ["seed0-dense.json"]


# ---- baseline


def test_baseline_list_names_every_method(capsys):
    assert main(["baseline", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(METHODS)
    assert all(method.about in line for method, line in zip(METHODS.values(), lines, strict=True))


@pytest.mark.parametrize("name", ["snip", "imp"])
def test_baseline_writes_tickets_that_load_and_rows_that_name_them(name, tmp_path, capsys):
    out = tmp_path / "b"
    arguments = [*SMALL, "--budget", "60", "--densities", "0.1,0.3", "--seed", "3"]
    assert main(["baseline", name, *arguments, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    rows = rows_of(out)
    assert text.startswith(f"{name}: {METHODS[name].about}; search of {rows[0]['search_steps']} ")
    assert {p.name for p in out.iterdir()} == {
        "rows.csv",
        *(f"{row['ticket']}.safetensors" for row in rows),
    }
    task = nets.tasks.xor(hidden=100, seed=3)
    for line, row in zip(text.splitlines()[3:], rows, strict=True):
        ticket = nets.Ticket.load(out / f"{row['ticket']}.safetensors")
        assert ticket.kept == int(row["kept"]) == int(line.split()[0])
        assert ticket.layout_key == task.layout.key
        assert (row["seed"], row["method"]) == ("3", name)


def test_baseline_without_a_folder_writes_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["baseline", "random", *SMALL, "--budget", "9"]) == 0
    # Of the usual levels the six that the search of this preset reaches: it ends at 1 %.
    assert len(capsys.readouterr().out.splitlines()) == 3 + 6
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["one-shots"], "Did you mean 'one-shot'? See: nets-deap baseline list"),
        (["same-layers"], "name evolution before same-layers"),
        (["imp", "--densities", "0"], "densities must be in range"),
        (["imp", "--densities", "1"], "densities must be in range"),
        (["imp", "--densities", "nan"], "densities must be in range"),
        (["imp", "--densities", "a"], "--densities must be numbers"),
        (["imp", "--budget", "1"], "steps must be in range"),
    ],
)
def test_bad_input_to_baseline_is_status_2(arguments, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name, *more = arguments
    assert main(["baseline", name, *SMALL, "--budget", "60", *more]) == 2
    captured = capsys.readouterr()
    assert text in captured.err
    assert captured.out == ""


def test_a_bad_name_or_level_leaves_no_folder_and_a_full_one_is_kept(tmp_path, capsys):
    out = tmp_path / "b"
    for bad in (["impp"], ["imp", "--densities", "1.5"]):
        assert main(["baseline", *bad, *SMALL, "--budget", "60", "--out", str(out)]) == 2
    assert not out.exists()
    out.mkdir()
    (out / "precious").write_text("x")
    assert main(["baseline", "erk", *SMALL, "--budget", "60", "--out", str(out)]) == 2
    assert "new or empty folder" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["precious"]


# ---- ticket check


def test_ticket_check_prints_the_verdict_and_writes_it(ticket, tmp_path, capsys):
    target = tmp_path / "report.json"
    arguments = ["ticket", "check", ticket, *SMALL, "--seeds", "2", "--steps", "4"]
    arguments += ["--tolerance", "100", "--margin", "20", "--json", str(target)]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    report = json.loads(target.read_text())
    assert text.endswith(f"Verdict: {report['verdict']}\n")
    assert "4 steps from scratch, 2 replicates" in text
    assert (report["steps"], report["tolerance"], report["margin"]) == (4, 1.0, 0.2)
    assert report["density"] == pytest.approx(0.1)
    assert len(report["variants"]["ticket"]["values"]) == 2
    # Four points: the controls would have to lose a whole one in each replicate.
    assert report["winning"] is (report["failures"] == [])


def test_ticket_check_takes_the_presets_steps(ticket, capsys):
    assert main(["ticket", "check", ticket, *SMALL, "--seeds", "2"]) == 0
    assert "3 steps from scratch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--steps", "0"], "steps must be in range"),
        (["--seeds", "1"], "seeds must be in range"),
        (["--tolerance", "101"], "tolerance must be in range"),
        (["--seed", "1"], "ticket must belong to this task"),
        (["--set", "task.hidden=99"], "expected layers layers.0.weight 99x2, layers.1.weight 1x99"),
    ],
)
def test_bad_input_to_ticket_check_is_status_2(ticket, arguments, text, capsys):
    assert main(["ticket", "check", ticket, *SMALL, *arguments]) == 2
    captured = capsys.readouterr()
    assert text in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("content", [None, b"no ticket at all"])
def test_a_file_that_is_not_a_ticket_is_status_2(content, tmp_path, capsys):
    file = tmp_path / "x.safetensors"
    if content is not None:
        file.write_bytes(content)
    assert main(["ticket", "check", str(file), *SMALL]) == 2
    assert "x.safetensors" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_status_2(ticket, tmp_path, capsys):
    target = str(tmp_path / "missing" / "report.json")
    assert main(["ticket", "check", ticket, *SMALL, "--seeds", "2", "--json", target]) == 2
    assert "--json must be writable: cannot write" in capsys.readouterr().err


def test_ticket_needs_a_command_of_its_own(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["ticket"])
    assert stop.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


# ---- ticket compact


@pytest.fixture
def neurons(tmp_path):
    """A file with 10 of 100 neurons of xor-mlp100, seed 0."""
    task = nets.tasks.xor(hidden=100, seed=0, unit="neuron")
    ticket = task.ticket([i % 10 == 0 for i in range(100)])
    return str(ticket.save(tmp_path / "n.safetensors"))


def test_ticket_compact_prints_what_is_saved_and_writes_the_network(neurons, tmp_path, capsys):
    from safetensors import safe_open

    out = str(tmp_path / "small.safetensors")
    assert main(["ticket", "compact", neurons, *SMALL, "--repeats", "1", "--out", out]) == 0
    text, complaint = capsys.readouterr()
    assert complaint.startswith("nets-deap: trains the ticket from W0 for 3 steps first")
    lines = text.splitlines()
    assert lines[0].startswith("Ticket(10 of 100 units 'neuron', 130 of 400 weights")
    assert lines[1].endswith("after 3 steps from W0")
    dense, small = (
        line.split() for line in lines if line.lstrip().startswith(("dense", "compact"))
    )
    assert (dense[1], dense[3]) == ("401", "300")
    assert small[1:3] == ["41", "(9.8x)"]
    assert small[5:7] == ["30", "(10.0x)"]
    assert lines[-1] == f"written: {out}"
    with safe_open(out, framework="pt") as file:
        shapes = {name: tuple(file.get_tensor(name).shape) for name in file.keys()}  # noqa: SIM118
        assert "in_features=10" in file.metadata()["architecture"]
    assert shapes == {"1.weight": (10, 2), "1.bias": (10,), "3.weight": (1, 10), "3.bias": (1,)}


def test_ticket_commands_take_the_unit_from_the_file(neurons, ticket, capsys):
    assert main(["ticket", "check", neurons, *SMALL, "--seeds", "2", "--steps", "2"]) == 0
    [row] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("ticket ")]
    assert row.split()[1] == "32.50"
    assert main(["ticket", "compact", ticket, *SMALL, "--repeats", "1", "--steps", "2"]) == 0
    assert "30 of 300 weights" in capsys.readouterr().out


def test_bad_input_to_ticket_compact_is_status_2(neurons, tmp_path, capsys):
    target = str(tmp_path / "missing" / "a.safetensors")
    few = ["--repeats", "1"]
    assert main(["ticket", "compact", neurons, *SMALL, *few, "--out", target]) == 2
    assert "--out must be writable: cannot write" in capsys.readouterr().err
    assert main(["ticket", "compact", neurons, *SMALL, *few, "--seed", "1"]) == 2
    assert "ticket must belong to this task" in capsys.readouterr().err


def test_units_are_set_like_any_field(tmp_path, capsys):
    out = str(tmp_path / "run")
    arguments = ["run", *XOR, "--generations", "1", "--population", "4", "--out", out]
    assert main([*arguments, "--progress", "none", "--set", "task.unit=neuron"]) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["task"]["unit"] == "neuron"
    file = next((tmp_path / "run" / "tickets").iterdir())
    assert nets.Ticket.load(file).unit == "neuron"
    assert main([*arguments, "--set", "task.unit=neurons"]) == 2
    assert "task.unit must be a known name" in capsys.readouterr().err
