"""``nets-deap ticket show | diff | apply | export``: what they print and what they write."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import nets_deap as nets
from nets_deap.cli.main import main
from nets_deap.errors import InvalidValueError
from nets_deap.experiments import compacting
from nets_deap.experiments.presets import PRESETS
from nets_deap.models import xor_mlp

PRESET = ["--preset", "xor-mlp10"]


@pytest.fixture
def task():
    return nets.tasks.xor(hidden=10)


@pytest.fixture
def ticket(task):
    return task.ticket(np.arange(30) % 3 == 0)


@pytest.fixture
def path(task, ticket, tmp_path):
    return str(ticket.save(tmp_path / "t.safetensors", task=task))


def run(capsys, *arguments):
    assert main(["ticket", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def rows_of(text):
    return [line.split() for line in text.splitlines()]


def test_show_prints_the_facts_and_the_layers(task, ticket, path, capsys):
    text = run(capsys, "show", path)
    rows = rows_of(text)
    for expected in (
        ["ticket", ticket.digest],
        ["kept", "10", "of", "30", "weights"],
        ["density", "33.333", "%"],
        ["initial_seed", "0"],
        ["fingerprint", task.fingerprint],
    ):
        assert expected in rows
    assert ["layers.0.weight", "10x2", "7", "20", "35.000", "%"] in rows
    assert ["layers.1.weight", "1x10", "3", "10", "30.000", "%"] in rows
    assert "name xor" in text
    assert "optimizer adam" in " ".join(text.split())
    assert max(len(line) for line in text.splitlines()) <= 89  # "digest", and one of 64
    measured = nets.make_toolbox(task, inherit="none").population(n=1, low=1 / 3, high=1 / 3)[0]
    measured.fitness.values = 0.25, measured.density
    text = run(capsys, "show", measured.save(path))
    assert ["density", "33.333", "%"] in rows_of(text)
    assert ["val_loss", "0.25"] in rows_of(text)


def test_diff_counts_what_both_keep(task, path, tmp_path, capsys):
    other = str(task.ticket(np.arange(30) % 2 == 0).save(tmp_path / "o"))
    text = run(capsys, "diff", path, other)
    assert text.startswith("initial weights: the same\nmasks: not the same\n")
    rows = rows_of(text)
    assert ["layers.0.weight", "7", "10", "4", f"{4 / 13:.4f}"] in rows
    assert ["all", "10", "15", "5", "0.2500"] in rows
    assert "masks: the same" in run(capsys, "diff", path, path)


def test_diff_refuses_other_layers(path, tmp_path, capsys):
    other = nets.tasks.xor(hidden=9).dense_ticket().save(tmp_path / "o")
    assert main(["ticket", "diff", path, str(other)]) == 2
    assert "OTHER must be a ticket over the same layers" in capsys.readouterr().err


@pytest.mark.parametrize("own", [False, True])
def test_apply_writes_the_masked_initial_weights(task, ticket, path, tmp_path, capsys, own):
    out = tmp_path / "masked.safetensors"
    source = PRESET
    if own:
        save_file(task.model.state_dict(), tmp_path / "w0.safetensors")
        source = ["--weights", tmp_path / "w0.safetensors"]
    run(capsys, "apply", path, *source, "--out", out)
    expected = ticket.apply(task.model).state_dict()
    got = load_file(out)
    assert set(got) == set(expected)
    assert all(torch.equal(got[name], expected[name]) for name in expected)


def test_apply_refuses_what_is_not_w0(tmp_path, capsys):
    model = xor_mlp(10, seed=91)
    path = nets.Ticket(np.ones(30), nets.MaskLayout.of(model)).save(tmp_path / "t")
    save_file(xor_mlp(10, seed=92).state_dict(), tmp_path / "other")
    torch.save(model.state_dict(), tmp_path / "w0.pt")
    out = tmp_path / "out"
    for weights, text in (
        ("other", "model must hold the ticket's initial weights"),
        ("missing", "--weights must be readable"),
        ("w0.pt", "Write one by safetensors.torch.save_file"),
        ("t", "layer must be a known name"),
    ):
        arguments = ["apply", path, "--weights", tmp_path / weights, "--out", out]
        assert main(["ticket", *map(str, arguments)]) == 2
        assert text in capsys.readouterr().err
    assert not out.exists()


class Decides(nn.Sequential):
    def forward(self, x):
        return super().forward(x if x.sum() > -1e9 else -x)


def test_what_cannot_be_compacted_is_told_before_training_or_measured_whole(task, monkeypatch):
    x, y = task.problem.train
    other = nets.Task(Decides(nn.Linear(2, 1), nn.Flatten(0)), train=(x, y[:, 0]), val=(x, y[:, 0]),
                      loss="mse", recipe=task.recipe, engine="loop")  # fmt: skip
    ticket = other.ticket([1, 0])
    report = compacting.compact(other, ticket, steps=1, repeats=2, needed=False)
    assert set(report.footprints) == {"dense", "csr"}
    assert torch.equal(report.module(x), report.trained.module()(x))
    monkeypatch.setattr(nets.Task, "run", None)
    with pytest.raises(InvalidValueError, match="module must be one that can be followed"):
        compacting.compact(other, ticket, steps=1)


@pytest.mark.parametrize(
    "command",
    [
        ["compact", "--out"],
        ["check", "--json"],
        *(["export", "--to", to, "--out"] for to in ("onnx", "csr", "prune", "masks")),
    ],
)
def test_a_missing_folder_is_told_before_any_training(path, tmp_path, capsys, monkeypatch, command):
    monkeypatch.setattr(nets.Task, "run", None)
    arguments = [command[0], path, *PRESET, *command[1:], tmp_path / "none" / "file"]
    assert main(["ticket", *map(str, arguments)]) == 2
    assert f"there is no folder {tmp_path / 'none'}" in capsys.readouterr().err


def test_masks_are_exported_by_name(ticket, path, tmp_path, capsys):
    run(capsys, "export", path, "--to", "masks", "--out", tmp_path / "m.npz")
    with np.load(tmp_path / "m.npz") as masks:
        assert nets.Ticket.from_masks(dict(masks), ticket.layout) == ticket


def test_the_prune_export_loads_into_a_pruned_model(task, ticket, path, tmp_path, capsys):
    run(capsys, "export", path, "--to", "prune", *PRESET, "--out", tmp_path / "p")
    model = task.dense_ticket().apply(xor_mlp(10, seed=5), "prune", values="initial")
    model.load_state_dict(load_file(tmp_path / "p"))
    assert nets.Ticket.from_pruned(model) == ticket


def test_sparse_rows_are_exported_with_what_they_cost(task, ticket, path, tmp_path, capsys):
    arguments = (*PRESET, "--steps", 5, "--repeats", 2, "--out", tmp_path / "c")
    text = run(capsys, "export", path, "--to", "csr", *arguments)
    trained = task.train(ticket, steps=5).module()
    rows = {row[0]: row for row in rows_of(text) if row}
    assert rows["csr"][1] == "21"  # 10 weights, 11 biases
    assert int(rows["dense"][1]) == 41
    tensors = load_file(tmp_path / "c")
    assert sum(t.numel() for n, t in tensors.items() if n.endswith("values")) == 10
    small = ticket.to_csr(trained)
    assert set(small.state_dict()) == set(tensors)
    assert all(torch.equal(tensors[n], t) for n, t in small.state_dict().items())


def test_onnx_is_exported_and_checked(path, tmp_path, capsys):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    arguments = (*PRESET, "--steps", 5, "--repeats", 2, "--out", tmp_path / "n.onnx")
    text = run(capsys, "export", path, "--to", "onnx", *arguments)
    assert "onnxruntime's outputs differ from torch's by at most" in text
    session = runtime.InferenceSession(tmp_path / "n.onnx", providers=["CPUExecutionProvider"])
    assert session.run(None, {"input": np.zeros((3, 2), np.float32)})[0].shape[0] == 3


@pytest.mark.parametrize("what", ["masks", "prune"])
def test_places_that_cannot_be_written_are_refused(path, tmp_path, capsys, what):
    arguments = ["export", path, "--to", what, *PRESET, "--out", tmp_path / "missing" / "m"]
    assert main(["ticket", *map(str, arguments)]) == 2
    assert "--out must be writable" in capsys.readouterr().err


def test_names_from_a_file_do_not_steer_the_terminal(tmp_path, capsys):
    layout = nets.MaskLayout([("a\x1b[2J\nb", (2, 3))], np.zeros(6, dtype=np.float32))
    ticket = nets.Ticket(np.ones(6, dtype=bool), layout)
    ticket.origin = {"data": "x\x1b]0;title\x07"}
    file = str(ticket.save(tmp_path / "t.safetensors"))
    for words in (["show", file], ["diff", file, file]):
        assert main(["ticket", *words]) == 0
        said = capsys.readouterr().out
        assert not {"\x1b", "\x07"} & set(said)
        assert "a?[2J?b" in said


# ---- the settings that it was found with

SET = [
    "--seed",
    "3",
    "--set",
    "task.hidden=12",
    "--set",
    "recipe.lr=0.02",
    "--set",
    "task.noise=0.2",
]
QUICK = ["--set", "search.population=4", "--set", "search.generations=2", "--set", "final.steps=7"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A run and a comparison that were set to another width, recipe, seed and data."""
    root = tmp_path_factory.mktemp("found")
    run_ = ["run", "xor-mlp10", *SET, *QUICK, "--progress", "none", "--out", str(root / "run")]
    assert main(run_) == 0
    settings = [*SET[2:], *QUICK, "--budget", "600", "--densities", "0.5", "--out"]
    more = ["--methods", "evolution", "--first-seed", "3", "--seeds", "1"]
    assert main(["compare", "xor-mlp10", *settings, str(root / "comparison"), *more]) == 0
    return root


