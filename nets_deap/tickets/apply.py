"""Applying masks to a model, over W0 or over its own weights, in the ways that torch knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from nets_deap import _checks
from nets_deap.models.masking import Masked, masks_of, owners_of, set_values, unmasked
from nets_deap.models.modes import neutral
from nets_deap.models.tensors import check_values, digest_of, values_of
from nets_deap.models.weight_norm import make_prunable
from nets_deap.models.wrappers import named_parameters
from nets_deap.tickets.layout import MaskLayout

Masks = Mapping[str, Tensor]

WAYS = ("inplace", "prune", "parametrize", "functional")
VALUES = ("initial", "own")


@neutral()
def apply(
    layout: MaskLayout,
    masks: Masks,
    model: nn.Module,
    how: str = "inplace",
    values: str | None = None,
) -> Any:
    """Mask the maskable weights of a model, W0 or its own; see ``Ticket.apply``.

    Args:
        layout: Of the weights, with W0 or its digest.
        masks: The mask of each layer, bool, by its parameter's name.
        model: A model with these layers.
        how: One of ``WAYS``.
        values: One of ``VALUES``; None where both are the same.
    """
    _checks.choice("how", how, WAYS)
    masked_already = [name for name in masks_of(model) if name in masks]
    if masked_already:
        raise _checks.bad_value(
            "model",
            "hold its weights plainly",
            "a model that nothing masks",
            f"one whose {masked_already[0]!r} is masked already",
            "Take a new copy of the model; torch's prune.remove or "
            "parametrize.remove_parametrizations make its weights plain.",
        )
    named: dict[str, Tensor] = dict(named_parameters(model))
    if how == "functional":
        copies = {name: tensor.detach().clone() for name, tensor in named.items()}
        masked(layout, masks, copies, values)
        # As the model itself calls them, wrapped or not.
        return dict(zip(dict(model.named_parameters()), copies.values(), strict=True))
    make_prunable(model)
    if how == "inplace":
        masked(layout, masks, named, values)
        return model
    owners = owners_of(model, masks, how)
    _put(layout, named, values)
    for name, mask in masks.items():
        own, mask = name.rpartition(".")[2], mask.to(named[name].device)
        if how == "prune":
            prune.custom_from_mask(owners[name], own, mask)  # type: ignore[no-untyped-call]
        else:
            parametrize.register_parametrization(owners[name], own, Masked(mask))
    return model


def masked(
    layout: MaskLayout, masks: Masks, tensors: dict[str, Tensor], values: str | None = None
) -> dict[str, Tensor]:
    """Set those of some named tensors that are masked to W0 times the mask, in place; return all.

    Args:
        layout: Of the weights, with W0 or its digest.
        masks: The mask of each layer, bool, by its parameter's name.
        tensors: Of a model, by name.
        values: See ``apply``; with ``"own"`` what they hold instead of W0.

    Raises:
        InvalidValueError: They are those of another model, or hold other initial weights.
    """
    _put(layout, tensors, values)
    for name, mask in masks.items():
        tensor = tensors[name].detach()
        tensor.masked_fill_(~mask.to(tensor.device), 0)
    return tensors


@neutral()
def as_pruned(
    layout: MaskLayout, masks: Masks, tensors: Mapping[str, Tensor], values: str | None = None
) -> dict[str, Tensor]:
    """Return named tensors with W0 and masks under the names of ``torch.nn.utils.prune``.

    Args:
        layout: Of the weights, with W0 or its digest.
        masks: The mask of each layer, bool, by its parameter's name.
        tensors: Of a model, by name; they stay untouched.
        values: See ``apply``; with ``"own"`` what they hold instead of W0.

    Raises:
        InvalidValueError: They are those of another model, or hold other initial weights.
    """
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    _put(layout, copies, values)
    found = {name: tensor for name, tensor in copies.items() if name not in masks}
    for name, mask in masks.items():
        found[f"{name}_orig"], found[f"{name}_mask"] = copies[name], mask.to(copies[name].dtype)
    return found


def layout_with(masks: Mapping[str, Any], model: nn.Module) -> MaskLayout:
    """Return the layout of the masked parameters of a model; W0 is what they hold unmasked.

    Args:
        masks: By the parameters' own names; only the names matter.
        model: Plain, pruned or parametrized.
    """
    tensors = unmasked(model)
    for name in masks:
        _checks.choice("masks' layers", name, tensors, "The masks belong to another model.")
    order = [name for name in tensors if name in masks]
    flat = [values_of(name, tensors[name]).reshape(-1) for name in order]
    shapes = [(name, tuple(tensors[name].shape)) for name in order]
    if not flat:
        raise _checks.bad_value(
            "masks", "name layers", "at least one", "none", "Is the model pruned at all?"
        )
    return MaskLayout(shapes, np.concatenate(flat))


def _put(layout: MaskLayout, named: Mapping[str, Tensor], values: str | None) -> None:
    """Put W0 into named tensors, or leave what they hold; see ``apply``.

    Nothing is changed where it raises.
    """
    if values is not None:
        _checks.choice("values", values, VALUES)
    hint = (
        "The ticket was made for another model, or these are pruned already. For the same layers "
        "under other names make one by Ticket.from_masks({its name: mask, ...}, model)."
    )
    for layer in layout.layers:
        _checks.choice("layer", layer.name, named, hint)
        _checks.shape(layer.name, named[layer.name].shape, layer.shape, "the ticket's layer")
        check_values(layer.name, named[layer.name])
    if values == "own":
        return
    if layout.initial is None:
        _check_digest(layout, named)
        return  # they hold it
    initial = layout.split(layout.initial)
    if values is None:
        for name, known in initial.items():
            _check_untrained(name, named[name], known)
    for name, known in initial.items():
        set_values(named[name], known)


def _check_untrained(name: str, tensor: Tensor, initial: NDArray[Any]) -> None:
    """Raise unless a tensor holds W0, masked or not: else training would be lost without a word."""
    held = tensor.detach().cpu()
    other = (held != torch.from_numpy(np.array(initial)).to(held.dtype)) & (held != 0)
    if bool(other.any()):
        raise _checks.bad_value(
            "values",
            "say which weights are meant",
            "'own' or 'initial' for a model that does not hold W0",
            f"None, and {int(other.sum())} other weights in {name!r}",
            "values='own' masks the weights that the model holds, trained ones say; "
            "values='initial' puts W0 over them.",
        )


def _check_digest(layout: MaskLayout, named: Mapping[str, Tensor]) -> None:
    """Raise unless tensors hold the W0 whose digest a layout knows."""
    held = layout.join({name: values_of(name, named[name]) for name in layout.names})
    if digest_of(held) != layout.initial_digest:
        raise _checks.bad_value(
            "model",
            "hold the ticket's initial weights",
            f"weights with SHA-256 {layout.initial_digest[:16]}...",
            digest_of(held)[:16] + "...",
            "Rebuild the model with the seed of the task, or save the ticket with "
            "include_initial=True; values='own' masks the weights that the model holds.",
        )
