"""Dropout of each network's own: patterns that follow from a key, a step and a place in the module.

The key of a network comes from its mask and the plan's seed alone. So its patterns are independent
of those of other networks, and the same in a batch, alone, or in a thread of its own. A bit of a
pattern is a hash of its place: no generator has a state that networks could disturb.

Reference: Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3 (generators that count),
https://doi.org/10.1145/2063384.2063405; the hash is the 32-bit finaliser of C. Wellons' search for
small bias, https://nullprogram.com/blog/2018/07/31/
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nets_deap.models.shared import Shared
from nets_deap.tickets import bits

# The constants of the hash, as signed 32-bit numbers: products wrap around.
FIRST, SECOND, GOLDEN = 0x7FEB352D, 0x846CA68B - 2**32, 0x9E3779B9 - 2**32
BELOW = 0x7FFFFFFF
# What a SELU network's unit holds when it is dropped (Klambauer et al. 2017, arXiv 1706.02515).
SATURATED = -1.7580993408473766

_original: dict[str, Callable[..., Any]] = {}
_here = threading.local()


def seed_of(packed: bits.Bytes, seed: int) -> int:
    """Return the seed, in [0, 2^63), of everything random in one network's training."""
    key = seed.to_bytes(8, "little")
    digest = hashlib.blake2b(packed.tobytes(), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "little") >> 1


def keys_of(masks: Sequence[bits.Bytes], seed: int, device: torch.device) -> Tensor:
    """Return the keys of P networks, int32 (P, 2)."""
    seeds = [seed_of(packed, seed) for packed in masks]
    pairs = [[(s & 0xFFFFFFFF) - 2**31, s >> 32] for s in seeds]
    return torch.tensor(pairs, dtype=torch.int32, device=device)


def at_step(keys: Tensor, step: int | Tensor) -> Tensor:
    """Return the keys of one step from keys (..., 2); ``step`` may live on the device."""
    return mixed(mixed(keys + step * GOLDEN))


def mixed(numbers: Tensor) -> Tensor:
    """Return the hash of int32 numbers."""
    # torch computes little with unsigned numbers: a shift of signed ones brings in copies of the
    # sign, which the masks take off again.
    found = numbers ^ (numbers >> 16).bitwise_and_(0xFFFF)
    found *= FIRST
    found ^= (found >> 15).bitwise_and_(0x1FFFF)
    found *= SECOND
    found ^= (found >> 16).bitwise_and_(0xFFFF)
    return found


@contextmanager
def keyed(key: Tensor) -> Iterator[Callable[[], int]]:
    """Make the dropout of ``torch.nn.functional``, and so of all its modules, follow from a key.

    Modules look their function up in ``torch.nn.functional`` when they are called, and there is no
    hook on the way: the functions there are replaced, for the whole process, while at least one
    thread is inside. What replaces them looks for a key in this thread, and calls torch's own
    function where there is none: another thread, the user's own training say, drops out as ever.
    The last thread to leave puts torch's own back. A module that has kept a reference to one of
    them from before (``from torch.nn.functional import dropout``) is not reached; ``probe`` finds
    that it draws, and it trains alone.

    Args:
        key: Of one network at one step, int32 (2,); under ``vmap`` each network has its own.

    Yields:
        A function that tells how many patterns have been drawn.
    """
    outer = getattr(_here, "key", None), getattr(_here, "calls", 0)
    with _replaced.held("dropout"):
        _here.key, _here.calls = key, 0
        try:
            yield lambda: int(_here.calls)
        finally:
            _here.key, _here.calls = outer


@contextmanager
def _functions_replaced(_: str) -> Iterator[None]:
    """Have functions of ``torch.nn.functional`` ask for a key."""
    for name, own in _OWN.items():
        _original[name] = getattr(F, name)
        setattr(F, name, _chosen(own, _original[name]))
    try:
        yield
    finally:
        for name, function in _original.items():
            setattr(F, name, function)


_replaced = Shared(_functions_replaced)


