"""Tickets: masks over initial weights, as DEAP individuals, in files and on models."""
