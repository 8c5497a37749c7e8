"""Pruning by what a weight is worth in its layer, and by what it costs."""

import functools
import itertools

import numpy as np
import pytest
import torch
from torch import nn

import nets_deap as nets
from nets_deap import MaskLayout, Ticket, operators
from nets_deap.baselines import finetune, imp, one_shot
from nets_deap.errors import InvalidValueError
from nets_deap.tickets.fitness import fitness_class
from nets_deap.tickets.trained import TrainedState
from nets_deap.tickets.units import UnitLayout
from nets_deap.training.cost import dense_share

W0 = np.random.default_rng(0).normal(size=(300,)) * np.repeat([0.1, 1.0, 10.0], 100)
LAYOUT = MaskLayout([("a", (10, 10)), ("b", (10, 10)), ("c", (10, 10))], W0)
UNITS = UnitLayout(LAYOUT, "block(2x5)", [(2, 5)] * 3)
COSTS = {"a": 100.0, "b": 1.0, "c": 1.0}


def by_layer(ticket):
    return [int(part.sum()) for part in ticket.layout.weights.split(ticket.mask).values()]


def ticket_of(layout, seed=0, density=1.0):
    rng = np.random.default_rng(seed)
    ticket = Ticket(rng.random(layout.size) < density, layout)
    packed = ticket.packed_mask
    ticket.inherited = TrainedState(rng.normal(size=ticket.kept), packed=packed.copy(), steps=3)
    return ticket


OPERATORS = {
    "prune": lambda one, **more: operators.mut_prune(one, fraction=0.5, **more),
    "swap": lambda one, **more: operators.mut_swap(one, fraction=0.3, **more),
    "average": lambda one, **more: operators.cx_average(
        one, ticket_of(one.layout, 1, 0.9), fraction=0.5, **more
    )[:1],
}
every_operator = pytest.mark.parametrize("operator", OPERATORS)


def test_what_a_layers_scale_takes_from_magnitude_it_does_not_take_from_lamp():
    kept = {}
    for by in ("magnitude", "lamp"):
        (child,) = operators.mut_prune(Ticket(np.ones(300), LAYOUT), fraction=0.5, by=by)
        assert child.kept in (150, 151), "a layer that would be empty keeps one"
        kept[by] = by_layer(child)
    assert kept["magnitude"][0] < 15
    assert kept["magnitude"][2] > 90
    assert all(40 <= n <= 60 for n in kept["lamp"])


@pytest.mark.parametrize("layout", [LAYOUT, UNITS], ids=["weights", "units"])
@every_operator
def test_dear_weights_go_first(operator, layout):
    run = functools.partial(OPERATORS[operator], rng=np.random.default_rng(3))
    before = ticket_of(layout, density=0.5 if operator == "swap" else 0.9)
    (even,), (cheap,) = run(before.copy(), by="lamp"), run(before.copy(), by="cost", costs=COSTS)
    if operator == "swap":  # weights go back to the layers that lost them
        lost = [[int((b & ~a).sum()) for b, a in parts(before, c)] for c in (even, cheap)]
        assert lost[1][0] > lost[0][0]
    else:
        assert by_layer(cheap)[0] < by_layer(even)[0] / 2
        assert min(by_layer(cheap)) > 0
    assert abs(cheap.kept - even.kept) <= (0 if layout is LAYOUT else 10)


def parts(one, other):
    masks = (list(LAYOUT.split(t.mask).values()) for t in (one, other))
    return zip(*masks, strict=True)


@every_operator
def test_equal_costs_change_nothing(operator):
    found = [
        OPERATORS[operator](ticket_of(LAYOUT), rng=np.random.default_rng(1), **more)[0].digest
        for more in ({"by": "lamp"}, {"by": "cost", "costs": dict.fromkeys("abc", 7.0)})
    ]
    assert found[0] == found[1]


@every_operator
def test_costs_come_with_their_criterion_and_for_each_layer(operator):
    run = OPERATORS[operator]
    for more in ({"by": "cost"}, {"by": "cost", "costs": {"a": 1.0}}):
        with pytest.raises(InvalidValueError, match=r"costs must say .*task\.weight_costs"):
            run(ticket_of(LAYOUT), **more)
    with pytest.raises(InvalidValueError, match="costs must come with by='cost'"):
        run(ticket_of(LAYOUT), costs=COSTS)
    with pytest.raises(InvalidValueError, match="costs must be in range"):
        run(ticket_of(LAYOUT), by="cost", costs={**COSTS, "b": 0.0})


