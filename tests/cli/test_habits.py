"""What people try on the command line without reading: ids, slips, several at once."""

import json
import subprocess
import sys
import threading

import pytest
import torch

import nets_deap as nets
from nets_deap import _optional
from nets_deap.cli.main import main
from nets_deap.cli.named import ticket_file
from nets_deap.errors import InvalidValueError, MissingExtraError

QUICK = ["--generations", "1", "--population", "4", "--progress", "none"]
QUICK += ["--set", "recipe.steps=5", "--set", "final.steps=5", "--set", "final.members=2"]


RECIPE = nets.Recipe(steps=3, batch_size=4, lr=0.1, loss="binary_cross_entropy")


def begin(path, **more):
    """A run folder with a search, and the tickets of its front."""
    task = nets.tasks.xor(hidden=5, recipe=RECIPE)
    given = {"population": 4, "generations": 1, "progress": "none", **more}
    return nets.search(task, path=path, **given).front


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("work")
    front = begin(path / "runs" / "one")
    return path, [ticket.digest for ticket in front]


# ---- ids


def test_an_id_names_the_ticket_that_a_table_printed(folder, monkeypatch, capsys):
    path, digests = folder
    monkeypatch.chdir(path)
    digest = digests[0]
    file = f"runs/one/tickets/{digest[:16]}.safetensors"
    for given in (digest[:8], digest[:16], digest, f"runs/one/{digest[:8]}", file):
        assert str(ticket_file("FILE", given)) == file
    monkeypatch.chdir(path / "runs" / "one")
    assert ticket_file("FILE", digest[:8]).exists()
    monkeypatch.chdir(path)
    assert main(["ticket", "show", digest[:8]]) == 0
    assert digest in capsys.readouterr().out
    assert main(["ticket", "diff", digest[:8], digest[:8]]) == 0
    assert "masks: the same" in capsys.readouterr().out


def test_an_id_of_none_or_of_several_tickets_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tickets").mkdir()
    for name in ("abcd" + 12 * "0", "abcd" + 12 * "1"):
        (tmp_path / "tickets" / f"{name}.safetensors").touch()
    with pytest.raises(InvalidValueError, match=r"name one ticket.*0000.*1111"):
        ticket_file("FILE", "abcd")
    assert ticket_file("FILE", "abcd0").name == "abcd000000000000.safetensors"
    with pytest.raises(InvalidValueError, match="none of that id in"):
        ticket_file("FILE", "abcde")
    # No id, but a file that is not there: reading it tells.
    assert str(ticket_file("FILE", "tickets/abc")) == "tickets/abc"


def test_of_two_runs_with_the_same_ticket_the_later_one_is_meant(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for seed in (0, 1):
        place = tmp_path / "runs" / "c" / "tickets" / f"seed{seed}"
        place.mkdir(parents=True)
        (place / f"0{seed}-{16 * 'a'}.safetensors").touch()
    found = ticket_file("FILE", "aaaa")
    assert found.name.endswith("-aaaaaaaaaaaaaaaa.safetensors")
    assert "aaaa is in 2 folders" in capsys.readouterr().err


def test_several_tickets_are_checked_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    task = nets.tasks.xor(hidden=10)
    files = [str(one.save(f"{one.kept}.safetensors", task=task))
             for one in nets.baselines.random_erk(task, [0.5, 0.3]).tickets]  # fmt: skip
    arguments = ["ticket", "check", *files, "--preset", "xor-mlp10", "--seeds", "2"]
    assert main([*arguments, "--steps", "3", "--json", "all.json"]) == 0
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.endswith(".safetensors")] == files
    assert "of 2 are winning tickets" in out
    plain = json.loads((tmp_path / "all.json").read_text())
    assert [plain[file]["steps"] for file in files] == [3, 3]
    assert main(["ticket", "check", files[0], "nothing.safetensors"]) == 2
    assert capsys.readouterr().out == ""


# ---- status


def test_status_lists_the_runs_of_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    begin("runs/a")
    begin("runs/b", max_steps=1)
    (tmp_path / "runs" / "c").mkdir()
    (tmp_path / "runs" / "c" / "config.json").write_text("{")
    for arguments in (["status"], ["status", "runs"]):
        assert main(arguments) == 0
        head, one, two, broken = capsys.readouterr().out.splitlines()
        assert head.split() == ["run", "state", "generation", "time", "left"]
        assert one.split()[:5] == ["runs/a", "finished", "1", "of", "1"]
        assert two.split()[:5] == ["runs/b", "stopped", "0", "of", "1"]
        assert broken.split()[:2] == ["runs/c", "damaged:"]
    assert main(["status", "runs/a"]) == 0
    assert "left" not in capsys.readouterr().out  # nothing is, of a finished one
    assert main(["status", str(tmp_path)]) == 2
    assert "must be a run folder" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["status", "runs"], ["status", "runs/one"], ["--help"]])
