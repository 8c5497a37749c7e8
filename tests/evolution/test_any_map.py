"""Any map: the numbers, the heritage and the costs of one batch a generation."""

import copy
import multiprocessing
import os
import pickle
import random
from multiprocessing.pool import ThreadPool

import numpy as np
import pytest
from deap import algorithms, base, tools

import nets_deap as nets
from nets_deap.errors import CallOrderError, InvalidTypeError, InvalidValueError
from nets_deap.evolution import evaluator as evaluator_file
from nets_deap.evolution.any_map import AnyMap
from nets_deap.evolution.objectives import FACTORIES, OBJECTIVES
from nets_deap.tickets.fitness import fitness_class
from nets_deap.training.problem import Plan

N, GENERATIONS = 6, 3
RECIPE = nets.Recipe(lr=0.05, batch_size=2, steps=6, loss="binary_cross_entropy", val_points=2)


def new_task(**options):
    return nets.tasks.xor(hidden=4, noise=0.2, recipe=RECIPE, dtype="float64", **options)


def copied(thing):
    return pickle.loads(pickle.dumps(thing))


def copying_map(function, *lists):
    """As a pool does, in this process: function, arguments and results are copies."""
    return [copied(copied(function)(*map(copied, call))) for call in zip(*lists, strict=True)]


@pytest.fixture
def threads():
    with ThreadPool(3) as pool:
        yield pool.map


@pytest.fixture
def elsewhere(monkeypatch):
    """Let a map run its function as another process would."""
    home = os.getpid()

    def run(function, tickets):
        monkeypatch.setattr(os, "getpid", lambda: home + 1)
        try:
            return copying_map(function, tickets)
        finally:
            monkeypatch.setattr(os, "getpid", lambda: home)

    return run


def nsga2(population, box):
    """The loop of DEAP's example."""
    evaluate(population, box)
    population = box.select(population, N)
    for _ in range(GENERATIONS):
        offspring = [box.clone(t) for t in tools.selTournamentDCD(population, 4)]
        for one, other in zip(offspring[::2], offspring[1::2], strict=True):
            box.mate(one, other)
            for child in (one, other):
                box.mutate(child)
                del child.fitness.values
        evaluate(offspring, box)
        population = box.select(population + offspring, N)
    return population


def evaluate(tickets, box):
    invalid = [t for t in tickets if not t.fitness.valid]
    for ticket, values in zip(invalid, box.map(box.evaluate, invalid), strict=True):
        ticket.fitness.values = values


def generate(population, box):
    box.register("generate", box.population, n=N)
    box.register("update", lambda tickets: None)
    return algorithms.eaGenerateUpdate(box, GENERATIONS + 1, verbose=False)[0]


ALGORITHMS = {
    "simple": lambda p, b: algorithms.eaSimple(p, b, 0.4, 0.4, GENERATIONS, verbose=False)[0],
    # So few offspring that some generations have nothing new.
    "plus": lambda p, b: algorithms.eaMuPlusLambda(
        p, b, N, 2, 0.2, 0.2, GENERATIONS, verbose=False
    )[0],
    "comma": lambda p, b: algorithms.eaMuCommaLambda(
        p, b, N, 8, 0.3, 0.5, GENERATIONS, verbose=False
    )[0],
    "nsga2": nsga2,
    "generate": generate,
}
each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


def found_by(algorithm, map_=None, around=None, **options):
    """Return what an algorithm ends with, and the toolbox."""
    box = nets.make_toolbox(new_task(), **options)
    if around is not None:
        box.register("evaluate", around(box.evaluate.func))
    if map_ is not None:
        box.register("map", map_)
    random.seed(7)
    tickets = ALGORITHMS[algorithm](box.population(n=N), box)
    return [(t.digest, t.fitness.values) for t in tickets], box


def assert_same(one, other):
    assert [digest for digest, _ in one] == [digest for digest, _ in other]
    for (_, ours), (_, its) in zip(one, other, strict=True):
        np.testing.assert_allclose(ours, its, rtol=1e-9)


