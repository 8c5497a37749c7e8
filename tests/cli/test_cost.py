"""Counted operations and bytes of a training step: against counts made another way."""

import pytest

from nets_deap.cli.bench.cost import kept_cost, step_cost
from nets_deap.training.engines.cuda.traffic import kept_below

LENET = (784, 300, 100, 10)
TERMS = {"forward", "loss", "input_gradient", "weight_gradient", "optimiser", "mask"}


def test_a_step_of_a_tiny_network_counted_by_hand():
    cost = step_cost((3, 2, 1), 5)
    assert set(cost.terms) == TERMS
    forward, back = cost.terms["forward"], cost.terms["weight_gradient"]
    assert forward.flops == 2 * 5 * (6 + 2) + 5 * (2 + 1)
    # weights and biases, inputs and hidden units in, units of both layers out
    assert forward.bytes == 4 * ((8 + 3) + 5 * (3 + 2) + 5 * (2 + 1)) == back.bytes
    assert back.flops == forward.flops
    # weights of the second layer, its delta; hidden activations, hidden delta
    assert cost.terms["input_gradient"].bytes == 4 * (2 + 5 * 1 + 5 * 2 + 5 * 2)
    assert cost.terms["optimiser"].bytes == 4 * 7 * (8 + 3)
    assert cost.terms["mask"].bytes == 1
    assert cost.flops == sum(term.flops for term in cost.terms.values())


def test_lenet_is_bound_by_the_optimiser():
    cost = step_cost(LENET, 60, networks=256)
    assert cost.flops == pytest.approx(7.1e7, rel=0.02)
    assert cost.bytes == pytest.approx(1.04e7, rel=0.02)
    assert cost.terms["optimiser"].bytes > cost.bytes / 2
    assert cost.seconds(1e12, 1e30) == cost.flops / 1e12
    assert cost.seconds(1e30, 1e12) == cost.bytes / 1e12


def test_networks_share_the_minibatch_and_half_the_item_is_half_the_bytes():
    alone, shared = step_cost(LENET, 60), step_cost(LENET, 60, networks=60)
    assert alone.flops == shared.flops
    assert alone.bytes - shared.bytes == pytest.approx(2 * 4 * 60 * 784 * (1 - 1 / 60))
    half = step_cost(LENET, 60, itemsize=2)
    mask = alone.terms["mask"].bytes
    assert half.bytes - mask == pytest.approx((alone.bytes - mask) / 2)


@pytest.mark.parametrize(("itemsize", "moments"), [(4, 2), (8, 2), (4, 1), (8, 1)])
def test_state_for_kept_weights_pays_below_the_threshold_only(itemsize, moments):
    limit = kept_below(itemsize, moments)
    assert 0.5 < limit < 1
    for density, better in ((limit - 0.02, "kept"), (limit + 0.02, "dense"), (0.02, "kept")):
        bytes_of = {
            state: step_cost(
                LENET, 60, density, state=state, itemsize=itemsize, moments=moments
            ).bytes
            for state in ("dense", "kept")
        }
        assert min(bytes_of, key=bytes_of.get) == better


def test_plain_sgd_keeps_no_state_to_thin_out():
    assert kept_below(4, 0) < 0.4


@pytest.mark.parametrize(("more", "message"), [({"state": "x"}, "state"), ({"density": 0}, "dens")])
def test_what_is_refused(more, message):
    with pytest.raises(ValueError, match=message):
        step_cost(LENET, 60, **more)


def test_kept_weights_alone_cost_their_share_and_an_index_each():
    dense, sparse = kept_cost(LENET, 60), kept_cost(LENET, 60, 0.05)
    whole = step_cost(LENET, 60)
    assert dense.flops == whole.flops
    assert dense.bytes == pytest.approx(whole.bytes - 266_200 / 8)
    # weights in and out of the gradient, seven numbers of the optimiser, two indices
    kept = 0.05 * 266_200
    assert sparse.terms["forward"].flops == pytest.approx(2 * 60 * kept + 60 * 410)
    moved = sum(
        sparse.terms[name].bytes - whole.terms[name].bytes
        for name in ("forward", "weight_gradient", "optimiser")
    )
    assert moved == pytest.approx(kept * (9 * 4 + 2 * 4) - 266_200 * 9 * 4)
    assert sparse.flops < 0.06 * dense.flops