def found_task():
    recipe = nets.Recipe(**{**PRESETS["xor-mlp10"].recipe.as_dict(), "lr": 0.02})
    return nets.tasks.xor(hidden=12, noise=0.2, seed=3, recipe=recipe, device="cpu")


@pytest.fixture(params=["run", "comparison"])
def found(request, folders):
    """A ticket's file, where it was found."""
    return sorted((folders / request.param / "tickets").rglob("*.safetensors"))[0]


def test_a_ticket_in_its_folder_is_trained_as_it_was_found(found, tmp_path, capsys):
    task, ticket = found_task(), nets.Ticket.load(found)
    assert ticket.origin["data"]["digest"] == task.data_digest
    run(capsys, "apply", found, "--out", tmp_path / "a")
    expected = ticket.apply(task.model).state_dict()
    assert {n: t.tolist() for n, t in load_file(tmp_path / "a").items()} == {
        n: t.tolist() for n, t in expected.items()
    }
    text = run(capsys, "export", found, "--to", "csr", "--repeats", "1", "--out", tmp_path / "c")
    assert "after 7 steps from W0" in text
    small = ticket.to_csr(task.train(ticket, steps=7).module()).state_dict()
    for name, tensor in load_file(tmp_path / "c").items():
        torch.testing.assert_close(tensor, small[name])
    run(capsys, "compact", found, "--repeats", "1", "--out", tmp_path / "s")
    compacted = ticket.compact(task.train(ticket, steps=7).module()).state_dict()
    for name, tensor in load_file(tmp_path / "s").items():
        torch.testing.assert_close(tensor, compacted[name])
    text = run(capsys, "check", found, "--seeds", "2", "--tolerance", "100")
    assert "7 steps from scratch" in text
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ([], "expected layers layers.0.weight 10x2"),
        (["--set", "task.hidden=12"], "expected W0 of SHA-256"),
    ],
)
@pytest.mark.parametrize("command", ["check", "compact", "csr", "apply"])
def test_a_ticket_elsewhere_is_not_taken_for_another(
    found, command, settings, text, tmp_path, capsys, monkeypatch
):
    monkeypatch.setitem(PRESETS, "lenet-mnist", PRESETS["xor-mlp10"])
    alone = str(shutil.copy(found, tmp_path / "alone.safetensors"))
    words = [command, alone] if command != "csr" else ["export", alone, "--to", "csr"]
    words += ["--out", str(tmp_path / "out")] if command in ("apply", "csr") else []
    assert main(["ticket", *words, *settings]) == 2
    assert f"ticket must belong to this task: {text}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_other_data_and_another_recipe_are_refused_unless_named(
    folders, tmp_path, capsys, monkeypatch
):
    # The same layers and W0 by themselves; data and recipe by default.
    monkeypatch.setitem(
        PRESETS, "lenet-mnist", PRESETS["xor-mlp10"].override({"task.hidden": 12, "seed": 3})
    )
    file = sorted((folders / "run" / "tickets").iterdir())[0]
    alone = shutil.copy(file, tmp_path / "alone.safetensors")
    words = ["compact", str(alone), "--steps", "2", "--repeats", "1"]
    assert main(["ticket", *words]) == 2
    error = capsys.readouterr().err
    assert "the data and the recipe that it was found with, got data 'xor', SHA-256" in error
    assert "recipe.lr 0.02, not 0.05" in error
    assert main(["ticket", *words, "--set", "task.noise=0.2"]) == 0
    error = capsys.readouterr().err
    assert "warning: the ticket was found on another task: recipe.lr 0.02, not 0.05" in error
    assert "data" not in error.partition("warning")[2].partition("\n")[0]
    assert main(["ticket", *words, "--set", "task.noise=0.2", "--set", "recipe.lr=0.02"]) == 0
    assert "warning" not in capsys.readouterr().err


