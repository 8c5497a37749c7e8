"""Every method of a comparison: what it finds, what it spends, from what it starts."""

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from support.comparing import TINY

import nets_deap as nets
from nets_deap.errors import InvalidValueError
from nets_deap.experiments import methods
from nets_deap.experiments import setting as experiment_setting
from nets_deap.experiments.compare import find
from nets_deap.experiments.config import SearchConfig
from nets_deap.experiments.methods import METHODS, usual_methods
from nets_deap.experiments.setting import Setting
from nets_deap.training.recipe import XOR_RECIPE

BUDGET = 400
LEVELS = (0.3, 0.1)
FREE = {"snip", "grasp", "synflow", "same-layers", "erk", "random", "rigl"}
# These cost what they cost, whatever the budget.
OWN = {"finetune-short", "finetune-lamp", "best-of-three", "imp-short"}
ITERATIVE = {"finetune": 1, "finetune-long": 3, "imp": 3, "imp-lamp": 3, "imp-layerwise": 3}
SEARCHES = {"evolution", "evolution-adds", "no-exchange", "nsga2"}
CONFIG = TINY
NAMES = usual_methods("weight")


def share(name):
    """What a method may spend in a comparison of this budget."""
    return round(BUDGET * METHODS[name].budgets)


def xor(hidden=60, seed=0):
    return nets.tasks.xor(hidden=hidden, recipe=XOR_RECIPE, seed=seed, device="cpu")


def setting(task, *, config=CONFIG, densities=LEVELS, evolved=()):
    return Setting(task, config, BUDGET, densities, evolved)


@pytest.fixture(scope="module")
def task():
    return xor()


@pytest.fixture(scope="module")
def found(task):
    """What each method found, and the steps that the ledger saw it spend."""
    results, evolved = {}, ()
    for name in NAMES:
        before = task.ledger.network_steps
        result, seconds = find(task, CONFIG, name, share(name), LEVELS, evolved)
        assert seconds > 0
        results[name] = result, task.ledger.network_steps - before
        if name == methods.EVOLUTION:
            evolved = result.tickets
    return results


@pytest.mark.parametrize("name", NAMES)
def test_a_method_goes_by_its_name_and_reports_what_the_ledger_saw(name, found):
    result, spent = found[name]
    assert result.name == name == METHODS[name].name
    # The front of a search is measured beside it, like a final training.
    measured = name in SEARCHES | {"lineages"}
    assert (result.search_steps <= spent) if measured else result.search_steps == spent
    kept = [ticket.kept for ticket in result.tickets]
    assert kept == sorted(kept, reverse=True)
    assert min(kept) > 0


def test_evolution_spends_exactly_what_it_may(found):
    for name in ("evolution", "no-exchange", "nsga2"):
        assert found[name][0].search_steps == BUDGET
    assert found["evolution-adds"][0].search_steps == 3 * BUDGET
    assert 0.9 * BUDGET < found["lineages"][0].search_steps <= BUDGET


@pytest.mark.parametrize(
    ("unit", "missing"),
    [
        ("weight", {"torch-pruning"}),
        ("filter", {"snip", "grasp", "synflow", "rigl"}),
        ("2:4", set(METHODS) - SEARCHES - {"same-layers", "erk", "random"}),
    ],
)
def test_usual_methods_are_those_that_take_the_unit(unit, missing):
    if unit == "filter" and importlib.util.find_spec("torch_pruning") is None:
        missing = missing | {"torch-pruning"}
    assert set(usual_methods(unit)) == set(METHODS) - missing


@pytest.mark.parametrize("unit", ["filter", "2:4"])
def test_every_usual_method_finds_structured_tickets(unit):
    task = nets.tasks.xor(hidden=20, recipe=XOR_RECIPE, device="cpu", unit=unit)
    config = replace(CONFIG, search=replace(CONFIG.search, density=(0.3, 1.0)))
    evolved = ()
    for name in usual_methods(unit):
        found, _ = find(task, config, name, share(name), (0.45,), evolved)
        evolved = found.tickets if name == methods.EVOLUTION else evolved
        assert found.tickets
        assert {ticket.unit for ticket in found.tickets} == {task.layout.unit}


