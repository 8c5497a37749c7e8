"""``WithAttributes``: what programs set on a ticket, apart from what the package holds of it."""

from __future__ import annotations

from collections.abc import Mapping
from types import FunctionType, MemberDescriptorType
from typing import Any, ClassVar

from nets_deap import _checks


class WithAttributes:
    """An object on which programs can set attributes, as DEAP's do, without harm to the package.

    The package holds its own in slots, so that ``vars(individual)`` are the programs' alone.
    """

    __slots__ = ("__dict__", "__weakref__")

    # Slots that classes of users have added, and methods that nothing else takes the name of.
    _slots: ClassVar[tuple[str, ...]] = ()
    _methods: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse data, as from ``creator.create``, under names that are the package's."""
        super().__init_subclass__(**options)
        own = {
            name: value
            for base in cls.__mro__
            if _is_own(base)
            for name, value in vars(base).items()
        }
        cls._methods = frozenset(
            name for name, value in own.items() if is_taken(cls, name) and _is_method(value)
        )
        if _is_own(cls):
            return
        for name, value in vars(cls).items():
            is_data = not name.startswith("__") and not hasattr(type(value), "__get__")
            if is_data and name not in ("_methods", "_slots") and is_taken(cls, name):
                raise _taken(cls, name)
        cls._slots = tuple(
            name
            for base in cls.__mro__
            if not _is_own(base)
            for name, value in vars(base).items()
            if isinstance(value, MemberDescriptorType)
        )

    def __setattr__(self, name: str, value: Any) -> None:
        # Without a word, the next call of the method would fail far from here.
        if name in self._methods:
            raise _taken(type(self), name)
        object.__setattr__(self, name, value)

    def users_attributes(self) -> dict[str, Any]:
        """Return what programs have set: ``vars``, and what is in slots of their classes."""
        slots = {name: getattr(self, name) for name in self._slots if hasattr(self, name)}
        return {**self.__dict__, **slots}

    def set_users_attributes(self, found: Mapping[str, Any]) -> None:
        """Set what ``users_attributes`` has returned."""
        for name, value in found.items():
            if name in self._slots:
                setattr(self, name, value)
            else:
                self.__dict__[name] = value


def is_taken(kind: type, name: str) -> bool:
    """Return whether a name is one of the package's on a class of tickets, and so nobody else's.

    Names that lists have are free, as on lists, and so is ``fitness``.
    """
    if name == "fitness" or hasattr(list, name):
        return False
    return any(name in vars(base) for base in kind.__mro__ if _is_own(base))


def _taken(kind: type, name: str) -> Exception:
    """Return the error for data under a name of the package."""
    return _checks.bad_value(
        f"{kind.__name__}.{name}",
        "have a name of its own",
        "one that nets_deap does not use on tickets",
        name,
        "Keep data of your own under another name.",
    )


def _is_method(value: object) -> bool:
    """Return whether something in a class is a method, or one of the class itself."""
    return isinstance(value, (FunctionType, classmethod, staticmethod))


def _is_own(kind: type) -> bool:
    """Return whether a class is of this package."""
    return kind.__module__.partition(".")[0] == __name__.partition(".")[0]
