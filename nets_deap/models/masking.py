"""``Masked``: how torch masks a model's parameters, and how masks are read from a model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils import parametrize, prune

from nets_deap import _checks
from nets_deap.models.computed import computed_in
from nets_deap.models.modes import neutral
from nets_deap.models.tensors import Mask, values_of
from nets_deap.models.wrappers import checked, named_modules, named_parameters, unwrap

Self = TypeVar("Self", bound="Masked")


class Masked(nn.Module):
    """A parametrization that holds the pruned weights of a tensor at zero.

    Their gradient is zero. What they were stays in ``parametrizations.NAME.original``.

    The mask goes where the module goes and stands in its state dict, but it is none of its buffers:
    what averages models averages those (``swa_utils.AveragedModel(use_buffers=True)``), and torch
    cannot subtract bools.

    Args:
        mask: Bool, of the tensor's shape, 1 = kept.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.mask = mask

    def _apply(self: Self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.mask = fn(self.mask)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        with self._as_buffer():
            super()._save_to_state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        with self._as_buffer():
            super()._load_from_state_dict(*args, **kwargs)

    @contextmanager
    def _as_buffer(self) -> Iterator[None]:
        """Let the mask be a buffer meanwhile."""
        self._buffers["mask"] = self.__dict__.pop("mask")
        try:
            yield
        finally:
            self.__dict__["mask"] = self._buffers.pop("mask")

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weights with those that are pruned as zero."""
        # Not a product: a weight that has become infinite must not make a pruned one NaN.
        return torch.where(self.mask, weight, 0)


def set_values(tensor: Tensor, values: NDArray[Any]) -> None:
    """Copy values into a tensor."""
    tensor.detach().copy_(torch.from_numpy(np.array(values)))


def masks_of(model: nn.Module) -> dict[str, Tensor]:
    """Return the masks of a model that ``torch.nn.utils.prune`` or ``Masked`` prunes.

    Returns:
        Bool tensors on the CPU by the parameters' own names, in the model's order; empty for a
        model that nothing prunes.

    Raises:
        InvalidValueError: A mask is not of zeros and ones.
    """
    found: dict[str, Tensor] = {}
    for path, module in named_modules(model):
        own: dict[str, Tensor] = {}
        for name in _pruned(module):
            own[name] = getattr(module, f"{name}_mask")
        for name, steps in _parametrized(module):
            for step in steps:
                if isinstance(step, Masked):
                    own[name] = step.mask
        for name, mask in own.items():
            found[f"{path}.{name}" if path else name] = as_bool(name, mask)
    return found


def as_bool(name: str, mask: Any) -> Tensor:
    """Return a mask of zeros and ones, a tensor or an array, as bool on the CPU."""
    tensor = torch.as_tensor(mask).detach().cpu()
    if tensor.dtype != torch.bool and not bool(((tensor == 0) | (tensor == 1)).all()):
        wrong = tensor[(tensor != 0) & (tensor != 1)][0].item()
        raise _checks.bad_value(f"masks[{name!r}]", "be a mask", "zeros and ones", wrong)
    return tensor.bool()


def check_masked(module: nn.Module, masks: Any) -> dict[str, Mask]:
    """Return masks as bool arrays, once they are known to be those of a masked network.

    Args:
        module: The network, plain.
        masks: Arrays or tensors of zeros and ones by parameter name, 1 = kept.

    Raises:
        InvalidTypeError: The masks are not a mapping.
        InvalidValueError: The module has not these parameters in these shapes, or some pruned
            weight is not zero.
    """
    if not isinstance(masks, Mapping):
        expected = "a mapping of parameter names to bool arrays, as from ticket.masks()"
        raise _checks.bad_type("masks", "be by name", expected, masks)
    named = dict(named_parameters(module))
    found: dict[str, Mask] = {}
    for name, given in masks.items():
        _checks.choice("module's parameters", name, named, "Give the network of these masks.")
        mask: Mask = as_bool(name, given).numpy()
        values = values_of(name, named[name])
        _checks.shape(f"module's {name!r}", values.shape, mask.shape, "the mask's shape")
        wrong = int(np.count_nonzero(values[~mask]))
        if wrong:
            raise _checks.bad_value(
                "module",
                "hold the ticket's network",
                f"zero at every pruned position of {name!r}",
                f"{wrong} other values",
                "Take it from TrainResult.module(), or call ticket.apply(model).",
            )
        found[name] = mask
    return found


def unmasked(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters by their own names, as they are without ``prune`` and ``Masked``."""
    found: dict[str, Tensor] = {}
    # Module by module: torch moves what it parametrizes behind all other children.
    for path, module in named_modules(model):
        if isinstance(module, parametrize.ParametrizationList) and _masks(module):
            continue
        masked = _pruned(module)
        own: dict[str, Tensor | None] = {
            name[:-5] if name.removesuffix("_orig") in masked else name: parameter
            for name, parameter in module._parameters.items()
        }
        for name, steps in _parametrized(module):
            if _masks(steps):  # other parametrizations have parameters of their own names
                own[name] = steps.original
        for name, parameter in own.items():
            if parameter is not None and all(parameter is not other for other in found.values()):
                found[f"{path}.{name}" if path else name] = parameter
    return found


@neutral()
def plain(model: nn.Module) -> nn.Module:
    """Return a copy whose weights are masked for good: neither pruned nor parametrized by torch."""
    copied = unwrap(copy.deepcopy(model, computed_in(checked(model))))
    for module in copied.modules():
        order = [*_pruned(module), *(name for name, _ in _parametrized(module))]
        for name in _pruned(module):
            prune.remove(module, name)  # type: ignore[no-untyped-call]
        named = _parametrized(module)
        if any(_masks(steps) for _, steps in named):
            # Not ``remove_parametrizations``: copies share the class that it would change.
            values = {name: getattr(module, name).detach().clone() for name, _ in named}
            needs = {name: steps.original.requires_grad for name, steps in named}
            module.__class__ = type(module).__bases__[0]
            del module.parametrizations
            for name, value in values.items():
                setattr(module, name, nn.Parameter(value, requires_grad=needs[name]))
        # What torch masks it registers anew, behind the bias: back to where layers have it.
        others = [name for name in module._parameters if name not in order]
        for name in others if order else ():
            module._parameters[name] = module._parameters.pop(name)
    return copied


def _pruned(module: nn.Module) -> list[str]:
    """Return the parameters of its own that ``torch.nn.utils.prune`` masks."""
    return [
        name[:-5]
        for name in module._buffers
        if name.endswith("_mask") and f"{name[:-5]}_orig" in module._parameters
    ]


def _masks(steps: Any) -> bool:
    """Return whether some of the steps of a parametrization mask."""
    return any(isinstance(step, Masked) for step in steps)


def _parametrized(module: nn.Module) -> list[tuple[str, Any]]:
    """Return names and steps of the parametrizations of a module's own."""
    if not parametrize.is_parametrized(module):
        return []
    found: Any = module.parametrizations
    return list(found.items())


def owners_of(model: nn.Module, names: Iterable[str], how: str) -> dict[str, nn.Module]:
    """Return the module that owns each named parameter; raise where torch cannot mask it.

    Args:
        model: Nothing masks it yet.
        names: Of parameters of the model.
        how: ``"prune"`` or ``"parametrize"``.
    """
    named = list(named_parameters(model, remove_duplicate=False))
    own, modules = dict(named), dict(named_modules(model, remove_duplicate=False))
    owners: dict[str, nn.Module] = {}
    for name in names:
        shared = [other for other, parameter in named if parameter is own[name]]
        if len(shared) > 1:
            raise _checks.bad_value(
                "how",
                "leave tied parameters tied",
                "'inplace' or 'functional'",
                how,
                f"These are one: {', '.join(shared)}.",
            )
        owners[name] = modules[name.rpartition(".")[0]]
        if how == "prune" and isinstance(owners[name], NonDynamicallyQuantizableLinear):
            raise _checks.bad_value(
                "how",
                "reach the weights of attention",
                "another way, such as 'parametrize'",
                how,
                f"Attention reads {name!r} past its layer's forward, so torch never masks it anew.",
            )
    return owners
