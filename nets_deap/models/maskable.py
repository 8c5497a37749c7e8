"""``Parameter``: one parameter of a model, whether it is maskable, and why.

One file: the rules, which are read together.
"""

from __future__ import annotations

import copy
import fnmatch
import re
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nets_deap import _checks
from nets_deap.models.wrappers import named_modules, named_parameters
from nets_deap.names import HEAD, NEURON, TWO_OF_FOUR, WEIGHT

if TYPE_CHECKING:
    from torch import nn

Selector = str | type | Sequence[str | type] | Callable[[str, Any], bool] | None

# Of modules and parameters of one's own: what is looked up or added, not multiplied with.
_EMBEDS = re.compile(r"embed|position|token|(^|_)(pos|pe|cls)($|_)", re.IGNORECASE)
_NORMALISES = re.compile(r"norm(\dd)?$", re.IGNORECASE)


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


def parameters_of(
    model: nn.Module, maskable: Selector = None, unit: str = WEIGHT
) -> list[Parameter]:
    """Return all parameters of a model in its own order, tied ones by each of their names.

    Args:
        model: Any module; what ``torch.compile`` and data parallelism wrap counts as if it were not
            wrapped.
        maskable: What is masked: None for all weights, that is, parameters of two or more
            dimensions, but those of embeddings (token, position and class embeddings of one's own
            among them, told by their name or their module's), normalisation, and what only scales
            or shifts along one axis; or names or patterns of parameters, such as
            ``"features.*.weight"``, and types of modules, such as ``nn.LSTM``, one or a list of
            both; or a predicate ``(name, parameter) -> bool``. A type selects the weights (2 or
            more dimensions, neither biases nor scales of normalisation) that modules of it own
            themselves. A name that a parameter has selects that one alone, whatever brackets it
            holds.
        unit: What one bit gates. Under ``"neuron"`` and ``"2:4"`` None selects what has such units:
            the weights of linear layers and convolutions.

    Raises:
        InvalidValueError: A name, pattern or type matches nothing, or nothing is maskable.
        InvalidTypeError: A type is none of modules, or what it selects is not floating-point.
    """
    owners = _owners(model)
    choose = _chooser(model, maskable, owners, unit)
    found, seen = [], dict[int, str]()
    for name, parameter in named_parameters(model, remove_duplicate=False):
        first = seen.setdefault(id(parameter), name)
        if first != name:
            chosen, why = False, f"tied to {first}"
        else:
            chosen, why = choose(name, parameter)
            if chosen and not parameter.is_floating_point():
                raise _checks.bad_type(name, "be maskable", "a floating-point tensor", parameter)
            why += "" if parameter.requires_grad else ", frozen"
        shape = tuple(parameter.shape)
        kind = type(owners[name].module).__name__.removeprefix("Parametrized")
        found.append(Parameter(name, kind, shape, chosen, why))
    if not any(parameter.maskable for parameter in found):
        expected = f"some of {tuple(owners)}"
        hint = "Let the predicate accept at least one." if callable(maskable) else ""
        if maskable is None:
            expected = "a module with at least one weight of two or more dimensions"
            hint = "Name the tensors to mask with maskable=..."
        got = f"{type(model).__name__} with the parameters {tuple(owners)}"
        raise _checks.bad_value("maskable", "select weights", expected, got, hint)
    return found


@dataclass(frozen=True)
class _Owner:
    """What owns a parameter.

    Attributes:
        module: The module; of a parametrized tensor the one that has it.
        leaf: The parameter's name in it.
        steps: The parametrizations that a parametrized tensor goes through; else None.
    """

    module: nn.Module
    leaf: str
    steps: Any = None


def _owners(model: nn.Module) -> dict[str, _Owner]:
    """Return what owns each parameter, by every name that it has."""
    from torch.nn.utils.parametrize import ParametrizationList

    modules = dict(named_modules(model, remove_duplicate=False))
    found = {}
    for path, module in modules.items():
        head = f"{path}." if path else ""
        for leaf, parameter in module._parameters.items():
            if parameter is None:
                continue
            owner = _Owner(module, leaf)
            if isinstance(module, ParametrizationList):  # at "0.parametrizations.weight"
                outer, _, own = path.rpartition(".")
                outer = outer.removesuffix("parametrizations").removesuffix(".")
                owner = _Owner(modules[outer], own, module)
            found[head + leaf] = owner
    # In the model's order: torch moves what it parametrizes behind all other children.
    return {name: found[name] for name, _ in named_parameters(model, remove_duplicate=False)}


def _chooser(
    model: nn.Module, maskable: Any, owners: dict[str, _Owner], unit: str
) -> Callable[[str, Any], tuple[bool, str]]:
    """Return what tells of a parameter whether it is chosen, and why."""
    if callable(maskable) and not isinstance(maskable, type):
        _checks.takes("maskable", maskable, ("name", "parameter"))
        return lambda name, p: (True, "chosen") if maskable(name, p) else (False, "not chosen")
    tied: dict[int, list[str]] = {}
    for name, p in named_parameters(model, remove_duplicate=False):
        tied.setdefault(id(p), []).append(name)
    if maskable is None:
        return lambda name, p: _by_default([owners[each] for each in tied[id(p)]], p, unit)
    if not isinstance(maskable, Iterable | type):  # strings are iterable
        expected = "names, types, a list of them, or a function (name, parameter) -> bool"
        raise _checks.bad_type("maskable", "select parameters", expected, maskable)
    several = [maskable] if isinstance(maskable, (str, type)) else list(maskable)
    patterns = [item for item in several if isinstance(item, str)]
    kinds = tuple(item for item in several if not isinstance(item, str))
    for pattern in patterns:
        if not any(_matches(name, pattern, owners) for name in owners):
            _checks.choice("maskable", pattern, owners)
    for kind in kinds:
        _check_kind(kind, model, owners)

    def choose(name: str, parameter: Any) -> tuple[bool, str]:
        names = tied[id(parameter)]
        for pattern in patterns:
            if any(_matches(each, pattern, owners) for each in names):
                return True, f"chosen by {pattern!r}"
        for each in names:
            owner = owners[each]
            if isinstance(owner.module, kinds) and not _never(owner, parameter):
                return True, _weight_of(owner.module)
        why = _never(owners[name], parameter)
        return False, why if why in ("bias", "normalisation") else "not chosen by maskable="

    return choose


