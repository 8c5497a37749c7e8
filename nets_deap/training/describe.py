"""``describe``: what a task is made of, as a table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from nets_deap import _checks
from nets_deap._table import Brief, table
from nets_deap.data.streamed import spec_of
from nets_deap.inputs.nested import named
from nets_deap.models.maskable import Parameter
from nets_deap.names import NEURON, TWO_OF_FOUR
from nets_deap.tickets.units import UnitLayout
from nets_deap.training.engines.dispatch import pick_engine, reason_for
from nets_deap.training.task import Task, check_task


@dataclass(frozen=True, repr=False)
class Description(Brief):
    """What a task is made of; ``str`` of it is a table.

    Attributes:
        parameters: All parameters of the model in its own order, maskable or not, and why.
        maskable: Weights that masks can prune, D.
        unit: What one bit of a mask gates.
        units: How many bits a mask has; D where they gate single weights.
        whole: Why layers keep all their outputs, by name, where units are neurons or heads.
        total: Numbers in all parameters, tied ones once.
        layers: Tensors that hold the maskable weights, L.
        examples: Examples of each split by name.
        image: Shape of one input; of several their shapes by name: ``['mask']``, ``[0]``.
        recipe: How networks are trained, in a few words.
        engine: What trains them.
        why: Why that engine does.
        device: Where.
        dtype: Of weights and inputs.
    """

    parameters: tuple[Parameter, ...]
    maskable: int
    unit: str
    units: int
    whole: dict[str, str]
    total: int
    layers: int
    examples: dict[str, int]
    image: tuple[int, ...] | dict[str, tuple[int, ...]]
    recipe: str
    engine: str
    why: str
    device: str
    dtype: str

    @property
    def granularity(self) -> float:
        """The density of a single weight, of which densities are multiples."""
        return 1 / self.maskable

    @property
    def kernels(self) -> str:
        """What makes networks of this unit faster, where that is not cutting them; else empty."""
        if self.unit == TWO_OF_FOUR:
            return (
                "ticket.to_semi_structured on a CUDA GPU of compute capability 8.0 or higher; on "
                "the CPU torch has none, and networks take as long as the dense one"
            )
        if self.unit.startswith("block"):
            return (
                "none of their own; ticket.to_csr is faster than dense below some 20 % density, on "
                "large minibatches"
            )
        return ""

    def rows(self) -> list[dict[str, Any]]:
        """Return the table as plain data, a row for each parameter."""
        return [
            {
                "parameter": p.name,
                "module": p.module,
                "shape": _shape(p.shape),
                "size": math.prod(p.shape),
                "maskable": "yes" if p.maskable else "no",
                "why": p.why,
            }
            for p in self.parameters
        ]

    def __str__(self) -> str:
        rows, splits = self.rows(), ", ".join(f"{name} {n:,}" for name, n in self.examples.items())
        names = list(rows[0])
        cells = [[f"{v:,}" if isinstance(v, int) else v for v in row.values()] for row in rows]
        left = [i for i, name in enumerate(names) if name != "size"]
        facts = [
            (
                "maskable",
                f"{self.maskable:,} of {self.total:,} parameters in {self.layers} layers; "
                f"one weight is {100 * self.granularity:.2g} % of density",
            ),
            ("mask", f"{self.units:,} bits, each of which gates a {_in_words(self.unit)}"),
            *[("kept whole", f"{name}: {why}") for name, why in self.whole.items()],
            *([("kernels", self.kernels)] if self.kernels else []),
            ("data", f"{splits}; inputs {_image(self.image)}"),
            ("recipe", self.recipe),
            ("engine", f"{self.engine} on {self.device}, {self.dtype} ({self.why})"),
        ]
        return f"{table([names, *cells], left=left)}\n\n{table(facts, left=(0, 1))}"


@_checks.signed
def describe(task: Task) -> Description:
    """Return what a task is made of: parameters, data, recipe and engine.

    Args:
        task: The task.

    Raises:
        InvalidTypeError: It is none.
    """
    check_task("task", task)
    facts, once = task.as_dict(), dict(task.problem.model.named_parameters())
    inputs = named("", spec_of(task.problem.train[0]))
    shapes = {name: tuple(tensor.shape[1:]) for name, tensor in inputs}
    return Description(
        parameters=task.parameters,
        maskable=task.layout.weights.size,
        unit=task.layout.unit,
        units=task.layout.size,
        whole=dict(task.layout.whole) if isinstance(task.layout, UnitLayout) else {},
        total=sum(p.numel() for p in once.values()),
        layers=len(task.layout.weights.layers),
        examples=facts["examples"],
        image=shapes if len(shapes) > 1 or "" not in shapes else shapes[""],
        recipe=_recipe(task),
        engine=pick_engine(task.engine, task.problem),
        why=reason_for(task.engine, task.problem),
        device=facts["device"],
        dtype=facts["dtype"],
    )


def _recipe(task: Task) -> str:
    """Format a recipe."""
    recipe = task.recipe
    named = recipe.as_dict()
    parts = [f"{named['optimizer']} {recipe.lr:g}", f"{recipe.schedule} schedule"]
    parts += [f"warm-up of {recipe.warmup_steps:,} steps"] if recipe.warmup_steps else []
    parts += [f"momentum {recipe.momentum:g}"] if recipe.momentum else []
    parts += [f"weight decay {recipe.weight_decay:g}"] if recipe.weight_decay else []
    parts += [f"gradients of norm <= {recipe.clip_norm:g}"] if recipe.clip_norm else []
    parts += [f"gradients <= {recipe.clip_value:g}"] if recipe.clip_value else []
    parts += [
        f"minibatches of {recipe.batch_size}",
        f"{task.steps:,} steps",
        named["loss"],
    ]
    parts += [f"trained by {named['training_step']}"] if recipe.training_step else []
    return ", ".join(parts)


def _image(image: Any) -> str:
    """Format the shape of one input, or of several by name."""
    if not isinstance(image, dict):
        return _shape(image)
    return ", ".join(f"{name} {_shape(shape)}" for name, shape in image.items())


def _shape(shape: tuple[int, ...]) -> str:
    """Format a shape."""
    return "x".join(map(str, shape)) or "number"


def _in_words(unit: str) -> str:
    """Return what a bit gates, by the names that it goes by."""
    return "neuron or filter" if unit == NEURON else unit
