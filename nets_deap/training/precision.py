"""``precision``: in which arithmetic matrix products are taken; weights stay in their own.

``"float32"`` (of float64 models: their own), convolutions too, whatever torch is set to;
``"tf32"``: the matrix units' rounding of float32 factors to 10 bits, on CUDA; ``"bf16"``: products
of bfloat16 copies, summed in float32, with weights, moments and losses in float32. A network is
trained and measured in the same precision.

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
from contextlib import AbstractContextManager, contextmanager
from typing import Any

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


def products(precision: str) -> AbstractContextManager[None]:
    """Take products and convolutions in a precision inside, whatever the program has set outside.

    On CUDA torch takes convolutions in tf32 unless told otherwise, and by algorithms that may not
    repeat byte for byte; both are settled here. The settings belong to the whole process: what
    another thread multiplies meanwhile is rounded the same way, and a thread that wants another
    precision waits. They are put back at the end.
    """
    return _products.held(precision)


@contextmanager
def _set_for(precision: str) -> Iterator[None]:
    """Set all that torch has about products of float32 and bfloat16; put it back."""
    tf32, backends = precision == "tf32", torch.backends
    # bf16 products are summed in float32 throughout; torch lets parts of a sum be added in bf16.
    sums = "allow_bf16_reduced_precision_reduction"
    split = getattr(backends.cuda.matmul, f"{sums}_split_k", None)
    whole = getattr(backends.cuda.matmul, sums)
    before: list[tuple[Any, str, Any]] = [
        (backends.cuda.matmul, sums, whole if split is None else (whole, split)),
        (backends.cudnn, "deterministic", backends.cudnn.deterministic),
        (backends.cudnn, "benchmark", backends.cudnn.benchmark),
    ]
    with _float32_set(tf32):
        try:
            for (owner, name, _), own in zip(before, (False, True, False), strict=True):
                setattr(owner, name, own)
            yield
        finally:
            for owner, name, value in before:
                setattr(owner, name, value)


@contextmanager
def _float32_set(tf32: bool) -> Iterator[None]:
    """Let products and convolutions of float32 run in tf32, or not.

    torch has an older and a newer way to say so, and complains of programs that mixed them; all
    are set, the older one first, as it sets some of the newer ones.
    """
    cuda, cudnn, mkldnn = (getattr(torch.backends, name) for name in ("cuda", "cudnn", "mkldnn"))
    newer = [(cuda, "matmul"), (cudnn, "conv"), (cudnn, "rnn")]
    newer += [(mkldnn, name) for name in ("matmul", "conv", "rnn")]
    parts: list[Any] = [getattr(owner, name, None) for owner, name in newer]
    held = [(part, part.fp32_precision) for part in parts if hasattr(part, "fp32_precision")]
    try:
        matmul = torch.get_float32_matmul_precision()
    except RuntimeError:  # only the newer one was set, against the older one
        matmul = "highest" if held[0][1] == "tf32" else "high"
    try:
        convolutions = cudnn.allow_tf32
    except RuntimeError:  # the same, against what torch begins with
        convolutions = True
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    cudnn.allow_tf32 = tf32
    for part, _ in held:
        on_cpu = part in parts[3:]
        part.fp32_precision = "tf32" if tf32 and not on_cpu else "ieee"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        cudnn.allow_tf32 = convolutions
        for part, value in held:
            part.fp32_precision = "none"  # what stands further up counts
            if part.fp32_precision != value:
                part.fp32_precision = value


_products = Shared(_set_for)


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
