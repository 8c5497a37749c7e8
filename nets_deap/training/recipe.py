"""``Recipe``: how a masked network is trained.

One file: what a recipe holds, what it may hold, and what its functions are called, by which a
recipe is known.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from nets_deap import _checks

OPTIMIZERS = ("sgd", "adam", "adamw")
SCHEDULES = ("constant", "cosine", "linear", "step")
LOSSES = ("cross_entropy", "binary_cross_entropy", "mse")
DEFAULT_STEPS = 300
NAMED = ("optimizer", "loss", "training_step")  # fields that may hold functions
OPTIONS = ("clip_norm", "clip_value", "training_step")  # None is off


@_checks.signed
@dataclass(frozen=True)
class Recipe:
    """How each network of a population is trained, from W0 and on the same minibatches.

    Minibatches run through shuffled passes over the training data without leaving any example
    out; a minibatch may span two passes.

    Args:
        optimizer: ``"sgd"``, ``"adam"`` or ``"adamw"``, as ``torch.optim`` defines them; the name
            of another of its classes, such as ``"rmsprop"``; or what makes one of (parameters, lr):
            a class, ``functools.partial(torch.optim.RMSprop, alpha=0.9)`` or a function. Others
            than the first three get the settings below that are not at their defaults here, and
            train with the engines ``vmap`` and ``loop``, fully connected networks with ``batched``;
            those that do not step each weight by itself with ``loop`` alone.
        lr: Learning rate, > 0.
        momentum: For sgd, in [0, 1).
        nesterov: For sgd with momentum.
        betas: For adam and adamw.
        weight_decay: >= 0; an L2 term for sgd and adam, decoupled for adamw.
        clip_norm: Greatest norm of a network's gradient, all its trained parameters together, > 0;
            None for no limit. Each network is scaled by its own norm.
        clip_value: Greatest magnitude of each number of a gradient, > 0; None for no limit.
        schedule: ``"constant"``, ``"cosine"`` or ``"linear"`` (both to 0 at the end), or
            ``"step"`` (times ``gamma`` at each of ``milestones``).
        milestones: For the step schedule, as fractions of all steps.
        gamma: For the step schedule, in (0, 1].
        warmup_steps: Steps over which the learning rate first rises linearly.
        batch_size: Examples in a minibatch.
        steps: Optimiser steps; give either these or ``epochs`` (neither: 300 steps).
        epochs: Passes over the training data, also fractions of one.
        loss: ``"cross_entropy"``, ``"binary_cross_entropy"`` (on logits), ``"mse"``, or any
            function or module of (output, target) without parameters to train: it returns the loss
            of a minibatch, or one for each of its examples. Of a split it is called with all rows.
        training_step: What networks descend in place of the loss: a function of (model, inputs,
            targets) that calls the model, or parts of it, as it likes, and returns a loss; or, for
            parts that descend different ones, as in adversarial training, a dictionary from names
            of modules of the model to losses. ``loss`` still measures them, and is what
            sensitivities are of. Engines ``vmap`` and ``loop`` take it.
        val_points: Points of the validation curve, when an objective asks for one.

    Raises:
        InvalidValueError: Any field is out of range; all bad fields are listed together.
    """

    optimizer: str | Callable[..., Any] = "adam"
    lr: float = 1.2e-3
    momentum: float = 0.0
    nesterov: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    schedule: str = "constant"
    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = 0.1
    warmup_steps: int = 0
    batch_size: int = 60
    steps: int | None = None
    epochs: float | None = None
    loss: str | Callable[..., Any] = "cross_entropy"
    training_step: Callable[..., Any] | None = None
    val_points: int = 10

    def __post_init__(self) -> None:
        _checks.together(
            "Recipe",
            (
                self._check_optimizer,
                lambda: _checks.real("recipe.lr", self.lr, low=0, open_low=True),
                lambda: _checks.real(
                    "recipe.momentum", self.momentum, low=0, high=1, open_high=True
                ),
                self._check_nesterov,
                self._check_pairs,
                lambda: _checks.real("recipe.weight_decay", self.weight_decay, low=0),
                self._check_limits,
                lambda: _checks.choice("recipe.schedule", self.schedule, SCHEDULES),
                lambda: _checks.real("recipe.gamma", self.gamma, low=0, high=1, open_low=True),
                lambda: _checks.whole("recipe.warmup_steps", self.warmup_steps, low=0),
                lambda: _checks.whole("recipe.batch_size", self.batch_size),
                self._check_length,
                lambda: (
                    None
                    if callable(self.loss)
                    else _checks.choice(
                        "recipe.loss", self.loss, LOSSES, "Or give a function of (output, target)."
                    )
                ),
                self._check_step,
                lambda: _checks.whole("recipe.val_points", self.val_points),
            ),
        )
        self._make_plain()
        if self.optimizer not in OPTIMIZERS:
            from nets_deap.training.torch_optimizers import check_given

            check_given("recipe.optimizer", self.optimizer, self.set_beyond_lr())

    def total_steps(self, n_examples: int) -> int:
        """Return the optimiser steps for a training set of N examples."""
        if self.epochs is not None:
            return max(1, math.ceil(self.epochs * n_examples / self.batch_size))
        return DEFAULT_STEPS if self.steps is None else self.steps

    def with_steps(self, steps: int) -> Recipe:
        """Return the same recipe with another number of steps."""
        return replace(self, steps=_checks.whole("steps", steps), epochs=None)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as plain data; functions by what they are called.

        Without options that are off, which recipes did not always have: they are what they were.
        """
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in NAMED:
            plain[name] = None if plain[name] is None else name_of(plain[name])
        return {n: value for n, value in plain.items() if n not in OPTIONS or value is not None}

    def set_beyond_lr(self) -> dict[str, Any]:
        """Return the optimiser's settings that are not at their defaults, but for ``lr``."""
        standard = {field.name: field.default for field in fields(self)}
        names = ("momentum", "nesterov", "betas", "weight_decay")
        return {n: getattr(self, n) for n in names if getattr(self, n) != standard[n]}

    @property
    def descends_named(self) -> bool:
        """Whether networks descend a loss with a name, which every minibatch has."""
        return isinstance(self.loss, str) and self.training_step is None

    def on(self, device: Any) -> Recipe:
        """Return the recipe with a loss or step that is a module copied to a device."""
        held = {name: getattr(self, name) for name in ("loss", "training_step")}
        moved = {
            name: copy.deepcopy(one).to(device) for name, one in held.items() if hasattr(one, "to")
        }
        return replace(self, **moved) if moved else self

    def lr_at(self, step: int, total: int) -> float:
        """Return the learning rate of a step in [0, total)."""
        warm = min(1.0, (step + 1) / (self.warmup_steps + 1))
        done = step / total
        if self.schedule == "cosine":
            factor = 0.5 * (1 + math.cos(math.pi * done))
        elif self.schedule == "linear":
            factor = 1 - done
        elif self.schedule == "step":
            factor = self.gamma ** sum(done >= milestone for milestone in self.milestones)
        else:
            factor = 1.0
        return self.lr * warm * factor

    def _make_plain(self) -> None:
        """Turn NumPy numbers and lists into plain ones: equal recipes serialise equally."""
        for name in (
            "lr",
            "momentum",
            "weight_decay",
            "clip_norm",
            "clip_value",
            "gamma",
            "epochs",
        ):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, float(getattr(self, name)))
        for name in ("warmup_steps", "batch_size", "steps", "val_points"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, int(getattr(self, name)))
        for name in ("betas", "milestones"):
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        for name in ("loss", "training_step"):  # which torch.func can batch
            object.__setattr__(self, name, uncompiled(getattr(self, name)))

    def _check_optimizer(self) -> None:
        """It is a known one, or one of torch that takes its settings; see ``torch_optimizers``."""
        if isinstance(self.optimizer, str) and self.optimizer in OPTIMIZERS:
            return
        # torch takes seconds to import, and the usual recipe needs none of it.
        from nets_deap.training.torch_optimizers import known_as

        found = known_as("recipe.optimizer", self.optimizer, OPTIMIZERS)
        object.__setattr__(self, "optimizer", found)

    def _check_step(self) -> None:
        """A step of one's own can be called as it will be."""
        step: Any = self.training_step  # on the command line, or out of a file, text
        if step is None:
            return
        if not callable(step):
            expected = "a function of (model, inputs, targets)"
            raise _checks.bad_type("recipe.training_step", "be a function", expected, step)
        _checks.takes("recipe.training_step", step, ("model", "inputs", "targets"))

    def _check_limits(self) -> None:
        """At most one limit of gradients, above zero."""
        for name in ("clip_norm", "clip_value"):
            limit = getattr(self, name)
            _checks.unless_none(_checks.real, f"recipe.{name}", limit, low=0, open_low=True)
        if self.clip_norm is not None and self.clip_value is not None:
            got = f"clip_norm {self.clip_norm} and clip_value {self.clip_value}"
            raise _checks.bad_value("recipe.clip_norm", "stand alone", "one of the two", got)

    def _check_nesterov(self) -> None:
        """Nesterov needs momentum."""
        if not isinstance(self.nesterov, bool):
            raise _checks.bad_type("recipe.nesterov", "be a switch", "True or False", self.nesterov)
        if self.nesterov and (self.optimizer in ("adam", "adamw") or not self.momentum):
            got = f"optimizer {self.optimizer!r}, momentum {self.momentum}"
            raise _checks.bad_value("recipe.nesterov", "have momentum", "sgd, momentum > 0", got)

    def _check_pairs(self) -> None:
        """Both betas and all milestones are fractions."""
        if not isinstance(self.betas, (tuple, list)) or len(self.betas) != 2:
            raise _checks.bad_type("recipe.betas", "be a pair", "two floats in [0, 1)", self.betas)
        if not isinstance(self.milestones, (tuple, list)):
            raise _checks.bad_type("recipe.milestones", "be a tuple", "fractions", self.milestones)
        for beta in self.betas:
            _checks.real("recipe.betas", beta, low=0, high=1, open_high=True)
        for milestone in self.milestones:
            _checks.real("recipe.milestones", milestone, low=0, high=1)

    def _check_length(self) -> None:
        """Steps or epochs, not both."""
        if self.steps is not None and self.epochs is not None:
            got: Any = f"steps {self.steps} and epochs {self.epochs}"
            hint = "Set the other one to None (on the command line: none)."
            raise _checks.bad_value("recipe.steps", "stand alone", "steps or epochs", got, hint)
        if self.steps is not None:
            _checks.whole("recipe.steps", self.steps)
        if self.epochs is not None:
            _checks.real("recipe.epochs", self.epochs, low=0, open_low=True)


