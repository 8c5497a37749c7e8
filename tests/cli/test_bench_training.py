"""The benchmark of training: its rivals train the same networks, and its counts are right."""

import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.networks import RECIPES, make_task, masks_of, reference

from nets_deap.cli.bench import bound, growth, hardware, report, rivals
from nets_deap.cli.bench.bound import cost_of
from nets_deap.cli.bench.cost import kept_cost, step_cost
from nets_deap.cli.bench.hardware import Limits, measure_limits, peak_memory
from nets_deap.cli.bench.report import training_report
from nets_deap.cli.bench.training import Asked
from nets_deap.cli.bench.training import make_task as bench_task
from nets_deap.errors import InvalidValueError
from nets_deap.training.problem import Plan

PLAN = Plan(12, 3, keep_states=True)


@pytest.mark.parametrize("module", ["mlp", "conv1d"])
def test_the_rivals_train_the_same_networks_as_the_engines(module):
    task = make_task(module, replace(RECIPES["adam"], schedule="constant"))
    masks = masks_of(task, (0.7, 0.3))
    expected = reference(task.problem, masks, PLAN).states
    batches = PLAN.batches(len(task.problem.train[0]), task.recipe.batch_size)
    run, stacked = rivals.plain_vmap(task, masks)
    run(batches)
    for i, packed in enumerate(masks):
        alone, parameters = rivals.one_at_a_time(task, packed)
        alone(batches)
        for name, tensor in expected[i].items():
            np.testing.assert_allclose(stacked[name][i], tensor, 1e-9, 1e-9)
            np.testing.assert_allclose(parameters[name].detach(), tensor, 1e-9, 1e-9)


def test_counts_of_a_feedforward_network_and_of_any_other_module(monkeypatch):
    lenet, conv = bench_task("lenet", "cpu"), bench_task("lenet5", "cpu")
    sizes = (784, 300, 100, 10)
    assert cost_of(lenet, "compiled", 0.05, 4) == kept_cost(sizes, 60, 0.05, networks=4)
    assert cost_of(lenet, "compiled", 0.9, 4) == kept_cost(sizes, 60, 1.0, networks=4)
    assert cost_of(lenet, "vmap", 0.05, 4) == step_cost(sizes, 60, 0.05, networks=4)
    monkeypatch.setattr(bound, "has_triton", lambda device: True)
    thin = cost_of(lenet, "batched", 0.05, 4)
    assert thin == step_cost(sizes, 60, 0.05, state="kept", networks=4)
    assert thin.bytes < 0.8 * step_cost(sizes, 60, 0.05, networks=4).bytes
    assert cost_of(lenet, "batched", 0.9, 4) == step_cost(sizes, 60, 0.9, networks=4)
    # Multiply-adds of an image: two convolutions of 25 weights a pixel and channel, three layers.
    inner = 25 * 6 * 16 * 100 + 400 * 120 + 120 * 84 + 84 * 10
    first = 25 * 6 * 784
    counted = cost_of(conv, "vmap", 1.0, 1).terms["products"]
    assert counted.flops == 2 * 60 * (3 * inner + 2 * first)
    assert counted.bytes == 3 * 4 * (61_470 + 236)
    kept = cost_of(conv, "compiled", 0.05, 1).terms
    assert kept["products"].flops == pytest.approx(0.05 * counted.flops)
    assert kept["layers"] == cost_of(conv, "vmap", 0.05, 1).terms["layers"]


@pytest.mark.slow
def test_a_table_holds_every_combination_with_its_ratios(capsys):
    report = training_report(
        Asked(
            nets=("lenet",),
            populations=(1, 2),
            densities=(1.0, 0.02),
            repeats=1,
            seconds=0.001,
            device="cpu",
        )
    )
    said = capsys.readouterr().out.splitlines()
    rows, limits = report["rows"], Limits(**report["limits"])
    assert limits.bytes == max(limits.memory, limits.cache)
    assert [(row["population"], row["density"]) for row in rows] == [
        *((1, 1.0), (1, 0.02), (2, 1.0), (2, 0.02))
    ]
    for row in rows:
        assert row["ours_ratio"] == pytest.approx(row["ours"] / row["one"])
        assert row["vmap_ratio"] == pytest.approx(row["vmap"] / row["one"])
        floor = max(row["flops"] / limits.flops, row["bytes"] / limits.bytes)
        assert row["bound_share"] == pytest.approx(row["ours"] * floor)
        assert row["peak_bytes"] is None or row["peak_bytes"] > 1e8
    assert set(report["growth"]) == {"P (at 2 %)", "density (at P = 2)", "D (at 5 %, P = 16)"}
    assert report["machine"]["torch"] in torch.__version__
    assert sum("compiled" in line for line in said) == 4
    assert "cost of a network-step of ours grows with P" in said[-1]


