"""``precision``: in which arithmetic matrix products are taken; weights stay in their own.

``"float32"`` (of float64 models: their own), ``"tf32"``: the matrix units' rounding of float32
factors to 10 bits, on CUDA; ``"bf16"``: products of bfloat16 copies, summed in float32, with
weights, moments and losses in float32. A network is trained and measured in the same precision.

Measured on the CPU: LeNet-300-100 on 3,500 digits, 300 steps, 5 seeds, each dense and at 10 %
density, against float32; test loss as relative difference, accuracy on 1,000 digits as difference.

========================================  ================  ================
precision                                 test loss         test accuracy
========================================  ================  ================
bf16                                      +0.5 %, <= 5.7 %  -0.05, <= 0.5 points
tf32 (its rounding of factors, emulated)  +0.2 %, <= 11 %   +0.00, <= 0.3 points
float32, summed in another order          +0.6 %, <= 5.7 %  -0.04, <= 0.2 points
========================================  ================  ================

(mean, largest). Test figures move as much when the order of a sum changes (ten pairs); the training
loss moves more: by up to 24 % (bf16) and 25 % (tf32), against 2.3 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from nets_deap import _checks
from nets_deap.models.shared import Shared
from nets_deap.names import PRECISIONS


def check_precision(precision: str, dtype: torch.dtype, device: torch.device) -> str:
    """Return a precision if it can act on this device and dtype.

    Raises:
        InvalidValueError: An unknown name, float64 weights with a lower precision, or tf32 where
            there is no hardware for it.
    """
    _checks.choice("precision", precision, PRECISIONS)
    if precision == "float32":  # of float64 models too: their own
        return precision
    if dtype != torch.float32:
        raise _checks.bad_value(
            "precision", "suit the model", "'float32' for float64 weights", precision
        )
    if precision == "tf32" and device.type != "cuda":
        raise _checks.bad_value(
            "precision", "suit the device", "'float32' or 'bf16' on the CPU", precision
        )
    return precision


@contextmanager
def products(precision: str) -> Iterator[None]:
    """Take matrix products in a precision inside; put torch's settings back after.

    The settings belong to the whole process: what another thread multiplies on CUDA meanwhile is
    rounded the same way. Nothing is set for ``"float32"``.
    """
    with nullcontext() if precision == "float32" else _products.held(precision):
        yield


def _set_for(precision: str) -> AbstractContextManager[None]:
    """Return what sets torch's settings for a lower precision, and puts them back."""
    return _tf32() if precision == "tf32" else _whole_sums()


_products = Shared(_set_for)


@contextmanager
def _tf32() -> Iterator[None]:
    """Let float32 products run in tf32.

    torch has two settings for it, an older and a newer one, and complains where a program mixed
    them; both are set, and both are put back.
    """
    matmul = torch.backends.cuda.matmul
    newer = getattr(matmul, "fp32_precision", None)  # torch 2.9 and later
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:  # only the newer one was set, against the older one
        older = "highest" if newer == "tf32" else "high"
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(older)
        if newer is not None:
            matmul.fp32_precision = newer


@contextmanager
def _whole_sums() -> Iterator[None]:
    """Sum bf16 products in float32 throughout; torch lets parts of a sum be added in bf16."""
    matmul, name = torch.backends.cuda.matmul, "allow_bf16_reduced_precision_reduction"
    before, split = getattr(matmul, name), getattr(matmul, f"{name}_split_k", None)
    setattr(matmul, name, False)
    try:
        yield
    finally:
        setattr(matmul, name, before if split is None else (before, split))


@contextmanager
def _fast_path_set(fast: bool) -> Iterator[None]:
    """Let transformer layers take torch's fast path in evaluation mode, or not."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(fast)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


_fast_path = Shared(_fast_path_set)
_kernels = Shared(sdpa_kernel)


def slow_path() -> AbstractContextManager[None]:
    """Let transformer layers compute in evaluation mode what they compute in training mode.

    torch's fast path puts zeros where a padding mask says so, which a network that was trained
    without sees for the first time when it is measured. Another thread that attends meanwhile takes
    the slow path, too.
    """
    return _fast_path.held(False)


@contextmanager
def plain_attention() -> Iterator[None]:
    """Compute attention from products, on the slow path; fused kernels cannot be batched.

    Both belong to the whole process: another thread that attends meanwhile takes the plain path,
    too, slower, with the same results to float rounding.
    """
    with slow_path(), _kernels.held(SDPBackend.MATH):
        yield
