"""``OwnTask``: a function that takes the seed and returns a task, in a file or a module.

What a preset is by its name such a function is by ``FILE.py:FUNCTION`` or ``package.module:NAME``.
Nothing here imports torch before the function's file does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import inspect
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Union

from nets_deap import _checks
from nets_deap.evolution.settings import Settings, setting

if TYPE_CHECKING:
    from nets_deap.training.task import Task

MAKE_TASK = "make_task"  # the function, where a file is named alone
PLAIN = (bool, int, float, str)  # what text is read as


@dataclass(frozen=True, kw_only=True)
class OwnTask(Settings):
    """What makes a task, and what it is called with besides the seed.

    Each function has a subclass, whose fields are the function's further parameters, so that
    ``--set task.NAME=VALUE`` is checked and read as with a preset.
    """

    subject: ClassVar[str] = "task"
    prefix: ClassVar[str] = "task."
    source: ClassVar[str] = ""  # FILE.py:FUNCTION or MODULE:FUNCTION
    digest: ClassVar[str | None] = None  # SHA-256 of the file; None where there is none
    call: ClassVar[Any] = None  # the function

    def as_dict(self) -> dict[str, Any]:
        """Return as plain data what it takes to make the task again."""
        arguments = dataclasses.asdict(self)
        return {"source": self.source, "sha256": self.digest, "arguments": arguments}

    def make(self, seed: int) -> Task:
        """Return the task of a seed.

        Raises:
            InvalidTypeError: The function returns something else.
            InvalidValueError: Its task has another seed.
        """
        from nets_deap.training.task import check_task

        task: Task = type(self).call(seed, **dataclasses.asdict(self))
        check_task(f"what {self.source} returns", task)
        if task.seed != seed:
            raise _checks.bad_value(
                f"the task of {self.source}",
                "have the seed that the function is given",
                f"seed = {seed}",
                task.seed,
                "Pass it on: nets.Task(..., seed=seed).",
            )
        return task


def is_reference(name: str) -> bool:
    """Whether a name is that of a function rather than of a preset."""
    return ":" in name or name.endswith(".py")


def label(reference: str) -> str:
    """Return a name for folders and jobs: of the file or module, and of an unusual function."""
    place, _, function = reference.rpartition(":") if ":" in reference else (reference, "", "")
    stem = Path(place).stem if place.endswith(".py") else place.rpartition(".")[2]
    own = stem if function in ("", MAKE_TASK) else f"{stem}-{function}"
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in own)


def loaded(reference: str) -> OwnTask:
    """Return the record of the function that a reference names, with the function's defaults.

    A file is run as by ``python FILE.py``, but for ``__name__``; it can import what lies beside it.
    Modules are also looked for in the working directory.

    Args:
        reference: ``FILE.py:FUNCTION``, ``FILE.py`` for its ``make_task``, or ``MODULE:FUNCTION``.

    Raises:
        InvalidValueError: There is no such file, module or function.
        InvalidTypeError: It cannot be called with a seed alone.
    """
    place, _, name = reference.rpartition(":") if ":" in reference else (reference, "", MAKE_TASK)
    if place.endswith(".py"):
        file = _checks.path("task", place).resolve()
        if not file.is_file():
            raise _checks.bad_value("task", "be in a file", "one that is there", str(file))
        module, source = _run(file), f"{file}:{name}"
    else:
        module, source = _imported(place), reference
    function = getattr(module, name, None)
    if function is None:
        names = _functions_of(module)
        meant = _checks.meant_by(name, names)
        raise _checks.unknown(f"the function in {place}", name, names, meant)
    return record_of(function, source)


def record_of(function: Callable[..., Any], source: str | None = None) -> OwnTask:
    """Return the record of a function, with the function's defaults.

    Args:
        function: Takes the seed and returns a task; its other parameters have defaults.
        source: What names it; None to find out.

    Raises:
        InvalidTypeError: It cannot be called with a seed alone.
    """
    _checks.takes("make_task", function, ("seed",))
    source = _source_of(function) if source is None else source
    file = Path(source.rpartition(":")[0])
    digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.suffix == ".py" else None
    made = dataclasses.make_dataclass(
        "OwnTask",
        [(name, kind, setting(value, "")) for name, (kind, value) in _settable(function).items()],
        bases=(OwnTask,),
        namespace={"source": source, "digest": digest, "call": staticmethod(function)},
        frozen=True,
        kw_only=True,
    )
    found: OwnTask = made()
    return found


def _run(file: Path) -> types.ModuleType:
    """Return the module that a file is, run anew."""
    if str(file.parent) not in sys.path:
        sys.path.insert(0, str(file.parent))
    there = sys.modules.get(file.stem)
    # Under its own name it can be found again by what it defines, as pickle and dataclasses do.
    taken = there is not None and getattr(there, "__file__", None) != str(file)
    name = f"{file.stem}_of_{abs(hash(file)):x}" if taken else file.stem
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None  # of a file that ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _imported(name: str) -> types.ModuleType:
    """Return a module, looked for in the working directory as well."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # it is there; what it imports is not
    except (TypeError, ValueError):  # a name that begins with a dot, or none
        pass
    hint = "Of a file give FILE.py:FUNCTION."
    raise _checks.bad_value("task", "be in a module", "one that can be imported", name, hint)


def _functions_of(module: types.ModuleType) -> list[str]:
    """Return the names of the functions that a module defines itself."""
    own = inspect.getmembers(module, inspect.isfunction)
    return [name for name, value in own if value.__module__ == module.__name__]


def _source_of(function: Any) -> str:
    """Return what names a function: its file, where that makes it again, else its module."""
    module = getattr(function, "__module__", "") or ""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    file = getattr(sys.modules.get(module), "__file__", None)
    at_top = getattr(sys.modules.get(module), name, None) is function
    if file and at_top and module != "__main__" and "." not in module:
        return f"{Path(file).resolve()}:{name}"
    return f"{module}:{name}"


def _settable(function: Callable[..., Any]) -> dict[str, tuple[Any, Any]]:
    """Return kind and default of the parameters after the seed that text can be read as."""
    _, *others = inspect.signature(function).parameters.values()
    try:
        hints = typing.get_type_hints(function)
    except (NameError, TypeError):  # names for type checkers alone, or no function
        hints = {}
    found = {}
    for one in others:
        value = None if one.default is inspect.Parameter.empty else one.default
        kind = hints.get(one.name, str | None if value is None else type(value))
        if kind is tuple:
            kind = tuple[type(value[0]) if value else str, ...]  # type: ignore[misc]
        named = one.kind in (one.KEYWORD_ONLY, one.POSITIONAL_OR_KEYWORD)
        if named and _is_plain(kind):
            found[one.name] = kind, value
    return found


def _is_plain(kind: Any) -> bool:
    """Whether text is read as a kind: a number, a switch, text, a tuple of these, or None."""
    parts = typing.get_args(kind)
    if typing.get_origin(kind) in (Union, types.UnionType, tuple):
        return all(part in (type(None), ...) or _is_plain(part) for part in parts)
    return kind in PLAIN
