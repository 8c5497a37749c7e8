"""Which engine trains a problem."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch

from nets_deap import _checks
from nets_deap._optional import require
from nets_deap.errors import ExecutorLostError
from nets_deap.tickets import bits
from nets_deap.training import ENGINES
from nets_deap.training.engines import batched, loop, vmap
from nets_deap.training.engines.batched import train_batched
from nets_deap.training.engines.cpu import engine as compiled
from nets_deap.training.engines.cpu.engine import train_compiled
from nets_deap.training.engines.functional import stuck_at
from nets_deap.training.engines.loop import train_loop
from nets_deap.training.engines.memory import free, is_shortage, room_of, unfit
from nets_deap.training.engines.probe import probe
from nets_deap.training.engines.vmap import train_vmap
from nets_deap.training.executor import executor_of, journal_of
from nets_deap.training.precision import products
from nets_deap.training.problem import Outcome, Plan, Problem, Start, once

logger = logging.getLogger("nets_deap")

_TRAIN: dict[str, Callable[..., Outcome]] = {
    "compiled": train_compiled,
    "loop": train_loop,
    "batched": train_batched,
    "vmap": train_vmap,
}
# About how many networks an engine trains at once by itself.
_AT_ONCE: dict[str, Callable[[Problem], int]] = {
    "compiled": lambda problem: compiled.GROUP * torch.get_num_threads(),
    "loop": loop.at_once,
    "batched": batched.default_chunk,
    "vmap": vmap.default_chunk,
}
_SUITS = {
    "compiled": compiled.suits,
    "batched": batched.suits,
    "vmap": vmap.suits,
}
_SUITED = {
    "compiled": "nn.Sequential or models.MLP of linear layers, the same activation between all "
    "(ReLU, tanh or sigmoid), without hooks, masked biases or frozen parameters, on the CPU, and a "
    "loss with a name, on data in memory without weights or augmentation",
    "batched": "nn.Sequential or models.MLP of linear layers with ReLU, tanh or sigmoid between, "
    "without hooks or frozen parameters, and the loss cross_entropy, on data in memory without "
    "weights or augmentation",
    "vmap": "no random numbers in module and loss but dropout's",
}


def pick_engine(engine: str, problem: Problem) -> str:
    """Return the name of the engine that trains this problem; ``"auto"`` takes the fastest.

    Which one it is never depends on the masks: a ticket gets the same number in any company.

    Raises:
        InvalidValueError: An unknown name, an engine for what it cannot train, or a precision that
            it would ignore.
        MissingExtraError: The compiled engine without numba.
    """
    _checks.choice("engine", engine, ENGINES)
    name = _fastest(problem) if engine == "auto" else engine
    suited = _SUITS.get(name)
    if suited is not None and not suited(problem):
        if name == "compiled":
            require("numba", "fast", "train with engine='compiled'")
        raise _checks.bad_value(
            "engine", "suit the task", _SUITED[name], name, "Use engine='auto'."
        )
    if problem.precision == "bf16" and name != "batched":
        raise _checks.bad_value(
            "precision",
            "suit the engine",
            "'float32' or 'tf32', or what engine='batched' can train",
            problem.precision,
        )
    return name


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
    """Train one network for each mask with the engine of that name; see ``train_vmap``.

    The problem's executor, if it has one, trains them elsewhere with that engine. Where memory runs
    out fewer networks train at once, with the same results to float rounding. A network that does
    not fit alone gets NaN for every number. The problem's journal sees outcomes between chunks, and
    what it kept of a call that was cut short is not trained again.

    Args:
        problem: Model, data and recipe.
        masks: P packed masks, not empty.
        plan: Steps, seed and what to measure.
        engine: See ``pick_engine``.
        starts: Where each training starts; None for W0.
        chunk: Networks trained at once, at most; None lets the engine choose.
        on_chunk: Called with the number of networks that a finished chunk held.
    """
    if not masks:
        raise _checks.bad_value("masks", "name networks to train", "at least one", 0)
    name = pick_engine(engine, problem)
    begin: list[Start | None] = [None] * len(masks) if starts is None else starts
    executor, journal = executor_of(problem), journal_of(problem)
    act = _TRAIN[name] if executor is None else functools.partial(executor.train, engine=engine)
    found = {} if journal is None else journal.begin(masks, plan, begin)
    room = room_of(problem, name)
    watching = nullcontext() if journal is None else journal.watching()
    with problem.cache.lock, products(problem.precision), watching:
        while len(found) < len(masks):
            pending = [i for i in range(len(masks)) if i not in found]
            some = pending[: room.portion(len(pending))]
            most = chunk if room.size is None else min(room.size, chunk or room.size)
            parts: list[tuple[list[int], Outcome]] = []

            def take(
                places: Sequence[int],
                part: Outcome,
                some: list[int] = some,
                parts: list[tuple[list[int], Outcome]] = parts,
            ) -> None:
                own = [some[place] for place in places]
                parts.append((own, part))
                if journal is not None:
                    journal.part(own, part)
                if on_chunk is not None:
                    on_chunk(len(own))

            own_starts, short = [begin[i] for i in some], False
            try:
                outcome = act(
                    problem, [masks[i] for i in some], plan,
                    starts=own_starts, chunk=most, on_part=take,
                )  # fmt: skip
                if len(some) == len(masks):
                    room.fits(len(some))
                    return outcome
            except (KeyboardInterrupt, ExecutorLostError):
                if journal is not None:
                    journal.cut_short()
                raise
            except (RuntimeError, MemoryError) as error:
                if not is_shortage(error):
                    raise
                short = True
            for own, part in parts:
                found.update(zip(own, part.split(), strict=True))
                room.fits(len(own))
            if short:  # by now nothing holds on to the frames of what failed
                free(problem)
                if len(some) > 1:
                    left = sum(i not in found for i in some)
                    room.shrink(min(most or _AT_ONCE[name](problem), left))
                else:
                    found[some[0]] = unfit(problem, masks[some[0]], plan, begin[some[0]])
    return Outcome.concatenate([found[i] for i in range(len(masks))])


def _fastest(problem: Problem) -> str:
    """Return the engine that trains a problem fastest."""
    if problem.precision == "float32" and compiled.suits(problem):
        return "compiled"
    if batched.suits(problem):
        return "batched"
    layer = probe(problem).draws
    if layer:
        _warn(problem, f"{layer}, or what follows it, draws random numbers of its own")
        return "loop"
    layer = stuck_at(problem)
    if layer:
        _warn(problem, f"torch.func cannot batch the layer {layer}")
        return "loop"
    return "loop" if loop.worth_threads(problem) else "vmap"


@once
def _warn(problem: Problem, why: str) -> None:
    """Warn once for each problem that its networks are not trained as a batch."""
    logger.warning(
        "The networks of %s train one at a time (engine 'loop'), slower, with the same results: "
        "%s.",
        type(problem.model).__name__,
        why,
    )
