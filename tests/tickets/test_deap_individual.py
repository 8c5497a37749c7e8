"""Tickets under stock DEAP: its operators, archives, selections, history and creator."""

import copy
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
from deap import base, creator, tools
from support.trained import set_trained

import nets_deap as nets
from nets_deap.errors import InvalidValueError
from nets_deap.tickets.fitness import fitness_class
from nets_deap.tickets.layout import MaskLayout

KIND = fitness_class(("loss", "density"), (-1.0, -1.0))
N = 21


class Listed(list):
    """The list individual that tickets are compared with."""


def draw(seed, n=2):
    """Return ``n`` lists of random bits."""
    return (np.random.default_rng(seed).random((n, N)) < 0.5).tolist()


def population(n, *, levels=50, seed=0):
    """Return ``n`` tickets and ``n`` lists of the same bits and fitnesses."""
    values = np.random.default_rng(seed).integers(levels, size=(n, 2)) / levels
    tickets, lists = [], []
    for mask, pair in zip(draw(seed, n), values.tolist(), strict=True):
        ticket, listed = nets.Ticket(mask, fitness=KIND()), Listed(mask)
        listed.fitness = KIND()
        for individual in (ticket, listed):
            individual.fitness.values = pair
        tickets.append(ticket)
        lists.append(listed)
    return tickets, lists


def positions(chosen, individuals):
    """Return where the chosen individuals stand."""
    return [next(i for i, ind in enumerate(individuals) if ind is one) for one in chosen]


# ---- operators


# All operators that DEAP has for lists, with the arguments of an ordinary call.
OPERATORS = {
    "cxOnePoint": {},
    "cxTwoPoint": {},
    "cxUniform": {"indpb": 0.4},
    "cxMessyOnePoint": {},
    "cxPartialyMatched": {},
    "cxUniformPartialyMatched": {"indpb": 0.4},
    "cxOrdered": {},
    "cxBlend": {"alpha": 0.5},
    "cxSimulatedBinary": {"eta": 2.0},
    "cxSimulatedBinaryBounded": {"eta": 2.0, "low": 0.0, "up": 1.0},
    "cxESBlend": {"alpha": 0.5},
    "cxESTwoPoint": {},
    "mutFlipBit": {"indpb": 0.3},
    "mutInversion": {},
    "mutShuffleIndexes": {"indpb": 0.4},
    "mutUniformInt": {"low": 0, "up": 1, "indpb": 0.4},
    "mutUniformInt of more": {"low": 0, "up": 3, "indpb": 0.4},
    "mutGaussian": {"mu": 0.0, "sigma": 1.0, "indpb": 0.4},
    "mutPolynomialBounded": {"eta": 2.0, "low": 0.0, "up": 1.0, "indpb": 0.4},
    "mutESLogNormal": {"c": 1.0, "indpb": 0.2},
}
REFUSED = {
    *("cxBlend", "cxSimulatedBinary", "cxSimulatedBinaryBounded", "cxESBlend", "mutGaussian"),
    *("mutPolynomialBounded", "mutESLogNormal", "mutUniformInt of more", "cxMessyOnePoint"),
}


def parents_of(operator, seed, kind):
    """Return parents of a class, with a strategy of their own each."""
    parents = [kind(map(int, mask)) for mask in draw(seed, 2 if operator.startswith("cx") else 1)]
    for number, parent in enumerate(parents):
        parent.strategy = [number + place / N for place in range(N)]
    return parents


def operated(operator, parents, seed):
    """Apply an operator; return what went wrong, if anything."""
    random.seed(seed)
    try:
        found = getattr(tools, operator.partition(" ")[0])(*parents, **OPERATORS[operator])
    except Exception as error:
        return error
    assert isinstance(found, tuple)
    assert all(child is parent for child, parent in zip(found, parents, strict=True))
    return None


def test_every_stock_operator_for_lists_is_tried():
    known = {name for name in dir(tools) if name.startswith(("cx", "mut"))} - {"mutation"}
    aliases = {"cxTwoPoints", "cxESTwoPoints"}
    trees = {"cxSemantic", "mutSemantic"}
    assert {name.partition(" ")[0] for name in OPERATORS} == known - aliases - trees


