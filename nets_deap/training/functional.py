"""``Functional``: any module as a function of stacked parameters, through ``torch.func``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from nets_deap import _checks
from nets_deap.training.batches import pieces, rows_of
from nets_deap.training.device import seeded
from nets_deap.training.losses import loss_of, n_correct
from nets_deap.training.noise import at_step, keyed
from nets_deap.training.probe import probe
from nets_deap.training.problem import Problem, Split, State, once


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Compute attention from products, which can be batched; fused kernels cannot."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


@once
def stuck_at(problem: Problem) -> str:
    """Return the layer at which ``torch.func`` fails to batch a problem's module; empty if at none.

    Tried once, with two networks and two examples; it is the layer that was entered last.
    """
    last = [f"the module itself ({type(problem.model).__name__})"]
    hooks = [
        module.register_forward_pre_hook(
            lambda module, args, name=name: last.append(f"{name!r} ({type(module).__name__})")
        )
        for name, module in problem.model.named_modules()
        if name and not list(module.children())
    ]
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
    mode = problem.model.training
    try:
        with seeded(0, problem.device), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that an operation has no batching rule is the answer
            problem.model.train()
            module = Functional(problem, {})
            module.gradients()(trained, fixed, buffers, keys, inputs, targets)
            module.measure(trained, fixed, buffers, keys, (inputs, targets))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError):
        return last[-1]
    finally:
        problem.model.train(mode)
        for hook in hooks:
            hook.remove()
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

    def gradients(self) -> Callable[..., Any]:
        """Return a function of (trained, fixed, buffers, keys, x, y).

        It gives the gradients, and the losses (P,) with the buffers after the step; ``keys`` (P, 2)
        are those of the step, see ``noise``.
        """
        batched = vmap(grad_and_value(self._loss, has_aux=True), in_dims=(0, 0, 0, 0, None, None))

        def gradients_of(*batch: Any) -> Any:
            with _plain_attention():
                return batched(*batch)

        return gradients_of

    def measure(
        self, trained: State, fixed: State, buffers: State, keys: Tensor, split: Split
    ) -> tuple[Tensor, Tensor]:
        """Return loss (P,) and accuracy (P,) on a whole split, in evaluation mode."""
        self._problem.model.eval()
        outputs_of = vmap(self._score, in_dims=(0, 0, 0, 0, None, None))
        p = len(next(iter(trained.values())))
        loss = torch.zeros(p, dtype=torch.float64, device=self._problem.device)
        correct = torch.zeros_like(loss)
        with torch.no_grad(), _plain_attention():
            for i, (n, x, y) in enumerate(pieces(split)):
                with self.worded():
                    here = at_step(keys, -1 - i)
                    losses, hits = outputs_of(trained, fixed, buffers, here, x, y)
                loss += losses.double() * n
                correct += hits
        return loss / len(split[0]), correct / len(split[0])

    @contextmanager
    def worded(self) -> Iterator[None]:
        """Word what torch says of a module or minibatch that it cannot train as a batch."""
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError) as error:
            raise _checks.bad_value(
                "model",
                "train as a batch",
                "a module that works under torch.func",
                type(self._problem.model).__name__,
                f"Train it with engine='one_by_one' instead, which is slower. torch says: {error}",
            ) from error

    def _loss(
        self, trained: State, fixed: State, buffers: State, key: Tensor, x: Tensor, y: Any
    ) -> tuple[Tensor, State]:
        """Return one network's loss on one minibatch and its updated buffers."""
        fresh = {name: buffer.clone() for name, buffer in buffers.items()}
        state = self._full(trained, fixed, fresh)
        output = self._output(state, key, x)
        # Buffers may have been written in place or set anew; ``state`` holds both.
        loss = loss_of(self._problem.recipe.loss, output, y)
        return loss, {name: state[name] for name in fresh}

    def _score(
        self, trained: State, fixed: State, buffers: State, key: Tensor, x: Tensor, y: Any
    ) -> tuple[Tensor, Tensor]:
        """Return one network's loss and number of correct outputs on some examples."""
        loss, state = self._problem.recipe.loss, self._full(trained, fixed, buffers)
        output = self._output(state, key, x)
        return loss_of(loss, output, y), n_correct(loss, output, y)

    def _output(self, state: State, key: Tensor, x: Tensor) -> Any:
        """Return what one network puts out, with dropout of its own."""
        with keyed(key) if self._drops else nullcontext():
            return functional_call(self._problem.model, state, (x,))

    def _full(self, trained: State, fixed: State, buffers: State) -> State:
        """Return all parameters and buffers of one network by name."""
        return {**self._shared, **fixed, **trained, **buffers}
