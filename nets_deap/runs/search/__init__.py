"""``search``: the whole of a run in one call, also on islands."""
