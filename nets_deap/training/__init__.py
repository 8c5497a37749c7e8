"""Training: the recipe, the engines that train populations, and the slow reference they agree with.

An engine trains the networks of some masks by a plan; all engines give the same results to float
rounding.
"""
