"""The contract that every operator keeps, over the registry of operators."""

import functools
import importlib
import inspect
import pkgutil
import random

import numpy as np
import pytest
import torch
from deap import base, creator
from support.trained import set_trained

from nets_deap import MaskLayout, Ticket, operators
from nets_deap.tickets.fitness import fitness_class
from nets_deap.tickets.genome import Genome
from nets_deap.tickets.units import UnitLayout

# Those that change tickets; the arguments stand in their records.
CHANGING = ("crossover", "mutation", "combination")
RECORDS = {name: o for name, o in operators.OPERATORS.items() if o.kind in CHANGING}
USUAL, HARSH, NEUTRAL = range(3)
SHAPES = {  # no D is a multiple of 8
    "plain": [("mask", (13,))],
    "bit": [("w", (1,))],
    "one": [("w", (3, 7))],
    "many": [("a", (5, 3)), ("b", (4, 2, 3, 3)), ("c", (1, 1)), ("d", (3, 4))],
    "feedforward": [("a", (4, 8)), ("b", (4, 4)), ("c", (3, 4))],
}
W0 = np.random.default_rng(1).normal(size=100)
LAYOUTS = {k: MaskLayout(s, W0[: MaskLayout(s).size]) for k, s in SHAPES.items()}
MANY = LAYOUTS["many"]
UNITS = {
    "neuron": [(1, 3), (1, 18), (1, 1), None],
    "block(4x2)": [(4, 2)] * 4,  # ragged everywhere
    "2:4": [(1, 1)] * 4,
}
LAYOUTS |= {unit: UnitLayout(MANY, unit, tiles) for unit, tiles in UNITS.items()}
# Layouts that operators do not take, by what these need.
UNFIT = {"any": (), "neurons": {*LAYOUTS} - {"feedforward"}, "genome": ("plain", *UNITS)}
TRIALS = [(density, seed) for density in (0.0, 0.5, 1.0) for seed in range(5)]
every_operator = pytest.mark.parametrize("name", RECORDS)
every_pair = pytest.mark.parametrize(
    ("name", "kind"),
    [(n, k) for n, record in RECORDS.items() for k in LAYOUTS if k not in UNFIT[record.needs]],
)


def takes(name, argument):
    return argument in inspect.signature(getattr(operators, name)).parameters


def bound(name, setting=USUAL, kind=None, **more):
    """Return an operator with its arguments; plain tickets have no weights to go by."""
    if name == "mut_one_of":
        more["operators"] = [bound(op.__name__, setting, kind) for op in operators.MUTATIONS]
    if name == "cx_then_mutate":
        more["cross"] = bound("cx_uniform", setting, kind)
        more["mutate"] = bound("mut_prune", setting, kind)
    if name == "cx_near":
        more["cross"] = bound("cx_uniform", setting, kind)
        more["pool"] = pool_of(kind, setting)
    if name == "mut_migrate":
        more["move"] = bound("mut_swap", setting, kind)
    if kind == "plain" and takes(name, "by"):
        more["by"] = "random"
    return functools.partial(getattr(operators, name), **RECORDS[name].settings[setting], **more)


def pool_of(kind, setting):
    """Return tickets of three densities among which neighbours are; nobody who asks for none."""
    if setting == NEUTRAL:
        return ()
    found = []
    for density in (0.2, 0.6, 0.9):
        found += parents("mut_flip", kind, density, seed=round(10 * density))
    return found


def kind_of(name):
    """Return the class of individuals that an operator works on."""
    return Genome if RECORDS[name].needs == "genome" else Ticket


def parents(name, kind=None, density=0.5, seed=0, cls=None):
    """Return one or two evaluated and trained tickets without an empty layer."""
    cls = cls or kind_of(name)
    kind = kind or ("feedforward" if RECORDS[name].needs == "neurons" else "many")
    rng, layout, found = np.random.default_rng(seed), LAYOUTS[kind], []
    for i in range(2 if name.startswith("cx_") else 1):
        mask = rng.random(layout.size) < density
        mask[[layer.start + rng.integers(layer.size) for layer in layout.layers]] = True
        ticket = cls(mask, None if kind == "plain" else layout)
        if issubclass(cls, Genome):
            ticket.weights = rng.normal(size=layout.size)
        ticket.fitness = ticket.fitness or fitness_class(("loss",), (-1.0,))()
        ticket.fitness.values = (0.25 + i,)
        set_trained(ticket, rng.normal(size=ticket.kept), steps=3)
        found.append(ticket)
    return found


def masks(tickets):
    """Return the tickets' masks, with the kept weights of those that have their own."""
    own = [ticket.own_values() for ticket in tickets]
    return [
        (ticket.mask.tolist(), None if values is None else values.tolist())
        for ticket, values in zip(tickets, own, strict=True)
    ]


def test_every_operator_there_is_has_a_record():
    """Of what stands in the files of the package and begins as operators do."""
    begin = {"cx": "crossover", "mut": "mutation", "init": "init", "sel": "selection"}
    modules = [
        importlib.import_module(f"{operators.__name__}.{found.name}")
        for found in pkgutil.iter_modules(operators.__path__)
    ]
    written = {
        name
        for module in modules
        for name, value in vars(module).items()
        if name.partition("_")[0] in begin and getattr(value, "__module__", "") == module.__name__
    }
    assert written == {name for name in operators.OPERATORS if name.partition("_")[0] in begin}
    assert {*operators.__all__} >= {*operators.OPERATORS}
    for name, record in operators.OPERATORS.items():
        assert getattr(operators, name) is record.function
        if record.kind not in ("combination", "repair") and name != "elitist":
            assert record.kind == begin[name.partition("_")[0]]


