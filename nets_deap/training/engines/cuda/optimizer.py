"""The optimiser's step with the mask in it: one pass by Triton, or torch's own and a mask pass.

Both read the learning rate from ``Schedule`` on the device, so that the same step can be replayed,
and both keep pruned weights and their moments at exactly zero.

One file: two ways to do the same, and what chooses between them.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import Tensor

from nets_deap.training.engines.cuda.schedule import Schedule
from nets_deap.training.engines.cuda.traffic import kept_below
from nets_deap.training.engines.cuda.weights import Weights
from nets_deap.training.optimizers import is_known, make_optimizer, set_lr
from nets_deap.training.problem import Problem, State
from nets_deap.training.recipe import Recipe
from nets_deap.training.shortage import is_shortage

logger = logging.getLogger("nets_deap")

BLOCK = 1024
GREATEST_TENSOR = 2**31 - 1  # weights that a list of 32-bit places reaches
GREATEST_TILE = 2**13  # outputs of a network that the registers of one program hold
PROGRAMS = 2048  # of the kernel that strides: some on every multiprocessor
SMALL = 2**20  # tensors of fewer weights, all networks together, are not worth a list

# Gradients are masked bit by bit: as fast as a product, and zero also where they are not finite.
BITS = {
    torch.float64: torch.int64,
    torch.float32: torch.int32,
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
}
_EPSILON = 1e-8  # torch.optim's own


class Optimiser(Protocol):
    """Steps the trained tensors of ``Weights`` in place."""

    def reset(self) -> None:
        """Forget all moments, and take over the present masks."""

    def step(self, gradients: State) -> None:
        """Take one step; gradients by name, contiguous, shaped like the weights."""

    def moments(self) -> list[State]:
        """Return the moments as dense stacked tensors, by name: for tests and inspection."""


def moments_of(recipe: Recipe) -> int:
    """Return how many numbers of state a recipe's optimiser holds for each weight, at most."""
    if not is_known(recipe):
        return 3
    return 2 if recipe.optimizer != "sgd" else int(recipe.momentum > 0)


def has_triton(device: torch.device) -> bool:
    """Return whether the kernels run here: on CUDA, or anywhere under Triton's interpreter."""
    here = device.type == "cuda" or os.environ.get("TRITON_INTERPRET") == "1"
    return here and find_spec("triton") is not None and _runs(device)


@functools.cache
def _runs(device: torch.device) -> bool:
    """Return whether a kernel runs on a device: tried once, with a warning if it does not."""
    outputs, losses = torch.zeros((1, 2, 8), device=device), torch.zeros(1, device=device)
    labels = torch.zeros(8, dtype=torch.int64, device=device)
    try:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            cross_entropy(outputs, labels, 8, losses, torch.empty_like(outputs))
    except Exception as error:  # whatever it is, torch's own optimiser needs none of it
        if is_shortage(error):
            raise
        logger.warning(
            "Triton does not run here, so that torch's own optimiser takes the steps, slower. "
            "Triton needs a C compiler: install gcc, or name one in CC. Triton says: %s",
            error,
        )
        return False
    return True


def listed_of(problem: Problem, kept: Mapping[str, float], networks: int) -> frozenset[str]:
    """Return for which masked tensors the step goes by lists of kept weights, moments with them.

    It is where fewer bytes move that way (``kept_below``), in tensors that are not small. A list
    has room for every weight, so that it serves masks of any density.

    Args:
        problem: What is trained.
        kept: Share of each masked tensor's weights that is kept, over all networks.
        networks: P.
    """
    limit = kept_below(problem.dtype.itemsize, moments_of(problem.recipe))
    return frozenset(
        name
        for name, share in kept.items()
        if is_known(problem.recipe)
        and name not in problem.frozen
        and share < limit
        and SMALL <= problem.initial[name].numel() * networks <= GREATEST_TENSOR
    )


