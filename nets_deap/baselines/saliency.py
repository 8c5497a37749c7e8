"""Tickets pruned at initialisation by saliency: SNIP, GraSP and SynFlow.

All three rank all weights of the network together and keep exactly round(density * D) of them.
Nothing keeps a layer from losing all its weights, as in the papers.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.baselines._common import (
    BATCHES,
    CHOICES,
    SALIENCY,
    Scores,
    as_densities,
    charge,
    draw_rows,
    generator_at,
    kept_at,
    ranked,
)
from nets_deap.baselines.result import Baseline, Level
from nets_deap.baselines.scores import SynFlow, grasp_scores, snip_scores
from nets_deap.tickets import bits
from nets_deap.training.cost import dense_share
from nets_deap.training.task import Task, check_task

DEFAULT_EXAMPLES = 100
GRASP_TEMPERATURE = 200.0


@_checks.signed(subject=check_task)
def snip(
    task: Task, densities: float | Iterable[float], *, examples: int | None = None, seed: int = 0
) -> Baseline:
    """Keep the weights of largest ``|g * w|`` at W0: single-shot network pruning.

    The model is in evaluation mode, as in the authors' code. Reimplementations that leave it in
    training mode get other masks of networks with batch normalisation.

    Args:
        task: The task.
        densities: One or more densities in (0, 1].
        examples: Training examples that the gradient g is a mean over, drawn at random, at most
            N; None for 100, or all N if there are fewer.
        seed: Of the draw.

    Returns:
        Nested levels that all cost ceil(examples / batch size) steps.

    Reference:
        Lee et al. 2019, SNIP, https://arxiv.org/abs/1810.02340.
    """
    goals = as_densities(densities)
    rows = _rows(task, examples, seed)
    return _pruned("snip", task, goals, snip_scores(task, rows), len(rows), seed)


@_checks.signed(subject=check_task)
def grasp(
    task: Task,
    densities: float | Iterable[float],
    *,
    examples: int | None = None,
    temperature: float | None = None,
    seed: int = 0,
) -> Baseline:
    """Keep the weights whose removal would lower the norm of the gradient most, at W0.

    The paper prunes the largest -w * (H g), H the Hessian and g the gradient of the loss; so the
    largest w * (H g) are kept, with their signs. In evaluation mode, as ``snip``.

    Args:
        task: The task.
        densities: One or more densities in (0, 1].
        examples: As for ``snip``.
        temperature: What logits are divided by in the loss, > 0; None for the paper's 200, but 1
            for the mse loss and for a loss that is a function, whose outputs may not be logits.
        seed: Of the draw of examples.

    Returns:
        Nested levels that all cost 2 ceil(examples / batch size) steps, for g and for H g.

    Raises:
        InvalidValueError: A temperature other than 1 under mse or a loss that is a function.

    Reference:
        Wang et al. 2020, Picking Winning Tickets Before Training by Preserving Gradient Flow,
        https://arxiv.org/abs/2002.07376.
    """
    goals = as_densities(densities)
    logits = isinstance(task.recipe.loss, str) and task.recipe.loss != "mse"
    heat = GRASP_TEMPERATURE if logits else 1.0
    if temperature is not None:
        heat = _checks.real("temperature", temperature, low=0, open_low=True)
        if not logits and heat != 1:
            raise _checks.bad_value(
                "temperature", "be left out where outputs are not logits", "None", heat
            )
    rows = _rows(task, examples, seed)
    return _pruned(
        "grasp", task, goals, grasp_scores(task, rows, heat), len(rows), seed, gradients=2
    )


@_checks.signed(subject=check_task)
def synflow(
    task: Task, densities: float | Iterable[float], *, rounds: int = 100, seed: int = 0
) -> Baseline:
    """Keep the weights through which most synaptic flow passes, in many rounds, without data.

    Round n of a density d keeps round(D d^(n / rounds)) weights. Every density has rounds of its
    own, so tickets need not be nested. Inputs that are indices or masks are those of the first
    training example, and ones stand for the floating-point ones. For networks with other
    nonlinearities than activation modules (functions called in ``forward``, normalisation) the
    scores are those of the network as it computes.

    Args:
        task: The task.
        densities: One or more densities in (0, 1].
        rounds: Rounds of pruning for each density.
        seed: Of the order of equal scores; without any, the result does not depend on it.

    Returns:
        Levels of growing cost: each round costs one step.

    Raises:
        InvalidValueError: The flow overflows float64.

    Reference:
        Tanaka et al. 2020, Pruning neural networks without any data by iteratively conserving
        synaptic flow, https://arxiv.org/abs/2006.05467, algorithm 1.
    """
    n = _checks.whole("rounds", rounds)
    goals = as_densities(densities)
    flow = SynFlow(task)
    levels: list[Level] = []
    spent, dense = 0, 0.0
    for density in goals:
        mask = np.ones(task.layout.size, dtype=np.bool_)
        rng = generator_at(task, seed, SALIENCY, kept_at(task.layout, density), CHOICES)
        for done in range(1, n + 1):
            scores = np.where(mask, flow.scores(mask), -1)
            own = charge(task, 1, dense_share(task.problem, bits.pack(mask)))
            spent, dense = spent + own[0], dense + own[1]
            mask[ranked(scores, rng)[kept_at(task.layout, density ** (done / n)) :]] = False
        levels.append(Level(task.ticket(mask), spent, search_dense_steps=dense))
    return Baseline.of("synflow", levels, before=task.rewound_steps)


def _rows(task: Task, examples: int | None, seed: int) -> NDArray[np.int64]:
    """Return the training examples that gradients are taken over."""
    available = task.problem.n_examples
    n = _checks.unless_none(_checks.whole, "examples", examples, high=available)
    rng = generator_at(task, seed, SALIENCY, 1, BATCHES)
    return draw_rows(task, min(DEFAULT_EXAMPLES, available) if n is None else n, rng)


def _pruned(
    name: str,
    task: Task,
    goals: list[float],
    scores: Scores,
    examples: int,
    seed: int,
    *,
    gradients: int = 1,
) -> Baseline:
    """Return the tickets that keep the largest scores, after gradients over some examples."""
    costs = [charge(task, examples) for _ in range(gradients)]
    spent, dense = sum(steps for steps, _ in costs), sum(dense for _, dense in costs)
    order = ranked(scores, generator_at(task, seed, SALIENCY, 1, CHOICES))
    levels: list[Level] = []
    for density in goals:
        mask = np.zeros(task.layout.size, dtype=np.bool_)
        mask[order[: kept_at(task.layout, density)]] = True
        levels.append(Level(task.ticket(mask), spent, search_dense_steps=dense))
    return Baseline.of(name, levels, before=task.rewound_steps)
