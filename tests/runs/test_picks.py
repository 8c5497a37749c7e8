"""Knee, best and hypervolume take what users have at hand, or say what to give."""

import numpy as np
import pytest
from deap import tools

import nets_deap as nets
from nets_deap.errors import FileAccessError, InvalidTypeError, InvalidValueError
from nets_deap.evolution import fronts
from nets_deap.runs import picks
from nets_deap.tickets.fitness import fitness_class


@pytest.fixture(scope="module")
def found(xor_task, tmp_path_factory):
    path = tmp_path_factory.mktemp("picks") / "run"
    return nets.search(
        xor_task, population=6, generations=2, path=path, progress="none", inherit="none"
    )


@pytest.fixture(scope="module")
def imp(xor_task):
    return nets.baselines.imp(xor_task, rounds=3, steps=20)


def test_all_that_holds_a_front_is_one(found, xor_task):
    knee, best = fronts.knee(found.front), fronts.best(found.front, objective="density")
    recorder = nets.Recorder(task=xor_task, progress="none")
    recorder.front.update(found.front)
    for held in (found, found.front, list(found.front), iter(found.front), recorder, [found]):
        assert nets.knee(held) == knee
    assert nets.knee(found) is knee
    for held in (found, found.path, str(found.path), [found, found.path]):
        assert nets.best(held, objective="density") == best
    assert nets.best([found, found.population]) == fronts.best([*found.front, *found.population])
    assert nets.knee(found.front[0]) is found.front[0]


def test_results_of_training_are_picked_by_loss_and_density(imp, xor_task):
    results = imp.train(xor_task, steps=30)
    assert nets.best(results) is min(results, key=lambda r: (r.val_loss, r.density))
    assert nets.best(results, objective="density") is results[-1]
    least = nets.best(results, max_density=results[1].density)
    assert least is min(results[1:], key=lambda r: r.val_loss)
    points = np.array([(r.val_loss, r.density) for r in results])
    scaled = (points - points.min(axis=0)) / np.ptp(points, axis=0)
    assert nets.knee(results) is results[int(scaled.sum(axis=1).argmin())]


def test_tickets_of_a_baseline_count_once_they_are_evaluated(imp, xor_task):
    for call in (nets.knee, nets.best, nets.plots.pareto_front, nets.hypervolume):
        with pytest.raises(InvalidValueError, match=r"must be evaluated: .* a Ticket without.*bas"):
            call(imp)
    kind = fitness_class(("val_loss", "density"), (-1.0, -1.0))
    values = [(0.5, 0.8), (0.1, 0.64), (0.6, 0.512)]
    tickets = [xor_task.ticket(ticket.mask) for ticket in imp.tickets]
    for ticket, value in zip(tickets, values, strict=True):
        ticket.fitness = kind(value)
    assert (
        nets.best(nets.baselines.Baseline.of("mine", [nets.baselines.Level(t) for t in tickets]))
        is tickets[1]
    )


@pytest.mark.parametrize("given", [3, None, {}, np.ones((2, 2)), [[1, 0]], [None], True])
def test_what_holds_no_front_is_refused(given, xor_task):
    for pick in (nets.knee, nets.best):
        with pytest.raises(InvalidTypeError, match="front must hold a front: expected evaluated"):
            pick(given)
    with pytest.raises(InvalidTypeError, match="got Task"):
        nets.knee(xor_task)


def test_a_folder_that_is_none_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(FileAccessError, match="run must be a run folder"):
            nets.knee(path)


def test_the_hypervolume_of_a_front_is_in_its_own_units(found):
    costs = fronts.costs_of(found.front)
    own = found.front[0].fitness.reference
    assert nets.hypervolume(found) == fronts.hypervolume(costs, own)
    assert nets.hypervolume(found) == pytest.approx(found.logbook[-1]["hypervolume"])
    assert nets.hypervolume(found.front, (1.0, 1.0)) == fronts.hypervolume(costs, (1.0, 1.0))
    kind = fitness_class(("accuracy", "density"), (1.0, -1.0))
    ticket = nets.Ticket([1, 0], fitness=kind((0.75, 0.5)))
    assert nets.hypervolume([ticket], (0.25, 1.0)) == pytest.approx(0.25)
    assert nets.hypervolume(nets.ParetoFront(), (0.0, 1.0)) == 0.0
    assert nets.hypervolume([[1, 3], [2, 1]], (4, 4)) == 7.0
    for given in ([ticket], [[1.0, 2.0]]):
        with pytest.raises(InvalidValueError, match="reference must"):
            nets.hypervolume(given)
    with pytest.raises(InvalidValueError, match=r"reference must have the right shape.*\(M,\)"):
        nets.hypervolume([ticket], (1.0, 1.0, 1.0))


def test_other_halls_of_fame_are_fronts(found):
    hall = tools.HallOfFame(3)
    hall.update(found.population)
    assert picks.members_of(hall) == list(hall)
    assert nets.hypervolume(hall) <= nets.hypervolume(found) * (1 + 1e-12)
