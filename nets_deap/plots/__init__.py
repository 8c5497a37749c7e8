"""Figures: each function takes and returns a matplotlib ``Axes``."""

from nets_deap.plots.comparison import accuracy_over_density
from nets_deap.plots.curves import learning_curves
from nets_deap.plots.fronts import attainment, fronts_over_generations
from nets_deap.plots.genealogy import genealogy
from nets_deap.plots.hypervolume import hypervolume
from nets_deap.plots.layers import layer_densities, layer_densities_over_time
from nets_deap.plots.overlap import overlap
from nets_deap.plots.pareto import final_accuracy, pareto_front
from nets_deap.plots.pictures import filters, kept_inputs, mask_matrix
from nets_deap.plots.style import sized
from nets_deap.plots.wiring import wiring

__all__ = [
    "accuracy_over_density",
    "attainment",
    "filters",
    "final_accuracy",
    "fronts_over_generations",
    "genealogy",
    "hypervolume",
    "kept_inputs",
    "layer_densities",
    "layer_densities_over_time",
    "learning_curves",
    "mask_matrix",
    "overlap",
    "pareto_front",
    "sized",
    "wiring",
]
