"""``NarrowAttention``: attention with fewer heads than ``nn.MultiheadAttention`` can have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NarrowAttention(nn.Module):
    """Attention whose heads together are narrower than what they are given.

    It takes and gives what ``nn.MultiheadAttention`` does.

    Args:
        whole: One whose weights have lost the rows and columns of some heads.
    """

    def __init__(self, whole: nn.MultiheadAttention) -> None:
        super().__init__()
        self.in_proj_weight, self.in_proj_bias = whole.in_proj_weight, whole.in_proj_bias
        self.out_proj = nn.Linear(1, 1, bias=False)  # whose fast path nobody takes
        self.out_proj.weight, self.out_proj.bias = whole.out_proj.weight, whole.out_proj.bias
        self.out_proj.out_features, self.out_proj.in_features = whole.out_proj.weight.shape
        self.head_dim, self.dropout = whole.head_dim, whole.dropout
        self.num_heads = len(whole.in_proj_weight) // 3 // whole.head_dim
        self.batch_first = whole.batch_first
        # What layers of transformers ask for before they call it: not torch's own kernel.
        self._qkv_same_embed_dim = False
        self.train(whole.training)

    @staticmethod
    def fits(module: nn.MultiheadAttention) -> bool:
        """Return whether some of a module's heads are gone."""
        weight = module.in_proj_weight
        return weight is not None and weight.shape != (3 * module.embed_dim, module.embed_dim)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Return attention; its weights, which nobody reads where heads may go, are left out."""
        given = [query, key, value]
        single = query.ndim == 2
        if single:
            given = [one[None] for one in given]
        elif not self.batch_first:
            given = [one.transpose(0, 1) for one in given]
        rows = self.in_proj_weight.chunk(3)
        biases: Any = [None] * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(one, row, bias)
            .reshape(*one.shape[:2], self.num_heads, self.head_dim)
            .transpose(1, 2)
            for one, row, bias in zip(given, rows, biases, strict=True)
        )
        mask = self._mask(attn_mask, key_padding_mask, q)
        p = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, mask, p, is_causal and mask is None)
        out = self.out_proj(mixed.transpose(1, 2).flatten(-2))
        if single:
            out = out[0]
        elif not self.batch_first:
            out = out.transpose(0, 1)
        return out, None

    def _mask(self, mask: Tensor | None, padding: Tensor | None, like: Tensor) -> Tensor | None:
        """Return what is added to scores, (B, heads or 1, queries, keys)."""
        found = None
        for one, shape in ((mask, None), (padding, padding)):
            if one is None:
                continue
            added = one
            if one.dtype == torch.bool:
                added = like.new_zeros(one.shape).masked_fill(one, float("-inf"))
            if shape is not None:
                added = added[:, None, None, :]
            elif added.ndim == 3:
                added = added.reshape(len(like), -1, *added.shape[1:])
            found = added if found is None else found + added
        return found

    def extra_repr(self) -> str:
        """Return how many heads are left."""
        return f"{self.num_heads} heads of {self.head_dim}"
