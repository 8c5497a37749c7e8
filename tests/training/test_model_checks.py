"""What modules may hold: odd parameters work as plain ones do, or are refused with a reason."""

import threading
import warnings
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from support.networks import PLAN, RECIPES, Custom, assert_same, make_task, masks_of, reference
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from nets_deap import MaskLayout, Recipe, Task, Ticket, baselines
from nets_deap.errors import InvalidTypeError
from nets_deap.training.engines.loop import train_loop
from nets_deap.training.engines.vmap import train_vmap

SHORT = replace(PLAN, steps=10, curve_points=1)


def plain():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))


def transposed(model):
    weight = model[3].weight.detach()
    model[3].weight = nn.Parameter(weight.t().contiguous().t())
    assert not model[3].weight.is_contiguous()


def channels_last(model):
    model.to(memory_format=torch.channels_last)


def sliced(model):
    wide = torch.zeros(3, 128, dtype=torch.float64)
    wide[:, ::2] = model[3].weight.detach()
    model[3].weight = nn.Parameter(wide[:, ::2])
    assert not model[3].weight.is_contiguous()


def shared(model):
    model.share_memory()


@pytest.mark.parametrize("change", [transposed, channels_last, sliced, shared])
@pytest.mark.parametrize("engine", [train_vmap, train_loop, reference])
def test_the_way_parameters_lie_in_memory_changes_nothing(change, engine):
    model = plain().double()
    task = make_task("conv2d", RECIPES["adam"], model=model)
    masks = masks_of(task)
    expected = reference(task.problem, masks, SHORT)
    change(model)
    before = model[3].weight.detach().clone()
    odd = make_task("conv2d", RECIPES["adam"], model=model)
    assert odd.layout.key == task.layout.key
    assert_same(engine(odd.problem, masks, SHORT), expected, rtol=1e-9)
    assert torch.equal(model[3].weight, before)
    ticket = odd.ticket(np.arange(odd.layout.size) % 2 == 0)
    ticket.apply(model)
    flat = torch.cat([model[0].weight.reshape(-1), model[3].weight.reshape(-1)])
    assert not flat[1::2].any()


def test_one_tensor_seen_several_times_trains_as_one():
    row = nn.Parameter(torch.randn(1, 6, dtype=torch.float64).expand(3, 6))
    model = nn.Sequential(nn.Linear(6, 3)).double()
    model[0].weight = row
    task = make_task("mlp", RECIPES["sgd"], model=model)
    copied = nn.Sequential(nn.Linear(6, 3)).double()
    with torch.no_grad():
        copied[0].weight.copy_(row)
        copied[0].bias.copy_(model[0].bias)
    same = make_task("mlp", RECIPES["sgd"], model=copied)
    masks = masks_of(task)
    for engine in (train_vmap, train_loop):
        expected = reference(same.problem, masks, SHORT)
        assert_same(engine(task.problem, masks, SHORT), expected, rtol=1e-9)


def test_a_tied_weight_has_one_mask_and_stays_tied():
    task = make_task("tied", RECIPES["adam"])
    assert task.layout.names == ("a.weight", "c.weight")
    assert task.layout.size == 36 + 18
    module = task.train(task.ticket(np.arange(54) % 3 > 0)).module()
    assert module.b.weight is module.a.weight
    flat = module.a.weight.detach().reshape(-1)
    assert not flat[::3].any()
    assert flat[1::3].all()


def pruned():
    model = nn.Sequential(nn.Linear(6, 3))
    prune.random_unstructured(model[0], "weight", 0.5)
    return model


def with_buffer(buffer):
    model = nn.Sequential(nn.Linear(6, 3))
    model.register_buffer("held", buffer)
    return model


def with_weight(value):
    model = nn.Sequential(nn.Linear(6, 3))
    with torch.no_grad():
        model[0].bias[1] = value
    return model


def scripted():
    return torch.jit.script(nn.Linear(6, 6))


def quantised():
    first = nn.Sequential(nn.Linear(6, 6))
    first = torch.ao.quantization.quantize_dynamic(first, {nn.Linear}, dtype=torch.qint8)
    return nn.Sequential(first[0], nn.Linear(6, 3))


