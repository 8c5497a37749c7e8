"""``Config``: everything that can be set of an experiment.

Nothing here imports torch, so that the command line answers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, ClassVar

from nets_deap import _checks
from nets_deap.errors import InvalidValueError, NetsError
from nets_deap.evolution.budget import Budget
from nets_deap.evolution.settings import Settings, at_least_0, one_of, setting
from nets_deap.experiments.overrides import read_field
from nets_deap.experiments.own_task import OwnTask
from nets_deap.names import (
    DATASETS,
    ENGINES,
    NETWORKS,
    PRECISIONS,
    check_pair,
    parse_unit,
)
from nets_deap.runs.search.settings import SearchSettings
from nets_deap.training.recipe import Recipe


def _unit(name: str, value: Any) -> str:
    """Return the name of what one bit gates."""
    parse_unit(name, value)
    return str(value)


@dataclass(frozen=True, kw_only=True)
class TaskConfig(Settings):
    """Which network on which data, and how it trains."""

    subject: ClassVar[str] = "task"
    prefix: ClassVar[str] = "task."

    kind: str = setting(
        "lenet",
        '``"xor"``, or a network of ``names.NETWORKS`` on the images of ``dataset``.',
        one_of(("xor", *NETWORKS)),
    )
    model: str | None = setting(None, 'The network, for ``kind="torchvision"``.')
    hidden: int = setting(10, 'Hidden units, for ``kind="xor"``.', _checks.whole)
    noise: float = setting(0.1, 'Of the validation points, for ``kind="xor"``.', at_least_0)
    dataset: str = setting("mnist", "The images.", one_of(DATASETS))
    data_dir: str | None = setting(None, "Their folder; None for ``$NETS_DEAP_DATA``.")
    maskable: tuple[str, ...] | None = setting(
        None,
        "Names or patterns of parameters, or types of modules (``Conv2d``); None for the weights "
        "of all layers but embeddings and normalisation.",
    )
    dtype: str = setting("float32", "Of weights and data.", one_of(("float32", "float64")))
    device: str = setting("auto", "See ``nets.Task``.", lambda _, device: str(device))
    chunk: int | None = setting(None, "See ``nets.Task``.", _checks.whole)
    engine: str = setting("auto", "See ``nets.Task``.", one_of(ENGINES))
    precision: str = setting("float32", "Of matrix products.", one_of(PRECISIONS))
    unit: str = setting(
        "weight",
        'What one bit of a ticket gates: ``"weight"``, ``"neuron"``, ``"filter"``, '
        '``"block(RxC)"`` or ``"2:4"``.',
        _unit,
    )

    guard: float | None = setting(None, "See ``nets.Task``.", _checks.inner_share)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_pair()

    def as_dict(self) -> dict[str, Any]:
        """Return every field as plain data."""
        return asdict(self)

    def _check_pair(self) -> None:
        """Refuse what the kind does not use, and data that it does not take."""
        unused = {"xor": ("model", "dataset"), "torchvision": ("hidden", "noise")}
        names = unused.get(self.kind, ("model", "hidden", "noise"))
        given = [name for name in self.changed(TaskConfig) if name in names]
        if given:
            raise _checks.bad_value(
                "task.kind",
                "stand without what it does not use",
                f"kind {self.kind!r} with the defaults of these fields",
                ", ".join(f"task.{name}={getattr(self, name)}" for name in given),
                "Leave them out, or set another task.kind.",
            )
        if self.kind == "torchvision" and self.model is None:
            raise _checks.bad_value(
                "task.model", "be given", "a model of torchvision, such as resnet18", None
            )
        if self.kind != "xor":
            check_pair("task.dataset", self.kind, self.dataset)


@dataclass(frozen=True, kw_only=True)
class SearchConfig(SearchSettings):
    """How tickets evolve: what ``nets.search`` is given, and what only a configuration has."""

    prefix: ClassVar[str] = "search."

    genome: str = setting(
        "mask",
        '``"mask"``, or ``"weights"`` for genomes whose initial weights evolve with their masks, '
        "by ``experiments.nets2023``, which has its own inheritance, budget and algorithm.",
        one_of(("mask", "weights")),
    )
    islands: int | None = setting(
        None, "So many populations evolve side by side; None for one.", _checks.whole
    )
    migrate_every: int = setting(
        5, "Tickets move between them once in so many generations.", _checks.whole
    )

    def _rules(self) -> Iterable[Callable[[], object]]:
        return (*super()._rules(), self._check_genome, self._check_islands, self._take_apart)

    def _take_apart(self) -> None:
        """Hold a ``nets.Budget`` as numbers and names, as files do."""
        budget = self.budget
        if not isinstance(budget, Budget):
            return
        for name, value in (
            ("budget", budget.total),
            ("budget_unit", budget.unit),
            ("growth", budget.growth),
        ):
            object.__setattr__(self, name, value)

    def _check_islands(self) -> None:
        """Refuse migration where there is nowhere to go."""
        if self.islands is None and self.migrate_every != SearchConfig.migrate_every:
            name = "search.migrate_every"
            raise _checks.bad_value(name, "come with islands", "search.islands=2", "none")

    def _check_genome(self) -> None:
        """Refuse what genomes with weights of their own do not use."""
        unused = {"inherit", "budget", "budget_unit", "growth", "algorithm", "distribution"}
        unused |= {"density", "by", "gradient", "noise", "reevaluate", "holdout", "islands"}
        given = [name for name in self.changed(SearchConfig) if name in unused]
        if self.genome == "weights" and given:
            raise _checks.bad_value(
                "search.genome",
                "stand without what it does not use",
                "genome 'weights' with the defaults of these fields",
                ", ".join(f"search.{name}" for name in given),
                "Leave them out, or set search.genome=mask.",
            )


@dataclass(frozen=True, kw_only=True)
class FinalConfig(Settings):
    """How the front is trained from W0 at the end."""

    subject: ClassVar[str] = "final"
    prefix: ClassVar[str] = "final."

    steps: int = setting(2000, "Optimiser steps of each.", _checks.whole)
    members: int = setting(8, "How many members of the front.", _checks.whole)
    chain: bool = setting(
        False,
        "Train beside each member a ticket of as many weights that a chain of pruning finds at the "
        "cost of the search.",
    )


@dataclass(frozen=True)
class Config:
    """One experiment: a task, of a preset or one's own, a recipe, a search and a final training."""

    about: str
    task: TaskConfig | OwnTask = field(default_factory=TaskConfig)
    recipe: Recipe = field(default_factory=Recipe)
    search: SearchConfig = field(default_factory=SearchConfig)
    final: FinalConfig = field(default_factory=FinalConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", _checks.whole("seed", self.seed, low=0))

    def settable(self) -> dict[str, Any]:
        """Return every field by its dotted name, with its value."""
        flat: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if is_dataclass(value):
                flat.update(
                    {f"{item.name}.{f.name}": getattr(value, f.name) for f in fields(value)}
                )
            elif item.name != "about":
                flat[item.name] = value
        return flat

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {**asdict(self), "task": self.task.as_dict(), "recipe": self.recipe.as_dict()}

    def _check_name(self, name: str) -> None:
        """Refuse what is not the name of a field, and guess what was meant."""
        known = self.settable()
        if name in known:
            return
        section, _, key = name.rpartition(".")
        key = _checks.SYNONYMS.get(key, key)
        same = [one for one in known if one.rpartition(".")[2] == key]
        near = [one for one in known if section and one.startswith(f"{section}.")]
        if section == "task" and isinstance(self.task, OwnTask):
            raise _checks.bad_value(
                name,
                f"be a parameter of {self.task.source}",
                ", ".join(one.removeprefix("task.") for one in near) or "none but the seed",
                key,
                f"Let the function take it, with a default: def make_task(seed, {key}=...).",
            )
        if near and not same:
            _checks.choice("--set", name, near)
        meant = " or ".join(map(repr, same))
        guess = f"Did you mean {meant}?" if same else _checks.meant_by(name, known)
        expected = "SECTION.FIELD, as 'nets-deap presets NAME' lists them"
        raise _checks.bad_value("--set", "name a field", expected, name, guess)

    def override(self, settings: Mapping[str, Any]) -> Config:
        """Return the configuration with fields replaced, given by dotted name.

        Args:
            settings: Values by name, such as ``{"recipe.lr": "0.01"}``; text is read as the
                field's type (``none`` for None, commas between the items of a tuple).

        Raises:
            InvalidValueError: Unknown names or bad values; all are listed together.
        """
        problems: list[NetsError] = []
        parts: dict[str, dict[str, Any]] = {}
        for name, value in settings.items():
            try:
                self._check_name(name)
                section, _, key = name.rpartition(".")
                owner = getattr(self, section) if section else self
                parts.setdefault(section, {})[key] = read_field(name, value, type(owner), key)
            except NetsError as error:
                problems.append(error)
        changed: dict[str, Any] = {}
        for section, values in parts.items():
            try:
                if section:
                    changed[section] = replace(getattr(self, section), **values)
                else:
                    changed.update(values)
            except NetsError as error:
                problems.append(error)
        if len(problems) == 1:
            raise problems[0]
        if problems:
            raise InvalidValueError("\n".join(map(str, problems)))
        return replace(self, **changed)
