"""Applying masks: a model whose weights are W0 times the mask, in the ways that torch knows."""

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
from nets_deap.tickets.layout import MaskLayout

Masks = Mapping[str, Tensor]

WAYS = ("inplace", "prune", "parametrize", "functional")


@neutral()
def apply(layout: MaskLayout, masks: Masks, model: nn.Module, how: str = "inplace") -> Any:
    """Make the maskable weights of a model W0 times the mask; see ``Ticket.apply``.

    Args:
        layout: Of the weights, with W0 or its digest.
        masks: The mask of each layer, bool, by its parameter's name.
        model: A model with these layers.
        how: One of ``WAYS``.
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
    named: dict[str, Tensor] = dict(model.named_parameters())
    if how == "functional":
        copies = {name: tensor.detach().clone() for name, tensor in named.items()}
        return masked(layout, masks, copies)
    if how == "inplace":
        masked(layout, masks, named)
        return model
    initial = _initial_of(layout, named)
    owners = owners_of(model, masks, how)
    for name, mask in masks.items():
        set_values(named[name], initial[name])
        own, mask = name.rpartition(".")[2], mask.to(named[name].device)
        if how == "prune":
            prune.custom_from_mask(owners[name], own, mask)  # type: ignore[no-untyped-call]
        else:
            parametrize.register_parametrization(owners[name], own, Masked(mask))
    return model


def masked(layout: MaskLayout, masks: Masks, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Set those of some named tensors that are masked to W0 times the mask, in place; return all.

    Raises:
        InvalidValueError: They are those of another model, or hold other initial weights.
    """
    for name, values in _initial_of(layout, tensors).items():
        kept = masks[name].numpy()
        set_values(tensors[name], np.where(kept, values, values.dtype.type(0)))
    return tensors


@neutral()
def as_pruned(layout: MaskLayout, masks: Masks, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return named tensors with W0 and masks under the names of ``torch.nn.utils.prune``.

    Raises:
        InvalidValueError: They are those of another model, or hold other initial weights.
    """
    found = dict(tensors)
    for name, values in _initial_of(layout, tensors).items():
        original = torch.empty_like(found.pop(name))
        set_values(original, values)
        found[f"{name}_orig"], found[f"{name}_mask"] = original, masks[name].to(original.dtype)
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


def _initial_of(layout: MaskLayout, named: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Return W0 by name: the layout's, or what tensors of the same shapes hold if that is W0."""
    hint = (
        "The ticket was made for another model, or these are pruned already. For the same layers "
        "under other names make one by Ticket.from_masks({its name: mask, ...}, model)."
    )
    for layer in layout.layers:
        _checks.choice("layer", layer.name, named, hint)
        _checks.shape(layer.name, named[layer.name].shape, layer.shape, "the ticket's layer")
        check_values(layer.name, named[layer.name])
    if layout.initial is not None:
        return layout.split(layout.initial)
    initial = layout.join({name: values_of(name, named[name]) for name in layout.names})
    if digest_of(initial) != layout.initial_digest:
        raise _checks.bad_value(
            "model",
            "hold the ticket's initial weights",
            f"weights with SHA-256 {layout.initial_digest[:16]}...",
            digest_of(initial)[:16] + "...",
            "Rebuild the model with the seed of the task, or save the ticket with "
            "include_initial=True.",
        )
    return layout.split(initial)
