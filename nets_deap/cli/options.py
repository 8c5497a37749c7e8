"""What several commands take: the arguments, and what is made of them."""

from __future__ import annotations

import functools
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nets_deap import _checks
from nets_deap.experiments.config import Config
from nets_deap.experiments.own_task import is_reference, label

if TYPE_CHECKING:
    from nets_deap.tickets.ticket import Ticket

AS_FOUND = (
    "that of the ticket's run or comparison folder with all that was set there, else lenet-mnist"
)
WHICH = (
    "which experiment: a name that 'nets-deap presets' lists, or a task of your own, as "
    "FILE.py:FUNCTION"
)
PROGRESS = ("auto", "bar", "lines", "none")


def add_preset(
    command: ArgumentParser,
    *,
    seed: bool = True,
    named: bool = True,
    default: str = "lenet-mnist",
    threads: bool = True,
) -> None:
    """Add what every command on a preset takes; the preset is ``named`` or an option."""
    if named:
        command.add_argument("preset", metavar="PRESET", help=WHICH)
    else:
        command.add_argument(
            "--preset",
            help=f"{WHICH} (default: {default})",
        )
    if seed:
        command.add_argument("--seed", type=int, help="seed of everything (default: 0)")
    command.add_argument("--device", help="auto (CUDA when there), cpu, cuda:N or cuda:all")
    command.add_argument(
        "--data-dir", help="folder of data sets, such as MNIST/raw (default: $NETS_DEAP_DATA)"
    )
    if threads:
        add_threads(command)
    add_set(command)


def add_threads(command: ArgumentParser) -> None:
    """Add how many CPU threads train."""
    command.add_argument(
        "--threads",
        type=int,
        dest="cpu_threads",
        metavar="N",
        help="CPU threads that train (default: a thread a core)",
    )


def limit_threads(options: Namespace) -> None:
    """Let torch, and with it all engines, use as many CPU threads as were asked for."""
    threads = getattr(options, "cpu_threads", None)
    if threads is not None:
        _checks.whole("--threads", threads)
        import torch

        torch.set_num_threads(threads)


def add_set(command: ArgumentParser) -> None:
    """Add what sets single fields of a preset."""
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="set any field, such as recipe.lr=0.002; may be repeated",
    )


def configured(options: Namespace, base: Config | None = None) -> Config:
    """Return a configuration with what the command line sets: ``base``, or the preset's.

    Of a task of one's own it takes what is not set from the task, which is built for that.
    """
    settings = settings_of(options)
    if base is not None:
        return base.override(settings)
    from nets_deap.experiments.own import configuration

    return configuration(options.preset or "lenet-mnist", settings)


def settings_of(options: Namespace) -> dict[str, Any]:
    """Return the fields that ``--set`` and the flags set, by dotted names."""
    settings: dict[str, Any] = {}
    for item in options.set:
        name, equals, value = item.partition("=")
        if not equals:
            raise _checks.bad_value("--set", "be FIELD=VALUE", "an '='", repr(item))
        settings[name.strip()] = value
    given = vars(options)
    flags = {
        "seed": given.get("seed"),
        "search.generations": given.get("generations"),
        "search.population": given.get("population"),
        "task.device": given.get("device"),
        "task.data_dir": given.get("data_dir"),
    }
    for name, value in flags.items():
        if value is not None and name in settings:
            raise _checks.bad_value(name, "be set once", "its flag or --set", "both")
        if value is not None:
            settings[name] = value
    return settings


def label_of(options: Namespace) -> str:
    """Return what folders of a preset, or of a task of one's own, are called by."""
    name: str = options.preset
    return label(name) if is_reference(name) else name


