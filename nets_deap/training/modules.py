"""What must be known of a user's module before it trains: its dtype and its digest."""

from __future__ import annotations

import hashlib
import json
import re

import torch
from torch import nn

from nets_deap import _checks
from nets_deap.masks import digest_of


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the one dtype of a module's floating-point parameters, float32 or float64."""
    kinds = {p.dtype for p in model.parameters() if p.is_floating_point()}
    if kinds - {torch.float32, torch.float64} or len(kinds) > 1:
        names = sorted(str(kind).removeprefix("torch.") for kind in kinds)
        raise _checks.bad_value("model", "have one dtype", "float32 or float64 throughout", names)
    return kinds.pop() if kinds else torch.float32


def digest_of_model(model: nn.Module) -> str:
    """Return the SHA-256 over a module's parameters, buffers and printed structure."""
    tensors = (*model.named_parameters(), *model.named_buffers())
    content = [
        [name, list(t.shape), t.requires_grad, digest_of(t.detach().cpu().numpy())]
        for name, t in tensors
    ]
    structure = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(model))  # without addresses in memory
    return hashlib.sha256(json.dumps([structure, content]).encode()).hexdigest()