@pytest.mark.parametrize("operator", OPERATORS)
def test_stock_operators_do_gene_for_gene_what_they_do_on_lists(operator):
    done = changed = 0
    for seed in range(30):
        lists, tickets = (parents_of(operator, seed, kind) for kind in (Listed, nets.Ticket))
        before = [list(parent) for parent in lists]
        problems = [operated(operator, parents, seed) for parents in (lists, tickets)]
        fits = all(len(one) == N and set(one) <= {0, 1} for one in lists)
        if problems[0] is None and fits:
            assert problems[1] is None
            assert [list(one) for one in tickets] == lists
            assert [one.strategy for one in tickets] == [one.strategy for one in lists]
            assert tickets == [nets.Ticket(genes) for genes in lists]
            done += 1
            changed += before != lists
        elif problems[0] is None:
            assert isinstance(problems[1], InvalidValueError)
            assert "must hold bits" in str(problems[1]) or "fixed" in str(problems[1])
        else:
            assert type(problems[1]) is type(problems[0])
    assert (done < 30) == (operator in REFUSED)
    assert changed > 10 or operator in REFUSED


def test_evolution_strategies_leave_the_parents_as_they_were():
    """As with lists: what a clone's operators change in place is the clone's."""
    parents = [nets.Ticket([0, 1] * 5), nets.Ticket([1, 1] * 5)]
    for parent in parents:
        parent.strategy, parent.parents, parent.speed = [1.0] * 10, ["x"], np.zeros(2)
    one, other = (copy.deepcopy(parent) for parent in parents)
    other.strategy = [2.0] * 10
    random.seed(3)
    tools.cxESTwoPoint(one, other)
    with pytest.raises(InvalidValueError, match=r"must hold bits.*mutFlipBit"):
        tools.mutESLogNormal(one, c=1.0, indpb=1.0)
    one.parents.append("y")
    one.speed += 1
    assert set(one.strategy) != {1.0}
    for parent in parents:
        assert (parent.strategy, parent.parents) == ([1.0] * 10, ["x"])
        assert parent.speed.tolist() == [0, 0]


def test_stock_operators_forget_what_was_trained_where_they_change_bits():
    for indpb, is_known in ((0.0, True), (1.0, False)):
        ticket = nets.Ticket([1, 0, 1])
        set_trained(ticket, np.zeros(2))
        tools.mutFlipBit(ticket, indpb)
        assert (ticket.trained is not None) is is_known


def test_repeated_initialisation_makes_tickets():
    random.seed(3)
    ticket = tools.initRepeat(nets.Ticket, lambda: random.randint(0, 1), N)
    random.seed(3)
    assert list(ticket) == [random.randint(0, 1) for _ in range(N)]


# ---- archives and selection


@pytest.mark.parametrize("archive", [lambda: tools.HallOfFame(4), tools.ParetoFront])
def test_archives_keep_what_they_keep_of_lists(archive):
    ours, theirs = archive(), archive()
    for seed in range(4):
        tickets, lists = population(12, levels=5, seed=seed)
        ours.update([*tickets, *tickets[:3]])
        theirs.update([*lists, *lists[:3]])
    assert len(ours) > 1
    assert [list(ticket) for ticket in ours] == [list(listed) for listed in theirs]
    assert [t.fitness.values for t in ours] == [t.fitness.values for t in theirs]


@pytest.mark.parametrize(
    "select",
    [
        tools.selNSGA2,
        lambda individuals, k: tools.selNSGA2(individuals, k, nd="log"),
        lambda individuals, k: tools.selNSGA3(individuals, k, tools.uniform_reference_points(2)),
        tools.selTournamentDCD,
        lambda individuals, k: tools.selTournament(individuals, k, tournsize=3),
    ],
    ids=["NSGA2", "NSGA2-log", "NSGA3", "TournamentDCD", "Tournament"],
)
def test_selections_choose_what_they_choose_of_lists(select):
    chosen = []
    for individuals in population(24):
        tools.emo.assignCrowdingDist(individuals)
        random.seed(5)
        np.random.seed(5)  # noqa: NPY002  selNSGA3 draws from NumPy's global state
        chosen.append(positions(select(individuals, 12), individuals))
    assert chosen[0] == chosen[1]
    assert len(set(chosen[0])) > 1


