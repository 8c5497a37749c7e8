"""Checkpoints: a whole run at a moment, saved and restored."""
