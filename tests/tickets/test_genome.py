"""The genome: a ticket with initial weights of its own, through copies, files and training."""

import copy
import pickle

import numpy as np
import pytest
import torch
from deap import tools
from support.trained import set_trained

import nets_deap as nets
from nets_deap.errors import CallOrderError, InvalidTypeError, InvalidValueError
from nets_deap.tickets.fitness import fitness_class
from nets_deap.tickets.genome import Genome
from nets_deap.tickets.layout import MaskLayout
from nets_deap.tickets.ticket import Ticket
from nets_deap.tickets.trained import TrainedState

MASK = [1, 0, 1, 1, 0, 0, 1, 0, 1, 1]
KEPT, PRUNED = 2, 1


@pytest.fixture
def layout():
    return MaskLayout([("a", (2, 3)), ("b", (4,))], np.arange(10, dtype=np.float32))


@pytest.fixture
def genome(layout):
    return Genome(MASK, layout, weights=np.arange(10) / 4 - 1)


def changed(genome, place, value=9.0):
    """Return a clone with one weight changed."""
    clone = copy.deepcopy(genome)
    weights = genome.weights.copy()
    weights[place] = value
    clone.weights = weights
    return clone


# ---- its weights


def test_weights_start_at_the_initial_ones(layout):
    genome = Genome(MASK, layout=layout)
    np.testing.assert_array_equal(genome.weights, layout.initial)
    np.testing.assert_array_equal(genome.own_values(), layout.initial[genome.mask])


def test_weights_take_the_dtype_of_the_initial_ones_and_are_read_only_copies(layout):
    given = np.arange(10) / 4
    genome = Genome(MASK, layout, weights=given)
    given[:] = 7
    assert genome.weights.dtype == np.float32
    np.testing.assert_array_equal(genome.weights, np.arange(10) / 4)
    with pytest.raises(ValueError, match="read-only"):
        genome.weights[0] = 1


def test_density_is_global_not_the_mean_over_layers():
    layout = MaskLayout([("big", (9, 10)), ("small", (10,))], np.zeros(100))
    genome = Genome([1] * 9 + [0] * 81 + [1] * 10, layout)
    assert genome.layer_densities == {"big": 0.1, "small": 1.0}
    assert genome.density == 0.19


def test_equal_masks_with_other_kept_weights_are_other_networks(genome):
    clone, other, dormant = copy.deepcopy(genome), changed(genome, KEPT), changed(genome, PRUNED)
    for same in (clone, dormant):
        assert same == genome
        assert (same.network_key, same.digest) == (genome.network_key, genome.digest)
    assert other != genome
    assert other.network_key != genome.network_key
    assert other.digest != genome.digest
    assert Ticket(MASK, layout=genome.layout) != genome
    assert genome != Ticket(MASK, layout=genome.layout)
    assert genome != MASK
    with pytest.raises(TypeError, match="unhashable"):
        hash(genome)


def test_a_hall_of_fame_keeps_equal_masks_of_other_weights(genome):
    genome.fitness = fitness_class(("loss",), (-1.0,))()
    genomes = [genome, changed(genome, KEPT), changed(genome, PRUNED)]
    for individual in genomes:
        individual.fitness.values = (0.5,)
    hall = tools.HallOfFame(5)
    hall.update(genomes)
    assert len(hall) == 2


@pytest.mark.parametrize(
    "clone", [copy.deepcopy, copy.copy, lambda genome: pickle.loads(pickle.dumps(genome))]
)
def test_copies_share_nothing_that_changes(genome, clone):
    values = genome.own_values() + np.float32(0.5)
    set_trained(genome, values)
    new = clone(genome)
    assert new == genome
    np.testing.assert_array_equal(new.weights, genome.weights)
    before, mask = genome.weights.copy(), genome.mask
    new.weights = -before
    new.mask = ~mask
    np.testing.assert_array_equal(genome.weights, before)
    np.testing.assert_array_equal(genome.mask, mask)
    np.testing.assert_array_equal(genome.trained.values, values)
    with pytest.raises(ValueError, match="read-only"):
        clone(genome).weights[0] = 1


def test_what_was_trained_moves_with_the_weights_and_is_a_guess_then(genome):
    state = set_trained(genome, genome.own_values() + np.float32(0.5))
    genome.weights = changed(genome, PRUNED).weights
    assert genome.trained is state
    old = genome.own_values()
    genome.weights = changed(genome, KEPT).weights
    assert genome.trained is None
    np.testing.assert_array_equal(genome.inherited.values - genome.own_values(), [0.5] * 6)
    np.testing.assert_array_equal(state.values - old, [0.5] * 6)


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        (np.zeros(9), r"weights must have the right shape: expected \(D,\) = \(10,\), got \(9,\)"),
        ([*[0.0] * 8, np.nan, np.inf], r"weights must be finite: expected .* got '?2 of them"),
    ],
)
def test_bad_weights_are_refused_and_change_nothing(genome, weights, text):
    before = genome.weights
    with pytest.raises(InvalidValueError, match=text):
        genome.weights = weights
    assert genome.weights is before


