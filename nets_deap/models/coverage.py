"""``coverage_note``: what to tell where masks cover only a small part of a model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nets_deap.models.maskable import Parameter


def coverage_note(parameters: Sequence[Parameter]) -> str:
    """Return what to tell of masks that cover less than half of a model; empty where they do.

    Args:
        parameters: All of a model, as ``parameters_of`` gives them without ``maskable``.
    """
    once = [p for p in parameters if not p.why.startswith("tied to ")]
    covered = sum(math.prod(p.shape) for p in once if p.maskable)
    total = sum(math.prod(p.shape) for p in once)
    if 2 * covered >= total:
        return ""
    others = sorted((p for p in once if not p.maskable), key=lambda p: -math.prod(p.shape))
    listed = [f"{p.name!r} ({math.prod(p.shape):,}: {p.why})" for p in others[:3]]
    embedded = [p.name for p in others if p.why.startswith("embedding")][:1]
    names = [p.name for p in once if p.maskable] + embedded
    way = f"maskable={names}" if len(names) <= 4 else "maskable=lambda name, p: p.ndim > 1"
    if any(p.why.startswith("has no units") for p in others):
        way = "unit='weight'"
    elif not embedded:
        way = ""
    return (
        f"Masks cover {covered:,} of {total:,} parameters ({100 * covered / total:.2g} %), and "
        f"density is that of these. Not maskable, among others: {', '.join(listed)}. "
        f"{f'Mask more with {way}; ' if way else ''}nets.describe(task) has all."
    )