def test_each_list_of_operators_follows_from_the_records():
    lists = operators.CROSSOVERS, operators.MUTATIONS, operators.NEURONS, operators.GENOME
    listed = [op.__name__ for some in lists for op in some]
    assert sorted(listed) == sorted(n for n, r in RECORDS.items() if r.kind != "combination")
    assert all(op.__name__.startswith("cx_") for op in operators.CROSSOVERS)
    assert all(op.__name__.startswith("mut_") for op in operators.MUTATIONS)


def test_an_unknown_kind_or_need_is_refused():
    with pytest.raises(ValueError, match="kind must be a known name"):
        operators.Operator(operators.mut_flip, "mutate")
    with pytest.raises(ValueError, match="needs must be a known name"):
        operators.Operator(operators.mut_flip, "mutation", "weights")


@pytest.mark.parametrize("setting", [USUAL, HARSH])
@every_pair
def test_in_place_with_fitness_untouched_and_nothing_empty(name, kind, setting):
    for density, seed in TRIALS:
        tickets, layout = parents(name, kind, density, seed), LAYOUTS[kind]
        fitnesses = [ticket.fitness for ticket in tickets]
        children = bound(name, setting, kind)(*tickets, rng=np.random.default_rng(seed))
        assert type(children) is tuple
        for i, (child, ticket, fitness) in enumerate(
            zip(children, tickets, fitnesses, strict=True)
        ):
            assert child is ticket
            assert child.fitness is fitness
            assert child.fitness.values == (0.25 + i,)
            assert len(child) == layout.size
            assert child.packed.shape == (-(-layout.size // 8),)
            assert not np.unpackbits(child.packed, bitorder="little")[layout.size :].any()
            assert layout.counts(child.packed).min() >= 1


@every_pair
def test_no_network_is_ever_empty(name, kind):
    allow = {"allow_empty_layers": True} if takes(name, "allow_empty_layers") else {}
    for setting, seed in (
        (setting, seed) for setting in range(len(RECORDS[name].settings)) for seed in range(6)
    ):
        sparse, empty = (parents(name, kind, 0.0, seed) for _ in range(2))
        for ticket in empty:
            ticket.gates = np.zeros(len(ticket))
        for tickets in (sparse, empty):
            rng = np.random.default_rng(seed)
            assert all(
                child.kept for child in bound(name, setting, kind, **allow)(*tickets, rng=rng)
            )


@every_operator
def test_type_and_attributes_are_preserved(name):
    class Named(kind_of(name)):
        label = "none"

    creator.create("ContractFitness", base.Fitness, weights=(-1.0,))
    creator.create("ContractTicket", kind_of(name), fitness=creator.ContractFitness, label="none")
    made = creator.ContractTicket
    del creator.ContractFitness, creator.ContractTicket
    for cls in (Named, made):
        tickets = parents(name, cls=cls)
        tickets[0].label = "mine"
        children = bound(name)(*tickets)
        assert [type(child) for child in children] == [cls] * len(tickets)
        assert children[0].label == "mine"


@every_operator
def test_same_generator_same_children_and_random_stays_put(name):
    def run(seed):
        return masks(bound(name)(*parents(name), rng=np.random.default_rng(seed)))

    state = random.getstate()
    assert run(0) == run(0)
    assert any(run(seed) != run(0) for seed in range(1, 12))
    assert random.getstate() == state


@every_operator
def test_random_seed_alone_repeats_a_run_and_no_other_state_is_touched(name):
    def state():
        legacy = np.random.get_state()  # noqa: NPY002
        return legacy[1].tolist(), legacy[2], torch.get_rng_state().tolist()

    def run(seed):
        random.seed(seed)
        return [masks(bound(name)(*parents(name))) for _ in range(4)]

    before = state()
    assert run(3) == run(3)
    assert any(run(seed) != run(3) for seed in range(4, 12))
    assert state() == before


@every_operator
def test_trained_is_forgotten_exactly_where_bits_changed(name):
    changed = 0
    for seed in range(30):
        tickets = parents(name, seed=seed)
        before, states = masks(tickets), [ticket.trained for ticket in tickets]
        bound(name)(*tickets, rng=np.random.default_rng(seed))
        same = [now == then for now, then in zip(masks(tickets), before, strict=True)]
        expected = [known if kept else None for known, kept in zip(states, same, strict=True)]
        assert [ticket.trained for ticket in tickets] == expected
        changed += same.count(False)
    assert changed > 0


@every_pair
def test_asked_for_no_change_the_parents_come_back(name, kind):
    if RECORDS[name].neutral is None:
        pytest.skip("nothing that it can be asked for leaves a ticket as it is")
    for density, seed in TRIALS:
        tickets, rng = parents(name, kind, density, seed), np.random.default_rng(seed)
        if RECORDS[name].between:  # between equal parents there is only one child
            tickets[1].gates, tickets[1].trained = tickets[0].gates, tickets[0].trained
        before, states = masks(tickets), [ticket.trained for ticket in tickets]
        bound(name, NEUTRAL, kind)(*tickets, rng=rng)
        assert masks(tickets) == before
        assert [ticket.trained for ticket in tickets] == states
