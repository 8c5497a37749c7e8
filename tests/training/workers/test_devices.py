"""Several devices in one process: shares by speed, and the results of one device."""

import contextlib
import gc
import random
import weakref

import pytest
import torch
from deap import algorithms
from hypothesis import given
from hypothesis import strategies as st
from support.running import who

import nets_deap as nets
from nets_deap.errors import InvalidTypeError, InvalidValueError
from nets_deap.training.executor import executor_of, set_journal
from nets_deap.training.workers.speed import Work, balanced


@given(
    costs=st.lists(st.floats(0.1, 10), max_size=60),
    paces=st.lists(st.floats(0.2, 5), min_size=1, max_size=5),
)
def test_every_network_has_one_device_and_none_could_end_much_sooner(costs, paces):
    shares = balanced(costs, paces)
    assert sorted(place for share in shares for place in share) == list(range(len(costs)))
    assert all(share == sorted(share) for share in shares)
    ends = [sum(costs[i] for i in share) * pace for share, pace in zip(shares, paces, strict=True)]
    for end, share in zip(ends, shares, strict=True):
        if share:  # its last network would not have been done sooner elsewhere
            least = min(costs[i] for i in share)
            others = [e + least * pace for e, pace in zip(ends, paces, strict=True)]
            assert end <= max(min(others), end) + 1e-9
            assert end - least * max(paces) <= min(others) + 1e-9


def test_a_device_twice_as_fast_gets_twice_as_much():
    assert [len(share) for share in balanced([1.0] * 30, [1.0, 2.0])] == [20, 10]


def evolve(device, **options):
    recipe = nets.Recipe(lr=0.05, batch_size=4, steps=40, loss="binary_cross_entropy")
    task = nets.tasks.xor(hidden=6, dtype="float64", recipe=recipe, device=device)
    random.seed(5)
    toolbox = nets.make_toolbox(task, **options)
    population = toolbox.population(n=10)
    for ticket, values in zip(population, toolbox.map(toolbox.evaluate, population), strict=True):
        ticket.fitness.values = values
    algorithms.eaMuCommaLambda(population, toolbox, 6, 10, 0.3, 0.7, 2, verbose=False)
    return who(population), vars(task.ledger)


@pytest.mark.parametrize("inherit", ["none", "weights"])
def test_two_devices_give_the_population_of_one(inherit):
    assert evolve(["cpu", "cpu"], inherit=inherit) == evolve("cpu", inherit=inherit)


class Kept:
    """A journal that has seen some outcomes."""

    def __init__(self, found):
        self.found, self.places = found, []

    def watching(self):
        return contextlib.nullcontext()

    def begin(self, masks, plan, starts):
        return self.found

    def part(self, places, outcome):
        self.places += places
        assert len(outcome.trained) == len(places)

    def cut_short(self):
        self.places.append("cut")


def test_the_journal_sees_each_network_and_what_it_kept_is_not_trained_again():
    task = nets.tasks.xor(hidden=5, dtype="float64", device=["cpu", "cpu", "cpu"])
    population = nets.make_toolbox(task, inherit="none").population(n=8)
    journal, told = Kept({}), []
    set_journal(task.problem, journal)
    whole = task.train_all(population, on_chunk=told.append)
    assert sorted(journal.places) == list(range(8))
    assert sum(told) == 8
    assert executor_of(task.problem).speed.predict(Work(1, 100, 50)) > 0
    set_journal(task.problem, None)
    del journal
    again = task.train_all(population[::-1])[::-1]
    assert [r.val_loss for r in again] == [r.val_loss for r in whole]


def test_an_error_in_a_thread_comes_through():
    class Wrong(torch.nn.Linear):
        def forward(self, x):
            if self.training and not torch.equal(self.weight, first):  # after a step
                raise ArithmeticError("wrong")
            return super().forward(x)

    x, model = torch.randn(40, 4), Wrong(4, 2)
    first = model.weight.detach().clone()
    task = nets.Task(
        model, train=(x, (x[:, 0] > 0).long()), device=["cpu", "cpu"], engine="loop",
        recipe=nets.Recipe(steps=3, batch_size=5),
    )  # fmt: skip
    with pytest.raises(ArithmeticError, match="wrong"):
        task.train_all([task.dense_ticket()] * 3)


def test_the_copies_go_with_the_task():
    task = nets.tasks.xor(hidden=3, device=["cpu", "cpu"])
    gone = weakref.ref(executor_of(task.problem))
    del task
    gc.collect()
    assert gone() is None


def test_devices_that_do_not_go_together_are_refused():
    with pytest.raises(InvalidTypeError, match="device must be a device"):
        nets.tasks.xor(device=3)
    with pytest.raises(InvalidValueError, match="device must be of one type"):
        nets.tasks.xor(device=[])
    if not torch.cuda.is_available():
        with pytest.raises(InvalidValueError, match="device must be there"):
            nets.tasks.xor(device="cuda:all")