def make(
    weights: Weights, schedule: Schedule, listed: Collection[str], halves: State | None = None
) -> Optimiser:
    """Return the optimiser of a recipe: by Triton where that runs and has it.

    Args:
        weights: What it steps.
        schedule: Where learning rates are read.
        listed: See ``listed_of``; only Triton's uses them.
        halves: Copies in lower precision that follow the weights, by name.
    """
    if is_known(weights.problem.recipe) and has_triton(weights.problem.device):
        return TritonOptimiser(weights, schedule, listed, halves or {})
    return TorchOptimiser(weights, schedule, halves or {})


def fits(classes: int, width: int) -> bool:
    """Return whether the outputs of one network fit into one program of ``cross_entropy``."""
    return _padded(classes) * _padded(width) <= GREATEST_TILE


def cross_entropy(outputs: Tensor, y: Tensor, batch: int, losses: Tensor, deltas: Tensor) -> None:
    """Fill in each network's mean cross entropy, and its gradient by the outputs, by Triton.

    Args:
        outputs: Shape (P, C, width); columns from ``batch`` on only fill the width.
        y: Class indices, shape (width,).
        batch: Examples that count, B.
        losses: Written, shape (P,).
        deltas: Written, shaped like the outputs; zero where a column does not count.
    """
    from nets_deap.training.engines.cuda import _triton

    p, classes, width = outputs.shape
    tile = {"CLASSES": _padded(classes), "WIDTH": _padded(width)}
    warps = warps_of(tile["CLASSES"] * tile["WIDTH"])
    _triton.cross_entropy[(p,)](
        outputs, y, losses, deltas, classes, width, batch, **tile, num_warps=warps
    )


def warps_of(tile: int) -> int:
    """Return how many warps share a tile of outputs, so that their registers hold it."""
    return 4 if tile < GREATEST_TILE else 8


def _padded(size: int) -> int:
    """Return the next power of two."""
    return 1 << (size - 1).bit_length()


class TorchOptimiser:
    """``torch.optim``'s optimiser, fused if it is known, after the masks' pass over gradients."""

    def __init__(self, weights: Weights, schedule: Schedule, halves: State) -> None:
        self._weights, self._schedule, self._halves = weights, schedule, halves
        recipe, device = weights.problem.recipe, weights.problem.device
        self._optimizer, self._known = self._made(), is_known(recipe)
        # A captured step reads what a tensor holds by then; where steps are called a number is
        # quicker, and loses no digits.
        captured = device.type == "cuda" and self._known
        self._lr = torch.zeros((), device=device) if captured else None
        if self._lr is not None:
            for group in self._optimizer.param_groups:
                group["lr"] = self._lr
                group["capturable"] = recipe.optimizer != "sgd"
        # Else torch warns of what is meant: that it warms up before it is captured.
        vars(self._optimizer)["_warned_capturable_if_run_uncaptured"] = True
        self._gates: State = {}

    def reset(self) -> None:
        """Forget all moments, and take over the present masks."""
        if not self._known:  # whose state may begin otherwise than at 0
            self._optimizer = self._made()
        for state in self._optimizer.state.values() if self._known else ():
            for value in state.values():
                if isinstance(value, Tensor):
                    value.zero_()
        for layer in self._weights.problem.layout.layers:
            if layer.name in self._weights.trained:
                tensor = self._weights.trained[layer.name]
                # 1 becomes -1, whose bits are all set: a gradient passes whole, or as 0.0.
                keep = self._weights.keep(layer).to(BITS[tensor.dtype]).neg_()
                if layer.name in self._gates:
                    self._gates[layer.name].copy_(keep)
                else:
                    self._gates[layer.name] = keep

    def step(self, gradients: State) -> None:
        """Take one step; gradients by name, contiguous, shaped like the weights."""
        for name, tensor in self._weights.trained.items():
            tensor.grad = gradients[name].to(tensor.dtype)
            if name in self._gates:
                gate = self._gates[name]
                tensor.grad.view(gate.dtype).bitwise_and_(gate)
        if self._lr is None:
            set_lr(self._optimizer, self._schedule.exact_rate())
        else:
            self._lr.copy_(self._schedule.rate().view(()))
        self._optimizer.step()
        for name, half in self._halves.items():
            half.copy_(self._weights.trained[name])

    def moments(self) -> list[State]:
        """Return the moments as dense stacked tensors, by name."""
        found: dict[str, State] = {}
        for name, tensor in self._weights.trained.items():
            for kind, value in sorted(self._optimizer.state[tensor].items()):
                if isinstance(value, Tensor) and value.shape == tensor.shape:
                    found.setdefault(kind, {})[name] = value
        return list(found.values())

    def _made(self) -> torch.optim.Optimizer:
        """Return the recipe's optimiser over the stacked weights."""
        trained, problem = self._weights.trained, self._weights.problem
        one = [problem.initial[name] for name in trained]
        return make_optimizer(problem.recipe, list(trained.values()), fused=True, like=one)


