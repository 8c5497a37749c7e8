"""``Followed``: a network, the inputs that it was run on, and what it does to channels.

The one place that tells what ``compact`` can follow; ``CompactCost`` counts on the same.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd

from nets_deap import _checks
from nets_deap.errors import NetsError
from nets_deap.inputs.nested import each, leaves_of
from nets_deap.models.compact.chain import Chain, chain_of
from nets_deap.models.compact.example import MINIBATCHES, guesses, rows_like
from nets_deap.models.compact.graph import Graph
from nets_deap.models.compact.program import Program
from nets_deap.models.compact.rules import dropout, fitted, one_by_one, rule_of, same
from nets_deap.models.compact.tracing import Tracing, Unfollowed
from nets_deap.models.modes import neutral
from nets_deap.models.private import copied
from nets_deap.models.tensors import Mask, values_of

# With which a layer may be left without any channel.
_EMPTY = {"linear", "flatten"}


@dataclass(frozen=True, eq=False)
class Followed:
    """A network that has been followed.

    Attributes:
        model: The network, or, of layers in a row, these.
        chain: Those, where it is one.
        tracing: The pass.
        inputs: What it was given.
        output: What it gave.
        names: Names of parameters in ``model``, by those in the network.
        double: Whether it was run in float64; else its own forward does not allow that.
    """

    model: nn.Module
    chain: Chain | None
    tracing: Tracing
    inputs: Any
    output: Any
    names: Mapping[str, str]
    double: bool

    @property
    def n_examples(self) -> int:
        """How many examples it was given."""
        return next(len(leaf) for leaf in leaves_of(self.inputs) if isinstance(leaf, Tensor))

    @property
    def graph(self) -> Graph:
        """What it does to channels."""
        return self.tracing.graph

    def gates(self, masks: Mapping[str, Mask], *, zeros: bool) -> dict[str, Mask]:
        """Return kept weights by their names in ``model``.

        Args:
            masks: Those by their names in the network.
            zeros: Whether weights without a mask that are zero count as pruned; else this is so of
                those alone that are frozen.
        """
        found = {self.names[name]: mask for name, mask in masks.items() if name in self.names}
        named = dict(self.model.named_parameters())
        for layer in self.graph.layers:
            weight = named[layer.weight]
            if layer.weight not in found and (zeros or not weight.requires_grad):
                found[layer.weight] = values_of(layer.weight, weight) != 0
        return found


@neutral()
def followed(network: nn.Module, example: Any = None) -> Followed:
    """Follow what a network does to channels, by one pass on the CPU.

    Args:
        network: In evaluation mode; it stays untouched.
        example: One input (1, ...), or several; None to guess one by the first layer.

    Raises:
        InvalidValueError: It is in training mode where that matters, does not run on the example,
            or what it does depends on numbers.
    """
    check_evaluation(network)
    chain = chain_of(network)
    model = network if chain is None else chain.layers
    own = {id(p): name for name, p in model.named_parameters()}
    names = {name: own[id(p)] for name, p in network.named_parameters() if id(p) in own}
    error: Exception | None = None
    for inputs, lenient in _inputs(model, chain, example):
        for double in (True, False):
            copy = copied(model).cpu().eval()
            copy = copy.double() if double else copy
            dtype = torch.float64 if double else next(copy.parameters(), torch.zeros(1)).dtype
            given = each(inputs, functools.partial(_cast, dtype))
            tracing = Tracing(copy, rule_of, *([fitted] if lenient else []))
            try:
                output = tracing.run(given, free=chain is not None and chain.selects)
            except Unfollowed as why:
                raise refused(str(why)) from why
            except NetsError:
                raise
            except Exception as why:  # its own code may raise anything
                error = error or why
                if "type" not in str(why):  # else it may be one that casts to numbers of its own
                    break
                continue
            tracing.graph.least = any(_needs_channels(tracing, call) for call in tracing.calls)
            return Followed(model, chain, tracing, given, output, names, double)
    what = "its forward runs on no input that is like its first layer's"
    if example is not None:
        what = "its forward does not run on the example"
    hint = "Pass example=, an input (1, ...) that it takes." if example is None else ""
    raise refused(f"{type(network).__name__}, and {what} ({error})", hint) from error


def program_of(found: Followed) -> Program:
    """Return what a network does as calls in a row, by another pass with more examples.

    Raises:
        Unfollowed: It does something else for other numbers of examples.
    """
    more = each(found.inputs, _one_more)
    copy = copied(found.model).cpu().eval()
    copy = copy.double() if found.double else copy
    other = Tracing(copy, rule_of)
    other.run(more)
    n = found.n_examples
    return Program(found.tracing, found.inputs, found.output, other, (n, n + 1))


def _one_more(leaf: Any) -> Any:
    """Return inputs with their first example once more."""
    return torch.cat([leaf, leaf[:1]]) if isinstance(leaf, Tensor) else leaf


def _inputs(model: nn.Module, chain: Chain | None, example: Any) -> Any:
    """Yield inputs to try, and whether features may be fitted to the layers that take them."""
    if example is not None:
        flat = chain is not None and chain.flattens
        for n in MINIBATCHES:
            yield each(rows_like(example, n), lambda leaf: leaf.flatten(1) if flat else leaf), False
        return
    for inputs in guesses(model):
        yield inputs, chain is not None


def _cast(dtype: torch.dtype, leaf: Any) -> Any:
    real = isinstance(leaf, Tensor) and leaf.is_floating_point()
    return leaf.to(dtype) if real else leaf


def _needs_channels(tracing: Tracing, call: Any) -> bool:
    """Return whether a call is known to work without any channel."""
    return call.name not in _EMPTY and rule_of(call.name) not in (dropout, one_by_one, same)


def check_evaluation(network: nn.Module) -> None:
    """Raise where a network is in training mode, and that matters."""
    for name, part in network.named_modules():
        random = isinstance(part, (_NormBase, _DropoutNd)) or "Stochastic" in type(part).__name__
        if random and part.training:
            hint = "Call module.eval() first: in training it differs from one minibatch to another."
            got = f"{name!r}, {part}"
            raise _checks.bad_value("module", "be in evaluation mode", "module.eval()", got, hint)


def refused(got: str, hint: str = "") -> NetsError:
    """Return the error for what cannot be followed."""
    expected = "a forward that runs on an example, whatever its numbers are"
    return _checks.bad_value("module", "be one that can be followed", expected, got, hint)
