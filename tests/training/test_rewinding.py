"""Late rewinding: a task whose W0 is the dense network after some steps."""

import random

import numpy as np
import pytest
import torch
from deap import algorithms

import nets_deap as nets
from nets_deap.errors import InvalidValueError, NetsError
from nets_deap.training.problem import Plan
from nets_deap.training.recipe import Recipe

RECIPE = Recipe(lr=1e-2, batch_size=20, steps=30)


def new_task(engine="auto", norm=False, **options):
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(120, 8, generator=draw), torch.randint(3, (120,), generator=draw)
    torch.manual_seed(0)
    norms = [torch.nn.BatchNorm1d(16)] if norm else []
    layers = [torch.nn.Linear(8, 16), *norms, torch.nn.ReLU(), torch.nn.Linear(16, 3)]
    data = {"train": (x[:80], y[:80]), "val": (x[80:100], y[80:100]), "test": (x[100:], y[100:])}
    options = {"recipe": RECIPE, "seed": 3, "device": "cpu", **data, **options}
    return nets.Task(torch.nn.Sequential(*layers), engine=engine, **options)


@pytest.mark.parametrize("engine", ["compiled", "batched", "vmap", "loop"])
def test_it_is_the_dense_network_after_so_many_steps(engine):
    task = new_task(engine)
    later = task.rewound(7, seed=5)
    place = task.derived_seed(5, 7002, 0, 1)  # imp's
    rows = Plan(7, place).batches(80, 20)
    model = task.model
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    x, y = task.problem.train
    for batch in rows:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()
    for (name, wanted), got in zip(model.named_parameters(), later.model.parameters(), strict=True):
        torch.testing.assert_close(got, wanted, msg=name, rtol=1e-4, atol=1e-6)
    joined = later.layout.join(
        {n: later.model.get_parameter(n).detach().numpy() for n in later.layout.names}
    )
    np.testing.assert_array_equal(later.layout.initial, joined)


@pytest.mark.parametrize(
    ("engine", "norm"), [("compiled", False), ("vmap", False), ("vmap", True), ("loop", True)]
)
def test_imp_on_it_is_imp_with_late_rewinding(engine, norm):
    task = new_task(engine, norm)
    later = task.rewound(9, seed=2)
    ours = nets.baselines.imp(later, rounds=3, steps=25, seed=2)
    theirs = nets.baselines.imp(task, rounds=3, steps=25, seed=2, rewind_to=9)
    for one, other in zip(ours.levels, theirs.levels, strict=True):
        assert one.ticket.mask.tolist() == other.ticket.mask.tolist()
        assert one.search_steps == other.search_steps
    assert ours.search_steps == theirs.search_steps == 9 + 3 * 25
    for one, other in zip(ours.train(later, 30), theirs.train(task, 30), strict=True):
        for name in ("train_loss", "val_loss", "test_loss", "test_accuracy"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-5)
    plain = nets.baselines.imp(task, rounds=3, steps=25, seed=2)
    assert plain.levels[-1].ticket.mask.tolist() != ours.levels[-1].ticket.mask.tolist()


def test_its_cost_is_in_both_ledgers():
    task = new_task()
    later = task.rewound(11)
    assert (task.ledger.networks, task.ledger.network_steps) == (1, 11)
    assert (later.ledger.networks, later.ledger.network_steps) == (1, 11)
    later.train(later.dense_ticket(), steps=5)
    assert task.ledger.network_steps == 11
    assert later.ledger.network_steps == 16
    assert nets.baselines.random_uniform(later, 0.5).search_steps == 11
    assert nets.baselines.snip(later, 0.5, examples=20).search_steps == 12
    again = later.rewound(4)
    assert (again.rewound_steps, again.ledger.network_steps) == (15, 15)
    assert task.rewound(0) is task


def test_tickets_of_other_initial_weights_are_told_apart(tmp_path):
    task = new_task()
    later, same, other = task.rewound(5), new_task().rewound(5), task.rewound(6)
    assert later.fingerprint == same.fingerprint
    assert later.layout.key == same.layout.key
    seeded = task.rewound(5, seed=1)
    tasks = (task, later, other, seeded)
    for facts in ([t.fingerprint for t in tasks], [t.layout.key for t in tasks]):
        assert len(set(facts)) == 4
    mask = np.arange(task.layout.size) % 2 == 0
    assert task.ticket(mask) != later.ticket(mask)
    with pytest.raises(NetsError):
        task.train(later.ticket(mask))
    assert task.as_dict().keys() | {"rewound_steps"} == later.as_dict().keys()
    assert (later.as_dict()["rewound_steps"], later.origin()["rewound_steps"]) == (5, 5)
    assert "rewound_steps" not in task.origin()
    ticket = later.ticket(mask)
    ticket.save(tmp_path / "t.safetensors", task=later)
    loaded = nets.Ticket.load(tmp_path / "t.safetensors")
    applied = loaded.apply(
        task.model, values="initial"
    )  # the file has the weights that it rewinds to
    wanted = later.model.get_parameter("0.weight") * ticket.masks()["0.weight"]
    assert torch.equal(applied[0].weight, wanted)


def test_a_search_on_it_starts_there_and_goes_on_as_it_was(tmp_path):
    def search(path, generations, **options):
        later = new_task().rewound(12)
        return nets.search(
            later,
            population=4,
            generations=generations,
            path=path,
            progress="none",
            **options,
            inherit="none",
        )

    whole = search(tmp_path / "whole", 3)
    search(tmp_path / "cut", 2)
    resumed = search(tmp_path / "cut", 3, resume=True)
    assert [t.digest for t in resumed.population] == [t.digest for t in whole.population]
    assert [t.fitness.values for t in resumed.front] == [t.fitness.values for t in whole.front]
    with pytest.raises(NetsError):
        nets.search(
            new_task(),
            path=tmp_path / "cut",
            generations=3,
            population=4,
            resume=True,
            inherit="none",
        )
    later = new_task().rewound(12)
    toolbox = nets.make_toolbox(later, inherit="none")
    random.seed(0)
    population = toolbox.population(n=3)
    algorithms.eaMuPlusLambda(population, toolbox, 3, 3, 0.3, 0.7, 1, verbose=False)
    first = [task.train(task.dense_ticket(), steps=1).train_loss for task in (later, new_task())]
    assert first[0] < first[1]


@pytest.mark.parametrize("unit", ["neuron", "block(2x2)", "2:4"])
def test_structured_tickets_too(unit):
    task = new_task(unit=unit)
    later = task.rewound(6)
    assert later.layout.unit == unit
    assert later.layout.size == task.layout.size
    plain = new_task().rewound(6)
    initial = later.layout.weights.require_initial()
    weights = [later.layout.weights.layer(name) for name in plain.layout.names]
    np.testing.assert_array_equal(
        np.concatenate([initial[la.start : la.stop] for la in weights]),
        plain.layout.require_initial(),
    )
    assert np.isfinite(later.train(nets.make_toolbox(later, inherit="none").individual()).val_loss)


def test_a_training_that_diverges_is_no_start():
    task = new_task(recipe=Recipe(optimizer="sgd", lr=1e30, batch_size=20, steps=30))
    with pytest.raises(InvalidValueError, match=r"steps must train .* without diverging.*smaller"):
        task.rewound(20)
    assert task.ledger.diverged == 1
    for steps in (-1, 1.5, None):
        with pytest.raises(NetsError, match="steps must"):
            task.rewound(steps)
