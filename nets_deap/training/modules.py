"""What must be known of a user's module before it trains: dtype, digest, and that data fit it."""

from __future__ import annotations

import hashlib
import json
import re

import torch
from torch import Tensor, nn

from nets_deap import _checks
from nets_deap.masks import digest_of
from nets_deap.training.losses import prepare_target


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the one dtype of a module's floating-point parameters, float32 or float64."""
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if kinds not in ({torch.float32}, {torch.float64}):
        names = sorted(str(kind).removeprefix("torch.") for kind in kinds)
        raise _checks.bad_value("model", "have one dtype", "float32 or float64 throughout", names)
    return kinds.pop()


def digest_of_model(model: nn.Module) -> str:
    """Return the SHA-256 over a module's parameters, buffers and printed structure."""
    tensors = (*model.named_parameters(), *model.named_buffers())
    content = [
        [name, list(t.shape), t.requires_grad, digest_of(t.detach().cpu().numpy())]
        for name, t in tensors
    ]
    structure = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(model))  # without addresses in memory
    return hashlib.sha256(json.dumps([structure, content]).encode()).hexdigest()


def fitted(
    model: nn.Module, loss: str, name: str, inputs: Tensor, sample: Tensor, targets: Tensor
) -> Tensor:
    """Return the targets of a split as the loss takes them, or raise.

    Args:
        model: Is shown the sample.
        loss: The loss.
        name: Of the split, for messages.
        inputs: All of its inputs, for messages.
        sample: The first example as the model is given it, shape (1, ...).
        targets: All of its targets.
    """
    mode = model.training
    with torch.random.fork_rng(devices=[]):
        try:
            with torch.no_grad():
                output = model.eval()(sample.to(next(model.parameters()).device))
        except Exception as error:
            shape = tuple(inputs.shape)
            hint = f"The model said: {error}"
            if sample.dtype == torch.uint8:
                hint = f"Images of bytes need normalize=(mean, std), of x / 255. {hint}"
            raise _checks.bad_value(
                f"{name} inputs", "fit the model", "what its forward takes", shape, hint
            ) from error
        finally:
            model.train(mode)
    if not isinstance(output, Tensor):
        raise _checks.bad_type("model", "return one tensor", "a Tensor", output)
    return prepare_target(loss, name, targets, output)
