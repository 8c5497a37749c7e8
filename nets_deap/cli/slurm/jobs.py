"""``job``: a batch script for SLURM, filled in."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from importlib import resources
from string import Template

from nets_deap import _checks
from nets_deap.experiments.own_task import is_reference, label

KINDS = ("array", "compare", "ray")


def job(
    kind: str,
    preset: str,
    *,
    seeds: int | None = None,
    first_seed: int = 0,
    time: str = "04:00:00",
    cpus: int = 4,
    memory: str = "8G",
    gpus: int = 0,
    nodes: int | None = None,
    warning: int = 120,
    out: str = "runs",
    settings: Sequence[str] = (),
) -> str:
    """Return a batch script for SLURM; save it, look it over, and give it to ``sbatch``.

    Args:
        kind: ``"array"``: a run for each seed, which queues again when its time is over and goes on
            exactly; ``"compare"``: evolution and the baselines, a job for each seed and one for
            the table; ``"ray"``: one run over several nodes.
        preset: Which experiment: the name of one, or ``FILE.py:FUNCTION``.
        seeds: How many; None for 10. A ``"ray"`` job has one.
        first_seed: The first.
        time: Time limit of a job, as ``sbatch --time`` takes it.
        cpus: Cores of a job, on each node.
        memory: Memory of a job, on each node.
        gpus: GPUs of a job, on each node.
        nodes: Nodes of a ``"ray"`` job; None for 2. The others' jobs have one.
        warning: Seconds before the time limit at which runs save and end.
        out: Folder of the runs; it must be seen by all nodes.
        settings: Further arguments of ``nets-deap run`` or ``compare``.

    Raises:
        InvalidValueError: An argument is out of range, or would not stay one word of the script.
    """
    name = _checks.choice("kind", kind, KINDS)
    count = _alone("seeds", seeds, 10, only=name != "ray")
    last = _checks.whole("first_seed", first_seed, low=0) + count - 1
    title = preset if not is_reference(preset) else label(preset)
    _check_word("preset", title, r"[\w-]+", "letters, digits and hyphens")
    _check_word("time", time, r"(\d+-)?\d+(:\d+){0,2}", "[DAYS-]HOURS:MINUTES:SECONDS")
    _check_word("memory", memory, r"\d+[KMGT]?", "a number with K, M, G or T")
    if not isinstance(out, str) or not out or out.startswith("-"):
        raise _checks.bad_value("out", "be a folder", "a path such as 'runs'", repr(out))
    values = {
        "preset": title,
        "experiment": shlex.quote(preset),
        "seeds": f"{first_seed}-{last}",
        "first": first_seed,
        "count": count,
        "time": time,
        "cpus": _checks.whole("cpus", cpus),
        "memory": memory,
        "gpus": f"#SBATCH --gpus-per-node={gpus}\n" if _checks.whole("gpus", gpus, low=0) else "",
        "ray_gpus": f" --num-gpus={gpus}",
        "each": gpus or cpus,
        "nodes": _alone("nodes", nodes, 2, only=name == "ray"),
        "warning": _checks.whole("warning", warning),
        "out": shlex.quote(str(_checks.path("out", out))),
        "settings": "".join(" " + shlex.quote(text) for text in settings),
    }
    text = (resources.files("nets_deap.cli.slurm") / f"{name}.sh").read_text(encoding="utf-8")
    return Template(text).substitute(values)


def _alone(argument: str, value: int | None, default: int, *, only: bool) -> int:
    """Return a number with its default; 1 for jobs that can have no other."""
    if not only and value not in (None, 1):
        raise _checks.bad_value(argument, "be left out for this kind of job", "1", value)
    return _checks.whole(argument, default if value is None else value) if only else 1


def _check_word(argument: str, value: str, pattern: str, expected: str) -> None:
    """Raise unless a text is what a line of the script may hold."""
    if not isinstance(value, str) or re.fullmatch(pattern, value) is None:
        raise _checks.bad_value(argument, "be one word of its kind", expected, repr(value))
