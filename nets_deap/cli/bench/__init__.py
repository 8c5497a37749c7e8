"""Benchmarks: what things cost, measured by ``nets-deap bench``."""
