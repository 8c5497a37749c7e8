"""What evolution optimises: numbers of training, size once compact, accuracy under noise.

Most of these have no gradient. Each function measures one trained ticket; ``objectives`` gives them
names, directions and worst values. An objective of one's own is any such function. Those here stand
in the module itself, with their numbers by ``functools.partial``, so that they can be pickled.

One file: each measure is a few lines; what they share is most of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from nets_deap import _checks
from nets_deap.data.streamed import spec_of
from nets_deap.errors import InvalidValueError, NetsError
from nets_deap.inputs.call import call_with
from nets_deap.inputs.nested import each, leaves_of, length_of
from nets_deap.models.compact.footprint import CompactCost
from nets_deap.models.compact.kept import KeptCost
from nets_deap.models.compact.runtime import Runner, activation_bytes, latencies, runner_of
from nets_deap.models.private import copied, set_state
from nets_deap.models.tensors import Mask
from nets_deap.tickets import live
from nets_deap.training.batches import eval_batches, example_of
from nets_deap.training.losses import n_correct, n_labelled
from nets_deap.training.precision import slow_path
from nets_deap.training.problem import Problem, once, working
from nets_deap.training.recipe import name_of

if TYPE_CHECKING:
    from nets_deap.evolution.measured import Measured
    from nets_deap.training.task import Task

# Objectives that a search makes small by taking whole inputs and neurons.
OF_UNITS = ("multiply_adds", "live_inputs")
# Objectives that a search makes small, as it does density.
STRUCTURAL = (*OF_UNITS, "sparse_multiply_adds", "parameters", "activation_memory")
# No multiply-adds, inputs or accuracy can be worse than these.
WORST_COUNT = 1e15
WORST_ACCURACY = 0.0
INT8_LEVELS = 127
ROWS_AT_ONCE = 1000
REPEATS = 30  # timed passes of a ticket's network
NOISE_SEED = 2**31 - 2  # beside the seeds of generations and of the final training

State = Mapping[str, Tensor]


def metric(name: str, measured: Measured) -> float:
    """Return one of the numbers that training gives."""
    return measured.metrics[name]


def density(measured: Measured) -> float:
    """Return kept / maskable weights."""
    return measured.ticket.density


def area(measured: Measured) -> float:
    """Return the mean validation loss over training, by the trapezium rule between points."""
    assert measured.curve is not None
    if len(measured.curve) == 1:
        return float(measured.curve[0])
    steps = np.asarray(measured.curve_steps, dtype=np.float64)
    return float(np.trapezoid(measured.curve, steps) / (steps[-1] - steps[0]))


def penalised(target: float, measured: Measured) -> float:
    """Return the validation loss and the squared excess over a density."""
    excess = (measured.ticket.density - target) / (1 - target)
    return measured.metrics["val_loss"] + excess**2


def steps_to_loss(limit: float, measured: Measured) -> float:
    """Return the first step at which the validation loss is low enough, or one more than all."""
    assert measured.curve is not None
    reached = np.flatnonzero(measured.curve <= limit)
    return float(measured.curve_steps[reached[0]] if len(reached) else measured.steps + 1)


def multiply_adds(measured: Measured) -> float:
    """Return the multiply-adds of one example through the compact network, to minimise.

    Exactly those of what ``Ticket.compact`` gives after any training: of dense layers, which are
    smaller, with convolutions at each of their positions. Of a network that cannot be followed,
    those of ``sparse_multiply_adds``.

    Args:
        measured: With its task; without one the ticket's layers count as the whole network, fully
            connected and in sequence.

    Raises:
        InvalidValueError: There is no task, and they are not.
    """
    weights, mask = measured.ticket.layout.weights, measured.ticket.mask
    if measured.task is None:
        return float(live.multiply_adds(weights, mask))
    problem, masks = measured.task.problem, weights.split(mask)
    cost = _compact_cost(problem)
    if isinstance(cost, str):
        return _kept_multiply_adds(problem, masks)
    return float(cost.multiply_adds(masks))


def sparse_multiply_adds(measured: Measured) -> float:
    """Return the multiply-adds of one example with live kept weights alone, to minimise.

    Those of sparse kernels, of any network: a weight on a path from an input to an output counts
    once for each position that it is applied at; see ``models.compact.kept.KeptCost``.

    Args:
        measured: As for ``multiply_adds``.

    Raises:
        InvalidValueError: As for ``multiply_adds``.
    """
    weights, mask = measured.ticket.layout.weights, measured.ticket.mask
    if measured.task is None:
        return float(live.sparse_multiply_adds(weights, mask))
    return _kept_multiply_adds(measured.task.problem, weights.split(mask))


def live_inputs(measured: Measured) -> float:
    """Return how many numbers of an input any output depends on, to minimise.

    Those to which a path of kept weights leads from an output; of images single pixels.

    Args:
        measured: With its task, whose model can be followed (see
            ``models.compact.compact.compact``); or without one as for ``multiply_adds``.

    Raises:
        InvalidValueError: It is neither.
    """
    weights, mask = measured.ticket.layout.weights, measured.ticket.mask
    if measured.task is None:
        return float(live.live_inputs(weights, mask))
    cost = _compact_cost(measured.task.problem)
    if isinstance(cost, str):
        raise _not_followed("live_inputs", cost)
    try:
        return float(cost.live_inputs(weights.split(mask)))
    except InvalidValueError as error:
        raise _not_followed("live_inputs", str(error)) from error


@once
def _compact_cost(problem: Problem) -> CompactCost | str:
    """Return what counts for a problem's model once compact, or why it cannot be compacted."""
    try:
        return CompactCost(problem.model, example_of(problem))
    except InvalidValueError as error:
        return str(error)


