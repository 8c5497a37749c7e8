"""``Network``: one fully connected network as the compiled kernels take it; ``Group``: several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nets_deap.models.feedforward import Feedforward
from nets_deap.tickets import bits
from nets_deap.training.problem import Outcome, Plan, Problem, Start

# Examples in a block: the lanes of all vectors. Whole matrices have a multiple of TILE columns.
LANES, TILE = 64, 16
# A layer that keeps at least this share of its weights trains faster as a whole matrix: measured
# on AVX-512, where a weight of a whole matrix costs about half of one that is looked up.
DENSE_FROM = 0.6

Array = NDArray[Any]


def room(n: int, dtype: Any) -> Array:
    """Return ``n`` zeros that start at a multiple of 64 bytes: whole vectors on whole lines."""
    item = np.dtype(dtype).itemsize
    raw = np.zeros(n + 64 // item, dtype)
    start = -raw.ctypes.data % 64 // item
    return raw[start : start + n]


@dataclass
class _Layer:
    """One layer: its parameters in a row, and what tells which weight each one is."""

    name: str
    bias: str | None
    gate: Array
    dense: bool
    theta: Array
    rows: Array
    cols: Array
    kept: Array

    @classmethod
    def of(cls, name: str, bias: str | None, tensor: Array, gate: Array, tail: Array) -> _Layer:
        """Hold a layer in the form that trains faster."""
        n_out, n_in = gate.shape
        counts = gate.sum(axis=1)
        kept = int(counts.sum())
        none = np.zeros(0, np.int32)
        if kept < DENSE_FROM * gate.size:
            rows = np.concatenate([[0], np.cumsum(counts)])
            flat = np.flatnonzero(gate)
            cols = (flat % n_in).astype(np.int32)
            theta = np.concatenate([tensor.reshape(-1)[flat], tail])
            return cls(name, bias, gate, False, theta, rows, cols, none.astype(np.uint8))
        stride = -(-n_in // TILE) * TILE
        whole = np.zeros((n_out, stride), tensor.dtype)
        whole[:, :n_in] = np.where(gate, tensor, 0)
        marks = none.astype(np.uint8)
        if kept < gate.size:
            padded = np.zeros((n_out, stride), np.uint8)
            padded[:, :n_in] = gate
            marks = padded.reshape(-1)
        theta = np.concatenate([whole.reshape(-1), tail])
        return cls(name, bias, gate, True, theta, stride * np.arange(n_out + 1), none, marks)

    def read(self, theta: Array) -> tuple[Array, Array]:
        """Return the kept weights in mask order and the biases."""
        end = int(self.rows[-1])
        weights = theta[:end]
        if self.dense:
            n_out, n_in = self.gate.shape
            weights = weights.reshape(n_out, -1)[:, :n_in][self.gate]
        return weights, theta[end:]


class Network:
    """One masked network: its layers, and how to read what training made of them."""

    def __init__(
        self, problem: Problem, stack: Feedforward, packed: bits.Bytes, start: Start | None
    ) -> None:
        self.mask = bits.unpack(packed, problem.layout.size)
        gates = problem.layout.split(self.mask)
        values = {name: tensor.numpy() for name, tensor in problem.initial.items()}
        if start is not None:
            begin = start.tensors(problem.layout, self.mask)
            values.update({n: tensor.to(problem.dtype).numpy() for n, tensor in begin.items()})
        self.layers = []
        for weight, bias in zip(stack.weights, stack.biases, strict=True):
            tensor = values[weight]
            gate = gates.get(weight)
            if gate is None:
                gate = np.ones(tensor.shape, dtype=np.bool_)
            tail = values[bias] if bias else np.zeros(len(tensor), tensor.dtype)
            self.layers.append(_Layer.of(weight, bias, tensor, gate, tail))

    def outcome(
        self, problem: Problem, plan: Plan, theta: Array, metrics: dict[str, float],
        curve: list[float],
    ) -> Outcome:  # fmt: skip
        """Return what training this network gave; ``theta`` are its parameters now."""
        values: dict[str, Array] = {}
        named: dict[str, torch.Tensor] = {}
        at = 0
        for layer in self.layers:
            weights, biases = layer.read(theta[at : at + len(layer.theta)])
            at += len(layer.theta)
            values[layer.name] = weights
            if plan.keep_states or layer.name not in problem.layout.names:
                tensor = np.zeros(layer.gate.shape, theta.dtype)
                tensor[layer.gate] = weights
                named[layer.name] = torch.from_numpy(tensor)
            if layer.bias:
                named[layer.bias] = torch.from_numpy(biases.copy())
        return Outcome(
            metrics={name: np.array([value]) for name, value in metrics.items()},
            curve_steps=plan.curve_steps,
            curve=np.array([curve], dtype=np.float64).reshape(1, -1),
            values=[np.concatenate([values[name] for name in problem.layout.names])],
            others=[problem.others_of(named)],
            states=[named] if plan.keep_states else [],
        )


class Group:
    """G networks that train in one thread, on the same gathered minibatches.

    Attributes:
        theta: All parameters, network by network.
        starts: Where each layer starts in ``theta``, shape (G, L + 1); the last is the end.
        col_starts: The same in ``cols``.
        gate_starts: The same in ``gates``.
        dense: Which layers are whole matrices, shape (G, L).
        rows: Where each neuron's weights start in its layer, shape (G, neurons + L).
        cols: Inputs of the sparse layers' weights.
        gates: Marks of the kept weights in whole matrices that do not keep all.
        live: Inputs of the network that some member reads.
        longest: Parameters of the largest network.
    """

    def __init__(self, networks: list[Network]) -> None:
        self.networks = networks
        layers = [layer for network in networks for layer in network.layers]
        n_layers = len(networks[0].layers)
        self.theta = np.concatenate([layer.theta for layer in layers])
        self.cols = np.concatenate([layer.cols for layer in layers])
        self.gates = np.concatenate([layer.kept for layer in layers])
        self.starts = _places([len(layer.theta) for layer in layers], n_layers)
        self.col_starts = _places([len(layer.cols) for layer in layers], n_layers)
        self.gate_starts = _places([len(layer.kept) for layer in layers], n_layers)
        self.rows = np.stack([np.concatenate([la.rows for la in net.layers]) for net in networks])
        self.dense = np.array([layer.dense for layer in layers]).reshape(-1, n_layers)
        self.longest = int((self.starts[:, -1] - self.starts[:, 0]).max())
        n_in = networks[0].layers[0].gate.shape[1]
        read = np.zeros(n_in, dtype=np.bool_)
        for network in networks:
            read[network.layers[0].cols] = True
        self.live = np.arange(n_in) if self.dense[:, 0].any() else np.flatnonzero(read)

    def theta_of(self, p: int) -> Array:
        """Return the parameters of one network, a view."""
        return self.theta[self.starts[p, 0] : self.starts[p, -1]]


def _places(lengths: list[int], n_layers: int) -> NDArray[np.int64]:
    """Return where each piece starts, a row a network, with the end of its last piece."""
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return np.stack([ends[i : i + n_layers + 1] for i in range(0, len(lengths), n_layers)])
