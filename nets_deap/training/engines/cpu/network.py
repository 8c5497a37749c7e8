"""``Network``: one network as the compiled kernels take it; ``Group``: several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from nets_deap.models.feedforward import Feedforward
from nets_deap.models.stages import Stage
from nets_deap.tickets import bits
from nets_deap.tickets.trained import TrainedState
from nets_deap.training.engines.cpu.arguments import Array, Convolutions, Kept, Together
from nets_deap.training.engines.cpu.blocks import padded
from nets_deap.training.engines.cpu.convolutions import (
    Convolution,
    Norm,
    convolutions_of,
    norms_of,
)
from nets_deap.training.engines.cpu.geometry import Geometry
from nets_deap.training.problem import Outcome, Plan, Problem, Start

# A layer that keeps at least this share of its weights trains faster as a whole matrix: measured
# on AVX-512, where a weight of a whole matrix costs 0.57 of one that is looked up, over a step.
DENSE_FROM = 0.6
NOTHING: Array = np.zeros(0)


@dataclass(frozen=True, eq=False)
class Design:
    """What all networks of a problem have in common.

    Attributes:
        stages: Convolutions in a row; none for a fully connected network.
        head: The fully connected layers, which follow.
        geometry: Where the stages' feature maps lie; None without stages.
        norms: How the stages' sums are normalised; none for stages in a row.
    """

    stages: tuple[Stage, ...]
    head: Feedforward
    geometry: Geometry | None
    norms: tuple[Norm, ...] = ()

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the weights of all stages and layers."""
        return (*(stage.weight for stage in self.stages), *self.head.weights)

    @property
    def biases(self) -> tuple[str | None, ...]:
        """Names of the biases; None where a stage or layer has none."""
        return (*(stage.bias for stage in self.stages), *self.head.biases)


@dataclass
class _Layer:
    """One layer of ``shape`` (units, inputs): its parameters in a row, and which weights they are.

    The arrays are copied into those of ``Kept``, and then let go.
    """

    name: str
    bias: str | None
    shape: tuple[int, ...]
    dense: bool
    theta: Array
    rows: Array
    cols: Array
    masks: Array

    @classmethod
    def of(cls, name: str, bias: str | None, tensor: Array, mask: Array, biases: Array) -> _Layer:
        """Hold a layer in the form that trains faster."""
        n_out, n_in = mask.shape
        counts = mask.sum(axis=1)
        kept = int(counts.sum())
        cols, masks = np.zeros(0, np.int32), np.zeros(0, np.uint8)
        if kept < DENSE_FROM * mask.size:
            rows = np.concatenate([[0], np.cumsum(counts)])
            flat = np.flatnonzero(mask)
            # Half the bytes of int64: beside the weight, this is all that a kept weight reads.
            cols = (flat % n_in).astype(np.int32)
            theta = np.concatenate([tensor.reshape(-1)[flat], biases])
            return cls(name, bias, mask.shape, False, theta, rows, cols, masks)
        # Padded to whole tiles, so that the kernels have no case for a tile's rest.
        stride = padded(n_in)
        whole = np.zeros((n_out, stride), tensor.dtype)
        # Exactly 0 from the start, also where W0 holds NaN: 0 times NaN would not be 0.
        whole[:, :n_in] = np.where(mask, tensor, 0)
        if kept < mask.size:
            marks = np.zeros((n_out, stride), np.uint8)
            marks[:, :n_in] = mask
            masks = marks.reshape(-1)
        theta = np.concatenate([whole.reshape(-1), biases])
        rows = stride * np.arange(n_out + 1)
        return cls(name, bias, mask.shape, True, theta, rows, cols, masks)

    def read(self, theta: Array, mask: Array) -> tuple[Array, Array]:
        """Return the kept weights in mask order and the biases, given the layer's mask."""
        n_out, n_in = self.shape
        weights, biases = theta[:-n_out], theta[-n_out:]
        if self.dense:
            weights = weights.reshape(n_out, -1)[:, :n_in][mask]
        return weights, biases

    def let_go(self) -> None:
        """Forget what ``Kept`` has."""
        self.theta = self.rows = self.cols = self.masks = NOTHING


