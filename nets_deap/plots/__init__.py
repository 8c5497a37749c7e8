"""Figures: each function takes and returns a matplotlib ``Axes``."""

from nets_deap.plots.pareto import final_accuracy, pareto_front

__all__ = ["final_accuracy", "pareto_front"]
