"""``to_semi_structured``: linear layers of which 2 of 4 inputs are kept, on sparse tensor cores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.sparse import to_sparse_semi_structured

from nets_deap import _checks
from nets_deap.models.feedforward import is_plain
from nets_deap.models.masking import check_masked, plain
from nets_deap.models.modes import neutral, quiet

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
# What torch's kernels take of weights (outputs, inputs): multiples of these, whichever one it has.
ROWS, COLUMNS = 32, 64
GROUP, MOST = 4, 2
CAPABILITY = (8, 0)  # Ampere, the first with sparse tensor cores


class SemiStructuredLinear(nn.Module):
    """A linear layer that keeps at most 2 of each 4 inputs, as torch's semi-structured kernels do.

    For inference, on CUDA. Weights are filled up with zeros to the sizes that the kernels take.

    Args:
        linear: The layer, on the device and of the dtype that it is to compute with, pruned.
    """

    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        rows, columns = -self.out_features % ROWS, -self.in_features % COLUMNS
        padded = F.pad(linear.weight.detach(), (0, columns, 0, rows)).contiguous()
        with quiet.held("The PyTorch API of SparseSemiStructuredTensor is in prototype stage"):
            packed = to_sparse_semi_structured(padded)
        self.weight = nn.Parameter(packed, requires_grad=False)
        bias = None if linear.bias is None else F.pad(linear.bias.detach(), (0, rows))
        self.register_buffer("bias", bias)
        self._missing = columns

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs (..., inputs) to outputs (..., outputs)."""
        flat = F.pad(x.reshape(-1, self.in_features), (0, self._missing))
        out = F.linear(flat, self.weight, self.bias)[:, : self.out_features]
        return out.reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        """Return its size."""
        size = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{size}, bias={self.bias is not None}"


def obstacle(device: torch.device) -> str:
    """Return in words why a device has no kernels for 2 of 4; empty if it has some."""
    if device.type != "cuda":
        return f"{device}, where torch has none"
    if not torch.cuda.is_available():
        return f"{device}, and torch sees no GPU"
    found = torch.cuda.get_device_capability(device)
    if found < CAPABILITY:
        return f"{torch.cuda.get_device_name(device)} of compute capability {found[0]}.{found[1]}"
    return ""


@neutral()
def to_semi_structured(
    module: nn.Module,
    masks: Mapping[str, Any],
    *,
    dtype: str = "float16",
    device: str | torch.device = "cuda",
) -> nn.Module:
    """Return a copy of a masked network whose masked linear layers run on sparse tensor cores.

    See ``Ticket.to_semi_structured``.

    Args:
        module: The network, pruned or parametrized by torch or not; it stays untouched.
        masks: Arrays or tensors of zeros and ones by parameter name, 1 = kept.
        dtype: ``"float16"`` or ``"bfloat16"``, of all of the network and its inputs.
        device: Where it computes.

    Raises:
        InvalidValueError: The device has no such kernels, no linear layer is masked, one keeps more
            than 2 of 4, or the masks are not those of the module.
    """
    own, place = DTYPES[_checks.choice("dtype", dtype, DTYPES)], torch.device(device)
    if against := obstacle(place):
        least = ".".join(map(str, CAPABILITY))
        raise _checks.bad_value(
            "device",
            "have kernels for 2 of 4 weights",
            f"a CUDA GPU of compute capability {least} or higher",
            against,
            "Everywhere else the masked network takes as long as the dense one.",
        )
    copied = plain(module)
    checked = check_masked(copied, masks)
    layers = []
    for name, mask in checked.items():
        path, _, last = name.rpartition(".")
        layer = copied.get_submodule(path)
        if type(layer) is nn.Linear and last == "weight" and is_plain(layer):
            _check_groups(name, torch.from_numpy(mask))
            layers.append(path)
    if not layers:
        raise _checks.bad_value(
            "module", "have linear layers that the ticket masks", "at least one nn.Linear", "none"
        )
    copied = copied.to(device=place, dtype=own)
    for path in layers:
        linear = copied.get_submodule(path)
        assert isinstance(linear, nn.Linear)
        new = SemiStructuredLinear(linear).train(linear.training)
        if not path:
            return new
        parent, _, last = path.rpartition(".")
        setattr(copied.get_submodule(parent), last, new)
    return copied


def _check_groups(name: str, mask: Tensor) -> None:
    """Raise where a mask (outputs, inputs) keeps more than 2 of 4 consecutive inputs."""
    groups = F.pad(mask.bool(), (0, -mask.shape[1] % GROUP)).reshape(-1, GROUP)
    over = int((groups.sum(1) > MOST).sum())
    if over:
        raise _checks.bad_value(
            "ticket",
            f"keep at most {MOST} of each {GROUP} inputs",
            "one of a task with unit='2:4'",
            f"{over} groups of {name!r} that keep more",
            "Make the task with unit='2:4'; any ticket has to_csr.",
        )
