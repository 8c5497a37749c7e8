"""Engines: what trains the masked networks of one call; ``dispatch`` chooses."""
