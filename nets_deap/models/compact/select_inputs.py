"""``SelectInputs``: the inputs of a network that something still reads."""

from __future__ import annotations

from torch import Tensor, nn

from nets_deap import _checks


class SelectInputs(nn.Module):
    """Gathers some inputs by their places; flattens first if asked to.

    Args:
        index: Places of the selected inputs, an integer tensor (n,).
        n_inputs: How many inputs there are to select from.
        flatten: Whether inputs (B, ...) are flattened to (B, n_inputs) first.
    """

    index: Tensor

    def __init__(self, index: Tensor, n_inputs: int, *, flatten: bool = True) -> None:
        super().__init__()
        self.register_buffer("index", index)
        self.n_inputs = n_inputs
        self.flatten = flatten

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs (B, ...) to the selected ones (B, n)."""
        x = x.flatten(1) if self.flatten else x
        _checks.length("inputs", x.shape[-1], self.n_inputs, "n_inputs")
        return x.index_select(-1, self.index)

    def extra_repr(self) -> str:
        """Return how many inputs are selected."""
        return f"{len(self.index)} of {self.n_inputs}, flatten={self.flatten}"
