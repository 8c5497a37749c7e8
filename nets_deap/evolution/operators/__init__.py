"""Operators on tickets, in DEAP's contract: in place, returning a tuple, fitness untouched.

Every operator takes ``rng=None``: a NumPy generator, or None for one seeded from Python's
``random``, so that ``random.seed`` makes a whole DEAP run repeatable.

In a structured ticket bits gate units. What these operators prune, regrow, swap and bound is then
whole units, but shares and densities are still those of weights: units are taken until their
weights come nearest to the number asked for. A unit is worth the root mean square of its weights'
saliencies. Operators that see columns (``NEURONS``) and those on genomes take single weights.

To add an operator: write it in a file here, import it below, and give it a line in ``OPERATORS``.
The tuples of operators, the names that this package exports, its page in the documentation and the
tests of the contract follow from that line.
"""

from typing import TYPE_CHECKING, Any

from nets_deap.evolution.operators.crossover import cx_average as cx_average
from nets_deap.evolution.operators.crossover import cx_interpolate as cx_interpolate
from nets_deap.evolution.operators.crossover import cx_layers as cx_layers
from nets_deap.evolution.operators.crossover import cx_neurons as cx_neurons
from nets_deap.evolution.operators.crossover import cx_uniform as cx_uniform
from nets_deap.evolution.operators.genome import cx_genes as cx_genes
from nets_deap.evolution.operators.genome import init_genomes as init_genomes
from nets_deap.evolution.operators.genome import mut_noise as mut_noise
from nets_deap.evolution.operators.genome import mut_resample as mut_resample
from nets_deap.evolution.operators.init import init_density as init_density
from nets_deap.evolution.operators.init import init_from as init_from
from nets_deap.evolution.operators.init import init_log_spaced as init_log_spaced
from nets_deap.evolution.operators.mutation import mut_flip as mut_flip
from nets_deap.evolution.operators.mutation import mut_layer as mut_layer
from nets_deap.evolution.operators.mutation import mut_one_of as mut_one_of
from nets_deap.evolution.operators.mutation import mut_prune as mut_prune
from nets_deap.evolution.operators.mutation import mut_regrow as mut_regrow
from nets_deap.evolution.operators.mutation import mut_swap as mut_swap
from nets_deap.evolution.operators.neurons import cx_structure as cx_structure
from nets_deap.evolution.operators.neurons import mut_columns as mut_columns
from nets_deap.evolution.operators.neurons import mut_inputs as mut_inputs
from nets_deap.evolution.operators.neurons import mut_neurons as mut_neurons
from nets_deap.evolution.operators.niches import cx_near as cx_near
from nets_deap.evolution.operators.niches import mut_migrate as mut_migrate
from nets_deap.evolution.operators.niches import sel_lineages as sel_lineages
from nets_deap.evolution.operators.record import Operator as Operator
from nets_deap.evolution.operators.repair import keep_density as keep_density
from nets_deap.evolution.operators.selection import elitist as elitist
from nets_deap.evolution.operators.selection import sel_niched as sel_niched
from nets_deap.evolution.operators.selection import sel_nsga2 as sel_nsga2
from nets_deap.evolution.operators.selection import sel_roulette_low as sel_roulette_low
from nets_deap.evolution.operators.shrink import cx_then_mutate as cx_then_mutate
from nets_deap.evolution.operators.shrink import mut_shrink as mut_shrink
from nets_deap.tickets.random import layer_counts as layer_counts
from nets_deap.tickets.random import random_mask as random_mask

_NO, _ALL = {"fraction": 0.0}, {"fraction": 1.0}
_NEVER, _OFTEN, _ALWAYS = {"indpb": 0.0}, {"indpb": 0.9}, {"indpb": 1.0}
_HALF = {"indpb": 0.5}
# Of a few neurons, a share that takes some of them.
_SOME: dict[str, Any] = {"fraction": (0.2, 0.8)}