@each_algorithm
@pytest.mark.parametrize("options", [{}, {"inherit": "weights", "gradient": True}], ids=str)
def test_an_algorithm_finds_the_same_through_any_map(algorithm, options, threads):
    wanted, box = found_by(algorithm, **options)
    generation = box.evaluate.func.generation
    for map_ in (map, threads, copying_map):
        found, box = found_by(algorithm, map_, **options)
        assert_same(found, wanted)
        assert box.evaluate.func.generation == generation


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_pool_of_processes_finds_the_same():
    wanted, _ = found_by("plus", inherit="weights")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found, box = found_by("plus", pool.map, inherit="weights")
    assert_same(found, wanted)
    assert box.evaluate.func.task.ledger.networks > N


def test_each_generation_sees_its_own_minibatches():
    task = new_task()
    box = nets.make_toolbox(task, inherit="none")
    box.register("map", map)
    (ticket,) = box.population(n=1)
    for generation in range(3):
        ((loss, _),) = box.map(box.evaluate, [ticket])
        plan = Plan(task.steps, task.derived_seed(generation))
        assert loss == pytest.approx(task.run([ticket], plan).metrics["val_loss"][0], rel=1e-12)


def test_what_copies_learn_and_spend_comes_home():
    task = new_task()
    box = nets.make_toolbox(task, inherit="weights", first_density=(0.4, 0.6), gradient=False)
    box.map = copying_map
    parent, other = box.population(n=2)
    box.map(box.evaluate, [parent, other])
    spent = task.ledger.totals()
    assert spent[:2] == (2, 2 * task.steps)
    assert spent[3] == pytest.approx(task.steps * (parent.density + other.density))
    assert parent.trained.steps == task.steps
    assert parent.evaluations == 1
    child = box.clone(parent)
    box.mutate(child)
    box.map(box.evaluate, [child])
    assert child.trained.steps == 2 * task.steps
    assert child.parent_digests == (parent.digest,)


def test_divergence_elsewhere_is_counted_at_home():
    task = new_task()
    lost = nets.Objective("lost", "min", 9.0, _nan, reference=1.0)
    box = nets.make_toolbox(task, objectives=("density", lost), inherit="none")
    box.map = copying_map
    tickets = box.population(n=2)
    assert box.map(box.evaluate, tickets) == [(1.0, 9.0)] * 2
    assert task.ledger.diverged == 2
    assert all(t.diverged for t in tickets)


def _nan(measured):
    return float("nan")


# ---- decorated


def penalised(function):
    return tools.DeltaPenalty(lambda ticket: ticket.density < 0.7, (9.0, 1.0))(function)


@pytest.mark.parametrize("all_infeasible", [False, True])
def test_a_decorated_evaluate_counts_generations_alike(all_infeasible, threads):
    for map_ in (nets.batch_map, map, threads):
        box = nets.make_toolbox(new_task(), inherit="none")
        box.decorate("evaluate", penalised)
        box.register("map", map_)
        tickets = [t for t in box.population(n=6) if not all_infeasible or t.density >= 0.7]
        for generation in range(1, 3):
            box.map(box.evaluate, tickets)
            box.map(box.evaluate, [])
            assert box._evaluator().generation == 2 * generation


class _InAThread:
    """As those do that give up on what takes too long."""

    def __init__(self, evaluate):
        self.evaluate = evaluate

    def __call__(self, ticket):
        with ThreadPool(1) as pool:
            return pool.apply(self.evaluate, [ticket])


class _OfAClone(_InAThread):
    """As those do that repair a copy before."""

    def __call__(self, ticket):
        return self.evaluate(copy.deepcopy(ticket))


@pytest.mark.parametrize("kind", [_InAThread, _OfAClone])
@pytest.mark.parametrize("inherit", ["none", "weights"])
def test_an_evaluate_in_a_thread_or_of_a_clone_finds_the_same(kind, inherit):
    wanted, box = found_by("plus", inherit=inherit)
    generation = box.evaluate.func.generation
    for map_ in (None, map, copying_map):
        found, box = found_by("plus", map_, kind, inherit=inherit)
        assert_same(found, wanted)
        assert box.evaluate.func.evaluate.generation == generation


