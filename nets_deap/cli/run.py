"""What the commands that run experiments do; each says its lines through ``say``."""

from __future__ import annotations

import signal
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nets_deap.cli.commands import Say, configured
from nets_deap.errors import ExecutorLostError
from nets_deap.runs.signals import listening


def run(options: Namespace, say: Say, complain: Say) -> int:
    """Run an experiment and print its table."""

    def work() -> tuple[str, Any]:
        from nets_deap.experiments.run import run as run_experiment

        return options.preset, run_experiment(
            config,
            path,
            preset=options.preset,
            progress=options.progress,
            overwrite=options.overwrite,
            **_where(options),
        )

    with listening():
        config = configured(options)
        path = Path(options.out) if options.out else _default(options, config.seed)
        return _do(work, path, say, complain)


def resume(options: Namespace, say: Say, complain: Say) -> int:
    """Go on with a run and print its table."""
    path = Path(options.run)

    def work() -> tuple[str, Any]:
        from nets_deap.experiments.resume import config_of
        from nets_deap.experiments.run import run as run_experiment
        from nets_deap.runs.resume import read_config

        facts = read_config(path)
        name, config = str(facts.get("preset", "")), config_of(facts)
        if options.generations is not None:
            config = config.override({"search.generations": options.generations})
        return name, run_experiment(
            config,
            path,
            preset=name,
            progress=options.progress,
            resume=True,
            force=options.force,
            **_where(options),
        )

    with listening():
        return _do(work, path, say, complain)


def status(options: Namespace, say: Say) -> int:
    """Print how far a run is."""
    from nets_deap.runs.status import status as status_of

    say(status_of(options.run).text())
    return 0


def _where(options: Namespace) -> dict[str, Any]:
    """Return where everything is to be trained."""
    names = ("engine", "workers", "address", "gpus_per_worker")
    return {name: getattr(options, name) for name in names}


def _default(options: Namespace, seed: int) -> Path:
    """Return the folder of a run that names none."""
    from nets_deap.experiments.run import default_path

    return default_path(options.preset, seed, new=not options.overwrite)


def _do(work: Callable[[], tuple[str, Any]], path: Path, say: Say, complain: Say) -> int:
    """Run an experiment; print its table, or how to go on; return the exit status."""
    try:
        title, report = work()
    except KeyboardInterrupt as stop:
        number = signal.Signals(getattr(stop, "signal", signal.SIGINT))
        there = (path / "config.json").exists()
        how = f"all that is done is saved; go on with: nets-deap resume {path}"
        complain(f"{number.name}: {how if there else 'nothing was written yet; start it again'}")
        return 128 + number
    except ExecutorLostError as error:
        complain(f"{error} The run folder: {path}")
        return 1
    say(f"\n{title}: front after {report.final.steps} steps from W0, densest first\n")
    say(report.table())
    for note in report.notes:
        say(f"\n{note}")
    say(f"\nrun folder: {report.path}")
    return 0
