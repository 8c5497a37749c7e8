"""Settings: records in which each thing that can be set stands once, with its check and its text.

From these records come the keyword arguments of ``make_toolbox`` and ``search`` with their
documentation, the errors about them, the fields that ``--set`` knows, and what islands may have of
their own. A new setting is one field. Nothing here imports torch, so that the command line answers
at once.
"""

from __future__ import annotations

import functools
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, TypeAlias, TypeVar

from nets_deap import _checks
from nets_deap.evolution.budget import Budget
from nets_deap.names import BY_SIZE, DISTRIBUTIONS

if TYPE_CHECKING:
    from nets_deap.evolution.objectives import Objective

    Objectives: TypeAlias = str | Objective | Sequence[str | Objective]
else:
    Objectives = tuple[str, ...]  # as what --set reads them; the objectives' own module has torch

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
T = TypeVar("T")


def setting(default: T, about: str, check: Callable[[str, Any], Any] | None = None) -> T:
    """Return a field of ``Settings``.

    Args:
        default: Its default; where that is None, None may be given and is not checked.
        about: What it is, for the documentation.
        check: Gets name and value; returns the value to keep, or raises.
    """
    found: T = field(default=default, metadata={"about": about, "check": check})
    return found


# Checks of many settings; each returns the value as a plain number or pair.
from_0 = functools.partial(_checks.whole, low=0)
at_least_0 = functools.partial(_checks.real, low=0)
above_0 = functools.partial(_checks.real, low=0, open_low=True)
share = functools.partial(_checks.real, low=0, high=1)
densities = functools.partial(_checks.interval, check=_checks.density)


