"""What one network-step of a task needs: operations and bytes, counted."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nets_deap.cli.bench.cost import Cost, Term, kept_cost, step_cost
from nets_deap.models.feedforward import feedforward_of
from nets_deap.training.engines.cpu.network import DENSE_FROM
from nets_deap.training.engines.cuda.optimizer import has_triton, moments_of
from nets_deap.training.engines.cuda.traffic import kept_below
from nets_deap.training.losses import loss_of
from nets_deap.training.task import Task


def cost_of(task: Task, engine: str, density: float, networks: int) -> Cost:
    """Count the operations and bytes of one network-step.

    Fully connected networks term by term, as the engine takes them: by kept weights alone, or
    with dense products, and then with the state of kept weights alone where it keeps that. Others
    by running one step: operations of all products and convolutions, and the bytes of parameters,
    gradients, optimiser state and of what each layer puts out, forward and backward. The compiled
    engine takes all but the last with the kept weights alone.
    """
    feedforward, recipe, problem = feedforward_of(task.problem.model), task.recipe, task.problem
    if feedforward is None:
        return _counted(task, density if engine == "compiled" else 1.0)
    sizes, moments = feedforward.sizes.tolist(), max(1, moments_of(recipe))
    if engine == "compiled":
        share = 1.0 if density >= DENSE_FROM else density
        return kept_cost(sizes, recipe.batch_size, share, moments=moments, networks=networks)
    thin = has_triton(task.device) and density < kept_below(problem.dtype.itemsize, moments)
    return step_cost(
        sizes,
        recipe.batch_size,
        density,
        state="kept" if thin else "dense",
        itemsize=problem.dtype.itemsize,
        moments=moments,
        networks=networks,
    )


def _counted(task: Task, share: float) -> Cost:
    """Count a step of any module by taking one, where it computes with a share of the weights."""
    model, recipe = task.model, task.recipe
    inputs, targets = (part[: recipe.batch_size].cpu() for part in task.problem.train)
    sizes: list[int] = []

    def note(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        sizes.append(output.numel() * output.element_size())

    hooks = [
        module.register_forward_hook(note)
        for module in model.modules()
        if not list(module.children())
    ]
    with torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counter:
        loss_of(recipe.loss, model(inputs), targets).backward()  # type: ignore[no-untyped-call]
    for hook in hooks:
        hook.remove()
    parameters = share * sum(p.numel() * p.element_size() for p in model.parameters())
    moments = max(1, moments_of(recipe))
    return Cost(
        {
            "products": Term(share * counter.get_total_flops(), 3 * parameters),
            "layers": Term(0, 4 * sum(sizes)),
            "optimiser": Term(
                14 * share * sum(p.numel() for p in model.parameters()),
                (3 + 2 * moments) * parameters,
            ),
        }
    )
