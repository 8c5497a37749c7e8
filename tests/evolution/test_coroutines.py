"""``Calls``: each runs once, stops where it asks, and goes on, whatever the function does."""

import asyncio
import contextlib
import contextvars
import functools
import io
import itertools
import os
import random
import sqlite3
import sys
import threading
import time
import traceback
import warnings

import pytest
import torch

from nets_deap.evolution import coroutines
from nets_deap.evolution.coroutines import Calls, calls_here


class Asking:
    """Answers each question by its double, and notes what was asked together."""

    def __init__(self):
        self.together = []

    def answer(self, questions):
        self.together.append(list(questions))
        return [2 * question for question in questions]

    def run(self, function, n=4):
        return Calls(function, [(i,) for i in range(n)], self.answer).run()


@pytest.fixture
def asking():
    return Asking()


def ask(i):
    return calls_here().ask(i)


def bare(i):
    try:
        return ask(i)
    except:  # noqa: E722
        return "penalty"


def returning_at_last(i):
    value = "penalty"
    try:
        value = ask(i)
    finally:
        return value  # noqa: B012


def suppressing(i):
    with contextlib.suppress(BaseException):
        return ask(i)
    return "penalty"


def in_a_loop_of_asyncio(i):
    async def ask_there():
        await asyncio.sleep(0)
        return ask(i)

    return asyncio.run(ask_there())


@pytest.mark.parametrize(
    "function",
    [ask, bare, returning_at_last, suppressing, functools.lru_cache(ask), in_a_loop_of_asyncio],
)
def test_all_are_answered_together_whatever_the_function_catches(function, asking):
    assert asking.run(function) == [0, 2, 4, 6]
    assert asking.together == [[0, 1, 2, 3]]


def test_each_call_runs_once_and_in_order(asking):
    seen = []

    def function(i):
        seen.append(("before", i))
        answer = ask(i)
        seen.append(("after", i))
        return answer

    asking.run(function, 3)
    assert seen == [(when, i) for when in ("before", "after") for i in range(3)]


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_draws_are_those_of_single_calls(first, asking):
    def function(i, ask=ask):
        drawn = random.random() if first else None
        answer = ask(i)
        return answer, drawn or random.random()

    random.seed(4)
    wanted = [function(i, lambda i: 2 * i) for i in range(5)]
    random.seed(4)
    assert asking.run(function, 5) == wanted


def test_calls_may_ask_as_often_as_they_like_or_never(asking):
    assert asking.run(lambda i: [ask((i, k)) for k in range(i)]) == [
        [(i, k, i, k) for k in range(i)] for i in range(4)
    ]
    assert asking.together == [[(1, 0), (2, 0), (3, 0)], [(2, 1), (3, 1)], [(3, 2)]]


def test_what_never_asks_stays_in_the_callers_thread(asking):
    mine = threading.get_ident()
    assert asking.run(lambda i: threading.get_ident()) == [mine] * 4
    assert Calls(ask, [], asking.answer).run() == []
    assert asking.together == []


def test_what_with_changes_for_a_while_is_each_calls_own(asking):
    before = sys.stdout, list(warnings.filters)

    def function(i):
        with contextlib.redirect_stdout(io.StringIO()) as out, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            sys.stdout.write(f"{i}\n")
            ask(i)
            warnings.warn("ignored", UserWarning, stacklevel=1)
            sys.stdout.write(f"{i}\n")
        return out.getvalue()

    assert asking.run(function) == [f"{i}\n{i}\n" for i in range(4)]
    assert (sys.stdout, list(warnings.filters)) == before


def test_what_a_function_sets_for_a_while_is_each_calls_own(asking, monkeypatch):
    monkeypatch.delenv("NETS_DEAP_CALL", raising=False)
    before = torch.get_default_dtype()

    def function(i):
        own = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        os.environ["NETS_DEAP_CALL"] = str(i)
        ask(i)
        try:
            return torch.get_default_dtype(), os.environ.pop("NETS_DEAP_CALL")
        finally:
            torch.set_default_dtype(own)

    assert asking.run(function) == [(torch.float64, str(i)) for i in range(4)]
    assert torch.get_default_dtype() is before
    assert "NETS_DEAP_CALL" not in os.environ


def test_threads_have_the_callers_modes_and_variables(asking):
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(7)

    def function(i):
        ask(i)
        modes = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        return variable.get(), *modes, torch.zeros(1).device.type

    plain = (7, True, False, "cpu")
    assert asking.run(function) == [plain] * 4
    with torch.no_grad(), torch.autocast("cpu"), torch.device("meta"):
        assert asking.run(function) == [(7, False, True, "meta")] * 4
    with torch.inference_mode():
        assert asking.run(lambda i: ask(i) and torch.is_inference_mode_enabled(), 3)[2]


def test_other_threads_cannot_stop(asking):
    def function(i):
        found = []
        thread = threading.Thread(target=lambda: found.append(calls_here()))
        thread.start()
        thread.join()
        return found[0], calls_here() is None

    assert asking.run(function) == [(None, False)] * 4
    assert asking.run(lambda i: asyncio.run(asyncio.to_thread(calls_here))) == [None] * 4


