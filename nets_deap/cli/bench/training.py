"""Training: network-steps per second of one at a time, plain ``vmap`` and ours, in one run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor, nn

from nets_deap import _checks, models
from nets_deap.cli.bench import growth, rivals
from nets_deap.cli.bench.bound import cost_of
from nets_deap.cli.bench.hardware import Limits, peak_memory, settle
from nets_deap.names import ENGINES, PRECISIONS
from nets_deap.tickets import bits
from nets_deap.training.engines.dispatch import pick_engine, train
from nets_deap.training.precision import products
from nets_deap.training.problem import Plan
from nets_deap.training.recipe import LENET_RECIPE
from nets_deap.training.task import Task

EXAMPLES = 20_000
# Each with the shape of an example and the minibatch of its paper; of ResNet-20 half of that.
NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "lenet": (models.lenet_300_100, (1, 28, 28), 60),
    "lenet5": (models.lenet5, (1, 28, 28), 60),
    "conv2": (lambda: models.conv(2, image=(1, 28, 28)), (1, 28, 28), 60),
    "conv4": (lambda: models.conv(4), (3, 32, 32), 60),
    "conv6": (lambda: models.conv(6), (3, 32, 32), 60),
    "resnet20": (models.resnet20, (3, 32, 32), 64),
}
USUAL = ("lenet", "lenet5")
POPULATIONS = {"cpu": (1, 8, 64), "cuda": (1, 8, 64, 256, 1024)}
DENSITIES = (1.0, 0.2, 0.05, 0.01)
FIRST_STEPS = 4

Timed = Callable[[int], float]


@dataclass(frozen=True)
class Asked:
    """What is to be measured: every combination of networks, numbers of them and densities.

    Attributes:
        nets: Some of ``NETS``; ``USUAL`` ones by default.
        populations: Numbers of networks P; none for ``POPULATIONS`` of the device.
        densities: Densities of random masks.
        repeats: Interleaved repeats of the three measurements.
        seconds: About how long each measurement takes.
        device: As for ``nets.Task``, and so are ``engine`` and ``precision``.

    Raises:
        InvalidValueError: One of these cannot be measured.
    """

    nets: Sequence[str] = USUAL
    populations: Sequence[int] = ()
    densities: Sequence[float] = DENSITIES
    repeats: int = 5
    seconds: float = 0.5
    device: str = "auto"
    engine: str = "auto"
    precision: str = "float32"

    def __post_init__(self) -> None:
        for net in self.nets:
            _checks.choice("net", net, NETS)
        _checks.choice("engine", self.engine, ENGINES)
        _checks.choice("precision", self.precision, PRECISIONS)
        _checks.whole("repeats", self.repeats)
        _checks.real("seconds", self.seconds, low=0, open_low=True)
        for density in self.densities:
            _checks.density("densities", density)
        for population in self.populations:
            _checks.whole("populations", population)


@dataclass(frozen=True)
class Row:
    """One line of the table: P networks of one kind at one density.

    Rates are network-steps per second, medians over the repeats; ratios are medians of the
    ratios within each repeat, whose three measurements follow each other.

    Attributes:
        engine: Which engine "ours" was.
        one: Rate of one network at a time in a lean torch loop.
        vmap: Rate of plain ``torch.func.vmap``.
        ours: Rate of the engine.
        vmap_ratio: ``vmap`` over ``one``.
        ours_ratio: ``ours`` over ``one``.
        flops: Floating-point operations that one network-step needs.
        bytes: Bytes that it moves, through memory or a cache.
        bound_share: Rate of ours over the rate that the machine's limits allow.
        spread: Greatest over least rate of the repeats, of whichever of the three varied most.
        peak_bytes: Most memory in use while ours trained; None where the system does not tell.
    """

    net: str
    population: int
    density: float
    engine: str
    one: float
    vmap: float
    ours: float
    vmap_ratio: float
    ours_ratio: float
    flops: float
    bytes: float
    bound_share: float
    spread: float
    peak_bytes: float | None


def make_task(net: str, device: str = "auto", *, width: float = 1.0, **options: Any) -> Task:
    """Return a task of random examples in the shape of a data set: speed does not depend on them.

    Args:
        net: ``"lenet"`` (LeNet-300-100, its hidden layers times ``width``), or another of
            ``NETS``.
        device: As for ``nets.Task``.
        width: Factor on the hidden layers of LeNet-300-100.
        **options: Passed to ``nets.Task``.
    """
    rng = np.random.default_rng(0)
    build, shape, batch = NETS[_checks.choice("net", net, NETS)]
    model = build()
    if width != 1:
        model = models.MLP((784, round(300 * width), round(100 * width), 10))
    x = rng.standard_normal((EXAMPLES, *shape), dtype=np.float32)
    y = rng.integers(0, 10, EXAMPLES)
    recipe, few = replace(LENET_RECIPE, batch_size=batch), slice(batch)
    return Task(model, train=(x, y), val=(x[few], y[few]), recipe=recipe, device=device, **options)


def measure(asked: Asked, limits: Limits) -> Iterator[Row]:
    """Measure every combination, one after the other, against the ``limits`` of the machine."""
    for net in asked.nets:
        task = make_task(net, asked.device, engine=asked.engine, precision=asked.precision)
        for population in asked.populations or POPULATIONS[task.device.type]:
            for density in asked.densities:
                yield _row(task, net, population, density, asked, limits)


def _row(
    task: Task, net: str, population: int, density: float, asked: Asked, limits: Limits
) -> Row:
    """Measure one combination."""
    masks = growth.random_masks(task, population, density)
    one = _clocked(task, rivals.one_at_a_time(task, masks[0])[0])
    vmap = _clocked(task, rivals.plain_vmap(task, masks)[0])
    clocks = {"one": (one, 1), "vmap": (vmap, population), "ours": (ours(task, masks), population)}
    steps = {name: growth.enough_steps(clock, asked.seconds) for name, (clock, _) in clocks.items()}
    rates: dict[str, list[float]] = {name: [] for name in clocks}
    for _ in range(asked.repeats):
        for name, (clock, networks) in clocks.items():
            rates[name].append(networks * growth.rate(clock, steps[name]))
    with peak_memory(task.device) as peak:
        clocks["ours"][0](FIRST_STEPS)
    engine = pick_engine(task.engine, task.problem)
    cost = cost_of(task, engine, density, population)
    median = {name: statistics.median(values) for name, values in rates.items()}
    ratio = {
        name: statistics.median(a / b for a, b in zip(rates[name], rates["one"], strict=True))
        for name in ("vmap", "ours")
    }
    return Row(
        net=net,
        population=population,
        density=density,
        engine=engine,
        **median,
        vmap_ratio=ratio["vmap"],
        ours_ratio=ratio["ours"],
        flops=cost.flops,
        bytes=cost.bytes,
        bound_share=median["ours"] * cost.seconds(limits.flops, limits.bytes),
        spread=max(max(values) / min(values) for values in rates.values()),
        peak_bytes=peak.bytes,
    )


def ours(task: Task, masks: list[bits.Bytes]) -> Timed:
    """Return a function that trains with the task's engine and tells the seconds."""

    def clock(steps: int) -> float:
        start = time.perf_counter()
        train(task.problem, masks, Plan(steps, 1), engine=task.engine, chunk=task.chunk)
        return time.perf_counter() - start

    return clock


def _clocked(task: Task, run: Callable[[Tensor], None]) -> Timed:
    """Return a function that takes steps in the task's precision and tells the seconds.

    In bf16 only the engine takes products: ``run`` takes them in float32.
    """
    batches = Plan(FIRST_STEPS, 1).batches(EXAMPLES, task.recipe.batch_size).to(task.device)

    def clock(steps: int) -> float:
        rows = batches.repeat(-(-steps // FIRST_STEPS), 1)[:steps]
        settle(task.device)
        start = time.perf_counter()
        with products(task.precision):
            run(rows)
        settle(task.device)
        return time.perf_counter() - start

    return clock