def dropping(keys: Tensor | None, step: int) -> AbstractContextManager[object]:
    """Return ``keyed`` for a step of one network; nothing where it has no keys (2,)."""
    return nullcontext() if keys is None else keyed(at_step(keys, step))


def _chosen(own: Callable[..., Any], original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that is ``own`` where a key is set, else the original one."""

    def chosen(*args: Any, **kwargs: Any) -> Any:
        if getattr(_here, "key", None) is None:
            return original(*args, **kwargs)
        return own(*args, **kwargs)

    return chosen


def _kept(shape: Sequence[int], p: float, device: torch.device) -> Tensor:
    """Return which places are kept: bool, each with probability 1 - p."""
    key: Tensor = _here.key
    _here.calls += 1
    # Both halves of the key go in, in a round each: 32 bits alone would soon give two networks of
    # a large population the same patterns.
    first, second = mixed(key + _here.calls * GOLDEN).unbind(-1)
    places = torch.arange(math.prod(shape), dtype=torch.int32, device=device)
    numbers = mixed(mixed(places ^ first) + second).bitwise_and_(BELOW)
    return (numbers >= min(round(p * 2**31), BELOW)).reshape(tuple(shape))


def _scaled(x: Tensor, kept: Tensor, p: float, inplace: bool) -> Tensor:
    """Return the kept values times 1 / (1 - p), zero elsewhere."""
    scale = kept.to(x.dtype) * (1 / (1 - p) if p < 1 else 0.0)
    return x.mul_(scale) if inplace else x * scale


def _checked(p: float) -> float:
    """Return a probability, or raise as torch does."""
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability must be in [0, 1]: got {p}")
    return float(p)


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Drop single values."""
    if not training or _checked(p) == 0:
        return input
    return _scaled(input, _kept(input.shape, p, input.device), p, inplace)


def _dropout_channels(single: int) -> Callable[..., Tensor]:
    """Return a function that drops whole channels.

    Args:
        single: Axes of an input without a batch, whose channels are the first axis.
    """

    def dropout(
        input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> Tensor:
        if not training or _checked(p) == 0:
            return input
        head = 1 if input.ndim == single else 2
        shape = (*input.shape[:head], *[1] * (input.ndim - head))
        return _scaled(input, _kept(shape, p, input.device), p, inplace)

    return dropout


def _alpha(channels: bool) -> Callable[..., Tensor]:
    """Return alpha dropout, of single values or of whole channels: mean and variance stay."""

    def dropout(
        input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
    ) -> Tensor:
        if not training or _checked(p) == 0:
            return input
        head = 2 if channels else input.ndim
        shape = (*input.shape[:head], *[1] * (input.ndim - head))
        kept = _kept(shape, p, input.device).to(input.dtype)
        a = ((1 - p) * (1 + p * SATURATED**2)) ** -0.5 if p < 1 else 0.0
        found = a * (input * kept + SATURATED * (1 - kept)) - a * SATURATED * p
        return input.copy_(found) if inplace else found

    return dropout


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attend, dropping attention weights."""
    if not dropout_p:
        more = {"enable_gqa": True} if enable_gqa else {}  # older versions of torch have none
        plain = _original["scaled_dot_product_attention"]
        found: Tensor = plain(query, key, value, attn_mask, 0.0, is_causal, scale=scale, **more)
        return found
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    logits = query @ key.transpose(-2, -1) * factor
    if is_causal:
        seen = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
        logits = logits.masked_fill(~seen, -torch.inf)
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            logits = logits.masked_fill(~attn_mask, -torch.inf)
        else:
            logits = logits + attn_mask
    return _dropout(logits.softmax(-1), dropout_p) @ value


_OWN: dict[str, Callable[..., Any]] = {
    "dropout": _dropout,
    "dropout1d": _dropout_channels(2),
    "dropout2d": _dropout_channels(2),  # torch takes three axes as a batch of one-dimensional ones
    "dropout3d": _dropout_channels(4),
    "alpha_dropout": _alpha(channels=False),
    "feature_alpha_dropout": _alpha(channels=True),
    "scaled_dot_product_attention": _attention,
}