@pytest.mark.parametrize("place", [0, 2])
def test_an_error_comes_through_with_its_traceback_and_all_others_are_unwound(place, asking):
    closed = []

    def failing(i):
        raise ZeroDivisionError(f"call {i}")

    def function(i):
        try:
            return failing(i) if i == place else bare(i)
        finally:
            closed.append(i)

    with pytest.raises(ZeroDivisionError, match=f"call {place}") as caught:
        asking.run(function)
    assert traceback.extract_tb(caught.value.__traceback__)[-1].name == "failing"
    assert sorted(closed) == list(range(place + 1)), "later ones have not begun"
    assert not [t for t in threading.enumerate() if t.name == "nets_deap evaluate"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_an_error_of_the_answers_comes_through_what_swallows_it(kind):
    def answer(questions):
        raise kind("while training")

    with pytest.raises(kind, match="while training"):
        Calls(bare, [(i,) for i in range(3)], answer).run()


def test_what_asks_forever_is_left_alone(monkeypatch):
    monkeypatch.setattr(coroutines, "ASKED_IN_VAIN", 3)

    def answer(questions):
        raise KeyboardInterrupt

    def function(i):
        while i:
            with contextlib.suppress(BaseException):
                return ask(i)
        return ask(i)

    with pytest.raises(KeyboardInterrupt):
        Calls(function, [(i,) for i in range(3)], answer).run()


def test_a_lock_around_the_question_costs_the_batch_and_no_more(asking, monkeypatch, caplog):
    monkeypatch.setattr(coroutines, "PATIENCE", 0.05)
    lock = threading.Lock()

    def function(i):
        with lock:
            return ask(i)

    assert asking.run(function) == [0, 2, 4, 6]
    assert asking.together == [[0], [1], [2], [3]]
    (warning,) = caplog.messages
    assert "If it holds a lock while it evaluates, release that before" in warning


def test_a_function_that_held_a_lock_is_not_waited_for_again(asking, monkeypatch):
    monkeypatch.setattr(coroutines, "PATIENCE", 0.05)
    lock = threading.Lock()

    def function(i):
        with lock:
            return ask(i)

    for _ in range(2):
        assert asking.run(function) == [0, 2, 4, 6]
    assert asking.together[-4:] == [[0], [1], [2], [3]]
    monkeypatch.setattr(coroutines, "PATIENCE", 1000)
    assert asking.run(function) == [0, 2, 4, 6]


@pytest.mark.parametrize("after", [False, True])
def test_what_can_only_be_in_the_callers_thread_goes_on_there(after, asking, caplog):
    base, rows = sqlite3.connect(":memory:"), []
    base.execute("create table known(i, value)")

    def function(i):
        if not after:
            base.execute("insert into known values (?, 0)", (i,))
        value = ask(i) + ask(10 * i)
        base.execute("insert into known values (?, ?)", (i, value))
        rows.append(i)
        return value

    assert asking.run(function, 3) == [0, 22, 44]
    assert rows == [0, 1, 2]
    assert asking.run(function, 3) == [0, 22, 44]
    kept = base.execute("select i, value from known where value > 0").fetchall()
    assert kept == [(1, 22), (2, 44)] * 2
    assert caplog.text.count("can only be in the main thread") == 1
    asked = [question for together in asking.together for question in together]
    assert sorted(asked) == sorted([0, 0, 1, 10, 2, 20] * 2)  # nothing was answered twice


def test_an_error_that_threads_do_not_explain_comes_from_the_callers_own(asking):
    calls = []

    def function(i):
        calls.append(i)
        if i == 2:
            raise ValueError("the third thread of the loom is torn")
        return ask(i)

    with pytest.raises(ValueError, match="loom"):
        asking.run(function)
    assert calls == [0, 1, 2, 2]


def test_a_slow_call_is_waited_for_and_comes_once(asking, monkeypatch):
    monkeypatch.setattr(coroutines, "PATIENCE", 0.05)
    seen = []

    def function(i):
        seen.append(i)
        if i == 2:
            time.sleep(0.3)
        return ask(i)

    assert asking.run(function) == [0, 2, 4, 6]
    assert seen == [0, 1, 2, 3]


def test_where_no_more_threads_can_be_had_there_are_several_batches(asking, monkeypatch):
    start, started = threading.Thread.start, []

    def few(self):
        if len(started) == 2:
            raise RuntimeError("can't start new thread")
        started.append(self)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", few)
    assert asking.run(ask, 7) == [0, 2, 4, 6, 8, 10, 12]
    assert asking.together[0] == [0, 1, 2]
    assert sorted(itertools.chain(*asking.together)) == list(range(7))


def test_calls_within_calls(asking):
    inner = Asking()

    def function(i):
        return ask(sum(Calls(ask, [(i,), (10,)], inner.answer).run()))

    assert asking.run(function, 3) == [2 * (2 * i + 20) for i in range(3)]
    assert inner.together == [[0, 10], [1, 10], [2, 10]]
    assert asking.together == [[20, 22, 24]]
