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


def how_called(model: nn.Module, inputs: Any) -> str:
    """Return in words how a model is called with its inputs, for messages."""
    forward, positional, keywords = _signature(model), *arguments(model, inputs)
    shown = f"forward{forward or '(...)'}"
    takes_one = _takes(model, (inputs,), {})
    if not isinstance(inputs, (Mapping, tuple, list)):
        hint = "Give several tensors as a tuple or a dictionary: ((ids, mask), targets)."
        return "" if takes_one else f"One tensor is not what its {shown} takes. {hint}"
    if keywords:
        return f"It was called with the keywords {', '.join(keywords)} of its {shown}."
    if len(positional) != 1 or positional[0] is not inputs:
        return f"It was called with {len(positional)} inputs, as its {shown} takes them."
    kind, other = "dictionary", "these names"
    if not isinstance(inputs, Mapping):
        kind, other = "tuple", f"{len(inputs)} inputs"
    if takes_one:
        return f"Its {shown} does not take {other}: it got the {kind} whole, as one argument."
    return (
        f"Its {shown} takes neither {other} nor one argument: a tuple is spread over the "
        "positional arguments and a dictionary over the keywords, or either is passed whole."
    )


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
