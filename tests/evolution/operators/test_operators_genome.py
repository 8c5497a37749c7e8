"""Operators on genomes: a weight never leaves its gate, and noise has the size that is asked."""

import copy
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.trained import set_trained

from nets_deap import MaskLayout, Ticket, operators
from nets_deap.errors import InvalidTypeError, InvalidValueError
from nets_deap.evolution.operators import (
    cx_genes,
    cx_uniform,
    init_genomes,
    keep_density,
    mut_noise,
    mut_prune,
    mut_resample,
)
from nets_deap.tickets.genome import Genome

SHAPES = [("a", (20, 300)), ("b", (10, 200))]
RNG = np.random.default_rng(5)
W0 = np.concatenate([RNG.normal(0, 0.02, 6000), RNG.normal(0, 2.0, 2000)])
LAYOUT = MaskLayout(SHAPES, W0)
A, B = slice(0, 6000), slice(6000, 8000)
SMALL = MaskLayout([("a", (4, 3)), ("b", (5,))], np.arange(17.0) + 1)


def pair(seed=0, density=0.5, layout=SMALL):
    """Return two genomes with weights that all differ."""
    rng = np.random.default_rng([seed, 1])
    return tuple(
        Genome(rng.random(layout.size) < density, layout, weights=rng.normal(size=layout.size))
        for _ in range(2)
    )


def genes(genome):
    """Return each gene, a weight with its gate."""
    return list(zip(genome.weights.tolist(), genome.mask.tolist(), strict=True))


def half(seed=0):
    """Return a genome of W0 with half of the weights kept."""
    return Genome(np.random.default_rng(seed).random(LAYOUT.size) < 0.5, LAYOUT)


# ---- the first population


def test_every_first_genome_has_a_mask_of_its_own_of_exact_density():
    first = init_genomes(Genome, LAYOUT, 6, density=0.3, rng=np.random.default_rng(0))
    assert [genome.kept for genome in first] == [2400] * 6
    assert len({genome.digest for genome in first}) == 6
    overlaps = [(one.mask & two.mask).mean() for one, two in pairwise(first)]
    assert max(overlaps) < 0.2
    assert all(np.array_equal(genome.weights, W0) for genome in first)


def test_first_densities_are_drawn_from_an_interval():
    first = init_genomes(Genome, LAYOUT, 50, density=(0.2, 0.8), rng=np.random.default_rng(0))
    densities = [genome.density for genome in first]
    assert 0.2 <= min(densities) < 0.3
    assert 0.7 < max(densities) <= 0.8
    assert init_genomes(Genome, LAYOUT, 0) == []


@pytest.mark.parametrize(
    ("n", "density", "text"),
    [
        (-1, 0.5, r"n must be in range: expected an int >= 0, got -1"),
        (2, 0.0, r"density\[0\] must be a density"),
        (2, (0.5, 0.2), r"density must be ordered"),
    ],
)
def test_bad_first_populations(n, density, text):
    with pytest.raises(InvalidValueError, match=text):
        init_genomes(Genome, LAYOUT, n, density=density)


# ---- crossover


@settings(deadline=None)
@given(seed=st.integers(0, 2**32), indpb=st.sampled_from([0.0, 0.2, 0.5, 1.0]))
def test_a_weight_and_its_gate_come_from_the_same_parent(seed, indpb):
    one, two = pair(seed)
    before = list(zip(genes(one), genes(two), strict=True))
    cx_genes(one, two, indpb=indpb, allow_empty_layers=True, rng=np.random.default_rng(seed))
    for parents, now in zip(before, zip(genes(one), genes(two), strict=True), strict=True):
        assert now in (parents, parents[::-1])


def test_swapping_all_exchanges_the_parents_and_about_half_by_default():
    one, two = pair(layout=LAYOUT)
    clones = copy.deepcopy((one, two))
    cx_genes(one, two, indpb=1.0)
    assert (one, two) == clones[::-1]
    cx_genes(one, two, rng=np.random.default_rng(0))
    share = np.mean(one.weights == clones[0].weights)
    assert 0.47 < share < 0.53


def test_a_gene_that_mends_an_empty_layer_keeps_its_own_weight():
    mask = np.zeros(17, dtype=bool)
    mask[[1, 14]] = True
    for seed in range(20):
        one, two = Genome(mask, SMALL), Genome(np.roll(mask, 1), SMALL, weights=np.full(17, -9.0))
        cx_genes(one, two, rng=np.random.default_rng(seed))
        for child in (one, two):
            assert SMALL.counts(child.packed).min() >= 1
            for place, value in zip(np.flatnonzero(child.mask), child.own_values(), strict=True):
                assert (value == -9.0) == (place in (2, 15))


def test_the_trained_value_of_a_gene_goes_with_it():
    one, two = pair(3)
    set_trained(one, one.own_values() + 100, unmasked={"bias": np.ones(2)}, steps=3)
    set_trained(two, two.own_values() - 100, unmasked={"bias": np.zeros(2)}, steps=3)
    cx_genes(one, two, rng=np.random.default_rng(3))
    for child, bias in ((one, 1.0), (two, 0.0)):
        assert child.trained is None
        moved = child.inherited.at(child.mask) - child.own_values()
        np.testing.assert_allclose(np.abs(moved), 100)
        assert len(set(np.sign(moved))) == 2
        assert child.inherited.unmasked["bias"].tolist() == [bias] * 2


