"""How long chunks take, how large they should be, and what is tried again: without Ray."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nets_deap.cli.bench.scaling_model import ScalingModel
from nets_deap.errors import InvalidValueError
from nets_deap.training.workers.chunks import Chunks
from nets_deap.training.workers.speed import Speed, Work, portion


def one(steps=100.0, density=0.5):
    return Work(1, steps, steps * density)


def truth(work, each=0.01, step=1e-4, kept=1e-3):
    return each + step * work.steps + kept * work.kept


def test_a_fit_finds_what_chunks_cost_and_predicts_others():
    speed = Speed()
    assert speed.predict(one()) is None
    for n, density in ((1, 0.9), (3, 0.5), (8, 0.1), (2, 0.02), (5, 0.3)):
        work = Work.total([one(density=density)] * n)
        speed.observe(work, truth(work))
    unseen = Work.total([one(250, 0.7)] * 4)
    assert speed.predict(unseen) == pytest.approx(truth(unseen), rel=1e-3)
    assert speed.overhead == pytest.approx(0.01, rel=0.01)


def test_a_worker_half_as_fast_is_expected_to_take_twice_as_long_and_gets_half_as_much():
    speed = Speed()
    for _ in range(20):
        for worker, pace in (("fast", 1.0), ("slow", 2.0)):
            work = Work.total([one()] * 8)
            speed.observe(work, 0.4 * pace, worker)
    ratio = speed.pace("slow") / speed.pace("fast")
    assert ratio == pytest.approx(2, rel=0.05)
    left = [one()] * 1000
    fast = portion(left, speed, workers=2, worker="fast")
    slow = portion(left, speed, workers=2, worker="slow")
    assert fast == pytest.approx(2 * slow, rel=0.15)
    speed.forget("slow")
    assert speed.pace("slow") == 1.0


@pytest.mark.parametrize("seconds", [1e-4, 0.01, 0.3, 5.0])
def test_chunks_take_between_a_tenth_and_one_second_where_networks_allow(seconds):
    speed, works = Speed(), [one()] * 4000
    sizes = []
    for _ in range(40):
        n = portion(works, speed, workers=4)
        sizes.append(n)
        speed.observe(Work.total(works[:n]), n * seconds)
    assert sizes[0] == math.ceil(4000 / 32)
    assert 0.099 <= sizes[-1] * seconds <= 1.0 or sizes[-1] == 1
    assert portion([], speed, workers=4) == 0


def test_the_last_chunks_are_short_so_that_all_workers_end_together():
    speed = Speed()
    speed.observe(Work.total([one()] * 50), 5.0)
    sizes = [portion([one()] * left, speed, workers=4) for left in (200, 40, 16, 4)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] == 5  # 4 s left, 8 portions
    assert sizes[-1] == 1


@given(
    n=st.integers(1, 40),
    workers=st.integers(1, 5),
    retries=st.integers(0, 3),
    poison=st.sets(st.integers(0, 39), max_size=4),
    accidents=st.sets(st.integers(0, 30), max_size=8),
)
def test_every_network_is_done_once_and_only_poison_is_given_up(
    n, workers, retries, poison, accidents
):
    """Accidents are not the fault of a chunk; poison kills whatever it is in."""
    speed = Speed()
    works = [one(density=(i + 1) / n) for i in range(n)]
    chunks = Chunks(works, speed, workers=workers, retries=retries)
    done, given_up, alone, trials = [], [], Counter(), 0
    while len(done) + len(given_up) < n:
        chunk = chunks.take()
        assert chunk
        trials += 1
        assert trials < 500
        if trials in accidents:
            chunks.again(chunk)
        elif poison & set(chunk):
            alone[chunk] += len(chunk) == 1
            ends = chunks.failed(chunk)
            assert ends == (alone[chunk] == retries + 1)
            given_up += chunk * ends
        else:
            done += chunk
            speed.observe(chunks.work(chunk), 0.01 * len(chunk))
    assert sorted([*done, *given_up]) == list(range(n))
    assert set(given_up) == {i for i in poison if i < n}
    assert not chunks.take()


def test_the_longest_networks_go_first():
    works = [one(density=d) for d in (0.1, 0.9, 0.5)]
    chunks = Chunks(works, Speed(), workers=3)
    assert [chunks.take() for _ in range(4)] == [(1,), (2,), (0,), ()]


def test_the_model_finds_contention_and_says_what_limits():
    rates = {w: 10 * w / (1 + 0.1 * (w - 1)) for w in (1, 2, 4)}
    model = ScalingModel.fit(rates, driver_seconds=1e-3, ticket_bytes=1e6)
    assert (model.rate, model.contention) == (pytest.approx(10), pytest.approx(0.1, abs=1e-4))
    assert model.error < 1e-4
    assert model.off({w: [rate, 0.8 * rate] for w, rate in rates.items()}) == pytest.approx(0.25)
    assert model.predict(2) == (pytest.approx(20 / 1.1, rel=1e-4), "workers")
    assert model.predict(2, 3)[0] == pytest.approx(3 * model.predict(2)[0])
    assert model.predict(4, 500) == (pytest.approx(1000), "driver")
    assert model.predict(4, 500, bandwidth=1e8) == (pytest.approx(100), "network")
    assert model.predict(1, speed=7)[0] == pytest.approx(70)


def test_a_model_of_perfect_scaling_has_no_contention():
    model = ScalingModel.fit({1: 5.0, 2: 10.0, 8: 40.0}, driver_seconds=1.0, ticket_bytes=1)
    assert model.contention == 0.0
    with pytest.raises(InvalidValueError, match="measured must show how throughput grows"):
        ScalingModel.fit({1: 1.0}, driver_seconds=1.0, ticket_bytes=1)
