"""The batched ``evaluate``: one training for each generation, whatever is wrapped around it."""

import functools
import logging
import math

import numpy as np
import pytest
import torch
from deap import base, tools
from support.trained import set_trained
from torch import nn

import nets_deap as nets
from nets_deap import Evaluator, Objective, Recipe, Task, Ticket, batch_map, tasks
from nets_deap.errors import InvalidValueError
from nets_deap.evolution.evaluator import evaluator_for
from nets_deap.models import MLP
from nets_deap.tickets.fitness import fitness_class
from nets_deap.training.problem import Plan

RECIPE = Recipe(lr=0.1, batch_size=2, steps=6, loss="binary_cross_entropy", val_points=3)
OPTIONS = {"hidden": 6, "recipe": RECIPE, "dtype": "float64", "device": "cpu"}


@pytest.fixture
def task():
    return tasks.xor(**OPTIONS)


@pytest.fixture
def evaluator(task):
    return Evaluator(task, ("val_loss", "density"))


@pytest.fixture
def tickets(task):
    """Tickets of several densities."""
    order = np.random.default_rng(1).permutation(18)
    return [task.ticket(order < kept) for kept in (18, 13, 9, 6)]


@pytest.fixture
def toolbox(evaluator):
    toolbox = base.Toolbox()
    toolbox.register("evaluate", evaluator)
    toolbox.register("map", batch_map)
    return toolbox


def test_of_tasks_that_are_alike_the_one_in_use_last_measures_new_tickets(task):
    again = tasks.xor(**OPTIONS)
    first, _, last = (Evaluator(one, ("val_loss", "density")) for one in (task, again, task))
    assert task.layout.key == again.layout.key
    assert evaluator_for(task.ticket(np.ones(18, dtype=bool))) is last
    first.restart()
    assert evaluator_for(task.ticket(np.ones(18, dtype=bool))) is first


@pytest.fixture
def calls(monkeypatch):
    """The number of networks and the plan of every training so far."""
    seen, run = [], Task.run

    def spy(self, tickets, plan, *more, **options):
        seen.append((len(tickets), plan))
        return run(self, tickets, plan, *more, **options)

    monkeypatch.setattr(Task, "run", spy)
    return seen


def trained(calls):
    """Return how many networks each training held."""
    return [count for count, _ in calls]


# ---- one batch for each generation


def test_a_generation_is_one_training(toolbox, task, tickets, calls):
    values = toolbox.map(toolbox.evaluate, iter(tickets))
    assert trained(calls) == [4]
    assert isinstance(values, list)
    assert all(type(number) is float for row in values for number in row)
    assert (task.ledger.networks, task.ledger.network_steps) == (4, 24)
    assert "generation" not in vars(toolbox.evaluate), "DEAP would keep a stale copy"
    outcome = task.run(tickets, Plan(6, task.derived_seed(0)))
    losses = outcome.metrics["val_loss"]
    assert len(set(losses)) == 4
    np.testing.assert_allclose(values, [*zip(losses, [1, 13 / 18, 1 / 2, 1 / 3], strict=True)])
    for ticket, row, end in zip(tickets, values, outcome.trained, strict=True):
        np.testing.assert_allclose(ticket.trained.values, end.values)
        assert (ticket.trained.steps, ticket.trained.metrics["val_loss"]) == (6, row[0])
        with pytest.raises(ValueError, match="read-only"):
            ticket.trained.values[0] = 0.0


def test_equal_masks_are_trained_once(evaluator, task, tickets, calls):
    one, two, *_ = tickets
    twin = task.ticket(one.mask)
    values = batch_map(evaluator, [one, two, twin, one])
    assert trained(calls) == [2]
    assert values[0] == values[2] == values[3] != values[1]
    np.testing.assert_array_equal(twin.trained.values, one.trained.values)


def test_no_tickets_train_nothing(toolbox, evaluator, calls):
    assert toolbox.map(toolbox.evaluate, []) == evaluator.batch(iter(())) == []
    assert calls == []


def test_a_ticket_gets_the_same_number_in_any_company(tickets, calls):
    def fresh(**more):
        return Evaluator(tasks.xor(**OPTIONS, **more), ("val_loss", "density"))

    alone = list(map(fresh(), tickets))
    assert trained(calls) == [1, 1, 1, 1], "the builtin map evaluates one at a time"
    for company in ([0, 1, 2, 3], [3, 1, 0, 2], [1, 2]):
        for evaluator in (fresh(), fresh(chunk=3), fresh(engine="loop")):
            values = batch_map(evaluator, [tickets[i] for i in company])
            np.testing.assert_allclose(values, [alone[i] for i in company], rtol=1e-10)


