"""DEAP's own algorithms, selections, archives and statistics, unmodified, on tickets."""

import random

import numpy as np
import pytest
from deap import algorithms, base, creator, tools

from nets_deap import (
    Evaluator,
    NetsError,
    Objective,
    ParetoFront,
    Recipe,
    Task,
    Ticket,
    batch_map,
    hypervolume,
    make_toolbox,
    penalised,
    tasks,
)
from nets_deap.evolution.operators import init_density, keep_density

N, GENERATIONS = 12, 3
RECIPE = Recipe(lr=0.1, batch_size=4, steps=8, loss="binary_cross_entropy")
POINTS = tools.uniform_reference_points(2, p=11)
ALGORITHMS = {
    "eaSimple": lambda p, t, **more: algorithms.eaSimple(p, t, 0.5, 0.5, GENERATIONS, **more),
    "eaMuPlusLambda": lambda p, t, **more: algorithms.eaMuPlusLambda(
        p, t, N, 2 * N, 0.3, 0.3, GENERATIONS, **more
    ),
    "eaMuCommaLambda": lambda p, t, **more: algorithms.eaMuCommaLambda(
        p, t, N, 2 * N, 0.4, 0.6, GENERATIONS, **more
    ),
}
each_algorithm = pytest.mark.parametrize("algorithm", ALGORITHMS)


@pytest.fixture
def task():
    return tasks.xor(hidden=5, recipe=RECIPE, device="cpu")


@pytest.fixture
def toolbox(task):
    random.seed(3)
    return make_toolbox(task, density=(0.2, 1.0), inherit="none")


@pytest.fixture
def calls(monkeypatch):
    """The number of networks of every training so far."""
    seen, run = [], Task.run

    def spy(self, tickets, *more, **options):
        seen.append(len(tickets))
        return run(self, tickets, *more, **options)

    monkeypatch.setattr(Task, "run", spy)
    return seen


def run(name, toolbox, **more):
    """Run a stock algorithm; return the population and the logbook."""
    return ALGORITHMS[name](toolbox.population(n=N), toolbox, verbose=False, **more)


def evaluate(individuals, toolbox):
    """Evaluate those without a valid fitness, as DEAP's loops do; return how many."""
    invalid = [ind for ind in individuals if not ind.fitness.valid]
    for ind, values in zip(invalid, toolbox.map(toolbox.evaluate, invalid), strict=True):
        ind.fitness.values = values
    return len(invalid)


def volume(tickets):
    """Return the hypervolume of evaluated tickets."""
    return hypervolume([t.fitness.values for t in tickets], tickets[0].fitness.reference)


def check(population, task):
    """Check that a population is what an algorithm may end with."""
    assert len(population) == N
    for ticket in population:
        assert np.isfinite(ticket.fitness.values).all()
        assert ticket.layout is task.layout
        assert ticket.fitness.values[1] == ticket.density >= 0.2
        assert len(ticket.trained.values) == ticket.kept
        assert ticket.trained.metrics["val_loss"] == ticket.fitness.values[0]


# ---- the stock algorithms


@each_algorithm
def test_a_stock_algorithm_trains_one_batch_for_each_generation(algorithm, toolbox, task, calls):
    statistics = tools.Statistics(lambda ind: ind.fitness.values)
    statistics.register("least", np.min, axis=0)
    archive = tools.ParetoFront()
    population, logbook = run(algorithm, toolbox, stats=statistics, halloffame=archive)
    check(population, task)
    assert len(calls) == GENERATIONS + 1
    assert all(0 < n <= nevals for n, nevals in zip(calls, logbook.select("nevals"), strict=True))
    assert toolbox.evaluate.func.generation == GENERATIONS + 1
    assert logbook[-1]["least"].shape == (2,)
    everyone = [*archive, *population]
    assert not any(b.fitness.dominates(a.fitness) for a in archive for b in everyone)


@each_algorithm
def test_a_seed_repeats_a_run(algorithm, task):
    def result(seed):
        random.seed(seed)
        population, _ = run(algorithm, make_toolbox(task, density=(0.2, 1.0), inherit="none"))
        return [(ticket.digest, ticket.fitness.values) for ticket in population]

    assert result(1) == result(1) != result(2)