def _matches(name: str, pattern: str, names: Container[str]) -> bool:
    """Return whether a pattern means a parameter; one that is a parameter's name means only it."""
    return name == pattern if pattern in names else fnmatch.fnmatchcase(name, pattern)


def _check_kind(kind: Any, model: nn.Module, owners: dict[str, _Owner]) -> None:
    """Raise unless a type is one of modules, and the model has weights of it."""
    from torch import nn

    if not isinstance(kind, type) or not issubclass(kind, nn.Module):
        rule = "hold names and types of modules"
        raise _checks.bad_type("maskable", rule, "str or subclasses of torch.nn.Module", kind)
    named = dict(named_parameters(model, remove_duplicate=False))
    modules = [owner.module for n, owner in owners.items() if not _never(owner, named[n])]
    if not any(isinstance(module, kind) for module in modules):
        there = sorted({type(module).__name__ for module in modules})
        rule = "name types that the model has weights of"
        raise _checks.bad_value("maskable", rule, f"one of {', '.join(there)}", kind.__name__)


def _by_default(owners: Sequence[_Owner], parameter: Any, unit: str) -> tuple[bool, str]:
    """Return whether a parameter with these owners is masked by default, and why."""
    reasons = [_left_out(owner, parameter, unit) for owner in owners]
    if "" not in reasons:
        return False, reasons[0]
    return True, _weight_of(owners[reasons.index("")].module)


def _left_out(owner: _Owner, parameter: Any, unit: str) -> str:
    """Return in words why a parameter is not masked by default; empty where it is."""
    from torch import nn

    why = _never(owner, parameter)
    if why:
        return why
    layer = isinstance(owner.module, _layers())
    plain = owner.leaf == "weight" and owner.steps is None
    heads = isinstance(owner.module, nn.MultiheadAttention) and owner.leaf == "in_proj_weight"
    if unit in (NEURON, HEAD, TWO_OF_FOUR) and not ((layer and plain) or (heads and unit == HEAD)):
        return f"has no units {unit!r}"
    if not parameter.is_floating_point():
        return "not floating-point"
    if layer:
        return ""
    said = (type(owner.module).__name__, owner.leaf)
    if isinstance(owner.module, (nn.Embedding, nn.EmbeddingBag)) or any(map(_EMBEDS.search, said)):
        return "embedding"
    own = not type(owner.module).__module__.startswith("torch.nn.")
    if own and sum(n > 1 for n in parameter.shape) < 2:
        return "vector"
    return ""


def _never(owner: _Owner, parameter: Any) -> str:
    """Return in words why a parameter is no weight at all; empty where it is one."""
    if owner.leaf.startswith("bias") or owner.leaf.endswith("bias"):  # in_proj_bias, bias_ih_l0
        return "bias"
    kind = type(owner.module)
    if issubclass(kind, _normalisations()) or _NORMALISES.search(kind.__name__):
        return "normalisation"
    if parameter.ndim < 2:
        return "vector"
    if _is_magnitude(owner):
        return "scale of weight normalisation"
    if owner.steps is not None and not _keeps_zeros(owner.steps, parameter):
        return f"parametrized by {type(owner.steps[0]).__name__}, which fills zeros in"
    return ""


def _is_magnitude(owner: _Owner) -> bool:
    """Return whether a parameter is the g of weight normalisation, w = g v / |v|."""
    from torch.nn.utils.weight_norm import WeightNorm

    hooks = owner.module._forward_pre_hooks.values()
    names = [f"{hook.name}_g" for hook in hooks if isinstance(hook, WeightNorm)]
    return owner.leaf in names


def _keeps_zeros(steps: Any, parameter: Any) -> bool:
    """Return whether zeros of a parametrized tensor's parameter are zeros of the tensor.

    Tried with about half of it zero: of weight normalisation those of v are, of a spectral norm
    all; a rotation, say, has none.
    """
    import torch

    from nets_deap.models.weight_norm import make_prunable

    tried = copy.deepcopy(steps).eval()
    make_prunable(tried)
    with torch.no_grad():
        place = next(i for i, p in enumerate(steps.parameters(recurse=False)) if p is parameter)
        own = list(tried.parameters(recurse=False))[place]
        generator = torch.Generator().manual_seed(0)
        zero = (torch.rand(own.shape, generator=generator) < 0.5).to(own.device)
        own.copy_(torch.where(zero, 0, torch.ones_like(own)))
        found = tried()
    return found.shape == own.shape and not bool(found[zero].any())


def _weight_of(owner: nn.Module) -> str:
    """Return in words what a chosen weight belongs to."""
    from torch import nn

    if isinstance(owner, nn.Linear):
        return "weight of a linear layer"
    convolutional = isinstance(owner, _layers())
    kind = type(owner).__name__.removeprefix("Parametrized")
    return "weight of a convolution" if convolutional else f"weight of {kind}"


def _layers() -> tuple[type, ...]:
    """Return the types of linear layers and convolutions."""
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