def uncompiled(function: Any) -> Any:
    """Return what ``torch.compile`` was given, a function or a module; all else as it is."""
    theirs, inner = "torch._dynamo.eval_frame", None
    # Of torch's own wrappers alone: others may have been given their attributes.
    if getattr(function, "__globals__", {}).get("__name__") == theirs:
        inner = vars(function).get("_torchdynamo_orig_callable")
    elif type(function).__module__ == theirs:
        inner = getattr(function, "_orig_mod", None)
    return function if inner is None else uncompiled(inner)


def name_of(function: Any, depth: int = 5) -> str:
    """Return what a loss or the like is called: everything that it is known to depend on.

    A function by its name and what it holds from outside; a method with its object; a partial one
    with its arguments; a module or another object with its attributes. Functions of one name whose
    code differs are called the same.

    Args:
        function: The loss; a string is its own name. Compiled ones are called as they were.
        depth: How deep objects that others hold are looked into; then their type counts.
    """
    function = uncompiled(function)
    if isinstance(function, str):
        return function
    if function is None or isinstance(function, (int, float)):
        return repr(function)
    kind = type(function)
    name = f"{kind.__module__}.{kind.__qualname__}"
    if depth == 0:
        return name

    def inner(*values: Any) -> str:
        return ", ".join(name_of(value, depth - 1) for value in values)

    if isinstance(function, (tuple, list)):
        return f"[{inner(*function)}]"
    if isinstance(function, Mapping):
        return (
            f"{{{', '.join(f'{inner(key)}: {inner(value)}' for key, value in function.items())}}}"
        )
    if hasattr(function, "tolist"):  # a tensor or an array
        return hashlib.sha256(str(function.tolist()).encode()).hexdigest()[:16]
    if isinstance(function, functools.partial):
        return f"partial({inner(function.func, function.args, function.keywords)})"
    if hasattr(function, "__func__"):
        return f"{inner(function.__self__)}.{function.__name__}"
    if hasattr(function, "__qualname__"):
        cells = getattr(function, "__closure__", None) or ()
        held = [cell.cell_contents for cell in cells]
        if "<" in function.__qualname__:  # of one made on the spot defaults are settings, too
            held += getattr(function, "__defaults__", None) or ()
        name = f"{function.__module__}.{function.__qualname__}"
        return f"{name}[{inner(*held)}]" if held else name
    passing = (
        "training", "_is_full_backward_hook", "_non_persistent_buffers_set", "_is_torch_compile",
    )  # fmt: skip
    state = {
        key: value
        for key, value in getattr(function, "__dict__", {}).items()
        if key not in passing and not (value is None or (isinstance(value, Mapping) and not value))
    }
    return f"{name}({inner(state) if state else ''})"


XOR_RECIPE = Recipe(lr=0.05, batch_size=4, steps=200, loss="binary_cross_entropy")
LENET_RECIPE = Recipe(lr=1.2e-3, batch_size=60, steps=300)

# What Frankle & Carbin 2019 (arXiv 1803.03635, figure 2) train their convolutional networks with.
CONV_RECIPES = {
    2: Recipe(lr=2e-4, batch_size=60, steps=300),
    4: Recipe(lr=3e-4, batch_size=60, steps=300),
    6: Recipe(lr=3e-4, batch_size=60, steps=300),
}
# He et al. 2016, section 4.2: a tenth of the learning rate after a half and three quarters.
RESNET_RECIPE = Recipe(
    optimizer="sgd",
    lr=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    schedule="step",
    milestones=(0.5, 0.75),
    batch_size=128,
    steps=300,
)
