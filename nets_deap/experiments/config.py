"""``Config``: everything that can be set of an experiment, and the presets.

Nothing here imports torch, so that the command line answers at once.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, Union

from nets_deap import _checks
from nets_deap.errors import InvalidValueError, NetsError
from nets_deap.training.recipe import LENET_RECIPE, XOR_RECIPE, Recipe


@dataclass(frozen=True)
class TaskConfig:
    """Which network on which data.

    ``kind`` is ``"xor"`` (``hidden`` units, ``noise`` of the validation points) or ``"lenet"``
    (LeNet-300-100 on ``dataset`` ``"mnist"`` or ``"mnist5k"``).
    """

    kind: str = "lenet"
    hidden: int = 10
    noise: float = 0.1
    dataset: str = "mnist"
    data_dir: str | None = None
    dtype: str = "float32"
    device: str = "auto"
    chunk: int | None = None

    def __post_init__(self) -> None:
        _checks.together(
            "task",
            (
                lambda: _checks.choice("task.kind", self.kind, ("xor", "lenet")),
                lambda: _checks.whole("task.hidden", self.hidden),
                lambda: _checks.real("task.noise", self.noise, low=0),
                lambda: _checks.choice("task.dataset", self.dataset, ("mnist", "mnist5k")),
                lambda: _checks.choice("task.dtype", self.dtype, ("float32", "float64")),
                lambda: _checks.unless_none(_checks.whole, "task.chunk", self.chunk),
            ),
        )


@dataclass(frozen=True)
class SearchConfig:
    """How tickets evolve; the fields are arguments of ``nets.search`` and ``nets.make_toolbox``."""

    population: int = 40
    offspring: int | None = None
    generations: int = 20
    cxpb: float = 0.1
    mutpb: float = 0.9
    objectives: tuple[str, ...] = ("val_loss", "density")
    density: tuple[float, float] = (0.01, 1.0)
    first_density: tuple[float, float] = (0.3, 1.0)
    distribution: str = "erk"
    prune: tuple[float, float] = (0.2, 0.6)
    flips: float | None = None
    patience: int | None = None
    max_steps: int | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        total = self.cxpb + self.mutpb
        whole, real, unless_none = _checks.whole, _checks.real, _checks.unless_none
        distributions = ("uniform", "er", "erk")
        _checks.together(
            "search",
            (
                lambda: whole("search.population", self.population, low=2),
                lambda: unless_none(whole, "search.offspring", self.offspring),
                lambda: whole("search.generations", self.generations, low=0),
                lambda: real("search.cxpb", self.cxpb, low=0, high=1),
                lambda: real("search.mutpb", self.mutpb, low=0, high=1),
                lambda: real("search.cxpb + search.mutpb", total, high=1 + 1e-9),
                lambda: _checks.interval("search.density", self.density, _checks.density),
                lambda: _checks.interval(
                    "search.first_density", self.first_density, _checks.density
                ),
                lambda: _checks.choice("search.distribution", self.distribution, distributions),
                lambda: _checks.interval("search.prune", self.prune, _checks.density),
                lambda: unless_none(real, "search.flips", self.flips, low=0, high=1),
                lambda: unless_none(whole, "search.patience", self.patience),
                lambda: unless_none(whole, "search.max_steps", self.max_steps),
                lambda: unless_none(
                    real, "search.max_seconds", self.max_seconds, low=0, open_low=True
                ),
            ),
        )


@dataclass(frozen=True)
class FinalConfig:
    """How the front is trained from W0 at the end: ``steps``, and how many ``members`` of it."""

    steps: int = 2000
    members: int = 8

    def __post_init__(self) -> None:
        _checks.together(
            "final",
            (
                lambda: _checks.whole("final.steps", self.steps),
                lambda: _checks.whole("final.members", self.members, low=1),
            ),
        )


@dataclass(frozen=True)
class Config:
    """One experiment: a task, a recipe, a search and a final training."""

    about: str
    task: TaskConfig = field(default_factory=TaskConfig)
    recipe: Recipe = field(default_factory=Recipe)
    search: SearchConfig = field(default_factory=SearchConfig)
    final: FinalConfig = field(default_factory=FinalConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        _checks.whole("seed", self.seed, low=0)

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
        return asdict(self)

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
                _checks.choice("--set", name, self.settable())
                section, _, key = name.rpartition(".")
                owner = getattr(self, section) if section else self
                parts.setdefault(section, {})[key] = _read(name, value, type(owner), key)
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


def _read(name: str, value: Any, owner: type, key: str) -> Any:
    """Read text as the type of a field; other values pass as they are."""
    if not isinstance(value, str):
        return value
    kind = typing.get_type_hints(owner)[key]
    try:
        return _parse(value.strip(), kind)
    except ValueError:
        expected = getattr(kind, "__name__", str(kind)) if not typing.get_args(kind) else str(kind)
        raise _checks.bad_value(name, "be readable", expected, repr(value)) from None


def _parse(text: str, kind: Any) -> Any:
    """Parse text as int, float, bool, str, a tuple of them, or None where allowed."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        if text.lower() == "none":
            return None
        return _parse(text, next(a for a in arguments if a is not type(None)))
    if origin is tuple:
        items = [item.strip() for item in text.strip("()[]").split(",") if item.strip()]
        return tuple(_parse(item, arguments[0]) for item in items)
    if kind is bool:
        if text.lower() in ("true", "yes", "1", "false", "no", "0"):
            return text.lower() in ("true", "yes", "1")
        raise ValueError(text)
    return kind(text)


# Small networks cost nearly the same in any number, so the population is large.
XOR_SEARCH: dict[str, Any] = {
    "population": 250,
    "first_density": (0.2, 1.0),
    "prune": (0.05, 0.5),
    "cxpb": 0.2,
    "mutpb": 0.8,
}

PRESETS: dict[str, Config] = {
    "quickstart": Config(
        about="LeNet-300-100 on 5,000 MNIST digits, embedded: no download, under 3 minutes",
        task=TaskConfig(dataset="mnist5k"),
        recipe=replace(LENET_RECIPE, steps=150),
        search=SearchConfig(population=16, generations=16),
        final=FinalConfig(steps=1000, members=8),
    ),
    "xor-mlp10": Config(
        about="XOR with a 2-10-1 network (30 weights), a few seconds",
        task=TaskConfig(kind="xor", hidden=10),
        recipe=XOR_RECIPE,
        search=SearchConfig(generations=22, density=(0.1, 1.0), **XOR_SEARCH),
        final=FinalConfig(steps=200, members=30),
    ),
    "xor-mlp100": Config(
        about="XOR with a 2-100-1 network (300 weights), a few seconds",
        task=TaskConfig(kind="xor", hidden=100),
        recipe=XOR_RECIPE,
        search=SearchConfig(generations=12, density=(0.01, 1.0), **XOR_SEARCH),
        final=FinalConfig(steps=200, members=30),
    ),
    "lenet-mnist": Config(
        about="LeNet-300-100 on full MNIST, under 10 minutes on two cores",
        task=TaskConfig(dataset="mnist"),
        recipe=LENET_RECIPE,
        search=SearchConfig(population=24, generations=20),
        final=FinalConfig(steps=4600, members=8),
    ),
}


def preset(name: str) -> Config:
    """Return a preset by name."""
    return PRESETS[_checks.choice("preset", name, PRESETS, "See: nets-deap presets")]