class Network:
    """One masked network: its layers, and how to read what training made of them."""

    def __init__(self, problem: Problem, design: Design, packed: bits.Bytes, start: Start) -> None:
        self._packed = packed  # an eighth of a byte a weight, pruned ones too
        mask = bits.unpack(packed, problem.layout.size)
        masks = problem.layout.split(mask)
        state = {**problem.initial, **problem.buffers}
        values = {name: tensor.numpy() for name, tensor in state.items()}
        if start is not None:
            begin = start.tensors(problem.layout, mask)
            values.update({n: tensor.to(state[n].dtype).numpy() for n, tensor in begin.items()})
        self.layers: list[_Layer | Convolution] = []
        layouts = design.geometry.layouts if design.geometry is not None else ()
        for i, (weight, bias) in enumerate(zip(design.weights, design.biases, strict=True)):
            tensor = values[weight]
            own = _mask_of(weight, tensor.shape, masks)
            # Places for biases also where there are none: the layout is the same, and these stay 0.
            biases = values[bias] if bias else np.zeros(len(tensor), tensor.dtype)
            if i < len(layouts):
                norm = {
                    name.rpartition(".")[2]: value
                    for name, value in values.items()
                    if name.rpartition(".")[0] == design.stages[i].norm_name
                }
                made = Convolution(design.stages[i], tensor, own, biases, layouts[i], norm)
                self.layers.append(made)
            else:
                self.layers.append(_Layer.of(weight, bias, tensor, own, biases))
        self._ends = np.cumsum([len(layer.theta) for layer in self.layers])[:-1]

    def outcome(
        self, problem: Problem, plan: Plan, theta: Array, metrics: dict[str, float],
        curve: list[float],
    ) -> Outcome:  # fmt: skip
        """Return what training this network gave; ``theta`` are its parameters now."""
        values: dict[str, Array] = {}
        named: dict[str, torch.Tensor] = {}
        masks = problem.layout.split(bits.unpack(self._packed, problem.layout.size))
        for layer, own in zip(self.layers, np.split(theta, self._ends), strict=True):
            mask = _mask_of(layer.name, layer.shape, masks)
            weights, biases = layer.read(own, mask)
            if isinstance(layer, Convolution):
                for name, numbers in layer.normalisation(own).items():
                    named[name] = torch.from_numpy(numbers.copy())
            values[layer.name] = weights
            if plan.keep_states or layer.name not in problem.layout.names:
                tensor = np.zeros(layer.shape, theta.dtype)
                tensor[mask] = weights
                named[layer.name] = torch.from_numpy(tensor)
            if layer.bias:
                named[layer.bias] = torch.from_numpy(biases.copy())
        kept = np.concatenate([values[name] for name in problem.layout.names])
        return Outcome(
            metrics={name: np.array([value]) for name, value in metrics.items()},
            curve_steps=plan.curve_steps,
            curve=np.array([curve], dtype=np.float64).reshape(1, -1),
            trained=[TrainedState(kept, problem.unmasked_of(named))],
            states=[named] if plan.keep_states else [],
        )


class Group:
    """G networks that train in one thread, on the same gathered minibatches.

    Attributes:
        theta: All parameters, network by network.
        kept: Which weights each network keeps, and where its parameters are; shapes (G, ...).
        longest: Parameters of the largest network.
        convolutions: What the loops need of convolutions in a row; None where there are none.
        together: The same of those that all of a minibatch goes through together.
    """

    def __init__(self, networks: list[Network], design: Design) -> None:
        self.networks = networks
        layers = [layer for network in networks for layer in network.layers]
        n_layers = len(networks[0].layers)
        self.theta = np.concatenate([layer.theta for layer in layers])
        dense = np.array([layer.dense for layer in layers]).reshape(-1, n_layers)
        starts = _places([len(layer.theta) for layer in layers], n_layers)
        # A whole first layer reads every input; sparse ones only those of their columns.
        n_in = networks[0].layers[0].shape[1]
        read = np.full(n_in, dense[:, 0].any())
        for network in networks:
            read[network.layers[0].cols] = True
        self.convolutions: Convolutions | None = None
        self.together: Together | None = None
        self._own = [[la for la in n.layers if isinstance(la, Convolution)] for n in networks]
        if design.geometry is not None:
            net = convolutions_of(design.geometry, self._own)
            if design.norms:
                norms = norms_of(design.geometry, self._own, design.norms)
                self.together = Together(net, norms)
            else:
                self.convolutions = net
        self.kept = Kept(
            dense=dense,
            starts=starts,
            col_starts=_places([len(layer.cols) for layer in layers], n_layers),
            mask_starts=_places([len(layer.masks) for layer in layers], n_layers),
            # As long in every network, however many weights it keeps: one entry a unit.
            rows=np.stack([np.concatenate([la.rows for la in net.layers]) for net in networks]),
            cols=np.concatenate([layer.cols for layer in layers]),
            masks=np.concatenate([layer.masks for layer in layers]),
            live=np.flatnonzero(read),
        )
        self.longest = int((starts[:, -1] - starts[:, 0]).max())
        for layer in layers:
            layer.let_go()

    def settle(self) -> None:
        """Note what training made of the networks' running statistics."""
        if self.together is None:
            return
        norms = self.together.norms
        for p, convolutions in enumerate(self._own):
            for s, one in enumerate(convolutions):
                first = norms.firsts[s]
                own = slice(first, first + one.shape[0])
                one.mean, one.variance = norms.means[p, own], norms.variances[p, own]
                one.batches = int(norms.batches[p, s])

    def theta_of(self, p: int) -> Array:
        """Return the parameters of one network, a view."""
        return self.theta[self.kept.starts[p, 0] : self.kept.starts[p, -1]]


def _mask_of(name: str, shape: tuple[int, ...], masks: Mapping[str, Array]) -> Array:
    """Return the mask of a layer by its weight's name; all of it where that is not maskable."""
    mask = masks.get(name)
    return np.ones(shape, dtype=np.bool_) if mask is None else mask


def _places(lengths: list[int], n_layers: int) -> NDArray[np.int64]:
    """Return where each piece starts, a row a network, with the end of its last piece."""
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return np.stack([ends[i : i + n_layers + 1] for i in range(0, len(lengths), n_layers)])
