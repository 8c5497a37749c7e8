"""What a network descends in a training step: its loss, or the losses of a step of one's own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nets_deap import _checks

ARGUMENT = "recipe.training_step"
WHOLE = ""  # the part of a network that is all of it


class OwnStep(nn.Module):
    """A model under a training step of one's own: inputs and targets to losses by part.

    Args:
        model: What is trained. Its parameters' names begin with ``PREFIX`` here.
        function: Called with (model, inputs, targets); see ``Recipe``.
    """

    PREFIX = "model."

    def __init__(self, model: nn.Module, function: Any) -> None:
        super().__init__()
        self.model = model
        self._function = (function,)  # which may be a module, and is no part of the network

    def forward(self, inputs: Any, targets: Any) -> dict[str, Tensor]:
        """Return the loss of each part that has one of its own, by name."""
        found = self._function[0](self.model, inputs, targets)
        losses = dict(found) if isinstance(found, Mapping) else {WHOLE: found}
        for name, loss in losses.items():
            if not isinstance(loss, Tensor):
                expected = "a tensor, or a dictionary of them by part of the model"
                raise _checks.bad_type(ARGUMENT, "return losses", expected, loss)
            losses[name] = loss.mean() if loss.ndim else loss
        return losses


def parts_of(losses: Collection[str], trained: Collection[str]) -> dict[str, list[str]]:
    """Return which parameters descend which loss, by part.

    A parameter belongs to the innermost part that holds it.

    Args:
        losses: Names of parts: of modules or parameters of the model, or ``WHOLE``.
        trained: Names of all parameters that are trained.

    Raises:
        InvalidValueError: A part holds no parameter that is trained, or a parameter is in no part.
    """
    found: dict[str, list[str]] = {part: [] for part in losses}
    for name in trained:
        inside = [part for part in losses if part == WHOLE or f"{name}.".startswith(f"{part}.")]
        if not inside:
            expected = f"parts that hold all parameters, also {name!r}"
            hint = "Freeze what is not to be trained: requires_grad_(False)."
            raise _checks.bad_value(ARGUMENT, "train everything", expected, [*losses], hint)
        found[max(inside, key=len)].append(name)
    for part, names in found.items():
        if not names:
            expected = "names of modules of the model that hold trained parameters"
            raise _checks.bad_value(ARGUMENT, "name parts of the model", expected, part)
    return found


def backward(losses: Mapping[str, Tensor], trained: Mapping[str, Tensor]) -> Tensor:
    """Fill in the gradient of each parameter by its part's loss; return the losses' sum."""
    if losses.keys() == {WHOLE}:
        losses[WHOLE].backward()  # type: ignore[no-untyped-call]
        return losses[WHOLE]
    parts = list(parts_of(losses, trained).items())
    for i, (part, names) in enumerate(parts):
        losses[part].backward(  # type: ignore[no-untyped-call]
            inputs=[trained[name] for name in names], retain_graph=i < len(parts) - 1
        )
    return torch.stack([*losses.values()]).sum()
