"""What the commands of the command line do; each says its lines through ``say``."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import Any

from nets_deap import _checks
from nets_deap.errors import NetsError
from nets_deap.experiments.config import Config
from nets_deap.experiments.presets import preset

Say = Callable[[str], None]


def compare(options: Namespace, say: Say) -> int:
    """Compare methods and print the summary."""
    config = configured(options)
    from nets_deap.experiments import compare as comparison
    from nets_deap.experiments.methods import METHODS

    path = options.out or f"runs/compare-{options.preset}"
    summary = comparison.compare(
        config,
        path,
        seeds=range(options.first_seed, options.first_seed + options.seeds),
        budget=_budget(options, config),
        methods=options.methods.split(",") if options.methods else tuple(METHODS),
        densities=_densities(options) or comparison.DENSITIES,
        on_done=say,
    )
    say(f"\n{summary.text()}\n\nfolder: {path}")
    return 0


def baseline(options: Namespace, say: Say) -> int:
    """Run one method and print a row for each of its tickets."""
    from nets_deap.experiments.methods import METHODS

    if options.name == "list":
        for method in METHODS.values():
            say(f"{method.name:<14}  {method.about}")
        return 0
    _checks.choice("name", options.name, METHODS, "See: nets-deap baseline list")
    config = configured(options)
    spends = METHODS[options.name].budgets > 0
    budget = 1 if options.budget is None else options.budget
    if spends and options.budget is None:
        budget = round(_budget(options, config) * METHODS[options.name].budgets)
    from nets_deap.experiments.compare import DENSITIES, find, levels_of, rows_of
    from nets_deap.experiments.run import build_task
    from nets_deap.runs.storage.folder import RunFolder, csv_text

    levels = levels_of(_densities(options) or DENSITIES)
    task = build_task(config)
    folder = None if options.out is None else RunFolder(options.out)
    found, seconds = find(task, config, options.name, budget, levels)
    rows = rows_of(task, config, options.name, found, seconds)
    if folder is not None:
        folder.write_text("rows.csv", csv_text(rows))
        for level in found.levels:
            level.ticket.save(folder.path / f"{level.ticket.digest[:16]}.safetensors")
    about = METHODS[options.name].about
    cost = f"{found.search_steps} steps x networks, {seconds:.1f} s"
    say(f"{options.name}: {about}; search of {cost}\n")
    say("kept      density    test acc.")
    for row in rows:
        say(f"{row['kept']:<8}  {100 * row['density']:5.2f} %  {100 * row['test_accuracy']:8.2f} %")
    return 0


def check(options: Namespace, say: Say) -> int:
    """Check a ticket and print the report."""
    import json

    as_in_its_run(options)
    config = configured(options)
    from nets_deap.experiments import sanity
    from nets_deap.experiments.compacting import for_ticket
    from nets_deap.experiments.run import build_task
    from nets_deap.runs.storage.folder import RunFolder
    from nets_deap.tickets.ticket import Ticket

    loaded = Ticket.load(options.file)
    task = build_task(for_ticket(config, loaded))
    report = sanity.check(
        loaded,
        task,
        steps=config.final.steps if options.steps is None else options.steps,
        seeds=options.seeds,
        tolerance=options.tolerance / 100,
        margin=options.margin / 100,
    )
    say(report.table())
    if options.json:
        from pathlib import Path

        target = Path(options.json)
        RunFolder.existing(target.parent).write_text(
            target.name, json.dumps(report.as_dict(), indent=2) + "\n"
        )
    return 0


def describe(options: Namespace, say: Say) -> int:
    """Print what a preset's task is made of."""
    config = configured(options)
    from nets_deap.experiments.run import build_task
    from nets_deap.training import describe

    say(str(describe.describe(build_task(config))))
    return 0


def compact(options: Namespace, say: Say, complain: Say) -> int:
    """Train a ticket, compact it and print what that saves."""
    as_in_its_run(options)
    config = configured(options)
    from nets_deap.experiments import compacting
    from nets_deap.tickets.ticket import Ticket

    loaded = Ticket.load(options.file)
    complain(training_ahead(config, options.steps))
    report = compacting.compact(
        config, loaded, steps=options.steps, repeats=options.repeats, path=options.out
    )
    say(report.table())
    if options.out:
        say(f"written: {options.out}")
    return 0