def uncopied():
    model = nn.Linear(6, 3)
    model.lock = threading.Lock()
    return model


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: nn.Sequential(nn.LazyLinear(3)),
            r"have initial weights: .*none in '0\.weight'\. C",
        ),
        (lambda: nn.Linear(6, 3, device="meta"), r"have initial weights: .*none in 'weight'"),
        (lambda: nn.Linear(6, 3).half(), r"have one dtype: expected float32 or float64 .*float16"),
        (lambda: nn.Linear(6, 3).bfloat16(), r"have one dtype: .*bfloat16"),
        (
            lambda: nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 3).double()),
            r"have one dtype: .*\['float32', 'float64'\]",
        ),
        (
            lambda: Custom(lambda m, x: x, a=nn.Linear(6, 3, dtype=torch.complex64)),
            r"have real parameters: .*complex64 in 'a\.weight'",
        ),
        (lambda: with_buffer(torch.zeros(2, device="meta")), r"have initial .*none in 'held'"),
        (lambda: with_buffer(torch.eye(2).to_sparse()), r"hold dense tensors: .*'held', .*sparse"),
        (lambda: with_buffer(torch.eye(2).to_sparse_csr()), r"hold dense tensors: .*'held'"),
        (
            lambda: with_buffer(torch.quantize_per_tensor(torch.eye(2), 0.1, 0, torch.qint8)),
            r"hold dense tensors: .*'held', quantised",
        ),
        (lambda: with_weight(torch.nan), r"have finite initial weights: .*NaN or inf in '0\.bias'"),
        (lambda: with_weight(torch.inf), r"have finite initial weights: .*NaN or inf in '0\.bias'"),
        (lambda: nn.Sequential(scripted(), nn.Linear(6, 3)), r"run in Python: .*at '0'\. Give the"),
        (scripted, r"run in Python: .*no torch\.jit modules, got RecursiveScriptModule\. Give"),
        (quantised, r"have real weights: .*no quantised modules, got Linear at '0'"),
        (uncopied, r"be copyable: .*Python says: cannot pickle"),
        (pruned, r"hold its weights plainly: .*'0\.weight' masked already\. torch's prune\.remove"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_a_reason(build, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of what is new or old there
        model = build()
    with pytest.raises(ValueError, match=f"^model must {message}"):
        Task(model, train=(torch.zeros(40, 6), torch.arange(40) % 3), recipe=Recipe(steps=2))


@dataclass
class Answer:
    logits: torch.Tensor | None
    loss: torch.Tensor | None = None
    hidden: tuple = ()


OUTPUTS = {
    "list": (lambda o, h: [o, None], lambda out: out[0]),
    "tuple": (lambda o, h: (None, o), lambda out: out[1]),
    "dataclass": (lambda o, h: Answer(o), lambda out: out.logits),
    "mapping": (lambda o, h: OrderedDict(logits=o, loss=None), lambda out: out["logits"]),
    "nested": (lambda o, h: {"a": [Answer(o, hidden=(None,))]}, lambda out: out["a"][0].logits),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_neurons_are_told_from_outputs_in_whatever_these_come(kind):
    wrap, pick = OUTPUTS[kind]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)), rng.integers(0, 3, 40)

    def task_with(function, loss):
        torch.manual_seed(0)
        layers = {"out": nn.Linear(4, 3), "body": nn.Linear(6, 4)}  # the output is registered first
        recipe = Recipe(steps=4, batch_size=8)
        model = Custom(function, **layers).double()
        return Task(
            model, train=(x, y), val=(x, y), recipe=recipe, loss=loss, unit="neuron", device="cpu"
        )

    def run(model, x):
        hidden = torch.tanh(model.body(x))
        return model.out(hidden), hidden

    plain = task_with(lambda m, x: run(m, x)[0], "cross_entropy")
    task = task_with(
        lambda m, x: wrap(*run(m, x)), lambda out, target: F.cross_entropy(pick(out), target)
    )
    assert task.layout.names == plain.layout.names == ("body.weight",)
    gates = np.array([True, False, True, True])
    results = [t.train(t.ticket(gates), seed=1) for t in (plain, task)]
    assert results[0].val_loss == pytest.approx(results[1].val_loss, rel=1e-9)


def test_several_tickets_come_in_any_iterable():
    data, recipe = (torch.randn(40, 6), torch.arange(40) % 3), Recipe(steps=2, batch_size=10)
    task = Task(nn.Linear(6, 3), train=data, recipe=recipe, device="cpu")
    tickets = [task.ticket(np.arange(18) % 3 == i) for i in range(3)]
    listed, yielded = task.train_all(tickets), task.train_all(t for t in tickets)
    assert [r.val_loss for r in listed] == [r.val_loss for r in yielded]
    assert [r.density for r in listed] == [r.density for r in yielded]
    assert task.train_all(iter([])) == []
    for wrong in (tickets[0], None):
        with pytest.raises(
            InvalidTypeError, match=r"tickets must be several: .*task\.train\(ticket"
        ):
            task.train_all(wrong)
    with pytest.raises(TypeError, match=r"tickets must be several: .*baselines have \.tickets"):
        task.train_all(baselines.random_uniform(task, 0.5))


def test_what_is_no_model_is_refused_wherever_one_is_given():
    data, recipe = (torch.randn(40, 6), torch.arange(40) % 3), Recipe(steps=2, batch_size=10)
    task = Task(nn.Linear(6, 3), train=data, recipe=recipe, device="cpu")
    ticket = task.dense_ticket()
    takers = [ticket.apply, ticket.compact, ticket.to_csr, Ticket.from_pruned, MaskLayout.of]
    for take in (*takers, lambda model: Task(model, train=data)):
        with pytest.raises(InvalidTypeError, match=r"must be a module.*result\.module\(\)"):
            take(task.train(ticket))
        with pytest.raises(InvalidTypeError, match=r"must be a module.*make one, Linear\("):
            take(nn.Linear)