def test_generations_see_different_minibatches(evaluator, tickets, calls):
    first, second = batch_map(evaluator, tickets), batch_map(evaluator, tickets)
    assert evaluator.generation == 2
    assert calls[0][1].seed != calls[1][1].seed
    assert all(one[0] != other[0] for one, other in zip(first, second, strict=True))
    evaluator.generation = 0
    assert batch_map(evaluator, tickets) == first


def test_the_curve_is_measured_only_when_needed(task, tickets, calls):
    for objectives, points in (("val_loss", 0), (("density", "val_curve_area"), 3)):
        Evaluator(task, objectives)(tickets[0])
        assert calls[-1][1].curve_points == points
    assert Evaluator(task, "steps_to_loss:1e-9")(tickets[0]) == (7.0,)
    assert Evaluator(task, "steps_to_loss:99")(tickets[0]) == (2.0,)


# ---- through decorators


def test_only_feasible_tickets_are_trained_and_as_one_batch(toolbox, evaluator, tickets, calls):
    for ticket in tickets:
        ticket.fitness = fitness_class(("val_loss", "density"), (-1.0, -1.0))()
    penalty = tools.DeltaPenalty(lambda t: t.density < 0.6, 5.0, lambda t: t.density)
    toolbox.decorate("evaluate", penalty)
    values = toolbox.map(toolbox.evaluate, tickets)
    assert trained(calls) == [2]
    assert values[:2] == [(5.0 + t.density,) * 2 for t in tickets[:2]]
    evaluator.generation = 0
    assert values[2:] == batch_map(evaluator, tickets[2:])


def doubled(function):
    """Double all values; copies the attributes of what it wraps, and catches what it can."""

    @functools.wraps(function)
    def wrapper(ticket):
        try:
            return tuple(2 * value for value in function(ticket))
        except Exception:
            return "the request for a training was swallowed"

    return wrapper


@pytest.mark.parametrize(
    ("wrap", "factor"),
    [
        (lambda e: functools.partial(functools.partial(functools.partial(e))), 1),
        (doubled, 2),
        (lambda e: functools.partial(doubled(functools.partial(doubled(e)))), 4),
        (lambda e: lambda ticket: e(ticket), 1),
    ],
    ids=["partials", "wraps", "both", "lambda"],
)
def test_wrappers_stay_batched_and_apply(wrap, factor, evaluator, tickets, calls):
    values = batch_map(wrap(evaluator), tickets)
    assert trained(calls) == [4]
    assert evaluator.generation == 1
    evaluator.generation = 0
    assert values == [tuple(factor * v for v in row) for row in batch_map(evaluator, tickets)]


def test_the_closest_valid_ticket_is_trained_in_place_of_an_infeasible_one(
    toolbox, evaluator, task, tickets, calls
):
    def closest(ticket):
        return ticket if ticket.density >= 0.6 else tickets[1]

    for ticket in tickets:
        ticket.fitness = fitness_class(("val_loss", "density"), (-1.0, -1.0))()
    penalty = tools.ClosestValidPenalty(
        lambda t: t.density >= 0.6,
        closest,
        2.0,
        lambda one, other: abs(one.density - other.density),
    )
    toolbox.decorate("evaluate", penalty)
    values = toolbox.map(toolbox.evaluate, tickets)
    assert trained(calls) == [2], "the dense one and the closest, each once"
    evaluator.generation = 0
    plain = batch_map(evaluator, tickets[:2])
    assert values[:2] == plain
    for ticket, row in zip(tickets[2:], values[2:], strict=True):
        away = 2.0 * abs(tickets[1].density - ticket.density)
        assert row == pytest.approx([number + away for number in plain[1]])


def test_an_evaluate_that_catches_everything_still_trains_all(toolbox, evaluator, tickets, calls):
    wanted = batch_map(evaluator, tickets)
    evaluator.generation = 0

    def careful(ticket):
        try:
            return evaluator(ticket)
        except:  # noqa: E722
            return (1e6, 1.0)

    toolbox.register("evaluate", careful)
    assert toolbox.map(toolbox.evaluate, tickets) == wanted
    assert trained(calls) == [4, 4]


