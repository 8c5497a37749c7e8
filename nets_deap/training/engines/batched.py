"""The batched engine: P fully connected networks by explicit, batched matrix products.

A network's units are rows and the minibatch is columns: activations have the shape (P, units, B).
The first layer of all networks is one product with the minibatch, which is never copied; the
others are batched products. All memory is taken once.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nets_deap import _checks
from nets_deap.models.feedforward import Feedforward, feedforward_of
from nets_deap.tickets import bits
from nets_deap.training.engine import Engine
from nets_deap.training.engines.chunk import Chunk, fitting, train_chunks
from nets_deap.training.engines.cuda import optimizer
from nets_deap.training.engines.cuda.limits import limited
from nets_deap.training.engines.cuda.traffic import INDEX_BYTES
from nets_deap.training.optimizers import stackable
from nets_deap.training.problem import (
    OnPart,
    Outcome,
    Plan,
    Problem,
    Split,
    Start,
    State,
)

EVAL_BYTES = 2**29
ALL = slice(None)
ALIGNED = 8  # columns: rows of 16 bytes at least

_backward = torch.ops.aten
# In place, and the gradient by the output alone: what each activation leaves is all that is kept.
FORWARD: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {
    nn.ReLU: torch.relu_,
    nn.Tanh: torch.tanh_,
    nn.Sigmoid: torch.sigmoid_,
}
BACKWARD: dict[type[nn.Module], Callable[[Tensor, Tensor], Tensor]] = {
    nn.ReLU: lambda delta, h: _backward.threshold_backward.grad_input(
        delta, h, 0, grad_input=delta
    ),
    nn.Tanh: lambda delta, h: _backward.tanh_backward.grad_input(delta, h, grad_input=delta),
    nn.Sigmoid: lambda delta, h: _backward.sigmoid_backward.grad_input(delta, h, grad_input=delta),
}


def suits(problem: Problem) -> bool:
    """Return whether the batched engine can train this problem.

    It takes ``models.MLP`` and ``nn.Sequential`` of ``Flatten``, ``Linear`` and ``ReLU``, ``Tanh``
    or ``Sigmoid``, with cross entropy and nothing frozen, on any device, and optimisers that step
    each weight by itself.
    """
    feedforward = feedforward_of(problem.model)
    return (
        feedforward is not None
        and all(type(activation) in FORWARD for activation in feedforward.activations)
        and problem.is_plain
        and problem.recipe.loss == "cross_entropy"
        and problem.train[1].ndim == 1
        and not problem.frozen
        and not problem.buffers
        and not problem.hooked
        and (feedforward.flattens or problem.train[0].ndim == 2)
        and stackable(problem)
    )


def train_batched(
    problem: Problem,
    masks: list[bits.Bytes],
    plan: Plan,
    *,
    starts: list[Start] | None = None,
    chunk: int | None = None,
    on_part: OnPart | None = None,
) -> Outcome:
    """Train one network for each mask; see ``Train``."""
    size = default_chunk(problem) if chunk is None else _checks.whole("chunk", chunk)
    return train_chunks(
        BatchedChunk, problem, masks, plan, starts=starts, size=size, on_part=on_part
    )


def default_chunk(problem: Problem) -> int:
    """Return how many networks to train at once: what memory (CUDA) or the cache (CPU) holds."""
    size = fitting(problem.device, BatchedChunk.bytes_of_one(problem))
    if problem.device.type == "cuda":
        largest = max(tensor.numel() for tensor in problem.initial.values())
        return max(1, min(size, optimizer.GREATEST_TENSOR // largest))
    return size


ENGINE = Engine(
    "batched",
    train_batched,
    suits,
    default_chunk,
    "nn.Sequential or models.MLP of linear layers with ReLU, tanh or sigmoid between, without "
    "hooks or frozen parameters, the loss cross_entropy, the usual training step, and an optimiser "
    "that steps each weight by itself, on data in memory without weights or augmentation",
    takes_bf16=True,
)


class BatchedChunk(Chunk):
    """P fully connected networks."""

    def __init__(self, problem: Problem, networks: int, listed: frozenset[str]) -> None:
        feedforward = feedforward_of(problem.model)
        assert feedforward is not None
        self.feedforward: Feedforward = feedforward
        self._low = torch.bfloat16 if problem.precision == "bf16" else None
        super().__init__(problem, networks, listed)
        width, real = self.width(problem), problem.dtype
        dtype, device = self._low or real, problem.device
        self._inputs = self._flat(problem.train[0])
        self._x = self._inputs.new_empty((width, self._inputs.shape[1]))
        self._units = [linear.out_features for linear in feedforward.linears]

        def empty(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
            return torch.empty(shape, dtype=dtype, device=device)

        self._h = [empty(networks, n, width) for n in self._units]
        self._d = [empty(networks, n, width) for n in self._units]
        self.gradients_held = {n: empty(*t.shape) for n, t in self.weights.trained.items()}
        self._loss = empty(networks, dtype=real)
        # What of a column counts in the mean loss: nothing, where it only fills the width.
        batch = problem.recipe.batch_size
        self._share = torch.zeros(width, dtype=real, device=device)
        self._share[:batch] = 1 / batch
        self._by_triton = optimizer.has_triton(device) and optimizer.fits(self._units[-1], width)
        self._classes = torch.arange(self._units[-1], device=device).view(1, -1, 1)

    @staticmethod
    def bytes_of_one(problem: Problem) -> int:
        """Return the bytes that one network of a chunk needs.

        For each parameter: the weight and its moments, and in the products' precision the
        gradient and, where that is lower, a copy of the weight; with a limit of gradients two more
        of these and a byte. For each unit and column: activation and delta. For each maskable
        weight: its place where state is kept for kept weights alone, its mask bit, and while a
        chunk is filled or handed over three bytes and the weight again.
        """
        feedforward = feedforward_of(problem.model)
        assert feedforward is not None
        parameters = sum(tensor.numel() for tensor in problem.initial.values())
        itemsize = problem.dtype.itemsize
        low = problem.precision == "bf16"
        product = 2 if low else itemsize
        limits = 2 * product + 1 if limited(problem.recipe) else 0
        units = sum(linear.out_features for linear in feedforward.linears)
        return (
            parameters
            * (itemsize * (1 + optimizer.moments_of(problem.recipe)) + product * (1 + low) + limits)
            + 2 * units * BatchedChunk.width(problem) * product
            + problem.layout.n_bytes
            + problem.layout.size * (INDEX_BYTES + 3 + itemsize)
        )

    @staticmethod
    def width(problem: Problem) -> int:
        """Return how many rows a minibatch takes; on CUDA aligned."""
        batch = problem.recipe.batch_size
        return -(-batch // ALIGNED) * ALIGNED if problem.device.type == "cuda" else batch

    def halves(self) -> State | None:
        """Return copies of the parameters for bf16 products."""
        if self._low is None:
            return None
        self.halves_held = {n: t.to(self._low) for n, t in self.weights.trained.items()}
        return self.halves_held

    def begin(self) -> None:
        """Bring the copies up to date with weights that were filled in."""
        if self._low is not None:
            for name, copy in self.halves_held.items():
                copy.copy_(self.weights.trained[name])

    def gradients(self, rows: Tensor) -> tuple[Tensor, State]:
        """Return each network's loss (P,) on some rows of the training data, and its gradient."""
        torch.index_select(self._inputs, 0, rows, out=self._x)
        self._forward(self._x, self._h)
        self._backward_from_loss(self.problem.train[1].index_select(0, rows))
        for i in range(len(self._units) - 1, -1, -1):
            self._backward(i)
        return self._loss, self.gradients_held

    def measure_some(self, some: slice, split: Split, rows: int) -> tuple[Tensor, Tensor]:
        """Return loss and accuracy of some networks on a whole split; see ``Chunk``."""
        p = some.stop - some.start
        total = torch.zeros(p, dtype=torch.float64, device=self.problem.device)
        correct = torch.zeros_like(total)
        inputs, targets = split
        rows = min(rows, EVAL_BYTES // (p * sum(self._units) * self._h[0].element_size()))
        rows = max(1, rows if rows < ALIGNED else rows // ALIGNED * ALIGNED)
        for start in range(0, len(inputs), rows):
            x, y = self._flat(inputs[start : start + rows]), targets[start : start + rows]
            h = [self._h[0].new_empty((p, n, len(x))) for n in self._units]
            self._forward(x, h, some)
            output = h[-1].to(self._loss.dtype)
            true = y.expand(p, 1, -1)
            total -= output.log_softmax(1).gather(1, true).double().sum((1, 2))
            correct += (output.argmax(1) == y).sum(1)
        return total / len(inputs), correct / len(inputs)

    def _flat(self, inputs: Tensor) -> Tensor:
        """Return inputs as rows in the products' precision."""
        rows = inputs.reshape(len(inputs), -1)
        return rows if self._low is None else rows.to(self._low)

    def _parameters(self, i: int, some: slice = ALL) -> tuple[Tensor, Tensor | None]:
        """Return weights (P, out, in) and biases (P, out, 1) of a layer, as products take them."""
        named = self.weights.trained if self._low is None else self.halves_held
        bias = named.get(f"{self.feedforward.names[i]}.bias")
        weight = named[f"{self.feedforward.names[i]}.weight"][some]
        return weight, None if bias is None else bias[some].unsqueeze(2)

    def _forward(self, x: Tensor, h: list[Tensor], some: slice = ALL) -> None:
        """Fill the activations of all layers of some networks; the last stays linear."""
        for i, out in enumerate(h):
            weight, bias = self._parameters(i, some)
            if i == 0:
                flat, every = out.view(-1, len(x)), weight.view(-1, weight.shape[2])
                if bias is None:
                    torch.mm(every, x.t(), out=flat)
                else:
                    torch.addmm(bias.view(-1, 1), every, x.t(), out=flat)
            elif bias is None:
                torch.bmm(weight, h[i - 1], out=out)
            else:
                torch.baddbmm(bias, weight, h[i - 1], out=out)
            if i < len(h) - 1:
                FORWARD[type(self.feedforward.activations[i])](out)

    def _backward_from_loss(self, y: Tensor) -> None:
        """Fill in the losses and the deltas of the last layer: (softmax - one-hot) / B."""
        if self._by_triton:
            batch = self.problem.recipe.batch_size
            optimizer.cross_entropy(self._h[-1], y, batch, self._loss, self._d[-1])
            return
        output = self._h[-1].to(self._loss.dtype)
        logs = output.log_softmax(1)
        each = logs.gather(1, y.expand(self.p, 1, -1)).squeeze(1)
        torch.sum(each.mul_(self._share), 1, out=self._loss).neg_()
        delta = logs.exp_().sub_((self._classes == y).to(logs.dtype))
        self._d[-1].copy_(delta.mul_(self._share))

    def _backward(self, i: int) -> None:
        """Turn the deltas of one layer into its gradient and the deltas of the one before."""
        name, delta = self.feedforward.names[i], self._d[i]
        gradient, bias = (
            self.gradients_held[f"{name}.weight"],
            self.gradients_held.get(f"{name}.bias"),
        )
        if bias is not None:
            torch.sum(delta, 2, out=bias)
        if i == 0:
            flat = delta.view(-1, delta.shape[2])
            torch.mm(flat, self._x, out=gradient.view(flat.shape[0], -1))
            return
        before, weight = self._h[i - 1], self._parameters(i)[0]
        torch.bmm(delta, before.transpose(1, 2), out=gradient)
        torch.bmm(weight.transpose(1, 2), delta, out=self._d[i - 1])
        BACKWARD[type(self.feedforward.activations[i - 1])](self._d[i - 1], before)
