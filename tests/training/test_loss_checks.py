"""Losses that are refused or warned of: no gradient, something to train, other shapes."""

import functools
import logging

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nets_deap import Recipe, Task
from nets_deap.data.convert import Given
from nets_deap.errors import InvalidValueError, NetsError
from nets_deap.training.model_checks import fitted

RNG = np.random.default_rng(0)
X = torch.tensor(RNG.normal(size=(120, 8)).astype(np.float32))
Y = torch.tensor(np.arange(120) * 3 // 120)
ENGINES = ["auto", "vmap", "loop"]  # the others take losses with a name alone


def mlp(outputs=3):
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, outputs))


def task_of(loss, engine="auto", model=None, y=Y, **more):
    recipe = Recipe(lr=1e-2, batch_size=20, steps=4, loss=loss)
    model = mlp() if model is None else model
    data = {"train": (X, y), "val": (X, y), **more}
    return Task(model, recipe=recipe, engine=engine, device="cpu", **data)


NO_GRADIENT = {
    "errors": lambda output, target: (output.argmax(1) != target).float().mean(),
    "detach": lambda output, target: F.cross_entropy(output.detach(), target),
    "item": lambda output, target: torch.tensor(F.cross_entropy(output, target).item()),
    "no_grad": torch.no_grad()(F.cross_entropy),
    "float": lambda output, target: F.cross_entropy(output, target).item(),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", NO_GRADIENT)
def test_a_loss_without_a_gradient_is_refused(name, engine):
    """Every network would end with the numbers of W0."""
    with pytest.raises(NetsError, match=r"loss must have a gradient|loss must return a number"):
        task_of(NO_GRADIENT[name], engine)


class Uncertain(nn.Module):
    """A loss with a parameter of its own (Kendall et al. 2018)."""

    def __init__(self, trained=True):
        super().__init__()
        self.log = nn.Parameter(torch.zeros(()), requires_grad=trained)

    def forward(self, output, target):
        return F.cross_entropy(output, target) * torch.exp(-self.log) + self.log


class Centres(nn.Module):
    """A loss with a table that is trained (Wen et al. 2016)."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(3, 3)

    def forward(self, output, target):
        return F.cross_entropy(output, target) + (output - self.table(target)).square().mean()


def with_penalty():
    """Return a model, and a loss with a penalty on its own weights: not on those that train."""
    model = mlp()

    def loss(output, target):
        return F.cross_entropy(output, target) + sum(p.abs().sum() for p in model.parameters())

    return model, loss


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", ["module", "table", "closure", "penalty"])
def test_a_loss_with_something_to_train_is_refused(case, engine):
    model, loss = with_penalty()
    if case != "penalty":
        own = nn.Parameter(torch.ones(()))
        loss = {
            "module": Uncertain(),
            "table": Centres(),
            "closure": lambda output, target: own * F.cross_entropy(output, target),
        }[case]
    with pytest.raises(
        InvalidValueError, match=r"loss must have nothing to train: .*the model hol"
    ):
        task_of(loss, engine, model)


class Heads(nn.Module):
    """A model that holds what its loss trains."""

    def __init__(self):
        super().__init__()
        self.body, self.log = mlp(), nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.body(x), self.log


def uncertain(output, target):
    scores, log = output
    return F.cross_entropy(scores, target) * torch.exp(-log) + log


@pytest.mark.parametrize("engine", ["vmap", "loop"])
def test_what_the_model_hands_to_its_loss_is_trained(engine):
    task = task_of(uncertain, engine, Heads())
    module = task.train(task.dense_ticket()).module()
    assert float(module.log.detach()) < 0.99
    task_of(Uncertain(trained=False), engine)


@pytest.mark.parametrize("engine", ["vmap", "loop"])
def test_a_named_loss_of_outputs_without_a_gradient_is_refused(engine):
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp()

        def forward(self, x):
            return self.body(x).detach()

    with pytest.raises(InvalidValueError, match="model must have a gradient"):
        task_of("cross_entropy", engine, Cut())


@pytest.mark.parametrize("engine", ["auto", "vmap", "loop"])
@pytest.mark.parametrize(
    "loss",
    [
        lambda output, target: F.cross_entropy(output, target, reduction="none").topk(15)[0].mean(),
        lambda output, target: F.cross_entropy(output, target) / (target.unique().numel() > 2),
        lambda output, target: torch.stack(output.split(5)).std(0).mean(),
    ],
)
def test_a_loss_is_tried_on_a_minibatch_of_all_classes(loss, engine, caplog):
    """Not on two examples, nor on the first ones, which are all of one class."""
    task = task_of(loss, engine)
    assert np.isfinite(task.train(task.dense_ticket()).val_loss)
    assert "train one at a time" not in caplog.text


def test_a_model_and_an_augmentation_are_tried_on_a_minibatch():
    class Best(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp()

        def forward(self, x):
            return self.body(x) - self.body(x).topk(5, 0)[0].mean(0)

    def mixed(x):
        return x + 0.1 * x.topk(5, 0)[0].mean(0)

    task = task_of("cross_entropy", model=Best(), augment=mixed, unit="neuron")
    assert np.isfinite(task.train(task.dense_ticket()).val_loss)


# ---- shapes


@pytest.mark.parametrize("engine", ["auto", "compiled", "vmap", "loop"])
@pytest.mark.parametrize("loss", ["mse", "binary_cross_entropy"])
@pytest.mark.parametrize("shape", [(6, 6, 3), (6, 3, 6), (108,), (36, 3), (3, 36)])
def test_targets_of_another_order_are_refused(shape, loss, engine):
    model = nn.Sequential(nn.Linear(8, 108), nn.Unflatten(1, (3, 6, 6)))
    with pytest.raises(
        InvalidValueError, match=r"train targets must match .*\(3, 6, 6\), got .*per"
    ):
        task_of(loss, engine, model, torch.zeros(120, *shape))


@pytest.mark.parametrize("loss", ["mse", "binary_cross_entropy"])
@pytest.mark.parametrize("engine", ["auto", "compiled", "vmap", "loop"])
@pytest.mark.parametrize(
    ("outputs", "targets"), [((1,), ()), ((6,), (1, 6)), ((1, 6), (6, 1)), ((2, 3), (2, 1, 3))]
)
def test_axes_of_size_one_come_and_go(outputs, targets, loss, engine):
    n = int(np.prod(outputs))
    y = torch.tensor(np.random.default_rng(1).integers(0, 2, (120, *targets))).float()
    model = mlp(n) if len(outputs) == 1 else nn.Sequential(mlp(n), nn.Unflatten(1, outputs))
    if engine == "compiled" and len(outputs) > 1:
        return
    task = task_of(loss, engine, model, y)
    result = task.train(task.dense_ticket())
    with torch.no_grad():
        flat = result.module()(X).reshape(y.shape)
    true = {"mse": F.mse_loss, "binary_cross_entropy": F.binary_cross_entropy_with_logits}[loss]
    assert result.val_loss == pytest.approx(float(true(flat, y)), rel=1e-5)


def test_a_shape_that_changes_in_training_is_seen():
    class Turning(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = mlp(6)

        def forward(self, x):
            found = self.body(x).reshape(-1, 2, 3)
            return found.transpose(1, 2) if self.training else found

    with pytest.raises(InvalidValueError, match=r"outputs \(20, 3, 2\) for targets \(20, 2, 3\)"):
        task_of("mse", model=Turning(), y=torch.zeros(120, 2, 3))


PAIRS = {
    "squares": lambda output, target: (output - target).square().mean(),
    "absolute": lambda output, target: (output - target).abs().mean(),
    "each": lambda output, target: (output - target).square(),
}
SINGLE = {
    "squeeze": lambda output, target: F.mse_loss(output.squeeze(), target.squeeze()),
    "reshape": lambda output, target: F.mse_loss(output.reshape(target.shape), target),
    "axis": lambda output, target: F.mse_loss(output[:, 0], target.reshape(-1)),
}


@pytest.mark.parametrize("zero", [False, True], ids=["drawn", "zero"])
@pytest.mark.parametrize("shape", [(120,), (120, 1)])
@pytest.mark.parametrize("name", [*PAIRS, *SINGLE])
def test_pairs_of_all_outputs_and_targets_are_warned_of_once(name, shape, zero, caplog):
    """Also where all outputs are the same at first, and both means are equal."""
    model = mlp(1)
    if zero:
        nn.init.zeros_(model[2].weight)
    loss = {**PAIRS, **SINGLE}[name]
    with caplog.at_level(logging.WARNING, logger="nets_deap"):
        task = task_of(loss, model=model, y=X[:, 0].reshape(shape))
        task.train(task.dense_ticket())
    told = [one.message for one in caplog.records if "all pairs" in one.message]
    assert len(told) == (name in PAIRS and shape == (120,))


@pytest.mark.parametrize("loss", [nn.MSELoss(), nn.L1Loss(), nn.HuberLoss(), nn.SmoothL1Loss()])
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_the_losses_of_torch_are_warned_of(loss, caplog):
    task_of(loss, model=mlp(1), y=X[:, 0])
    assert caplog.text.count("all pairs") == 1
    partial = functools.partial(F.mse_loss, reduction="sum")
    task_of(partial, model=mlp(1), y=X[:, :1])
    assert caplog.text.count("all pairs") == 1


class Centred(nn.Module):
    """A loss with a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("centre", torch.zeros(3))

    def forward(self, output, target):
        assert output.device == target.device == self.centre.device
        return (output - target - self.centre).square().mean()


def test_a_loss_sees_outputs_and_targets_of_one_device_wherever_the_model_stands():
    """A model that its user has put on a GPU is shown examples there; "meta" is such a place."""
    loss, y = Centred(), torch.randn(120, 3)
    given = Given(X, y, None, "")
    fit = fitted(mlp().to("meta"), loss, "train", given, None, torch.float32, 20)
    assert fit.targets.device == loss.centre.device == torch.device("cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_model_on_a_gpu_makes_a_task_with_a_loss_of_its_users(device):
    before = torch.cuda.get_rng_state()
    task = Task(
        mlp().cuda(), train=(X, Y), val=(X, Y), recipe=Recipe(batch_size=20, steps=4),
        loss=lambda output, target: F.cross_entropy(output, target, label_smoothing=0.1),
        device=device,
    )  # fmt: skip
    assert task.train(task.dense_ticket()).steps == 4
    assert torch.equal(torch.cuda.get_rng_state(), before)
