import random

import numpy as np
import pytest
import torch
from deap import algorithms, base

import nets_deap as nets
from nets_deap.errors import InvalidTypeError, InvalidValueError


def front_of(result):
    return [(t.digest, t.fitness.values) for t in result.front]


def test_the_same_seed_gives_the_same_front_and_another_seed_another(xor_task):
    options = {"population": 8, "generations": 2, "progress": "none"}
    one = front_of(nets.search(xor_task, seed=1, **options, inherit="none"))
    assert one == front_of(nets.search(xor_task, seed=1, **options, inherit="none"))
    assert one != front_of(nets.search(xor_task, seed=2, **options, inherit="none"))


@pytest.mark.parametrize(
    ("kind", "stock"),
    [("plus", algorithms.eaMuPlusLambda), ("comma", algorithms.eaMuCommaLambda)],
)
def test_a_search_is_deaps_algorithm_draw_for_draw(kind, stock, xor_task):
    sizes, chances = {"population": 6, "offspring": 9}, {"cxpb": 0.3, "mutpb": 0.5}
    more = {"generations": 4, "algorithm": kind, "seed": 7, "progress": "none"}
    found = nets.search(xor_task, **sizes, **chances, **more, inherit="none")
    toolbox, front = nets.make_toolbox(xor_task, inherit="none"), nets.ParetoFront()
    random.seed(7)
    tickets, _ = stock(
        toolbox.population(n=6), toolbox, 6, 9, **chances, ngen=4, halloffame=front, verbose=False
    )
    assert [t.digest for t in found.population] == [t.digest for t in tickets]
    assert front_of(found) == [(t.digest, t.fitness.values) for t in front]


def test_a_map_that_returns_too_little_is_named(xor_task):
    toolbox = nets.make_toolbox(xor_task, inherit="none")
    toolbox.register("map", lambda function, tickets: nets.batch_map(function, tickets)[:-1])
    with pytest.raises(InvalidValueError, match=r"map.*must have the right length.*P = 4, got 3"):
        nets.search(xor_task, toolbox=toolbox, population=4, generations=1, progress="none")


@pytest.mark.parametrize("source", [random.random, np.random.random, torch.rand])
def test_operators_may_draw_from_any_global_generator(source, xor_task):
    def mutate(ticket):
        draw = source(1) if source is torch.rand else source()
        return nets.operators.mut_flip(ticket, indpb=0.1 + 0.5 * float(draw))

    toolbox = nets.make_toolbox(xor_task, inherit="none")
    toolbox.register("mutate", mutate)
    options = {"toolbox": toolbox, "population": 6, "generations": 2, "progress": "none"}
    found = []
    for seed in (1, 2):  # what the global states are before does not matter
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)  # noqa: NPY002
        found.append(front_of(nets.search(xor_task, seed=3, **options)))
    assert found[0] == found[1]


def test_global_random_states_stay_as_they_were(xor_task):
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    nets.search(xor_task, population=6, generations=1, progress="none", seed=5, inherit="none")
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


def test_a_limit_ends_the_search_with_a_result(xor_task):
    result = nets.search(
        xor_task, population=6, generations=50, max_steps=1, progress="none", inherit="none"
    )
    assert "steps x networks are spent" in result.stopped
    assert len(result.logbook) == 1
    assert len(result.population) == 6
    assert len(result.front) >= 1


def test_no_generations_is_the_first_population(xor_task):
    result = nets.search(xor_task, population=5, generations=0, progress="none", inherit="none")
    assert result.stopped is None
    assert result.path is None
    assert len(result.logbook) == 1


def test_lambda_may_differ_from_mu(xor_task):
    before = xor_task.ledger.networks
    result = nets.search(
        xor_task, population=4, offspring=9, generations=2, progress="none", inherit="none"
    )
    assert len(result.population) == 4
    assert xor_task.ledger.networks - before <= 4 + 2 * 9


def test_a_single_objective(xor_task):
    result = nets.search(
        xor_task,
        objectives=nets.penalised(0.5),
        population=8,
        generations=2,
        progress="none",
        inherit="none",
    )
    minima = result.logbook.select("penalised_min")
    assert minima == sorted(minima, reverse=True)
    assert min(t.fitness.values[0] for t in result.front) == minima[-1]


def test_a_toolbox_of_the_users_own(xor_task):
    toolbox = nets.make_toolbox(xor_task, density=(0.5, 1.0), inherit="none")
    result = nets.search(xor_task, toolbox=toolbox, population=6, generations=2, progress="none")
    assert all(0.5 <= t.density <= 1 for t in result.population)
    with pytest.raises(InvalidValueError, match="toolbox must come alone"):
        nets.search(xor_task, toolbox=toolbox, density=(0.1, 1.0))


def test_all_bad_arguments_are_told_together(xor_task):
    with pytest.raises(InvalidValueError) as caught:
        nets.search(xor_task, population=0, generations=-1, cxpb=0.9, mutpb=0.9, inherit="none")
    for text in ("population must", "generations must", "cxpb + mutpb must"):
        assert text in str(caught.value)


def test_a_wrong_kind_is_a_type_error(xor_task):
    with pytest.raises(InvalidTypeError, match="population must be a whole number"):
        nets.search(xor_task, population=2.5, inherit="none")


def test_the_front_holds_offspring_that_did_not_survive(xor_task, monkeypatch):
    seen = []
    original = nets.Evaluator.batch

    def batch(self, tickets):
        tickets = list(tickets)
        values = original(self, tickets)
        seen.extend(values)
        return values

    monkeypatch.setattr(nets.Evaluator, "batch", batch)
    result = nets.search(
        xor_task, population=4, generations=6, progress="none", seed=2, inherit="none"
    )
    nondominated = {
        v
        for v in seen
        if not any(w != v and all(a <= b for a, b in zip(w, v, strict=True)) for w in seen)
    }
    assert {t.fitness.values for t in result.front} == nondominated


def test_a_toolbox_used_again_gives_the_same_again(xor_task):
    toolbox = nets.make_toolbox(xor_task, inherit="none")
    options = {"toolbox": toolbox, "population": 6, "generations": 1, "progress": "none"}
    assert front_of(nets.search(xor_task, **options)) == front_of(nets.search(xor_task, **options))


def test_a_bad_option_leaves_random_state_and_the_earlier_run_alone(xor_task, tmp_path):
    options = {"population": 4, "generations": 0, "progress": "none", "path": tmp_path}
    nets.search(xor_task, **options, inherit="none")
    before = random.getstate(), sorted(tmp_path.rglob("*"))
    with pytest.raises(InvalidValueError, match="distribution must be a known name"):
        nets.search(xor_task, **options, overwrite=True, distribution="bogus", inherit="none")
    assert (random.getstate(), sorted(tmp_path.rglob("*"))) == before


@pytest.mark.parametrize(
    "draw", [lambda task, n: [task.dense_ticket()] * n, lambda task, n: [[1, 0]] * n]
)
def test_a_population_that_cannot_evolve_is_refused_with_the_way(draw, xor_task):
    box = base.Toolbox()
    box.register("evaluate", nets.Evaluator(xor_task, "val_loss"))
    box.register("population", lambda n: draw(xor_task, n))
    with pytest.raises(
        TypeError, match=r"population must return tickets with a fitness: .*nets.Ticket, fitness="
    ):
        nets.search(xor_task, toolbox=box, population=4, generations=1, progress="none")
