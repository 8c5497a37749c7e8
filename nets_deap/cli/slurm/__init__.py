"""Jobs for SLURM: scripts that runs survive in."""

from nets_deap.cli.slurm.jobs import KINDS, job

__all__ = ["KINDS", "job"]
