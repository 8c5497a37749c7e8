"""``kind``: makes a function that draws a kind of figure, known by a name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from nets_deap import _checks

Draw = Callable[[Any, Any], Any]
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    Attributes:
        name: On the command line, and of its file.
        about: What it shows, in a sentence.
        draw: Draws a folder on axes; an ``InvalidValueError`` says that the folder does not hold
            what it needs.
        draw_many: Draws several folders on axes; None where it can draw only one.
    """

    name: str
    about: str
    draw: Draw
    draw_many: Draw | None = None


def kind(
    name: str, about: str, *, many: Callable[[list[Any]], Any] | None = None
) -> Callable[[Function], Function]:
    """Return a decorator that makes a function draw the kind of this name.

    Args:
        name: See ``Kind``.
        about: See ``Kind``.
        many: Makes what the function takes of a list of folders; None where it draws only one.
    """

    def decorate(given: Function) -> Function:
        function = _checks.signed(given)
        draw_many: Draw | None = None
        if many is not None:

            def draw_many(folders: list[Any], ax: Any) -> Any:
                return function(many(folders), ax)

        function.kind = Kind(name, about, function, draw_many)  # type: ignore[attr-defined]
        return function

    return decorate


def kinds_among(values: Iterable[Any]) -> dict[str, Kind]:
    """Return the kinds that functions among some values draw, by name, in their order."""
    found = (getattr(value, "kind", None) for value in list(values))
    return {kind.name: kind for kind in found if isinstance(kind, Kind)}