def test_what_should_answer_at_once_imports_no_torch(arguments, folder):
    check = (
        "import sys\nfrom nets_deap.cli.main import main\n"
        f"try:\n    main({arguments})\nexcept SystemExit:\n    pass\n"
        "print('torch' in sys.modules)"
    )
    call = [sys.executable, "-c", check]
    done = subprocess.run(call, capture_output=True, text=True, check=True, cwd=folder[0])
    assert done.stdout.splitlines()[-1] == "False"


# ---- slips


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["rn"], "Did you mean 'run'?"),
        (["ticket", "shw", "x"], "Did you mean 'show'?"),
        (["run", "xor-mlp10", "--generation-s", "3"], "Did you mean '--generations'?"),
        (["run", "xor-mlp10", "--progress", "linse"], "Did you mean 'lines'?"),
        (["slurm", "arry", "xor-mlp10"], "Did you mean 'array'?"),
        (
            ["compare", "quickstart", "--generations", "3"],
            "Did you mean --set search.generations=...?",
        ),
        (["compare", "quickstart", "--batch-size=3"], "Did you mean --set recipe.batch_size=...?"),
    ],
)
def test_slips_are_guessed(arguments, text, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert capsys.readouterr().err.rstrip("\n").endswith(text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lr", "got lr. Did you mean 'recipe.lr'?"),
        ("steps", "Did you mean 'recipe.steps' or 'final.steps'?"),
        ("search.lr", "Did you mean 'recipe.lr'?"),
        ("recipe.learning_rate", "Did you mean 'recipe.lr'?"),
        ("pop_size", "Did you mean 'search.population'?"),
        ("recipe.lrr", "Did you mean 'recipe.lr'?"),
        ("populaton", "Did you mean 'search.population'?"),
    ],
)
def test_fields_without_their_section_are_guessed(name, text, capsys):
    assert main(["run", "xor-mlp10", "--set", f"{name}=1"]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert len(error) < 500  # not every field there is


# ---- run


def test_two_that_start_at_once_have_a_folder_each(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    from nets_deap.cli import run as module

    gate, codes = threading.Barrier(2), []
    carry_out = module.carry_out

    def together(*given, **more):
        gate.wait(60)  # both have chosen their folder, neither has written into it
        return carry_out(*given, **more)

    monkeypatch.setattr(module, "carry_out", together)

    def start():
        codes.append(main(["run", "xor-mlp10", *QUICK]))

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0, 0]
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == ["xor-mlp10-seed0", "xor-mlp10-seed0-2"]


def test_threads_are_those_that_torch_uses(monkeypatch, capsys):
    before = torch.get_num_threads()
    try:
        assert main(["describe", "xor-mlp10", "--threads", "2"]) == 0
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert main(["describe", "xor-mlp10", "--threads", "0"]) == 2
    assert "--threads must be in range" in capsys.readouterr().err


# ---- extras


def absent(monkeypatch, *modules):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)


def refuse(*_, **__):
    raise AssertionError("something was trained first")


def test_a_missing_extra_is_told_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    task = nets.tasks.xor(hidden=10)
    file = str(nets.baselines.random_erk(task, 0.5).tickets[0].save("t.safetensors", task=task))
    absent(monkeypatch, "onnxscript", "torch_pruning")
    monkeypatch.setattr(nets.Task, "run", refuse)
    export = ["ticket", "export", file, "--to", "onnx", "--preset", "xor-mlp10", "--out", "t.onnx"]
    baseline = ["baseline", "torch-pruning", "--preset", "xor-mlp10", "--budget", "9"]
    compare = ["compare", "xor-mlp10", "--budget", "9", "--methods", "imp,torch-pruning"]
    for arguments, extra in (
        (export, "onnx"),
        (baseline, "torch-pruning"),
        (compare, "torch-pruning"),
    ):
        assert main(arguments) == 2
        assert f'pip install -e ".[{extra}]"' in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_a_figure_that_cannot_be_drawn_is_told_first(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    absent(monkeypatch, "matplotlib.figure")
    from nets_deap.experiments import run as module

    monkeypatch.setattr(module, "search", refuse)
    with pytest.raises(AssertionError):
        main(["run", "xor-mlp10", *QUICK])
    assert 'pip install -e ".[plots]"' in capsys.readouterr().err


def test_hints_name_a_command_that_works_for_who_has_no_published_package():
    with pytest.raises(
        MissingExtraError, match=r'clone of nets_deap with: pip install -e "\.\[x\]"'
    ):
        _optional.require("no_such_module", "x", "That")
