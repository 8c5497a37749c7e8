"""``check``: its controls are what they say, and its verdict follows from the numbers shown."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import nets_deap as nets
from nets_deap.errors import InvalidTypeError, InvalidValueError
from nets_deap.experiments.sanity import VARIANTS, check
from nets_deap.experiments.statistics import bootstrap_interval

VALUE, KIND = InvalidValueError, InvalidTypeError
RNG = np.random.default_rng(0)
SIGNS = RNG.choice([-1.0, 1.0], 60)
INPUTS = RNG.normal(size=(700, 60)).astype(np.float32)
LABELS = (INPUTS @ SIGNS > 0).astype(np.int64)


def linear_task(**changes):
    """Return a task whose solution is a mask: one layer, trained for too little to learn it."""
    model = nn.Linear(60, 2)
    model.weight.data = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 60))).float()
    model.bias.data.zero_()
    parts = {"train": slice(0, 200), "val": slice(200, 400), "test": slice(400, None)}
    options = {
        **{name: (INPUTS[part], LABELS[part]) for name, part in parts.items()},
        "recipe": nets.Recipe(lr=1e-3, batch_size=20, steps=10),
        "device": "cpu",
        **changes,
    }
    return nets.Task(model, **options)


def right_signs(task):
    """Return the ticket of the weights that already point to the right class in W0."""
    wanted = np.stack([-SIGNS, SIGNS])
    return task.ticket((task.layout.initial.reshape(2, 60) * wanted > 0).reshape(-1))


def elsewhere(task):
    """Return a ticket of as many weights that belongs to another layout."""
    layout = nets.MaskLayout([("weight", (2, 60))], task.layout.initial + 1)
    return nets.Ticket(right_signs(task).mask, layout=layout)


def two_layers():
    """Return an MLP 6-5-3 task and a ticket that keeps all of one layer and some of the other."""
    rng = np.random.default_rng(0)
    data = rng.normal(size=(60, 6)).astype(np.float32), rng.integers(0, 3, 60)
    recipe = nets.Recipe(lr=0.01, batch_size=10, steps=15)
    model = nets.models.MLP((6, 5, 3))
    task = nets.Task(model, train=data, val=data, recipe=recipe, device="cpu")
    mask = np.ones(task.layout.size, dtype=bool)
    mask[:20] = False  # 10 of the 30 weights of the first layer are kept
    return task, task.ticket(mask)


@pytest.fixture(scope="module")
def winning():
    task = linear_task()
    return check(right_signs(task), task, seeds=3)


@pytest.fixture
def watched(monkeypatch):
    """Return what a check gives to ``train_all``: (tickets, seed, starts, results) each time."""
    calls = []
    original = nets.Task.train_all

    def train_all(task, tickets, *, seed=None, starts=None, **options):
        results = original(task, tickets, seed=seed, starts=starts, **options)
        calls.append((tickets, seed, starts, results))
        return results

    monkeypatch.setattr(nets.Task, "train_all", train_all)
    return calls


def planted(monkeypatch, task, accuracies, **losses):
    """Let training give these accuracies by variant, R of each."""
    template = task.train(task.dense_ticket(), steps=1)
    rounds = iter(range(100))

    def train_all(*_, **__):
        i = next(rounds)
        return [
            replace(template, test_accuracy=accuracies[name][i], test_loss=losses.get(name, 0.5))
            for name in VARIANTS
        ]

    monkeypatch.setattr(task, "train_all", train_all)


def test_the_masks_of_the_controls(watched):
    task, ticket = two_layers()
    check(ticket, task, seeds=3)
    assert len(watched) == 3
    for tickets, *_ in watched:
        own, shuffled, again, inverted, dense = tickets
        assert own == again == ticket
        assert task.layout.counts(shuffled.packed).tolist() == [10, 15]
        assert shuffled != ticket
        assert not (inverted.mask & ticket.mask).any()
        assert task.layout.counts(inverted.packed).tolist() == [10, 0]
        assert dense.density == 1
    for place in (1, 3):
        assert len({tickets[place].digest for tickets, *_ in watched}) == 3


def test_reinitialisation_permutes_w0_within_each_layer(watched):
    task, ticket = two_layers()
    check(ticket, task, seeds=3)
    initial, drawn = task.layout.initial, []
    for _, _, starts, _ in watched:
        assert [start is None for start in starts] == [True, True, False, True, True]
        values = starts[2].values
        assert values.dtype == initial.dtype
        # The second layer is kept whole, so all of its W0 must be there, in another order.
        assert sorted(values[10:]) == sorted(initial[30:])
        assert not np.array_equal(values[10:], initial[30:])
        # Of the first, any ten of its W0, not only those that the ticket keeps.
        assert len(set(values[:10]) & set(initial[:30])) == 10
        assert set(values[:10]) != set(initial[20:30])
        drawn.append(values.tobytes())
    assert len(set(drawn)) == 3


def test_replicates_are_paired_and_their_minibatches_no_one_elses(watched):
    task, ticket = two_layers()
    report = check(ticket, task, seeds=4, steps=7)
    seeds = {seed for _, seed, _, _ in watched}
    assert len(seeds) == 4
    # Neither a generation's nor the final training's.
    assert not seeds & {task.derived_seed(place) for place in (*range(2000), 2**31 - 1)}
    for place, name in enumerate(VARIANTS):
        values = tuple(results[place].val_accuracy for *_, results in watched)
        assert report.variants[name].values == values
    assert report.steps == watched[0][3][0].steps == 7


def test_the_same_arguments_give_the_same_report_at_the_declared_cost():
    task, ticket = two_layers()
    mask = ticket.mask
    one = check(ticket, task, seeds=2)
    assert one.density == one.variants["ticket"].density == ticket.density
    assert task.ledger.network_steps == 5 * 2 * 15
    assert check(ticket, task, seeds=2) == one
    assert np.array_equal(ticket.mask, mask)


def test_the_numbers_of_a_report(monkeypatch):
    task = linear_task()
    accuracies = dict.fromkeys(VARIANTS, (0.91, 0.91, 0.91))
    accuracies |= {"ticket": (0.90, 0.92, 0.94), "shuffled": (0.70, 0.71, 0.75)}
    planted(monkeypatch, task, accuracies)
    report = check(right_signs(task), task, seeds=3)
    assert report.variants["ticket"].mean == pytest.approx(0.92)
    assert report.variants["ticket"].deviation == pytest.approx(0.02)
    assert report.variants["dense"].deviation == pytest.approx(0, abs=1e-12)
    assert report.variants["shuffled"].values == (0.70, 0.71, 0.75)
    assert tuple(report.differences) == VARIANTS[1:]
    gap = report.differences["shuffled"]
    assert gap.mean == pytest.approx(0.2)
    assert (gap.low, gap.high) == pytest.approx(bootstrap_interval([0.20, 0.21, 0.19]))
    assert report.differences["dense"].mean == pytest.approx(0.01)


def test_the_table_shows_every_variant_in_columns(winning):
    title, head, *rows, rule, verdict = winning.table().splitlines()
    assert title == "Test accuracy in %, 10 steps from scratch, 3 replicates"
    assert [row.split()[0] for row in rows] == list(VARIANTS)
    for row, name in zip(rows, VARIANTS, strict=True):
        assert row[: head.index("mean") + 4].endswith(f"{100 * winning.variants[name].mean:.2f}")
        first = f"{100 * winning.variants[name].values[0]:6.2f}"
        assert row[head.index("replicates") :].startswith(first)
    gap = winning.differences["dense"]
    shown = f"{100 * gap.mean:+.2f} [{100 * gap.low:+.2f}, {100 * gap.high:+.2f}]"
    assert shown in " ".join(rows[-1].split())
    assert "0.1 pp below dense, and at least 0.5 pp above shuffled and re-initialised" in rule
    assert verdict == "Verdict: winning ticket"


def test_a_report_is_plain_data(winning):
    plain = winning.as_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert (plain["winning"], plain["verdict"]) == (True, "winning ticket")
    assert plain["variants"]["dense"]["mean"] == winning.variants["dense"].mean


def test_accuracy_is_on_the_test_split_or_else_on_validation(watched):
    for split, changes in {"test": {}, "val": {"test": None}}.items():
        task = linear_task(**changes)
        report = check(right_signs(task), task, seeds=2, steps=3)
        assert report.split == split
        wanted = getattr(watched[-1][3][0], f"{split}_accuracy")
        assert report.variants["ticket"].values[-1] == wanted
    assert report.table().startswith("Validation accuracy")


def test_weights_that_point_the_right_way_win_and_random_ones_do_not(winning):
    assert winning.winning
    assert min(winning.differences[n].low for n in ("shuffled", "re-initialised")) > 0.1
    task = linear_task()
    mask = np.random.default_rng(5).permutation(right_signs(task).mask)
    assert not check(task.ticket(mask), task, seeds=3).winning


BELOW = "ticket 97.50 % is below dense {} % by more than {} pp"
NEAR = "{} {} % is not at least {} pp below ticket 97.50 %"


@pytest.mark.parametrize(
    ("changes", "options", "failing"),
    [
        ({}, {}, []),
        # Exactly at the limits, where rounding must not decide.
        ({"dense": 0.976}, {}, []),
        ({"dense": 0.9754}, {"tolerance": 0.0004}, []),
        ({"shuffled": 0.9744}, {"margin": 0.0006}, []),
        ({"dense": 0.9762}, {}, [BELOW.format(97.62, 0.1)]),
        ({"dense": 0.9762}, {"tolerance": 0.002}, []),
        ({"shuffled": 0.970, "re-initialised": 0.970}, {}, []),
        ({"shuffled": 0.9702}, {}, [NEAR.format("shuffled", 97.02, 0.5)]),
        ({"shuffled": 0.9702}, {"margin": 0.001}, []),
        (
            {"re-initialised": 0.9876, "dense": 0.9912},
            {"tolerance": 0.01, "margin": 0.02},
            [BELOW.format(99.12, 1), NEAR.format("re-initialised", 98.76, 2)],
        ),
        ({"inverted": 0.999}, {}, []),
    ],
)
def test_the_verdict_names_each_condition_that_fails(monkeypatch, changes, options, failing):
    task = linear_task()
    base = dict.fromkeys(VARIANTS, 0.9) | {"ticket": 0.975, "dense": 0.975}
    planted(monkeypatch, task, {name: (v, v) for name, v in {**base, **changes}.items()})
    report = check(right_signs(task), task, seeds=2, **options)
    assert list(report.failures) == failing
    assert report.winning == (not failing)
    expected = f"not a winning ticket: {'; '.join(failing)}" if failing else "winning ticket"
    assert report.verdict == expected
    assert report.table().endswith(f"Verdict: {expected}")


def test_a_ticket_does_not_win_against_networks_that_diverged(monkeypatch):
    task = linear_task()
    values = dict.fromkeys(VARIANTS, (0.1, 0.1)) | {"ticket": (0.9, 0.9)}
    planted(monkeypatch, task, values, dense=math.nan, inverted=math.inf)
    report = check(right_signs(task), task, seeds=2)
    assert report.failures == ("dense diverged in 2 of 2 replicates",)
    json.dumps(report.as_dict(), allow_nan=False)


def test_a_ticket_that_prunes_whole_layers_is_its_own_shuffle_and_does_not_win():
    task, _ = two_layers()
    mask = np.arange(task.layout.size) < 30  # all of the first layer, none of the second
    report = check(task.ticket(mask), task, seeds=2)
    assert report.variants["inverted"].density == 0
    assert report.variants["shuffled"].values == report.variants["ticket"].values
    assert any(failure.startswith("shuffled") for failure in report.failures)


@pytest.mark.parametrize(
    ("error", "text", "ticket", "options"),
    [
        (VALUE, r"seeds must be in range: expected an int >= 2", right_signs, {"seeds": 1}),
        (VALUE, r"steps must be in range", right_signs, {"steps": 0}),
        (VALUE, r"tolerance must be in range", right_signs, {"tolerance": -0.1}),
        (VALUE, r"margin must be in range", right_signs, {"margin": math.nan}),
        (VALUE, r"keep some weights and prune some.*got 120 kept", nets.Task.dense_ticket, {}),
        (VALUE, r"1 to 119 kept of D = 120, got 0", lambda task: task.ticket(np.zeros(120)), {}),
        (VALUE, r"mask must have the right length", lambda task: nets.Ticket([1, 0]), {}),
        (VALUE, r"ticket must belong to this task", elsewhere, {}),
        (KIND, r"ticket must be a ticket", lambda task: right_signs(task).mask, {}),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_trained(error, text, ticket, options):
    task = linear_task()
    with pytest.raises(error, match=text):
        check(ticket(task), task, **options)
    assert task.ledger.networks == 0


def test_tasks_that_cannot_be_checked_are_refused():
    task = linear_task()
    with pytest.raises(KIND, match="task must be a task"):
        check(right_signs(task), "mnist")
    data = INPUTS, np.stack([LABELS, 1 - LABELS], axis=1).astype(np.float32)
    other = linear_task(train=data, val=data, test=None, loss="mse")
    with pytest.raises(VALUE, match=r"task must have an accuracy: .*the loss mse"):
        check(right_signs(other), other)
