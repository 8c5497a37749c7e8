"""``Functional``: any module as a function of stacked parameters, through ``torch.func``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, vjp, vmap

from nets_deap import _checks
from nets_deap.errors import NetsError
from nets_deap.inputs.call import call_with
from nets_deap.inputs.nested import length_of
from nets_deap.inputs.parts import PLAIN, taken_apart
from nets_deap.models.modes import quiet
from nets_deap.models.private import copied
from nets_deap.training.batches import eval_batches, rows_of, spread_rows
from nets_deap.training.engines.dropout import at_step, keyed
from nets_deap.training.engines.probe import probe
from nets_deap.training.losses import loss_of, n_correct, n_labelled
from nets_deap.training.precision import plain_attention
from nets_deap.training.problem import EVAL_ROWS, Problem, Split, State, once
from nets_deap.training.recipe import name_of
from nets_deap.training.score import OUTPUT_BYTES, Score
from nets_deap.training.shortage import is_shortage
from nets_deap.training.step import OwnStep, parts_of

Stacked = tuple[State, State, State, Tensor]  # trained, fixed, buffers and keys, each (P, ...)

# torch warns that a loop over networks stands in for a batch, which is nothing to act on.
NO_RULE = "There is a performance drop"


@once
def stuck_at(problem: Problem) -> str:
    """Return in words where ``torch.func`` fails to batch a problem's networks; empty if nowhere.

    Tried once, with two networks and a minibatch; it is the layer that was entered last, or the
    loss.
    """
    last = [f"the module {type(problem.model).__name__}"]
    functional = Functional(problem, {})
    for name, module in functional.model.named_modules():
        if name and not list(module.children()):
            module.register_forward_pre_hook(
                lambda module, args, name=name: last.append(
                    f"the layer {name!r} ({type(module).__name__})"
                )
            )
    functional.watch_loss(last)
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
    rows = spread_rows(length_of(problem.train[0]), problem.recipe.batch_size).to(problem.device)
    inputs, targets = (rows_of(part, rows) for part in problem.train)
    keys = torch.zeros((2, 2), dtype=torch.int32, device=problem.device)
    try:
        with quiet.held(NO_RULE):  # that is the answer
            functional.begin()
            functional.gradients()(trained, fixed, buffers, keys, inputs, targets)
            functional.measure(trained, fixed, buffers, keys, (inputs, targets))
    except Exception as error:  # whatever it is: one network alone takes a step, as probed
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
        self._own = problem.own_step(self.model)

    def watch_loss(self, entered: list[str]) -> None:
        """Name the loss at the end of a list while it is called, and for good if it fails."""
        loss = self._loss_of
        if isinstance(loss, str):
            return

        def watched(output: Any, target: Any) -> Any:
            entered.append(f"the loss {name_of(self._problem.recipe.loss)}")
            found = loss(output, target)
            entered.pop()
            return found

        self._loss_of = watched

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
        one = grad_and_value(self._loss, has_aux=True) if self._own is None else self._descent
        batched = vmap(one, in_dims=(0, 0, 0, 0, None, None))

        def gradients_of(*batch: Any) -> Any:
            with plain_attention():
                return batched(*batch)

        return gradients_of

    def measure(
        self,
        trained: State,
        fixed: State,
        buffers: State,
        keys: Tensor,
        split: Split,
        rows: int = EVAL_ROWS,
    ) -> tuple[Tensor, Tensor]:
        """Return loss (P,) and accuracy (P,) on a whole split, in evaluation mode.

        Under a loss that is a function, outputs of at most ``OUTPUT_BYTES`` are held at once: of
        all networks, of some, or of one. See ``Score``. ``rows`` examples are taken at a time.
        """
        self.model.eval()
        networks: Stacked = (trained, fixed, buffers, keys)
        with torch.no_grad(), plain_attention():
            if isinstance(self._problem.recipe.loss, str):
                return self._by_pieces(networks, split, rows)
            most = probe(self._problem).output_bytes * length_of(split[0])
            size = max(1, int(OUTPUT_BYTES // max(most, 1)))
            found = []
            for first in range(0, len(keys), size):
                some = some_of(networks, slice(first, first + size))
                found.append(
                    self._together(some, split, rows) or self._by_pieces(some, split, rows)
                )
        loss, accuracy = (torch.cat(part) for part in zip(*found, strict=True))
        return loss, accuracy

    def _by_pieces(self, networks: Stacked, split: Split, rows: int) -> tuple[Tensor, Tensor]:
        """Return losses and accuracies, the losses as means over pieces by their rows."""
        scores_of = vmap(self._score, in_dims=(0, 0, 0, 0, None, None))
        loss = torch.zeros(len(networks[3]), dtype=torch.float64, device=self._problem.device)
        correct, labelled = torch.zeros_like(loss), torch.zeros_like(loss)
        for i, (n, x, y) in enumerate(eval_batches(split, rows)):
            with self.explained():
                losses, hits, of = scores_of(*self._at(networks, -1 - i), x, y)
            loss += losses.double() * n
            correct += hits
            labelled += of
        return loss / length_of(split[0]), correct / labelled

    def _together(self, networks: Stacked, split: Split, rows: int) -> tuple[Tensor, Tensor] | None:
        """Return losses, of all outputs together, and accuracies; None where nothing holds them."""
        p, problem = len(networks[3]), self._problem
        scores = [Score(self._loss_of, split[1], problem.ignored) for _ in range(p)]
        outputs_of, pieces = vmap(self._output, in_dims=(0, 0, 0, 0, None)), 0
        for n, x, y in eval_batches(split, rows):
            pieces += 1
            with self.explained():
                tensors = outputs_of(*self._at(networks, -pieces), x)
            form, rest = self._form
            if not tensors or not all(isinstance(leaf, (Tensor, *PLAIN)) for leaf in rest):
                return None
            for i, score in enumerate(scores):
                own = iter([tensor[i] for tensor in tensors])
                leaves = [next(own) if isinstance(leaf, Tensor) else leaf for leaf in rest]
                score.add(n, form.put_together(leaves), y)
            del tensors
        found, keys = [], self.keys_at(networks[3], -1 - pieces)
        for key, score in zip(keys, scores, strict=True):
            # A module may have kept tensors of all networks at once.
            with self.explained(), keyed(key) if self._drops else nullcontext():
                found.append(score.result())
        numbers = torch.tensor(found, dtype=torch.float64, device=problem.device)
        return numbers[:, 0], numbers[:, 1]

    def _at(self, networks: Stacked, step: int) -> Stacked:
        """Return networks with their keys at a step."""
        trained, fixed, buffers, keys = networks
        return trained, fixed, buffers, self.keys_at(keys, step)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise what torch says of a module that it cannot train as a batch, with the way out."""
        try:
            with quiet.held(NO_RULE):
                yield
        except NetsError:
            raise
        except Exception as error:
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

    def _descent(
        self, trained: State, fixed: State, buffers: State, key: Tensor, x: Any, y: Any
    ) -> tuple[State, tuple[Tensor, State]]:
        """Return the gradients by each part's own loss, and the losses' sum with the buffers."""
        own = self._own
        assert own is not None

        def losses_of(trained: State) -> tuple[State, State]:
            fresh = {name: buffer.clone() for name, buffer in buffers.items()}
            full = self._full(trained, fixed, fresh)
            state = {OwnStep.PREFIX + name: tensor for name, tensor in full.items()}
            with keyed(key) if self._drops else nullcontext():
                losses = functional_call(own, state, (x, y))
            return losses, {name: state[OwnStep.PREFIX + name] for name in fresh}

        losses, pull, after = vjp(losses_of, trained, has_aux=True)  # type: ignore[misc]
        gradients: State = {}
        for part, names in parts_of(losses, trained).items():
            ones = {name: torch.full_like(loss, name == part) for name, loss in losses.items()}
            (slopes,) = pull(ones)
            gradients |= {name: slopes[name] for name in names}
        return {name: gradients[name] for name in trained}, (sum(losses.values()), after)

    def _score(
        self, trained: State, fixed: State, buffers: State, key: Tensor, x: Any, y: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return one network's loss, and its correct and labelled outputs, on some examples."""
        state, ignored = self._full(trained, fixed, buffers), self._problem.ignored
        with keyed(key) if self._drops else nullcontext():
            output = call_with(self.model, state, x)
            right = n_correct(self._loss_of, output, y, ignored)
            labelled = torch.as_tensor(
                n_labelled(self._loss_of, output, y, ignored), device=right.device
            )
            return loss_of(self._loss_of, output, y), right, labelled

    def _output(
        self, trained: State, fixed: State, buffers: State, key: Tensor, x: Any
    ) -> list[Tensor]:
        """Return the tensors of one network's outputs; note what they are parts of."""
        state = self._full(trained, fixed, buffers)
        with keyed(key) if self._drops else nullcontext():
            leaves, form = taken_apart(call_with(self.model, state, x))
        # Tensors are noted as places alone: those in here belong to all networks at once.
        place = torch.empty(0, device=self._problem.device)
        self._form = form, [place if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        return [leaf for leaf in leaves if isinstance(leaf, Tensor)]

    def _full(self, trained: State, fixed: State, buffers: State) -> State:
        """Return all parameters and buffers of one network by name."""
        return {**self._shared, **fixed, **trained, **buffers}


def some_of(networks: Stacked, places: slice) -> Stacked:
    """Return some of the networks, as views."""
    trained, fixed, buffers, keys = networks
    parts = ({name: t[places] for name, t in part.items()} for part in (trained, fixed, buffers))
    return (*parts, keys[places])  # type: ignore[return-value]
