"""What training costs in multiply-adds, as a share of what the dense network's would."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nets_deap.inputs.call import call_with
from nets_deap.models.private import copied
from nets_deap.tickets import bits
from nets_deap.training.batches import rows_of
from nets_deap.training.problem import Problem, once

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_APPLIED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED)


def dense_share(problem: Problem, packed: bits.Bytes) -> float:
    """Return the multiply-adds of a masked network over those of the dense one, in [0, 1].

    Of the maskable weights. A weight counts as often as one example has it applied: once in a fully
    connected layer, at each position of its output in a convolution. Where all layers apply theirs
    equally often it is the density. Training costs about three times the forward pass, dense and
    sparse, so it is the share of a training step as well (Evci et al. 2020 count likewise).

    Args:
        problem: The model, and examples to count by.
        packed: The packed mask over the D weights.
    """
    times = _times(problem)
    layers = problem.layout.layers
    kept = np.array([bits.count(packed, layer.start, layer.stop) for layer in layers])
    sizes = np.array([layer.size for layer in layers])
    return float((kept * times).sum() / (sizes * times).sum())


def gradient_share(share: float) -> float:
    """Return the cost of the gradient by all weights of a masked network, in dense steps.

    Over one minibatch: of the three products of a step, the forward one and that of the deltas are
    as sparse as the network, that of deltas and inputs is dense (Evci et al. 2020 count likewise).

    Args:
        share: The network's ``dense_share``.
    """
    return (2 * share + 1) / 3


@once
def _times(problem: Problem) -> NDArray[np.float64]:
    """Return how often one example has the weights of each layer applied, (layers,)."""
    model = copied(problem.model).eval()
    # A whole minibatch: a model may need more than one example at a time.
    rows = torch.arange(min(problem.recipe.batch_size, problem.n_examples))
    found: dict[nn.Module, float] = {}

    def count(module: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, _TRANSPOSED):
            units, whole = module.in_channels, given[0]
        else:
            units, whole = module.weight.shape[0], output  # type: ignore[assignment, index]
        found[module] = found.get(module, 0.0) + whole.numel() / units / len(rows)

    owners = {
        f"{path}.{name}" if path else name: module
        for path, module in model.named_modules()
        for name, _ in module.named_parameters(recurse=False)
    }
    wanted = {module for module in owners.values() if isinstance(module, _APPLIED)}
    for module in wanted:
        module.register_forward_hook(count)
    state = {**problem.initial, **problem.buffers}
    with torch.no_grad():
        call_with(model, state, rows_of(problem.train[0], rows))
    names = [owners.get(layer.name) for layer in problem.layout.layers]
    # What is applied otherwise, as in attention and recurrent layers, counts once.
    return np.array([max(found.get(m, 1.0), 1.0) if m is not None else 1.0 for m in names])
