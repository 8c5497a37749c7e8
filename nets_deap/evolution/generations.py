"""``Generations``: which generation of a run the tickets belong to that are evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from nets_deap.tickets.ticket import Ticket


class Generations:
    """Counts the generations of a run.

    Args:
        now: The generation that the next evaluation belongs to.
        after: Of a run that a new population begins: how far the run before had come.

    Attributes:
        now: As above.
        begun: Whether tickets of it have been evaluated, and more may come.
        sent: Whether a copy has gone somewhere, perhaps to evaluate tickets of it.
    """

    def __init__(self, now: int = 0, *, after: int = 0) -> None:
        self.now, self.begun, self.sent = now, False, False
        self._descent: dict[str, int] = {}  # of tickets evaluated alone in it, by digest
        self._drawn = False  # a population that nobody has evaluated yet
        self._after = after
        self._founders: set[str] | None = set() if after else None  # digests, of generation 0

    def end(self) -> None:
        """Go on to the next generation if this one has begun."""
        if self.sent:  # whom copies evaluate is not known here
            self.forget_population()
        if self.begun or self.sent:
            self.close(self.now)

    def close(self, generation: int) -> None:
        """Go on to the next generation, unless that one is over already."""
        if self.now == generation:
            self.now, self.begun, self.sent = generation + 1, False, False
            self._descent.clear()

    def is_overdue(self, ticket: Ticket) -> bool:
        """Take note of a ticket that is evaluated alone; return if its parents' parents were, too.

        All within this generation: then generations pass that nobody has told of.
        """
        state, own = ticket.inherited, ticket.digest
        sources = () if state is None else [s for s in state.sources if s != own]
        descent = max((self._descent.get(source, -1) + 1 for source in sources), default=0)
        self._descent[own] = max(descent, self._descent.get(own, 0))
        return descent > 1

    def note_population(self) -> None:
        """Take note that a population has been drawn; evaluated by itself it begins a new run."""
        self._drawn = True

    def forget_population(self) -> None:
        """Let the population that has been drawn begin no run."""
        self._drawn = False

    @contextmanager
    def same_run(self) -> Iterator[None]:
        """Let populations that are drawn meanwhile begin no run."""
        drawn = self._drawn
        try:
            yield
        finally:
            self._drawn = drawn

    def begins_run(self, tickets: Sequence[Ticket]) -> bool:
        """Return whether a new run begins with tickets that are evaluated next."""
        drawn, self._drawn = self._drawn, self._drawn and not tickets
        return bool(drawn and tickets and self.now and not any(map(_has_history, tickets)))

    def open(self, tickets: Sequence[Ticket]) -> None:
        """Take note of which tickets are evaluated next.

        The generation after a first one tells: children of others than of its tickets mean that
        the new population has joined the run before. That goes on then, as it would else see its
        first minibatches again and again.
        """
        if self._founders is None or not tickets:
            return
        if not self.now:
            self._founders.update(ticket.digest for ticket in tickets)
            return
        states = [ticket.inherited for ticket in tickets]
        if any(s is not None and not self._founders.issuperset(s.sources) for s in states):
            self.now += self._after
        self._founders = None


def _has_history(ticket: Ticket) -> bool:
    """Return whether a ticket or its ancestors have been evaluated before."""
    others = ticket.inherited is not None and ticket.trained is None  # of ancestors
    return bool(ticket.evaluations or ticket.diverged or others)
