"""Work that threads share: order, errors and interrupts."""

import threading
import time

import pytest

from nets_deap.training.threads import share_out


def test_results_come_in_order_whatever_takes_longest():
    seen = []
    share_out(
        lambda n, stop: time.sleep(0.02 * (3 - n)) or n * n,
        range(4),
        3,
        lambda n, square: seen.append((n, square)),
    )
    assert seen == [(0, 0), (1, 1), (2, 4), (3, 9)]


@pytest.mark.parametrize("who", ["work", "done"])
def test_an_error_stops_running_work_and_cancels_the_rest(who):
    begun = []

    def work(n, stop):
        begun.append(n)
        if n == 0 and who == "work":
            raise KeyboardInterrupt
        for _ in range(2000 if n else 1):
            stop.check()
            time.sleep(0.005)

    def done(n, result):
        raise KeyboardInterrupt

    before, start = threading.active_count(), time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        share_out(work, range(50), 2, done)
    assert time.monotonic() - start < 5, "work that was running went on"
    assert len(begun) < 10
    assert threading.active_count() == before
