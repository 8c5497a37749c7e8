"""``Task``: what it refuses, what it trains, and what identifies it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from nets_deap import Recipe, Task, Ticket
from nets_deap.data.normalize import Normalize
from nets_deap.errors import InvalidTypeError, InvalidValueError

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 24)
IMAGES = (RNG.normal(size=(24, 2, 6)) + LABELS[:, None, None]).astype(np.float32)
RECIPE = Recipe(lr=0.01, batch_size=8, steps=12)
PARTS = {"train": slice(0, 16), "val": slice(16, None), "test": slice(12, None)}
DATA = {name: (IMAGES[part], LABELS[part]) for name, part in PARTS.items()}


class Net(nn.Module):
    """A convolution with normalisation, a buffer that no state dict holds, and a dropout."""

    def __init__(self, seed=0, change=lambda model: None):
        super().__init__()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            self.conv, self.norm, self.head = (
                nn.Conv1d(2, 4, 3),
                nn.BatchNorm1d(4),
                nn.Linear(16, 3),
            )
            self.drop = nn.Dropout(0.1)
            self.register_buffer("shift", torch.zeros(()), persistent=False)
            change(self)

    def forward(self, x):
        if self.training:
            self.shift.add_(0.01)
        hidden = self.drop(torch.relu(self.norm(self.conv(x))))
        return self.head(hidden.flatten(1)) + self.shift * x[:, :1, 0]


class Pair(nn.Sequential):
    """A module whose forward returns a pair."""

    def forward(self, x):
        return super().forward(x), 1


def make_task(model=None, **changes):
    """Return a small task on the CPU."""
    options = {**DATA, "recipe": RECIPE, "device": "cpu", **changes}
    return Task(Net() if model is None else model, **options)


def half(task):
    """Return a ticket that keeps every second weight."""
    return task.ticket(np.arange(task.layout.size) % 2 == 0)


# ---- what it refuses


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "net"}, r"model must be a module: expected a torch\.nn\.Module, got str"),
        (
            {"model": Pair(nn.Conv1d(2, 3, 6))},
            r"model must return one tensor for cross_entropy: .*, got tuple\. What has several",
        ),
        ({"model": nn.LayerNorm(6)}, r"maskable must select weights: expected a module with at"),
        ({"model": Net().requires_grad_(False)}, r"model must have parameters to train: .*none"),
        ({"maskable": "haed.weight"}, r"maskable must be a known name: .*mean 'head\.weight'\?"),
        ({"maskable": ["head.*", "layer*"]}, r"maskable must be a known name: .*got 'layer\*'"),
        ({"maskable": lambda name, p: False}, r"maskable must select weights: .*Let the predicate"),
        ({"recipe": {"lr": 0.1}}, r"recipe must be a recipe: expected a nets\.Recipe, got dict"),
        ({"recipe": Recipe()}, r"recipe\.batch_size must fit .* at most N = 16, got 60"),
        ({"loss": "crossentropy"}, r"recipe\.loss must be a known name: .*mean 'cross_entropy'"),
        ({"loss": "mse"}, r"train targets must match the output: expected \(3,\), got \(\)"),
        ({"seed": -1}, r"seed must be in range: expected an int >= 0, got -1"),
        ({"chunk": 0}, r"chunk must be in range: expected an int >= 1, got 0"),
        ({"engine": "vmapp"}, r"engine must be a known name: .*Did you mean 'vmap'\?"),
        ({"device": "gpu"}, r"device must be a device: expected 'auto', 'cpu', .*got gpu"),
        ({"device": "meta"}, r"device must be supported: expected 'auto', 'cpu' or 'cuda'"),
        ({"device": "cuda:99"}, r"device must be there: .*got cuda:99\. Use device='cpu'"),
        ({"train": IMAGES}, r"train must be a data set: .*got ndarray"),
        ({"train": (IMAGES, LABELS[:5])}, r"train targets must have the right length"),
        ({"val": (IMAGES[:0], LABELS[:0])}, r"val must hold examples: expected N >= 1"),
        ({"val": (IMAGES.astype("i8"), LABELS)}, r"val inputs must fit the model"),
        ({"val": (IMAGES, LABELS + 1)}, r"val targets must be in range: expected \[0, C = 3\)"),
        ({"test": (IMAGES, LABELS * 1.0)}, r"test targets must be class indices"),
        ({"test": (IMAGES[:, :1], LABELS)}, r"test inputs must .*\(24, 1, 6\)\. The model said: "),
        ({"normalize": 0.5}, r"normalize must be a pair: .*got float"),
        ({"normalize": (0.5, 0)}, r"normalize\.std must be in range"),
        ({"normalize": (0.5, 1.0)}, r"train inputs must be images of bytes: .*uint8.*got float32"),
        ({"train": (IMAGES.astype("u1"), LABELS)}, r"train inputs .*Images of bytes need normaliz"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make_task(**changes)


@pytest.mark.parametrize(("mean", "std"), [(0.3, 0.5), ((0.3, 0.1), (0.5, 2.0))])
def test_bytes_train_as_the_numbers_they_stand_for(mean, std):
    pixels = np.random.default_rng(3).integers(0, 256, IMAGES.shape).astype(np.uint8)
    numbers = Normalize(mean, std)(torch.from_numpy(pixels), torch.float32).numpy()
    data = {"train": slice(16), "val": slice(16, 24), "test": slice(12)}

    def task(images, **more):
        return make_task(**{n: (images[p], LABELS[p]) for n, p in data.items()}, **more)

    as_bytes, as_numbers = task(pixels, normalize=(mean, std)), task(numbers)
    for split in data:
        ours, theirs = getattr(as_bytes.problem, split)[0], getattr(as_numbers.problem, split)[0]
        assert torch.equal(ours, theirs)
    results = [one.train(half(one)) for one in (as_bytes, as_numbers)]
    assert results[0].test_loss == results[1].test_loss
    assert json.loads(json.dumps(as_bytes.as_dict()))["normalize"] is not None
    assert as_numbers.as_dict()["normalize"] is None
    assert task(pixels, normalize=(0.5, 0.5)).fingerprint != as_bytes.fingerprint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {
                "train": (IMAGES.astype("u1"), LABELS),
                "normalize": ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0)),
            },
            r"train inputs must have the channels of normalize: .*\(N, 3, \.\.\.\)",
        ),
    ],
)
def test_bad_images(changes, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make_task(**changes)


def test_cuda_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"one of 0 CUDA devices, got cuda\. Use device='cpu'"):
        make_task(device="cuda")
    assert make_task(device="auto").device.type == "cpu"


@pytest.mark.parametrize(
    ("ticket", "message"),
    [
        (lambda: [1, 0], r"ticket must be a ticket: expected a nets\.Ticket, got list"),
        (lambda: Ticket([1, 0]), r"ticket must belong to this task: .*layout none of 2"),
        (lambda: half(make_task(Net(1))), r"belong to this task: .*Make it with this task"),
        (lambda: half(make_task(maskable="head.weight")), r"belong to this task: .*of 48"),
    ],
)
def test_foreign_tickets(ticket, message):
    task = make_task()
    with pytest.raises((ValueError, TypeError), match=message):
        task.train_all([half(task), ticket()])
    assert task.ledger.networks == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [({"steps": 0}, r"steps must be in"), ({"seed": -1}, r"seed must"), ({"seed": 2**63}, r"seed")],
)
def test_bad_arguments_of_train(options, message):
    task = make_task()
    with pytest.raises(ValueError, match=message):
        task.train(half(task), **options)


# ---- what it trains


def test_all_kinds_of_data_give_the_same_task():
    tensors = {n: (torch.tensor(x), torch.tensor(y)) for n, (x, y) in DATA.items()}
    sets = {n: TensorDataset(*pair) for n, pair in tensors.items()}
    made = [make_task(), make_task(**tensors), make_task(**sets)]
    assert len({task.fingerprint for task in made}) == 1
    assert len({task.train(half(task)).val_loss for task in made}) == 1


@pytest.mark.parametrize("engine", ["vmap", "loop"])
def test_the_module_of_a_result_reproduces_its_numbers(engine):
    task = make_task(engine=engine)
    ticket, target = half(task), torch.tensor(DATA["test"][1])
    result = task.train(ticket)
    model = result.module()
    assert result.module() is not model
    assert not model.training
    with torch.no_grad():
        output = model(torch.tensor(DATA["test"][0]))
    assert result.test_accuracy == float((output.argmax(1) == target).double().mean())
    assert result.test_loss == pytest.approx(float(F.cross_entropy(output, target)), rel=1e-6)
    weights = [p.detach().ravel() for n, p in model.named_parameters() if n in task.layout.names]
    flat = np.concatenate(weights)
    np.testing.assert_array_equal(flat != 0, ticket.mask)
    assert not np.allclose(flat[ticket.mask], task.layout.require_initial()[ticket.mask])
    assert float(model.shift) == pytest.approx(0.12)
    assert "tensor" not in repr(result)


def test_results_come_in_order_with_steps_and_seed_as_asked():
    task = make_task()
    assert len(task.dense_ticket()) == task.layout.size == 2 * 4 * 3 + 16 * 3
    done, tickets = [], [task.dense_ticket(), half(task)]
    results = task.train_all(tickets, on_chunk=done.append)
    assert sum(done) == 2
    assert [(r.density, r.steps) for r in results] == [(1.0, 12), (0.5, 12)]
    assert results[1].val_loss == pytest.approx(task.train(tickets[1]).val_loss, rel=1e-5)
    assert task.train_all(tickets) == results
    one, same, other = (task.train(tickets[0], steps=5, seed=s) for s in (1, 1, 2))
    assert one == same != other
    assert one.steps == 5
    assert task.train_all([]) == []
    with pytest.raises(InvalidTypeError, match=r"a list of nets.Ticket, got object"):
        task.train_all(object())
    assert (task.ledger.networks, task.ledger.network_steps) == (2 + 1 + 2 + 3, 5 * 12 + 3 * 5)


def test_without_test_data_there_are_no_test_numbers():
    task = make_task(test=None)
    result = task.train(half(task))
    assert np.isnan([result.test_loss, result.test_accuracy]).all()
    assert np.isfinite([result.train_loss, result.val_loss, result.val_accuracy]).all()


def test_training_pays_and_leaves_the_task_as_it_was():
    task = make_task(recipe=replace(RECIPE, steps=150))
    before = {name: tensor.clone() for name, tensor in task.model.state_dict().items()}
    first = task.train(half(task))
    assert first.train_loss < 0.7 * task.chance_loss
    assert task.train(half(task)) == first
    assert all(torch.equal(t, before[name]) for name, t in task.model.state_dict().items())
    assert float(task.model.shift) == 0.0


def test_seeds_of_places_differ_and_repeat():
    seeds = [[make_task(seed=s).derived_seed(g) for g in range(50)] for s in (5, 6, 5)]
    assert seeds[0] == seeds[2]
    assert len({*seeds[0], *seeds[1]}) == 100
    assert all(0 <= seed < 2**63 for seed in seeds[0])


# ---- what identifies it


def nudged(name):
    """Return one split with a single number changed."""
    images = DATA[name][0].copy()
    images[0, 0, 0] += 1
    return {name: (images, DATA[name][1])}


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"recipe": replace(RECIPE, lr=0.02)},
        {"maskable": "head.weight"},
        {"model": Net(seed=1)},
        {"model": Net().double()},
        {"model": Net(change=lambda m: m.head.bias.add_(1))},
        {"model": Net(change=lambda m: m.norm.running_mean.add_(1))},
        {"model": Net(change=lambda m: m.shift.add_(1))},
        {"model": Net(change=lambda m: m.norm.weight.requires_grad_(False))},
        {"model": Net(change=lambda m: setattr(m, "drop", nn.Dropout(0.2)))},
        *map(nudged, DATA),
        {"val": (DATA["val"][0], (DATA["val"][1] + 1) % 3)},
        {"test": None},
    ],
)
def test_the_fingerprint_sees_every_change(changes):
    assert make_task(**changes).fingerprint != make_task().fingerprint


@pytest.mark.parametrize("changes", [{"chunk": 2}, {"name": "x"}, {"engine": "loop"}])
def test_the_fingerprint_ignores_what_changes_only_rounding(changes):
    assert make_task(**changes).fingerprint == make_task().fingerprint


def test_the_description_is_plain_data():
    task = make_task(name="tiny", chunk=3, seed=4)
    plain = json.loads(json.dumps(task.as_dict()))
    assert plain["layers"] == [["conv.weight", [4, 2, 3]], ["head.weight", [3, 16]]]
    assert plain["examples"] == {"train": 16, "val": 8, "test": 12}
    assert [plain[key] for key in ("name", "seed", "chunk", "maskable_weights", "dtype")] == [
        *("tiny", 4, 3, 72, "float32")
    ]
    assert plain["recipe"]["steps"] == task.steps == 12
    assert plain["fingerprint"] == task.fingerprint
    assert "test" not in make_task(test=None).as_dict()["examples"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_task_on_cuda_hands_out_modules_on_the_cpu():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    task, cpu = make_task(model, device="auto"), make_task(model)
    assert task.device.type == "cuda"
    assert task.fingerprint == cpu.fingerprint
    result = task.train(half(task))
    assert result.val_loss == pytest.approx(cpu.train(half(cpu)).val_loss, rel=1e-9)
    for module in (result.module(), task.model):
        assert {p.device.type for p in module.parameters()} == {"cpu"}


def test_a_loss_that_does_not_fit_the_targets_is_told_with_both():
    def smoothed(output, target):
        return torch.nn.functional.cross_entropy(output, target, label_smoothing=0.1)

    wanted = r"fit the loss, got outputs float32 \(\d+, 3\) and targets float32 .* smoothed said: "
    bad = {"train": (IMAGES, LABELS.astype(np.float32))}
    with pytest.raises(InvalidValueError, match=wanted):
        make_task(**bad, loss=smoothed)
