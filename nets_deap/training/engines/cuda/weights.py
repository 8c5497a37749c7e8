"""``Weights``: the stacked parameters of P networks, in memory that stays where it is.

Masks come packed and stay packed on the device: a bit a weight instead of a byte is an eighth of
what crosses to it and of what the optimiser reads at each step. They are unpacked there, a layer at
a time, where they are needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nets_deap.models.tensors import known_to_numpy
from nets_deap.tickets import bits
from nets_deap.tickets.layout import Layer, MaskLayout
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.problem import Problem, Start, State

BUFFER_BYTES = 2**26  # of pinned memory, for what crosses to the host or from it
BLOCK_WEIGHTS = 2**24  # places of kept weights take eight bytes each while they are looked for


def upload(array: NDArray[Any], device: torch.device) -> Tensor:
    """Return an array as a tensor on the device, sent without waiting where that is possible.

    What is large goes through pinned memory of ``BUFFER_BYTES``: torch keeps what it has pinned.
    """
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type != "cuda":
        return tensor
    parts = _parts(tensor.view(-1))
    if len(parts) < 2:
        return tensor.pin_memory().to(device, non_blocking=True)
    found = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
    for part, target in zip(parts, _parts(found.view(-1)), strict=True):
        target.copy_(part.pin_memory(), non_blocking=True)
        torch.cuda.current_stream(device).synchronize()  # the next part takes the same memory
    return found


def download(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor as an array, through pinned memory of at most ``BUFFER_BYTES``."""
    tensor = known_to_numpy(tensor)
    if tensor.device.type != "cuda":
        return tensor.numpy()
    found = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")
    parts = _parts(tensor.reshape(-1))
    host = torch.empty(len(parts[0]), dtype=tensor.dtype, device="cpu", pin_memory=True)
    for part, target in zip(parts, _parts(found.view(-1)), strict=True):
        host[: len(part)].copy_(part, non_blocking=True)
        torch.cuda.current_stream(tensor.device).synchronize()
        target.copy_(host[: len(part)])
    return found.numpy()


