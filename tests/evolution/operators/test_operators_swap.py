"""Swaps: exact sizes, what goes and what is regrown, by gradient, by memory, and with noise."""

from functools import partial

import numpy as np
import pytest
from support.trained import set_trained

import nets_deap as nets
from nets_deap import operators
from nets_deap.tickets.units import UnitLayout

D = 240
LAYOUT = nets.MaskLayout([("a", (12, 12)), ("b", (8, 12))], np.linspace(0.1, 2, D))
UNITS = {"neuron": [(1, 12), None], "block(4x3)": [(4, 3)] * 2, "2:4": [(1, 1)] * 2}
LAYOUTS = {"weight": LAYOUT} | {u: UnitLayout(LAYOUT, u, tiles) for u, tiles in UNITS.items()}
RECIPE = nets.Recipe(lr=0.05, batch_size=4, steps=5, loss="binary_cross_entropy")
GROW = ("random", "gradient", "memory")


def trained(kind, share, seed=0):
    """Return a ticket that knows the gradient and last |w| of some of what it has pruned."""
    rng, layout = np.random.default_rng(seed), LAYOUTS[kind]
    gates = np.zeros(layout.size, dtype=bool)
    gates[rng.permutation(layout.size)[: max(2, round(share * layout.size))]] = True
    if kind == "2:4":
        gates = layout.fitting(gates)
    ticket = nets.Ticket(gates, layout)
    free = rng.permutation(np.flatnonzero(~gates))
    half = free[: len(free) // 2]
    scores = np.sort(rng.random(len(half)))[::-1]
    set_trained(
        ticket, rng.normal(size=ticket.kept), gradients=rng.random(ticket.kept),
        candidates=half, scores=scores, pruned=half[::-1], remembered=scores[::-1].copy(),
    )  # fmt: skip
    return ticket


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("grow", GROW)
@pytest.mark.parametrize("kind", ["weight", "2:4"])
def test_a_swap_ends_with_exactly_the_size_asked_for(kind, grow, noise):
    most = round(LAYOUTS[kind].density_range[1] * D)
    for share, size, fraction in (
        (0.2, None, 0.3), (0.2, 20, 0.1), (0.2, 100, 0.1), (0.3, 110, 1.0), (1.0, None, 0.5),
        (0.2, most, 0.0), (0.2, 2, 0.5), (1.0, 60, 0.0),
    ):  # fmt: skip
        ticket = trained(kind, share)
        before = ticket.kept
        operators.mut_swap(
            ticket, fraction=fraction, noise=noise, grow=grow, grow_noise=noise, size=size,
            rng=np.random.default_rng(1),
        )  # fmt: skip
        assert ticket.kept == (before if size is None else size), (share, size, fraction)


@pytest.mark.parametrize("grow", GROW)
@pytest.mark.parametrize("kind", ["neuron", "block(4x3)"])
def test_units_come_as_near_as_they_can(kind, grow):
    for size in (None, 110, 180):
        ticket = trained(kind, 0.5)
        goal = ticket.kept if size is None else size
        operators.mut_swap(ticket, fraction=0.2, grow=grow, size=size, rng=np.random.default_rng(0))
        assert abs(ticket.kept - goal) <= 12, "one unit"


@pytest.mark.parametrize("grow", ["gradient", "memory"])
@pytest.mark.parametrize("size", [30, 40, 60])
def test_the_smallest_go_and_the_largest_scores_come(grow, size):
    ticket = trained("weight", 40 / D)
    mask, state = ticket.mask, ticket.trained
    assert ticket.kept == 40
    operators.mut_swap(ticket, fraction=5 / size, grow=grow, size=size)
    lost, come = max(40 - size, 0) + 5, max(size - 40, 0) + 5
    order = np.flatnonzero(mask)[np.argsort(np.abs(state.values))]
    assert set(np.flatnonzero(mask & ~ticket.mask)) == set(order[:lost])
    assert set(np.flatnonzero(ticket.mask & ~mask)) == set(state.candidates[:come])


def test_growth_at_random_spreads_over_layers_as_the_kept_weights_do():
    ticket = nets.Ticket(np.r_[np.arange(144) < 30, np.arange(96) < 10], layout=LAYOUT)
    operators.mut_swap(ticket, fraction=0.0, size=80)
    assert ticket.layer_densities == {"a": 60 / 144, "b": 20 / 96}
    operators.mut_swap(ticket, fraction=0.0, size=230)
    assert ticket.kept == 230, "layer a is full before that, and b takes the rest"


@pytest.mark.parametrize(
    "noisy",
    [
        {"noise": 1.0},
        {"grow": "gradient", "grow_noise": 1.0},
        {"grow": "memory", "grow_noise": 1.0},
    ],
)
def test_noise_moves_the_choice_by_little_and_the_generator_repeats_it(noisy):
    def child(seed, **options):
        ticket = trained("weight", 0.4)
        return operators.mut_swap(ticket, rng=np.random.default_rng(seed), **options)[0].mask

    noisy = {"fraction": 0.2, "grow": "gradient", **noisy}
    quiet = {name: value for name, value in noisy.items() if not name.endswith("noise")}
    assert (child(0, **noisy) == child(0, **noisy)).all()
    assert (child(0, **noisy) != child(1, **noisy)).any()
    assert (child(0, **quiet) == child(1, **quiet)).all()
    # Who would be replaced without noise is still replaced more often than others.
    times = np.mean([child(seed, **noisy) for seed in range(60)], axis=0)
    before, certain = trained("weight", 0.4).mask, child(0, **quiet)
    side = before if "noise" in noisy else ~before
    assert (
        abs(times - before)[side & (certain != before)].mean()
        > 2 * abs(times - before)[side & (certain == before)].mean()
    )


def test_where_candidates_are_few_random_ones_fill_up():
    ticket = trained("weight", 0.3)
    known = ticket.trained.candidates
    before = ticket.mask
    operators.mut_swap(ticket, fraction=1.0, size=200, grow="gradient")
    assert ticket.kept == 200
    assert ticket.mask[known].all()
    assert not before[known].any()


def test_weights_that_were_pruned_since_the_training_are_remembered_too():
    ticket = nets.Ticket(np.arange(D) < 40, layout=LAYOUT)
    set_trained(
        ticket, np.r_[np.full(20, 3.0), np.full(20, -0.5)], pruned=np.array([50, 60]),
        remembered=np.array([1.0, 0.1]),
    )  # fmt: skip
    ticket.gates = np.isin(np.arange(D), [0, 1, 2, 220])
    places, sizes = ticket.inherited.last_known(ticket.gates, None)
    assert dict(zip(places.tolist(), sizes.tolist(), strict=True)) == {
        **dict.fromkeys(range(3, 20), 3.0), **dict.fromkeys(range(20, 40), 0.5), 50: 1.0, 60: 0.1,
    }  # fmt: skip
    operators.mut_regrow(ticket, fraction=1.0, by="memory")
    assert set(np.flatnonzero(ticket.mask)) <= {*range(20), 220}
    assert ticket.kept == 8


def test_an_average_remembers_what_both_do():
    one, two = (nets.Ticket(np.arange(D) < n, layout=LAYOUT) for n in (2, 3))
    set_trained(
        one, np.ones(2), candidates=np.array([7, 4]), scores=np.array([4.0, 2.0]),
        pruned=np.array([2, 9]), remembered=np.array([0.5, 1.0]),
    )  # fmt: skip
    set_trained(
        two, np.ones(3), candidates=np.array([4, 9]), scores=np.array([6.0, 1.0]),
        pruned=np.array([9, 5]), remembered=np.array([3.0, 0.2]),
    )  # fmt: skip
    middle = one.trained.average(two.trained, D)
    assert middle.candidates.tolist() == [4, 7, 9]
    assert middle.scores.tolist() == [4, 2, 0.5]
    assert dict(zip(middle.pruned.tolist(), middle.remembered.tolist(), strict=True)) == {
        2: 0.5, 5: 0.2, 9: 2.0,
    }  # fmt: skip
    known, _ = middle.last_known(np.arange(D) < 2, None)
    assert sorted(known.tolist()) == [2, 5, 9], "2 is kept by the average: once only"


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"grow": "memory"}, "by must have a memory to go by.*memory=True"),
        ({"grow": "gradients"}, "grow must be a known name"),
        ({"grow_noise": -1.0}, "grow_noise must be"),
        ({"size": 0}, r"size must be in range: expected an int in \[1, 240\]"),
        ({"size": 241}, r"size must be in range: expected an int in \[1, 240\]"),
    ],
)
def test_what_cannot_be_done_is_refused(options, match):
    ticket = nets.Ticket(np.arange(D) < 40, layout=LAYOUT)
    set_trained(ticket, np.ones(40))
    with pytest.raises(ValueError, match=match):
        operators.mut_swap(ticket, **options)


