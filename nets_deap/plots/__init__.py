"""Figures: each function takes and returns a matplotlib ``Axes``."""

from typing import TYPE_CHECKING

# The registry: a line for each kind, in the order in which kinds are listed and reported. What
# each is called on the command line says ``@kind`` where it is defined.
# isort: off
from nets_deap import _checks
from nets_deap.plots.pareto import pareto_front as pareto_front
from nets_deap.plots.fronts import fronts_over_generations as fronts_over_generations
from nets_deap.plots.final import final_accuracy as final_accuracy
from nets_deap.plots.final import final_accuracy_adds as final_accuracy_adds
from nets_deap.plots.comparison import accuracy_over_density as accuracy_over_density
from nets_deap.plots.fronts import attainment as attainment
from nets_deap.plots.hypervolume import hypervolume as hypervolume
from nets_deap.plots.layers import layer_densities as layer_densities
from nets_deap.plots.layers import layer_densities_over_time as layer_densities_over_time
from nets_deap.plots.curves import learning_curves as learning_curves
from nets_deap.plots.genealogy import genealogy as genealogy
from nets_deap.plots.overlap import overlap as overlap
from nets_deap.plots.pictures import kept_inputs as kept_inputs
from nets_deap.plots.pictures import mask_matrix as mask_matrix
from nets_deap.plots.pictures import filters as filters
from nets_deap.plots.wiring import wiring as wiring

# isort: on
from nets_deap.plots.kind import kinds_among
from nets_deap.plots.style import sized as sized

KINDS = kinds_among(globals().values())

# Type checkers read no computed list: to them the imports' "as" says what is exported.
if not TYPE_CHECKING:
    __all__ = ["sized", *(kind.draw.__name__ for kind in KINDS.values())]

if not TYPE_CHECKING:  # to type checkers it would stand for any name
    __getattr__ = _checks.absent_from(globals())