def test_history_follows_tickets_through_decorated_operators():
    history, toolbox = tools.History(), base.Toolbox()
    toolbox.register("mate", tools.cxTwoPoint)
    toolbox.register("mutate", tools.mutFlipBit, indpb=0.5)
    toolbox.decorate("mate", history.decorator)
    toolbox.decorate("mutate", history.decorator)
    parents = population(2)[0]
    history.update(parents)
    one, other = toolbox.mate(*[copy.deepcopy(parent) for parent in parents])
    before = list(one)
    (mutant,) = toolbox.mutate(one)
    assert mutant is one
    assert [one.history_index, other.history_index] == [5, 4]
    assert history.getGenealogy(mutant) == {5: (3,), 3: (1, 2), 1: (), 2: ()}
    assert list(history.genealogy_history[3]) == before
    assert history.genealogy_history[5] == mutant


# ---- creator


@pytest.fixture
def mine():
    """Return a class made by ``creator.create``, and take its name away afterwards."""
    before = set(vars(creator))
    creator.create("MineFitness", base.Fitness, weights=(-1.0, -1.0))
    creator.create("Mine", nets.Ticket, fitness=creator.MineFitness, tags=list, source="made here")
    yield creator.Mine
    for name in set(vars(creator)) - before:
        delattr(creator, name)


@pytest.fixture
def layout():
    return MaskLayout([("a", (3, 7))], np.linspace(-1, 1, N))


@pytest.fixture
def individual(mine, layout):
    individual = mine(draw(1, 1)[0], layout=layout)
    individual.fitness.values = (0.5, individual.density)
    individual.tags.append("first")
    set_trained(individual, np.ones(individual.kept), steps=10, metrics={"loss": 0.5})
    return individual


def test_created_individuals_have_their_own_attributes(mine, layout):
    one, other = mine([1, 0]), mine([1, 0])
    one.fitness.values = (1.0, 2.0)
    one.tags.append("a")
    assert isinstance(one, nets.Ticket)
    assert type(one.fitness) is creator.MineFitness
    assert not other.fitness.valid
    assert (other.tags, other.source) == ([], "made here")
    assert repr(one) == "Mine(1 of 2 weights, density 0.5000, fitness (1.0, 2.0))"


def test_clones_of_created_individuals_are_equal_and_independent(individual):
    clone = base.Toolbox().clone(individual)
    assert type(clone) is type(individual)
    assert clone == individual
    assert clone.layout is individual.layout
    assert (clone.fitness.values, clone.tags) == (individual.fitness.values, ["first"])
    assert clone.trained.metrics == {"loss": 0.5}
    genes = list(individual)
    del clone.fitness.values
    clone.tags.append("second")
    tools.mutFlipBit(clone, 1.0)
    assert list(clone) == [not gene for gene in genes]
    assert (list(individual), individual.tags, individual.fitness.valid) == (genes, ["first"], True)
    assert (clone.trained, individual.trained.steps) == (None, 10)


def test_pickles_of_created_individuals_keep_everything(individual):
    individual.note = {"generation": 3}
    back = pickle.loads(pickle.dumps(individual))
    assert type(back).__name__ == "Mine"
    assert isinstance(back, nets.Ticket)
    assert back == individual
    assert back.layout is individual.layout
    assert (back.fitness.values, back.fitness.weights) == (individual.fitness.values, (-1.0, -1.0))
    assert (back.tags, back.note, back.source) == (["first"], {"generation": 3}, "made here")
    assert (back.trained.steps, back.trained.digest) == (10, individual.digest)


def test_pickles_of_created_individuals_open_in_a_process_without_class_and_layout(individual):
    code = (
        "import pickle, sys\n"
        "from deap import base, tools\n"
        "mine = base.Toolbox().clone(pickle.load(sys.stdin.buffer))\n"
        "tools.mutFlipBit(mine, 1.0)\n"
        "print(type(mine).__name__, mine.has_layout, mine.fitness.values, mine.tags)\n"
        "print([int(gene) for gene in mine])"
    )
    data = pickle.dumps(individual)
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    first, second = done.stdout.decode().splitlines()
    assert first == f"Mine False {individual.fitness.values} ['first']"
    assert second == str([int(not gene) for gene in individual])