def test_a_wrapper_may_evaluate_any_number_of_times(evaluator, tickets, calls):
    def as_often_as_its_place(ticket):
        return [evaluator(ticket) for _ in range(tickets.index(ticket))]

    results = batch_map(as_often_as_its_place, tickets)
    assert trained(calls) == [3, 2, 1]
    assert [[v[1] for v in rows] for rows in results] == [
        [t.density] * i for i, t in enumerate(tickets)
    ]
    evaluator.generation = 0
    assert results[3][0] == pytest.approx(evaluator(tickets[3]))


def test_a_wrapper_may_use_two_evaluators(evaluator, tickets, calls):
    other = Evaluator(tasks.xor(**{**OPTIONS, "noise": 0.5}), "val_accuracy")
    values = batch_map(lambda ticket: evaluator(ticket) + other(ticket), tickets)
    assert trained(calls) == [4, 4]
    evaluator.generation = other.generation = 0
    for row, *parts in zip(*(values, *(e.batch(tickets) for e in (evaluator, other))), strict=True):
        assert row == parts[0] + parts[1]


def test_a_map_inside_a_map_trains_its_own_batches(evaluator, tickets, calls):
    def island(members):
        return len(batch_map(evaluator, members))

    assert batch_map(island, [tickets[:2], tickets[2:], tickets[:1]]) == [2, 2, 1]
    assert trained(calls) == [2, 2, 1]


def test_an_error_in_a_wrapper_comes_through_and_leaves_no_trace(evaluator, tickets, calls):
    with pytest.raises(ZeroDivisionError):
        batch_map(lambda ticket: evaluator(ticket)[0] / 0, tickets)
    assert len(evaluator(tickets[0])) == 2
    assert trained(calls) == [4, 1]


@pytest.mark.parametrize("n", [0, 1, 3])
def test_other_functions_are_simply_called(n):
    assert batch_map(str, range(n)) == list(map(str, range(n)))
    assert batch_map(pow, [2, 3, 4, 5], iter(range(n))) == list(map(pow, [2, 3, 4, 5], range(n)))


# ---- what it refuses


@pytest.mark.parametrize(
    "use",
    [
        lambda e, t: batch_map(e, t, t),
        lambda e, t: batch_map(functools.partial(e, t[0]), t),
        lambda e, t: batch_map(functools.partial(functools.partial(e, seed=1)), t),
        lambda e, t: batch_map(e),
    ],
    ids=["two iterables", "argument", "keyword", "no iterable"],
)
def test_extras_are_refused(use, evaluator, tickets):
    with pytest.raises(ValueError, match=r"evaluate must take tickets only: .*further arguments"):
        use(evaluator, tickets)


def test_what_is_not_a_ticket_of_the_task_is_refused(evaluator, task, tickets):
    with pytest.raises(TypeError, match=r"task must be a task: expected a nets\.Task, got str"):
        Evaluator("task", "val_loss")
    with pytest.raises(ValueError, match=r"Did you mean 'val_loss'\?"):
        Evaluator(task, "valloss")
    with pytest.raises(TypeError, match=r"individual must be a ticket: .* got list"):
        batch_map(evaluator, [tickets[2], [True] * 18])
    # Both have the bytes of a ticket before them, and must not pass as its twins.
    other = tasks.xor(**OPTIONS, seed=1).ticket(tickets[2].mask)
    short = Ticket(task.ticket(np.arange(18) < 17).mask[:17])
    for ticket in (other, short):
        with pytest.raises(ValueError, match=r"ticket must belong to this task"):
            batch_map(evaluator, [tickets[2], task.ticket(np.arange(18) < 17), ticket])
    assert task.ledger.networks == 0
    assert tickets[2].trained is None


# ---- divergence


