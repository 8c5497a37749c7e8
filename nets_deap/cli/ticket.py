"""The commands ``ticket show``, ``diff``, ``apply``, ``export``, ``check`` and ``compact``.

One file: all six begin with a ticket's file, from which preset and W0 are found.
"""

from __future__ import annotations

import functools
import json
import sys
import textwrap
from argparse import Namespace
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nets_deap import _checks
from nets_deap._table import table
from nets_deap.cli.named import ticket_file
from nets_deap.cli.options import AS_FOUND, add_preset, configured_as_found

if TYPE_CHECKING:
    from torch import Tensor

    from nets_deap.experiments.compacting import CompactReport
    from nets_deap.experiments.config import Config
    from nets_deap.tickets.ticket import Ticket
    from nets_deap.training.task import Task

TOGETHER = "\N{NO-BREAK SPACE}"


def add(parsers: Any) -> None:
    """Add the command, with commands of its own, to the command line."""
    ticket = parsers.add_parser("ticket", help="look at ticket files, apply and export them")
    what = ticket.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add_one in (_add_show, _add_diff, _add_apply, _add_export, _add_check, _add_compact):
        add_one(what)


def _add(
    what: Any,
    command: Callable[[Namespace], int],
    about: str,
    more: str = "",
    *,
    many: bool = False,
) -> Any:
    """Add one command on a ticket file, or on several, of the name of its function."""
    added = what.add_parser(command.__name__, help=about, description=more or None)
    added.set_defaults(command=functools.partial(_with_files, command))
    text = "a ticket file (.safetensors), or its id as tables print it"
    added.add_argument("file", metavar="FILE", nargs="+" if many else None, help=text)
    return added


def _with_files(command: Callable[[Namespace], int], options: Namespace) -> int:
    """Carry out a command with files in the place of ids."""
    if isinstance(options.file, list):
        options.file = [str(ticket_file("FILE", one)) for one in options.file]
    else:
        options.file = str(ticket_file("FILE", options.file))
    if "other" in options:
        options.other = str(ticket_file("OTHER", options.other))
    return command(options)


def _add_show(what: Any) -> None:
    """Add ``ticket show``."""
    _add(what, show, "what a file holds, and its layers")


def show(options: Namespace) -> int:
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
        "file": f"{_checks.path('FILE', options.file).stat().st_size:,} bytes",
        "initial weights": f"SHA-256 {layout.initial_digest[:16]}..., "
        + ("at hand" if layout.initial is not None else "not in the file"),
    }
    if ticket.fitness is not None and ticket.fitness.valid:
        values = named_values(ticket).items()
        facts |= {name: f"{value:.6g}" for name, value in values if name not in facts}
    facts |= ticket.origin
    known = {name: value for name, value in facts.items() if value not in (None, [], {})}
    cells = [
        (name if not i else "", line)
        for name, value in known.items()
        for i, line in enumerate(_lines(_in_words(value)))
    ]
    print(f"{_table_of(cells, left=(0, 1))}\n")
    rows = [["layer", "shape", "kept", "weights", "density"]]
    for layer, kept in zip(layout.layers, layout.counts(ticket.packed_mask), strict=True):
        shape, share = "x".join(map(str, layer.shape)), f"{100 * kept / layer.size:.3f} %"
        rows.append([layer.name, shape, f"{kept:,}", f"{layer.size:,}", share])
    print(_table_of(rows))
    return 0


def _lines(text: str) -> list[str]:
    """Return a text in lines that leave room for a name in a terminal of 80 columns."""
    lines = textwrap.wrap(text, 62, break_long_words=False)
    return [line.replace(TOGETHER, " ") for line in lines] or [""]


def _in_words(value: Any) -> str:
    """Return what a file holds as text, without what is not set."""
    if isinstance(value, dict):
        set_ = {name: own for name, own in value.items() if own is not None}
        return ", ".join(f"{name}{TOGETHER}{_in_words(own)}" for name, own in set_.items())
    if isinstance(value, list) and all(isinstance(own, str) for own in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value)


