"""What a ticket file tells, older files, and the same accuracy in another process."""

import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import nets_deap as nets
from nets_deap.tickets import files as ticket_files


def description_of(path):
    with safe_open(str(path), framework="np") as file:
        return json.loads(file.metadata()["nets_deap"])


def rewrite(path, **change):
    """Change the description of a file, None for a field that goes; the checksum is right."""
    with safe_open(str(path), framework="np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    found = {**description_of(path), **change}
    text = json.dumps({name: value for name, value in found.items() if value is not None})
    checksum = ticket_files._checksum(tensors, text)
    save_file(tensors, path, metadata={"nets_deap": text, "sha256": checksum})


def test_a_file_tells_where_the_ticket_comes_from(xor_task, tmp_path):
    ticket = xor_task.dense_ticket()
    path = ticket.save(tmp_path / "a", task=xor_task)
    back = nets.Ticket.load(path)
    assert back.origin == {
        "initial_seed": 0,
        "model_digest": xor_task.model_digest,
        "data": {"name": "xor", "digest": xor_task.data_digest},
        "recipe": json.loads(json.dumps(xor_task.recipe.as_dict())),
        "seed": 0,
        "fingerprint": xor_task.fingerprint,
        "generation": None,
        "versions": back.origin["versions"],
        "parents": [],
    }
    assert set(back.origin["versions"]) == {
        "nets_deap", "python", "deap", "moocore", "numpy", "torch"
    }  # fmt: skip
    back.save(tmp_path / "b")
    assert description_of(tmp_path / "b") == description_of(path)


def test_the_seed_of_a_callers_own_model_is_not_known(xor_task):
    x, y = (part.cpu() for part in xor_task.problem.train[:2])
    task = nets.Task(xor_task.model, train=(x, y), val=(x, y), recipe=xor_task.recipe, seed=3)
    assert task.initial_seed is None
    assert nets.tasks.xor(hidden=4, seed=3).initial_seed == 3


def test_another_mask_has_no_origin(xor_task, tmp_path):
    ticket = xor_task.dense_ticket()
    ticket.save(tmp_path / "a", task=xor_task)
    child = copy.deepcopy(ticket)
    assert child.origin == ticket.origin
    assert pickle.loads(pickle.dumps(child)).origin == ticket.origin
    child[0] = 0
    assert not child.origin
    assert ticket.origin


def test_a_recorder_notes_the_generation(xor_task, tmp_path):
    toolbox = nets.make_toolbox(xor_task, inherit="none")
    recorder = nets.Recorder(tmp_path / "run", task=xor_task, progress="none")
    population = [xor_task.dense_ticket(), xor_task.ticket(np.arange(12) < 6)]
    measured = toolbox.map(toolbox.evaluate, population)
    for ticket, values in zip(population, measured, strict=True):
        ticket.fitness = toolbox.individual().fitness
        ticket.fitness.values = values
    recorder.compile(population[:1])
    recorder.compile(population)
    files = sorted((tmp_path / "run" / "tickets").iterdir())
    assert {t.kept: t.origin["generation"] for t in map(nets.Ticket.load, files)} == {12: 0, 6: 1}


@pytest.mark.parametrize("schema", [1, 2])
def test_files_of_older_schemas_are_read(xor_task, tmp_path, schema):
    task = xor_task if schema == 1 else nets.tasks.xor(hidden=4, unit="neuron")
    ticket = task.ticket(np.arange(task.layout.size) % 2)
    path = ticket.save(tmp_path / "a", task=task)
    rewrite(path, schema=schema, origin=None, **({"unit": None} if schema == 1 else {}))
    assert set(description_of(path)) == {
        "schema", "size", "layers", "initial_digest", "digest", "density",
        *(("unit", "tiles", "ties") if schema == 2 else ()),
    }  # fmt: skip
    back = nets.Ticket.load(path)
    assert back == ticket
    assert back.origin == {}


def test_unknown_fields_are_read_past(xor_task, tmp_path):
    path = xor_task.dense_ticket().save(tmp_path / "a", task=xor_task)
    rewrite(path, later={"a": 1}, origin={"generation": 3, "later": 2})
    assert nets.Ticket.load(path).origin == {"generation": 3, "later": 2}


CODE = """
import sys
import nets_deap as nets
import torch
torch.set_num_threads(1)
task = nets.tasks.lenet(dataset="mnist5k", seed=2, device="cpu")
ticket = nets.Ticket.load(sys.argv[1])
trained = task.train(ticket, steps=40)
x, y = (part.cpu() for part in task.problem.test[:2])
ways = []
for how in ("inplace", "prune", "parametrize"):
    model = ticket.apply(task.model, how).eval()
    ways.append(torch.nn.functional.cross_entropy(model(x), y).item().hex())
print(trained.test_accuracy.hex(), trained.test_loss.hex(), *ways)
"""


@pytest.mark.slow
def test_the_same_numbers_to_the_last_digit_in_fresh_processes(tmp_path):
    task = nets.tasks.lenet(dataset="mnist5k", seed=2, device="cpu")
    mask = np.random.default_rng(5).random(task.layout.size) < 0.1
    path = task.ticket(mask).save(tmp_path / "t.safetensors", task=task)
    assert path.stat().st_size < 36_000  # 33,275 bytes of bits
    lines = [
        subprocess.run(
            [sys.executable, "-c", CODE, str(path)], capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    trained = task.train(task.ticket(mask), steps=40)
    assert lines[0] == lines[1]
    assert lines[0][:2] == [trained.test_accuracy.hex(), trained.test_loss.hex()]
    assert len(set(lines[0][2:])) == 1
