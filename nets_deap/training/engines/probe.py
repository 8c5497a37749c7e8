"""What a module computes and draws in a training step, found by trying one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from nets_deap import _checks
from nets_deap.inputs.call import call
from nets_deap.models.private import copied
from nets_deap.training.batches import rows_of
from nets_deap.training.device import python_states, seeded
from nets_deap.training.engines.dropout import keyed
from nets_deap.training.engines.memory import is_shortage
from nets_deap.training.losses import loss_of
from nets_deap.training.precision import plain_attention
from nets_deap.training.problem import Problem, once


@dataclass(frozen=True)
class Probe:
    """What was found.

    Attributes:
        flops: Operations of a forward pass of a minibatch.
        drops: Whether dropout is at work, so that each network needs keys; see ``dropout``.
        draws: What draws random numbers of other kinds, which only a network alone can: a layer,
            or what runs after it; empty for nothing.
    """

    flops: float
    drops: bool
    draws: str


class _Draws(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes which layer was entered last when this thread first drew random numbers."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen, self._last = "", f"the module itself ({type(model).__name__})"
        for name, module in model.named_modules():
            if name and not list(module.children()):
                module.register_forward_pre_hook(
                    self._entered(f"{name!r} ({type(module).__name__})")
                )

    def _entered(self, layer: str) -> Any:
        """Return a hook that notes that a layer is entered."""

        def hook(module: nn.Module, args: Any) -> None:
            self._last = layer

        return hook

    def note(self) -> None:
        """Note that something was drawn."""
        self.seen = self.seen or self._last

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.note()
        return func(*args, **(kwargs or {}))


@once
def probe(problem: Problem) -> Probe:
    """Take a step on a minibatch, and measure it, as training does, on a copy; and look.

    Raises:
        InvalidValueError: The module or the loss cannot.
    """
    model, loss = copied(problem.model), problem.fresh_loss()
    inputs, targets = (rows_of(part, slice(0, problem.recipe.batch_size)) for part in problem.train)
    key = torch.zeros(2, dtype=torch.int32, device=problem.device)
    draws = _Draws(model)
    with seeded(0, problem.device), plain_attention(), draws:
        before = python_states()
        try:
            with keyed(key) as drawn:
                problem.begin(model)
                with FlopCounterMode(display=False) as counter:
                    output = call(model, inputs)
                found = loss_of(loss, output, targets)
                drops = drawn() > 0
            if found.requires_grad:
                found.backward()  # type: ignore[no-untyped-call]
            with keyed(key), torch.no_grad():
                loss_of(loss, call(model.eval(), inputs), targets)
        except (RuntimeError, ValueError) as error:
            if is_shortage(error):
                raise
            raise _checks.bad_value(
                "model",
                "take a training step",
                f"what its forward and the loss take, {problem.recipe.batch_size} examples at once",
                type(problem.model).__name__,
                f"It said: {error}",
            ) from error
        if before != python_states():
            draws.note()
    return Probe(float(counter.get_total_flops()), drops, draws.seen)
