"""Operators on tickets, in DEAP's contract: in place, returning a tuple, fitness untouched.

Every operator takes ``rng=None``: a NumPy generator, or None for one seeded from Python's
``random``, so that ``random.seed`` makes a whole DEAP run repeatable.
"""

from nets_deap.operators.crossover import (
    cx_average,
    cx_interpolate,
    cx_layers,
    cx_neurons,
    cx_uniform,
)
from nets_deap.operators.init import init_density, init_log_spaced, layer_counts, random_mask
from nets_deap.operators.mutation import (
    mut_flip,
    mut_layer,
    mut_one_of,
    mut_prune,
    mut_regrow,
    mut_swap,
)
from nets_deap.operators.repair import keep_density
from nets_deap.operators.selection import sel_nsga2
from nets_deap.operators.structured import cx_structure, mut_columns, mut_inputs, mut_neurons

CROSSOVERS = (cx_uniform, cx_layers, cx_neurons, cx_interpolate, cx_average)
MUTATIONS = (mut_flip, mut_prune, mut_regrow, mut_swap, mut_layer)
# These see whole neurons and inputs, so they take chains of fully connected layers only.
STRUCTURED = (cx_structure, mut_columns, mut_inputs, mut_neurons)

__all__ = [
    "CROSSOVERS",
    "MUTATIONS",
    "STRUCTURED",
    "cx_average",
    "cx_interpolate",
    "cx_layers",
    "cx_neurons",
    "cx_structure",
    "cx_uniform",
    "init_density",
    "init_log_spaced",
    "keep_density",
    "layer_counts",
    "mut_columns",
    "mut_flip",
    "mut_inputs",
    "mut_layer",
    "mut_neurons",
    "mut_one_of",
    "mut_prune",
    "mut_regrow",
    "mut_swap",
    "random_mask",
    "sel_nsga2",
]
