"""Objectives: what evolution optimises, each with its name, direction and worst value.

To add one: write a function of what was measured (``measures`` holds those of the trained network)
and give it a line in ``OBJECTIVES``, or in ``FACTORIES`` if it takes a number. The record says what
the evaluator has to measure for it.

One file: the record, and the table of all that is shipped.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from torch import Tensor

from nets_deap import _checks
from nets_deap.evolution import measures
from nets_deap.evolution.measured import Measured
from nets_deap.models.compact.runtime import RUNTIMES
from nets_deap.tickets.ticket import Ticket

WORST_LOSS = 1e6
DIRECTIONS = ("min", "max")


@_checks.signed
@dataclass(frozen=True)
class Objective:
    """A number to optimise.

    Args:
        name: Its name in fitness, logs and files.
        direction: ``"min"`` or ``"max"``.
        worst: The finite value that a diverged network gets; a worse one once that is not the worst
            that a network can do, see ``worst_for`` and ``beyond``.
        measure: Computes it from what was measured; a non-finite result counts as diverged.
        reference: Where the hypervolume is measured from: a number, or ``"chance"`` for the loss
            of the best constant output, plus ``reference_offset``; or ``"dense"`` for the value
            of the dense ticket, where the objective needs nothing but the mask.
        needs_curve: Whether the validation curve must be measured during training.
        reference_offset: Added to the reference.
        needs_state: Whether it needs the trained network itself (``Measured.state``).
        needs_accuracy: Whether it is defined only for losses that have an accuracy.
        timed: Whether it is a measured time, never twice the same.
        about: What it is, in a phrase, for the table in the documentation.
    """

    name: str
    direction: str
    worst: float
    measure: Callable[[Measured], float]
    reference: float | str = "chance"
    needs_curve: bool = False
    reference_offset: float = 0.0
    needs_state: bool = False
    needs_accuracy: bool = False
    timed: bool = False
    about: str = ""

    def __post_init__(self) -> None:
        _checks.choice("direction", self.direction, DIRECTIONS)
        _checks.real("worst", self.worst)
        if self.reference not in ("chance", "dense"):
            _checks.real("reference", self.reference)
        elif self.direction == "max" and self.reference == "chance":
            raise _checks.bad_value(
                "reference",
                "be a number for a maximised objective",
                "a float",
                "chance",
                "'chance' is a loss; give the value that counts as nothing, such as worst.",
            )

    @property
    def weight(self) -> float:
        """DEAP's weight, -1.0 to minimise and 1.0 to maximise."""
        return -1.0 if self.direction == "min" else 1.0

    def reference_for(self, chance: float, dense: Ticket, task: Any = None) -> float:
        """Return the reference value, given the loss of the best constant output."""
        if self.reference == "dense":
            base = _number(self, self.measure(Measured.untrained(dense, task)))
        else:
            base = chance if self.reference == "chance" else float(self.reference)
        return base + self.reference_offset

    def worst_for(self, chance: float) -> float:
        """Return what a diverged network gets, given the loss of the best constant output.

        The declared value. But ``WORST_LOSS`` is no bound: where knowing nothing costs more, as for
        prices, it is one beyond that.
        """
        if self.reference != "chance" or self.worst < WORST_LOSS:
            return float(self.worst)
        return self.beyond(chance, self.worst)

    def beyond(self, value: float, worst: float) -> float:
        """Return ``worst``, or where a value is worse, a power of a million far beyond it: finite.

        No finite value is too large for a network that trains: prices have losses of 1e10. A few
        powers, so that the exact value does not tell in which company a network has diverged.
        """
        if not math.isfinite(value) or self.weight * value >= self.weight * worst:
            return float(worst)
        power = math.floor(math.log10(max(abs(value), 1.0)) / 6) + 2
        return -self.weight * (10.0 ** (6 * power) if power < 51 else sys.float_info.max)


def values_of(objectives: Sequence[Objective], measured: Measured) -> tuple[float, ...] | None:
    """Return the objectives' values as plain floats; None if the network diverged.

    It did if any value or loss is not finite. However large, a finite one counts.
    """
    values = tuple(_number(o, o.measure(measured)) for o in objectives)
    losses = (measured.metrics["train_loss"], measured.metrics["val_loss"])
    return values if all(map(math.isfinite, (*values, *losses))) else None


