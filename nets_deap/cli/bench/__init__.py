"""The command ``bench``: what things cost on this machine."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from nets_deap import _checks
from nets_deap.cli.options import numbers


def add(parsers: Any) -> None:
    """Add the command to the command line."""
    command = parsers.add_parser(
        "bench",
        help="measure what things cost on this machine",
        description="Measure how fast populations train, beside one network at a time and plain "
        "torch.func.vmap in the same run, and what evolution costs; print tables and write JSON.",
    )
    command.add_argument(
        "what",
        choices=["training", "evolution", "scaling", "structured", "all"],
        help="training: network-steps a second; evolution: a generation less training; scaling: "
        "workers of Ray, by number; structured: filters of a small network beside Torch-Pruning, "
        "and their latency; all: the first two",
    )
    training = command.add_argument_group("training")
    training.add_argument(
        "--nets", help="lenet,lenet5,conv2,conv4,conv6,resnet20 (default: the first two)"
    )
    training.add_argument(
        "--populations", help="numbers of networks (default: 1,8,64; on CUDA also 256,1024)"
    )
    training.add_argument("--densities", help="of the masks (default: 1,0.2,0.05,0.01)")
    training.add_argument("--repeats", type=int, default=5, help="interleaved (default: 5)")
    training.add_argument(
        "--seconds", type=float, default=0.5, help="of each measurement (default: 0.5)"
    )
    training.add_argument(
        "--device", default="auto", help="auto (CUDA when there), cpu, cuda or cuda:N"
    )
    training.add_argument(
        "--precision", default="float32", help="of products: float32, tf32 (CUDA) or bf16"
    )
    training.add_argument("--engine", default="auto", help="instead of the fastest one that can")
    evolution = command.add_argument_group("evolution")
    evolution.add_argument("--population", type=int, default=100, help="tickets (default: 100)")
    evolution.add_argument("--generations", type=int, default=30, help="how many (default: 30)")
    scaling = command.add_argument_group("scaling")
    scaling.add_argument("--workers", default="1,2", help="numbers of workers (default: 1,2)")
    structured = command.add_argument_group("structured")
    structured.add_argument("--seeds", type=int, default=5, help="how many (default: 5)")
    structured.add_argument("--dataset", default="mnist5k", help="or mnist (default: mnist5k)")
    structured.add_argument(
        "--schedule", default="cosine", help="of the learning rate, for all (default: cosine)"
    )
    command.add_argument("--out", help="JSON file (default: runs/bench-WHAT.json)")
    command.set_defaults(command=bench)


def bench(options: Namespace) -> int:
    """Measure, print the tables and write them as JSON."""
    given: dict[str, Any] = {
        "nets": tuple(options.nets.split(",")) if options.nets else (),
        "populations": numbers("--populations", options.populations, int),
        "densities": numbers("--densities", options.densities, float),
    }
    workers = numbers("--workers", options.workers, int)
    from nets_deap.runs.storage.folder import RunFolder

    target = _checks.path("--out", options.out or f"runs/bench-{options.what}.json")
    folder = RunFolder.beside(target)  # complains before anything is measured
    found: dict[str, Any] = {}
    if options.what in ("training", "all"):
        from nets_deap.cli.bench.report import training_report
        from nets_deap.cli.bench.training import Asked

        shared = ("repeats", "seconds", "device", "engine", "precision")
        given |= {name: getattr(options, name) for name in shared}
        found["training"] = training_report(Asked(**{n: v for n, v in given.items() if v != ()}))
    if options.what in ("evolution", "all"):
        from nets_deap.cli.bench import evolution

        found["evolution"] = evolution.report(
            population=options.population,
            generations=options.generations,
            repeats=min(9, options.generations),
        )
    if options.what == "scaling":
        from nets_deap.cli.bench import scaling

        found["scaling"] = scaling.report(
            workers=workers,
            repeats=options.repeats,
            device="cpu" if options.device == "auto" else options.device,
        )
    if options.what == "structured":
        from nets_deap.cli.bench.structured import structured_report

        found["structured"] = structured_report(
            seeds=_checks.whole("--seeds", options.seeds),
            dataset=options.dataset,
            schedule=options.schedule,
            repeats=100,
        )
    folder.write_json(target.name, found)
    print(f"written: {target}")
    return 0
