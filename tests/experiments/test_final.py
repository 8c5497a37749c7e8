import numpy as np
import pytest

import nets_deap as nets
from nets_deap.errors import InvalidValueError
from nets_deap.experiments.final import spread, train_front


@pytest.fixture(scope="module")
def front(xor_task):
    return list(
        nets.search(
            xor_task,
            population=16,
            generations=3,
            cxpb=0.1,
            mutpb=0.9,
            progress="none",
            inherit="none",
        ).front
    )


def test_spread_keeps_both_ends_in_order_without_twins(front):
    chosen = spread([*front, *front], 3)
    kept = [t.kept for t in chosen]
    assert len(chosen) == 3
    assert kept == sorted(kept, reverse=True)
    assert kept[0] == max(t.kept for t in front)
    assert kept[-1] == min(t.kept for t in front)


def test_spread_of_a_small_front_is_all_of_it(front):
    assert {t.digest for t in spread(front, 1000)} == {t.digest for t in front}


def test_spread_needs_members():
    with pytest.raises(InvalidValueError, match="front must have members"):
        spread([], 3)


def test_final_training_is_the_tasks_own_and_controls_have_the_same_layer_counts(
    xor_task, front, monkeypatch
):
    trained, front = [], list(front)
    original = type(xor_task).run
    monkeypatch.setattr(
        type(xor_task),
        "run",
        lambda s, t, p, *a, **k: trained.extend(t) or original(s, t, p, *a, **k),
    )
    calls = []
    final = train_front(
        xor_task, front, steps=20, members=3, on_trained=lambda done, of: calls.append((done, of))
    )
    monkeypatch.undo()
    assert calls[-1] == (len(trained), len(trained))
    dense, tickets, controls = trained[0], trained[1:4], trained[4:]
    assert dense.density == 1
    for ticket, control in zip(tickets, controls, strict=True):
        counts = [xor_task.layout.counts(t.packed) for t in (ticket, control)]
        assert np.array_equal(*counts)
    assert any(t != c for t, c in zip(tickets, controls, strict=True))
    for row in final.rows:
        alone = xor_task.train(row.ticket, steps=20)
        assert row.trained.test_loss == pytest.approx(alone.test_loss, rel=1e-5)
        assert row.trained.test_accuracy == alone.test_accuracy
    assert final.dense.test_loss == pytest.approx(
        xor_task.train(xor_task.dense_ticket(), steps=20).test_loss, rel=1e-5
    )
