"""Modules as other programs make them train as plain torch trains them, with masks put back."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from support.networks import Custom
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

import nets_deap as nets
from nets_deap.errors import InvalidValueError
from nets_deap.models import masking
from nets_deap.models.private import hooks_of
from nets_deap.training.problem import Plan
from nets_deap.training.workers.transfer import SharedProblem

STEPS, BATCH, SEED = 12, 10, 7
ENGINES = ("auto", "vmap", "loop")


def data_of(shape=(6,), n=40):
    rng = np.random.default_rng(0)
    y = torch.from_numpy(rng.integers(0, 3, n))
    return torch.from_numpy(rng.normal(size=(n, *shape))) + y.reshape(-1, *[1] * len(shape)), y


def task_of(model, data, **options):
    recipe = nets.Recipe(optimizer="sgd", momentum=0.9, lr=0.05, batch_size=BATCH, steps=STEPS)
    return nets.Task(model, train=data, val=data, recipe=recipe, **{"device": "cpu", **options})


def by_plain_torch(model, masks, data):
    """Train a model in place as torch alone would, masked weights put back to 0; its loss."""
    x, y = data
    named = dict(model.named_parameters())
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.05, momentum=0.9
    )
    model.train()
    for rows in [None, *Plan(STEPS, SEED).batches(len(x), BATCH)]:
        if rows is not None:
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            for name, mask in masks.items():
                if named[name].grad is not None:
                    named[name].grad = torch.where(mask, named[name].grad.to_dense(), 0)
            optimizer.step()
        with torch.no_grad():
            for name, mask in masks.items():
                named[name].copy_(torch.where(mask, named[name], 0))
    with torch.no_grad():
        return float(F.cross_entropy(model.eval()(x), y))


def check(build, data, plain=None, **options):
    """Compare a trained ticket of half the weights with what plain torch makes of it."""
    torch.manual_seed(4)
    model = build().double()
    reference = copy.deepcopy(model) if plain is None else plain().double()
    task = task_of(model, data, **options)
    ticket = task.ticket(np.random.default_rng(1).random(task.layout.size) < 0.5)
    result = task.train(ticket, seed=SEED)
    loss = by_plain_torch(reference, ticket.masks(), data)
    assert result.val_loss == pytest.approx(loss, rel=1e-9)
    trained = dict(result.module().named_parameters())
    for name, p in reference.named_parameters():
        torch.testing.assert_close(trained[name].detach(), p.detach(), rtol=1e-7, atol=1e-9)
    for name, mask in ticket.masks().items():
        assert not trained[name][~mask].any()
    return task


def mlp():
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


# ---- what is masked by default


def recurrent(kind, **more):
    def read(model, x):
        return model.out(model.read(x)[0][:, -1])

    layer = kind(6, 4, batch_first=True, **more)
    return lambda: Custom(read, read=layer, out=nn.Linear(more.get("proj_size", 4), 3))


def cells():
    def read(model, x):
        h = None
        for step in x.unbind(1):
            h = model.cell(step, h)
        return model.out(h)

    return Custom(read, cell=nn.GRUCell(6, 4), out=nn.Linear(4, 3))


def attention():
    def read(model, x):
        h = model.attend(x, x, x, need_weights=False)[0]
        return model.out(model.norm(h).mean(1))

    attend = nn.MultiheadAttention(6, 2, bias=False, batch_first=True)
    return Custom(read, attend=attend, norm=nn.LayerNorm((3, 6)), out=nn.Linear(6, 3))


class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(6, 5))
        self.scale = nn.Parameter(torch.ones(1, 5))
        self.pos_embed = nn.Parameter(torch.randn(3, 6))
        self.cls_token = nn.Parameter(torch.randn(2, 6))
        self.both = nn.Bilinear(5, 5, 3)

    def forward(self, x):
        h = torch.tanh((x + self.pos_embed + self.cls_token.sum(0)) @ self.matrix) * self.scale
        return self.both(h, h).mean(1)


KINDS = {
    "lstm": (recurrent(nn.LSTM, proj_size=3), ("ih", "hh", "hr"), "read.weight_{}_l0"),
    "gru": (recurrent(nn.GRU), ("ih", "hh"), "read.weight_{}_l0"),
    "rnn": (recurrent(nn.RNN), ("ih", "hh"), "read.weight_{}_l0"),
    "cells": (cells, ("ih", "hh"), "cell.weight_{}"),
    "attention": (attention, ("in_proj_weight", "out_proj.weight"), "attend.{}"),
    "own": (Own, ("matrix", "both.weight"), "{}"),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("engine", ["auto", "loop"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_weights_are_masked_and_train_as_in_plain_torch(kind, engine):
    build, parts, pattern = KINDS[kind]
    task = check(build, data_of((3, 6)), engine=engine)
    names = tuple(pattern.format(part) for part in parts)
    assert task.layout.names == (names if kind == "own" else (*names, "out.weight"))


def test_an_embedding_is_left_out_and_a_low_coverage_told(caplog):
    def build():
        layers = {"embed": nn.Embedding(50, 4, sparse=True), "out": nn.Linear(4, 3)}
        return Custom(lambda m, x: m.out(m.embed(x).mean(1)), **layers)

    x, y = torch.randint(0, 50, (40, 5)), data_of()[1]
    for engine in ENGINES:
        check(build, (x, y), engine=engine)
    (note, *_) = caplog.messages
    assert note.startswith("Masks cover 12 of 215 parameters (5.6 %), and density is that of these")
    assert "'embed.weight' (200: embedding)" in note
    assert "maskable=['out.weight', 'embed.weight']" in note
    caplog.clear()
    task = task_of(build(), (x, y), maskable=["out.weight", "embed.weight"])
    assert task.layout.size == 212
    task_of(mlp(), data_of())
    assert not caplog.messages


@pytest.mark.parametrize("unit", ["neuron", "filter", "2:4"])
def test_structured_units_leave_out_what_has_none(unit, caplog):
    def read(model, x):
        return model.out(torch.tanh(model.middle(model.read(x)[0][:, -1])))

    layers = {"read": nn.GRU(6, 8, batch_first=True), "middle": nn.Linear(8, 4)}
    model = Custom(read, **layers, out=nn.Linear(4, 3)).double()
    task = task_of(model, data_of((3, 6)), unit=unit)
    why = {p.name: p.why for p in task.parameters}
    assert why["read.weight_ih_l0"].startswith("has no units")
    biases = () if unit == "2:4" else ("middle.bias",)  # a neuron's goes with it
    assert task.layout.weights.names == ("middle.weight", *biases, "out.weight")
    assert "unit='weight'" in caplog.text
    with pytest.raises(InvalidValueError, match=r"units '.*got 'read\.weight_ih_l0'"):
        task_of(model, data_of((3, 6)), unit=unit, maskable=nn.GRU)
    task = task_of(model, data_of((3, 6)), unit="block(2x2)")
    assert task.layout.names[:2] == ("read.weight_ih_l0", "read.weight_hh_l0")


# ---- parametrizations


def normalised(wrap, **options):
    def build():
        model = mlp()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch deprecates its first form
            wrap(model[0], **options)
        return model

    return build


WRAPPED = {
    "weight_norm": (
        normalised(parametrizations.weight_norm),
        "0.parametrizations.weight.original1",
    ),
    "of inputs": (
        normalised(parametrizations.weight_norm, dim=1),
        "0.parametrizations.weight.original1",
    ),
    "of all": (
        normalised(parametrizations.weight_norm, dim=None),
        "0.parametrizations.weight.original1",
    ),
    "first weight_norm": (normalised(nn.utils.weight_norm), "0.weight_v"),
    "spectral_norm": (
        normalised(parametrizations.spectral_norm),
        "0.parametrizations.weight.original",
    ),
    "first spectral_norm": (normalised(nn.utils.spectral_norm), "0.weight_orig"),
}


@pytest.mark.parametrize("engine", ["auto", "loop"])
@pytest.mark.parametrize("kind", WRAPPED)
def test_normalised_weights_are_masked_where_zeros_stay_zeros(kind, engine):
    build, name = WRAPPED[kind]
    task = check(lambda: build().double(), data_of(), plain=build, engine=engine)
    assert task.layout.names == (name, "2.weight")
    ticket = task.ticket(np.arange(task.layout.size) % 2 == 0)
    expected, x = ticket.apply(build().double()), data_of()[0]
    for how in ("parametrize", "prune"):
        applied = ticket.apply(build().double(), how)
        torch.testing.assert_close(applied.eval()(x), expected.eval()(x))
        assert nets.Ticket.from_pruned(applied) == ticket
        torch.testing.assert_close(masking.plain(applied)(x), expected(x))


@pytest.mark.parametrize("kind", ["weight_norm", "of inputs", "first weight_norm"])
@pytest.mark.parametrize("engine", ["vmap", "loop"])
def test_a_neuron_without_weights_is_zero_under_weight_normalisation(kind, engine):
    build, name = WRAPPED[kind]
    task = task_of(build().double(), data_of(), engine=engine)
    mask = {layer.name: np.ones(layer.shape, np.bool_) for layer in task.layout.layers}
    mask[name][2] = mask[name][:, 3] = False
    result = task.train(nets.Ticket.from_masks(mask, task.layout))
    assert np.isfinite(result.val_loss)
    module, x = result.module(), torch.randn(4, 6, dtype=torch.float64)
    module(x)
    weight = module[0].weight
    assert not weight[2].any()
    assert not weight[:, 3].any()
    assert all(p.isfinite().all() for p in module.parameters())


def test_a_parametrization_that_fills_zeros_in_is_not_masked():
    model = normalised(parametrizations.orthogonal)()
    why = {p.name: p.why for p in task_of(model.double(), data_of()).parameters}
    name = "0.parametrizations.weight.original"
    assert why[name] == "parametrized by _Orthogonal, which fills zeros in"


# ---- hooks


class Alternating(nn.Sequential):
    """Hooks that are methods, with a count in the module."""

    def __init__(self):
        torch.manual_seed(2)
        super().__init__(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        self.calls = 0
        self[0].weight.register_hook(self.every_second)

    def every_second(self, gradient):
        self.calls += 1
        return gradient * (self.calls % 2)


def clip(p):
    p.grad.clamp_(-0.01, 0.01)


def hooked(register):
    def build():
        model = mlp().double()
        register(model)
        return model

    return build


HOOKED = {
    "gradient": hooked(lambda m: m[0].weight.register_hook(lambda g: g * 3)),
    "two": hooked(
        lambda m: [m[2].bias.register_hook(f) for f in (lambda g: g + 0.1, lambda g: g * 2)]
    ),
    "accumulated": hooked(lambda m: m[2].weight.register_post_accumulate_grad_hook(clip)),
    "methods": lambda: Alternating().double(),
    "forward": hooked(lambda m: m[1].register_forward_hook(lambda m, x, y: y * 1.5 + 0.1)),
    "inputs": hooked(lambda m: m[2].register_forward_pre_hook(lambda m, x: (x[0] * 0.7,))),
    "backward": hooked(lambda m: m[1].register_full_backward_hook(lambda m, g, h: (g[0] * 0.3,))),
    "outer": hooked(lambda m: m.register_full_backward_pre_hook(lambda m, g: (g[0] * 0.3,))),
}


@pytest.mark.parametrize("engine", ["auto", "loop"])
@pytest.mark.parametrize("kind", HOOKED)
def test_hooks_act_as_in_plain_torch(kind, engine):
    check(HOOKED[kind], data_of(), plain=HOOKED[kind], engine=engine)


def test_engines_that_call_no_hooks_of_parameters_refuse_them():
    for engine in ("vmap", "batched", "compiled"):
        with pytest.raises(InvalidValueError, match="engine must suit the task"):
            task_of(HOOKED["gradient"](), data_of(), engine=engine)
    task = task_of(HOOKED["gradient"](), data_of())
    (hook,) = task.model[0].weight._backward_hooks.values()
    assert hook(1) == 3


def test_hooks_of_parameters_reach_other_processes():
    problem = task_of(HOOKED["accumulated"](), data_of()).problem
    sent = pickle.loads(pickle.dumps(SharedProblem.of(problem)))
    for shared in (sent, SharedProblem.of(problem)):
        there = shared.on(torch.device("cpu"))
        assert hooks_of(there.model) == {"2.weight": ([], [clip])}
        assert there.hooked == "2.weight"


# ---- wrappers and what a module keeps


def spread():
    model = mlp()
    model[2] = nn.DataParallel(model[2])
    return nn.DataParallel(model)


def compiled():
    model = mlp()
    model[0] = torch.compile(model[0])
    return torch.compile(model)


def compiled_in_place():
    model = mlp()
    model.compile()
    model[0].compile()
    return model


@pytest.mark.parametrize(
    "build",
    [spread, *(pytest.param(b, marks=pytest.mark.slow) for b in (compiled, compiled_in_place))],
)
def test_wrapped_modules_are_those_in_them(build):
    plain = task_of(mlp().double(), data_of())
    model = build().double()
    task = check(lambda: model, data_of(), plain=mlp)
    assert task.layout.names == ("0.weight", "2.weight")
    assert task.fingerprint == plain.fingerprint
    ticket = plain.ticket(np.arange(plain.layout.size) % 2 == 0)
    assert nets.Ticket.from_masks(ticket.masks(), model) == ticket
    expected, x = ticket.apply(mlp().double()), data_of()[0]
    found = ticket.apply(build().double(), "functional")
    for given, values in zip(dict(build().named_parameters()).items(), found.items(), strict=True):
        assert given[0] == values[0]
    for how in ("inplace", "parametrize", "prune"):
        wrapped = ticket.apply(build().double(), how)
        if how != "inplace":
            assert nets.Ticket.from_pruned(wrapped) == ticket
        if build is spread:  # compiling takes long
            torch.testing.assert_close(wrapped(x), expected(x))


def test_a_hook_on_a_wrapper_is_refused():
    model = nn.DataParallel(mlp())
    model.register_forward_hook(lambda m, x, y: 2 * y)
    with pytest.raises(InvalidValueError, match=r"none on a wrapper, got DataParallel"):
        task_of(model, data_of())


class Keeps(nn.Sequential):
    def forward(self, x):
        self.seen = [self[0](x)]
        self.last = {"hidden": self[1](self.seen[0])}
        return self[2](self.last["hidden"])


def test_a_module_may_keep_what_it_computes():
    def build():
        model = Keeps(*mlp()).double()
        model(data_of()[0])
        return model

    for engine in ENGINES:
        task = check(build, data_of(), plain=build, engine=engine)
    nets.baselines.snip(task, 0.5)  # a gradient of the task's own module
    assert task.train(task.dense_ticket()).val_loss > 0


def test_frozen_weights_are_masked_and_stay():
    def build():
        model = mlp().double()
        model[0].weight.requires_grad_(False)
        return model

    for engine in ENGINES:
        check(build, data_of(), engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.complex64, torch.int8])
def test_buffers_of_any_dense_type_go_along(dtype, engine):
    model = Custom(lambda m, x: m.body(x) * m.scale.real, body=mlp()).double()
    model.register_buffer("scale", torch.tensor([1, 2, 1]).to(dtype))
    task = task_of(model, data_of(), engine=engine)
    result = task.train(task.dense_ticket(), seed=SEED)
    assert result.module().scale.dtype == dtype
    assert result.module().scale.tolist() == [1, 2, 1]