@pytest.mark.slow
def test_a_restless_machine_is_warned_of(monkeypatch, capsys):
    monkeypatch.setattr(report, "GREATEST_SPREAD", 0.5)  # below what any machine reaches
    few = {"nets": ("lenet",), "populations": (1,), "densities": (0.02,), "repeats": 1}
    training_report(Asked(seconds=0.001, device="cpu", **few))
    assert "\nWARNING: in 1 of 1 rows" in capsys.readouterr().out


def test_exponents_and_rates():
    assert growth.exponent({1: 3.0, 10: 30.0, 100: 300.0}) == pytest.approx(1.0)
    assert growth.exponent({1: 3.0, 4: 1.5}) == pytest.approx(-0.5)
    assert np.isnan(growth.exponent({1: 3.0}))
    # 10 seconds that every call costs are not in the rate
    assert growth.rate(lambda steps: 10 + steps / 8, 100) == pytest.approx(8)


@pytest.mark.parametrize("overhead", [0.0, 0.2, 3.0])
def test_steps_are_enough_whatever_a_call_costs_beside_them(overhead):
    """Masks and weights that come and go take longer than steps of a GPU, and never the same."""
    calls = []

    def clock(steps):
        calls.append(steps)
        return overhead * (1 + 0.1 * (-1) ** len(calls)) + 1e-3 * steps

    assert 250 <= growth.enough_steps(clock, 0.5) <= 1000


def test_limits_and_rivals_are_those_of_the_precision(monkeypatch):
    seen = []

    def note(work, device):
        work()
        seen.append(torch.get_float32_matmul_precision())
        return 1.0

    plain = torch.randn
    dtypes = []

    def drawn(*size, dtype=None, **more):
        dtypes.append(dtype)
        return plain(2, 2, dtype=dtype)

    monkeypatch.setattr(hardware, "median_seconds", note)
    monkeypatch.setattr(hardware.torch, "randn", drawn)
    monkeypatch.setattr(hardware, "_copy_rate", lambda *how: 1.0)
    monkeypatch.setattr(hardware, "_cache_rate", lambda: 1.0)
    torch.set_float32_matmul_precision("high")
    try:
        measure_limits(torch.device("cpu"), "bf16")
    finally:
        torch.set_float32_matmul_precision("highest")
    assert set(dtypes) == {torch.bfloat16}
    assert set(seen) == {"highest"}
    with pytest.raises(ValueError, match="precision must be a known name"):
        Asked(precision="fp8")


def test_masks_have_their_density_and_differ():
    task = bench_task("lenet", "cpu")
    masks = growth.random_masks(task, 3, 0.05)
    counts = [int(np.bitwise_count(mask).sum()) for mask in masks]
    assert counts == pytest.approx([0.05 * task.layout.size] * 3, rel=0.05)
    assert not np.array_equal(masks[0], masks[1])
    assert growth.random_masks(task, 1, 1.0)[0].tolist() == task.dense_ticket().packed.tolist()


def test_memory_in_use_is_seen():
    with peak_memory(torch.device("cpu")) as peak:
        held = torch.ones(100_000_000)
        time.sleep(0.2)  # longer than from one look to the next
        with_it = hardware._resident()
        del held
        time.sleep(0.2)
    if with_it is None:
        pytest.skip("no /proc here: the system does not tell")
    assert peak.bytes > with_it - 1e8
    assert with_it > 4e8


@pytest.mark.slow
def test_the_limits_of_the_machine_are_plausible():
    limits = measure_limits(torch.device("cpu"))
    assert 1e9 < limits.flops < 1e14
    assert 1e8 < limits.bytes < 1e13


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nets": ("lenett",)}, r"net must be a known name: .*Did you mean 'lenet'\?"),
        ({"densities": (0.0,)}, r"densities must be a density"),
        ({"populations": (0,)}, r"populations must be in range"),
        ({"repeats": 0}, r"repeats must be in range"),
        ({"seconds": 0}, r"seconds must be in range"),
        ({"engine": "fast"}, r"engine must be a known name"),
    ],
)
def test_bad_arguments_before_anything_is_measured(options, message):
    with pytest.raises(InvalidValueError, match=message):
        Asked(device="cpu", **options)
