"""Give tickets trained weights, as the evaluator does after training."""

from nets_deap.tickets.trained import TrainedState


def set_trained(ticket, values, *, steps=1, metrics=None, **more):
    """Set a ticket's trained values (kept,), as if it had been trained; return its state."""
    ticket.trained = TrainedState(
        values,
        packed=ticket.packed_mask.copy(),
        steps=steps,
        digest=ticket.digest,
        metrics=metrics or {},
        **more,
    )
    return ticket.trained
