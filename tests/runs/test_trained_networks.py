"""The networks that a search has trained, beside its tickets."""

import numpy as np
import pytest
import torch

import nets_deap as nets
from nets_deap.errors import NetsError
from nets_deap.runs.networks import networks_in, networks_of


def task_of(**options):
    recipe = nets.Recipe(lr=0.05, batch_size=4, steps=30)
    loss = "binary_cross_entropy"
    return nets.tasks.xor(hidden=8, unit="neuron", recipe=recipe, loss=loss, **options)


def searched(task, **options):
    return nets.search(
        task, objectives=("val_loss", "multiply_adds"), population=4, generations=2,
        progress="none",
        **options,
    )  # fmt: skip


def test_networks_are_those_of_the_lineages(tmp_path):
    task = task_of()
    found = searched(task, path=tmp_path / "run")
    networks = found.networks
    assert networks
    for one in networks:
        assert one.trained.start == "inherited"
        assert one.trained.inherited_steps == one.ticket.trained.steps > 0
        metrics = one.ticket.trained.metrics
        assert one.trained.val_loss == pytest.approx(metrics["val_loss"], rel=1e-5)
        x = task.problem.val[0]
        with torch.no_grad():
            torch.testing.assert_close(one.compact()(x), one.module()(x))
    values = [one.ticket.fitness.values for one in networks]
    assert values == sorted(values)
    held = {one.digest for one in found.front.items}  # larger ones also where a smaller is better
    assert {one.ticket.digest for one in networks} == held
    again = networks_in(tmp_path / "run", task)
    assert [one.trained.val_loss for one in again] == [one.trained.val_loss for one in networks]
    with pytest.raises(NetsError, match="task must be that of the run"):
        networks_in(tmp_path / "run", task_of(seed=3))


def test_training_goes_on_from_what_a_ticket_holds():
    task = task_of()
    ticket = searched(task).networks[-1].ticket
    as_it_is = task.train(ticket, start="inherited", steps=0)
    assert np.isnan(as_it_is.train_loss)
    on = task.train(ticket, start="inherited", steps=40)
    assert (on.start, on.inherited_steps, on.steps) == ("inherited", ticket.inherited.steps, 40)
    assert on.val_loss < as_it_is.val_loss
    fresh = task.train(ticket, steps=40)
    assert (fresh.start, fresh.inherited_steps) == ("initial", 0)
    assert fresh.val_loss != on.val_loss
    dead = (
        ~ticket.masks()["layers.0.weight"].any(1) if "layers.0.weight" in ticket.masks() else None
    )
    if dead is not None:
        assert not on.module().state_dict()["layers.0.bias"][dead].any()


def test_tickets_without_weights_are_refused_or_left_out():
    task = task_of()
    with pytest.raises(NetsError, match="ticket must hold trained weights for start='inherited'"):
        task.train(task.dense_ticket(), start="inherited")
    with pytest.raises(NetsError, match="start must be a known name"):
        task.train(task.dense_ticket(), start="later")
    assert networks_of([task.dense_ticket()], task) == []
