"""The command ``ticket`` of the command line: its arguments, in a file of their own for length."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nets_deap import commands, ticket_commands
from nets_deap.commands import Say


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
    show.set_defaults(command=lambda options: ticket_commands.show(options, say))
    diff = what.add_parser("diff", help="how much of two tickets' masks is the same")
    diff.add_argument("file", metavar="FILE", help="a ticket file (.safetensors)")
    diff.add_argument("other", metavar="OTHER", help="another one over the same layers")
    diff.set_defaults(command=lambda options: ticket_commands.diff(options, say))
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
    apply.set_defaults(command=lambda options: ticket_commands.apply(options, say))
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
    export.set_defaults(command=lambda options: ticket_commands.export(options, say, complain))
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
    cut = what.add_parser(
        "cut",
        help="the smaller dense network: parameters, bytes, multiply-adds, latency",
        description="Train a ticket from W0, cut out what it prunes, and print what the smaller "
        "dense network costs beside the whole one, measured here.",
    )
    cut.add_argument("file", metavar="FILE", help="a ticket file (.safetensors)")
    add_experiment(cut, named=False)
    cut.add_argument("--steps", type=int, help="of training (default: the preset's final.steps)")
    cut.add_argument("--repeats", type=int, default=100, help="timed passes (default: 100)")
    cut.add_argument("--out", help="also write the small network's tensors (.safetensors)")
    cut.set_defaults(command=lambda options: commands.cut(options, say, complain))