@pytest.mark.parametrize(("name", "times"), ITERATIVE.items())
def test_iterative_pruning_spends_its_budget_but_for_a_rest_of_the_rounds(name, times, found):
    assert METHODS[name].budgets == times
    # 0.8^10 = 0.107 is not at 0.1 yet.
    assert times * BUDGET - 11 < found[name][1] <= times * BUDGET


def test_only_these_methods_have_no_budget(found):
    assert {name for name, method in METHODS.items() if method.budgets == 0} == FREE | OWN
    assert found["one-shot"][1] == BUDGET
    assert all(found[name][1] == 0 for name in ("erk", "random", "same-layers"))


@pytest.mark.parametrize("name", ["one-shot", "snip", "grasp", "synflow", "erk", "random", "rigl"])
def test_methods_that_choose_a_density_meet_the_levels_exactly(name, found, task):
    kept = [ticket.kept for ticket in found[name][0].tickets]
    assert kept == [round(level * task.layout.size) for level in LEVELS]


@pytest.mark.parametrize("name", ["finetune", "finetune-long", "imp", "imp-short"])
def test_of_many_rounds_those_about_the_levels_are_kept(name, found):
    densities = [ticket.density for ticket in found[name][0].tickets]
    assert densities[0] > LEVELS[0] > densities[1]


def test_a_lineage_ends_at_each_level_with_as_many_weights_and_others(found, task):
    chain = {ticket.kept: ticket for ticket in found["finetune"][0].tickets}
    ends = found["lineages"][0].tickets
    assert len(ends) == len(LEVELS)
    assert {ticket.kept for ticket in ends} <= set(chain)
    assert ends[-1].density <= LEVELS[-1]
    assert any(ticket != chain[ticket.kept] for ticket in ends)


def test_the_best_of_three_is_one_of_three_chains_at_each_level(found, task):
    chains = [
        nets.baselines.finetune(task, rounds=11, steps=task.steps, seed=seed).tickets
        for seed in range(3)
    ]
    known = {ticket.digest for chain in chains for ticket in chain}
    assert {ticket.digest for ticket in found["best-of-three"][0].tickets} <= known


def test_without_exchange_no_ticket_has_two_parents(task, monkeypatch):
    crossed = []

    def noted(task, **options):
        crossed.append(options["cxpb"])
        return search(task, **options)

    search = experiment_setting.search
    monkeypatch.setattr(experiment_setting, "search", noted)
    find(task, CONFIG, "no-exchange", BUDGET, LEVELS)
    assert crossed == [0.0]


@pytest.mark.parametrize("name", ["finetune", "imp"])
def test_the_rounds_lead_just_below_the_sparsest_level(name, found):
    densities = [ticket.density for ticket in found[name][0].tickets]
    assert densities[-2] > LEVELS[-1] >= densities[-1]
    assert found[name][0].nested


def test_same_layers_has_as_many_weights_in_each_layer_as_evolution(found, task):
    ours, theirs = found["evolution"][0].tickets, found["same-layers"][0].tickets
    for evolved, random in zip(ours, theirs, strict=True):
        assert np.array_equal(task.layout.counts(evolved.packed), task.layout.counts(random.packed))
    assert [t.digest for t in ours] != [t.digest for t in theirs]


def test_same_layers_needs_evolved_tickets(task):
    with pytest.raises(InvalidValueError, match=r"methods must name evolution before same-layers"):
        find(task, CONFIG, "same-layers", BUDGET, LEVELS)


def test_only_rigl_brings_a_trained_network_and_all_others_start_from_w0(found):
    for name, (result, _) in found.items():
        assert all((level.trained is not None) is (name == "rigl") for level in result.levels)
        assert all(level.start is None for level in result.levels)
    assert {level.trained.steps for level in found["rigl"][0].levels} == {CONFIG.final.steps}