def test_what_is_regrown_by_gradient_counts_over_its_costs():
    grown = []
    for more in ({"by": "lamp"}, {"by": "cost", "costs": {"a": 1.0, "b": 1e6, "c": 1.0}}):
        ticket = ticket_of(LAYOUT, density=0.5)
        free = np.flatnonzero(~ticket.mask)
        ticket.inherited.note(np.ones(ticket.kept), free, np.linspace(2, 1, len(free)))
        before = ticket.mask
        operators.mut_swap(ticket, fraction=0.2, grow="gradient", **more)
        grown.append([int((a & ~b).sum()) for b, a in zip(
            np.split(before, 3), np.split(ticket.mask, 3), strict=True)])  # fmt: skip
    assert grown[0][0] > grown[0][2], "the first ones have the largest gradients"
    assert grown[1][1] == 0


@pytest.mark.parametrize("by", ["lamp", "cost"])
@every_operator
def test_the_contract_is_kept(operator, by):
    more = {"by": by, **({"costs": COSTS} if by == "cost" else {})}
    for layout, density in itertools.product((LAYOUT, UNITS), (0.05, 0.5, 1.0)):
        children = []
        for _ in range(2):
            ticket = ticket_of(layout, 3, density)
            if not layout.counts(ticket.packed).all():
                continue
            ticket.fitness = fitness_class(("loss",), (-1.0,))()
            ticket.fitness.values = (0.25,)
            (child,) = OPERATORS[operator](ticket, rng=np.random.default_rng(5), **more)
            assert child is ticket
            assert child.fitness.values == (0.25,)
            assert layout.counts(child.packed).min() >= 1 or operator == "swap"
            children.append(child.digest)
        assert len(set(children)) <= 1


# ---- on networks with convolutions


def convolutional_task(unit="weight"):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(144, 10), nn.Linear(10, 2)),
    )
    x, y = torch.randn(60, 1, 6, 6), torch.arange(60) % 2
    data, recipe = (x, y), nets.Recipe(steps=4, batch_size=20)
    return nets.Task(model, train=data, val=data, recipe=recipe, device="cpu", unit=unit)


def shares(task, tickets):
    return np.array([dense_share(task.problem, one.packed_mask) for one in tickets])


def test_a_task_knows_what_its_weights_cost():
    assert list(convolutional_task().weight_costs.values()) == [36, 36, 1, 1]
    assert list(convolutional_task("filter").weight_costs.values()) == [36, 36, 1, 1]


@pytest.mark.parametrize(
    "find",
    [
        functools.partial(finetune, rounds=6, steps=3),
        functools.partial(imp, rounds=6, steps=3),
        functools.partial(one_shot, densities=[0.8**n for n in range(1, 7)], steps=3),
    ],
    ids=["finetune", "imp", "one-shot"],
)
def test_baselines_that_prune_by_cost_are_cheaper_at_the_same_density(find):
    task = convolutional_task()
    even, cheap = (find(task, by=by) for by in ("lamp", "cost"))
    assert cheap.name == even.name.replace("lamp", "cost")
    assert [one.kept for one in even.tickets] == [one.kept for one in cheap.tickets]
    ratios = shares(task, cheap.tickets) / shares(task, even.tickets)
    assert (ratios[2:] < 0.9).all()
    assert ratios[-1] < 0.75
    masks = [one.mask for one in cheap.tickets]
    assert all((b <= a).all() for a, b in itertools.pairwise(masks)), "nested"
    with pytest.raises(InvalidValueError, match="by must be left out with scope='layerwise'"):
        find(task, by="cost", scope="layerwise")


@pytest.mark.parametrize("inherit", ["none", "weights"])
def test_a_search_by_cost_finds_cheaper_tickets(inherit):
    found = {}
    for by in ("lamp", "cost"):
        task = convolutional_task()
        front = nets.search(
            task, by=by, inherit=inherit, density=(0.1, 1.0), population=6, generations=2,
            objectives=("val_loss", "sparse_multiply_adds"), seed=1, progress="none",
        ).front  # fmt: skip
        sparsest = min(front, key=lambda one: one.density)
        found[by] = shares(task, [sparsest])[0] / sparsest.density
    assert found["cost"] < 0.85 * found["lamp"]


def test_where_neurons_shrink_there_is_nothing_to_prune_by():
    task = nets.tasks.xor(hidden=10)
    with pytest.raises(InvalidValueError, match="by must be left out where mut_shrink takes"):
        nets.make_toolbox(task, objectives=("val_loss", "multiply_adds"), by="lamp")
