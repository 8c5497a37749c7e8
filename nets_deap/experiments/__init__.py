"""Experiments: configurations, presets, the search in one call, and the final training."""
