"""What ``ticket show``, ``diff``, ``apply`` and ``export`` do; each says lines through ``say``."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nets_deap.cli import commands
from nets_deap.cli.commands import Say, as_in_its_run, configured, training_ahead, usage

if TYPE_CHECKING:
    from torch import Tensor

    from nets_deap.tickets.ticket import Ticket


def show(options: Namespace, say: Say) -> int:
    """Print what a ticket file holds, and its layers."""
    from nets_deap.runs.storage.rows import named_values
    from nets_deap.tickets.ticket import Ticket

    ticket = Ticket.load(options.file)
    layout = ticket.layout.weights
    facts: dict[str, Any] = {
        "ticket": ticket.digest,
        "unit": ticket.unit,
        "kept": f"{ticket.kept:,} of {ticket.n_weights:,} weights",
        "density": f"{100 * ticket.density:.3f} %",
        "file": f"{Path(options.file).stat().st_size:,} bytes",
        "initial weights": f"SHA-256 {layout.initial_digest[:16]}..., "
        + ("at hand" if layout.initial is not None else "not in the file"),
    }
    if ticket.fitness is not None and ticket.fitness.valid:
        facts |= {name: f"{value:.6g}" for name, value in named_values(ticket.fitness).items()}
    facts |= ticket.origin
    width = max(map(len, facts))
    for name, value in facts.items():
        if value not in (None, [], {}):
            plain = value if isinstance(value, str) else json.dumps(value)
            say(_printable(f"{name:<{width}}  {plain}"))
    rows = [["layer", "shape", "kept", "weights", "density"]]
    for layer, kept in zip(layout.layers, layout.counts(ticket.packed_mask), strict=True):
        shape, share = "x".join(map(str, layer.shape)), f"{100 * kept / layer.size:.3f} %"
        rows.append([layer.name, shape, f"{kept:,}", f"{layer.size:,}", share])
    say("")
    _say_table(rows, say)
    return 0


def diff(options: Namespace, say: Say) -> int:
    """Print how much of two masks is the same, layer by layer."""
    from nets_deap.tickets.ticket import Ticket

    one, other = Ticket.load(options.file), Ticket.load(options.other)
    layouts = [ticket.layout.weights for ticket in (one, other)]
    if [(la.name, la.shape) for la in layouts[0].layers] != [
        (la.name, la.shape) for la in layouts[1].layers
    ]:
        names = ", ".join(layouts[0].names)
        raise usage(
            f"OTHER must be a ticket over the same layers: expected {names}, "
            f"got {', '.join(layouts[1].names)}."
        )
    same = layouts[0].initial_digest == layouts[1].initial_digest
    say(f"initial weights: {'the same' if same else 'not the same'}")
    say(
        f"masks: {'the same' if (one.packed_mask == other.packed_mask).all() else 'not the same'}\n"
    )
    counts = [
        layouts[0].counts(packed)
        for packed in (one.packed_mask, other.packed_mask, one.packed_mask & other.packed_mask)
    ]
    rows = [["layer", "kept", "kept, other", "in both", "Jaccard"]]
    for name, mine, its, both in zip(layouts[0].names, *counts, strict=True):
        rows.append(_overlap(name, int(mine), int(its), int(both)))
    rows.append(_overlap("all", *(int(part.sum()) for part in counts)))
    _say_table(rows, say)
    return 0


def apply(options: Namespace, say: Say) -> int:
    """Write W0 times the mask as a state dict."""
    from nets_deap.experiments.compacting import write_tensors
    from nets_deap.tickets import apply as applied
    from nets_deap.tickets.ticket import Ticket

    ticket = Ticket.load(options.file)
    tensors = applied.masked(ticket.layout.weights, ticket.masks(), _tensors(options, ticket))
    write_tensors(tensors, options.out, repr(ticket))
    say(f"{ticket}\nwritten: {options.out}")
    return 0


def export(options: Namespace, say: Say, complain: Say) -> int:
    """Write a ticket for other tools."""
    from nets_deap.tickets.ticket import Ticket

    ticket = Ticket.load(options.file)
    if options.to in ("onnx", "csr"):
        _export_trained(options, ticket, say, complain)
    else:
        _export_masks(options, ticket)
    say(f"written: {options.out}")
    return 0


def _export_masks(options: Namespace, ticket: Ticket) -> None:
    """Write masks by name, or W0 and masks as ``torch.nn.utils.prune`` names them."""
    import io

    import numpy as np

    from nets_deap import _atomic
    from nets_deap.experiments.compacting import write_tensors
    from nets_deap.tickets import apply as applied

    if options.to == "prune":
        tensors = applied.as_pruned(
            ticket.layout.weights, ticket.masks(), _tensors(options, ticket)
        )
        write_tensors(tensors, options.out, repr(ticket))
        return
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: mask.numpy() for name, mask in ticket.masks().items()})  # type: ignore[arg-type]
    _atomic.save(options.out, buffer.getvalue(), argument="--out")


def _export_trained(options: Namespace, ticket: Ticket, say: Say, complain: Say) -> None:
    """Train a ticket from W0, write its network, and print what that costs."""
    as_in_its_run(options)
    config = configured(options)
    from nets_deap.experiments import compacting
    from nets_deap.models.compact import onnx

    if options.to == "onnx":
        from nets_deap import _optional

        _optional.require("onnxruntime", "onnx", "ONNX export")  # before anything is trained
    complain(training_ahead(config, options.steps))
    report = compacting.compact(config, ticket, steps=options.steps, repeats=options.repeats)
    say(report.table())
    if options.to == "onnx":
        difference = onnx.write_onnx(report.module, options.out, report.inputs)
        say(f"onnxruntime's outputs differ from torch's by at most {difference:.1e}.")
    else:
        small = ticket.to_csr(report.trained.module())
        compacting.write_tensors(small.state_dict(), options.out, str(small))


def _tensors(options: Namespace, ticket: Ticket) -> dict[str, Tensor]:
    """Return the state dict of ``--weights``, or of the preset's model at W0."""
    if options.weights:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from nets_deap.errors import FileAccessError

        try:
            return load_file(options.weights)
        except (OSError, SafetensorError) as error:
            raise FileAccessError(
                f"--weights must be readable: cannot read {options.weights} ({error})."
            ) from error
    as_in_its_run(options)
    config = configured(options)
    from nets_deap.experiments.compacting import for_ticket
    from nets_deap.experiments.run import build_task

    return dict(build_task(for_ticket(config, ticket)).model.state_dict())