def configured_as_found(options: Namespace, ticket: Ticket) -> Config:
    """Return the configuration for a ticket's file: that of the run or comparison that it lies in.

    A preset that is named takes its place; other options set fields of it.

    Raises:
        InvalidValueError: None is named or there, and the ticket is not of LeNet-300-100, which is
            what is meant else; said before its data are looked for.
    """
    file = _checks.path("FILE", options.file).resolve()
    base = None if options.preset is not None else _found_beside(file)
    config = configured(options, base)
    if options.preset is None and base is None and getattr(config.task, "kind", "") == "lenet":
        from nets_deap.models.mlp import lenet_300_100

        shapes = [tuple(weight.shape) for weight in lenet_300_100().parameters() if weight.ndim > 1]
        got = [layer.shape for layer in ticket.layout.weights.layers]
        if got != shapes:
            wanted, found = (", ".join("x".join(map(str, s)) for s in of) for of in (shapes, got))
            raise _checks.bad_value(
                "ticket", "belong to this task",
                f"layers {wanted} (lenet-mnist, as {file.name} lies in no folder that says which)",
                f"{found}",
                "Name its preset, or your own task as FILE.py:FUNCTION, and what was set: "
                "--preset, --seed, --set. In Python: ticket.apply(model).",
            )  # fmt: skip
    return config


def _found_beside(file: Path) -> Config | None:
    """Return what the folder that a ticket lies in was made with, if that is written down.

    Raises:
        RunFileError: It is not a configuration.
    """
    from nets_deap.experiments.folder import config_in
    from nets_deap.experiments.resume import config_of
    from nets_deap.runs.storage.paths import CONFIG, TICKETS
    from nets_deap.runs.storage.reader import RunReader

    run = RunReader(file.parent.parent)
    facts = None
    if file.parent.name == TICKETS and run.holds(CONFIG):
        facts = run.facts()
    elif file.parent.parent.name == TICKETS:
        facts = config_in(file.parent.parent.parent, file.parent.name)
    # What was begun in Python has a task that only Python knows.
    held = facts is not None and isinstance(facts.get("config"), dict)
    return config_of(facts, file.parent.parent) if facts is not None and held else None


def budget_of(options: Namespace, config: Config) -> float:
    """Return the budget that is asked for, or the preset's, in the preset's unit."""
    budget: Any = config.search.budget if options.budget is None else options.budget
    if budget is None:
        none = "none, as the preset has none"
        raise _checks.bad_value(
            "--budget", "be given", f"a number of {config.search.budget_unit}", none
        )
    whole = float(budget).is_integer()  # as in a file
    return int(budget) if whole else float(budget)


def numbers(flag: str, text: str | None, kind: type) -> tuple[Any, ...]:
    """Return numbers with commas between; none for no text."""
    try:
        return tuple(kind(part) for part in (text or "").split(",") if part)
    except ValueError:
        example = "8,64" if kind is int else "0.1,0.02"
        raise _checks.bad_value(flag, "be numbers", example, repr(text)) from None


def add_where(command: ArgumentParser) -> None:
    """Add where everything is trained, which changes no result."""
    command.add_argument(
        "--map",
        choices=["local", "ray"],
        default="local",
        help="train in this process, or on workers of Ray, each with the engine that "
        "task.engine names (default: local)",
    )
    command.add_argument(
        "--workers", type=int, help="workers of Ray (default: as many as have room)"
    )
    command.add_argument(
        "--address",
        help="'local' starts Ray here (default); 'auto' or 'HOST:PORT' is a cluster that runs",
    )
    command.add_argument(
        "--gpus-per-worker",
        type=float,
        metavar="GPUS",
        help="of each worker, 0.25 for a quarter (default: 1 on CUDA, else 0)",
    )


def where(options: Namespace) -> dict[str, Any]:
    """Return where everything is to be trained, as arguments of ``experiments.run``.

    Raises:
        InvalidValueError: There are options of workers, and no workers.
    """
    names = ("workers", "address", "gpus_per_worker")
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.map == "ray":
        from nets_deap.evolution.ray_map import RayMap

        return {"map": functools.partial(RayMap, **given)}
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        leave = f"Or leave out {flags}."
        raise _checks.bad_value("--map", "have workers", "ray", options.map, leave)
    return {}
