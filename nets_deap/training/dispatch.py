"""Which engine trains a problem."""

from __future__ import annotations

from collections.abc import Callable

from nets_deap import _checks, bits
from nets_deap._optional import require
from nets_deap.training import ENGINES, compiled
from nets_deap.training.compiled import train_compiled
from nets_deap.training.one_by_one import train_one_by_one
from nets_deap.training.problem import Outcome, Plan, Problem, Start
from nets_deap.training.stacked import train_stacked


def pick_engine(engine: str, problem: Problem) -> str:
    """Return the name of the engine that trains this problem; ``"auto"`` takes the fastest.

    Which one it is never depends on the masks: a ticket gets the same number in any company.

    Raises:
        InvalidValueError: An unknown name, or the compiled engine for what it cannot train.
        MissingExtraError: The compiled engine without numba.
    """
    _checks.choice("engine", engine, ENGINES)
    if engine == "auto":
        return "compiled" if compiled.suits(problem) else "stacked"
    if engine == "compiled" and not compiled.suits(problem):
        require("numba", "fast", "train with engine='compiled'")
        raise _checks.bad_value(
            "engine",
            "suit the task",
            "linear layers with ReLU, tanh or sigmoid between, nothing frozen, the CPU",
            engine,
            "Use engine='auto'.",
        )
    return engine


def train(
    problem: Problem,
    masks: list[bits.Bytes],
    plan: Plan,
    *,
    engine: str = "auto",
    starts: list[Start | None] | None = None,
    chunk: int | None = None,
    on_chunk: Callable[[int], None] | None = None,
) -> Outcome:
    """Train one network for each mask with the engine of that name; see ``train_stacked``."""
    name = pick_engine(engine, problem)
    if name == "one_by_one":
        return train_one_by_one(problem, masks, plan, starts=starts, on_chunk=on_chunk)
    kind = train_compiled if name == "compiled" else train_stacked
    return kind(problem, masks, plan, starts=starts, chunk=chunk, on_chunk=on_chunk)
