"""Training: the recipe, the population trainer and the slow reference it must agree with."""
