import csv
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import nets_deap as nets
from nets_deap.errors import InvalidValueError
from nets_deap.evolution.descent import rounds_to
from nets_deap.experiments.chain import steps_a_round
from nets_deap.experiments.final import overtrained, prune_alike, spread, train_front
from nets_deap.experiments.presets import PRESETS
from nets_deap.experiments.run import final_rows, run
from nets_deap.runs.storage.folder import RunFolder


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


def test_a_chain_of_pruning_has_as_many_weights_as_each_member_and_costs_what_it_may():
    task = nets.tasks.xor(hidden=60)  # of a few weights, rounding makes rounds cost more or less
    found = nets.search(task, population=12, generations=2, inherit="none", progress="none")
    front = list(found.front)
    chosen = spread(front, 4)
    before = task.ledger.totals()
    pruned = prune_alike(task, chosen, 300)
    _, _, _, dense = task.ledger.since(before)
    assert 250 < dense <= 300
    assert [ticket.kept for ticket in pruned] == [ticket.kept for ticket in chosen]
    for denser, sparser in itertools.pairwise(pruned):
        assert (sparser.mask <= denser.mask).all()
    final = train_front(task, front, steps=20, members=4, chain=300)
    for row, ticket in zip(final.rows, pruned, strict=True):
        alone = task.train(ticket, steps=20)
        assert row.pruned.test_loss == pytest.approx(alone.test_loss, rel=1e-5)
    without = train_front(task, front, steps=20, members=4)
    assert [row.pruned for row in without.rows] == [None] * 4
    assert without.dense.test_loss == pytest.approx(final.dense.test_loss, rel=1e-5)


@pytest.mark.parametrize("by", ["lamp", "cost"])
def test_a_chain_prunes_by_what_the_search_does(by):
    images = TensorDataset(torch.rand(40, 1, 6, 6), torch.arange(40) % 3)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    recipe = nets.Recipe(steps=20, batch_size=16)
    task = nets.Task(model, train=images, val=images, recipe=recipe)
    rng = np.random.default_rng(1)
    chosen = [task.ticket(rng.permutation(task.layout.size) < kept) for kept in (60, 30)]
    by_size, other = (prune_alike(task, chosen, 90, each) for each in ("magnitude", by))
    assert [ticket.kept for ticket in other] == [60, 30]
    rounds = max(1, rounds_to(30 / task.layout.size))
    steps = max(1, steps_a_round(90, rounds))
    levels = nets.baselines.finetune(task, rounds=rounds, steps=steps, by=by).tickets
    for ticket in other:
        below = next(one for one in levels if one.kept <= ticket.kept)
        assert (below.mask <= ticket.mask).all()
    assert any((a.mask != b.mask).any() for a, b in zip(by_size, other, strict=True))


def test_accuracy_is_drawn_over_the_multiply_adds_of_kept_weights_too(tmp_path):
    import matplotlib.pyplot as plt

    images = TensorDataset(torch.rand(40, 1, 6, 6), torch.arange(40) % 3)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    task = nets.Task(
        model, train=images, val=images, test=images, recipe=nets.Recipe(steps=3, batch_size=16)
    )
    path = tmp_path / "run"
    found = nets.search(task, population=6, generations=1, path=path, progress="none")
    final = train_front(task, list(found.front), steps=3, members=3, chain=40, by="cost")
    RunFolder.existing(path).write_front(final_rows(found, final))
    total = 16 * 36 + 192
    for what in (final, path):
        ax = nets.plots.final_accuracy_adds(what)
        ours, theirs = (
            next(one for one in ax.lines if one.get_label().startswith(name)).get_xdata()
            for name in ("tickets", "chain")
        )
        for row, share, chain_share in zip(final.rows, ours, theirs, strict=True):
            mask = row.ticket.mask
            assert share == pytest.approx((16 * mask[:36].sum() + mask[36:].sum()) / total)
            assert chain_share == pytest.approx(row.pruned_share)
        plt.close("all")


def test_where_multiply_adds_are_as_the_density_nothing_is_drawn_twice():
    task = nets.tasks.xor(hidden=10)
    found = nets.search(task, population=6, generations=1, progress="none", inherit="none")
    final = train_front(task, list(found.front), steps=3, members=2)
    with pytest.raises(InvalidValueError, match="final must have multiply-adds that are not as"):
        nets.plots.final_accuracy_adds(final)


def test_a_chain_beside_structured_tickets_is_refused_before_anything_is_written(tmp_path):
    config = PRESETS["xor-mlp10"].override({"task.unit": "neuron", "final.chain": True})
    with pytest.raises(InvalidValueError, match=r"final\.chain must be left out of structured"):
        run(config, tmp_path / "run", progress="none")
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_a_chain_states_it_in_table_front_and_figure(tmp_path):
    import matplotlib.pyplot as plt

    small = {"search.population": 8, "search.generations": 1, "final.steps": 9, "final.members": 3}
    config = PRESETS["xor-mlp10"].override({**small, "final.chain": True})
    report = run(config, tmp_path / "run", progress="none")
    assert "chain" in report.table().splitlines()[0]
    rows = list(csv.DictReader((tmp_path / "run" / "front.csv").read_text().splitlines()))
    stated = [float(row["chain_test_accuracy"]) for row in rows if row["final_steps"]]
    assert stated == [row.pruned.test_accuracy for row in report.final.rows]
    for what in (report.final, tmp_path / "run"):
        ax = nets.plots.final_accuracy(what)
        (line,) = (one for one in ax.lines if one.get_label().startswith("chain"))
        assert line.get_ydata() == pytest.approx(100 * np.array(stated))
        plt.close("all")


def test_what_is_lost_or_trained_for_too_long_is_told(xor_task, front):
    found = train_front(xor_task, front, steps=5, members=4)
    assert any(row.ticket.density < 1 for row in found.rows)
    won = [replace(r, random=replace(r.random, test_accuracy=-1.0)) for r in found.rows]
    assert replace(found, rows=won).remarks() == []
    lost = [replace(r, random=replace(r.random, test_accuracy=2.0)) for r in found.rows]
    (text,) = replace(found, rows=lost).remarks()
    assert text.startswith("Random masks are better than")
    long = replace(found.dense, curve=((2, 0.1), (5, 0.2)), val_loss=0.2)
    (text,) = replace(found, rows=won, dense=long).remarks()
    assert "0.1 after 2 steps, and is 0.2 after 5" in text
    assert "final.steps=2" in text
    assert overtrained(replace(long, curve=((2, 0.19), (5, 0.2))), 5) == ""
