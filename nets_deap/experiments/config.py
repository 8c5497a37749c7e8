"""``Config``: everything that can be set of an experiment.

Nothing here imports torch, so that the command line answers at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any

from nets_deap import _checks
from nets_deap.errors import InvalidValueError, NetsError
from nets_deap.experiments.overrides import read_field
from nets_deap.names import (
    DATASETS,
    ENGINES,
    NETWORKS,
    PRECISIONS,
    check_pair,
    parse_unit,
)
from nets_deap.training.recipe import Recipe


@dataclass(frozen=True)
class TaskConfig:
    """Which network on which data.

    ``kind`` is ``"xor"`` (``hidden`` units, ``noise`` of the validation points), or a network of
    ``names.NETWORKS`` on the images of ``dataset``; for ``"torchvision"``, ``model`` names the
    network. ``maskable`` holds names or patterns of parameters, or types of modules (``Conv2d``);
    None for the weights of all linear and convolutional layers. ``precision`` is that of matrix
    products: ``"float32"``, ``"tf32"`` or ``"bf16"``.
    ``unit`` is what one bit of a ticket gates: ``"weight"``, ``"neuron"``, ``"filter"``,
    ``"block(RxC)"`` or ``"2:4"``.
    """

    kind: str = "lenet"
    model: str | None = None
    hidden: int = 10
    noise: float = 0.1
    dataset: str = "mnist"
    data_dir: str | None = None
    maskable: tuple[str, ...] | None = None
    dtype: str = "float32"
    device: str = "auto"
    chunk: int | None = None
    engine: str = "auto"
    precision: str = "float32"
    unit: str = "weight"

    def __post_init__(self) -> None:
        _checks.together(
            "task",
            (
                lambda: _checks.choice("task.kind", self.kind, ("xor", *NETWORKS)),
                lambda: _checks.whole("task.hidden", self.hidden),
                lambda: _checks.real("task.noise", self.noise, low=0),
                lambda: _checks.choice("task.dataset", self.dataset, DATASETS),
                lambda: _checks.choice("task.dtype", self.dtype, ("float32", "float64")),
                lambda: _checks.unless_none(_checks.whole, "task.chunk", self.chunk),
                lambda: _checks.choice("task.engine", self.engine, ENGINES),
                lambda: _checks.choice("task.precision", self.precision, PRECISIONS),
                lambda: parse_unit("task.unit", self.unit),
            ),
        )
        self._check_pair()

    def _check_pair(self) -> None:
        """Refuse what the kind does not use, and data that it does not take."""
        unused = {"xor": ("model", "dataset"), "torchvision": ("hidden", "noise")}
        plain = {f.name: f.default for f in fields(self)}
        names = unused.get(self.kind, ("model", "hidden", "noise"))
        given = [name for name in names if getattr(self, name) != plain[name]]
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


def _density_pair(name: str, pair: tuple[float, float] | None) -> None:
    """Raise unless a pair of densities is an interval, or None."""
    if pair is not None:
        _checks.interval(name, pair, _checks.density)


@dataclass(frozen=True)
class SearchConfig:
    """How tickets evolve; the fields are arguments of ``nets.search`` and ``nets.make_toolbox``.

    ``genome`` is ``"mask"``, or ``"weights"`` for genomes whose initial weights evolve with their
    masks, by ``experiments.nets2023``, which has its own inheritance, budget and algorithm.
    With ``islands`` so many populations evolve side by side; tickets move between them once in
    ``migrate_every`` generations.
    """

    population: int = 40
    offspring: int | None = None
    generations: int = 20
    cxpb: float = 0.1
    mutpb: float = 0.9
    objectives: tuple[str, ...] = ("val_loss", "density")
    genome: str = "mask"
    inherit: str = "none"
    algorithm: str | None = None
    budget: int | None = None
    growth: float = 1.0
    density: tuple[float, float] = (0.01, 1.0)
    first_density: tuple[float, float] | None = None
    distribution: str = "erk"
    prune: tuple[float, float] | None = None
    flips: float | None = None
    noise: float | None = None
    sigma: float | None = None
    gradient: bool = False
    reevaluate: bool = False
    islands: int | None = None
    migrate_every: int = 5
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
                lambda: whole("search.population", self.population, low=2 if self.cxpb else 1),
                lambda: unless_none(whole, "search.offspring", self.offspring),
                lambda: whole("search.generations", self.generations, low=0),
                lambda: real("search.cxpb", self.cxpb, low=0, high=1),
                lambda: real("search.mutpb", self.mutpb, low=0, high=1),
                lambda: real("search.cxpb + search.mutpb", total, high=1 + 1e-9),
                lambda: _checks.interval("search.density", self.density, _checks.density),
                lambda: _checks.choice("search.genome", self.genome, ("mask", "weights")),
                self._check_genome,
                self._check_islands,
                lambda: _checks.choice("search.inherit", self.inherit, ("none", "weights")),
                lambda: _checks.choice(
                    "search.algorithm", self.algorithm or "plus", ("plus", "comma")
                ),
                lambda: unless_none(whole, "search.budget", self.budget),
                lambda: real("search.growth", self.growth, low=0, open_low=True),
                lambda: _density_pair("search.first_density", self.first_density),
                lambda: _checks.choice("search.distribution", self.distribution, distributions),
                lambda: _density_pair("search.prune", self.prune),
                lambda: unless_none(real, "search.noise", self.noise, low=0),
                lambda: unless_none(real, "search.sigma", self.sigma, low=0),
                lambda: unless_none(real, "search.flips", self.flips, low=0, high=1),
                lambda: unless_none(whole, "search.islands", self.islands),
                lambda: whole("search.migrate_every", self.migrate_every),
                lambda: unless_none(whole, "search.patience", self.patience),
                lambda: unless_none(whole, "search.max_steps", self.max_steps),
                lambda: unless_none(
                    real, "search.max_seconds", self.max_seconds, low=0, open_low=True
                ),
            ),
        )

    def _check_islands(self) -> None:
        """Refuse migration where there is nowhere to go."""
        if self.islands is None and self.migrate_every != SearchConfig.migrate_every:
            name = "search.migrate_every"
            raise _checks.bad_value(name, "come with islands", "search.islands=2", "none")

    def _check_genome(self) -> None:
        """Refuse what genomes with weights of their own do not use."""
        fixed = ["inherit", "budget", "growth", "algorithm", "distribution", "density", "gradient"]
        plain = {f.name: f.default for f in fields(self)}
        given = [
            name for name in (*fixed, "noise", "islands") if getattr(self, name) != plain[name]
        ]
        if self.genome == "weights" and given:
            raise _checks.bad_value(
                "search.genome",
                "stand without what it does not use",
                "genome 'weights' with the defaults of these fields",
                ", ".join(f"search.{name}" for name in given),
                "Leave them out, or set search.genome=mask.",
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
        return {**asdict(self), "recipe": self.recipe.as_dict()}

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