def test_a_diverged_network_gets_the_worst_values_and_is_counted(caplog):
    model = MLP((2, 4, 1))
    with torch.no_grad():
        model.layers[0].weight[0, 0] = 1e30
    x = np.random.default_rng(0).random((8, 2)) + 0.1
    data, recipe = (x, x.sum(1, keepdims=True)), Recipe(loss="mse", batch_size=4, steps=4)
    task = Task(model, train=data, val=data, recipe=recipe, device="cpu")
    masks = [np.ones(12), np.arange(12) > 0, np.ones(12), np.arange(12) != 5]
    tickets = [task.ticket(mask) for mask in masks]
    evaluator = Evaluator(task, ("density", "val_loss"))
    with caplog.at_level(logging.WARNING, logger="nets_deap"):
        values = batch_map(evaluator, tickets)
    assert values[0] == values[2] == values[3] == (1.0, 1e6)
    assert values[1][0] == pytest.approx(11 / 12)
    assert values[1][1] < 100
    assert [ticket.trained is None for ticket in tickets] == [True, False, True, True]
    assert task.ledger.diverged == 2, "twins are one network"
    batch_map(evaluator, tickets[1:2])
    told = [record.message for record in caplog.records]
    assert told == ["2 of 3 networks diverged and got the worst values"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_objective_that_is_not_finite_counts_as_divergence(task, tickets, value):
    odd = Objective("odd", "max", -7.0, lambda m: value if m.ticket.density == 0.5 else 1.0, 0.0)
    values = batch_map(Evaluator(task, ["val_loss", odd, "val_accuracy"]), tickets)
    assert values[2] == (1e6, -7.0, 0.0)
    assert [row[1] for row in values] == [1.0, 1.0, -7.0, 1.0]
    assert task.ledger.diverged == 1


@pytest.mark.parametrize("direction", ["min", "max"])
def test_a_finite_value_counts_however_bad_and_a_diverged_one_ranks_below_it(direction):
    """A declared worst of 10 is no bound where networks get 50."""
    sign = 1 if direction == "min" else -1

    def measure(measured):
        return math.nan if measured.ticket.kept == 9 else sign * 50 * measured.ticket.density

    task = tasks.xor(**OPTIONS)
    own = Objective("own", direction, 10.0 * sign, measure, 0.0)
    evaluator = Evaluator(task, [own])
    some = [task.ticket(np.arange(18) < n) for n in (9, 18, 3, 9)]
    values = [value for (value,) in batch_map(evaluator, some)]
    assert [sign * value for value in values[1:3]] == [50.0, pytest.approx(50 / 6)]
    assert values[0] == values[3] == sign * 1e12
    (later,) = batch_map(evaluator, some[:1])[0]
    assert later == values[0], "what has been seen stays known"
    for value in (1e15, 1e307, np.finfo(float).max):
        assert value <= sign * own.beyond(sign * value, own.worst) < math.inf
    fresh = Evaluator(task, [own])
    assert batch_map(fresh, [some[0], some[2]])[0] == (10.0 * sign,), "the declared one holds"


def test_prices_do_not_diverge():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)).astype(np.float32)
    y = 250_000 + 50_000 * x[:, :1]
    recipe = Recipe(batch_size=20, steps=5, loss="mse")
    task = Task(nn.Linear(3, 1), train=(x, y), val=(x, y), recipe=recipe, device="cpu")
    evaluator = Evaluator(task, ("val_loss", "density"))
    tickets = [task.ticket([1, 1, 1]), task.ticket([1, 0, 0])]
    values = batch_map(evaluator, tickets)
    with torch.no_grad():
        for ticket, (loss, _) in zip(tickets, values, strict=True):
            module = task.train(ticket, seed=task.derived_seed(0)).module()
            mean = float(((module(torch.tensor(x)) - torch.tensor(y)) ** 2).double().mean())
            assert loss == pytest.approx(mean, rel=1e-5)
    assert min(loss for loss, _ in values) > 1e9
    assert task.ledger.diverged == 0
    # One that diverges is worse than knowing nothing, also before any other is seen.
    diverged = Evaluator(task, ("val_loss", "density")).worst[0]
    assert 1e6 * task.chance_loss < diverged < math.inf


def test_a_diverged_training_clears_what_an_earlier_one_gave():
    data = (np.ones((4, 2), np.float32), np.ones((4, 1), np.float32))
    recipe = Recipe(optimizer="sgd", lr=5.0, batch_size=4, steps=80, loss="mse")
    task = Task(nn.Linear(2, 1), train=data, val=data, recipe=recipe, device="cpu")
    ticket = task.dense_ticket()
    set_trained(ticket, np.ones(2, np.float32))
    Evaluator(task, "val_loss")(ticket)
    assert ticket.trained is None


def test_a_fitness_of_the_wrong_direction_is_refused(xor_task):
    toolbox = nets.make_toolbox(xor_task, inherit="none")
    population = toolbox.population(n=2)
    wrong = fitness_class(("val_loss", "density"), (1.0, -1.0))
    population[0].fitness = wrong()
    with pytest.raises(InvalidValueError, match=r"fitness.weights must have the signs"):
        toolbox.map(toolbox.evaluate, population)