def _add_diff(what: Any) -> None:
    """Add ``ticket diff``."""
    command = _add(what, diff, "how much of two tickets' masks is the same")
    command.add_argument("other", metavar="OTHER", help="another one over the same layers")


def diff(options: Namespace) -> int:
    """Print how much of two masks is the same, layer by layer."""
    from nets_deap.tickets.ticket import Ticket

    one, other = Ticket.load(options.file), Ticket.load(options.other)
    layouts = [ticket.layout.weights for ticket in (one, other)]
    if [(la.name, la.shape) for la in layouts[0].layers] != [
        (la.name, la.shape) for la in layouts[1].layers
    ]:
        mine, its = (", ".join(layout.names) for layout in layouts)
        raise _checks.bad_value("OTHER", "be a ticket over the same layers", mine, its)
    same = layouts[0].initial_digest == layouts[1].initial_digest
    print(f"initial weights: {'the same' if same else 'not the same'}")
    print(
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
    print(_table_of(rows))
    return 0


def _add_apply(what: Any) -> None:
    """Add ``ticket apply``."""
    command = _add(
        what,
        apply,
        "write W0 times the mask as a state dict",
        "Write the state dict of the run's or a preset's model, or that of --weights, with the "
        "maskable weights as W0 times the mask; refuse what does not hold the ticket's W0, unless "
        "--values says what is meant.",
    )
    add_preset(command, named=False, default=AS_FOUND)
    _add_weights(command)
    command.add_argument(
        "--out", required=True, help="the file to write: .safetensors (also without a suffix), .pt"
    )


def apply(options: Namespace) -> int:
    """Write W0 times the mask as a state dict."""
    from nets_deap.experiments import compacting
    from nets_deap.tickets import apply as applied
    from nets_deap.tickets.ticket import Ticket

    ticket = Ticket.load(options.file)
    out = compacting.check_suffix(options.out, compacting.TENSORS)
    tensors = _tensors(options, ticket)
    applied.masked(ticket.layout.weights, ticket.masks(), tensors, options.values)
    compacting.write_tensors(tensors, out, repr(ticket))
    print(f"{ticket}\nwritten: {out}")
    return 0


def _add_export(what: Any) -> None:
    """Add ``ticket export``."""
    command = _add(
        what,
        export,
        "write it for other tools: onnx, csr, masks, prune",
        "masks: bool arrays by parameter name (.npz, .safetensors, .pt). prune: a state dict as "
        "torch.nn.utils.prune names it (.safetensors, .pt). onnx, csr: the network trained from "
        "W0, with what it costs, measured here (.onnx; .safetensors, .pt). The suffix of --out "
        "says which; without one it is the first.",
    )
    command.add_argument("--to", required=True, choices=["onnx", "csr", "masks", "prune"])
    add_preset(command, named=False, default=AS_FOUND)
    _add_weights(command, "prune: ")
    command.add_argument("--steps", type=int, help="of training (default: final.steps)")
    command.add_argument("--repeats", type=int, default=100, help="timed passes (default: 100)")
    command.add_argument("--out", required=True, help="the file to write")


def export(options: Namespace) -> int:
    """Write a ticket for other tools."""
    from nets_deap.tickets.ticket import Ticket

    ticket = Ticket.load(options.file)
    write = {
        "masks": _export_masks,
        "prune": _export_pruned,
        "onnx": _export_onnx,
        "csr": _export_csr,
    }
    print(f"written: {write[options.to](options, ticket)}")
    return 0


def _export_masks(options: Namespace, ticket: Ticket) -> Path:
    """Write masks by name; return the file."""
    from nets_deap.experiments import compacting

    out = compacting.check_suffix(options.out, compacting.MASKS)
    compacting.write_tensors(ticket.masks(), out, repr(ticket), compacting.MASKS)
    return out


def _export_pruned(options: Namespace, ticket: Ticket) -> Path:
    """Write weights and masks as ``torch.nn.utils.prune`` names them; return the file."""
    from nets_deap.experiments import compacting
    from nets_deap.tickets import apply as applied

    out = compacting.check_suffix(options.out, compacting.TENSORS)
    given = _tensors(options, ticket)
    tensors = applied.as_pruned(ticket.layout.weights, ticket.masks(), given, options.values)
    compacting.write_tensors(tensors, out, repr(ticket))
    return out


def _export_onnx(options: Namespace, ticket: Ticket) -> Path:
    """Train a ticket, write its compact network as ONNX; return the file."""
    from nets_deap.experiments.compacting import check_suffix
    from nets_deap.models.compact import onnx

    out = check_suffix(options.out, (".onnx",))
    onnx.runtime_of("ONNX export")  # before anything is trained
    report = _compacted(options, ticket, needed=False)
    if "compact" not in report.footprints:
        print("It cannot be compacted: the whole network is written, with its zeros.")
    difference = onnx.write_onnx(report.module, out, report.inputs)
    print(f"onnxruntime's outputs differ from torch's by at most {difference:.1e}.")
    return out


def _export_csr(options: Namespace, ticket: Ticket) -> Path:
    """Train a ticket, write its network on sparse rows; return the file."""
    from nets_deap.experiments import compacting

    out = compacting.check_suffix(options.out, compacting.TENSORS)
    small = ticket.to_csr(_compacted(options, ticket, needed=False).trained.module())
    compacting.write_tensors(small.state_dict(), out, str(small))
    return out


def _add_check(what: Any) -> None:
    """Add ``ticket check``."""
    command = _add(
        what,
        check,
        "is it a winning ticket? shuffled, re-initialised, inverted, dense",
        "Train each ticket beside its mask shuffled within layers, its mask over other initial "
        "weights, an inverted mask and the dense network, and judge whether it wins.",
        many=True,
    )
    add_preset(command, named=False, default=AS_FOUND)
    command.add_argument(
        "--steps", type=int, help="steps of each (default: the preset's final.steps)"
    )
    command.add_argument("--seeds", type=int, default=5, help="replicates (default: 5)")
    command.add_argument("--tolerance", type=float, default=0.1, help="in pp (default: 0.1)")
    command.add_argument("--margin", type=float, default=0.5, help="in pp (default: 0.5)")
    command.add_argument(
        "--json", help="also write the report to this file; of several tickets a report by file"
    )


def check(options: Namespace) -> int:
    """Check tickets and print the reports."""
    from nets_deap import _atomic
    from nets_deap.experiments import sanity
    from nets_deap.runs.storage.folder import RunFolder
    from nets_deap.tickets.ticket import Ticket

    tickets = {file: Ticket.load(file) for file in options.file}
    target = options.json and _atomic.place("--json", options.json)
    reports = {}
    for file, ticket in tickets.items():
        config, task = _task(Namespace(**{**vars(options), "file": file}), ticket)
        reports[file] = report = sanity.check(
            ticket,
            task,
            steps=config.final.steps if options.steps is None else options.steps,
            seeds=options.seeds,
            tolerance=options.tolerance / 100,
            margin=options.margin / 100,
        )
        print(report.table() if len(tickets) == 1 else f"{file}\n{report.table()}\n", flush=True)
    if len(tickets) > 1:
        won = sum(report.winning for report in reports.values())
        print(f"{won} of {len(tickets)} are winning tickets")
    if target:
        plain = {file: report.as_dict() for file, report in reports.items()}
        content = plain if len(tickets) > 1 else next(iter(plain.values()))
        RunFolder.existing(target.parent).write_json(target.name, content)
    return 0


def _add_compact(what: Any) -> None:
    """Add ``ticket compact``."""
    command = _add(
        what,
        compact,
        "the smaller dense network: parameters, bytes, multiply-adds, latency",
        "Train a ticket from W0, compact its network, and print what the smaller dense network "
        "costs beside the whole one, measured here.",
    )
    add_preset(command, named=False, default=AS_FOUND)
    command.add_argument(
        "--steps", type=int, help="of training (default: the preset's final.steps)"
    )
    command.add_argument("--repeats", type=int, default=100, help="timed passes (default: 100)")
    command.add_argument(
        "--out",
        help="also write the small network's tensors: .safetensors (also without a suffix), .pt",
    )


def compact(options: Namespace) -> int:
    """Train a ticket, compact it and print what that saves."""
    from nets_deap.experiments import compacting
    from nets_deap.tickets.ticket import Ticket

    ticket = Ticket.load(options.file)
    out = options.out and compacting.check_suffix(options.out, compacting.TENSORS)
    _compacted(options, ticket, out or None)
    if out:
        print(f"written: {out}")
    return 0


def _compacted(
    options: Namespace, ticket: Ticket, path: Path | None = None, *, needed: bool = True
) -> CompactReport:
    """Train and compact a ticket, print what that saves, and return it."""
    from nets_deap.experiments import compacting

    config, task = _task(options, ticket)
    steps = config.final.steps if options.steps is None else options.steps
    text = f"trains the ticket from W0 for {steps} steps first (--steps N sets how many)"
    print(f"nets-deap: {text}", file=sys.stderr, flush=True)
    report = compacting.compact(
        task, ticket, steps=steps, repeats=options.repeats, path=path, needed=needed
    )
    print(report.table())
    return report


def _task(options: Namespace, ticket: Ticket, *, any_initial: bool = False) -> tuple[Config, Task]:
    """Return the configuration for a ticket's file, and the task that it was found on.

    Args:
        options: Of the command line.
        ticket: What the file holds.
        any_initial: See ``experiments.compacting.task_for``.

    Raises:
        InvalidValueError: The task has another network or W0 than the ticket; or other data or
            another recipe, and nobody has named them.
    """
    config = configured_as_found(options, ticket)
    from nets_deap.experiments import compacting

    task = compacting.task_for(config, ticket, any_initial=any_initial)
    different = "; ".join(compacting.differences(task, ticket))
    named = any(item.strip().startswith(("task.", "recipe.")) for item in options.set)
    if different and options.preset is None and not named:
        raise _checks.bad_value(
            "ticket",
            "belong to this task",
            "the data and the recipe that it was found with",
            different,
            "Name them: --preset, --set task.dataset=..., --set recipe.lr=...; or give the file "
            "in its run folder.",
        )
    if different:
        text = f"warning: the ticket was found on another task: {different}"
        print(f"nets-deap: {text}", file=sys.stderr, flush=True)
    return config, task


def _add_weights(command: Any, only: str = "") -> None:
    """Add where the weights are that a mask is put on, and which are meant."""
    about = "a state dict of the model (.safetensors); default: the model at W0"
    command.add_argument("--weights", metavar="FILE", help=f"{only}{about}")
    command.add_argument(
        "--values",
        choices=["own", "initial"],
        help=f"{only}mask the weights that --weights holds, or W0 in their place; must be said "
        "where they are not W0",
    )


def _tensors(options: Namespace, ticket: Ticket) -> dict[str, Tensor]:
    """Return the state dict of ``--weights``, or of the run's or preset's model at W0."""
    if options.weights:
        from nets_deap.experiments.compacting import read_tensors

        return read_tensors(options.weights)
    # Its own weights may be masked whatever they are, and a ticket that brings its W0 may put it
    # over any other, if that is said.
    brings = ticket.layout.weights.initial is not None
    said = options.values == "own" or (options.values == "initial" and brings)
    return dict(_task(options, ticket, any_initial=said)[1].model.state_dict())


def _printable(text: str) -> str:
    """Return text of a file without what would steer a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _overlap(name: str, mine: int, its: int, both: int) -> list[str]:
    """Return a row of ``diff``; the Jaccard index of two empty masks is 1."""
    union = mine + its - both
    return [name, f"{mine:,}", f"{its:,}", f"{both:,}", f"{both / union if union else 1:.4f}"]


def _table_of(rows: Sequence[Sequence[str]], *, left: Collection[int] = (0,)) -> str:
    """Return the texts of a file in columns."""
    return table([[_printable(cell) for cell in row] for row in rows], left=left)