def test_few_multiply_adds_are_sought_below_a_fifth_of_the_weights(found):
    assert max(ticket.density for ticket in found["evolution-adds"][0].tickets) <= 0.2


def test_a_network_too_small_for_a_fifth_gives_its_sparsest_member():
    # Two layers keep a weight each, so that 6 weights cannot go below a third.
    result, _ = find(xor(hidden=2), CONFIG, "evolution-adds", 180, LEVELS)
    (ticket,) = result.tickets
    assert ticket.density > methods.DENSEST


@pytest.mark.parametrize("name", ["evolution", "finetune", "imp", "snip", "same-layers", "rigl"])
def test_a_method_finds_the_same_again_whatever_ran_before(name, found):
    evolved = found["evolution"][0].tickets
    again, _ = find(xor(), CONFIG, name, share(name), LEVELS, evolved)
    assert [t.digest for t in again.tickets] == [t.digest for t in found[name][0].tickets]


@pytest.mark.parametrize("name", ["evolution", "same-layers", "erk", "random"])
def test_another_seed_gives_other_tickets(name, found):
    evolved = found["evolution"][0].tickets
    other, _ = find(xor(seed=1), CONFIG, name, share(name), LEVELS, evolved)
    assert {t.digest for t in other.tickets}.isdisjoint(t.digest for t in found[name][0].tickets)


def test_evolution_runs_the_presets_search_with_this_budget_and_seed(monkeypatch):
    seen = {}
    original = experiment_setting.search

    def spy(task, **options):
        seen.update(options)
        return original(task, **options)

    monkeypatch.setattr(experiment_setting, "search", spy)
    config = CONFIG.override({"search.budget": 7, "search.density": "0.2,1.0"})
    result, _ = find(xor(seed=5), config, "evolution", BUDGET, LEVELS)
    assert (seen["budget"], seen["seed"], seen["density"]) == (BUDGET, 5, (0.2, 1.0))
    assert result.search_steps == BUDGET
    assert min(ticket.density for ticket in result.tickets) >= 0.2


def test_genomes_with_weights_of_their_own_cannot_be_compared(task):
    config = replace(CONFIG, search=SearchConfig(genome="weights"))
    with pytest.raises(InvalidValueError, match=r"search.genome must be masks over W0.*'weights'"):
        find(task, config, "evolution", BUDGET, LEVELS)


@pytest.mark.parametrize(
    ("densities", "rounds"),
    [
        ((0.8**10, 0.8**22), 22),
        ((0.8**10,), 10),
        ((0.107,), 11),  # 0.8^10 = 0.1074 is above
        ((0.5,), 4),
        ((0.8,), 1),
        ((0.99999,), 1),
    ],
)
def test_the_rounds_are_the_fewest_that_reach_the_sparsest_level(task, densities, rounds):
    assert setting(task, densities=densities).rounds == rounds


@pytest.mark.parametrize(
    ("kept", "chosen"),
    [
        ([100, 70, 50, 20], [70, 50, 20]),  # the one just above 0.3 = 54 bounds it
        ([100, 70, 54, 20], [54, 20]),  # one on the level bounds it
        ([100, 70, 53, 20], [70, 53, 20]),
        ([50, 20], [50, 20]),
        ([100, 70], [70]),
    ],
)
def test_about_keeps_the_members_that_the_levels_lie_between(task, kept, chosen):
    tickets = [task.ticket(np.arange(task.layout.size) < k) for k in kept]
    assert [t.kept for t in setting(task).about(tickets)] == chosen


def test_a_budget_too_small_for_a_network_each_is_refused(task):
    with pytest.raises(InvalidValueError, match="budget must suffice for a first descent"):
        find(task, CONFIG, "evolution", 5, LEVELS)


def test_an_unknown_method_is_told_with_a_guess(task):
    with pytest.raises(InvalidValueError, match=r"method must be a known name.*'one-shot'\?"):
        find(task, CONFIG, "oneshot", BUDGET, LEVELS)
