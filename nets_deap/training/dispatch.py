"""Which trainer trains which mask.

``stacked`` trains any module as a batch, ``layered`` fully connected networks by explicit
products, ``sparse`` fully connected networks on the CPU by their kept weights alone (compiled with
numba, the extra ``fast``), ``one_by_one`` is the slow reference. ``auto``: on CUDA layered where
it can, on the CPU sparse for masks below 30 % density where it can, else stacked.
"""

from __future__ import annotations

from collections.abc import Callable

from nets_deap import _checks, bits
from nets_deap._optional import require
from nets_deap.training.layered import suits as suits_layered
from nets_deap.training.layered import takes, train_layered
from nets_deap.training.one_by_one import train_one_by_one
from nets_deap.training.precision import products
from nets_deap.training.problem import Outcome, Plan, Problem, Start
from nets_deap.training.sparse import suits, train_sparse
from nets_deap.training.stacked import train_stacked

TRAINERS = ("auto", "stacked", "layered", "sparse", "one_by_one")

# On two cores the sparse trainer overtakes dense kernels about here.
SPARSE_BELOW = 0.3


def check_trainer(trainer: str, problem: Problem) -> str:
    """Return a trainer's name if it can train this problem.

    Raises:
        InvalidValueError: An unknown name, a trainer for what it cannot train, or a precision that
            it would ignore.
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
    if trainer == "layered" and not suits_layered(problem):
        raise _checks.bad_value(
            "trainer",
            "suit the task",
            "linear layers with ReLU, Tanh or Sigmoid between, cross_entropy, nothing frozen",
            trainer,
            "Use trainer='auto'.",
        )
    if problem.precision == "bf16" and not takes(trainer, problem):
        raise _checks.bad_value(
            "precision",
            "suit the trainer",
            "'float32' or 'tf32', or what trainer='layered' can train",
            problem.precision,
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
    stacked; on CUDA, and in bf16, all with the layered trainer where it can. Which one a mask gets
    never depends on its company.
    """
    with products(problem.precision):
        return _train(problem, masks, plan, trainer, starts, chunk, on_chunk)


def _train(
    problem: Problem,
    masks: list[bits.Bytes],
    plan: Plan,
    trainer: str,
    starts: list[Start | None] | None,
    chunk: int | None,
    on_chunk: Callable[[int], None] | None,
) -> Outcome:
    """Train in whatever precision is set."""
    if takes(trainer, problem):
        return train_layered(problem, masks, plan, starts=starts, chunk=chunk, on_chunk=on_chunk)
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
            outcome = train_sparse(problem, some, plan, starts=own, on_chunk=on_chunk)
        else:
            outcome = train_stacked(problem, some, plan, starts=own, chunk=chunk, on_chunk=on_chunk)
        if len(places) == len(masks):
            return outcome
        parts.update(zip(places, outcome.split(), strict=True))
    return Outcome.concatenate([parts[i] for i in range(len(masks))])
