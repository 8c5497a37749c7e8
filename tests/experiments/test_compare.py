"""A comparison from start to end: its files, its pairs, its interruptions."""

import csv
import json
import logging
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.comparing import TINY
from torch import nn

import nets_deap as nets
from nets_deap import baselines
from nets_deap.errors import FileAccessError, InvalidTypeError, InvalidValueError
from nets_deap.experiments import compare as module
from nets_deap.experiments.compare import compare
from nets_deap.experiments.methods import METHODS, Method, usual_methods
from nets_deap.experiments.run import build_task
from nets_deap.training.recipe import XOR_RECIPE

# Minibatches of 3 of the 4 points, so that they differ.
CONFIG = replace(TINY, recipe=replace(XOR_RECIPE, batch_size=3))
BASIC = {"seeds": [0], "budget": 400, "densities": (0.1, 0.3)}
CHEAP = {**BASIC, "methods": ["erk", "evolution", "same-layers"]}


def results(path, *, but=("search_seconds",)):
    rows = list(csv.DictReader((path / "rows.csv").read_text().splitlines()))
    return [{k: v for k, v in row.items() if k not in but} for row in rows]


def of(rows, method, seed=0):
    return [row for row in rows if row["method"] == method and row["seed"] == str(seed)]


def content(path):
    """The bytes of a file; of a ticket its mask, as safetensors orders metadata by chance."""
    is_ticket = path.suffix == ".safetensors"
    return nets.Ticket.load(path).digest if is_ticket else path.read_bytes()


def files(path):
    return {p.relative_to(path): content(p) for p in path.rglob("*") if p.is_file()}


def refuse(*_, **__):
    raise AssertionError("what is finished was run again")


class Skipping(nn.Module):
    """A network that is not layers in a row."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 4, 3), nn.Linear(32, 3)

    def forward(self, x):
        return self.two(torch.cat([self.one(x).relu().flatten(1), x.flatten(1)], dim=1))


def skip_task(config):
    return conv_task(config, Skipping)


def conv_in_a_row():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def conv_task(config, make=conv_in_a_row):
    """Three classes of 1 x 4 x 4 noise with a two-layer network that is not feedforward."""
    torch.manual_seed(config.seed)
    model = make()
    rng = np.random.default_rng(0)

    def split(n):
        return rng.normal(size=(n, 1, 4, 4)).astype(np.float32), rng.integers(0, 3, n)

    return nets.Task(
        model,
        train=split(20),
        val=split(12),
        test=split(12),
        recipe=nets.Recipe(batch_size=5, steps=5),
        seed=config.seed,
        device="cpu",
    )


@pytest.fixture
def still_clock(monkeypatch):
    """Make all searches take no time, so that folders can be compared byte by byte."""
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: 0.0))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All methods, one seed: the folder, the summary, the lines."""
    path, lines = tmp_path_factory.mktemp("compare") / "c", []
    summary = compare(CONFIG, path, **BASIC, on_done=lines.append)
    return path, summary, lines


# ---- what it leaves


def test_all_methods_leave_rows_and_texts(whole):
    path, summary, lines = whole
    assert {p.name for p in path.iterdir()} == {
        "comparison.json",
        "results",
        "tickets",
        "rows.csv",
        "summary.txt",
        "summary.json",
    }
    names = ["dense", *usual_methods("weight")]
    assert {p.stem for p in (path / "results").iterdir()} == {f"seed0-{name}" for name in names}
    assert list(dict.fromkeys(row["method"] for row in results(path))) == names
    assert (path / "summary.txt").read_text() == summary.text() + "\n"
    assert json.loads((path / "summary.json").read_text()) == summary.as_dict()
    assert summary.densities == (0.3, 0.1)
    assert [line.split()[2] for line in lines] == names


def test_rows_hold_the_cost_of_their_methods(whole):
    rows = results(whole[0])
    costs = {row["method"]: int(row["search_steps"]) for row in rows}
    assert len({(row["method"], row["search_steps"]) for row in rows}) == len(costs)
    assert costs["evolution"] == 400
    assert costs["evolution-adds"] == 1200
    assert 1100 < costs["imp"] <= 1200
    assert costs["one-shot"] == 400
    assert costs["dense"] == costs["erk"] == costs["same-layers"] == 0
    assert {row["final_steps"] for row in rows} == {"3"}
    dense = {row["method"]: float(row["search_dense_steps"]) for row in rows}
    assert all(dense[name] <= cost for name, cost in costs.items())
    assert dense["one-shot"] == 400
    # Each round of pruning a fifth costs less than the one before.
    assert dense["finetune"] < 0.5 * costs["finetune"]