def test_a_function_that_evaluates_twice_does_so_in_one_generation():
    found = []
    for map_ in (nets.batch_map, map):
        box = nets.make_toolbox(new_task(), inherit="none")
        raw = box.evaluate
        box.register("evaluate", lambda ticket, raw=raw: raw(ticket) + raw(ticket))
        box.register("map", map_)
        random.seed(3)
        found.append(box.map(box.evaluate, box.population(n=3)))
    np.testing.assert_allclose(found[0], found[1])
    assert all(row[:2] == row[2:] for row in found[0])


def test_a_map_of_ones_own_around_batch_map_stays_batched(monkeypatch):
    sizes, run = [], nets.Task.run
    monkeypatch.setattr(
        nets.Task,
        "run",
        lambda self, some, *a, **k: sizes.append(len(some)) or run(self, some, *a, **k),
    )
    box = nets.make_toolbox(
        new_task(), map=lambda f, tickets: nets.batch_map(f, tickets), inherit="none"
    )
    box.map(box.evaluate, box.population(n=5))
    assert sizes == [5]
    assert box.evaluate.func.generation == 1


# ---- in other processes, without the toolbox's map


def test_numbers_come_home_alone_with_a_warning(elsewhere, caplog, monkeypatch):
    monkeypatch.setattr(evaluator_file, "_warned", set())
    box = nets.make_toolbox(new_task(), inherit="none")
    tickets = box.population(n=3)
    values = elsewhere(box.evaluate, tickets)
    assert "Register the map as toolbox.map of nets.make_toolbox" in caplog.messages[0]
    assert len(caplog.messages) == 1
    np.testing.assert_allclose(values, box.map(box.evaluate, tickets))


def test_selection_ends_a_generation_that_was_evaluated_elsewhere(elsewhere):
    box = nets.make_toolbox(new_task(), inherit="none")
    tickets = box.population(n=2)
    found = []
    for generation in range(2):
        assert box.evaluate.func.generation == generation
        found.append(elsewhere(box.evaluate, tickets))
        for ticket, values in zip(tickets, found[-1], strict=True):
            ticket.fitness.values = values
        box.select(tickets, 2)
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"inherit": "weights"}, "inherit='weights'"),
        ({"gradient": True, "inherit": "none"}, "gradients"),
        (
            {"budget": nets.Budget(100, unit="steps", generations=2), "inherit": "none"},
            "a budget",
        ),
    ],
    ids=["inherit", "gradient", "budget"],
)
def test_what_would_be_lost_there_is_refused(options, text, elsewhere):
    box = nets.make_toolbox(new_task(), **options)
    with pytest.raises(CallOrderError, match=rf"with {text}: expected toolbox.map = nets"):
        elsewhere(box.evaluate, box.population(n=2))
    if "budget" in options:
        box.register("map", elsewhere)
        with pytest.raises(CallOrderError, match="shared out among all tickets"):
            box.map(box.evaluate, box.population(n=2))


def test_a_whole_search_may_run_elsewhere(monkeypatch):
    box = copied(
        nets.make_toolbox(
            new_task(), inherit="weights", budget=nets.Budget(90, unit="steps", generations=1)
        )
    )
    home = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: home + 1)
    random.seed(1)
    algorithms.eaMuCommaLambda(box.population(n=3), box, 3, 4, 0.3, 0.6, 1, verbose=False)
    assert box.evaluate.func.task.ledger.network_steps == 90


# ---- pickles and copies


@pytest.mark.parametrize(
    "name",
    [
        *OBJECTIVES,
        *(
            pytest.param(
                f"{name}:{3 if name.startswith('latency') else 0.3}",
                marks=[pytest.mark.extra] * ("onnxruntime" in name),
            )
            for name in FACTORIES
        ),
    ],
)
def test_every_objective_can_be_pickled(name):
    (objective,) = nets.objectives.resolve(name)
    assert copied(objective).name == objective.name
    for module in ("onnxruntime", "onnxscript") if "onnxruntime" in name else ():
        pytest.importorskip(module)
    task = nets.tasks.xor(hidden=3, recipe=RECIPE)
    evaluator = nets.Evaluator(task, name)
    ticket = task.dense_ticket()
    found, expected = copied(evaluator)(copied(ticket)), evaluator(ticket)
    # A time that is measured is never the same twice.
    assert min(*found, *expected) > 0 if name.startswith("latency") else found == expected


