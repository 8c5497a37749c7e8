"""``staged_of``: a model as stages of convolutions before linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from nets_deap.models.feedforward import Feedforward
from nets_deap.models.traced import (
    ACTIVATE,
    ADD,
    APPLY,
    CONVOLVE,
    FLATTEN,
    NORMALISE,
    POOL,
    TAKE,
    WIDEN,
    Step,
    Unknown,
    traced,
)

INPUTS = -1  # in place of a stage: the model's inputs


@dataclass(frozen=True)
class Shortcut:
    """What is added to what a convolution gives, after its normalisation.

    Attributes:
        source: The stage whose result it is.
        step: Every which row and column of it is taken.
        before: Channels of zeros before its own.
    """

    source: int
    step: tuple[int, int] = (1, 1)
    before: int = 0


# Where steps may stand in a stage, by their kinds.
PLACES = {
    CONVOLVE: "a convolution reads a plain result or the inputs",
    NORMALISE: "normalisation comes right after its convolution, and alone reads it",
    ADD: "a sum adds an earlier result to what a convolution or its normalisation gives, before "
    "any activation or pooling, as in relu(x + norm(conv(x)))",
    TAKE: "every n-th place is taken of a plain result, to be added",
    WIDEN: "channels of zeros are put around a result that is added",
    ACTIVATE: "one activation comes after a convolution, its normalisation, a sum or its pooling",
    POOL: "one pooling comes after a convolution, its normalisation, a sum or its activation",
}


@dataclass(frozen=True)
class Stage:
    """A convolution, and what follows it before others read the result.

    Attributes:
        name: The convolution's, in the model.
        convolution: The convolution.
        source: The stage whose result it reads; ``INPUTS`` for none.
        norm: The normalisation of its sums; None for none.
        norm_name: Name of that, in the model.
        shortcut: What is added then; None for nothing.
        activation: What its outputs go through; None for nothing.
        pool: What pools them; None for nothing.
        pools_first: Whether they are pooled before the activation.
    """

    name: str
    convolution: nn.Conv2d
    source: int = INPUTS
    norm: nn.BatchNorm2d | None = None
    norm_name: str = ""
    shortcut: Shortcut | None = None
    activation: nn.Module | None = None
    pool: nn.Module | None = None
    pools_first: bool = False

    @property
    def weight(self) -> str:
        """Name of the weight."""
        return f"{self.name}.weight"

    @property
    def bias(self) -> str | None:
        """Name of the bias; None where there is none."""
        return f"{self.name}.bias" if self.convolution.bias is not None else None

    @property
    def is_bare(self) -> bool:
        """Whether nothing but the convolution is in it so far."""
        return self.norm is None and self.is_unfinished

    @property
    def is_unfinished(self) -> bool:
        """Whether something may still be added."""
        return self.shortcut is None and self.activation is None and self.pool is None


@dataclass(frozen=True)
class Staged:
    """The parts of a model: stages, none or some, then fully connected layers.

    What the last stage gives is what the layers read, flattened.
    """

    stages: tuple[Stage, ...]
    head: Feedforward

    @property
    def in_a_row(self) -> bool:
        """Whether each stage reads the one before, and none is normalised or added to."""
        return all(
            stage.source == i - 1 and stage.norm is None and stage.shortcut is None
            for i, stage in enumerate(self.stages)
        )


def staged_of(model: nn.Module, shape: Sequence[int]) -> Staged | str:
    """Return the stages and layers of a model for examples of a shape; or in words why not.

    Such a model computes, in whatever classes, sequences and functions its ``forward`` is written:
    convolutions, each followed by batch normalisation or not, by the sum with what an earlier one
    gave or not, by an activation and a pooling layer, both or either; then linear layers with one
    activation between. See ``traced`` for what is known. Its ``forward`` is run: what that draws
    from random states is the caller's to put back.
    """
    try:
        steps = traced(model, tuple(shape))
        return _Stages(steps).found()
    except Unknown as error:
        return str(error)


class _Stages:
    """Puts steps together to stages.

    ``_ends`` says for results which stage gave them, and how they reach a sum.
    """

    def __init__(self, steps: list[Step]) -> None:
        self._steps = steps
        self._readers = [0] * (len(steps) + 1)
        for step in steps:
            for i in step.reads:
                self._readers[i] += 1
        self._stages: list[Stage] = []
        self._ends: dict[int, Shortcut] = {0: Shortcut(INPUTS)}

    def found(self) -> Staged:
        """Return the whole."""
        kinds = [step.kind for step in self._steps]
        cut = next((i for i, kind in enumerate(kinds) if kind in (FLATTEN, APPLY)), len(kinds))
        for i, step in enumerate(self._steps[:cut]):
            self._take(i + 1, step)
        rest = self._steps[cut:]
        if rest and rest[0].kind == FLATTEN:
            rest = rest[1:]
        elif self._stages:
            rest = []
        head = self._head(rest)
        if self._stages:
            self._at(self._steps[cut])  # as it is: a plain result
        return Staged(self._sorted(), head)

    def _sorted(self) -> tuple[Stage, ...]:
        """Return the stages, each after those that it reads."""
        order = [INPUTS]
        while len(order) <= len(self._stages):
            order.append(
                next(
                    i
                    for i, stage in enumerate(self._stages)
                    if i not in order
                    and stage.source in order
                    and (stage.shortcut is None or stage.shortcut.source in order)
                )
            )
        found = []
        for i in order[1:]:
            stage = replace(self._stages[i], source=order.index(self._stages[i].source) - 1)
            if stage.shortcut is not None:
                own = order.index(stage.shortcut.source) - 1
                stage = replace(stage, shortcut=replace(stage.shortcut, source=own))
            found.append(stage)
        return tuple(found)

    def _at(self, step: Step) -> Shortcut:
        """Return the plain result that a step reads."""
        end = self._ends.get(step.reads[0])
        if end is None or end != Shortcut(end.source):
            raise self._odd(step)
        return end

    def _odd(self, step: Step) -> Unknown:
        place = PLACES.get(step.kind, "linear layers come last, with one activation between")
        return Unknown(f"{step.name!r} stands where it is not known what to do with it: {place}")

    def _take(self, i: int, step: Step) -> None:
        """Put a step into its stage, or begin one."""
        if step.kind == CONVOLVE:
            self._ends[i] = Shortcut(len(self._stages))
            self._stages.append(Stage(step.name, step.part, self._at(step).source))
        elif step.kind == ADD:
            self._add(i, step)
        elif step.kind == TAKE:
            self._ends[i] = replace(self._at(step), step=step.part)
        elif step.kind == WIDEN:
            end = self._ends.get(step.reads[0])
            if end is None or end.before:
                raise self._odd(step)
            self._ends[i] = replace(end, before=step.part[0])
        else:
            self._extend(i, step)

    def _is_last(self, end: Shortcut, step: Step) -> bool:
        """Return whether a stage ends with a result that only this step reads."""
        return any(self._ends.get(j) == end and self._last(j) for j in step.reads)

    def _last(self, i: int) -> Stage | None:
        """Return the stage that ends with a result, if nobody else reads it."""
        end = self._ends.get(i)
        if end is None or end.source == INPUTS or end != Shortcut(end.source):
            return None
        return self._stages[end.source] if self._readers[i] == 1 else None

    def _extend(self, i: int, step: Step) -> None:
        """Put normalisation, an activation or pooling into the stage that it follows."""
        stage, end = self._last(step.reads[0]), self._ends.get(step.reads[0])
        if stage is None or end is None:
            raise self._odd(step)
        if step.kind == NORMALISE and stage.is_bare:
            stage = replace(stage, norm=step.part, norm_name=step.name)
        elif step.kind == ACTIVATE and stage.activation is None:
            first = stage.pool is not None
            stage = replace(stage, activation=step.part, pools_first=first)
        elif step.kind == POOL and stage.pool is None:
            stage = replace(stage, pool=step.part)
        elif step.kind == POOL:
            raise Unknown(f"{step.name!r} pools twice what {stage.name!r} gives")
        else:
            raise self._odd(step)
        self._stages[end.source], self._ends[i] = stage, end

    def _add(self, i: int, step: Step) -> None:
        """Put a sum into one of the stages that it reads: the later one, if it can be."""
        ends = sorted(
            (end for end in map(self._ends.get, step.reads) if end), key=lambda end: -end.source
        )
        for end, added in (ends, ends[::-1]) if len(ends) == 2 else ():
            stage = self._stages[end.source] if self._is_last(end, step) else None
            if stage and stage.is_unfinished and INPUTS != added.source != end.source:
                self._stages[end.source] = replace(stage, shortcut=added)
                self._ends[i] = end
                return
        raise self._odd(step)

    def _head(self, steps: list[Step]) -> Feedforward:
        """Return linear layers in a row with one activation between."""
        kinds = [step.kind for step in steps]
        n = kinds.count(APPLY)
        if not n or kinds != ([APPLY, ACTIVATE] * n)[: 2 * n - 1]:
            odd = next((s for s, k in zip(steps, [APPLY, ACTIVATE] * len(steps), strict=False)
                        if s.kind != k), None)  # fmt: skip
            raise self._odd(odd) if odd else Unknown("it does not end with linear layers")
        linears, activations = steps[::2], steps[1::2]
        if any(len(linear.shape) != 1 for linear in linears):
            raise Unknown(f"{linears[0].name!r} is applied at many places")
        return Feedforward(
            tuple(linear.name for linear in linears),
            tuple(linear.part for linear in linears),
            tuple(activation.part for activation in activations),
            True,
        )