def test_an_evaluator_remembers_what_ancestors_have_lost():
    task = nets.tasks.xor(hidden=6, recipe=RECIPE)
    evaluator = nets.Evaluator(task, "val_loss", inherit="weights", memory=True)
    ticket = task.dense_ticket()
    evaluator.batch([ticket])
    assert ticket.trained.pruned.tolist() == []
    wanted = {}
    for lost in ([0, 5], [7, 9], [17]):
        state, mask = ticket.trained, ticket.mask
        values = state.spread(np.abs(state.values), 18)
        wanted |= {place: values[place] for place in lost}
        mask[lost] = False
        ticket.gates = mask
        evaluator.batch([ticket])
        found = ticket.trained
        assert dict(zip(found.pruned.tolist(), found.remembered.tolist(), strict=True)) == wanted
    ticket.gates = np.arange(18) == 5
    evaluator.batch([ticket])
    assert len(ticket.trained.pruned) == 4, "no more than four times what is kept"
    plain = nets.Evaluator(task, "val_loss", inherit="weights")
    plain.batch([ticket])
    assert ticket.trained.pruned is None


@pytest.mark.parametrize("noise", [0.0, 0.5])
@pytest.mark.parametrize("kind", ["weight", "2:4"])
def test_an_average_that_is_swapped_by_gradient_keeps_each_parent_s_own_size(kind, noise):
    one, two = trained(kind, 0.2, seed=1), trained(kind, 0.3, seed=2)
    sizes = one.kept, two.kept
    known = {*one.trained.candidates.tolist(), *two.trained.candidates.tolist()}
    cross = partial(operators.cx_average, noise=noise)
    operators.cx_average(one, two, noise=noise, rng=np.random.default_rng(0))
    assert (one.kept, two.kept) == sizes
    before = [child.mask for child in (one, two)]
    one, two = trained(kind, 0.2, seed=1), trained(kind, 0.3, seed=2)
    swap = partial(operators.mut_swap, fraction=0.2, grow="gradient")
    operators.cx_then_mutate(one, two, cross=cross, mutate=swap, rng=np.random.default_rng(0))
    assert (one.kept, two.kept) == sizes
    for child, crossed in zip((one, two), before, strict=True):
        come = np.flatnonzero(child.mask & ~crossed)
        assert len(come) == round(0.2 * child.kept)
        assert known.issuperset(come.tolist()), "of the candidates of both"
        assert set(child.inherited.candidates.tolist()) == known
