"""The command ``ship``: the best network of a run that is fast enough, as a file."""

from __future__ import annotations

import re
from argparse import Namespace
from typing import Any

from nets_deap import _checks
from nets_deap.cli.options import add_preset, configured
from nets_deap.errors import CallOrderError

FORMATS = ("onnx", "int8", "torch")
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def add(parsers: Any) -> None:
    """Add the command to the command line."""
    command = parsers.add_parser(
        "ship",
        help="the best network of a run that is fast enough, cut, as a file, with measured times",
        description="Of the networks that a run has trained, take the best by validation that is "
        "fast enough here, cut it, write it, and print dense, cut, onnxruntime and int8 side by "
        "side: accuracy, bytes, multiply-adds, latency.",
    )
    command.add_argument("run", metavar="RUN", help="the run folder")
    command.add_argument(
        "--max-latency", metavar="TIME", help="that a minibatch may take, as in 2ms or 150us"
    )
    command.add_argument(
        "--speedup",
        type=float,
        metavar="X",
        help="that the file has at least over the dense float32 network in the same runtime, with "
        "minibatches of all sizes in --batches",
    )
    command.add_argument(
        "--batches",
        default="1,64",
        metavar="N,N",
        help="sizes of minibatches that are timed, with commas between (default: 1,64)",
    )
    command.add_argument(
        "--batch", type=int, default=1, help="examples for --max-latency (default: 1)"
    )
    command.add_argument("--threads", type=int, default=1, help="of the runtime (default: 1)")
    command.add_argument(
        "--to",
        choices=FORMATS,
        default="onnx",
        help="the form that is written, and that must be fast enough (default: onnx)",
    )
    command.add_argument(
        "--out",
        metavar="FILE",
        help="the file (default: none is written); of torch .pt2, which torch.export.load reads, "
        "or the tensors alone: .safetensors, .pt",
    )
    command.add_argument(
        "--steps", type=int, default=0, help="of fine-tuning the network first (default: 0)"
    )
    command.add_argument(
        "--dense-steps",
        type=int,
        help="of training the dense network beside it (default: as many as the network has had)",
    )
    command.add_argument("--repeats", type=int, default=100, help="timed calls (default: 100)")
    known = "as the run was begun; needed where Python began it"
    add_preset(command, named=False, default=known, threads=False)  # those are the runtime's
    command.set_defaults(command=ship)


def ship(options: Namespace) -> int:
    """Ship a network and print the table."""
    most = None if options.max_latency is None else _seconds(options.max_latency)
    from nets_deap.experiments.resume import config_of
    from nets_deap.experiments.run import build_task
    from nets_deap.experiments.shipping import ship as shipped
    from nets_deap.runs.storage.reader import RunReader

    path, begun = _checks.path("run", options.run), None
    if options.preset is None:
        try:
            begun = config_of(RunReader(path).config(), path)
        except CallOrderError as error:
            raise CallOrderError(
                "The run was begun in Python: name its task by --preset FILE.py:FUNCTION, with "
                "--seed if it was not 0, or ship it there, with nets.ship(path, task)."
            ) from error
    config = configured(options, begun)
    found = shipped(
        options.run,
        build_task(config),
        max_latency=most,
        speedup=options.speedup,
        batch=options.batch,
        threads=options.threads,
        to=options.to,
        out=options.out,
        steps=options.steps,
        dense_steps=options.dense_steps,
        batches=_sizes(options.batches),
        repeats=options.repeats,
    )
    print(found.table())
    if found.path is not None:
        print(f"written: {found.path}")
    return 0


def _seconds(text: str) -> float:
    """Return a time that a user gave, in seconds."""
    found = _TIME.fullmatch(text.strip())
    if found is None:
        raise _checks.bad_value("--max-latency", "be a time", "such as 2ms, 150us or 0.1s", text)
    return float(found[1]) * _SECONDS[found[2]]


def _sizes(text: str) -> tuple[int, ...]:
    """Return sizes of minibatches that a user gave."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise _checks.bad_value("--batches", "be sizes", "whole numbers, such as 1,64", text)
    return tuple(map(int, parts))