def test_rows_say_what_training_from_w0_says(whole):
    task = module.build_task(CONFIG)
    (dense,) = of(results(whole[0]), "dense")
    trained = task.train(task.dense_ticket(), steps=3)
    assert float(dense["test_loss"]) == pytest.approx(trained.test_loss, rel=1e-5)
    assert float(dense["test_accuracy"]) == trained.test_accuracy
    assert float(dense["val_accuracy"]) == trained.val_accuracy
    assert (dense["kept"], dense["multiply_adds"], dense["density"]) == ("180", "180", "1.0")
    evolved = [nets.Ticket.load(f) for f in sorted((whole[0] / "tickets/seed0").iterdir())]
    rows = of(results(whole[0]), "evolution")
    assert [row["ticket"] for row in rows] == [ticket.digest[:16] for ticket in evolved]
    for row, result in zip(rows, task.train_all(evolved, steps=3), strict=True):
        assert float(row["test_loss"]) == pytest.approx(result.test_loss, rel=1e-5)


# ---- pairs


@pytest.mark.parametrize("name", ["erk", "imp", "rigl"])
def test_a_method_alone_gives_what_it_gives_in_company(name, whole, tmp_path):
    compare(CONFIG, tmp_path / "c", **BASIC, methods=[name])
    assert of(results(tmp_path / "c"), name) == of(results(whole[0]), name)
    assert of(results(tmp_path / "c"), "dense") == of(results(whole[0]), "dense")


def test_the_same_ticket_counts_the_same_under_two_methods(monkeypatch, tmp_path):
    def twin(setting, _):
        setting.task.train(setting.task.dense_ticket(), steps=2)  # what was before does not matter
        return baselines.random_erk(setting.task, setting.densities)

    monkeypatch.setitem(METHODS, "twin", Method("twin", "erk again", twin))
    compare(CONFIG, tmp_path / "c", **{**BASIC, "seeds": [0, 3]}, methods=["erk", "twin"])
    rows = results(tmp_path / "c", but=("search_seconds", "method"))
    named = results(tmp_path / "c")
    for seed in ("0", "3"):
        one, other = (
            [r for r, m in zip(rows, named, strict=True) if (m["method"], m["seed"]) == key]
            for key in (("erk", seed), ("twin", seed))
        )
        assert one == other
        assert len(one) == 2


def test_seeds_give_other_weights_and_other_tickets(tmp_path):
    compare(CONFIG, tmp_path / "c", **{**CHEAP, "seeds": [0, 1]})
    rows = results(tmp_path / "c")
    for name in ("erk", "evolution", "same-layers"):
        one, other = ({row["ticket"] for row in of(rows, name, seed)} for seed in (0, 1))
        assert one.isdisjoint(other)
    assert of(rows, "dense")[0]["test_loss"] != of(rows, "dense", 1)[0]["test_loss"]


# ---- going on


def test_what_is_finished_is_not_run_again(tmp_path, monkeypatch):
    path, lines = tmp_path / "c", []
    first = compare(CONFIG, path, **CHEAP)
    before = files(path)
    monkeypatch.setattr(module, "build_task", refuse)
    again = compare(CONFIG, path, **CHEAP, on_done=lines.append)
    assert lines == []
    assert again.as_dict() == first.as_dict()
    assert files(path) == before


@pytest.mark.parametrize("broken", ["erk", "same-layers"])
def test_an_interrupted_comparison_goes_on_to_the_same_rows(
    broken, tmp_path, monkeypatch, still_clock
):
    arguments = {**CHEAP, "seeds": [0, 1]}
    compare(CONFIG, tmp_path / "whole", **arguments)
    original, done = METHODS[broken].find, []

    def interrupt(setting, budget):
        if setting.task.seed == 1:
            raise KeyboardInterrupt
        return original(setting, budget)

    with monkeypatch.context() as patched:
        patched.setitem(METHODS, broken, replace(METHODS[broken], find=interrupt))
        with pytest.raises(KeyboardInterrupt):
            compare(CONFIG, tmp_path / "c", **arguments)
    assert not (tmp_path / "c" / "rows.csv").exists()
    compare(CONFIG, tmp_path / "c", **arguments, on_done=done.append)
    order = ["same-layers", "erk"]
    assert [line.split()[1:3] for line in done] == [["1", m] for m in order[order.index(broken) :]]
    assert files(tmp_path / "c") == files(tmp_path / "whole")


