"""Evolution of models that take several tensors: objectives, search, controls, files."""

import numpy as np
import pytest
import torch
from support.tokens import RECIPE, token_task
from torch import nn

import nets_deap as nets
from nets_deap.evolution import measures
from nets_deap.evolution.measured import Measured
from nets_deap.inputs.call import call
from nets_deap.training.problem import Plan


def measured_of(task, steps=12):
    """Return what was measured of the dense ticket, with its trained network."""
    outcome = task.run([task.dense_ticket()], Plan(steps=steps, seed=1, keep_states=True))
    metrics = {name: float(values[0]) for name, values in outcome.metrics.items()}
    state = outcome.states[0]
    return Measured(task.dense_ticket(), metrics, steps, task=task, state=lambda: state)


class Two(nn.Module):
    """Numbers, and the class that they are compared with."""

    def __init__(self):
        super().__init__()
        self.embed, self.last = nn.Embedding(3, 4), nn.Linear(4, 3)

    def forward(self, x, kind):
        return self.last(torch.tanh(x + self.embed(kind)))


def two_task(n=2300):
    """Return a task of two tensors whose validation data span several batches, and the data."""
    rng = np.random.default_rng(0)
    x, kind = rng.normal(size=(n, 4)), rng.integers(0, 3, n)
    y = (x.argmax(1) + kind) % 3
    torch.manual_seed(0)
    model = Two().double()
    some = slice(0, 100)
    recipe = nets.Recipe(lr=0.05, batch_size=20, steps=60)
    several = {"train": ((x[some], kind[some]), y[some]), "val": ((x, kind), y)}
    return nets.Task(model, recipe=recipe, **several), x, kind, y


def test_noise_is_added_to_floating_point_inputs_alone():
    task, x, kind, y = two_task()
    measured = measured_of(task, 60)
    clean = measured.metrics["val_accuracy"]
    assert measures.noise_accuracy(0.0)(measured) == pytest.approx(clean, abs=1e-12)
    model = task.model
    model.load_state_dict(measured.state())
    rng = np.random.default_rng(task.derived_seed(measures.NOISE_SEED))
    noise = 0.7 * rng.standard_normal(x.shape, dtype=np.float32)
    with torch.no_grad():
        output = model.eval()(torch.from_numpy(x + noise), torch.from_numpy(kind))
    expected = float((output.argmax(1) == torch.from_numpy(y)).double().mean())
    assert measures.noise_accuracy(0.7)(measured) == pytest.approx(expected, abs=1e-3)
    assert expected < clean - 0.05


def test_noise_on_whole_numbers_alone_is_refused():
    for form in ("dict", "one tensor"):
        with pytest.raises(
            ValueError, match=r"suit the inputs: expected a floating-point one to a"
        ):
            measures.noise_accuracy(0.1)(measured_of(token_task(form)))


def test_objectives_are_those_of_the_same_numbers_in_one_tensor_or_refused():
    rounded = [measures.int8_accuracy(measured_of(token_task(f))) for f in ("dict", "one tensor")]
    assert rounded[0] == rounded[1]
    counts = [measures.multiply_adds(measured_of(token_task(f))) for f in ("dict", "one tensor")]
    assert counts[0] == counts[1] > 0
    with pytest.raises(ValueError, match=r"objectives must be those that the network has"):
        measures.live_inputs(measured_of(token_task("dict")))


def test_a_tuple_of_one_counts_as_the_one_tensor():
    x, y = np.random.default_rng(0).normal(size=(40, 6)), np.arange(40) % 3
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    mask = np.random.default_rng(1).random(72) < 0.3
    found = []
    for inputs in (x, (x,)):
        task = nets.Task(model, train=(inputs, y), recipe=RECIPE)
        measured = Measured(task.ticket(mask), {}, 0, task=task)
        found.append((measures.multiply_adds(measured), measures.live_inputs(measured)))
    assert found[0] == found[1]


def test_a_search_finds_what_it_finds_with_one_tensor():
    fronts = []
    for form in ("dict", "one tensor"):
        found = nets.search(token_task(form), population=4, generations=1, seed=3, inherit="none")
        fronts.append([ticket.mask for ticket in found.front])
    np.testing.assert_array_equal(*map(np.array, fronts))


def test_gradients_that_guide_regrowth_are_those_of_one_tensor():
    gradients = []
    for form in ("deep", "one tensor"):
        task = token_task(form)
        evaluator = nets.Evaluator(task, objectives=("val_loss", "density"))
        ticket = task.ticket(np.random.default_rng(0).random(task.layout.size) < 0.5)
        found = evaluator._gradients([ticket], [None], evaluator._rows())
        gradients.append(next(found)[0])
    np.testing.assert_allclose(*gradients, rtol=1e-9)


@pytest.mark.slow
def test_a_ticket_is_checked_saved_and_applied(tmp_path):
    task = token_task("dict")
    ticket = task.ticket(np.random.default_rng(0).random(task.layout.size) < 0.5)
    reports = [
        nets.sanity.check(t.ticket(ticket.mask), t, steps=12, seeds=2)
        for t in (task, token_task("one tensor"))
    ]
    assert reports[0].table() == reports[1].table()
    ticket.save(tmp_path / "t.safetensors", task=task)
    again = nets.Ticket.load(tmp_path / "t.safetensors")
    assert again.origin["data"]["digest"] == task.data_digest
    model = again.apply(task.model)
    inputs = task.problem.val[0]
    for name, mask in ticket.masks().items():
        assert not model.get_parameter(name)[~mask].any()
    assert call(model, inputs).shape == (40, 3)