class TritonOptimiser:
    """One kernel a tensor: weights, moments and packed mask in, weights and moments out."""

    def __init__(
        self, weights: Weights, schedule: Schedule, listed: Collection[str], halves: State
    ) -> None:
        from nets_deap.training.engines.cuda import _triton

        self._kernels: Any = _triton
        self._weights, self._schedule, self._halves = weights, schedule, halves
        recipe, device = weights.problem.recipe, weights.problem.device
        self._recipe = recipe
        decoupled = recipe.optimizer == "adamw"
        self._hyper = torch.tensor(
            [
                *recipe.betas,
                _EPSILON,
                recipe.momentum,
                0.0 if decoupled else recipe.weight_decay,
                recipe.weight_decay if decoupled else 0.0,
            ],
            dtype=schedule.rates.dtype,
            device=device,
        )
        self._moments: list[State] = [
            {name: tensor.new_zeros(tensor.numel()) for name, tensor in weights.trained.items()}
            for _ in range(moments_of(recipe))
        ]
        self._places = {
            name: torch.zeros(weights.trained[name].numel(), dtype=torch.int32, device=device)
            for name in sorted(listed)
        }
        self._counts = {name: torch.zeros(1, dtype=torch.int32, device=device) for name in listed}

    def reset(self) -> None:
        """Forget all moments, and take over the present masks."""
        for moments in self._moments:
            for tensor in moments.values():
                tensor.zero_()
        for name, places in self._places.items():
            n = 0
            for _, found in self._weights.kept_places(name):
                places[n : n + len(found)].copy_(found)
                n += len(found)
            self._counts[name].fill_(n)

    def step(self, gradients: State) -> None:
        """Take one step; gradients by name, contiguous, shaped like the weights."""
        for name in self._weights.trained:
            self._step(name, gradients[name])

    def moments(self) -> list[State]:
        """Return the moments as dense stacked tensors, by name."""
        found = []
        for moments in self._moments:
            dense = {}
            for name, tensor in self._weights.trained.items():
                dense[name] = torch.zeros_like(tensor)
                if name in self._places:
                    n = int(self._counts[name])
                    places = self._places[name][:n].long()
                    dense[name].view(-1)[places] = moments[name][:n]
                else:
                    dense[name].view(-1).copy_(moments[name])
            found.append(dense)
        return found

    def _step(self, name: str, gradient: Tensor) -> None:
        """Launch the kernel of one tensor."""
        weights = self._weights
        tensor = weights.trained[name]
        half = self._halves.get(name)
        first, second = ([m[name] for m in self._moments] + [tensor, tensor])[:2]
        shared = (tensor, gradient, first, second, tensor if half is None else half)
        steps = (self._schedule.rates, self._schedule.counter, self._hyper)
        how = {
            "KIND": int(self._recipe.optimizer != "sgd"),
            "MOMENTUM": bool(self._moments),
            "NESTEROV": self._recipe.nesterov,
            "HALVES": half is not None,
            "BLOCK": BLOCK,
        }
        if name in self._places:
            grid = (min(PROGRAMS, -(-tensor.numel() // BLOCK)),)
            places = (self._places[name], self._counts[name])
            self._kernels.kept_step[grid](*shared, *places, *steps, **how)
            return
        size = tensor[0].numel()
        masked = name in weights.problem.layout.names
        start = weights.problem.layout.layer(name).start if masked else 0
        place = (size, start, weights.packed.shape[1])
        self._kernels.dense_step[-(-size // BLOCK), weights.p](
            *shared, weights.packed, *steps, *place, MASKED=masked, **how
        )
