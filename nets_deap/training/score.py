"""``Score``: the loss and the accuracy of one network on a whole split, from outputs on its pieces.

A network sees a split by pieces. A loss with a name is a mean over examples, which pieces add up
to. A function may be anything of all rows together: a mean by class weights or over labelled rows
alone, a sum, a correlation, a contrast between rows. It is called once, with all outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nets_deap.inputs.parts import PLAIN, taken_apart, tensors_of
from nets_deap.training.batches import rows_of
from nets_deap.training.losses import Loss, loss_of, n_correct, n_labelled

# Outputs that are held at once, and the most of one network that its loss is called with.
OUTPUT_BYTES = 2**31


class Score:
    """Loss and accuracy of one network on a split; see ``add`` and ``result``.

    Outputs of pieces are put together leaf by leaf: along the axis of rows, or where there is none
    by their mean over rows, as statistics are. Where that cannot be (shapes that change, objects
    that hide their tensors), and beyond ``OUTPUT_BYTES``, the loss is the mean over pieces,
    by their rows.

    Args:
        loss: The loss; what a module keeps from call to call stays as it is.
        targets: All targets of the split.
        ignored: Labels that count nothing in the accuracy.
    """

    def __init__(self, loss: Loss, targets: Any, ignored: Sequence[int] = ()) -> None:
        self._loss = loss if isinstance(loss, str) else _own(loss)
        self._targets, self._ignored = targets, ignored
        self._total: Any = 0.0
        self._correct: Any = 0.0
        self._labelled: Any = 0.0
        self._rows = 0
        self._held: list[tuple[int, Any]] = []  # rows and outputs that the loss has not seen
        self._bytes = 0

    def add(self, n: int, output: Any, target: Any) -> None:
        """Take the outputs for the next ``n`` rows, and their targets, which are only read."""
        own = (self._loss, output, target, self._ignored)
        self._correct = self._correct + n_correct(*own)
        self._labelled = self._labelled + n_labelled(*own)
        if isinstance(self._loss, str):
            self._total = self._total + loss_of(self._loss, output, target).double() * n
            self._rows += n
            return
        size = bytes_of(output)
        if self._held and self._bytes + size > OUTPUT_BYTES:
            self._call()
        self._held.append((n, output))
        self._bytes += size

    def result(self) -> tuple[float, float]:
        """Return the loss and the accuracy on all rows; NaN where there is none."""
        if self._held:
            self._call()
        labelled = float(self._labelled)
        accuracy = float(self._correct) / labelled if labelled else torch.nan
        return float(self._total) / self._rows, accuracy

    def _call(self) -> None:
        """Call the loss with what is held."""
        held, self._held, self._bytes = self._held, [], 0
        counts, outputs = [n for n, _ in held], [output for _, output in held]
        try:
            pieces = [(sum(counts), joined(outputs, counts))]
        except ValueError:
            pieces = held
        del held, outputs
        for n, output in pieces:
            target = rows_of(self._targets, slice(self._rows, self._rows + n))
            self._total = self._total + loss_of(self._loss, output, target).double() * n
            self._rows += n


def joined(outputs: list[Any], counts: list[int]) -> Any:
    """Return the outputs of consecutive pieces, of so many rows each, as that of all rows.

    Raises:
        ValueError: They are not of rows.
    """
    if len(outputs) == 1:
        return outputs[0]
    flat = [taken_apart(output) for output in outputs]
    form = flat[0][1]
    if any(other != form for _, other in flat):
        raise ValueError("the pieces have different parts")
    parts = zip(*(leaves for leaves, _ in flat), strict=True)
    return form.put_together([_together(list(part), counts) for part in parts])


def bytes_of(output: Any) -> int:
    """Return the bytes of all tensors in an output."""
    return sum(tensor.nbytes for tensor in tensors_of(output))


def _together(part: list[Any], counts: list[int]) -> Any:
    """Return one leaf of all pieces as one."""
    first = part[0]
    if isinstance(first, PLAIN) and all(type(one) is type(first) and one == first for one in part):
        return first
    if all(isinstance(one, Tensor) and one.ndim == first.ndim for one in part):
        shapes = [tuple(one.shape) for one in part]
        for axis in range(first.ndim):
            rest = {(*shape[:axis], *shape[axis + 1 :]) for shape in shapes}
            if [shape[axis] for shape in shapes] == counts and len(rest) == 1:
                return torch.cat(part, axis)
        if first.is_floating_point() and len(set(shapes)) == 1:
            weighed = [one * n for one, n in zip(part, counts, strict=True)]
            return torch.stack(weighed).sum(0) / sum(counts)
    raise ValueError("a part is not of rows")


def _own(loss: Any) -> Any:
    """Return a copy of a module; itself where it holds tensors that were computed."""
    if not isinstance(loss, nn.Module):
        return loss
    try:
        return copy.deepcopy(loss)
    except RuntimeError:
        return loss
