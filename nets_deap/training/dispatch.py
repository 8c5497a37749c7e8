"""Which trainer trains which mask."""

from __future__ import annotations

from collections.abc import Callable

from nets_deap import _checks, bits
from nets_deap._optional import require
from nets_deap.training.one_by_one import train_one_by_one
from nets_deap.training.problem import Outcome, Plan, Problem, Start
from nets_deap.training.compiled import suits, train_compiled
from nets_deap.training.stacked import train_stacked

TRAINERS = ("auto", "stacked", "sparse", "one_by_one")

# On two cores the sparse trainer overtakes dense kernels about here.
SPARSE_BELOW = 0.3


def check_trainer(trainer: str, problem: Problem) -> str:
    """Return a trainer's name if it can train this problem.

    Raises:
        InvalidValueError: An unknown name, or the sparse trainer for what it cannot train.
        MissingExtraError: The sparse trainer without numba.
    """
    _checks.choice("trainer", trainer, TRAINERS)
    if trainer == "sparse" and not suits(problem):
        require("numba", "fast", "train with trainer='sparse'")
        raise _checks.bad_value(
            "trainer",
            "suit the task",
            "linear layers with ReLU between, cross_entropy, adam or adamw, minibatches of at "
            "most 64, the CPU",
            trainer,
            "Use trainer='auto'.",
        )
    return trainer


def train(
    problem: Problem,
    masks: list[bits.Bytes],
    plan: Plan,
    *,
    trainer: str = "auto",
    starts: list[Start | None] | None = None,
    chunk: int | None = None,
    on_chunk: Callable[[int], None] | None = None,
) -> Outcome:
    """Train one network for each mask with the trainer of that name; see ``train_stacked``.

    ``"auto"`` trains masks below 30 % density with the sparse trainer where it can, the others
    stacked. Which one a mask gets never depends on its company.
    """
    begin: list[Start | None] = [None] * len(masks) if starts is None else starts
    if trainer == "one_by_one":
        return train_one_by_one(problem, masks, plan, starts=begin)
    limit = SPARSE_BELOW * problem.layout.size if trainer == "auto" else problem.layout.size
    able = trainer == "sparse" or (trainer == "auto" and suits(problem))
    sparse = [able and bits.count(packed) <= limit for packed in masks]
    parts: dict[int, Outcome] = {}
    for kind in sorted(set(sparse)):
        places = [i for i, one in enumerate(sparse) if one is kind]
        some, own = [masks[i] for i in places], [begin[i] for i in places]
        if kind:
            outcome = train_compiled(problem, some, plan, starts=own, on_chunk=on_chunk)
        else:
            outcome = train_stacked(problem, some, plan, starts=own, chunk=chunk, on_chunk=on_chunk)
        if len(places) == len(masks):
            return outcome
        parts.update(zip(places, outcome.split(), strict=True))
    return Outcome.concatenate([parts[i] for i in range(len(masks))])
