"""The command ``slurm``: batch scripts that runs survive in."""

from __future__ import annotations

from argparse import Namespace, RawDescriptionHelpFormatter
from typing import Any

from nets_deap.cli.options import WHICH, add_set, settings_of
from nets_deap.cli.slurm.jobs import KINDS, job
from nets_deap.experiments.config import Config
from nets_deap.experiments.own_task import is_reference, loaded
from nets_deap.experiments.presets import preset

NUMBERS = (
    ("--seeds", None, "how many; not for ray (default: 10)"),
    ("--first-seed", 0, "the first"),
    ("--cpus", 4, "cores of a job, on each node"),
    ("--gpus", 0, "GPUs of a job, on each node"),
    ("--nodes", None, "nodes of the job; for ray (default: 2)"),
    ("--warning", 120, "seconds before the time limit at which runs save and end"),
)


def add(parsers: Any) -> None:
    """Add the command to the command line."""
    command = parsers.add_parser(
        "slurm",
        help="print a batch script for SLURM",
        description="Print a batch script for SLURM. array: a run for each seed, which queues "
        "again when its time is over and goes on exactly. compare: evolution and the baselines, a "
        "job for each seed and one for the table. ray: one run over several nodes.",
        epilog="example:\n  nets-deap slurm array lenet-mnist --seeds 5 --time 02:00:00 > job.sh\n"
        "  sbatch job.sh",
        formatter_class=RawDescriptionHelpFormatter,
    )
    command.add_argument("kind", metavar="KIND", choices=KINDS, help=" or ".join(KINDS))
    command.add_argument("preset", metavar="PRESET", help=WHICH)
    for name, default, text in NUMBERS:
        shown = text if default is None else f"{text} (default: {default})"
        command.add_argument(name, type=int, default=default, help=shown)
    command.add_argument("--time", default="04:00:00", help="limit of a job (default: 04:00:00)")
    command.add_argument("--memory", default="8G", help="of a job, on each node (default: 8G)")
    command.add_argument("--out", default="runs", help="folder of the runs (default: runs)")
    add_set(command)
    command.set_defaults(command=slurm)


def slurm(options: Namespace) -> int:
    """Print the script."""
    name = options.preset  # raises before anything is queued
    base = Config(about=name, task=loaded(name)) if is_reference(name) else preset(name)
    base.override(settings_of(options))
    given = {n: v for n, v in vars(options).items() if n not in ("command", "set", "kind")}
    settings = [word for text in options.set for word in ("--set", text)]
    del given["preset"]
    print(job(options.kind, name, **given, settings=settings).rstrip("\n"))
    return 0


__all__ = ["KINDS", "job"]