#: All operators by name.
OPERATORS = {
    operator.name: operator
    for operator in (
        Operator(init_density, "init"),
        Operator(init_log_spaced, "init"),
        Operator(init_from, "init"),
        Operator(init_genomes, "init", "genome"),
        Operator(cx_uniform, "crossover", harsh=_OFTEN, neutral=_NEVER),
        Operator(cx_layers, "crossover", harsh=_OFTEN, neutral=_NEVER),
        Operator(cx_neurons, "crossover", harsh=_OFTEN, neutral=_NEVER),
        Operator(cx_interpolate, "crossover", neutral={}, between=True),
        Operator(
            cx_average, "crossover", usual={"noise": 0.3}, harsh=_ALL, neutral={}, between=True
        ),
        Operator(mut_flip, "mutation", usual=_HALF, harsh=_ALWAYS, neutral=_NEVER),
        Operator(mut_prune, "mutation", harsh=_ALL, neutral=_NO),
        Operator(mut_regrow, "mutation", harsh=_ALL, neutral=_NO),
        Operator(mut_swap, "mutation", harsh=_ALL, neutral={"fraction": (0, 0)}),
        Operator(mut_layer, "mutation", harsh={"sigma": 1e6}, neutral={"sigma": 1e-12}),
        Operator(cx_structure, "crossover", "neurons", harsh=_OFTEN, neutral=_NEVER),
        Operator(mut_columns, "mutation", "neurons", harsh=_ALL, neutral=_NO),
        Operator(mut_inputs, "mutation", "neurons", usual=_SOME, harsh=_ALL, neutral=_NO),
        Operator(mut_neurons, "mutation", "neurons", usual=_SOME, harsh=_ALL, neutral=_NO),
        Operator(
            mut_shrink, "mutation", "neurons", usual=_SOME, harsh=_ALL, neutral={**_NO, "thin": 1.0}
        ),
        Operator(cx_genes, "crossover", "genome", harsh=_OFTEN, neutral=_NEVER),
        Operator(
            mut_noise,
            "mutation",
            "genome",
            usual={**_HALF, "sigma": 0.5},
            harsh={**_ALWAYS, "sigma": 1e6},
            neutral={**_ALWAYS, "sigma": 0.0},
        ),
        Operator(mut_resample, "mutation", "genome", usual=_HALF, harsh=_ALWAYS, neutral=_NEVER),
        Operator(cx_then_mutate, "combination", neutral={}),
        Operator(mut_one_of, "combination", neutral={}),
        Operator(cx_near, "combination", neutral={}),
        Operator(mut_migrate, "combination", neutral={}),
        Operator(keep_density, "repair"),
        Operator(sel_nsga2, "selection"),
        Operator(sel_niched, "selection"),
        Operator(sel_lineages, "selection"),
        Operator(sel_roulette_low, "selection"),
        Operator(elitist, "selection"),
    )
}


def _functions(kinds: tuple[str, ...], needs: str) -> tuple[Any, ...]:
    """Return the operators of some kinds that need the same."""
    found = [o for o in OPERATORS.values() if o.kind in kinds and o.needs == needs]
    return tuple(operator.function for operator in found)


#: Those that take any ticket.
CROSSOVERS = _functions(("crossover",), "any")
#: Those that take any ticket.
MUTATIONS = _functions(("mutation",), "any")
#: These see whole neurons and inputs, so they take feedforward layouts only.
NEURONS = _functions(("crossover", "mutation"), "neurons")
#: These see weights that evolve with the mask, so they take genomes only.
GENOME = _functions(("crossover", "mutation"), "genome")

# Type checkers read no computed list: to them the imports' "as" says what is exported.
if not TYPE_CHECKING:
    __all__ = [
        *("CROSSOVERS", "GENOME", "MUTATIONS", "OPERATORS", "NEURONS", "Operator"),
        *sorted(OPERATORS),
        *("layer_counts", "random_mask"),
    ]
