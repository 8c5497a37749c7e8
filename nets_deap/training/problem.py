"""``Problem``: everything that training reads, on its device, and the trained ``Outcome``.

One file: problem, plan and outcome are what every engine takes and gives.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nets_deap._table import Brief
from nets_deap.data.streamed import Streamed
from nets_deap.inputs.nested import length_of
from nets_deap.models.modes import neutral
from nets_deap.models.private import hooks_of
from nets_deap.models.shared import random_states_lock
from nets_deap.models.tensors import values_of
from nets_deap.tickets import bits
from nets_deap.tickets.layout import MaskLayout
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.cache import Cache
from nets_deap.training.precision import products
from nets_deap.training.recipe import Recipe
from nets_deap.training.step import OwnStep

# Examples that a split is measured by at a time.
EVAL_ROWS = 1000

# Inputs (N, ...) and targets, one tensor (N, ...) or several; see ``batches.rows_of``.
Split = tuple[Any, Any]
State = dict[str, Tensor]
More = ParamSpec("More")
Owner = TypeVar("Owner")
Found = TypeVar("Found")

# Where a network's training starts: values at the kept positions of its own mask; None for W0.
Start = TrainedState | None


@dataclass
class Attached:
    """What ``training.executor`` attaches to a problem; a copy has nothing.

    Attributes:
        executor: Who trains it elsewhere; None for this process.
        journal: A weak reference to who keeps its outcomes as they come in; None for nobody.
    """

    executor: Any = None
    journal: Any = None

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        return (Attached, ())


@dataclass(frozen=True, eq=False, repr=False)
class Problem(Brief):
    """A model, its initial state and its data, resident on one device.

    Attributes:
        model: A private copy of the user's module; its own tensors are never written.
        layout: Which parameters are masked.
        initial: All parameters at W0, by name.
        frozen: Names of parameters that are not trained.
        resting: Names of submodules that stay in evaluation mode, such as a frozen normalisation.
        buffers: All buffers at the start, by name.
        recipe: How to train.
        train: Inputs and targets: tensors (N, ...), or tuples and dictionaries of them; inputs also
            as ``Streamed``, targets ``Weighted``.
        val: The same for validation.
        test: The same for the test set, or None.
        augment: What changes the inputs of each training minibatch; None for nothing.
        precision: Of matrix products; see ``training.precision``.
        ignored: Labels that the loss leaves out, which count nothing in an accuracy.
        guard: Validation examples that neither train nor select; see ``training.guard``.
        weight_means: Of the weights of training and validation examples as they were given.
        cache: What engines keep from one call to the next; empty in a copy.
        attached: Who trains and sees what is trained; nobody in a copy. See ``training.executor``.
    """

    model: nn.Module
    layout: MaskLayout
    initial: State
    frozen: frozenset[str]
    buffers: State
    recipe: Recipe
    train: Split
    val: Split
    test: Split | None
    augment: Callable[[Any], Any] | None = None
    precision: str = "float32"
    resting: frozenset[str] = frozenset()
    ignored: tuple[int, ...] = ()
    weight_means: tuple[float, float] = (1.0, 1.0)
    guard: Split | None = None
    # Of this object alone: ``dataclasses.replace`` gives a new one to what it returns.
    cache: Cache[Any] = field(default_factory=Cache, init=False, repr=False)
    attached: Attached = field(default_factory=Attached, init=False, repr=False)

    @property
    def device(self) -> torch.device:
        """Where everything lives."""
        return next(iter(self.initial.values())).device

    @property
    def n_examples(self) -> int:
        """Number of training examples N."""
        return length_of(self.train[0])

    @property
    def in_memory(self) -> bool:
        """Whether the training inputs are tensors in memory; else they are read again each time."""
        return not isinstance(self.train[0], Streamed)

    @property
    def is_resident(self) -> bool:
        """Whether the inputs of a minibatch are rows of tensors in memory as they are."""
        return self.in_memory and self.augment is None

    @property
    def is_plain(self) -> bool:
        """Whether a minibatch is rows of two tensors as they are, and the loss one with a name.

        And nothing else than that is descended.
        """
        plain = all(isinstance(part, Tensor) for part in self.train)
        return self.is_resident and plain and self.recipe.descends_named

    @property
    def hooked(self) -> str:
        """The first parameter with hooks, which plain autograd alone calls; empty for none."""
        return next(iter(hooks_of(self.model)), "")

    @property
    def dtype(self) -> torch.dtype:
        """The one dtype of all parameters."""
        return next(iter(self.initial.values())).dtype

    def begin(self, model: nn.Module) -> None:
        """Put a copy of the model into training mode, but for what rests."""
        model.train()
        for name in self.resting:
            model.get_submodule(name).eval()

    def fresh_loss(self) -> Any:
        """Return the loss, a module as a copy: it may keep things from call to call."""
        return _fresh(self.recipe.loss)

    def own_step(self, model: nn.Module) -> OwnStep | None:
        """Return a copy of the model under the recipe's own training step; None for none."""
        step = self.recipe.training_step
        return None if step is None else OwnStep(model, _fresh(step))

    def unmasked_of(self, state: State) -> dict[str, NDArray[Any]]:
        """Return what training changes outside of the mask: copies, by name."""
        masked, frozen = set(self.layout.names), self.frozen
        return {
            name: values_of(name, tensor).copy()
            for name, tensor in state.items()
            if name not in masked and name not in frozen
        }