def test_a_folder_made_in_python_has_no_settings(task, tmp_path, capsys, monkeypatch):
    found = nets.search(
        task, path=tmp_path / "run", population=4, generations=1, progress="none", inherit="none"
    )
    assert found.path is not None
    file = sorted((tmp_path / "run" / "tickets").iterdir())[0]
    run(capsys, "apply", file, *PRESET, "--out", tmp_path / "a")
    monkeypatch.setitem(PRESETS, "lenet-mnist", PRESETS["xor-mlp100"])
    assert main(["ticket", "apply", str(file), "--out", str(tmp_path / "b")]) == 2
    assert "expected layers layers.0.weight 100x2" in capsys.readouterr().err


def test_a_damaged_configuration_is_not_passed_over(found, folders, tmp_path, capsys):
    root = shutil.copytree(
        found.parents[1 if found.parent.name == "tickets" else 2], tmp_path / "r"
    )
    (root / ("config.json" if (root / "config.json").exists() else "comparison.json")).write_text(
        "["
    )
    file = sorted((root / "tickets").rglob("*.safetensors"))[0]
    assert main(["ticket", "apply", str(file), "--out", str(tmp_path / "a")]) == 2
    assert "does not hold what a run writes" in capsys.readouterr().err


# ---- what a suffix promises