@each_algorithm
def test_a_single_penalised_objective(algorithm, task, calls):
    toolbox = make_toolbox(task, objectives=penalised(0.4), density=(0.2, 1.0), inherit="none")
    toolbox.register("select", tools.selTournament, tournsize=3)
    best = tools.HallOfFame(2)
    population, _ = run(algorithm, toolbox, halloffame=best)
    assert len(calls) == GENERATIONS + 1
    assert best[0] != best[1]
    assert best[0].fitness.values <= min(t.fitness.values for t in population)
    for ticket in population:
        loss, excess = ticket.trained.metrics["val_loss"], (ticket.density - 0.4) / 0.6
        assert ticket.fitness.values == (pytest.approx(loss + excess**2),)


def test_delta_penalty_trains_only_what_is_feasible(toolbox, calls):
    penalty = tools.DeltaPenalty(lambda ticket: ticket.density <= 0.5, (9.0, 1.0))
    toolbox.decorate("evaluate", penalty)
    population, logbook = run("eaMuPlusLambda", toolbox)
    assert len(calls) == GENERATIONS + 1
    assert sum(calls) < sum(logbook.select("nevals"))
    for ticket in population:
        assert (ticket.density <= 0.5) == (ticket.trained is not None)
        assert (ticket.density > 0.5) == (ticket.fitness.values == (9.0, 1.0))
    assert any(ticket.density <= 0.5 for ticket in population)


def test_a_diverging_objective_never_reaches_the_front(task):
    odd = Objective("odd", "min", 50.0, lambda m: np.nan if m.ticket.density < 0.5 else 1.0)
    toolbox = make_toolbox(task, objectives=["density", odd], density=(0.2, 1.0), inherit="none")
    front = ParetoFront()
    run("eaMuPlusLambda", toolbox, halloffame=front)
    assert task.ledger.diverged > 0
    assert all(t.fitness.values == (t.density, 1.0) and t.density >= 0.5 for t in front)


# ---- loops that users write after DEAP's examples


def nsga2_loop(population, toolbox):
    """Select parents by crowded tournaments; vary clones in place and ignore what is returned."""
    evaluate(population, toolbox)
    population = toolbox.select(population, N)
    for _ in range(GENERATIONS):
        offspring = [toolbox.clone(t) for t in tools.selTournamentDCD(population, N)]
        for one, other in zip(offspring[::2], offspring[1::2], strict=True):
            if random.random() <= 0.9:
                toolbox.mate(one, other)
            for child in (one, other):
                toolbox.mutate(child)
                del child.fitness.values
        assert evaluate(offspring, toolbox) == N
        population = toolbox.select(population + offspring, N)
    return population


def plain_loop(population, toolbox):
    """Vary with DEAP's own function, and select from parents and offspring."""
    evaluate(population, toolbox)
    for _ in range(GENERATIONS):
        offspring = algorithms.varAnd(population, toolbox, 0.8, 0.8)
        assert evaluate(offspring, toolbox) > 0
        population = toolbox.select(population + offspring, N)
    return population


@pytest.mark.parametrize(
    ("loop", "select"),
    [
        (nsga2_loop, None),
        (nsga2_loop, tools.selNSGA2),
        (plain_loop, lambda both, k: tools.selNSGA3(both, k, POINTS)),
        (plain_loop, tools.selNSGA3WithMemory(POINTS)),
        (plain_loop, tools.selSPEA2),
    ],
    ids=["sel_nsga2", "selNSGA2", "selNSGA3", "selNSGA3WithMemory", "selSPEA2"],
)
def test_multi_objective_loops(loop, select, toolbox, task, calls):
    if select is not None:
        toolbox.register("select", select)
    start = toolbox.population(n=N)
    population = loop(start, toolbox)
    check(population, task)
    assert len(calls) == GENERATIONS + 1
    assert volume(population) > 0
    assert {t.digest for t in population} - {t.digest for t in start}, "nothing new survived"


# ---- archives, statistics, history, creator


def test_statistics_of_several_kinds(toolbox):
    statistics = tools.MultiStatistics(
        loss=tools.Statistics(lambda ind: ind.fitness.values[0]),
        density=tools.Statistics(lambda ind: ind.density),
    )
    statistics.register("mean", np.mean)
    population, logbook = run("eaMuPlusLambda", toolbox, stats=statistics)
    for i, name in enumerate(("loss", "density")):
        means = logbook.chapters[name].select("mean")
        assert len(means) == GENERATIONS + 1
        assert means[-1] == pytest.approx(np.mean([t.fitness.values[i] for t in population]))


