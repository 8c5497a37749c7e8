"""Which engine trains a problem; what has been trained when memory or the time runs out."""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext

from nets_deap import _checks, names
from nets_deap._optional import require
from nets_deap.errors import ExecutorLostError
from nets_deap.tickets import bits
from nets_deap.training.engine import Engine
from nets_deap.training.engines import batched, loop
from nets_deap.training.engines.chunk import spare
from nets_deap.training.engines.cpu import engine as compiled
from nets_deap.training.engines.functional import stuck_at
from nets_deap.training.engines.memory import capacity_of, free, unfit, with_room
from nets_deap.training.engines.probe import probe
from nets_deap.training.executor import executor_of, journal_of
from nets_deap.training.folds import dealt, folded
from nets_deap.training.optimizers import stackable
from nets_deap.training.problem import Outcome, Plan, Problem, Start, at_work, once
from nets_deap.training.recipe import name_of
from nets_deap.training.shortage import is_shortage

logger = logging.getLogger("nets_deap")

# The registry stands in ``names``, for what must not import torch.
ENGINES: dict[str, Engine] = {
    name: importlib.import_module(f"nets_deap.training.engines.{file}").ENGINE
    for name, file in names.ENGINE_FILES.items()
}

CHUNKED = ("vmap", "batched")  # which train networks in chunks of ``chunk``


def pick_engine(engine: str, problem: Problem) -> str:
    """Return the name of the engine that trains this problem; ``"auto"`` takes the fastest.

    Which one it is never depends on the masks: a ticket gets the same number in any company.

    Raises:
        InvalidValueError: An unknown name, an engine for what it cannot train, or a precision that
            it would ignore.
        MissingExtraError: An engine whose package is not installed.
    """
    _checks.choice("engine", engine, names.ENGINES, meanings=names.ENGINE_WORDS)
    picked = ENGINES[_fastest(problem) if engine == "auto" else engine]
    if not picked.suits(problem):
        if picked.extra is not None:
            require(*picked.extra, f"train with engine={picked.name!r}")
        against = compiled.obstacle(problem) if picked.name == "compiled" else ""
        hint = f"{against and f'Here {against}. '}Use engine='auto'."
        raise _checks.bad_value("engine", "suit the task", picked.needs, picked.name, hint)
    if problem.precision == "bf16" and not picked.takes_bf16:
        able = ", ".join(repr(name) for name, other in ENGINES.items() if other.takes_bf16)
        raise _checks.bad_value(
            "precision",
            "suit the engine",
            f"'float32' or 'tf32', or what engine={able} can train",
            problem.precision,
        )
    return picked.name


def together_by(problem: Problem, engine: str, chunk: int | None = None) -> int:
    """Return how many networks to differentiate as one batch, by ``torch.func``; 1 for none.

    On CUDA as many as the engine trains at once, where it is one that trains several as one batch.
    On the CPU one after the other is as fast or faster.

    Args:
        problem: Model, data and recipe.
        engine: See ``pick_engine``.
        chunk: Networks at once, at most; None for as many as the engine takes.
    """
    if problem.device.type != "cuda":
        return 1
    picked = ENGINES[pick_engine(engine, problem)]
    if picked.name not in CHUNKED:
        return 1
    return chunk or picked.at_once(problem)


def reason_for(engine: str, problem: Problem) -> str:
    """Return in words why the engine that ``pick_engine`` returns is the one that trains."""
    if engine != "auto":
        return "asked for"
    if problem.precision != "float32":
        return f"precision {problem.precision!r}, which 'compiled' does not have"
    against = compiled.obstacle(problem) or compiled.slowness(problem)
    return f"not 'compiled': {against}" if against else "its cost falls with density"


def train(
    problem: Problem,
    masks: list[bits.Bytes],
    plan: Plan,
    *,
    engine: str = "auto",
    starts: list[Start] | None = None,
    chunk: int | None = None,
    on_chunk: Callable[[int], None] | None = None,
) -> Outcome:
    """Train one network for each mask with the engine of that name; see ``Train``.

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
    # To try what a module can takes memory, too.
    picked = ENGINES[with_room(problem.device, lambda: pick_engine(engine, problem))]
    begin: list[Start] = [None] * len(masks) if starts is None else starts
    executor, journal = executor_of(problem), journal_of(problem)
    here, own_plan = problem, plan
    if executor is None:  # else its workers each make the fold of what they hold
        # Where steps are captured, to build them anew for each fold costs more than they do.
        kept = picked.name in CHUNKED and spare(problem.device) > 1
        here, own_plan = dealt(problem, plan) if kept else (folded(problem, plan.fold), plan)
    act = picked.train if executor is None else functools.partial(executor.train, engine=engine)
    found = {} if journal is None else journal.begin(masks, plan, begin)
    capacity = capacity_of(problem, picked.name)
    watching = nullcontext() if journal is None else journal.watching()
    freed = False
    with at_work(problem), watching:
        while len(found) < len(masks):
            pending = [i for i in range(len(masks)) if i not in found]
            some = pending[: capacity.portion(len(pending))]
            most = chunk if capacity.size is None else min(capacity.size, chunk or capacity.size)
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

            some_masks, some_starts = [masks[i] for i in some], [begin[i] for i in some]
            short = False
            try:
                outcome = act(
                    here, some_masks, own_plan, starts=some_starts, chunk=most, on_part=take
                )
                if len(some) == len(masks):
                    capacity.fits(len(some))
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
                capacity.fits(len(own))
            if short:  # by now nothing holds on to the frames of what failed
                # What others of this process keep may be all that is in the way.
                again, freed = free(here.device) and not freed, True
                if again:
                    continue
                if len(some) > 1:
                    left = sum(i not in found for i in some)
                    capacity.shrink(min(most or picked.at_once(problem), left))
                else:
                    found[some[0]] = unfit(problem, masks[some[0]], plan, begin[some[0]])
    return Outcome.concatenate([found[i] for i in range(len(masks))])


def _fastest(problem: Problem) -> str:
    """Return the engine that trains a problem fastest."""
    able = problem.precision == "float32" and compiled.suits(problem)
    if able and not compiled.slowness(problem):
        return "compiled"
    if batched.suits(problem):
        return "batched"
    if problem.hooked:
        _warn(problem, f"the parameter {problem.hooked!r} has hooks")
        return "loop"
    layer = probe(problem).draws
    if layer:
        _warn(problem, f"{layer}, or what follows it, draws random numbers of its own")
        return "loop"
    if not stackable(problem):
        name = name_of(problem.recipe.optimizer)
        _warn(problem, f"the optimiser {name} may step a weight by others than its own gradient")
        return "loop"
    place = stuck_at(problem)
    if place:
        _warn(problem, f"torch.func cannot batch {place}")
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