def _printable(text: str) -> str:
    """Return text of a file without what would steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _overlap(name: str, mine: int, its: int, both: int) -> list[str]:
    """Return a row of ``diff``; the Jaccard index of two empty masks is 1."""
    union = mine + its - both
    return [name, f"{mine:,}", f"{its:,}", f"{both:,}", f"{both / union if union else 1:.4f}"]


def _say_table(rows: list[list[str]], say: Say) -> None:
    """Print rows of text in columns, names to the left."""
    rows = [[_printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        parts = [name.ljust(widths[0])]
        parts += [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        say("  ".join(parts))


def add_ticket(parsers: Any, add_experiment: Callable[..., None], say: Say, complain: Say) -> None:
    """Add the command ``ticket`` to those of ``cli``.

    Args:
        parsers: The commands.
        add_experiment: Adds what every command on a preset takes.
        say: Prints a line.
        complain: Prints a line to standard error.
    """
    ticket = parsers.add_parser("ticket", help="look at ticket files and carry them elsewhere")
    what = ticket.add_subparsers(title="commands", metavar="COMMAND", required=True)
    show = what.add_parser("show", help="what a file holds, and its layers")
    show.add_argument("file", metavar="FILE", help="a ticket file (.safetensors)")
    show.set_defaults(command=lambda options: show(options, say))
    diff = what.add_parser("diff", help="how much of two tickets' masks is the same")
    diff.add_argument("file", metavar="FILE", help="a ticket file (.safetensors)")
    diff.add_argument("other", metavar="OTHER", help="another one over the same layers")
    diff.set_defaults(command=lambda options: diff(options, say))
    apply = what.add_parser(
        "apply",
        help="write W0 times the mask as a state dict",
        description="Write the state dict of a preset's model, or that of --weights, with the "
        "maskable weights as W0 times the mask; refuse what does not hold the ticket's W0.",
    )
    apply.add_argument("file", metavar="FILE", help="a ticket file (.safetensors)")
    add_experiment(apply, named=False)
    apply.add_argument("--weights", help="a state dict that holds W0 (.safetensors)")
    apply.add_argument("--out", required=True, help="the file to write (.safetensors)")
    apply.set_defaults(command=lambda options: apply(options, say))
    export = what.add_parser(
        "export",
        help="write it for other tools: onnx, csr, masks, prune",
        description="masks: NumPy's npz of bool arrays by parameter name. prune: a state dict as "
        "torch.nn.utils.prune names it. onnx, csr: the network trained from W0, with what it "
        "costs, measured here.",
    )
    export.add_argument("file", metavar="FILE", help="a ticket file (.safetensors)")
    export.add_argument("--to", required=True, choices=["onnx", "csr", "masks", "prune"])
    add_experiment(export, named=False)
    export.add_argument("--weights", help="prune: a state dict that holds W0 (.safetensors)")
    export.add_argument("--steps", type=int, help="of training (default: that of the preset)")
    export.add_argument("--repeats", type=int, default=100, help="timed passes (default: 100)")
    export.add_argument("--out", required=True, help="the file to write")
    export.set_defaults(command=lambda options: export(options, say, complain))
    check = what.add_parser(
        "check",
        help="is it a winning ticket? shuffled, re-initialised, inverted, dense",
        description="Train a ticket beside its mask shuffled within layers, its mask over other "
        "initial weights, an inverted mask and the dense network, and say whether it wins.",
    )
    check.add_argument("file", metavar="FILE", help="a ticket file (.safetensors)")
    add_experiment(check, named=False)
    check.add_argument(
        "--steps", type=int, help="steps of each (default: the preset's final.steps)"
    )
    check.add_argument("--seeds", type=int, default=5, help="replicates (default: 5)")
    check.add_argument("--tolerance", type=float, default=0.1, help="in pp (default: 0.1)")
    check.add_argument("--margin", type=float, default=0.5, help="in pp (default: 0.5)")
    check.add_argument("--json", help="also write the report to this file")
    check.set_defaults(command=lambda options: commands.check(options, say))
    compact = what.add_parser(
        "compact",
        help="the smaller dense network: parameters, bytes, multiply-adds, latency",
        description="Train a ticket from W0, leave out what it prunes, and print what the smaller "
        "dense network costs beside the whole one, measured here.",
    )
    compact.add_argument("file", metavar="FILE", help="a ticket file (.safetensors)")
    add_experiment(compact, named=False)
    compact.add_argument(
        "--steps", type=int, help="of training (default: the preset's final.steps)"
    )
    compact.add_argument("--repeats", type=int, default=100, help="timed passes (default: 100)")
    compact.add_argument("--out", help="also write the small network's tensors (.safetensors)")
    compact.set_defaults(command=lambda options: commands.compact(options, say, complain))