def _parts(flat: Tensor) -> list[Tensor]:
    """Return a vector in parts of at most ``BUFFER_BYTES``, at least one."""
    most = max(1, BUFFER_BYTES // flat.element_size())
    return [flat[first : first + most] for first in range(0, max(1, len(flat)), most)]


def counts_of(layout: MaskLayout, packed: bits.Bytes) -> NDArray[np.int64]:
    """Count the kept weights of each network's layers, shape (P, L)."""
    return np.stack([layout.counts(row) for row in packed])


class Weights:
    """Parameters and buffers of P masked networks, stacked along a leading axis and refillable.

    Fewer may be filled in: the rest have empty masks, train along and are nobody's.

    Attributes:
        n: How many networks were filled in.
        trained: What is trained, by name, shapes (P, ...).
        fixed: Masked parameters that are frozen.
        shared: Unmasked parameters that are frozen, not stacked.
        buffers: The buffers.
        packed: The masks, uint8, shape (P, ceil(D / 8)).
    """

    def __init__(self, problem: Problem, networks: int) -> None:
        self.problem, self.p, self.n = problem, networks, networks
        self.trained: State = {}
        self.fixed: State = {}
        self.shared: State = {}
        masked = set(problem.layout.names)
        for name, start in problem.initial.items():
            if name in problem.frozen and name not in masked:
                self.shared[name] = start
            else:
                home = self.fixed if name in problem.frozen else self.trained
                home[name] = start.new_empty((networks, *start.shape))
        self.buffers: State = {
            name: start.new_empty((networks, *start.shape))
            for name, start in problem.buffers.items()
        }
        self.packed = torch.zeros(
            (networks, problem.layout.n_bytes), dtype=torch.uint8, device=problem.device
        )
        self._shifts = torch.arange(8, dtype=torch.uint8, device=problem.device)
        self._counts = np.zeros((networks, len(problem.layout.layers)), dtype=np.int64)

    def refill(
        self,
        packed: bits.Bytes,
        starts: Sequence[Start],
        counts: NDArray[np.int64] | None = None,
    ) -> None:
        """Begin anew with other masks, packed (n, ceil(D / 8)), each from its start or from W0.

        Args:
            packed: Of n <= P networks.
            starts: As many.
            counts: Those of ``counts_of``, if they are known.
        """
        problem, self.n = self.problem, len(packed)
        self.packed[: self.n].copy_(upload(packed, problem.device))
        self.packed[self.n :].zero_()
        self._counts[: self.n] = counts_of(problem.layout, packed) if counts is None else counts
        self._counts[self.n :] = 0
        for home in (self.trained, self.fixed):
            for name, tensor in home.items():
                tensor.copy_(problem.initial[name].expand_as(tensor))
        for name, buffer in self.buffers.items():
            buffer.copy_(problem.buffers[name].expand_as(buffer))
        given = [i for i, start in enumerate(starts) if start is not None]
        for index, layer in enumerate(problem.layout.layers):
            tensor, keep = self._home(layer.name)[layer.name], self.keep(layer)
            tensor.masked_fill_(~keep, 0)
            if given and self._counts[given, index].any():
                values = upload(self._begin(starts, index, tensor.dtype), problem.device)
                own = np.zeros(self.p, dtype=np.bool_)
                own[given] = True
                chosen = upload(own, problem.device)
                keep &= chosen.view(-1, *[1] * (keep.ndim - 1))
                tensor.masked_scatter_(keep, values)
        self._begin_unmasked(starts)

    def keep(self, layer: Layer) -> Tensor:
        """Unpack one layer's masks: a fresh bool tensor (P, ...)."""
        # Layers do not begin at whole bytes: the bytes that hold one are unpacked, lowest bit
        # first, and what belongs to its neighbours is cut off.
        first, stop = layer.start // 8, bits.n_bytes(layer.stop)
        unpacked = (self.packed[:, first:stop].unsqueeze(-1) >> self._shifts) & 1
        place = layer.start - 8 * first
        window = unpacked.view(self.p, -1)[:, place : place + layer.size]
        return window.view(torch.bool).reshape(self.p, *layer.shape)

    def counts(self, name: str) -> NDArray[np.int64]:
        """Return how many weights of a masked tensor each network keeps, shape (P,)."""
        vector: NDArray[np.int64] = self._counts[:, self.problem.layout.names.index(name)]
        return vector

    def kept_places(self, name: str) -> Iterator[tuple[slice, Tensor]]:
        """Go through the networks block by block: which they are, and where their kept weights are.

        Places count through the whole stacked tensor, int64.
        """
        layer = self.problem.layout.layer(name)
        keep = self.keep(layer).view(self.p, -1)
        at_once = max(1, BLOCK_WEIGHTS // layer.size)
        for first in range(0, self.p, at_once):
            own = slice(first, min(first + at_once, self.p))
            yield own, keep[own].reshape(-1).nonzero().view(-1).add_(first * layer.size)

    def trained_states(self) -> list[TrainedState]:
        """Return each network's weights: those at its kept positions in one copy, and the rest."""
        pairs = zip(self._values(), self._unmasked(), strict=True)
        return [TrainedState(values, unmasked) for values, unmasked in pairs]

    def _values(self) -> list[NDArray[Any]]:
        """Return each network's weights at its kept positions, in mask order, in one copy."""
        pieces: list[list[NDArray[Any]]] = [[] for _ in range(self.n)]
        for layer in self.problem.layout.layers:
            flat, counts = self._home(layer.name)[layer.name].view(-1), self.counts(layer.name)
            for own, places in self.kept_places(layer.name):
                ends = counts[own].cumsum()
                values = np.split(download(flat.index_select(0, places)), ends[:-1])
                for mine, piece in zip(pieces[own], values, strict=False):  # the rest is nobody's
                    mine.append(piece)
        return [np.concatenate(mine) for mine in pieces]

    def _unmasked(self) -> list[dict[str, NDArray[Any]]]:
        """Return what training changed outside of each mask, by name."""
        masked = set(self.problem.layout.names)
        named = {
            name: download(tensor[: self.n])
            for name, tensor in {**self.trained, **self.buffers}.items()
            if name not in masked
        }
        # np.array keeps what has no dimensions an array.
        return [{name: np.array(array[i]) for name, array in named.items()} for i in range(self.n)]

    def states(self) -> list[State]:
        """Return all parameters and buffers of each network, on the CPU."""
        stacked = {**self.trained, **self.fixed, **self.buffers}
        whole = {name: tensor[: self.n].cpu() for name, tensor in stacked.items()}
        shared = {name: tensor.cpu() for name, tensor in self.shared.items()}
        return [
            {**{name: tensor[i].clone() for name, tensor in whole.items()}, **shared}
            for i in range(self.n)
        ]

    def _home(self, name: str) -> State:
        """Return the dictionary that holds a tensor."""
        return next(s for s in (self.trained, self.fixed, self.buffers) if name in s)

    def _begin(self, starts: Sequence[Start], index: int, dtype: torch.dtype) -> NDArray[Any]:
        """Return the start values of one layer, of all networks that have some, end to end."""
        parts = []
        for start, counts in zip(starts, self._counts[: self.n], strict=True):
            if start is not None:
                ends = counts.cumsum()
                parts.append(start.values[ends[index] - counts[index] : ends[index]])
        kind = torch.empty(0, dtype=dtype, device="cpu").numpy().dtype
        return np.concatenate(parts).astype(kind, copy=False)

    def _begin_unmasked(self, starts: Sequence[Start]) -> None:
        """Copy in what some networks start with outside of their masks."""
        given: dict[str, list[int]] = {}
        for i, start in enumerate(starts):
            for name in start.unmasked if start is not None else ():
                given.setdefault(name, []).append(i)
        for name, places in given.items():
            rows = np.stack([np.asarray(starts[i].unmasked[name]) for i in places])  # type: ignore[union-attr]
            tensor = self._home(name)[name]
            index = upload(np.array(places), self.problem.device)
            tensor.index_copy_(0, index, upload(rows, self.problem.device).to(tensor.dtype))
