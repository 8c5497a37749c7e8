"""Executors: who trains in the place of this process, on devices or Ray's workers."""
