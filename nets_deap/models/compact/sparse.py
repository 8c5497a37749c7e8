"""``to_csr``: the masked linear layers of a network on compressed sparse rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nets_deap import _checks
from nets_deap.models.feedforward import is_plain
from nets_deap.models.masking import check_masked, plain
from nets_deap.models.modes import neutral, quiet


class CsrLinear(nn.Module):
    """A linear layer that keeps only its unpruned weights, as compressed sparse rows.

    For inference: all it holds are buffers. Its ``state_dict`` is of plain tensors, which
    safetensors can hold.

    Args:
        linear: The layer.
        mask: Its kept weights, bool (outputs, inputs); they may be zero, the others must be.
    """

    rows: Tensor
    columns: Tensor
    values: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear, mask: Tensor) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach()
        mask = mask.to(weight.device)
        starts = torch.nn.functional.pad(mask.sum(1).cumsum(0), (1, 0))
        # Smaller integers than torch's own are half the bytes, and quicker.
        self.register_buffer("rows", starts.int())
        self.register_buffer("columns", mask.nonzero()[:, 1].int().contiguous())
        self.register_buffer("values", weight[mask].clone())
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().clone())
        with quiet.held("Sparse CSR tensor support is in beta"):  # torch says so once
            try:
                torch.mm(self.weight, weight.new_zeros(self.in_features, 1))
            except RuntimeError as error:  # NotImplementedError is one
                raise _checks.bad_value(
                    "module",
                    "be of numbers that torch multiplies on sparse rows",
                    "float32 or float64",
                    f"{weight.dtype} on {weight.device}",
                    "Convert it by module.float().",
                ) from error

    @property
    def weight(self) -> Tensor:
        """The weights as a sparse tensor (outputs, inputs) of layout ``torch.sparse_csr``."""
        return torch.sparse_csr_tensor(
            self.rows,
            self.columns,
            self.values,
            (self.out_features, self.in_features),
            check_invariants=False,  # they hold by the way it was made, and cost time
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs (..., inputs) to outputs (..., outputs)."""
        flat = x if x.ndim == 2 else x.reshape(-1, self.in_features)
        bias, columns = self.bias, flat.t()
        if bias is None:
            out = torch.mm(self.weight, columns).t()
        else:
            out = torch.addmm(bias.unsqueeze(1), self.weight, columns).t()
        return out if x.ndim == 2 else out.reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Return its size and how many weights it keeps."""
        size = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{size}, kept={len(self.values)}, bias={self.bias is not None}"


def has_linears(module: nn.Module, masks: Iterable[str]) -> bool:
    """Return whether ``to_csr`` would find a linear layer among masked parameters' owners."""
    modules = dict(module.named_modules())
    return any(type(modules.get(name.rpartition(".")[0])) is nn.Linear for name in masks)


@neutral()
def to_csr(module: nn.Module, masks: Mapping[str, Any]) -> nn.Module:
    """Return a copy of a masked network whose masked linear layers are ``CsrLinear``.

    All else, masked convolutions and linear layers with hooks too, stays dense. See
    ``Ticket.to_csr``.

    Args:
        module: The network, pruned or parametrized by torch or not; it stays untouched.
        masks: Arrays or tensors of zeros and ones by parameter name, 1 = kept.

    Raises:
        InvalidValueError: No linear layer is masked, the masks are not those of the module, or
            torch has no sparse product for its numbers.
    """
    copied = plain(module)
    changed = 0
    for name, mask in check_masked(copied, masks).items():
        path, _, own = name.rpartition(".")
        layer = copied.get_submodule(path)
        # Exactly Linear: attention, say, reads the weight of its own subclass past ``forward``.
        # And plain: hooks, or a forward of its own, would be lost.
        if type(layer) is nn.Linear and own == "weight" and is_plain(layer):
            new = CsrLinear(layer, torch.from_numpy(mask)).train(layer.training)
            changed += 1
            if not path:
                return new
            parent, _, last = path.rpartition(".")
            setattr(copied.get_submodule(parent), last, new)
    if not changed:
        raise _checks.bad_value(
            "module", "have linear layers that the ticket masks", "at least one nn.Linear", "none"
        )
    return copied