def test_of_an_untrained_parent_the_weights_themselves_are_inherited():
    one, two = pair(3)
    set_trained(two, two.own_values() - 100, unmasked={"bias": np.ones(2)})
    weights = one.weights
    cx_genes(one, two, rng=np.random.default_rng(3))
    assert one.inherited.unmasked == {}
    values, own = one.inherited.at(one.mask), one.own_values()
    mine = own == weights[one.mask]
    assert 0 < mine.sum() < len(mine)
    np.testing.assert_array_equal(values[mine], own[mine])
    np.testing.assert_allclose(values[~mine], own[~mine] - 100)


def test_gradients_go_with_their_genes():
    one, two = pair(3)
    for genome, slope in ((one, 1.0), (two, 2.0)):
        set_trained(genome, genome.own_values(), gradients=np.full(genome.kept, slope))
    theirs = two.weights
    cx_genes(one, two, rng=np.random.default_rng(3))
    expected = np.where(one.own_values() == theirs[one.mask], 2.0, 1.0)
    np.testing.assert_array_equal(
        one.inherited.spread(one.inherited.gradients, len(one))[one.mask], expected
    )


def test_masks_of_genomes_with_other_weights_are_not_crossed_alone():
    one, two = pair()
    with pytest.raises(InvalidValueError, match=r"ind2 must have the weights of ind1.*cx_genes"):
        cx_uniform(one, two)
    with pytest.raises(InvalidValueError, match=r"ind2 must have the weights of ind1.*cx_genes"):
        cx_uniform(Ticket(one.mask, SMALL), two)
    two.weights = one.weights
    cx_uniform(one, two, indpb=1.0)


# ---- mutation


@pytest.mark.parametrize("sigma", [0.1, 1.0])
def test_noise_is_scaled_once_by_the_spread_of_its_layer(sigma):
    genome = half()
    mut_noise(genome, sigma=sigma, indpb=1.0, rng=np.random.default_rng(1))
    change = genome.weights - W0
    assert not change[~genome.mask].any()
    for layer in (A, B):
        noise = change[layer][genome.mask[layer]]
        assert noise.std() == pytest.approx(sigma * W0[layer].std(), rel=0.08)
        assert abs(noise.mean()) < 4 * noise.std() / np.sqrt(len(noise))


def test_noise_and_resampling_reach_their_share_of_the_kept_weights():
    for operator, more in ((mut_noise, {"sigma": 0.5}), (mut_resample, {})):
        genome = half()
        operator(genome, indpb=0.3, rng=np.random.default_rng(2), **more)
        changed = genome.weights != W0
        assert not changed[~genome.mask].any()
        assert changed[genome.mask].mean() == pytest.approx(0.3, abs=0.03)


def test_resampling_draws_from_the_layer_of_the_initial_weights():
    genome = half()
    genome.weights = np.full(LAYOUT.size, 77.0)
    mut_resample(genome, indpb=1.0, rng=np.random.default_rng(2))
    for layer in (A, B):
        drawn = genome.weights[layer][genome.mask[layer]]
        assert np.isin(drawn, W0[layer]).all()
        assert drawn.std() == pytest.approx(W0[layer].std(), rel=0.08)


def test_pruning_goes_by_the_genomes_own_weights_until_it_is_trained():
    genome = Genome([1] * 17, SMALL, weights=17.0 - np.arange(17))
    pruned = copy.deepcopy(genome)
    mut_prune(pruned, fraction=4 / 17)
    assert np.flatnonzero(~pruned.mask).tolist() == [13, 14, 15, 16]  # by W0: 0 to 3
    _, repaired = keep_density(0.1, 13 / 17)(lambda *both: both)(None, copy.deepcopy(genome))
    assert not repaired.mask[[13, 14, 15]].any()
    set_trained(genome, np.arange(17.0))
    mut_prune(genome, fraction=4 / 17)
    assert np.flatnonzero(~genome.mask).tolist() == [0, 1, 2, 3]


def test_random_pruning_draws_from_the_whole_vector():
    genome = Genome([1] * LAYOUT.size, LAYOUT)
    mut_prune(genome, fraction=0.25, by="random", rng=np.random.default_rng(0))
    shares = [(~part).mean() for part in np.split(genome.mask, 8)]
    assert min(shares) > 0.2
    assert max(shares) < 0.3


@pytest.mark.parametrize("operator", operators.GENOME)
def test_plain_tickets_have_no_weights_to_evolve(operator):
    ticket, one = Ticket([1] * 17, SMALL), pair()[0]
    both = (one, ticket) if operator is cx_genes else (ticket,)
    more = {"sigma": 0.1} if operator is mut_noise else {}
    with pytest.raises(InvalidTypeError, match=r"must be a genome: .*Genome, got Ticket"):
        operator(*both, indpb=0.5, **more)


def test_numbers_out_of_range():
    one, two = pair()
    for call in (
        lambda: cx_genes(one, two, indpb=1.1),
        lambda: mut_resample(one, indpb=-0.1),
        lambda: mut_noise(one, sigma=0.1, indpb=2.0),
    ):
        with pytest.raises(InvalidValueError, match=r"indpb must be in range"):
            call()
    with pytest.raises(InvalidValueError, match=r"sigma must be in range"):
        mut_noise(one, sigma=-1.0, indpb=0.5)