def test_an_interrupt_while_evolved_tickets_train_leaves_no_half_result(
    tmp_path, monkeypatch, still_clock
):
    compare(CONFIG, tmp_path / "whole", **CHEAP)
    original = module.rows_of

    def interrupt(task, config, name, *rest):
        if name == "evolution":
            raise KeyboardInterrupt
        return original(task, config, name, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(module, "rows_of", interrupt)
        with pytest.raises(KeyboardInterrupt):
            compare(CONFIG, tmp_path / "c", **CHEAP)
    assert [p.stem for p in (tmp_path / "c" / "results").iterdir()] == ["seed0-dense"]
    compare(CONFIG, tmp_path / "c", **CHEAP)
    assert files(tmp_path / "c") == files(tmp_path / "whole")


def test_methods_and_seeds_can_be_added_later(tmp_path, still_clock):
    compare(CONFIG, tmp_path / "whole", **{**CHEAP, "seeds": [0, 1]})
    compare(CONFIG, tmp_path / "c", **{**CHEAP, "methods": ["evolution"]})
    # Evolution's tickets are in the folder, so this needs no evolution beside it.
    alone = compare(CONFIG, tmp_path / "c", **{**CHEAP, "methods": ["same-layers"]})
    assert [one.name for one in alone.methods] == ["same-layers"]
    compare(CONFIG, tmp_path / "c", **{**CHEAP, "seeds": [0, 1]})
    assert files(tmp_path / "c") == files(tmp_path / "whole")


def test_a_damaged_result_is_told_not_run_over(tmp_path):
    compare(CONFIG, tmp_path / "c", **{**BASIC, "methods": ["erk"]})
    (tmp_path / "c" / "results" / "seed0-erk.json").write_text("[{")
    with pytest.raises(FileAccessError, match=r"seed0-erk.json must be readable JSON"):
        compare(CONFIG, tmp_path / "c", **{**BASIC, "methods": ["erk"]})


# ---- what is another comparison, and what is not


@pytest.mark.parametrize(
    ("settings", "arguments", "text"),
    [
        ({}, {"budget": 401}, "budget = 401 (there: 400)"),
        ({}, {"densities": (0.3,)}, "densities = [0.3] (there: [0.3, 0.1])"),
        ({"recipe.lr": 0.1}, {}, "config = recipe.lr 0.1 (there: 0.05)"),
        ({"final.steps": 4}, {}, "config = final.steps 4 (there: 3)"),
        ({"search.population": 3}, {}, "config = search.population 3 (there: 4)"),
        ({"task.hidden": 61}, {}, "config = task.hidden 61 (there: 60)"),
    ],
)
def test_other_results_do_not_mix(settings, arguments, text, tmp_path):
    path, given = tmp_path / "c", {**BASIC, "methods": ["erk"]}
    compare(CONFIG, path, **given)
    before = files(path)
    with pytest.raises(InvalidValueError, match="must hold the same comparison") as caught:
        compare(CONFIG.override(settings), path, **{**given, **arguments})
    assert text in str(caught.value)
    assert files(path) == before


def test_where_data_and_device_are_is_not_a_difference(tmp_path, monkeypatch):
    path, given = tmp_path / "c", {**BASIC, "methods": ["erk"]}
    compare(CONFIG, path, **given)
    monkeypatch.setattr(module, "build_task", refuse)
    moved = {"task.data_dir": "/elsewhere", "task.device": "cuda", "final.members": 3, "seed": 9}
    other = replace(CONFIG.override(moved), about="other words")
    compare(other, path, **{**given, "densities": [0.3, 0.1, 0.3]})


# ---- bad input


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"seeds": []}, InvalidValueError, "compare must have work.*distinct seeds"),
        ({"seeds": [1, 0, 1]}, InvalidValueError, "compare must have work.*distinct seeds"),
        ({"seeds": [0, -1]}, InvalidValueError, "seeds must be in range.*>= 0, got -1"),
        ({"seeds": [0.5]}, InvalidTypeError, "seeds must be a whole number"),
        ({"methods": []}, InvalidValueError, "compare must have work"),
        ({"methods": ["erk", "impp"]}, InvalidValueError, "methods must be.*mean 'imp'"),
        ({"densities": ()}, InvalidValueError, "compare must have work"),
        ({"densities": (0.1, 0)}, InvalidValueError, r"densities must be in range.*\(0, 1\)"),
        ({"densities": (1.0,)}, InvalidValueError, r"densities must be in range.*got 1\.0"),
        ({"densities": (float("nan"),)}, InvalidValueError, "densities must be in range"),
        ({"budget": 0}, InvalidValueError, "budget must be in range"),
        ({"budget": 4.5}, InvalidTypeError, "budget must be a whole number"),
    ],
)
def test_bad_arguments_are_told_before_anything_is_written(arguments, kind, text, tmp_path):
    with pytest.raises(kind, match=text):
        compare(CONFIG, tmp_path / "c", **{**BASIC, "methods": ["erk"], **arguments})
    assert list(tmp_path.iterdir()) == []