def _fresh(function: Any) -> Any:
    """Return a function as it is, a module as a copy."""
    return copy.deepcopy(function) if isinstance(function, nn.Module) else function


@contextmanager
def at_work(problem: Problem) -> Iterator[None]:
    """Let this thread alone compute with a problem's model, whatever modes torch is in outside.

    Everything that trains, differentiates or measures a problem's networks goes through here. A
    module that two threads worked with would hold the weights of one while the other one reads it.
    """
    plain = neutral(problem.device, problem.dtype)
    with (
        random_states_lock.lent(),  # never waits with one
        problem.cache.lock.held(),
        plain,
        products(problem.precision),
    ):
        yield


def working(
    function: Callable[Concatenate[Owner, More], Found],
) -> Callable[Concatenate[Owner, More], Found]:
    """Let a function of a problem, or of what has one as ``problem``, go through ``at_work``."""

    @functools.wraps(function)
    def inside(owner: Owner, /, *args: More.args, **kwargs: More.kwargs) -> Found:
        with at_work(owner if isinstance(owner, Problem) else owner.problem):  # type: ignore[attr-defined]
            return function(owner, *args, **kwargs)

    return inside


def once(
    function: Callable[Concatenate[Problem, More], Found],
) -> Callable[Concatenate[Problem, More], Found]:
    """Call a function of a problem once for each problem and further arguments; then remember.

    What it gave stands among the facts of the problem's cache; modes outside do not matter.
    """

    @functools.wraps(function)
    def remembered(problem: Problem, /, *args: More.args, **kwargs: More.kwargs) -> Found:
        facts, key = problem.cache.facts, (function, args, *sorted(kwargs.items()))
        if key not in facts:
            with neutral(problem.device, problem.dtype):
                facts[key] = function(problem, *args, **kwargs)
        found: Found = facts[key]
        return found

    return remembered


class Fold(NamedTuple):
    """Which examples validate in a generation; see ``training.folds``."""

    seed: int
    generation: int


class Part(NamedTuple):
    """What a fold takes of a problem whose training data are all examples; see ``folds.dealt``.

    Attributes:
        rows: Which of them train, (n,), on the CPU.
        val: What validates, instead of the problem's own.
    """

    rows: Tensor
    val: Split


