"""Wrappers: what ``torch.compile`` and data parallelism put around a module, seen through.

A wrapper computes what the module in it computes, but its parameters have other names
(``_orig_mod.0.weight``, ``module.0.weight``). Here they have those of the module alone, so that a
ticket is the same whether its network is compiled or spread over devices or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nets_deap import _checks

if TYPE_CHECKING:
    from torch import nn


def checked(model: Any) -> nn.Module:
    """Return what is given as a model, or raise unless it is a module."""
    from torch import nn

    if not isinstance(model, nn.Module):
        hint = ""
        if hasattr(model, "val_loss") and callable(getattr(model, "module", None)):
            hint = "A result's trained network is result.module()."
        elif isinstance(model, type) and issubclass(model, nn.Module):
            hint = f"That is the class: make one, {model.__name__}(...)."
        raise _checks.bad_type("model", "be a module", "a torch.nn.Module", model, hint)
    return model


def inside(module: nn.Module) -> nn.Module | None:
    """Return the module in a wrapper; None for any other module."""
    from torch import nn  # tickets name parameters without the cost of importing torch

    if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        found = module._modules.get("module")
    else:  # the type itself would import all of torch's compiler
        found = module._modules.get("_orig_mod")
    return found


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module in all wrappers around it; itself where there are none."""
    inner = inside(module)
    return module if inner is None else unwrapped(inner)


def unwrap(model: nn.Module) -> nn.Module:
    """Take all wrappers out of a model, in place; return what was in the outermost ones."""
    model = unwrapped(model)
    for module in list(model.modules()):
        module._compiled_call_impl = None  # what ``module.compile()`` leaves
        for name, child in module._modules.items():
            if child is not None:
                module._modules[name] = unwrapped(child)
    return model


def named_modules(
    model: nn.Module, *, remove_duplicate: bool = True
) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules of a model but wrappers, by the names that they have without these."""
    names: dict[str, str] = {}
    wrappers: set[str] = set()
    for path, module in checked(model).named_modules(remove_duplicate=remove_duplicate):
        parent, _, leaf = path.rpartition(".")
        if not path:
            names[path] = ""
        elif parent in wrappers:
            names[path] = names[parent]
        else:
            names[path] = f"{names[parent]}.{leaf}" if names[parent] else leaf
        if inside(module) is None:
            yield names[path], module
        else:
            wrappers.add(path)


def named_parameters(
    model: nn.Module, *, remove_duplicate: bool = True
) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the parameters of a model by the names that they have without wrappers."""
    seen: set[int] = set()
    for path, module in named_modules(model, remove_duplicate=remove_duplicate):
        for leaf, parameter in module._parameters.items():
            if parameter is None or (remove_duplicate and id(parameter) in seen):
                continue
            seen.add(id(parameter))
            yield f"{path}.{leaf}" if path else leaf, parameter
