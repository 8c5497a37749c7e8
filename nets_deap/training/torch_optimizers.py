"""Which optimisers of ``torch.optim`` a recipe may name, and what one of them is given of it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from nets_deap import _checks

Factory = Callable[..., torch.optim.Optimizer]

# They step each weight by its own gradient and state alone, so that the networks of a batch may
# share one: what goes by the norm or the shape of a tensor would mix them.
ELEMENTWISE = frozenset(
    getattr(torch.optim, name)
    for name in (
        "ASGD", "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSprop",
        "Rprop", "SGD",
    )
)  # fmt: skip
# What a training step cannot give them: a closure, sparse gradients.
_OTHERS = {torch.optim.LBFGS: "needs a closure", torch.optim.SparseAdam: "needs sparse gradients"}

CLASSES: dict[str, type[torch.optim.Optimizer]] = {
    name.lower(): kind
    for name, kind in sorted(vars(torch.optim).items())
    if isinstance(kind, type)
    and issubclass(kind, torch.optim.Optimizer)
    and kind is not torch.optim.Optimizer
    and kind not in _OTHERS
}


def known_as(argument: str, optimizer: Any, usual: Sequence[str]) -> str | Factory:
    """Return what a recipe keeps: the name of a class of ``torch.optim``, or another factory.

    Args:
        argument: What is checked, for messages.
        optimizer: A name, whose case does not matter, or a class or function.
        usual: Names that are guessed first where one is unknown.

    Raises:
        InvalidValueError: An unknown name, or a class that no training step can use.
        InvalidTypeError: Neither a name nor something to call.
    """
    if isinstance(optimizer, str):
        lower = optimizer.lower()
        if lower in CLASSES:
            return lower
        meant = _checks.meant_by(lower, usual) or _checks.meant_by(lower, CLASSES)
        raise _checks.unknown(argument, optimizer, CLASSES, meant)
    if not callable(optimizer):
        expected = "a name or a function of (parameters, lr)"
        raise _checks.bad_type(argument, "be an optimiser", expected, optimizer)
    if optimizer in _OTHERS:
        expected = "an optimiser that steps by the gradients of a minibatch"
        got = f"{optimizer.__name__}, which {_OTHERS[optimizer]}"
        raise _checks.bad_value(argument, "suit training", expected, got)
    names = {kind: name for name, kind in CLASSES.items()}
    return names.get(optimizer, optimizer) if isinstance(optimizer, type) else optimizer


def factory_of(optimizer: str | Factory) -> Factory:
    """Return what makes an optimiser, by its name or as it is."""
    return CLASSES[optimizer] if isinstance(optimizer, str) else optimizer


def check_given(argument: str, optimizer: str | Factory, given: Mapping[str, Any]) -> None:
    """Raise unless an optimiser takes a learning rate and the settings that it is given.

    Args:
        argument: What is checked, for messages.
        optimizer: A name, or what is called with the parameters.
        given: The recipe's settings by name, without the learning rate.
    """
    factory = factory_of(optimizer)
    fixed = factory.keywords if isinstance(factory, functools.partial) else {}
    twice = sorted({"lr", *given} & set(fixed))
    if twice:
        expected = f"a factory that leaves {', '.join(twice)} open"
        hint = f"Set {', '.join(f'recipe.{name}' for name in twice)} instead."
        raise _checks.bad_value(argument, "leave it to the recipe", expected, factory, hint)
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):  # of a builtin, or the like: it is tried on the parameters
        return
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return
    missing = [name for name in ("lr", *given) if name not in parameters]
    if missing:
        shown = optimizer if isinstance(optimizer, str) else getattr(factory, "__name__", factory)
        hint = "Leave those at their defaults." if "lr" not in missing else ""
        raise _checks.bad_value(
            argument, "take its settings", f"arguments {', '.join(missing)}", shown, hint
        )