@dataclass(frozen=True)
class Plan:
    """What one call of an engine does: steps, seed, and what it measures and keeps.

    With ``fold`` other examples validate than the problem's own, and the rest trains. ``part`` is
    that fold where the problem holds all examples, and None where it is the fold's own.
    """

    steps: int
    seed: int
    curve_points: int = 0
    test: bool = False
    keep_states: bool = False
    fold: Fold | None = None
    part: Part | None = field(default=None, compare=False, repr=False)

    def batches(self, n_examples: int, batch_size: int) -> Tensor:
        """Return the minibatches' example indices, shape (S, B): shuffled passes end to end."""
        if self.part is not None:
            own = replace(self, part=None).batches(len(self.part.rows), batch_size)
            return self.part.rows[own]
        rng = np.random.default_rng(self.seed)
        needed = self.steps * batch_size
        passes = [rng.permutation(n_examples) for _ in range(math.ceil(needed / n_examples))]
        return torch.from_numpy(np.concatenate(passes)[:needed].reshape(self.steps, batch_size))

    @property
    def curve_steps(self) -> tuple[int, ...]:
        """Steps after which the validation loss is measured; the last is always the end."""
        if not self.curve_points:
            return ()
        points = np.linspace(0, self.steps, self.curve_points + 1)[1:]
        return tuple(sorted({max(1, round(point)) for point in points.tolist()}))

    @property
    def tail(self) -> int:
        """How many of the last steps the training loss is averaged over: a tenth."""
        return max(1, self.steps // 10)


METRICS = ("train_loss", "val_loss", "val_accuracy", "test_loss", "test_accuracy")


@dataclass(repr=False)
class Outcome(Brief):
    """What training P networks gave, in the order of the masks.

    Attributes:
        metrics: One vector (P,) for each of ``METRICS``; NaN where not measured or not defined.
        curve_steps: The K steps of the validation curve; empty unless asked for.
        curve: Validation losses, shape (P, K).
        trained: The weights that each network ended with; the masks stand beside.
        states: All parameters and buffers of each network by name; empty unless asked for.
    """

    metrics: dict[str, NDArray[np.float64]]
    curve_steps: tuple[int, ...]
    curve: NDArray[np.float64]
    trained: list[TrainedState]
    states: list[State]

    def split(self) -> list[Outcome]:
        """Split into the outcomes of single networks; the inverse of ``concatenate``."""
        return [
            Outcome(
                metrics={name: vector[i : i + 1] for name, vector in self.metrics.items()},
                curve_steps=self.curve_steps,
                curve=self.curve[i : i + 1],
                trained=[state],
                states=self.states[i : i + 1],
            )
            for i, state in enumerate(self.trained)
        ]

    @classmethod
    def concatenate(cls, parts: list[Outcome]) -> Outcome:
        """Put the outcomes of consecutive chunks together."""
        return cls(
            metrics={n: np.concatenate([part.metrics[n] for part in parts]) for n in METRICS},
            curve_steps=parts[0].curve_steps,
            curve=np.concatenate([part.curve for part in parts]),
            trained=[state for part in parts for state in part.trained],
            states=[s for part in parts for s in part.states],
        )


def untrained(problem: Problem, packed: bits.Bytes, plan: Plan, start: Start) -> Outcome:
    """Return the outcome of a network that cannot be trained: no numbers, the weights it had."""
    state = {**problem.initial, **problem.buffers}
    mask = bits.unpack(packed, problem.layout.size)
    initial = problem.layout.initial
    assert initial is not None
    values = initial[mask] if start is None else start.values.copy()
    return Outcome(
        metrics={name: np.full(1, np.nan) for name in METRICS},
        curve_steps=plan.curve_steps,
        curve=np.full((1, len(plan.curve_steps)), np.nan),
        trained=[TrainedState(values, problem.unmasked_of(state))],
        states=[{n: t.detach().cpu().clone() for n, t in state.items()}] * plan.keep_states,
    )


# Takes the places of networks among the masks of a call, and their outcome, as soon as it is known.
OnPart = Callable[[Sequence[int], Outcome], None]
