"""``nets-deap ticket show | diff | apply | export``: what they print and what they write."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import nets_deap as nets
from nets_deap.cli.main import main
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
    assert '"name": "xor"' in text


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
    out = tmp_path / "out"
    for weights, text in (
        ("other", "model must hold the ticket's initial weights"),
        ("missing", "--weights must be readable"),
        ("t", "layer must be a known name"),
    ):
        arguments = ["apply", path, "--weights", tmp_path / weights, "--out", out]
        assert main(["ticket", *map(str, arguments)]) == 2
        assert text in capsys.readouterr().err
    assert not out.exists()


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
