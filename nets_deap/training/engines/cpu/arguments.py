"""What the compiled loops take: named tuples of arrays, each for one noun.

numba takes a named tuple apart at the call, so that a field costs what a local variable costs; it
tells tuples apart by class, field types and dimensions, so that all arrays here must be
C-contiguous and of the dtypes below. "float" is the networks' own dtype, float32 or float64.

Letters: G networks of a group, L layers, N examples, B minibatch, S steps. One file: all that goes
into the compiled loops is found here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numpy.typing import NDArray

Array = NDArray[Any]

# Numbers rather than strings or enums: these choose branches within the compiled loops.
RELU, TANH, SIGMOID = 0, 1, 2
CROSS_ENTROPY, BINARY, SQUARED = 0, 1, 2
# No activation at all, which only convolutions may have.
LINEAR = 3
# What becomes of a sum over a tile of a convolution: written as it is, rectified, added to what is
# there, multiplied by an activation's derivative, or rectified and pooled. The first two are the
# least.
PLAIN, RECTIFIED, ADDED, GATE_RELU, GATE_TANH, GATE_SIGMOID, POOLED = range(7)
# Bits of a tile's ``part``: its sums go on from those before, and wait for those to come.
FROM_SUMS, TO_SUMS = 1, 2
# How the sums of a stage are normalised: not at all, by running statistics, by the minibatch's in
# training, or by those of whatever it is given in evaluation, too.
NO_NORM, RESTING, BATCH, UNTRACKED = 0, 1, 2, 3
# How a stage pools.
NO_POOL, MAXIMUM, AVERAGE = 0, 1, 2


class Layers(NamedTuple):
    """What all networks of a group have in common.

    L counts the fully connected layers. Those of a network with convolutions follow these: its
    "inputs" are then what the last stage gives, and stand before the units in activations.

    Attributes:
        stages: Convolutions before the first of these layers.
        activation: ``RELU``, ``TANH`` or ``SIGMOID``, after every layer but the last.
        loss: ``CROSS_ENTROPY``, ``BINARY`` or ``SQUARED``.
        sizes: Inputs of the network, then units of each layer; int64 (L + 1,).
        biased: Which layers have biases; bool (L,).
    """

    stages: int
    activation: int
    loss: int
    sizes: Array
    biased: Array


class Kept(NamedTuple):
    """Which weights each network keeps, and where its parameters are.

    The shapes are those of one network, as ``_layers`` takes it; a group has one row a network in
    the first five, and its places count from the start of the group's vectors. L counts stages of
    convolution as well, whose kept weights stand in ``Lists``: here they have no rows, no columns.

    Attributes:
        dense: Which layers are held as whole matrices; bool (L,).
        starts: Where each layer starts in ``theta``, and the end; int64 (L + 1,).
        col_starts: The same in ``cols``.
        mask_starts: The same in ``masks``.
        rows: Where each unit's weights start in its layer, and their end, layer after layer; int64
            (units + L,).
        cols: Which unit of the layer before each weight of a sparse layer reads; int32.
        masks: 1 for what is kept of layers that hold parameters which are not, 0 for those and for
            padding: weights of whole matrices, biases, factors and terms; uint8.
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
        clip_norm: Greatest norm of a network's gradient; 0 for no limit.
        clip_value: Greatest magnitude of a number of it; 0 for no limit.
    """

    adam: bool
    momentum: float
    beta2: float
    nesterov: bool
    l2: float
    decay: float
    clip_norm: float
    clip_value: float


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


class Stages(NamedTuple):
    """The stages of a convolutional network; all int64 (stages,) but the last.

    "start" is a place in a buffer of ``Maps``, "size" what one block of lanes takes there,
    "channel" and "row" are steps; all in elements. x is what a stage reads, f what its convolution
    gives where that is kept, y what comes out of it, z the gradient by the convolution's sums, p
    that by what comes out; "origin" is the place of the first position in its map. Where all of a
    minibatch goes through a stage before any goes on, d is p, u what is pooled, e the gradient by
    that.

    Attributes:
        filters: Output channels.
        height, width: Positions of y.
        activation: ``RELU``, ``TANH``, ``SIGMOID`` or ``LINEAR``.
        pooling: ``NO_POOL``, ``MAXIMUM`` or ``AVERAGE``.
        pool_height, pool_width: Rows and columns that are pooled to one; 1 for none.
        pools_first: 1 where the activation comes after pooling.
        fused: 1 where a tile's sums are rectified and pooled before they are written.
        source: The stage that it reads; -1 for the network's inputs.
        turns, n_turns: Place among the uses, and number, of those for the gradient of x.
        positions: Where those of y start in ``places``.
        adds: The stage whose y is added to its sums; -1 for none.
        added_channel: Its first channel that something is added to.
        added: Where the places in that y start in ``places``, one for each position of z.
        added_slopes: The same in its d.
        sets: 1 where that d has nothing yet when this stage adds to it.
        places: Of each position of each y in its map, and others; first those of positions one
            after the other; int64.
    """

    filters: Array
    height: Array
    width: Array
    activation: Array
    pooling: Array
    pool_height: Array
    pool_width: Array
    pools_first: Array
    fused: Array
    source: Array
    x_start: Array
    x_size: Array
    y_start: Array
    y_size: Array
    y_channel: Array
    f_start: Array
    f_size: Array
    f_channel: Array
    f_row: Array
    z_start: Array
    z_origin: Array
    z_channel: Array
    z_row: Array
    z_height: Array
    z_width: Array
    p_start: Array
    d_start: Array
    d_size: Array
    d_channel: Array
    u_start: Array
    e_start: Array
    code_start: Array
    code_size: Array
    turns: Array
    n_turns: Array
    positions: Array
    adds: Array
    added_channel: Array
    added: Array
    added_slopes: Array
    sets: Array
    places: Array


class Norms(NamedTuple):
    """Batch normalisation of the stages' sums, where all of a minibatch goes through together.

    C counts the channels of all stages, normalised or not. In ``theta`` the factors and then the
    terms of a normalised stage follow its biases.

    Attributes:
        kinds: ``NO_NORM``, ``RESTING``, ``BATCH`` or ``UNTRACKED``; int64 (stages,).
        eps: What is added to variances; float64 (stages,).
        momentum: Share of a minibatch in the running statistics; negative for the mean over all;
            float64 (stages,).
        trains: Whether factors, and terms, are trained; bool (stages, 2).
        firsts: The first channel of each stage; int64 (stages,).
        means: Running means of each network; float (G, C).
        variances: Running variances; float (G, C).
        batches: Minibatches that they are of; int64 (G, stages).
        mean: Of the minibatch, or the running one; float64 (C,).
        spread: Sums of squares about that, then the reciprocal of the deviation; float64 (C,).
        slopes: Sums of the gradient, and of it times what is normalised; float64 (2, C).
        lanes: Sums of each lane; float (2 lanes,).
    """

    kinds: Array
    eps: Array
    momentum: Array
    trains: Array
    firsts: Array
    means: Array
    variances: Array
    batches: Array
    mean: Array
    spread: Array
    slopes: Array
    lanes: Array


class Uses(NamedTuple):
    """Passes of tiles over maps: one forward for each stage, then those for gradients of inputs.

    All int64 (uses,) but ``first`` and ``table``.

    Attributes:
        filters: Channels that it writes.
        mode: What becomes of its sums, from ``PLAIN`` to ``POOLED``.
        y_channel, y_odd, y_pair: Steps in what it writes: from a channel to the next, from an even
            position of a segment to the odd one after it, and to the even one after that.
        g_channel, g_odd, g_pair: The same in activations or codes beside.
        first: Where its segments of 4, 2 and 1 positions start, and their end; (uses, 4).
        table: Of all segments, (segments, 4), flat; see ``geometry``.
    """

    filters: Array
    mode: Array
    y_channel: Array
    y_odd: Array
    y_pair: Array
    g_channel: Array
    g_odd: Array
    g_pair: Array
    first: Array
    table: Array


class Lists(NamedTuple):
    """Which weights of its stages each network keeps, as offsets between places of maps.

    Starts and blocks are int64, one row a network of a group. "turned" are those that the gradient
    of a stage's inputs goes through: by input channel, for each use of ``Stages.turns``.

    Attributes:
        offsets: Of the input of each kept weight, in the order of ``theta``; int32.
        starts: Where each stage starts in ``offsets``, and the end.
        rows: Where the weights of each output channel and block of input channels start; int64.
        row_starts: Where the rows of each stage start.
        blocks: Blocks of input channels of each stage.
        turned: Like ``offsets``, in the order of input channels; int32.
        origins: Which weight of the stage each of those is; int32.
        turned_starts: Where each use starts in ``turned``, and the end.
        turned_rows: Like ``rows``.
        turned_row_starts: Where the rows of each use start.
        turned_blocks: Blocks of output channels of each use.
    """

    offsets: Array
    starts: Array
    rows: Array
    row_starts: Array
    blocks: Array
    turned: Array
    origins: Array
    turned_starts: Array
    turned_rows: Array
    turned_row_starts: Array
    turned_blocks: Array


class Maps(NamedTuple):
    """Memory for the feature maps of one network; float but for ``codes``.

    On ``LANES`` examples, or where all of a minibatch goes through a stage together on all of it.

    Attributes:
        maps: y of all stages but the last, f, u, d and e, for all blocks of lanes.
        slopes: z and p of all stages, for one block of lanes.
        codes: Which input of each pooled unit won, for all blocks of lanes; int8.
        sums: Of a tile over all output channels, between blocks of input channels.
        turned: Weights in the order of ``Lists.turned``.
        features: y of the last stage, (blocks of ``LANES``, features, LANES); empty where it goes
            straight to the layers after it.
    """

    maps: Array
    slopes: Array
    codes: Array
    sums: Array
    turned: Array
    features: Array


class Convolutions(NamedTuple):
    """All that convolutions need: what is common to networks, what each keeps, memory to work in.

    Attributes:
        lanes: Examples in a block of lanes.
        places: Of each input of an example in the first map, int64 (inputs,).
        stages: The stages.
        uses: The passes over maps.
        lists: What the networks keep.
        maps: Memory.
    """

    lanes: int
    places: Array
    stages: Stages
    uses: Uses
    lists: Lists
    maps: Maps


class Together(NamedTuple):
    """Convolutions where all of a minibatch goes through a stage before any goes on.

    Attributes:
        net: The convolutions.
        norms: How their sums are normalised.
    """

    net: Convolutions
    norms: Norms