@pytest.mark.parametrize("copy_of", [copied, copy.deepcopy], ids=["pickle", "deepcopy"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"inherit": "weights"},
        {"gradient": True, "reevaluate": True},
        {"objectives": ("val_loss", "multiply_adds"), "inherit": "weights"},
        {"budget": nets.Budget(500, unit="steps", generations=2)},
        {"map": map},
    ],
    ids=lambda options: " ".join(options) or "defaults",
)
def test_a_whole_toolbox_can_be_copied(options, copy_of):
    box = nets.make_toolbox(new_task(), **options)
    other = copy_of(box)
    assert other.evaluate.func is not box.evaluate.func
    found = []
    for one in (box, other):
        random.seed(2)
        tickets = one.population(n=4)
        evaluate(tickets, one)
        offspring = algorithms.varOr(tickets, one, 4, 0.5, 0.5)
        evaluate(offspring, one)
        found.append([t.fitness.values for t in one.select(tickets + offspring, 4)])
        assert one.evaluate.func.generation == 2
    np.testing.assert_allclose(*found)
    if copy_of is copy.deepcopy:
        assert other.evaluate.func.task is box.evaluate.func.task, "data are not copied"


# ---- maps that do not do what a map does


@pytest.mark.parametrize(
    ("map_", "error", "text"),
    [
        (lambda f, x: None, InvalidTypeError, "map must return results: .* got NoneType"),
        (lambda f, x: [object() for _ in x], InvalidTypeError, "got object. Register one"),
        (lambda f, x: [f(one) for one in x[1:]], InvalidValueError, "expected P = 3, got 2"),
        (lambda f, x: [f(one) for one in x[::-1]], InvalidValueError, "map must keep the order"),
        (lambda f, x: [f(*one) for one in x], InvalidValueError, "evaluate must take tickets only"),
    ],
    ids=["nothing", "futures", "fewer", "unordered", "starmap"],
)
def test_other_results_are_refused(map_, error, text):
    box = nets.make_toolbox(new_task(), inherit="none")
    box.map = map_
    with pytest.raises(error, match=text):
        box.map(box.evaluate, box.population(n=3))


def test_iterators_and_other_functions_pass():
    box = nets.make_toolbox(new_task(), inherit="none")
    box.register("map", lambda f, *x: (one for one in map(f, *x)))
    assert box.map(len, [[1], []]) == [1, 0]
    assert box.map(pow, [2, 3], [4, 5, 6]) == [16, 243]
    assert box.map(len, []) == []
    assert len(box.map(box.evaluate, box.population(n=3))) == 3
    assert box.evaluate.func.generation == 1
    with pytest.raises(TypeError, match="has no len"):
        box.map(len, [1])
    with pytest.raises(InvalidTypeError, match="map must be callable"):
        AnyMap(3)


def test_extras_are_refused_by_any_map():
    box = nets.make_toolbox(new_task(), inherit="none")
    box.register("evaluate", box.evaluate.func, extra=3)
    for map_ in (map, nets.batch_map):
        box.register("map", map_)
        with pytest.raises(InvalidValueError, match="evaluate must take tickets only"):
            box.map(box.evaluate, box.population(n=2))


# ---- toolboxes of one's own


def test_a_plain_toolbox_takes_any_map_by_hand():
    task = new_task()
    box = base.Toolbox()
    box.register("evaluate", nets.Evaluator(task, "val_loss", inherit="weights"))
    box.register("map", AnyMap(copying_map))
    ticket = task.dense_ticket()
    first = box.map(box.evaluate, [ticket])
    assert ticket.trained.steps == task.steps
    assert box.map(box.evaluate, [ticket]) != first
    assert box.evaluate.func.generation == 2


def test_what_is_registered_is_called_and_can_be_decorated():
    box = nets.make_toolbox(new_task(), inherit="none")
    box.register("select", tools.selTournament, tournsize=2)
    assert box.select.keywords == {"tournsize": 2}
    assert box.select.__doc__ == tools.selTournament.__doc__
    seen = []

    def noting(function):
        return lambda *args, **more: seen.append(function) or function(*args, **more)

    for name in ("map", "select", "population"):
        box.decorate(name, noting)
    tickets = box.population(n=3)
    evaluate(tickets, box)
    assert len(box.select(tickets, 2)) == 2
    assert len(seen) == 3
    box.unregister("select")
    assert not hasattr(box, "select")


