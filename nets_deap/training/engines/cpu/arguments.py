"""What the compiled loops take: named tuples of arrays, each for one noun.

numba takes a named tuple apart at the call, so that a field costs what a local variable costs; it
tells tuples apart by class, field types and dimensions, so that all arrays here must be
C-contiguous and of the dtypes below. "float" is the networks' own dtype, float32 or float64.

Letters: G networks of a group, L layers, N examples, B minibatch, S steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

Array = NDArray[Any]

# Numbers rather than strings or enums: these choose branches within the compiled loops.
RELU, TANH, SIGMOID = 0, 1, 2
CROSS_ENTROPY, BINARY, SQUARED = 0, 1, 2


class Layers(NamedTuple):
    """What all networks of a group have in common.

    Attributes:
        activation: ``RELU``, ``TANH`` or ``SIGMOID``, after every layer but the last.
        loss: ``CROSS_ENTROPY``, ``BINARY`` or ``SQUARED``.
        sizes: Inputs of the network, then units of each layer; int64 (L + 1,).
        biased: Which layers have biases; bool (L,).
    """

    activation: int
    loss: int
    sizes: Array
    biased: Array


class Kept(NamedTuple):
    """Which weights each network keeps, and where its parameters are.

    The shapes are those of one network, as ``_layers`` takes it; a group has one row a network in
    the first five, and its places count from the start of the group's vectors.

    Attributes:
        dense: Which layers are held as whole matrices; bool (L,).
        starts: Where each layer starts in ``theta``, and the end; int64 (L + 1,).
        col_starts: The same in ``cols``.
        mask_starts: The same in ``masks``.
        rows: Where each unit's weights start in its layer, and their end, layer after layer; int64
            (units + L,).
        cols: Which unit of the layer before each weight of a sparse layer reads; int32.
        masks: 1 for the kept weights of whole matrices that do not keep all, 0 for the others and
            for padding; uint8.
        live: Inputs of the network that some member reads; int64.
    """

    dense: Array
    starts: Array
    col_starts: Array
    mask_starts: Array
    rows: Array
    cols: Array
    masks: Array
    live: Array


class Parameters(NamedTuple):
    """Parameters and the state of their optimiser, all flat and float, one value a parameter.

    Attributes:
        theta: Weights and biases.
        m: Momentum, or Adam's mean of the gradients.
        v: Adam's mean of the squared gradients; SGD leaves it alone.
    """

    theta: Array
    m: Array
    v: Array


class Data(NamedTuple):
    """Examples: their classes or their targets, the other one empty.

    Attributes:
        inputs: Float; (N, inputs) to train on, or in blocks to measure: (N / LANES, inputs, LANES),
            flat, the last block filled up with zeros.
        labels: Classes for the cross entropy; int64 (N,).
        targets: Numbers for the other losses; float (N, units).
    """

    inputs: Array
    labels: Array
    targets: Array


class Optimizer(NamedTuple):
    """The optimiser's rule.

    Attributes:
        adam: Whether it is Adam (or AdamW); SGD otherwise.
        momentum: SGD's momentum, or Adam's beta1.
        beta2: Adam's beta2; SGD ignores it.
        nesterov: Whether SGD's momentum is Nesterov's; Adam ignores it.
        l2: Weight decay as a term of the gradient.
        decay: Weight decay apart from the gradient (AdamW), in units of the learning rate.
    """

    adam: bool
    momentum: float
    beta2: float
    nesterov: bool
    l2: float
    decay: float


class Schedule(NamedTuple):
    """The S steps of one call.

    Attributes:
        batches: Minibatches, by the places of their examples; int64 (S, B).
        lrs: Learning rates; float64 (S,).
        first: Steps that came before this call.
        tail: The step, counted from the start of training, from which on losses are summed.
        span: Steps that a network takes before the next one has its turn.
    """

    batches: Array
    lrs: Array
    first: int
    tail: int
    span: int


class Buffers(NamedTuple):
    """Memory to work in, allocated once a group; "blocks" are those of ``span`` minibatches.

    Attributes:
        inputs: Gathered inputs, float (blocks, inputs, LANES), flat.
        examples: The same example by example, float (blocks, LANES, padded inputs), flat; empty
            where no network holds its first layer as a whole matrix.
        labels: Gathered classes, int64 (blocks, LANES).
        targets: Gathered targets, float (blocks, LANES, units).
        acts: Activations of all units of one network on one block, float (units, LANES), flat.
        deltas: Gradients of the loss by the units' sums, like ``acts``.
        transposed: Activations of any one layer, float (LANES, padded units), flat.
        grad: Gradient of one network, float, as long as its ``theta``.
        block_grad: The part of the gradient that one further block gives.
    """

    inputs: Array
    examples: Array
    labels: Array
    targets: Array
    acts: Array
    deltas: Array
    transposed: Array
    grad: Array
    block_grad: Array
