"""A masked network made smaller: the dense network that is left of it, and what it costs."""