def test_both_archives_hold_the_same_front(toolbox):
    population, theirs, ours = toolbox.population(n=N), tools.ParetoFront(), ParetoFront()
    for _ in range(GENERATIONS):
        evaluate(population, toolbox)
        for archive in (theirs, ours):
            archive.update(population)
        population = algorithms.varOr(population, toolbox, N, 0.3, 0.7)
    both = [[(t.digest, t.fitness.values) for t in archive] for archive in (theirs, ours)]
    assert both[0] == both[1]


def test_history_follows_every_child_to_its_parents(toolbox):
    history = tools.History()
    for name in ("mate", "mutate"):
        toolbox.decorate(name, history.decorator)
    population = toolbox.population(n=N)
    history.update(population)
    population, _ = ALGORITHMS["eaMuPlusLambda"](population, toolbox, verbose=False)
    youngest = max(population, key=lambda t: t.history_index)
    assert youngest.history_index > N
    assert any(i <= N for parents in history.getGenealogy(youngest).values() for i in parents)
    assert history.genealogy_history[youngest.history_index] == youngest


@pytest.fixture
def created():
    creator.create("XorFitness", base.Fitness, weights=(-1.0, 1.0))
    creator.create("XorTicket", Ticket, fitness=creator.XorFitness, note="own")
    yield creator.XorTicket
    del creator.XorFitness, creator.XorTicket


def test_a_creator_class_with_stock_operators(created, task, calls):
    toolbox = base.Toolbox()
    toolbox.register("individual", init_density, created, task.layout, density=0.5)
    toolbox.register("population", tools.initRepeat, list, toolbox.individual)
    toolbox.register("mate", tools.cxTwoPoint)
    toolbox.register("mutate", tools.mutFlipBit, indpb=0.1)
    toolbox.decorate("mutate", keep_density(0.2))
    toolbox.register("select", tools.selTournament, tournsize=2)
    toolbox.register("evaluate", Evaluator(task, ("val_loss", "val_accuracy")))
    toolbox.register("map", batch_map)
    best = tools.HallOfFame(1)
    population, _ = run("eaSimple", toolbox, halloffame=best)
    assert len(calls) == GENERATIONS + 1
    assert all(type(t) is created and t.note == "own" for t in [*population, *best])
    assert best[0].fitness >= max(t.fitness for t in population)
    assert task.train(best[0]).density == best[0].density


# ---- evolution itself


def test_evolution_finds_sparse_tickets_that_solve_xor():
    recipe = Recipe(lr=0.1, batch_size=4, steps=60, loss="binary_cross_entropy")
    task = tasks.xor(noise=0.05, recipe=recipe, device="cpu")
    random.seed(0)
    toolbox, front, volumes = (
        make_toolbox(task, density=(0.1, 1.0), inherit="none"),
        ParetoFront(),
        [],
    )
    follow = tools.Statistics()
    follow.register("volume", lambda _: volumes.append(volume(list(front))))
    more = {"stats": follow, "halloffame": front, "verbose": False}
    algorithms.eaMuPlusLambda(toolbox.population(n=20), toolbox, 20, 20, 0.4, 0.6, 8, **more)
    assert len(volumes) == 9
    assert np.diff(volumes).min() >= 0
    assert volumes[-1] > 1.1 * volumes[0]
    solved = [r.density for r in task.train_all(front) if r.test_accuracy == 1.0]
    assert min(solved) <= 0.5


@pytest.mark.parametrize("inherit", ["weights", "none"])
def test_a_mask_of_ones_own_joins_a_population(inherit):
    task = tasks.xor(hidden=4)
    toolbox = make_toolbox(task, inherit=inherit)
    bits = [i % 3 == 0 for i in range(task.layout.size)]
    mine = [toolbox.individual(bits), toolbox.individual(task.ticket(bits))]
    assert [list(one) for one in mine] == [bits, bits]
    population = toolbox.population(n=4) + mine
    front = ParetoFront()
    algorithms.eaMuPlusLambda(
        population, toolbox, 6, 6, 0.3, 0.6, ngen=2, halloffame=front, verbose=False
    )
    assert len(front)
    drawn = toolbox.individual()
    assert 0 < drawn.density <= 1
    assert drawn.fitness.weights == mine[0].fitness.weights
    with pytest.raises(NetsError, match=r"toolbox\.individual\(mask\)"):
        toolbox.population(n=2, seeds=[bits])
    with pytest.raises(NetsError, match=r"task\.ticket\(mask\)"):
        toolbox.population(n=2, seeds=[Ticket(bits)])
