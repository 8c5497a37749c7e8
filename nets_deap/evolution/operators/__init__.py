"""Operators on tickets, in DEAP's contract: in place, returning a tuple, fitness untouched.

Every operator takes ``rng=None``: a NumPy generator, or None for one seeded from Python's
``random``, so that ``random.seed`` makes a whole DEAP run repeatable.

In a structured ticket bits gate units. What these operators prune, regrow, swap and bound is then
whole units, but shares and densities are still those of weights: units are taken until their
weights come nearest to the number asked for. A unit is worth the root mean square of its weights'
saliencies. Operators that see columns (``STRUCTURED``) and those on genomes take single weights.
"""

from nets_deap.evolution.operators.crossover import (
    cx_average,
    cx_interpolate,
    cx_layers,
    cx_neurons,
    cx_uniform,
)
from nets_deap.evolution.operators.genome import cx_genes, init_genomes, mut_noise, mut_resample
from nets_deap.evolution.operators.init import init_density, init_log_spaced
from nets_deap.evolution.operators.mutation import (
    mut_flip,
    mut_layer,
    mut_one_of,
    mut_prune,
    mut_regrow,
    mut_swap,
)
from nets_deap.evolution.operators.neurons import cx_structure, mut_columns, mut_inputs, mut_neurons
from nets_deap.evolution.operators.repair import keep_density
from nets_deap.evolution.operators.selection import elitist, sel_niched, sel_nsga2, sel_roulette_low
from nets_deap.evolution.operators.shrink import cx_then_mutate, mut_shrink
from nets_deap.tickets.random import layer_counts, random_mask

#: Those that take any ticket.
CROSSOVERS = (cx_uniform, cx_layers, cx_neurons, cx_interpolate, cx_average)
#: Those that take any ticket.
MUTATIONS = (mut_flip, mut_prune, mut_regrow, mut_swap, mut_layer)
#: These see whole neurons and inputs, so they take feedforward layouts only.
STRUCTURED = (cx_structure, mut_columns, mut_inputs, mut_neurons, mut_shrink)
#: These see weights that evolve with the mask, so they take genomes only.
GENOME = (cx_genes, mut_noise, mut_resample)

__all__ = [
    "CROSSOVERS",
    "GENOME",
    "MUTATIONS",
    "STRUCTURED",
    "cx_average",
    "cx_genes",
    "cx_interpolate",
    "cx_layers",
    "cx_neurons",
    "cx_structure",
    "cx_then_mutate",
    "cx_uniform",
    "elitist",
    "init_density",
    "init_genomes",
    "init_log_spaced",
    "keep_density",
    "layer_counts",
    "mut_columns",
    "mut_flip",
    "mut_inputs",
    "mut_layer",
    "mut_neurons",
    "mut_noise",
    "mut_one_of",
    "mut_prune",
    "mut_regrow",
    "mut_shrink",
    "mut_resample",
    "mut_swap",
    "random_mask",
    "sel_niched",
    "sel_nsga2",
    "sel_roulette_low",
]