def _number(objective: Objective, found: Any) -> float:
    """Return what an objective has measured as a float.

    Raises:
        InvalidTypeError: It is not one real number.
    """
    one = found.item() if getattr(found, "size", None) == 1 and hasattr(found, "item") else found
    if isinstance(found, Tensor) and found.numel() == 1:
        one = found.item()
    if not isinstance(one, Real):
        raise _checks.bad_type(
            f"objective {objective.name!r}",
            "return one number",
            "a float from its measure",
            found,
            "Give each number an objective of its own.",
        )
    return float(one)


def worst_values(objectives: Sequence[Objective], chance: float = 0.0) -> tuple[float, ...]:
    """Return what a diverged network gets, given the loss of the best constant output."""
    return tuple(objective.worst_for(chance) for objective in objectives)


def resolve(objectives: str | Objective | Sequence[str | Objective]) -> tuple[Objective, ...]:
    """Return objectives given by name or as they are.

    Args:
        objectives: Objectives, or names: those of ``OBJECTIVES``, and of ``FACTORIES`` with
            their number after a colon, as in ``"penalised:0.2"``.

    Raises:
        InvalidValueError: None at all, an unknown name, or one name twice.
    """
    if isinstance(objectives, (str, Objective)):
        objectives = [objectives]
    if not isinstance(objectives, (list, tuple)):
        raise _checks.bad_type("objectives", "be names or Objectives", "a tuple", objectives)
    given = list(objectives)
    found = tuple(item if isinstance(item, Objective) else _by_name(item) for item in given)
    names = [objective.name for objective in found]
    if not found or len(set(names)) < len(names):
        raise _checks.bad_value("objectives", "be distinct", "one or more, each once", names)
    return found


def _by_name(text: object) -> Objective:
    """Return an objective from its name, with a number after a colon where it takes one."""
    if isinstance(text, str) and text in OBJECTIVES:
        return OBJECTIVES[text]
    name, colon, number = text.partition(":") if isinstance(text, str) else ("", "", "")
    if not colon or name not in FACTORIES:
        known = (*OBJECTIVES, *(f"{factory}:NUMBER" for factory in FACTORIES))
        _checks.choice("objectives", text, known, "Or give a nets.Objective.")
    try:
        value = float(number)
    except ValueError:
        raise _checks.bad_value("objectives", "end in a number", f"{name}:0.2", text) from None
    return FACTORIES[name](value)


@_checks.signed
def penalised(target_density: float = 0.2) -> Objective:
    """Return the single fitness of NeTS: validation loss + ((d - t) / (1 - t))^2, minimised.

    Args:
        target_density: The density t in (0, 1) that costs nothing.

    Reference:
        Jackson et al. 2023, Neuroevolution Ticket Search.
    """
    t = _checks.inner_share("target_density", target_density)

    measure = functools.partial(measures.penalised, t)
    about = "validation loss + a penalty above that density: the fitness of NeTS"
    return Objective("penalised", "min", WORST_LOSS, measure, reference_offset=1.0, about=about)


@_checks.signed
def steps_to_loss(loss: float) -> Objective:
    """Return the steps until the validation loss is at most ``loss``, minimised.

    Measured at the recipe's ``val_points``; where it is never reached, one more than the steps
    trained.
    """
    limit = _checks.real("loss", loss)

    return Objective(
        f"steps_to_{limit:g}",
        "min",
        1e9,
        functools.partial(measures.steps_to_loss, limit),
        reference=1e4,
        needs_curve=True,
        about="steps until the validation loss is that low",
    )


@_checks.signed
def noise_accuracy(sigma: float) -> Objective:
    """Return the validation accuracy under Gaussian input noise of that size, maximised.

    Args:
        sigma: Standard deviation of the noise on each input, >= 0; the same noise every time.
    """
    measure = measures.noise_accuracy(sigma)
    worst = measures.WORST_ACCURACY
    name = f"noise_accuracy_{sigma:g}"
    about = "validation accuracy under Gaussian input noise of that size"
    return Objective(name, "max", worst, measure, reference=0.0, needs_state=True, about=about)