def one_of(names: Iterable[str]) -> Callable[[str, Any], str]:
    """Return the check that a value is one of some names."""
    return functools.partial(_checks.choice, valid=tuple(names))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of the records: checks all fields as it is made, and names all bad ones in one error.

    Fields hold what their checks return: plain numbers and tuples, also where NumPy's were given.

    Raises:
        NetsError: Fields are bad; one alone raises its own error.
    """

    subject: ClassVar[str] = "settings"  # what has bad fields, in errors
    prefix: ClassVar[str] = ""  # what stands before the name of each

    def __post_init__(self) -> None:
        each = (functools.partial(self._check, item) for item in fields(self))
        _checks.together(self.subject, (*each, *self._rules()))

    def _check(self, item: Field[Any]) -> None:
        """Check one field, and keep what its check returns."""
        check, value = item.metadata["check"], getattr(self, item.name)
        if check is not None and not (value is None and item.default is None):
            object.__setattr__(self, item.name, check(f"{self.prefix}{item.name}", value))

    def _rules(self) -> Iterable[Callable[[], object]]:
        """Return the checks of fields that depend on each other; run after those of each."""
        return ()

    def part(self, *records: type[Settings]) -> dict[str, Any]:
        """Return by name the settings that belong to some of the records this one is made of."""
        names = {item.name for record in records for item in fields(record)}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name in names}

    def changed(self, *records: type[Settings]) -> list[str]:
        """Return the names of settings of some records that are not at their defaults."""
        default = {item.name: item.default for item in fields(self)}
        # Checks have made plain values of what can be set; of arrays that they refused ``!=`` is
        # no truth.
        return [
            name
            for name, value in self.part(*records).items()
            if type(value) is not type(default[name]) or value != default[name]
        ]


def takes(
    record: Callable[P, R],
) -> Callable[[Callable[[S, R], T]], Callable[Concatenate[S, P], T]]:
    """Let a function of something and a record be called with the record's fields as keywords.

    Type checkers and editors see them through the types here; ``help``, notebooks and the
    documentation through ``__signature__`` and ``__doc__``, where the line of ``**settings`` gives
    way to what the fields are.
    """
    make: Callable[..., R] = record
    items: Sequence[Field[Any]] = fields(record)  # type: ignore[arg-type]

    def decorate(function: Callable[[S, R], T]) -> Callable[Concatenate[S, P], T]:
        first, *_ = inspect.signature(function).parameters.values()
        kind = inspect.Parameter.KEYWORD_ONLY
        more = [
            inspect.Parameter(f.name, kind, default=f.default, annotation=f.type) for f in items
        ]
        signature = inspect.signature(function).replace(parameters=[first, *more])

        @functools.wraps(function)
        def called(*args: Any, **given: Any) -> T:
            wrong = _checks.misfit(function.__name__, signature, args, given)
            if wrong is not None:
                raise wrong
            bound: dict[str, Any] = signature.bind(*args, **given).arguments
            subject = bound.pop(first.name)
            return function(subject, make(**bound))

        called.__signature__ = signature  # type: ignore[attr-defined]
        called.__doc__ = _documented(function.__doc__ or "", items)
        return called

    return decorate


def _documented(text: str, items: Iterable[Field[Any]]) -> str:
    """Return a docstring with the fields of a record in place of its line of ``**settings``."""
    lines = []
    for line in inspect.cleandoc(text).splitlines():
        if not line.strip().startswith("**settings:"):
            lines.append(line)
            continue
        for item in items:
            about = f"{item.name}: {item.metadata['about']}"
            lines += textwrap.wrap(about, 96, initial_indent=" " * 4, subsequent_indent=" " * 8)
    return "\n".join(lines)


def _distribution(name: str, value: Any) -> Any:
    """Return the name of a distribution; densities by layer are checked against the layers."""
    return value if isinstance(value, Mapping) else _checks.choice(name, value, DISTRIBUTIONS)


def budget_of(name: str, value: Any) -> Budget:
    """Return a budget; a number is one of dense steps."""
    if isinstance(value, Budget):
        return value
    return Budget(_checks.real(name, value, low=0, open_low=True))


def _map(name: str, value: Any) -> Any:
    """Return a map."""
    if not callable(value):
        raise _checks.bad_type(name, "be callable", "such as nets.RayMap(task)", value)
    return value


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(Settings):
    """What tickets are measured by, which all that evolve together share."""

    objectives: Objectives = setting(
        ("val_loss", "density"),
        "M names, or each a ``nets.Objective``; see ``nets_deap.evolution.objectives``.",
    )
    inherit: str = setting(
        "weights",
        "``\"weights\"``: a ticket's training goes on from its parent's trained weights "
        '(Lamarckian); or ``"none"``: each trains from W0 (Baldwinian).',
        one_of(("none", "weights")),
    )
    rewinds: int | None = setting(
        None,
        "How often tickets that inherit weights start from W0 again: with the first generation, "
        "and then evenly over the run; see ``Evaluator``. None: 4, or 0 where tickets shrink by "
        "``mut_shrink``.",
        from_0,
    )
    gradient: bool | None = setting(
        None,
        "Measure gradients. Without inheritance one mutation of three then prunes by ``|w * "
        "gradient|``, and one of six swaps weights for those of largest gradient; where weights "
        "are inherited seven swaps of ten regrow by it. None: there, of parents alone.",
    )
    memory: bool = setting(
        False,
        "Also keep the last known ``|w|`` of weights that ancestors have lost, for operators "
        'that you register and that grow by ``"memory"``: ``mut_swap``, ``mut_regrow``.',
    )
    holdout: str = setting(
        "fixed",
        '``"fixed"``: the validation part is the task\'s; or ``"folds"``: drawn anew each '
        "generation from training and validation data, so that selection cannot learn it. With "
        '``inherit="none"``; see ``Evaluator``.',
        one_of(("fixed", "folds")),
    )
    reevaluate: bool | None = setting(
        None,
        "Evaluate survivors again with each generation's offspring, on the same minibatches: a "
        "lucky draw does not survive for long. It costs as many networks again; for algorithms "
        "whose parents compete with their offspring. None: only with folds, where the numbers of "
        "two generations do not compare otherwise; ``nets.search`` leaves it out where parents "
        "die, and in a toolbox for such an algorithm give False.",
    )


@dataclass(frozen=True, kw_only=True)
class OperatorSettings(Settings):
    """How tickets are drawn, crossed and mutated."""

    density: tuple[float, float] = setting(
        (0.001, 1.0), "Least and greatest density of tickets, in (0, 1].", densities
    )
    first_density: tuple[float, float] | None = setting(
        None,
        "Least and greatest density of the first population, in (0, 1]; the part of it within "
        "``density`` counts. Sparser tickets then come from pruning trained ones, which finds "
        "better ones than drawing sparse masks at random does. None: 0.3 to 1, or dense where "
        "weights are inherited.",
        densities,
    )
    distribution: str | Mapping[str, float] = setting(
        "erk",
        "How the first tickets spread over layers; see ``operators.layer_counts``.",
        _distribution,
    )
    prune: tuple[float, float] | None = setting(
        None,
        "Interval of the fraction that is pruned at once, of the kept weights or for "
        "``mut_shrink`` of the multiply-adds; where weights are inherited its upper end is what a "
        "round of the first descent prunes. None: 0.2 to 0.6; 0.2; 0.15 to 0.25 for "
        "``mut_shrink``.",
        densities,
    )
    by: str | None = setting(
        None,
        'What weights are pruned, and averages thinned, by: ``"magnitude"``, ``|w|``; '
        '``"lamp"``, its share of its layer; or ``"cost"``, that over what the weight costs, so '
        "that convolutions get sparse too; see ``mut_prune``. Where all layers are fully connected "
        "the last two are the same. None: LAMP for lineages that have convolutions, else ``|w|``.",
        one_of(BY_SIZE),
    )
    flips: float | None = setting(
        None,
        "Probability of a flip for each bit when flipping; None for two flips expected.",
        share,
    )
    noise: float | None = setting(
        None,
        "Of the saliency; see ``mut_prune``. None: 0.1 where weights are inherited, so that the "
        "children of one parent differ; else 0.",
        at_least_0,
    )
    sigma: float | None = setting(
        None,
        "Of the parameters that evolve with the ticket; see ``mut_prune``, ``mut_shrink``; "
        "swaps have none. None: 0.2 for ``mut_shrink``, else 0.",
        at_least_0,
    )


@dataclass(frozen=True, kw_only=True)
class MapSettings(Settings):
    """What hands generations to the evaluator."""

    map: Callable[..., Any] | None = setting(
        None,
        "The toolbox's ``map``, such as ``nets.RayMap(task, workers=4)``, which trains on workers "
        "and is closed by whoever made it, or any other, such as a pool's; None for "
        "``nets.batch_map``, in this process.",
        _map,
    )


@dataclass(frozen=True, kw_only=True)
class ToolboxSettings(MapSettings, OperatorSettings, EvaluationSettings):
    """What ``nets.make_toolbox`` takes."""

    subject: ClassVar[str] = "make_toolbox"

    budget: Budget | float | None = setting(
        None,
        "What all networks may cost: a ``nets.Budget``, or a number of dense steps without a plan "
        "for the generations; None trains the recipe's steps.",
        budget_of,
    )
