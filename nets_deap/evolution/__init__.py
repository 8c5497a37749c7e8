"""What is registered in a DEAP toolbox: operators, objectives, the evaluator, archives."""
