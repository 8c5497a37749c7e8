"""Give tickets trained weights, as the evaluator does after training."""

from nets_deap.tickets.trained import TrainedState


def learn(ticket, values, *, steps=1, metrics=None, **more):
    """Let a ticket have been trained to these values (kept,); return its trained state."""
    ticket.trained = TrainedState(
        values,
        packed=ticket.packed_mask.copy(),
        steps=steps,
        digest=ticket.digest,
        metrics=metrics or {},
        **more,
    )
    return ticket.trained
