"""``private_copy``: a user's module as one to train with, or in plain words why it is none."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nets_deap import _checks
from nets_deap.models.computed import computed_in
from nets_deap.models.masking import masks_of
from nets_deap.models.tensors import check_finite
from nets_deap.models.weight_norm import make_prunable
from nets_deap.models.wrappers import checked, inside, named_modules, named_parameters, unwrap

HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks",
)  # fmt: skip
PARAMETER_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
Hooks = dict[str, tuple[list[Any], list[Any]]]


def private_copy(model: Any) -> nn.Module:
    """Return a copy of a module to train with, or raise if its parameters are none to start from.

    Without wrappers of ``torch.compile`` and data parallelism, with hooks on parameters, dense
    gradients of embeddings, and weight normalisation that takes pruned rows.

    Raises:
        InvalidTypeError: It is not a module.
        InvalidValueError: A parameter or buffer has no values yet, or of a kind that cannot be
            trained; the module is masked already, scripted or quantised; nothing requires a
            gradient, or the module cannot be copied.
    """
    _check_modules(checked(model))
    for name, parameter in named_parameters(model):
        _check_tensor(name, parameter)
        if parameter.is_complex():
            got = f"{parameter.dtype} in {name!r}"
            raise _checks.bad_value("model", "have real parameters", "float32 or float64", got)
        check_finite(name, parameter)
    for path, module in named_modules(model):
        for leaf, buffer in module._buffers.items():
            if buffer is not None:
                _check_tensor(f"{path}.{leaf}" if path else leaf, buffer)
    if not any(p.requires_grad for p in model.parameters()):
        expected = "one that requires a gradient"
        raise _checks.bad_value("model", "have parameters to train", expected, "none")
    try:
        private = unwrap(copied(model))
    except Exception as error:
        hint = f"It must be one that Python can copy, or call copied anew. Python says: {error}"
        kind = type(model).__name__
        raise _checks.bad_value(
            "model", "be copyable", "what copy.deepcopy takes", kind, hint
        ) from error
    for p in private.parameters():
        p.data = p.data.contiguous()  # fused optimisers read memory in order, whatever the strides
    for module in private.modules():
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            module.sparse = False  # the same gradient: a batch of networks has no sparse ones
    make_prunable(private)
    return private


def copied(model: nn.Module) -> nn.Module:
    """Return a deep copy of a module with the hooks on its parameters, which torch leaves out.

    What a module has computed and keeps, its last activations say, is copied without its graph.
    """
    memo = computed_in(model)
    new = copy.deepcopy(model, memo)
    # With the same memo: a method of the module becomes that of the copy.
    add_hooks(new, copy.deepcopy(hooks_of(model), memo))
    return new


def set_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy values into the parameters and buffers of these names.

    ``load_state_dict`` would leave buffers out that are not persistent, and is the module's own to
    change.
    """
    own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with torch.no_grad():
        for name, tensor in state.items():
            own[name].copy_(tensor)


def hooks_of(model: nn.Module) -> Hooks:
    """Return the hooks on parameters by name: on gradients, and on their accumulation."""
    found: Hooks = {}
    for name, p in model.named_parameters():
        first, second = (list((getattr(p, kind, None) or {}).values()) for kind in PARAMETER_HOOKS)
        if first or second:
            found[name] = first, second
    return found


def add_hooks(model: nn.Module, hooks: Hooks) -> None:
    """Register hooks on the parameters of these names."""
    named = dict(model.named_parameters())
    for name, (first, second) in hooks.items():
        if named[name].requires_grad:
            for hook in first:
                named[name].register_hook(hook)  # type: ignore[no-untyped-call]
            for hook in second:
                named[name].register_post_accumulate_grad_hook(hook)  # type: ignore[no-untyped-call]


def _check_modules(model: nn.Module) -> None:
    """Raise if some module of a model cannot be trained, or says what it does elsewhere."""
    for path, module in model.named_modules():
        kind = f"{type(module).__name__}{f' at {path!r}' if path else ''}"
        if isinstance(module, torch.jit.ScriptModule):
            hint = "Give the module that it was scripted or traced from."
            raise _checks.bad_value("model", "run in Python", "no torch.jit modules", kind, hint)
        if ".quantized" in type(module).__module__:
            hint = "Give the module before its quantisation; int8_accuracy tells what int8 costs."
            raise _checks.bad_value(
                "model", "have real weights", "no quantised modules", kind, hint
            )
        if inside(module) is not None and any(vars(module).get(name) for name in HOOKS):
            hint = "Register them on the module in it."
            raise _checks.bad_value(
                "model", "have its hooks on modules", "none on a wrapper", kind, hint
            )
    for name in masks_of(model):
        hint = (
            "torch's prune.remove or parametrize.remove_parametrizations make its weights plain; "
            "for a ticket of its mask see nets.Ticket.from_pruned."
        )
        got = f"{name!r} masked already"
        raise _checks.bad_value("model", "hold its weights plainly", "a model unmasked", got, hint)


def _check_tensor(name: str, tensor: Tensor) -> None:
    """Raise unless a parameter or buffer is dense and has values."""
    if nn.parameter.is_lazy(tensor) or tensor.is_meta:
        hint = "Call the model once on a minibatch, or load its weights."
        got = f"none in {name!r}"
        raise _checks.bad_value("model", "have initial weights", "values", got, hint)
    if tensor.layout != torch.strided or tensor.is_quantized:
        got = f"{name!r}, {'quantised' if tensor.is_quantized else str(tensor.layout)}"
        hint = "Make it dense: to_dense() or dequantize()."
        raise _checks.bad_value("model", "hold dense tensors", "torch.strided", got, hint)
