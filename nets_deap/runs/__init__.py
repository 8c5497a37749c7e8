"""Runs: the folder a search leaves behind, and the recorder that writes it."""
