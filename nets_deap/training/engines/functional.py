"""``Functional``: any module as a function of stacked parameters, through ``torch.func``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap

from nets_deap import _checks
from nets_deap.inputs.call import call_with
from nets_deap.inputs.nested import length_of
from nets_deap.models.modes import quiet
from nets_deap.models.private import copied
from nets_deap.training.batches import eval_batches, rows_of
from nets_deap.training.engines.dropout import at_step, keyed
from nets_deap.training.engines.memory import is_shortage
from nets_deap.training.engines.probe import probe
from nets_deap.training.losses import loss_of, n_correct
from nets_deap.training.precision import plain_attention
from nets_deap.training.problem import Problem, Split, State, once

# torch warns that a loop over networks stands in for a batch, which is nothing to act on.
NO_RULE = "There is a performance drop"


@once
def stuck_at(problem: Problem) -> str:
    """Return the layer at which ``torch.func`` fails to batch a problem's module; empty if at none.

    Tried once, with two networks and two examples; it is the layer that was entered last.
    """
    last = [f"the module itself ({type(problem.model).__name__})"]
    functional = Functional(problem, {})
    for name, module in functional.model.named_modules():
        if name and not list(module.children()):
            module.register_forward_pre_hook(
                lambda module, args, name=name: last.append(f"{name!r} ({type(module).__name__})")
            )
    trained, fixed = (
        {
            name: tensor.unsqueeze(0).repeat(2, *[1] * tensor.ndim)
            for name, tensor in problem.initial.items()
            if (name in problem.frozen) is frozen
        }
        for frozen in (False, True)
    )
    buffers = {
        name: tensor.unsqueeze(0).repeat(2, *[1] * tensor.ndim)
        for name, tensor in problem.buffers.items()
    }
    inputs, targets = (rows_of(part, slice(0, 2)) for part in problem.train)
    keys = torch.zeros((2, 2), dtype=torch.int32, device=problem.device)
    try:
        with quiet.held(NO_RULE):  # that is the answer
            functional.begin()
            functional.gradients()(trained, fixed, buffers, keys, inputs, targets)
            functional.measure(trained, fixed, buffers, keys, (inputs, targets))
    except (RuntimeError, ValueError) as error:
        if is_shortage(error):
            raise
        return last[-1]
    return ""


class Functional:
    """The module and loss of a problem as functions of stacked trained, fixed and other state.

    Args:
        problem: Module and loss.
        shared: Parameters that all networks have in common.
    """

    def __init__(self, problem: Problem, shared: State) -> None:
        self._problem, self._shared = problem, shared
        self._drops = probe(problem).drops
        # Copies: modules may keep what they see, and would keep batched tensors.
        self.model, self._loss_of = copied(problem.model), problem.fresh_loss()

    def begin(self) -> None:
        """Put the module into training mode."""
        self._problem.begin(self.model)

    def keys_at(self, keys: Tensor, step: int | Tensor) -> Tensor:
        """Return the networks' keys (P, 2) at a step; as they are where nothing drops out."""
        return at_step(keys, step) if self._drops else keys

    def gradients(self) -> Callable[..., Any]:
        """Return a function of (trained, fixed, buffers, keys, x, y).

        It gives the gradients, and the losses (P,) with the buffers after the step; ``keys`` (P, 2)
        are those of the step, see ``dropout``.
        """
        batched = vmap(grad_and_value(self._loss, has_aux=True), in_dims=(0, 0, 0, 0, None, None))

        def gradients_of(*batch: Any) -> Any:
            with plain_attention():
                return batched(*batch)

        return gradients_of

    def measure(
        self, trained: State, fixed: State, buffers: State, keys: Tensor, split: Split
    ) -> tuple[Tensor, Tensor]:
        """Return loss (P,) and accuracy (P,) on a whole split, in evaluation mode."""
        self.model.eval()
        outputs_of = vmap(self._score, in_dims=(0, 0, 0, 0, None, None))
        p = len(next(iter(trained.values())))
        loss = torch.zeros(p, dtype=torch.float64, device=self._problem.device)
        correct = torch.zeros_like(loss)
        with torch.no_grad(), plain_attention():
            for i, (n, x, y) in enumerate(eval_batches(split)):
                with self.explained():
                    here = self.keys_at(keys, -1 - i)
                    losses, hits = outputs_of(trained, fixed, buffers, here, x, y)
                loss += losses.double() * n
                correct += hits
        n = length_of(split[0])
        return loss / n, correct / n

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise what torch says of a module that it cannot train as a batch, with the way out."""
        try:
            with quiet.held(NO_RULE):
                yield
        except (RuntimeError, ValueError) as error:
            if is_shortage(error):
                raise
            raise _checks.bad_value(
                "model",
                "train as a batch",
                "a module that works under torch.func",
                type(self._problem.model).__name__,
                f"Train it with engine='loop' instead, which is slower. torch says: {error}",
            ) from error

    def _loss(
        self, trained: State, fixed: State, buffers: State, key: Tensor, x: Any, y: Any
    ) -> tuple[Tensor, State]:
        """Return one network's loss on one minibatch and its updated buffers."""
        fresh = {name: buffer.clone() for name, buffer in buffers.items()}
        state = self._full(trained, fixed, fresh)
        with keyed(key) if self._drops else nullcontext():
            output = call_with(self.model, state, x)
            # Buffers may have been written in place or set anew; ``state`` holds both.
            loss = loss_of(self._loss_of, output, y)
        return loss, {name: state[name] for name in fresh}

    def _score(
        self, trained: State, fixed: State, buffers: State, key: Tensor, x: Any, y: Any
    ) -> tuple[Tensor, Tensor]:
        """Return one network's loss and number of correct outputs on some examples."""
        state = self._full(trained, fixed, buffers)
        with keyed(key) if self._drops else nullcontext():
            output = call_with(self.model, state, x)
            return loss_of(self._loss_of, output, y), n_correct(self._loss_of, output, y)

    def _full(self, trained: State, fixed: State, buffers: State) -> State:
        """Return all parameters and buffers of one network by name."""
        return {**self._shared, **fixed, **trained, **buffers}