def test_survivors_are_evaluated_again_whatever_selects_and_maps():
    for map_ in (nets.batch_map, map, copying_map):
        box = nets.make_toolbox(new_task(), reevaluate=True, inherit="none")
        box.register("select", tools.selNSGA2)
        box.register("map", map_)
        tickets = box.population(n=3)
        evaluate(tickets, box)
        (survivor,) = box.select(tickets, 1)
        first = survivor.fitness.values
        child = box.clone(survivor)
        child[0] = not child[0]
        box.map(box.evaluate, [child])
        assert survivor.evaluations == 2
        assert survivor.fitness.values != first


def test_tickets_without_a_fitness_get_one_where_they_are_drawn():
    task = new_task()
    box = nets.make_toolbox(task, inherit="none")
    box.register("population", tools.initRepeat, list, task.dense_ticket)
    tickets, _ = algorithms.eaSimple(box.population(n=2), box, 0, 1, 1, verbose=False)
    assert all(t.fitness.names == ("val_loss", "density") for t in tickets)


@pytest.mark.parametrize("weights", [(1.0, 1.0), (-1.0,), (-1.0, -1.0, -1.0)], ids=str)
def test_a_fitness_for_other_objectives_is_refused_on_every_way_in(weights, threads):
    box = nets.make_toolbox(new_task(), inherit="none")
    raw = box.evaluate
    task = raw.func.task
    ticket = task.ticket(np.arange(task.layout.size) % 2)
    ticket.fitness = fitness_class(("a", "b", "c")[: len(weights)], weights)()
    rule = "the signs of the objectives" if len(weights) == 2 else "one value for each objective"
    text = rf"fitness.weights must have {rule}: expected \[-1.0, -1.0\]"
    for map_ in (nets.batch_map, map, threads, copying_map):
        box.register("map", map_)
        for function in (raw, penalised(raw), lambda one: raw(one)):
            if map_ is copying_map and function is not raw:
                continue
            with pytest.raises(InvalidValueError, match=text):
                box.map(function, [ticket, ticket])
    with pytest.raises(InvalidValueError, match=text):
        raw(ticket)
    assert raw.func.task.ledger.networks == 0


@pytest.mark.parametrize("map_", [nets.batch_map, map, copying_map])
def test_an_evaluate_may_make_other_values_by_a_copy_without_fitness(map_):
    box = nets.make_toolbox(new_task(), inherit="weights")
    wanted = box.map(box.evaluate, [box.evaluate.func.task.dense_ticket()])
    box = nets.make_toolbox(new_task(), inherit="weights")
    box.register("evaluate", _Sum(box.evaluate.func))
    box.register("map", map_)
    ticket = box.evaluate.func.evaluate.task.dense_ticket()
    ticket.fitness = fitness_class(("sum",), (-1.0,))()
    assert box.map(box.evaluate, [ticket]) == [pytest.approx((sum(wanted[0]),))]
    assert ticket.inherited.steps == RECIPE.steps


class _Sum(_InAThread):
    def __call__(self, ticket):
        plain = copy.copy(ticket)
        plain.fitness = None
        return (sum(self.evaluate(plain)),)


def test_other_individuals_are_refused_with_the_way():
    evaluator = nets.Evaluator(new_task(), "val_loss")
    with pytest.raises(InvalidTypeError, match=r"creator.create\('Individual', nets.Ticket"):
        evaluator([1, 0])
    with pytest.raises(InvalidTypeError, match=r"creator.create\('Individual', nets.Ticket"):
        nets.make_toolbox(new_task(), inherit="none").mutate([1, 0])


def test_dense_steps_spent_by_copies_come_home():
    task = new_task()
    box = nets.make_toolbox(task, inherit="none", gradient=False)
    box.map = copying_map
    tickets = box.population(n=3)
    box.map(box.evaluate, tickets)
    expected = task.steps * sum(ticket.density for ticket in tickets)
    assert task.ledger.dense_steps == pytest.approx(expected)