@_checks.signed
def latency(batch: float = 1, *, runtime: str = "torch", threads: int = 1) -> Objective:
    """Return the measured time of a minibatch through the compact network, in ms, minimised.

    On the CPU, medians, in turns with the dense network, see ``measures.latency``. A measured time
    is never twice the same: where runs must be, take ``multiply_adds``.

    Args:
        batch: Examples in the minibatch.
        runtime: ``"torch"`` or ``"onnxruntime"``, to which each ticket's network is exported, which
            takes a second or two.
        threads: That the runtime may use.
    """
    whole = int(batch) if isinstance(batch, float) and batch.is_integer() else batch
    n, kind = _checks.whole("batch", whole), _checks.choice("runtime", runtime, RUNTIMES)
    cores = _checks.whole("threads", threads)
    measure = functools.partial(measures.latency, n, kind, cores)
    name = f"latency_{n}" + ("" if kind == "torch" else f"_{kind}")
    name += "" if cores == 1 else f"_threads_{cores}"
    about = "measured milliseconds of a minibatch of that size through the compact network"
    return Objective(
        name, "min", measures.WORST_COUNT, measure, reference="dense", timed=True, about=about
    )


#: What is known by its name.
OBJECTIVES: dict[str, Objective] = {
    objective.name: objective
    for objective in (
        Objective(
            "val_loss",
            "min",
            WORST_LOSS,
            functools.partial(measures.metric, "val_loss"),
            about="mean loss over the validation split",
        ),
        Objective(
            "val_accuracy",
            "max",
            0.0,
            functools.partial(measures.metric, "val_accuracy"),
            reference=0.0,
            needs_accuracy=True,
            about="share of validation examples that are right",
        ),
        Objective(
            "train_loss",
            "min",
            WORST_LOSS,
            functools.partial(measures.metric, "train_loss"),
            about="loss of the training split",
        ),
        Objective(
            "density",
            "min",
            1.0,
            measures.density,
            reference=1.0,
            about="kept / maskable weights",
        ),
        Objective(
            "multiply_adds",
            "min",
            measures.WORST_COUNT,
            measures.multiply_adds,
            reference="dense",
            about="of one example, through what ``Ticket.compact`` leaves of the network; where it "
            "cannot be compacted, as the next",
        ),
        Objective(
            "sparse_multiply_adds",
            "min",
            measures.WORST_COUNT,
            measures.sparse_multiply_adds,
            reference="dense",
            about="of one example, with live kept weights alone, each at every position",
        ),
        Objective(
            "live_inputs",
            "min",
            measures.WORST_COUNT,
            measures.live_inputs,
            reference="dense",
            about="numbers of an input that any output depends on, through kept weights",
        ),
        Objective(
            "parameters",
            "min",
            measures.WORST_COUNT,
            measures.parameters,
            reference="dense",
            about="of what ``Ticket.compact`` leaves of the network",
        ),
        Objective(
            "activation_memory",
            "min",
            measures.WORST_COUNT,
            measures.activation_memory,
            reference="dense",
            about="bytes of a layer's inputs and outputs, the most of all, for one example through "
            "what ``Ticket.compact`` leaves",
        ),
        Objective(
            "int8_accuracy",
            "max",
            measures.WORST_ACCURACY,
            measures.int8_accuracy,
            reference=0.0,
            needs_state=True,
            about="validation accuracy with weights rounded to int8",
        ),
        Objective(
            "val_curve_area",
            "min",
            WORST_LOSS,
            measures.area,
            needs_curve=True,
            about="mean validation loss over training",
        ),
    )
}

#: What is known by its name and a number, as ``"penalised:0.2"``.
FACTORIES: dict[str, Callable[[float], Objective]] = {
    "penalised": penalised,
    "steps_to_loss": steps_to_loss,
    "noise_accuracy": noise_accuracy,
    "latency": latency,
    "latency_onnxruntime": functools.partial(latency, runtime="onnxruntime"),
}


def describe(objectives: Sequence[Objective]) -> list[dict[str, Any]]:
    """Return the objectives as plain data, for a run's configuration."""
    return [
        {"name": o.name, "direction": o.direction, "worst": o.worst, "weight": o.weight}
        for o in objectives
    ]