@working
def _kept_multiply_adds(problem: Problem, masks: Mapping[str, Mask]) -> float:
    """Return the multiply-adds of the live weights that masks keep."""
    return float(_kept_cost(problem).multiply_adds(masks))


@once
def _kept_cost(problem: Problem) -> KeptCost:
    """Return what counts live kept weights of a problem's model."""
    return KeptCost(problem.model, example_of(problem))


def parameters(measured: Measured) -> float:
    """Return how many parameters ``Ticket.compact`` leaves of the network, to minimise.

    Raises:
        InvalidValueError: The network cannot be compacted.
    """
    return float(sum(p.numel() for p in _small(measured, "parameters").parameters()))


def activation_memory(measured: Measured) -> float:
    """Return the bytes of a layer's inputs and outputs, the most of all layers, to minimise.

    Of one example through what ``Ticket.compact`` leaves; see ``activation_bytes``.

    Raises:
        InvalidValueError: The network cannot be compacted.
    """
    small = _small(measured, "activation_memory")
    assert measured.task is not None
    return float(activation_bytes(small, example_of(measured.task.problem)))


def latency(batch: int, runtime: str, threads: int, measured: Measured) -> float:
    """Return the milliseconds that a minibatch takes on the CPU, to minimise; see ``latency``.

    Through what ``Ticket.compact`` leaves. Measured in turns with the dense network, and given as
    that share of what the dense one took when it was measured first: where the machine is slower
    for a while, both are.

    Raises:
        InvalidValueError: The network cannot be compacted.
        MissingExtraError: The runtime is not installed.
    """
    small = _small(measured, "latency")
    assert measured.task is not None
    problem = measured.task.problem
    inputs = _rows(problem, batch)
    dense, whole = _dense_latency(problem, batch, runtime, threads)
    runners = {"dense": dense, "small": runner_of(small, inputs, runtime, threads)}
    found = latencies(runners, inputs.numpy(), repeats=REPEATS, threads=threads)
    return 1e3 * whole * found["small"] / found["dense"]


@once
def _dense_latency(
    problem: Problem, batch: int, runtime: str, threads: int
) -> tuple[Runner, float]:
    """Return the dense network as a function, and its seconds for a minibatch."""
    inputs = _rows(problem, batch)
    run = runner_of(_module_of(problem), inputs, runtime, threads)
    found = latencies({"dense": run}, inputs.numpy(), repeats=3 * REPEATS, threads=threads)
    return run, found["dense"]


def _rows(problem: Problem, n: int) -> Tensor:
    """Return validation inputs (n, ...) on the CPU, some more than once where there are fewer."""
    _, inputs, _ = next(eval_batches(problem.val, min(n, length_of(problem.val[0]))))
    if not isinstance(inputs, Tensor):
        raise _not_followed("latency", "the network takes several inputs")
    return inputs.cpu()[torch.arange(n, device="cpu") % len(inputs)].contiguous()


def _module_of(problem: Problem) -> nn.Module:
    """Return a problem's network at W0, on the CPU, in evaluation mode."""
    model = copied(problem.model).cpu()
    set_state(model, {**problem.initial, **problem.buffers})
    return model.eval()


def _small(measured: Measured, objective: str) -> nn.Module:
    """Return what is left of a ticket's network at W0; its shapes do not depend on training."""
    if measured.task is None:
        raise _not_followed(objective, "there is no task")
    problem, ticket = measured.task.problem, measured.ticket
    known = problem.cache.facts.get(_small)  # of the ticket measured last, by other objectives
    key = ticket.packed_mask.tobytes()
    if known is None or known[0] != key:
        try:
            network = ticket.apply(_module_of(problem))
            known = key, ticket.compact(network, example_of(problem))
        except InvalidValueError as error:
            raise _not_followed(objective, str(error)) from error
        problem.cache.facts[_small] = known
    small: nn.Module = known[1]
    return small


def _not_followed(objective: str, why: str) -> NetsError:
    """Return the error for an objective that a task's network does not have."""
    return _checks.bad_value(
        "objectives",
        "be those that the network has",
        "others, or a network that can be compacted",
        objective,
        f"It is counted on what compact leaves, and {why}",
    )