def test_same_layers_without_evolution_is_refused(tmp_path):
    with pytest.raises(
        InvalidValueError, match=r"name evolution before same-layers.*Add evolution"
    ):
        compare(CONFIG, tmp_path / "c", **{**BASIC, "methods": ["same-layers"]})
    assert not (tmp_path / "c" / "results" / "seed0-same-layers.json").exists()


# ---- what may be missing


def test_of_convolutions_what_compacting_leaves_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "build_task", conv_task)
    compare(CONFIG, tmp_path / "c", **BASIC, methods=["snip"])
    counts = {
        (row["method"], row["density"]): int(row["multiply_adds"])
        for row in results(tmp_path / "c")
    }
    assert counts.pop(("dense", "1.0")) == 4 * 9 * 4 + 16 * 3
    assert counts
    assert all(0 <= count < 4 * 9 * 4 + 16 * 3 for count in counts.values())


def test_of_a_network_with_a_forward_of_its_own_what_compacting_leaves_is_counted(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "build_task", skip_task)
    methods = ["evolution", "imp", "snip", "same-layers", "random"]
    summary = compare(CONFIG, tmp_path / "c", **{**BASIC, "budget": 150}, methods=methods)
    rows = results(tmp_path / "c")
    assert {row["method"] for row in rows} == {"dense", *methods}
    (dense,) = of(rows, "dense")
    assert int(dense["multiply_adds"]) == 4 * 36 + 3 * 32
    counts = [int(row["multiply_adds"]) for row in rows if row["method"] != "dense"]
    assert 0 <= min(counts) < max(counts) <= 4 * 36 + 3 * 32
    assert "multiply-adds" in summary.text()


# ---- digits


def test_the_preset_of_embedded_digits(tmp_path):
    from nets_deap.experiments.presets import preset

    small = {"final.steps": 20, "search.population": 2, "search.generations": 1}
    config = preset("quickstart").override({**small, "task.device": "cpu"})
    summary = compare(
        config,
        tmp_path / "c",
        seeds=[0],
        budget=100,
        methods=["evolution", "snip"],
        densities=(0.3, 0.1),
    )
    (dense,) = of(results(tmp_path / "c"), "dense")
    assert dense["kept"] == dense["multiply_adds"] == "266200"
    evolved = of(results(tmp_path / "c"), "evolution")
    assert all(99 < float(row["search_dense_steps"]) <= 100 for row in evolved)
    snip = next(one for one in summary.methods if one.name == "snip")
    assert np.isfinite(snip.accuracy).all()
    assert snip.accuracy.min() > 0.3


def test_same_layers_alone_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr("nets_deap.experiments.compare.build_task", None)
    with pytest.raises(InvalidValueError, match="methods must name evolution before same-layers"):
        compare(CONFIG, tmp_path / "c", seeds=[0], budget=40, methods=["same-layers"])


def test_densities_that_leave_a_layer_empty_are_refused_before_anything_is_trained(tmp_path):
    settings = {**CHEAP, "densities": (0.3, 0.001)}
    with pytest.raises(InvalidValueError, match="density must leave every layer a weight"):
        compare(CONFIG, tmp_path, **settings)
    assert not list((tmp_path / "results").iterdir())


def test_what_is_said_of_every_seeds_task_is_said_once(tmp_path, monkeypatch, caplog):
    def build(config):
        logging.getLogger("nets_deap").warning("slow here")
        return build_task(config)

    monkeypatch.setattr(module, "build_task", build)
    compare(CONFIG, tmp_path / "c", **{**CHEAP, "seeds": [0, 1], "methods": ["erk"]})
    assert caplog.messages.count("slow here") == 1
    logging.getLogger("nets_deap").warning("slow here")
    assert caplog.messages.count("slow here") == 2  # of others nothing is kept back
