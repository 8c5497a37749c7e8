"""What several rules share: how a layer with weights is recorded, and how channels stay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from nets_deap.inputs.nested import each as leaves_as
from nets_deap.models.compact.labels import Labels
from nets_deap.models.compact.records import Layer
from nets_deap.models.compact.tracing import Call, Tracing


def unknown(t: Tracing, call: Call) -> None:
    """Let all that a function takes stay, and all that it gives."""
    leaves_as((call.args, call.kwargs), lambda leaf: kept_by(t, leaf, call.where))
    kept(t, call)


def kept(t: Tracing, call: Call) -> None:
    """Let all that a function gives stay."""
    leaves_as(call.out, lambda leaf: _all_kept(t, leaf))


def kept_by(t: Tracing, leaf: Any, where: str) -> None:
    """Let a leaf of what a function takes stay, if it is a tensor of labels."""
    if isinstance(leaf, Tensor) and t.is_labelled(leaf):
        t.keep(leaf, where)


def _all_kept(t: Tracing, leaf: Any) -> None:
    if isinstance(leaf, Tensor):
        t.give(leaf, Labels.kept(tuple(leaf.shape)))


def layer(
    t: Tracing, call: Call, x: Tensor, axis: int, weight: Any, bias: Any, *,
    out_axis: int, groups: int = 1, turned: bool = False, pads: bool = False,
) -> None:  # fmt: skip
    """Record a layer with weights of the model's own."""
    name, bias_name = t.names.get(id(weight)), t.names.get(id(bias))
    if name is None or not t.follows(x) or (bias is not None and bias_name is None):
        unknown(t, call)
        return
    src, borders = t.channels(x, axis)
    n_out = call.out.shape[out_axis]
    dst = t.graph.new(n_out)
    owner = t.modules[call.layer]
    own = isinstance(owner, (nn.Linear, nn.modules.conv._ConvNd)) and owner.weight is weight
    folds = (bias is not None or own) and not any(r.weight == name for r in t.graph.records
                                                  if isinstance(r, Layer))  # fmt: skip
    if not folds:  # used twice: what is a constant here need not be one there
        for i, record in enumerate(t.graph.records):
            if isinstance(record, Layer) and record.weight == name:
                t.graph.records[i] = _unfolding(record)
    layer = Layer(
        dst, src, name, bias_name, groups=groups, turned=turned, folds=folds, pads=borders | pads
    )
    t.graph.records.append(layer)
    outs, ins = (1, 0) if turned else (0, 1)
    if groups == 1:
        t.graph.place(name, outs, dst)
        t.graph.place(name, ins, src)
    else:  # the channels of one group go together
        t.graph.place(name, 0, src if turned else dst)
        parts = [some.reshape(groups, -1) for some in (src, dst)]
        for part in parts:
            t.graph.tie(part, parts[0][:, :1])
    if bias_name is not None:
        t.graph.place(bias_name, 0, dst)
    t.give(call.out, Labels.along(out_axis, dst, tuple(call.out.shape)))


def _unfolding(layer: Layer) -> Layer:
    """Return a layer whose constants stay."""
    return replace(layer, folds=False)


def renew(t: Tracing, call: Call, x: Tensor, **more: Any) -> None:
    """Give the result new atoms, one for each of the input's."""
    found = t.labels(x)
    assert found is not None
    if found.is_kept:
        t.give(call.out, Labels(found.atoms, tuple(call.out.shape)))
        return
    old, place = np.unique(found.atoms, return_inverse=True)
    new = t.graph.new(len(old))
    t.each(new, old, **more)
    t.give(call.out, Labels(new[place.reshape(found.atoms.shape)], tuple(call.out.shape)))
