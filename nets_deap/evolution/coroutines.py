"""``Calls``: calls of a function that can stop where they ask for something, and go on later.

One file: what threads may do at the same time can only be seen where all of it is in sight.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import queue
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nets_deap.evolution.surroundings import (
    modes_of_torch,
    process_settings,
    set_process_settings,
)

logger = logging.getLogger("nets_deap")

# Seconds at one place of the program after which a call may be waiting for one that has stopped.
PATIENCE = 5.0
# How often an abandoned call may go on asking before its thread is left where it is.
ASKED_IN_VAIN = 100


class Abandoned(BaseException):
    """Unwinds a call that has stopped, where no answer will come because another one failed.

    A function that swallows it does no harm: whatever its call then returns is dropped.
    """


def _shut() -> threading.Lock:
    """Return a lock that is held: who acquires it waits until it is released."""
    lock = threading.Lock()
    lock.acquire()
    return lock


@dataclass(eq=False)
class _Runner:
    """A thread that runs calls.

    Attributes:
        turn: Released to let it go on.
        index: Of the call that it runs.
        ident: Of the thread.
        in_vain: How often it has asked although it is abandoned.
    """

    turn: threading.Lock = field(default_factory=_shut)
    index: int = -1
    ident: int = 0
    in_vain: int = 0


@dataclass(eq=False)
class _Question:
    """What a call has asked, and the answer."""

    runner: _Runner
    index: int
    question: Any
    answer: Any = None


class Calls:
    """Runs a function on each of many arguments; all calls that ask are answered together.

    Each call runs once, up to where it calls ``ask``; once all have come as far, or to their end,
    all questions are answered, and the calls go on in their order. Only one runs at a time. The
    first one that asks waits within the caller's thread, which begins the others meanwhile, each in
    a thread of its own, as Python keeps no other stacks; calls that never ask need none. Threads
    have the caller's context variables and torch's modes.

    A function that cannot be in several calls at once, as it holds a lock while it asks, or in
    another thread than the caller's, as one that sets signals or uses a data base, is noticed. It
    then runs one call at a time in the caller's thread; a call that has failed begins again, and
    gets the answers that it had. The next ``Calls`` of the function begin with that.

    Args:
        function: What to call.
        calls: Its arguments, for each call.
        answer: Gets the questions, in the order of the calls, and returns as many answers; called
            in the caller's thread.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        calls: Sequence[tuple[Any, ...]],
        answer: Callable[[list[Any]], list[Any]],
    ) -> None:
        self._function, self._calls, self._answer = function, calls, answer
        self._results: list[Any] = [None] * len(calls)
        self._next = 0
        self._main = _Runner(ident=threading.get_ident())
        self._runners = {self._main.ident: self._main}
        self._back: queue.SimpleQueue[_Runner] = queue.SimpleQueue()  # who stops or is done
        self._asked: list[_Question] = []
        self._answered: list[_Question] = []  # who have their answer and wait for their turn
        self._late: list[_Runner] = []  # who run, though others do, too
        self._answers: dict[int, list[tuple[Any, Any]]] = {}  # what each call has asked and got
        self._again: list[int] = []  # calls to begin again in the caller's thread
        self._got: list[tuple[Any, Any]] = []  # of the call that has begun again
        self._one_at_a_time = _among(_one_by_one, function)
        self._failure: BaseException | None = None
        self._modes = modes_of_torch()
        self._settings = process_settings()

    def run(self) -> list[Any]:
        """Return what the calls return, in order.

        An exception of a call comes through; calls that have stopped are unwound first.
        """
        token = _current.set(self)
        self._context = contextvars.copy_context()
        try:
            self._run_all()
        except BaseException as error:
            self._fail(error)
        finally:
            _current.reset(token)
        if self._failure is not None:
            self._abandon()
            raise self._failure
        return self._results

    def asks(self) -> bool:
        """Return whether this thread runs one of the calls; others cannot stop."""
        return threading.get_ident() in self._runners

    def arguments(self) -> tuple[Any, ...]:
        """Return the arguments of the call that runs in this thread."""
        return self._calls[self._runners[threading.get_ident()].index]

    def ask(self, question: Any) -> Any:
        """Stop the call that runs in this thread; go on with the answer."""
        runner = self._runners[threading.get_ident()]
        if self._failure is not None:
            runner.in_vain += 1
            if runner.in_vain > ASKED_IN_VAIN and runner is not self._main:
                self._back.put(runner)
                threading.Event().wait()  # it would ask forever
            raise Abandoned
        if runner is self._main and self._got:
            asked, answer = self._got.pop(0)
            if asked == question:
                return answer
            self._got = []
        mine = _Question(runner, runner.index, question)
        own = process_settings()
        set_process_settings(self._settings)
        self._asked.append(mine)
        try:
            if runner is self._main:
                self._let_go_on()
                self._begin_others()
                if self._failure is None:
                    self._answer_all()
            else:
                self._back.put(runner)
                runner.turn.acquire()
        except BaseException as error:
            self._fail(error)
            raise
        finally:
            set_process_settings(own)
        if self._failure is not None:
            raise Abandoned
        return mine.answer

    # ---- in the caller's thread

    def _run_all(self) -> None:
        """Run all calls to their end, or until one fails."""
        while self._failure is None:
            self._let_go_on()
            if self._failure is None and self._asked:
                self._answer_all()
            elif self._failure is None and not self._late:
                if self._next == len(self._calls) and not self._again:
                    return
                self._call(self._main)

    def _answer_all(self) -> None:
        """Answer everything that has been asked."""
        asked = sorted(self._asked, key=lambda each: each.index)
        self._asked = []
        self._answered += [each for each in asked if each.runner is not self._main]
        answers = self._answer([each.question for each in asked])
        for each, answer in zip(asked, answers, strict=True):
            each.answer = answer
            self._answers.setdefault(each.index, []).append((each.question, answer))

    def _let_go_on(self) -> None:
        """Let all calls that have their answer go on until they ask again or end, in order."""
        while self._answered and self._failure is None:
            runner = self._answered.pop(0).runner
            runner.turn.release()
            self._wait_for(runner)
        for runner in list(self._late):
            self._wait_for(runner)

    def _begin_others(self) -> None:
        """Begin the calls that have not begun, in threads."""
        while (
            self._next < len(self._calls)
            and self._failure is None
            and not (self._one_at_a_time or self._late)
        ):
            runner = _Runner()
            thread = threading.Thread(
                target=self._context.copy().run,
                args=(self._work, runner),
                name="nets_deap evaluate",
                daemon=True,
            )
            try:
                thread.start()
            except RuntimeError:  # no more can be had: the others begin when these are answered
                return
            self._wait_for(runner)

    def _wait_for(self, runner: _Runner) -> None:
        """Wait until a call has stopped or ended.

        One that does not come on while others have stopped may be waiting for what they hold, a
        lock, say. It is left to itself then, and what has been asked is answered.
        """
        place = None
        while True:
            try:
                back = self._back.get(timeout=PATIENCE)
            except queue.Empty:
                before, place = place, _place(runner.ident)
                if place == before and (self._asked or self._answered or self._failure):
                    self._leave(runner)
                    return
                continue
            if back in self._late:
                self._late.remove(back)
            if back is runner:
                return

    def _leave(self, runner: _Runner) -> None:
        """Go on without a call that does not come on."""
        if runner not in self._late:
            self._late.append(runner)
        if self._failure is None:
            self._go_one_by_one(
                "A call of evaluate has stood still for %g s while others wait for their training "
                "together: from here on tickets train one by one. If it holds a lock while it "
                "evaluates, release that before; if it waits for something slow, do that after.",
                PATIENCE,
            )

    def _go_one_by_one(self, *why: Any) -> None:
        """Run one call at a time from here on, and say why, once for a function."""
        if not self._one_at_a_time:
            self._one_at_a_time = True
            logger.warning(*why)
            with contextlib.suppress(TypeError):  # it cannot be remembered
                _one_by_one.add(self._function)

    def _abandon(self) -> None:
        """Unwind all calls that have stopped, one after the other."""
        for each in [*self._answered, *self._asked]:
            if each.runner is not self._main:
                each.runner.turn.release()
                self._wait_for(each.runner)

    # ---- in any thread

    def _fail(self, error: BaseException) -> None:
        """Take note of what ends everything: the first that went wrong."""
        if self._failure is None:
            self._failure = error

    def _call(self, runner: _Runner) -> None:
        """Run the next call."""
        if runner is self._main and self._again:
            index = self._again.pop(0)
            self._got = self._answers.pop(index, [])
        else:
            index, self._next = self._next, self._next + 1
        runner.index = index
        self._results[index] = self._function(*self._calls[index])
        self._settings = process_settings()

    def _work(self, runner: _Runner) -> None:
        """Run calls in a thread, as long as there are some."""
        runner.ident = threading.get_ident()
        self._runners[runner.ident] = runner
        try:
            with self._modes():
                while (
                    self._next < len(self._calls)
                    and self._failure is None
                    and not self._one_at_a_time
                ):
                    self._call(runner)
        except Exception as error:
            if "thread" in str(error) and self._failure is None:
                self._again.append(runner.index)
                self._go_one_by_one(
                    "A call of evaluate can only be in the main thread: from here on tickets train "
                    "one by one, each as its call asks for it. What went wrong elsewhere: %s",
                    error,
                )
            else:
                self._fail(error)
        except BaseException as error:
            self._fail(error)
        finally:
            del self._runners[runner.ident]
            self._back.put(runner)


_one_by_one: weakref.WeakSet[Any] = weakref.WeakSet()  # functions


def _among(known: weakref.WeakSet[Any], function: Any) -> bool:
    """Return whether a function is one of those that are remembered."""
    try:
        return function in known
    except TypeError:  # it has no hash, or no weak reference
        return False


_current: contextvars.ContextVar[Calls | None] = contextvars.ContextVar(
    "nets_deap_calls", default=None
)


def calls_here() -> Calls | None:
    """Return the calls of which this thread runs one; None where it runs none that can stop."""
    calls = _current.get()
    return calls if calls is not None and calls.asks() else None


def _place(ident: int) -> tuple[int, int] | None:
    """Return where in the program a thread is."""
    frame = sys._current_frames().get(ident)
    return None if frame is None else (id(frame), frame.f_lasti)