def training_ahead(config: Config, steps: int | None) -> str:
    """Return the message that a command trains a ticket before it answers."""
    number = config.final.steps if steps is None else steps
    return f"trains the ticket from W0 for {number} steps first (--steps N sets how many)"


def bench(options: Namespace, say: Say) -> int:
    """Measure, print the tables and write them as JSON."""
    import json
    from pathlib import Path

    numbers = {
        "populations": _numbers("--populations", options.populations, int),
        "densities": _numbers("--densities", options.densities, float),
    }
    workers = _numbers("--workers", options.workers, int)
    from nets_deap.cli.bench import evolution, report
    from nets_deap.runs.storage.folder import RunFolder

    target = Path(options.out or f"runs/bench-{options.what}.json")
    folder = RunFolder.beside(target)  # complains before anything is measured
    found: dict[str, Any] = {}
    if options.what in ("training", "all"):
        given = {name: values for name, values in numbers.items() if values}
        if options.nets:
            given["nets"] = tuple(options.nets.split(","))
        found["training"] = report.training_report(
            say,
            repeats=options.repeats,
            seconds=options.seconds,
            device=options.device,
            engine=options.engine,
            **given,
        )
    if options.what in ("evolution", "all"):
        lines, found["evolution"] = evolution.report(
            population=options.population,
            generations=options.generations,
            repeats=min(9, options.generations),
        )
        for line in lines:
            say(line)
    if options.what == "scaling":
        from nets_deap.cli.bench import scaling

        found["scaling"] = scaling.report(
            say,
            workers=workers,
            repeats=options.repeats,
            device="cpu" if options.device == "auto" else options.device,
        )
    folder.write_text(target.name, json.dumps(found, indent=2) + "\n")
    say(f"written: {target}")
    return 0


def as_in_its_run(options: Namespace) -> None:
    """Take preset and seed from the run folder that a ticket file lies in, where not given."""
    import json
    from pathlib import Path

    try:
        text = (Path(options.file).resolve().parent.parent / "config.json").read_text("utf-8")
        facts = json.loads(text)
        preset_of_run, seed = facts["preset"], facts["config"]["seed"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if options.preset is None and preset_of_run:
        options.preset = preset_of_run
        options.seed = seed if options.seed is None else options.seed


def _budget(options: Namespace, config: Config) -> int:
    """Return the budget that is asked for, or the preset's."""
    budget: int | None = config.search.budget if options.budget is None else options.budget
    if budget is None:
        raise usage("--budget must be given: expected steps x networks, as the preset has none.")
    return budget


def _densities(options: Namespace) -> tuple[float, ...]:
    """Return the density levels that are asked for; none for the default."""
    return _numbers("--densities", options.densities, float)


def _numbers(flag: str, text: str | None, kind: type) -> tuple[Any, ...]:
    """Return numbers with commas between; none for no text."""
    try:
        return tuple(kind(part) for part in (text or "").split(",") if part)
    except ValueError:
        example = "8,64" if kind is int else "0.1,0.02"
        raise usage(f"{flag} must be numbers: expected {example}, got {text!r}.") from None


def configured(options: Namespace) -> Config:
    """Return the preset's configuration with what the command line sets."""
    config = preset(options.preset or "lenet-mnist")
    settings: dict[str, Any] = {}
    for item in options.set:
        name, equals, value = item.partition("=")
        if not equals:
            raise usage(f"--set must be FIELD=VALUE: expected an '=', got {item!r}.")
        settings[name.strip()] = value
    given = vars(options)
    flags = {
        "seed": given.get("seed"),
        "search.generations": given.get("generations"),
        "search.population": given.get("population"),
        "task.device": options.device,
        "task.data_dir": options.data_dir,
    }
    for name, value in flags.items():
        if value is not None and name in settings:
            raise usage(f"{name} must be set once: expected its flag or --set, got both.")
        if value is not None:
            settings[name] = value
    return config.override(settings)


def usage(text: str) -> NetsError:
    """Return an error about the command line itself."""
    from nets_deap.errors import InvalidValueError

    return InvalidValueError(text)
