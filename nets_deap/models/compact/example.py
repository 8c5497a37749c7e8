"""``guesses``: inputs that a network may take, where nobody has given an example."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from nets_deap.inputs.nested import each

# Heights, widths and lengths: those of common data first.
SIZES = (32, 28, 64, 224, 8, 16, 96, 128, 256, 299, 512)
N = 2  # examples
# Examples to try: some networks compute with a minibatch, and want more of them.
MINIBATCHES = (N, 16, 128)


def guesses(model: nn.Module) -> Iterator[Tensor]:
    """Yield inputs (N, ...) for the layer of a network that was registered first."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            yield _drawn(N, module.in_features)
            yield _drawn(N, 16, module.in_features)
            return
        if isinstance(module, nn.Embedding):
            yield torch.zeros(N, 16, dtype=torch.int64)
            return
        if isinstance(module, (nn.GRU, nn.LSTM, nn.RNN)):
            yield _drawn(N, 16, module.input_size)
            return
        if isinstance(module, (_ConvNd, _NormBase)):
            conv = isinstance(module, _ConvNd)
            one: Any = module
            channels = one.in_channels if conv else one.num_features
            axes = len(one.kernel_size) if conv else int(type(module).__name__[-2])
            if not conv and axes == 1:
                yield _drawn(N, channels)
            for size in SIZES:
                if size**axes <= 2**20:
                    yield _drawn(N, channels, *[size] * axes)
            return


def rows_like(example: Any, n: int) -> Any:
    """Return inputs (n, ...) like an example (1, ...): real numbers are drawn, others repeated."""

    def row(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        first = leaf[:1].detach().cpu()
        if first.is_floating_point():
            return _drawn(n, *first.shape[1:])
        return first.repeat_interleave(n, dim=0)

    return each(example, row)


def _drawn(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64)
