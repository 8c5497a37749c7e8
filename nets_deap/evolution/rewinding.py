"""When lineages start from W0 again."""

from __future__ import annotations

import math

# Generations that lineages need at the least between two rewindings, to be worth more than before.
RECOVERY = 10
# Between two rewindings where nobody has said how long a run is.
UNPLANNED = 30


def rewinds_at(generation: int, times: int, planned: int | None) -> bool:
    """Return whether all tickets of a generation start from W0, whatever they have inherited.

    That is the first generation, and then evenly over the run, but none of its last ones: lineages
    that begin again there would have no time to recover.

    Args:
        generation: Which, from 0.
        times: How often, the first generation included; 0 for never.
        planned: Generations after the first population; None where nobody has said so, and it goes
            on for ever.
    """
    if not times:
        return False
    if planned is None:
        return generation % UNPLANNED == 0
    apart = max(RECOVERY, math.ceil(planned / times))
    due = generation % apart == 0 and generation // apart < times
    return due and (generation == 0 or generation + RECOVERY <= planned)
