"""What a module computes and draws in a training step, found by trying one."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from nets_deap import _checks
from nets_deap.errors import NetsError
from nets_deap.inputs.call import call
from nets_deap.inputs.nested import length_of
from nets_deap.inputs.parts import tensors_of
from nets_deap.models.private import copied
from nets_deap.training.batches import rows_of, spread_rows
from nets_deap.training.device import python_states, seeded
from nets_deap.training.engines.dropout import keyed
from nets_deap.training.losses import loss_of
from nets_deap.training.precision import plain_attention
from nets_deap.training.problem import EVAL_ROWS, Problem, once
from nets_deap.training.recipe import name_of
from nets_deap.training.score import OUTPUT_BYTES, bytes_of, joined
from nets_deap.training.shortage import is_shortage
from nets_deap.training.step import ARGUMENT, WHOLE, backward

logger = logging.getLogger("nets_deap")


@dataclass(frozen=True)
class Probe:
    """What was found.

    Attributes:
        flops: Operations of a forward pass of a minibatch.
        output_bytes: Bytes of the outputs of an example.
        drops: Whether dropout is at work, so that each network needs keys; see ``dropout``.
        draws: What draws random numbers of other kinds, which only a network alone can: a layer,
            or what runs after it; empty for nothing.
    """

    flops: float
    output_bytes: float
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
        InvalidValueError: The module or the loss cannot, or the loss has no gradient or parameters
            of its own.
    """
    model, loss = copied(problem.model), problem.fresh_loss()
    own = problem.own_step(model)
    rows = spread_rows(length_of(problem.train[0]), problem.recipe.batch_size).to(problem.device)
    inputs, targets = (rows_of(part, rows) for part in problem.train)
    key = torch.zeros(2, dtype=torch.int32, device=problem.device)
    draws = _Draws(model)
    with seeded(0, problem.device), plain_attention(), draws:
        before = python_states()
        try:
            with keyed(key) as drawn:
                problem.begin(model)
                with FlopCounterMode(display=False) as counter:
                    output = call(model, inputs) if own is None else None
                    losses = {} if own is None else own(inputs, targets)
                if own is None:
                    losses = {WHOLE: loss_of(loss, output, targets)}
                drops = drawn() > 0
            for found in losses.values():
                _check_gradient(problem, model, output, found)
            trained = {n: p for n, p in model.named_parameters() if n not in problem.frozen}
            backward(losses, trained)
            with keyed(key), torch.no_grad():
                output = call(model.eval(), inputs)
                output_bytes = bytes_of(output) / len(rows)
                loss_of(loss, output, targets)
        except NetsError:
            raise
        except Exception as error:
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
    if not isinstance(problem.recipe.loss, str):
        _warn_of_pieces(problem, output, output_bytes)
    return Probe(float(counter.get_total_flops()), output_bytes, drops, draws.seen)


def _check_gradient(problem: Problem, model: nn.Module, output: Any, loss: Tensor) -> None:
    """Raise where a loss has no gradient, or gradients by other things than its output."""
    own = problem.recipe.training_step
    name = name_of(problem.recipe.loss if own is None else own)
    whose = "loss" if own is None else ARGUMENT
    if not loss.requires_grad:
        whose = "model" if problem.recipe.descends_named else whose
        raise _checks.bad_value(
            whose,
            "have a gradient",
            "operations on the output that torch can differentiate",
            f"the loss {name}, constant in every parameter",
            "Counts, argmax, detach() and item() have none: optimise such a number as an "
            "objective, and train by another loss.",
        )
    parts = tensors_of(output)
    known = {id(p) for p in (*model.parameters(), *parts)}
    # All that the loss was computed from, the network's own part left out.
    seen: set[Any] = {None, *(part.grad_fn for part in parts if part is not loss)}
    todo: list[Any] = [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node in seen:
            continue
        seen.add(node)
        todo += [before for before, _ in node.next_functions]
        # Of this kind are the ends: tensors that require a gradient themselves.
        if type(node).__name__ == "AccumulateGrad" and id(node.variable) not in known:
            raise _checks.bad_value(
                whose,
                "have nothing to train",
                "a function of (output, target)" if own is None else "a function of the model",
                f"{name}, of a tensor of shape {tuple(node.variable.shape)} that requires a "
                "gradient",
                "Training changes copies of the model's parameters: let the model hold what is "
                "trained, and its forward return what the loss needs of it.",
            )


def _warn_of_pieces(problem: Problem, output: Any, output_bytes: float) -> None:
    """Warn where a loss cannot be called once with a network's outputs for all of a split."""
    splits = [split for split in (problem.val, problem.test) if split is not None]
    n = min(problem.recipe.batch_size, problem.n_examples)
    try:
        joined([output, output], [n, n])
    except ValueError as error:
        if any(length_of(split[0]) > EVAL_ROWS for split in splits):
            logger.warning(
                "Outputs of the kind %s cannot be put together (%s): the loss of a split is the "
                "mean over pieces of at most %d rows, which is that of all rows only for means "
                "over examples.",
                type(output).__name__,
                error,
                EVAL_ROWS,
            )
            return
    for name in ("val", "test"):
        split = getattr(problem, name)
        size = 0.0 if split is None else output_bytes * length_of(split[0])
        if size > OUTPUT_BYTES:
            logger.warning(
                "The outputs of a network for all of %s take %.1f GiB: the loss there is the mean "
                "over pieces of %.1f GiB, which is that of all rows only for means over examples.",
                name,
                size / 2**30,
                OUTPUT_BYTES / 2**30,
            )
