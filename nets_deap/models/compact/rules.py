"""What each function of torch does to channels: a rule each, by the names in ``RULES``.

Another function is a line here, and a rule if it is of a kind of its own. A rule gives the result
its labels, and records what joins or ties their atoms (see ``graph``). What has no rule leaves the
channels that it takes as they are. One file: the table, and the rules that it names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nets_deap import _checks
from nets_deap.inputs.nested import each as leaves_as
from nets_deap.models.compact.attention import attention, matmul, multi_head
from nets_deap.models.compact.joining import kept, kept_by, layer, renew, unknown
from nets_deap.models.compact.labels import KEPT, ZERO, Atoms, Labels
from nets_deap.models.compact.records import Each, Layer, Several, Source
from nets_deap.models.compact.tracing import Call, Tracing

Rule = Callable[[Tracing, Call], None]
_MULTIPLY = {"mul", "multiply"}  # which give 0 where any number is 0
_SUMS = {"add", "sub", "rsub", "maximum", "minimum", "max", "min", "where", "masked_fill"}


def rule_of(name: str) -> Rule:
    """Return the rule of a function."""
    return RULES.get(name, unknown)


def fitted(t: Tracing, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return arguments of which the first has as many features as a layer behind flatten takes.

    Each channel gives as many of these as the others; of its numbers the first stands for all.
    """
    if name not in ("linear", "batch_norm") or not isinstance(args[0], Tensor):
        return args
    wanted = args[1].shape[-1] if args[1] is not None else args[0].shape[-1]
    x, found = args[0], t.labels(args[0])
    if x.shape[-1] == wanted or found is None or found.fixed:
        return args
    if (
        name == "linear" and found.atoms.shape[-1] == 1 and x.ndim > 2
    ):  # rows of places, as long as it takes
        new = x[..., :1].expand(*x.shape[:-1], wanted)
        t.give(new, Labels(found.atoms, tuple(new.shape)))
        return (new, *args[1:])
    if x.ndim != 2:
        return args
    atoms, _ = t.channels(x, 1)
    heads = np.flatnonzero(np.diff(atoms, prepend=-1))
    if wanted % len(heads):
        return args
    places = np.repeat(heads, wanted // len(heads))
    new = x[:, torch.from_numpy(places)]
    labels = Labels.kept(tuple(new.shape)) if found.is_kept else None
    t.give(new, labels or Labels.along(1, atoms[places], tuple(new.shape)))
    return (new, *args[1:])


# ---- what moves numbers


def created(t: Tracing, call: Call) -> None:
    """Leave a tensor that is made of nothing but a shape without labels."""


def moves(t: Tracing, call: Call) -> None:
    """Do to the atoms what is done to the numbers."""
    known: list[Labels] = []
    if call.name == "getitem" and t.follows(call.args[0]) and _picks(call.args[1]):
        unknown(t, call)  # places that it names one by one, of all that there are
        return

    def atoms_of(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if not leaf.is_floating_point() and not t.follows(leaf):  # an index
            return leaf
        found = t.labels(leaf)
        if found is None:  # something of its own beside what is known
            return torch.full(leaf.shape, KEPT, dtype=torch.float64)
        known.append(found)
        return found.whole()

    args, kwargs = leaves_as((call.args, call.kwargs), atoms_of)
    if not known:
        return
    # The atoms do not lie in memory as the numbers do, which matters to views alone.
    func = Tensor.reshape if call.name == "view" else call.func
    if call.name == "view" and isinstance(call.get(1, "dtype"), torch.dtype):
        unknown(t, call)
        return
    moved = func(*args, **kwargs)
    fixed = all(found.fixed for found in known)
    same = len(known) == 1 and isinstance(call.out, Tensor) and call.out.shape == known[0].shape
    outs = [call.out] if isinstance(call.out, Tensor) else list(call.out)
    for out, one in zip(outs, [moved] if isinstance(moved, Tensor) else moved, strict=True):
        found = Labels.of(one, fixed)
        sums = same and known[0].sums_to_one and _alike(found, known[0])
        t.give(out, Labels(found.atoms, found.shape, fixed, sums))


def _picks(index: Any) -> bool:
    """Return whether an index holds lists or tensors of places."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, (list, Tensor, np.ndarray)) for part in parts)


def _alike(one: Labels, other: Labels) -> bool:
    return one.atoms.shape == other.atoms.shape and bool((one.atoms == other.atoms).all())


def same(t: Tracing, call: Call) -> None:
    """Pass labels on: the same numbers, of another type or in another place."""
    if (found := t.labels(call.args[0])) is not None:
        t.give(call.out, found)


def dropout(t: Tracing, call: Call) -> None:
    """Pass labels on; dropout does nothing in evaluation."""
    if call.get(2, "training", True):
        expected = "no dropout in evaluation mode"
        raise _checks.bad_value("module", "be in evaluation mode", expected, call.where)
    same(t, call)


def pad(t: Tracing, call: Call) -> None:
    """Put zeros around images; what else is put there stays."""
    x, sizes = call.args[0], call.get(1, "pad")
    mode, value = call.get(2, "mode", "constant"), call.get(3, "value", None)
    found = t.labels(x)
    if found is None or mode != "constant":
        moves(t, call)
        return
    axes = [x.ndim - 1 - i // 2 for i, size in enumerate(sizes) if size]
    plain = not value and all(found.atoms.shape[axis] == 1 for axis in axes)
    filled = torch.nn.functional.pad(found.whole(), sizes, value=ZERO if plain else KEPT)
    t.give(call.out, Labels.of(filled, found.fixed))


# ---- numbers one by one


def one_by_one(t: Tracing, call: Call) -> None:
    """Give each number a new one: by itself, or with others that stand in its place."""
    given = [a for a in (*call.args, *call.kwargs.values()) if isinstance(a, Tensor)]
    many = [a for a in given if t.labels(a) is not None or a.numel() > 1]
    if len(many) == 1 and t.follows(many[0]) and many[0].shape == call.out.shape:
        renew(t, call, many[0], shifts=_moves_zero(call, many[0]))
    else:
        _meet(t, call, many)


def _moves_zero(call: Call, x: Tensor) -> bool:
    """Return whether a function of one tensor, and of numbers, may give something else for 0."""
    zero = torch.zeros(1, dtype=x.dtype)
    args, kwargs = leaves_as((call.args, call.kwargs), lambda leaf: zero if leaf is x else leaf)
    return bool((call.func(*args, **kwargs) != 0).any())


def _meet(t: Tracing, call: Call, given: list[Any]) -> None:
    """Join the numbers of several tensors that stand in the same place."""
    out: Tensor = call.out
    ndim, shape = out.ndim, tuple(out.shape)
    found = [t.labels(a) for a in given]
    sizes = [f.broadcast(ndim)[1] if f else (1,) * (ndim - a.ndim) + tuple(a.shape)
             for f, a in zip(found, given, strict=True)]  # fmt: skip
    known = [f for f in found if f is not None]
    atoms = [f.broadcast(ndim)[0] for f in known]
    if not known:
        return
    spread = np.broadcast_shapes(*(a.shape for a in atoms))
    # Along an axis that tells channels apart each must tell them apart, or be the same for all.
    fits = all(
        size[axis] == 1 or (f is not None and f.broadcast(ndim)[0].shape[axis] == spread[axis])
        for f, size in zip(found, sizes, strict=True)
        for axis in range(ndim)
        if spread[axis] > 1
    )
    flowing = [a for a, f in zip(atoms, known, strict=True) if not f.fixed]
    if fits and not flowing:  # made of parameters alone: it goes as they do
        largest = max(atoms, key=lambda one: one.size)
        for one in atoms:
            if one.size > 1:
                t.graph.tie(np.broadcast_to(largest, spread), np.broadcast_to(one, spread))
        t.give(out, Labels(np.broadcast_to(largest, spread), shape, fixed=True))
        return
    if not fits:
        for f in known:
            t.graph.keep(f.atoms, call.where)
        if flowing:
            t.give(out, Labels.kept(shape))
        return
    whole = np.broadcast_shapes(*(a.shape for a in flowing))
    srcs = [np.broadcast_to(a, whole).reshape(-1) for a in flowing]
    old, place = np.unique(np.stack(srcs), axis=1, return_inverse=True)
    place = place.reshape(-1)
    if (old == KEPT).all():
        _tie_fixed(t, np.full(whole, KEPT), known, ndim, spread)
        t.give(out, Labels.kept(shape))
        return
    new = t.graph.new(old.shape[1])
    labels = new[place].reshape(whole)
    others = [f for f in found if f is None or f.fixed]
    places = _tie_fixed(t, labels, known, ndim, spread)
    loose = any(f is None for f in found)
    varied = np.isin(new, places) | loose
    more: dict[str, Any] = {"multiplies": call.name in _MULTIPLY}
    if not more["multiplies"]:
        more["shifts"] = bool(others) or call.name not in _SUMS or _has_number(call)
        more["places"] = varied
    else:
        more["borders"] = bool(loose or len(places))
    t.graph.records.append(Each(new, tuple(old), **more))
    for row, one in zip(old, flowing, strict=True):
        if one.size == 1 and labels.size > 1:  # the same for all of them: it stays
            t.graph.keep(row, call.where)
        else:
            t.graph.tie(new, row)
    t.give(out, Labels(labels, shape))


def _tie_fixed(
    t: Tracing, labels: Atoms, known: list[Labels], ndim: int, spread: tuple[int, ...]
) -> Atoms:
    """Tie parameters to the atoms that they meet; return those that meet several of its numbers."""
    varied = []
    for f in known:
        if not f.fixed:
            continue
        own = np.broadcast_to(f.broadcast(ndim)[0], spread).reshape(-1)
        met = np.broadcast_to(labels, spread).reshape(-1)
        if f.atoms.size > 1:
            t.graph.tie(met, own)
        pairs = np.unique(np.stack([met, own]), axis=1)[0]
        names, counts = np.unique(pairs, return_counts=True)
        varied.append(names[counts > 1])
    return np.concatenate(varied) if varied else np.zeros(0, np.int64)


def _has_number(call: Call) -> bool:
    """Return whether a number other than 0 is added to a tensor."""
    given = (*call.args, *call.kwargs.values())
    return any(a for a in given if isinstance(a, (int, float)) and not isinstance(a, bool))


def prelu(t: Tracing, call: Call) -> None:
    """Multiply numbers below 0 by a slope for each channel."""
    x, slopes = call.args[0], call.get(1, "weight")
    atoms, borders = t.channels(x, min(1, x.ndim - 1))
    new = t.graph.new(len(atoms))
    name = t.names.get(id(slopes))
    if name is None:
        unknown(t, call)
        return
    if slopes.numel() > 1:
        t.graph.place(name, 0, new)
    t.each(new, atoms, borders=borders.any())
    t.give(call.out, Labels.along(min(1, x.ndim - 1), new, tuple(call.out.shape)))


# ---- places


def per_channel(t: Tracing, call: Call) -> None:
    """Give each channel of images new numbers that come of its own alone."""
    x = call.args[0]
    if not t.follows(x):
        unknown(t, call)
        return
    digits = [c for c in call.name if c.isdigit()]
    axis = x.ndim - 1 - int(digits[0]) if digits else 1
    atoms, borders = t.channels(x, axis)
    outs = [call.out] if isinstance(call.out, Tensor) else list(call.out)
    if (atoms == KEPT).all():
        for out in outs:
            t.give(out, Labels.kept(tuple(out.shape)))
        return
    old, place = np.unique(atoms, return_inverse=True)
    for i, out in enumerate(outs):  # behind the first are places, which differ
        new = t.graph.new(len(old))
        t.each(new, old, borders=bool(borders.any()) or _counts_zeros(call), places=i > 0)
        t.give(out, Labels.along(axis, new[place], tuple(out.shape)))


def _counts_zeros(call: Call) -> bool:
    """Return whether an average counts zeros around the image."""
    if not call.name.startswith("avg_pool"):
        return False
    padding = call.get(3, "padding", 0)
    pads = any(padding) if isinstance(padding, (tuple, list)) else bool(padding)
    counts, divisor = call.get(5, "count_include_pad", True), call.get(6, "divisor_override")
    return (pads and bool(counts)) or divisor is not None


def reduces(t: Tracing, call: Call) -> None:
    """Take a mean, a sum or a maximum along axes."""
    x = call.args[0]
    found = t.labels(x)
    if found is None or found.fixed:
        unknown(t, call)
        return
    given = call.get(1, "dim", call.kwargs.get("axis"))
    if isinstance(given, bool):  # how a deviation is counted, over all
        given = None
    if isinstance(given, Tensor):  # two tensors: the greater number of each pair
        one_by_one(t, call)
        return
    axes = range(x.ndim) if given is None else [given] if isinstance(given, int) else given
    axes = [axis % x.ndim for axis in axes]
    out = call.out if isinstance(call.out, Tensor) else call.out[0]
    if any(found.atoms.shape[axis] > 1 for axis in axes):
        t.keep(x, call.where)
        kept(t, call)
        return
    keeps = out.ndim == x.ndim
    old, place = np.unique(found.atoms, return_inverse=True)
    for i, one in enumerate([call.out] if isinstance(call.out, Tensor) else call.out):
        atoms = old
        if not found.is_kept:
            atoms = t.graph.new(len(old))
            # Behind the first are places, which differ.
            t.each(atoms, old, shifts=call.name in ("prod", "logsumexp"), places=i > 0)
        labels = atoms[place.reshape(found.atoms.shape)]
        if not keeps:
            labels = labels.reshape([n for i, n in enumerate(labels.shape) if i not in axes])
        t.give(one, Labels(labels, tuple(one.shape)))


def softmax(t: Tracing, call: Call) -> None:
    """Divide by the sum along one axis."""
    x, axis = call.args[0], call.get(1, "dim")
    found = t.labels(x)
    if found is None or not isinstance(axis, int) or found.atoms.shape[axis] > 1:
        unknown(t, call)
        return
    renew(t, call, x, shifts=True)
    new = t.labels(call.out)
    assert new is not None
    sums = call.name == "softmax" and axis % x.ndim == x.ndim - 1
    t.give(call.out, Labels(new.atoms, new.shape, sums_to_one=sums))


# ---- normalisation


def batch_norm(t: Tracing, call: Call) -> None:
    """Scale and shift each channel by numbers of its own."""
    x = call.args[0]
    more = [call.get(i, name) for i, name in enumerate(
        ("running_mean", "running_var", "weight", "bias"), start=1)]  # fmt: skip

    def run() -> Atoms:
        # Behind flatten a channel has several numbers, each of which is scaled by its own.
        atoms, borders = t.channels(x, 1)
        new = t.graph.new(len(atoms))
        factor, term = (t.names.get(id(one)) for one in more[2:])
        t.each(new, atoms, shifts=True, borders=bool(borders.any()), factor=factor, term=term)
        t.give(call.out, Labels.along(1, new, tuple(call.out.shape)))
        return new

    _scaled(t, call, x, more, run)


def _scaled(
    t: Tracing, call: Call, x: Tensor, tensors: list[Any], run: Callable[[], Atoms]
) -> None:
    """Note what vectors of one number a channel count; where one is none of the model's, stay."""
    named = [t.names.get(id(one)) for one in tensors if one is not None]
    if None in named or not t.follows(x):
        unknown(t, call)
        return
    atoms = run()
    if isinstance(t.modules[call.layer], (nn.modules.batchnorm._NormBase, nn.GroupNorm)):
        t.graph.place(call.layer, -1, atoms)
    for name in named:
        assert name is not None
        t.graph.place(name, 0, atoms)


def group_norm(t: Tracing, call: Call) -> None:
    """Normalise some channels together: they go together, or stay where that is all of them."""
    x, n = call.args[0], call.get(1, "num_groups")
    more = [call.get(2, "weight"), call.get(3, "bias")]
    if n == 1:
        unknown(t, call)
        return

    def run() -> Atoms:
        atoms, _ = t.channels(x, 1)
        parts = atoms.reshape(n, -1)
        pooled = t.graph.new(n)
        dst = np.broadcast_to(pooled[:, None], parts.shape)
        t.graph.records.append(Several(dst.reshape(-1), parts.reshape(-1), borders=False))
        t.graph.tie(dst, parts)
        new = t.graph.new(x.shape[1])
        factor, term = (t.names.get(id(one)) for one in more)
        src = np.repeat(pooled, parts.shape[1])
        t.each(new, src, shifts=True, borders=True, factor=factor, term=term)
        t.give(call.out, Labels.along(1, new, tuple(call.out.shape)))
        return new

    _scaled(t, call, x, more, run)


# ---- layers with weights


def linear(t: Tracing, call: Call) -> None:
    """Join all features along the last axis."""
    x, weight, bias = call.args[0], call.get(1, "weight"), call.get(2, "bias")
    layer(t, call, x, x.ndim - 1, weight, bias, out_axis=call.out.ndim - 1)


def convolution(t: Tracing, call: Call) -> None:
    """Join all channels of images, in groups or all together."""
    x, weight, bias = call.args[0], call.get(1, "weight"), call.get(2, "bias")
    spatial = int(call.name[-2])
    turned = "transpose" in call.name
    groups = call.get(6, "groups", 1)
    kernel = tuple(weight.shape[2:])
    if turned:
        # Each number is spread over places, so that a constant gives no constant.
        pads = any(size > 1 for size in kernel)
    else:
        padding = call.get(4, "padding", 0)
        if isinstance(padding, str):
            pads = padding == "same" and any(size > 1 for size in kernel)
        else:
            pads = any(padding) if isinstance(padding, (tuple, list)) else bool(padding)
    axis = x.ndim - 1 - spatial
    layer(t, call, x, axis, weight, bias, out_axis=axis, groups=groups, turned=turned, pads=pads)


def embedding(t: Tracing, call: Call) -> None:
    """Look up rows of a table: features that vary."""
    name = t.names.get(id(call.get(1, "weight")))
    if name is None:
        unknown(t, call)
        return
    atoms = t.graph.new(call.out.shape[-1])
    t.graph.records.append(Source(atoms))
    t.graph.place(name, 1, atoms)
    t.give(call.out, Labels.along(call.out.ndim - 1, atoms, tuple(call.out.shape)))


def recurrent(t: Tracing, call: Call) -> None:
    """Join what a recurrent layer is given; its own units read each other and stay."""
    x, state, cell = call.args[0], call.args[1], call.name.endswith("_cell")
    weights = call.args[2:] if cell else call.get(2, "params")
    names = {t.names.get(id(w)): w for w in weights if isinstance(w, Tensor)}
    first = [n for n in names if n and "weight_ih" in n and (cell or "_l0" in n)]
    if not first or None in names or not t.follows(x):
        unknown(t, call)
        return
    leaves_as(state, lambda leaf: kept_by(t, leaf, call.where))
    src, borders = t.channels(x, x.ndim - 1)
    for name in first:
        bias = name.replace("weight_ih", "bias_ih")
        dst, has = np.full(len(names[name]), KEPT), bias in names
        t.graph.records.append(
            Layer(dst, src, name, bias if has else None, folds=has, pads=borders)
        )
        t.graph.place(name, 1, src)
    kept(t, call)


_RULES: dict[Rule, str] = {
    moves: """
        view reshape flatten unflatten permute transpose swapaxes swapdims movedim moveaxis t T mT
        squeeze unsqueeze cat concat concatenate stack hstack vstack chunk split tensor_split
        unbind getitem select narrow expand expand_as repeat tile repeat_interleave flip roll
        pixel_shuffle pixel_unshuffle channel_shuffle view_as reshape_as
        """,
    same: """
        contiguous clone detach data to type float double half bfloat16 type_as cpu alias identity
        requires_grad
        """,
    dropout: "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout",
    pad: "pad",
    one_by_one: """
        add sub rsub mul multiply div true_divide truediv rtruediv pow neg abs exp log log1p expm1
        sqrt rsqrt square reciprocal sin cos erf sign floor ceil round clamp clip clamp_min
        clamp_max relu relu6 leaky_relu elu selu celu gelu silu mish softplus softsign tanh sigmoid
        logsigmoid hardtanh hardsigmoid hardswish threshold tanhshrink softshrink hardshrink
        maximum minimum where masked_fill lerp addcmul eq ne lt le gt ge logical_not logical_and
        logical_or bitwise_not nan_to_num invert
        """,
    prelu: "prelu",
    per_channel: """
        max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
        adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
        adaptive_max_pool3d lp_pool1d lp_pool2d max_pool1d_with_indices max_pool2d_with_indices
        max_pool3d_with_indices interpolate upsample
        """,
    reduces: "mean sum amax amin max min prod var std logsumexp argmax argmin any all",
    softmax: "softmax log_softmax softmin",
    batch_norm: "batch_norm instance_norm",
    group_norm: "group_norm",
    linear: "linear",
    convolution: "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
    embedding: "embedding",
    recurrent: "gru lstm rnn_tanh rnn_relu gru_cell lstm_cell rnn_tanh_cell rnn_relu_cell",
    matmul: "matmul bmm mm",
    attention: "scaled_dot_product_attention",
    multi_head: "multi_head_attention_forward",
    created: """
        zeros_like ones_like full_like empty_like rand_like randn_like new_zeros new_ones new_full
        new_empty new_tensor zeros ones full empty arange linspace eye tensor as_tensor randn rand
        tril triu
        """,
}
RULES: dict[str, Rule] = {name: rule for rule, names in _RULES.items() for name in names.split()}