def loaded(file):
    suffix = file.suffix.lower()
    if suffix == ".npz":
        with np.load(file) as arrays:
            return {name: torch.from_numpy(array) for name, array in arrays.items()}
    return torch.load(file) if suffix in (".pt", ".pth") else load_file(file)


TARGETS = [
    *(("masks", name) for name in ("m.npz", "m.safetensors", "m.pt", "m.PTH")),
    *(("prune", name) for name in ("p.safetensors", "p.pt", "p.pth", "p")),
    *(("apply", name) for name in ("a.safetensors", "a.pt", "a")),
    *(("csr", name) for name in ("c.safetensors", "c.pt")),
    *(("compact", name) for name in ("s.safetensors", "s.pt")),
]


def words_of(what, path):
    few = ["--steps", "2", "--repeats", "1", *PRESET]
    return {
        "masks": ["export", path, "--to", "masks"],
        "prune": ["export", path, "--to", "prune", *PRESET],
        "apply": ["apply", path, *PRESET],
        "csr": ["export", path, "--to", "csr", *few],
        "onnx": ["export", path, "--to", "onnx", *few],
        "compact": ["compact", path, *few],
    }[what]


@pytest.mark.parametrize(("what", "name"), TARGETS)
def test_a_file_is_what_its_suffix_promises(task, ticket, path, tmp_path, capsys, what, name):
    out = tmp_path / name
    assert f"written: {out}\n" in run(capsys, *words_of(what, path), "--out", out)
    found = loaded(out)
    trained = task.train(ticket, steps=2).module() if what in ("csr", "compact") else None
    expected = {
        "masks": ticket.masks,
        "prune": lambda: ticket.apply(task.model, "prune").state_dict(),
        "apply": lambda: ticket.apply(task.model).state_dict(),
        "csr": lambda: ticket.to_csr(trained).state_dict(),
        "compact": lambda: ticket.compact(trained).state_dict(),
    }[what]()
    assert set(found) == set(expected)
    for each, tensor in expected.items():
        torch.testing.assert_close(found[each], tensor)


OTHERS = [
    *(("masks", suffix) for suffix in (".onnx", ".bin")),
    *(
        (what, suffix)
        for what in ("prune", "apply", "csr", "compact")
        for suffix in (".npz", ".h5")
    ),
    *(("onnx", suffix) for suffix in (".pt", ".npz", ".safetensors")),
]


