"""How a model is called with its inputs: the one rule, for one tensor and for several.

One tensor is the one argument. A tuple is spread over the positional arguments where ``forward``
takes as many, a dictionary over the keywords where ``forward`` takes these names. What ``forward``
does not take that way is passed whole, as the one argument. A tuple of one holds the one argument:
``((ids, mask),)`` passes a tuple whole to a model that would take two arguments as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.func import functional_call

from nets_deap import _checks
from nets_deap.inputs.nested import shapes_of


def arguments(model: nn.Module, inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the positional arguments and the keywords that a model takes its inputs as."""
    if isinstance(inputs, Mapping) and _takes(model, (), inputs):
        return (), dict(inputs)
    if isinstance(inputs, (tuple, list)) and _takes(model, tuple(inputs), {}):
        return tuple(inputs), {}
    return (inputs,), {}


def call(model: nn.Module, inputs: Any) -> Any:
    """Return what a model gives for its inputs: one tensor (B, ...), or tuples, dictionaries."""
    positional, keywords = arguments(model, inputs)
    return model(*positional, **keywords)


def call_with(model: nn.Module, state: dict[str, Any], inputs: Any) -> Any:
    """Return what a model gives for its inputs with other parameters and buffers, by name."""
    return functional_call(model, state, *arguments(model, inputs))


def check_call(argument: str, model: nn.Module, inputs: Any) -> str:
    """Return in words how a model takes its inputs; raise if it can in neither way.

    Args:
        argument: What the inputs are called.
        model: The model.
        inputs: Some of them.
    """
    positional, keywords = arguments(model, inputs)
    forward = f"forward{_signature(model) or '(...)'}"
    if not isinstance(inputs, (Mapping, tuple, list)):
        return ""
    if keywords or len(positional) != 1 or positional[0] is not inputs:
        as_what = f"the keywords {', '.join(keywords)}" if keywords else f"{len(positional)} inputs"
        return f"It was called with {as_what}, as its {forward} takes them."
    kind, other = ("dictionary", "these names")
    if not isinstance(inputs, Mapping):
        kind, other = "tuple", f"{len(inputs)} arguments"
    if not _takes(model, (inputs,), {}):
        raise _checks.bad_value(
            argument,
            "be what the model takes",
            f"arguments of {forward}",
            f"a {kind} of {shapes_of(inputs)}",
            "A tuple is spread over the positional arguments and a dictionary over the keywords, "
            "or either is passed whole to a forward that takes one argument.",
        )
    return f"Its {forward} does not take {other}: it was called with the {kind} as one argument."


def _takes(model: nn.Module, positional: tuple[Any, ...], keywords: Mapping[Any, Any]) -> bool:
    """Return whether a model's forward can be called so, by its signature."""
    if not all(isinstance(name, str) for name in keywords):
        return False
    signature = _signature(model)
    if signature is None:
        return True
    try:
        signature.bind(*positional, **keywords)
    except TypeError:
        return False
    return True


def _signature(model: nn.Module) -> inspect.Signature | None:
    """Return the signature of a model's forward; None where Python knows none."""
    try:
        return inspect.signature(model.forward)
    except (TypeError, ValueError):
        return None
