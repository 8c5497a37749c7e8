"""What training costs in multiply-adds, as a share of what the dense network's would."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nets_deap.inputs.call import call_with
from nets_deap.models.private import copied
from nets_deap.tickets import bits
from nets_deap.tickets.genotype import Genotype
from nets_deap.training.batches import rows_of, spread_rows
from nets_deap.training.problem import Problem, once

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
PARTS = "parametrizations"  # where torch keeps what a layer's weight is computed from
_APPLIED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)


def dense_share(problem: Problem, packed: bits.Bytes) -> float:
    """Return the multiply-adds of a masked network over those of the dense one, in [0, 1].

    Of the maskable weights. A weight counts as often as one example has it applied, see ``uses``:
    where all layers apply theirs equally often it is the density. Training costs about three times
    the forward pass, dense and sparse, so it is the share of a training step as well (Evci et al.
    2020 count likewise).

    Args:
        problem: The model, and examples to count by.
        packed: The packed mask over the D weights.
    """
    return _share(problem, problem.layout.counts(packed))


def ticket_share(problem: Problem, ticket: Genotype) -> float:
    """Return the ``dense_share`` of a ticket, whose weights are counted once for all who ask."""
    if ticket.has_layout and ticket.layout.weights.key == problem.layout.key:
        return _share(problem, np.array(ticket.layer_counts))
    return dense_share(problem, ticket.packed_mask)


def _share(problem: Problem, kept: NDArray[np.int64]) -> float:
    """Return the share of kept weights (L,) of all, each as often as it is applied."""
    return float((kept * uses(problem)).sum() / _total(problem))


@once
def _total(problem: Problem) -> float:
    """Return the multiply-adds of the dense network for one example."""
    return float((problem.layout.sizes() * uses(problem)).sum())


def gradient_share(share: float) -> float:
    """Return the cost of the gradient by all weights of a masked network, in dense steps.

    Over one minibatch: of the three products of a step, the forward one and that of the deltas are
    as sparse as the network, that of deltas and inputs is dense (Evci et al. 2020 count likewise).

    Args:
        share: The network's ``dense_share``.
    """
    return (2 * share + 1) / 3


@once
def uses(problem: Problem) -> NDArray[np.float64]:
    """Return how often one example has the weights of each layer applied, shape (L,), all >= 1.

    That is the multiply-adds that a kept weight costs: one in a fully connected layer, one at each
    position of its output in a convolution (of its input, if that is transposed). A layer that is
    used more than once counts each time, in residual networks as in any other; what is applied
    otherwise, as in attention and recurrent layers, counts once. Found by one forward pass, of a
    task's first minibatch, and remembered.
    """
    model = copied(problem.model).eval()
    # A whole minibatch: a model may need more than one example at a time.
    rows = spread_rows(problem.n_examples, problem.recipe.batch_size)
    found: dict[str, float] = {}

    def count(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, _TRANSPOSED):
            units, whole = module.in_channels, given[0]
        else:
            units, whole = module.weight.shape[0], output  # type: ignore[assignment, index]
        for name in names[module]:
            found[name] = found.get(name, 0.0) + whole.numel() / units / len(rows)

    names: dict[nn.Module, list[str]] = {}
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    for path, module in model.named_modules():
        # A weight that is computed belongs to the layer that applies what comes of it.
        owner = model.get_submodule(path.rpartition(f".{PARTS}.")[0]) if PARTS in path else module
        own = [first[id(p)] for p in module.parameters(recurse=False)]  # one may be of two layers
        if isinstance(owner, _APPLIED) and own:
            names.setdefault(owner, []).extend(own)
    for module in names:
        module.register_forward_hook(count)
    state = {**problem.initial, **problem.buffers}
    with torch.no_grad():
        call_with(model, state, rows_of(problem.train[0], rows))
    return np.array([max(found.get(layer.name, 1.0), 1.0) for layer in problem.layout.layers])