def test_a_genome_needs_a_layout_and_weights(layout):
    with pytest.raises(InvalidTypeError, match=r"layout must be given for a genome: .* NoneType"):
        Genome(MASK)
    bare = MaskLayout([("a", (2, 3)), ("b", (4,))], initial_digest="unknown")
    with pytest.raises(CallOrderError, match="initial weights are not known here"):
        Genome(MASK, bare)
    assert Genome(MASK, bare, weights=np.ones(10)).own_values().tolist() == [1.0] * 6


# ---- training


def test_training_starts_from_its_own_weights(xor_task):
    dense, one = xor_task.dense_ticket(), np.ones(xor_task.layout.size)
    same = Genome(dense.mask, xor_task.layout)
    other = Genome(dense.mask, xor_task.layout, weights=-2 * same.weights)
    results = xor_task.train_all([dense, same, other], steps=3)
    assert results[1].val_loss == pytest.approx(results[0].val_loss, rel=1e-5)
    assert abs(results[2].val_loss - results[0].val_loss) > 1e-3
    again = nets.Task(
        other.apply(xor_task.model),
        train=xor_task.problem.train,
        val=xor_task.problem.val,
        recipe=xor_task.recipe,
    )
    expected = again.train(again.ticket(one), steps=3, seed=1).val_loss
    assert xor_task.train(other, steps=3, seed=1).val_loss == pytest.approx(expected, rel=1e-5)


def test_an_evaluator_trains_equal_masks_of_other_weights_apart(xor_task):
    genome = Genome(xor_task.dense_ticket().mask, xor_task.layout)
    other = Genome(genome.mask, xor_task.layout, weights=-2 * genome.weights)
    twin = copy.deepcopy(genome)
    before = xor_task.ledger.networks
    values = nets.Evaluator(xor_task, "val_loss").batch([genome, other, twin])
    assert xor_task.ledger.networks - before == 2
    assert values[0] == values[2] != values[1]


# ---- files and models


def test_a_file_is_a_complete_ticket_of_its_own_weights(genome, tmp_path):
    genome.fitness = fitness_class(("loss",), (-1.0,))()
    genome.fitness.values = (0.5,)
    set_trained(genome, genome.own_values(), steps=7, metrics={"val_loss": 0.5})
    path = genome.save(tmp_path / "g.safetensors")
    ticket, back = Ticket.load(path), Genome.load(path)
    for loaded in (ticket, back, genome.export()):
        np.testing.assert_array_equal(loaded.mask, genome.mask)
        np.testing.assert_array_equal(loaded.layout.initial, genome.weights)
        assert loaded.fitness.values == (0.5,)
    assert type(ticket) is Ticket
    np.testing.assert_array_equal(back.weights, genome.weights)
    assert genome.export().trained.steps == 7


def test_a_file_loads_into_the_layout_of_a_task(genome, layout, tmp_path):
    path = genome.save(tmp_path / "g.safetensors")
    back = Genome.load(path, layout=layout)
    assert back == genome
    np.testing.assert_array_equal(back.weights, genome.weights)
    other = MaskLayout([("a", (3, 2)), ("b", (4,))], np.zeros(10))
    with pytest.raises(InvalidValueError, match="layout must have the layers of the file"):
        Genome.load(path, layout=other)


def test_the_weights_are_never_left_out_of_a_file(genome, tmp_path):
    with pytest.raises(InvalidValueError, match="include_initial must be True for a genome"):
        genome.save(tmp_path / "g.safetensors", include_initial=False)
    assert not list(tmp_path.iterdir())


def test_apply_sets_its_own_weights():
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2))
    bias = model[0].bias.detach().clone()
    layout = MaskLayout.of(model)
    genome = Genome(MASK, layout, weights=np.arange(10) + 1)
    assert genome.apply(model) is model
    assert model[0].weight.tolist() == [[1, 0, 3], [4, 0, 0]]
    assert model[2].weight.tolist() == [[7, 0], [9, 10]]
    assert torch.equal(model[0].bias, bias)
    model[0].weight.data.fill_(5)
    genome.apply(model, values="own")
    assert model[0].weight.tolist() == [[5, 0, 5], [5, 0, 0]]


def test_an_exported_genome_keeps_where_it_came_from(genome, tmp_path):
    parents = "a" * 32, "b" * 32
    genome.inherited = TrainedState(genome.own_values(), packed=genome.packed, parents=parents)
    genome.note_training(None)
    genome.origin = {"generation": 3}
    ticket = genome.export()
    assert ticket.parent_digests == genome.parent_digests == parents
    assert ticket.origin == genome.origin
    ticket.origin["generation"] = 4
    assert genome.origin == {"generation": 3}
    loaded = Ticket.load(genome.save(tmp_path / "g.safetensors"))
    assert loaded.origin == {"generation": 3, "parents": ["a" * 32, "b" * 32]}


def test_an_exported_genome_pickles():
    genome = Genome([1, 0, 1], MaskLayout([("a", (3, 1))], np.ones(3)), weights=np.arange(3.0))
    assert pickle.loads(pickle.dumps(genome.export())).kept == 2