def int8_accuracy(measured: Measured) -> float:
    """Return the validation accuracy with weights rounded to int8, to maximise; in [0, 1].

    Each tensor of two or more axes is rounded symmetrically to 255 levels of its own; biases and
    activations stay as they are. Pruned weights stay zero.

    Args:
        measured: With the task and the trained network.

    Raises:
        InvalidValueError: It has no trained network, or the loss defines no accuracy.

    Reference:
        Jacob et al. 2018, Quantization and training of neural networks for efficient
        integer-arithmetic-only inference, https://arxiv.org/abs/1712.05877
    """
    task, state = trained(measured, "int8_accuracy")
    weights = {name for name, tensor in task.problem.initial.items() if tensor.ndim > 1}
    rounded = {n: rounded_to_int8(t) if n in weights else t for n, t in state.items()}
    return accuracy(measured.problem, rounded)


def noise_accuracy(sigma: float) -> Callable[[Measured], float]:
    """Return a measure of the validation accuracy with noisy inputs, to maximise; in [0, 1].

    The noise is Gaussian and the same for all networks of a task, in every generation. Of several
    inputs the floating-point ones get it; indices and masks stay.

    Args:
        sigma: Standard deviation of the noise, >= 0, in units of the task's inputs.

    Returns:
        A function of ``Measured``; it raises InvalidValueError where there is no trained network,
        the loss defines no accuracy, or no input is floating-point.

    Reference:
        Hendrycks & Dietterich 2019, Benchmarking neural network robustness to common corruptions
        and perturbations, https://arxiv.org/abs/1903.12261
    """
    return functools.partial(_noise_accuracy, _checks.real("sigma", sigma, low=0))


def _noise_accuracy(scale: float, measured: Measured) -> float:
    """Return the validation accuracy with noise of that size on the inputs."""
    task, state = trained(measured, f"noise_accuracy:{scale:g}")
    rng = np.random.default_rng(task.derived_seed(NOISE_SEED))
    real = [
        leaf for leaf in leaves_of(spec_of(measured.problem.val[0])) if leaf.is_floating_point()
    ]
    if not real:
        rule, expected = "suit the inputs", "a floating-point one to add noise to"
        got = f"noise_accuracy:{scale:g} of whole numbers"
        hint = "Images of bytes are real numbers under Task(normalize=(mean, std))."
        raise _checks.bad_value("objectives", rule, expected, got, hint)
    noise = []
    for leaf in real:
        drawn = rng.standard_normal(tuple(leaf.shape), dtype=np.float32)
        noise.append(scale * torch.from_numpy(drawn).to(task.device))
    return accuracy(measured.problem, state, noise)


def rounded_to_int8(tensor: Tensor) -> Tensor:
    """Return a tensor on the 255 levels -127..127 times max|w| / 127; zero stays zero."""
    step = tensor.abs().max() / INT8_LEVELS
    if not bool(step > 0):
        return tensor
    return (tensor / step).round().clamp(-INT8_LEVELS, INT8_LEVELS) * step


@working
def accuracy(problem: Problem, state: State, noise: Sequence[Tensor] = ()) -> float:
    """Return the accuracy in [0, 1] of a network in evaluation mode on the validation data.

    Args:
        problem: The model and the validation data.
        state: Parameters and buffers by name.
        noise: What is added to the floating-point inputs, one for each, of its shape (N, ...);
            empty for nothing.
    """
    model, mode = problem.model, problem.model.training
    here = {name: tensor.to(problem.device) for name, tensor in state.items()}
    done, correct, labelled = 0, 0.0, 0.0
    try:
        model.eval()
        with torch.no_grad(), slow_path():
            for n, x, y in eval_batches(problem.val, ROWS_AT_ONCE):
                some = _noisy(x, [one[done : done + n] for one in noise]) if noise else x
                output = call_with(model, here, some)
                own = (problem.recipe.loss, output, y, problem.ignored)
                correct += float(n_correct(*own))
                labelled += float(n_labelled(*own))
                done += n
    finally:
        model.train(mode)
    return correct / labelled if labelled else float("nan")


def _noisy(inputs: Any, noise: Sequence[Tensor]) -> Any:
    """Return inputs, noise added to those that are floating-point, in order."""
    rest = iter(noise)
    return each(inputs, lambda x: x + next(rest).to(x.dtype) if x.is_floating_point() else x)


def trained(measured: Measured, objective: str) -> tuple[Task, State]:
    """Return the task and the trained parameters and buffers, or raise if there are none."""
    task: Any = getattr(measured, "task", None)
    state: Any = getattr(measured, "state", None)
    if task is None or state is None:
        raise _checks.bad_value(
            "measured",
            f"hold the trained network for {objective!r}",
            "its task and state",
            None,
            "Evaluate with nets.Evaluator.",
        )
    if not task.has_accuracy:
        raise _checks.bad_value(
            "objectives",
            "be defined for the loss",
            f"losses only under {name_of(task.recipe.loss)}",
            objective,
        )
    return task, state()
