"""Give tickets something learnt, as the evaluator does after training."""

from nets_deap.tickets.trained import Learnt


def learn(ticket, values, *, steps=1, metrics=None, **more):
    """Let a ticket have learnt these values (kept,); return what it learnt."""
    ticket.learnt = Learnt(
        ticket.digest, steps, values, metrics or {}, ticket.packed_mask.copy(), **more
    )
    return ticket.learnt
