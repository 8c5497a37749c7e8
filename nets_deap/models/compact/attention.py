"""What attention does to channels: heads go whole, with all that they take and give.

Within a head queries and keys are multiplied with each other and summed: none of them can go
alone. From head to head nothing is summed before the layer that joins them.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from nets_deap.models.compact.joining import layer, unknown
from nets_deap.models.compact.labels import Atoms, Labels
from nets_deap.models.compact.records import Layer, Several
from nets_deap.models.compact.tracing import Call, Tracing


def matmul(t: Tracing, call: Call) -> None:
    """Multiply matrices: by weights, or of two results with each other."""
    a, b = call.args[:2]
    if t.names.get(id(b)) and b.ndim == 2:
        layer(t, call, a, a.ndim - 1, b, None, out_axis=call.out.ndim - 1, turned=True)
        return
    if not (t.follows(a) and t.follows(b)) or min(a.ndim, b.ndim) < 2:
        unknown(t, call)
        return
    one, other = _labels(t, a), _labels(t, b)
    ndim = call.out.ndim
    left, right = one.broadcast(ndim)[0], other.broadcast(ndim)[0]
    if one.is_kept and other.is_kept:
        t.give(call.out, Labels.kept(tuple(call.out.shape)))
    elif left.shape[-1] > 1 or right.shape[-2] > 1:
        _summed(t, call, left, right)
    elif left.shape[-2] > 1 and right.shape[-1] > 1:
        unknown(t, call)
    else:
        _weighed(t, call, left, right, one.sums_to_one)


def _labels(t: Tracing, tensor: Tensor) -> Labels:
    found = t.labels(tensor)
    assert found is not None
    return found


def _summed(t: Tracing, call: Call, left: Atoms, right: Atoms) -> None:
    """Sum over channels of two results: in each head all of them make one."""
    heads = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    fits = left.shape[-1] == right.shape[-2] and left.shape[-2] == right.shape[-1] == 1
    if not fits or np.prod(heads) == 1:
        unknown(t, call)
        return
    new = t.graph.new(int(np.prod(heads))).reshape(*heads, 1, 1)
    t.graph.heads.append(new)
    for part in (left, right.swapaxes(-1, -2)):
        t.graph.tie(part, new)
    both = np.broadcast_arrays(left, right.swapaxes(-1, -2))
    src = np.stack([np.broadcast_to(part, (*heads, *both[0].shape[-2:])) for part in both])
    dst = np.broadcast_to(new, src.shape)
    t.graph.records.append(Several(dst.reshape(-1), src.reshape(-1)))
    t.give(call.out, Labels(new, tuple(call.out.shape)))


def _weighed(t: Tracing, call: Call, left: Atoms, right: Atoms, sums_to_one: bool) -> None:
    """Sum over places, by weights that are the same for all channels of a head."""
    shape = np.broadcast_shapes(left.shape, right.shape)
    pairs = np.stack([np.broadcast_to(part, shape).reshape(-1) for part in (left, right)])
    old, place = np.unique(pairs, axis=1, return_inverse=True)
    new = t.graph.new(old.shape[1])
    # A weighed mean of a constant is the constant.
    srcs = (old[1],) if sums_to_one else (old[0], old[1])
    t.each(new, *srcs, multiplies=not sums_to_one)
    if left.size > 1 or right.size == 1:
        t.graph.tie(new, old[0])
    else:
        t.graph.keep(left, call.where)
    t.give(call.out, Labels(new[place.reshape(-1)].reshape(shape), tuple(call.out.shape)))


def attention(t: Tracing, call: Call) -> None:
    """Weigh values by how much queries and keys agree, in each head."""
    query, key, value = (call.get(i, name) for i, name in enumerate(("query", "key", "value")))
    mask = call.get(3, "attn_mask")
    given = [query, key, value]
    if not all(t.follows(one) for one in given) or (mask is not None and t.follows(mask)):
        unknown(t, call)
        return
    q, k, v = (_labels(t, one).atoms for one in given)
    if all(_labels(t, one).is_kept for one in given):
        t.give(call.out, Labels.kept(tuple(call.out.shape)))
        return
    heads = q.shape[:-2]
    if any(one.shape[-2] > 1 or one.shape[:-2] != heads for one in (q, k, v)):
        unknown(t, call)
        return
    if np.prod(heads) > 1:
        t.graph.heads.append(v[..., :1, :1])
        for one in (q, k, v):
            t.graph.tie(one, v[..., :1, :1])
    else:
        for one in (query, key):
            t.keep(one, call.where)
    _pass(t, call.out, v)


def _pass(t: Tracing, out: Tensor, values: Atoms) -> None:
    """Give a weighed mean of values new atoms."""
    old, place = np.unique(values, return_inverse=True)
    new = t.graph.new(len(old))
    t.each(new, old)
    t.give(out, Labels(new[place.reshape(values.shape)], tuple(out.shape)))


def multi_head(t: Tracing, call: Call) -> None:
    """Follow ``nn.MultiheadAttention``: weights into its heads, and those that join them."""
    owner = t.modules[call.layer]
    given, mask = call.args[:3], call.kwargs.get("attn_mask")
    if (
        type(owner) is not nn.MultiheadAttention
        or owner.in_proj_weight is None
        or owner.bias_k is not None
        or owner.add_zero_attn
        or (mask is not None and mask.ndim == 3)  # one for each head
        or not all(t.follows(one) for one in given)
    ):
        unknown(t, call)
        return
    weight, bias, out = owner.in_proj_weight, owner.in_proj_bias, owner.out_proj
    names = [t.names.get(id(one)) for one in (weight, bias, out.weight, out.bias)]
    n, graph = owner.embed_dim, t.graph
    dst = graph.new(3 * n)
    heads = dst.reshape(3, owner.num_heads, -1)
    graph.tie(heads, heads[:1, :, :1])
    graph.heads.append(heads[0, :, 0])
    assert names[0] is not None
    assert names[2] is not None
    for i, one in enumerate(given):
        src, borders = t.channels(one, one.ndim - 1)
        rows = slice(i * n, (i + 1) * n)
        graph.records.append(
            Layer(dst[rows], src, names[0], names[1], rows, pads=borders, folds=bias is not None)
        )
        graph.place(names[0], 1, src)
        sent = nn.functional.linear(one, weight[rows], None if bias is None else bias[rows])
        t.number(dst[rows], sent.reshape(-1, n)[0])
    graph.place(names[0], 0, dst)
    joined = graph.new(n)
    t.each(joined, dst[2 * n :])  # a weighed mean of a constant is the constant
    t.number(joined, sent.reshape(-1, n)[0])
    last = graph.new(n)
    graph.records.append(
        Layer(last, joined, names[2], names[3], pads=np.zeros(n, np.bool_), folds=bias is not None)
    )
    graph.place(names[2], 1, joined)
    graph.place(names[2], 0, last)
    for name, atoms in ((names[1], dst), (names[3], last)):
        if name is not None:
            graph.place(name, 0, atoms)
    result, weights = call.out
    t.give(result, Labels.along(result.ndim - 1, last, tuple(result.shape)))
    if weights is not None:
        t.give(weights, Labels.kept(tuple(weights.shape)))
        t.breaks(weights, joined)