@pytest.mark.parametrize(("what", "suffix"), OTHERS)
def test_what_a_suffix_does_not_promise_is_not_written(path, tmp_path, capsys, what, suffix):
    out = tmp_path / f"x{suffix}"
    assert main(["ticket", *words_of(what, path), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "--out must name a format that is written: expected the suffix ." in error
    assert "trains" not in error
    assert not out.exists()


def test_weights_that_are_not_w0_need_a_word(task, ticket, tmp_path, capsys):
    file = str(ticket.save(tmp_path / "t.safetensors", include_initial=True))
    trained = task.train(task.dense_ticket(), steps=3).module().state_dict()
    save_file(trained, tmp_path / "trained.safetensors")
    words = ["--weights", str(tmp_path / "trained.safetensors"), "--out", str(tmp_path / "o.pt")]
    for command in (["apply", file], ["export", file, "--to", "prune"]):
        assert main(["ticket", *command, *words]) == 2
        assert "values must say which weights are meant" in capsys.readouterr().err
        for values, source in (("own", trained), ("initial", task.model.state_dict())):
            run(capsys, *command, *words, "--values", values)
            found = torch.load(tmp_path / "o.pt")
            for name, mask in ticket.masks().items():
                if command[0] == "apply":
                    assert torch.equal(found[name], torch.where(mask, source[name], 0))
                else:
                    assert torch.equal(found[f"{name}_orig"], source[name])
                    assert torch.equal(found[f"{name}_mask"].bool(), mask)


# ---- home


def test_home_is_home(task, ticket, tmp_path, capsys, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(tmp_path)
    ticket.save("~/t.safetensors", task=task)
    ticket.save_pretrained("~/card")
    assert nets.Ticket.from_pretrained("~/card") == nets.Ticket.load("~/t.safetensors") == ticket
    run(capsys, "show", "~/t.safetensors")
    run(capsys, "apply", "~/t.safetensors", *PRESET, "--out", "~/a.safetensors")
    run(capsys, "apply", "~/t.safetensors", "--weights", "~/a.safetensors", "--out", "~/b.pt")
    run(
        capsys, "check", "~/t.safetensors", *PRESET, "--seeds", "2", "--steps", "2", "--json", "~/r"
    )
    few = ["--generations", "1", "--population", "4", "--progress", "none"]
    few += ["--set", "final.steps=2"]
    assert main(["run", "xor-mlp10", "--out", "~/run", *few]) == 0
    assert main(["status", "~/run"]) == 0
    found = sorted((home / "run" / "tickets").iterdir())[0].name
    run(capsys, "apply", f"~/run/tickets/{found}", "--out", "~/c")
    assert main(["plot", "~/run", "--kind", "front", "--out", "~/figures"]) == 0
    assert main(["report", "~/run", "--out", "~/page.html"]) == 0
    search = {"population": 4, "generations": 1, "progress": "none"}
    nets.search(task, path="~/python", **search, inherit="none")
    nets.resume("~/python", task=task, generations=2, progress="none").recorder.close()
    nets.Recorder("~/recorded", task=task, progress="none").close()
    names = {"t.safetensors", "card", "a.safetensors", "b.pt", "r", "run", "c", "figures"}
    assert {entry.name for entry in home.iterdir()} == names | {"page.html", "python", "recorded"}
    assert [entry.name for entry in Path().iterdir()] == ["home"]
    with pytest.raises(ValueError, match=r"path must begin in a home folder: .* got ~nobody-here"):
        ticket.save("~nobody-here/t.safetensors")
    with pytest.raises(TypeError, match=r"path must be a path: expected text or a pathlib\.Path"):
        ticket.save(3)


@pytest.mark.parametrize("command", ["apply", "check"])
def test_a_ticket_of_ones_own_is_not_taken_for_a_presets(command, tmp_path, capsys, monkeypatch):
    net = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    x, y = torch.randn(80, 5), torch.arange(80) % 2
    task = nets.Task(net, train=(x[:60], y[:60]), val=(x[60:], y[60:]))
    task.dense_ticket().save(tmp_path / "own.safetensors", task=task)
    out = ["--out", str(tmp_path / "out")] if command == "apply" else []
    monkeypatch.setenv("NETS_DEAP_DATA", str(tmp_path))  # no data is looked for
    assert main(["ticket", command, str(tmp_path / "own.safetensors"), *out]) == 2
    error = capsys.readouterr().err
    assert "ticket must belong to this task: expected layers 300x784" in error
    assert "got 4x5, 2x4. Name its preset" in error
