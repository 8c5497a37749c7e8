"""``Parameter``: one parameter of a model, whether it is maskable, and why."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nets_deap import _checks

if TYPE_CHECKING:
    from torch import nn

Selector = str | type | Sequence[str | type] | Callable[[str, Any], bool] | None


@dataclass(frozen=True)
class Parameter:
    """One parameter of a model.

    Attributes:
        name: As ``named_parameters`` has it.
        module: Type of the module that owns it.
        shape: Of the tensor.
        maskable: Whether its values are masked.
        why: The reason, in a few words.
    """

    name: str
    module: str
    shape: tuple[int, ...]
    maskable: bool
    why: str


def parameters_of(model: nn.Module, maskable: Selector = None) -> list[Parameter]:
    """Return all parameters of a model in its own order, tied ones by each of their names.

    Args:
        model: Any module.
        maskable: What is masked: None for the weights of all linear and convolutional layers; or
            names or patterns of parameters, such as ``"features.*.weight"``, and types of modules,
            such as ``nn.LSTM``, one or a list of both; or a predicate
            ``(name, parameter) -> bool``. A type selects the weights (2 or more dimensions,
            neither biases nor scales of normalisation) that modules of it own themselves.

    Raises:
        InvalidValueError: A name, pattern or type matches nothing, or nothing is maskable.
        InvalidTypeError: A type is none of modules, or what it selects is not floating-point.
    """
    owners = _owners(model)
    choose = _chooser(model, maskable, owners)
    found, seen = [], dict[int, str]()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owner, first = owners[name], seen.setdefault(id(parameter), name)
        if first != name:
            chosen, why = False, f"tied to {first}"
        else:
            chosen, why = choose(name, parameter)
            if chosen and not parameter.is_floating_point():
                raise _checks.bad_type(name, "be maskable", "a floating-point tensor", parameter)
            why += "" if parameter.requires_grad else ", frozen"
        shape = tuple(parameter.shape)
        found.append(Parameter(name, type(owner).__name__, shape, chosen, why))
    if not any(parameter.maskable for parameter in found):
        expected = f"some of {tuple(owners)}"
        hint = "Let the predicate accept at least one." if callable(maskable) else ""
        if maskable is None:
            expected = "a module with at least one linear or convolutional layer"
            hint = "Name the tensors to mask with maskable=..."
        got = f"{type(model).__name__} with the parameters {tuple(owners)}"
        raise _checks.bad_value("maskable", "select weights", expected, got, hint)
    return found


def _owners(model: nn.Module) -> dict[str, nn.Module]:
    """Return the module that owns each parameter, by every name that it has."""
    return {
        f"{path}.{name}" if path else name: module
        for path, module in model.named_modules(remove_duplicate=False)
        for name, _ in module.named_parameters(recurse=False, remove_duplicate=False)
    }


def _chooser(
    model: nn.Module, maskable: Any, owners: dict[str, nn.Module]
) -> Callable[[str, Any], tuple[bool, str]]:
    """Return what tells of a parameter whether it is chosen, and why."""
    if callable(maskable) and not isinstance(maskable, type):
        return lambda name, p: (True, "chosen") if maskable(name, p) else (False, "not chosen")
    usual = maskable is None
    items = list(_usual_kinds()) if maskable is None else maskable
    if not isinstance(items, Iterable | type):  # strings are iterable
        expected = "names, types, a list of them, or a function (name, parameter) -> bool"
        raise _checks.bad_type("maskable", "select parameters", expected, maskable)
    several = [items] if isinstance(items, (str, type)) else list(items)
    patterns = [item for item in several if isinstance(item, str)]
    kinds = tuple(item for item in several if not isinstance(item, str))
    tied: dict[int, list[str]] = {}
    for name, p in model.named_parameters(remove_duplicate=False):
        tied.setdefault(id(p), []).append(name)
    for pattern in patterns:
        if not fnmatch.filter(owners, pattern):
            _checks.choice("maskable", pattern, owners)
    for kind in () if usual else kinds:
        _check_kind(kind, model, owners)

    def choose(name: str, parameter: Any) -> tuple[bool, str]:
        names = tied[id(parameter)]
        for pattern in patterns:
            if any(fnmatch.fnmatchcase(each, pattern) for each in names):
                return True, f"chosen by {pattern!r}"
        for each in names:
            if isinstance(owners[each], kinds) and _is_weight(each, parameter, owners[each]):
                return True, _weight_of(owners[each])
        return False, _reason(name, parameter, owners[name], usual)

    return choose


def _check_kind(kind: Any, model: nn.Module, owners: dict[str, nn.Module]) -> None:
    """Raise unless a type is one of modules, and the model has weights of it."""
    from torch import nn

    if not isinstance(kind, type) or not issubclass(kind, nn.Module):
        rule = "hold names and types of modules"
        raise _checks.bad_type("maskable", rule, "str or subclasses of torch.nn.Module", kind)
    named = dict(model.named_parameters(remove_duplicate=False))
    weights = {n: owner for n, owner in owners.items() if _is_weight(n, named[n], owner)}
    if not any(isinstance(owner, kind) for owner in weights.values()):
        there = sorted({type(owner).__name__ for owner in weights.values()})
        rule = "name types that the model has weights of"
        raise _checks.bad_value("maskable", rule, f"one of {', '.join(there)}", kind.__name__)


def _is_weight(name: str, parameter: Any, owner: nn.Module) -> bool:
    """Return whether a parameter is a weight: no bias, no scale of normalisation, no vector."""
    return parameter.ndim >= 2 and not _is_bias(name) and not isinstance(owner, _normalisations())


def _is_bias(name: str) -> bool:
    """Return whether a parameter is a bias, by its name: bias, bias_ih_l0, in_proj_bias."""
    leaf = name.rpartition(".")[2]
    return leaf.startswith("bias") or leaf.endswith("bias")


def _weight_of(owner: nn.Module) -> str:
    """Return in words what a chosen weight belongs to."""
    from torch import nn

    if isinstance(owner, nn.Linear):
        return "weight of a linear layer"
    convolutional = isinstance(owner, _usual_kinds())
    return "weight of a convolution" if convolutional else f"weight of {type(owner).__name__}"


def _reason(name: str, parameter: Any, owner: nn.Module, usual: bool) -> str:
    """Return in words why a parameter is not chosen."""
    if _is_bias(name):
        return "bias"
    if isinstance(owner, _normalisations()):
        return "normalisation"
    if not usual:
        return "not chosen by maskable="
    return "vector" if parameter.ndim < 2 else "neither linear nor convolutional"


def _usual_kinds() -> tuple[type, ...]:
    """Return the types whose weights are maskable by default."""
    from torch import nn

    return (
        nn.Linear,
        nn.Conv1d,
        nn.Conv2d,
        nn.Conv3d,
        nn.ConvTranspose1d,
        nn.ConvTranspose2d,
        nn.ConvTranspose3d,
    )


def _normalisations() -> tuple[type, ...]:
    """Return the types whose weights are scales."""
    from torch import nn

    kinds: tuple[type, ...] = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm)
    return (*kinds, nn.RMSNorm) if hasattr(nn, "RMSNorm") else kinds
