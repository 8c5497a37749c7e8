import csv
import json
import math
import random
import re
import time

import pytest
from deap import algorithms, base, creator, tools
from matplotlib.figure import Figure

import nets_deap as nets
from nets_deap.errors import CallOrderError, InvalidTypeError, InvalidValueError
from nets_deap.evolution.evaluator import Evaluator
from nets_deap.evolution.fronts import costs_of, hypervolume
from nets_deap.plots.kinds import KINDS, render_all
from nets_deap.plots.report import report
from nets_deap.runs.status import status


def read_csv(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def evolve(task, recorder, ngen=3, n=8, toolbox=None):
    random.seed(7)
    toolbox = toolbox or nets.make_toolbox(task, inherit="none")
    population = toolbox.population(n=n)
    result = algorithms.eaMuPlusLambda(
        population, toolbox, n, n, 0.3, 0.7, ngen, stats=recorder, verbose=False
    )
    return *result, population


def test_the_run_folder_is_complete_after_a_stock_algorithm(xor_task, tmp_path):
    recorder = nets.Recorder(tmp_path / "run", task=xor_task, progress="none")
    evolve(xor_task, recorder)
    recorder.close()
    files = sorted(p.name for p in (tmp_path / "run").iterdir())
    expected = ["checkpoints", "config.json", "front.csv", "history.jsonl"]
    assert files == [*expected, "log.csv", "log.jsonl", "tickets"]
    rows = [json.loads(x) for x in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["generation"] for row in rows] == [0, 1, 2, 3]
    assert len(read_csv(tmp_path / "run" / "log.csv")) == 4
    front = read_csv(tmp_path / "run" / "front.csv")
    assert len(front) == len(recorder.front)
    saved = {p.stem for p in (tmp_path / "run" / "tickets").iterdir()}
    assert saved == {row["ticket"] for row in front} == {t.digest[:16] for t in recorder.front}


def test_rows_hold_what_was_spent_and_the_spread_of_each_objective(xor_task, tmp_path):
    before = xor_task.ledger.network_steps, xor_task.ledger.networks
    recorder = nets.Recorder(task=xor_task, progress="none")
    population, log, _ = evolve(xor_task, recorder)
    last = recorder.logbook[-1]
    assert last["network_steps"] == xor_task.ledger.network_steps - before[0] > 0
    assert last["evaluations"] == xor_task.ledger.networks - before[1]
    assert last["network_steps"] == 30 * last["evaluations"]
    losses = [t.fitness.values[0] for t in population]
    assert last["val_loss_min"] == min(losses)
    assert last["val_loss_max"] == max(losses)
    assert last["val_loss_mean"] == pytest.approx(sum(losses) / len(losses))
    assert log.select("hypervolume") == recorder.logbook.select("hypervolume")


def test_hypervolume_uses_one_fixed_reference_and_never_falls(xor_task, tmp_path):
    recorder = nets.Recorder(tmp_path / "r", task=xor_task, progress="none")
    evolve(xor_task, recorder, ngen=5)
    volumes = recorder.logbook.select("hypervolume")
    assert volumes == sorted(volumes)
    reference = json.loads((tmp_path / "r" / "config.json").read_text())["hypervolume_reference"]
    assert reference == {"val_loss": pytest.approx(0.6931, abs=1e-4), "density": 1.0}
    expected = hypervolume(costs_of(recorder.front), list(reference.values()))
    assert volumes[-1] == pytest.approx(expected)


def test_a_reference_of_the_users_own(xor_task):
    recorder = nets.Recorder(task=xor_task, progress="none", reference=(2.0, 1.0))
    evolve(xor_task, recorder, ngen=0)
    expected = hypervolume(costs_of(recorder.front), (2.0, 1.0))
    assert recorder.logbook[0]["hypervolume"] == pytest.approx(expected)


def test_a_maximised_objective_counts_the_right_way(xor_task):
    toolbox = nets.make_toolbox(xor_task, objectives=("val_accuracy", "density"), inherit="none")
    recorder = nets.Recorder(task=xor_task, progress="none")
    evolve(xor_task, recorder, ngen=2, toolbox=toolbox)
    assert 0 < recorder.logbook[-1]["hypervolume"] <= 1


def test_a_fitness_without_names_gets_the_evaluators_and_a_reference(xor_task):
    creator.create("PlainFitness", base.Fitness, weights=(-1.0, -2.0))
    try:
        toolbox = nets.make_toolbox(xor_task, inherit="none")
        make = toolbox.population

        def population(n):
            tickets = make(n)
            for ticket in tickets:
                ticket.fitness = creator.PlainFitness()
            return tickets

        toolbox.register("population", population)
        recorder = nets.Recorder(task=xor_task, progress="none")
        evolve(xor_task, recorder, ngen=1, toolbox=toolbox)
        assert {"val_loss_min", "density_min"} <= set(recorder.logbook[0])
        assert recorder.logbook[-1]["hypervolume"] >= recorder.logbook[0]["hypervolume"] >= 0
    finally:
        del creator.PlainFitness


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"max_steps": 1}, "steps x networks are spent"),
        ({"max_seconds": 1e-9}, "seconds are spent"),
        ({"patience": 1, "reference": (1e-9, 1e-9)}, "no larger hypervolume for 1 generations"),
    ],
)
def test_limits_stop_a_stock_algorithm_and_lose_nothing(xor_task, tmp_path, limit, reason):
    recorder = nets.Recorder(tmp_path / "r", task=xor_task, progress="none", **limit)
    with pytest.raises(nets.SearchStopped, match=reason) as caught:
        evolve(xor_task, recorder, ngen=50)
    assert len(caught.value.logbook) == recorder.generation + 1 <= 2
    assert all(t.fitness.valid for t in caught.value.population)
    assert (tmp_path / "r" / "front.csv").exists()


def test_without_a_path_nothing_is_written(xor_task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evolve(xor_task, nets.Recorder(task=xor_task, progress="none"), ngen=1)
    assert list(tmp_path.iterdir()) == []


def test_config_tells_everything_needed_to_repeat(xor_task, tmp_path):
    nets.Recorder(tmp_path / "r", task=xor_task, progress="none", config={"note": 1})
    config = json.loads((tmp_path / "r" / "config.json").read_text())
    assert config["task"]["recipe"]["lr"] == 0.05
    assert config["task"]["fingerprint"] == xor_task.fingerprint
    assert {"nets_deap", "torch", "deap", "python"} <= set(config["versions"])
    assert config["note"] == 1


def test_works_beside_users_who_look_at_the_header(xor_task, capsys):
    random.seed(7)
    toolbox = nets.make_toolbox(xor_task, inherit="none")
    recorder = nets.Recorder(task=xor_task, progress="none")
    algorithms.eaSimple(toolbox.population(n=4), toolbox, 0.3, 0.7, 1, stats=recorder)
    assert "hypervolume" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"patience": 0}, "patience must be in range"),
        ({"max_steps": -1}, "max_steps must be in range"),
        ({"max_seconds": 0}, "max_seconds must be in range"),
        ({"progress": "bars"}, "Did you mean 'bar'"),
        ({"reference": (1.0,)}, "reference must have the right length: expected M = 2"),
    ],
)
def test_bad_arguments(xor_task, options, text):
    with pytest.raises(InvalidValueError, match=text):
        evolve(xor_task, nets.Recorder(task=xor_task, **{"progress": "none", **options}), ngen=0)


def test_a_task_is_needed():
    with pytest.raises(InvalidTypeError, match=r"task must be a task: expected a nets\.Task"):
        nets.Recorder(task="mnist")


def test_tools_statistics_still_work(xor_task):
    stats = tools.Statistics(lambda t: t.fitness.values[0])
    stats.register("min", min)
    _, log, population = evolve(xor_task, stats, ngen=1)
    assert log[-1]["min"] == min(t.fitness.values[0] for t in population)


def test_saved_tickets_agree_with_the_front_also_after_another_evaluation(xor_task, tmp_path):
    recorder = nets.Recorder(tmp_path, task=xor_task, progress="none")
    toolbox = nets.make_toolbox(xor_task, inherit="none")
    (ticket,) = toolbox.population(n=1)
    for values in ((0.5, ticket.density), (0.25, ticket.density)):
        ticket.fitness.values = values
        recorder.compile([ticket])
    (saved,) = (tmp_path / "tickets").iterdir()
    assert nets.Ticket.load(saved).fitness.values == (0.25, ticket.density)
    (row,) = read_csv(tmp_path / "front.csv")
    assert float(row["val_loss"]) == 0.25


def test_an_empty_population_is_refused(xor_task):
    with pytest.raises(InvalidValueError, match="population must have members"):
        nets.Recorder(task=xor_task, progress="none").compile([])


def test_a_diverged_member_shows_its_real_density(xor_task):
    recorder = nets.Recorder(task=xor_task, progress="none")
    toolbox = nets.make_toolbox(xor_task, inherit="none")
    (ticket,) = toolbox.population(n=1)
    ticket.mask = [i < 5 for i in range(len(ticket))]
    ticket.fitness.values = (1e6, 1.0)
    recorder.compile([ticket])
    from nets_deap.runs.storage.rows import front_rows

    assert front_rows(recorder.front)[0]["density"] == 5 / 12


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_more_than_half_of_a_generation_diverging_stops_with_advice(xor_task, tmp_path, bad):
    share = [0.0]
    objective = nets.Objective(
        "odd", "min", 1e6, lambda m: bad if m.ticket.kept / len(m.ticket) > share[0] else 0.5, 1.0
    )
    toolbox = nets.make_toolbox(xor_task, objectives=("val_loss", objective), inherit="none")
    recorder = nets.Recorder(tmp_path, task=xor_task, progress="none")
    with pytest.raises(nets.SearchStopped, match=r"of this generation diverged.*recipe\.lr"):
        evolve(xor_task, recorder, toolbox=toolbox)
    assert recorder.logbook[0]["diverged"] == recorder.logbook[0]["evaluations"]
    recorder.close()


def test_a_few_diverged_ones_are_counted_and_the_front_is_clean(xor_task):
    objective = nets.Objective(
        "odd", "min", 1e6, lambda m: float("nan") if m.ticket[0] else m.ticket.density, 1.0
    )
    toolbox = nets.make_toolbox(xor_task, objectives=("val_loss", objective), inherit="none")
    recorder = nets.Recorder(task=xor_task, progress="none")
    population = toolbox.population(n=9)
    for i, ticket in enumerate(population):
        ticket[0] = i < 4
    for ticket, values in zip(population, toolbox.map(toolbox.evaluate, population), strict=True):
        ticket.fitness.values = values
    row = recorder.compile(population)
    assert row["diverged"] == 4
    assert all(t.fitness.values[1] <= 1 for t in recorder.front)


def strange(value, share, toolbox):
    """Let a toolbox evaluate without training, and give some tickets a value of no number."""

    def evaluate(ticket):
        drawn = random.Random(ticket.digest).random()
        return (value if drawn < share else drawn, ticket.density)

    toolbox.register("evaluate", evaluate)
    return toolbox


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_run_whose_own_evaluation_gives_no_numbers_can_be_read(xor_task, tmp_path, caplog, value):
    path = tmp_path / "run"
    recorder = nets.Recorder(path, task=xor_task, progress="none", generations=3)
    toolbox = strange(value, 0.6, nets.make_toolbox(xor_task, inherit="none"))
    population, _, _ = evolve(xor_task, recorder, toolbox=toolbox)
    recorder.close()
    random.seed(7)
    first = toolbox.population(n=8)
    for ticket in first:
        ticket.fitness.values = toolbox.evaluate(ticket)
    good = [t for t in first if math.isfinite(t.fitness.values[0])]
    assert 0 < len(good) < 8
    row = recorder.logbook[0]
    assert row["diverged"] == 8 - len(good)
    assert f"{8 - len(good)} of 8 individuals have values that are not finite" in caplog.text
    losses = [t.fitness.values[0] for t in good]
    assert (row["val_loss_min"], row["val_loss_max"]) == (min(losses), max(losses))
    assert row["val_loss_mean"] == pytest.approx(sum(losses) / len(losses))
    expected = tools.ParetoFront()
    expected.update([t for t in population if math.isfinite(t.fitness.values[0])])
    assert {t.digest for t in expected} <= {t.digest for t in recorder.front}
    assert all(math.isfinite(t.fitness.values[0]) for t in recorder.front)
    strict = {"parse_constant": lambda name: pytest.fail(f"{name} is no JSON")}
    for name in ("log.jsonl", "history.jsonl"):
        for line in (path / name).read_text().splitlines():
            json.loads(line, **strict)
    history = recorder.history
    assert [len(one.population) + len(one.lost) for one in history] == [8] * 4
    assert [m.digest for m in history[0].population] == [t.digest[:16] for t in good]
    assert [m.digest for m in history[0].lost] == [t.digest[:16] for t in first if t not in good]
    assert len(nets.frames.front(path)) == len(recorder.front)
    assert nets.frames.log(path)["val_loss_min"].tolist()[0] == min(losses)
    assert "evaluations have diverged" in status(path).text()
    for kind in ("front", "fronts", "hypervolume", "layers-time", "genealogy"):
        KINDS[kind].draw(path, Figure().subplots())
    assert nets.knee(recorder.front).fitness.valid


def test_a_run_in_which_nothing_is_finite_ends_and_can_be_read(xor_task, tmp_path):
    recorder = nets.Recorder(tmp_path / "run", task=xor_task, progress="lines", generations=1)
    toolbox = strange(math.nan, 1.1, nets.make_toolbox(xor_task, inherit="none"))
    evolve(xor_task, recorder, ngen=1, toolbox=toolbox)
    recorder.close()
    assert not len(recorder.front)
    assert [row["hypervolume"] for row in recorder.logbook] == [0.0, 0.0]
    assert recorder.logbook[0]["val_loss_min"] is None
    drawn, left = render_all(tmp_path / "run")
    assert set(drawn) == {"hypervolume"}
    assert "front must have members" in left["front"]
    assert nets.frames.front(tmp_path / "run").empty
    assert report(tmp_path / "run")


def test_the_reference_is_fixed_by_who_is_finite(xor_task, tmp_path):
    creator.create("Plain", base.Fitness, weights=(-1.0, -1.0))
    tickets = [xor_task.ticket([1] * n + [0] * (12 - n)) for n in (3, 6, 9)]
    values = [(math.nan, 0.1), (2.0, 0.5), (1.0, 0.75)]
    try:
        for ticket, value in zip(tickets, values, strict=True):
            ticket.fitness = creator.Plain(value)
    finally:
        del creator.Plain
    recorder = nets.Recorder(task=xor_task, progress="none")
    recorder.compile(tickets[:1])
    assert recorder.reference is None
    recorder.compile(tickets)
    assert recorder.reference == [2.0, 0.75]
    assert recorder.facts["hypervolume_reference"] == {"objective_0": 2.0, "objective_1": 0.75}


def test_a_run_with_values_that_are_no_numbers_goes_on_as_it_was(xor_task, tmp_path):
    def all_of(path, cut):
        recorder = nets.Recorder(path, task=xor_task, progress="none", generations=4)
        evolve(xor_task, recorder, ngen=cut, toolbox=strange(math.nan, 0.7, toolbox()))
        recorder.close()

    def toolbox():
        return nets.make_toolbox(xor_task, inherit="none")

    all_of(tmp_path / "whole", 4)
    all_of(tmp_path / "cut", 2)
    run = nets.resume(tmp_path / "cut", task=xor_task)
    algorithms.eaMuPlusLambda(
        run.population, strange(math.nan, 0.7, toolbox()), 8, 8, 0.3, 0.7, 2,
        stats=run.recorder, verbose=False,
    )  # fmt: skip
    run.recorder.close()
    for name in ("history.jsonl", "front.csv"):
        assert (tmp_path / "cut" / name).read_text() == (tmp_path / "whole" / name).read_text()
    rows = [nets.frames.log(tmp_path / n)["diverged"].tolist() for n in ("cut", "whole")]
    assert rows[0] == rows[1]
    assert rows[0][0] > 0


# ---- a recorder for one run


@pytest.mark.parametrize("generations", [None, 3])
@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("kept", [True, False])
def test_a_second_run_is_refused_with_the_way(xor_task, tmp_path, generations, closed, kept):
    path = tmp_path / "run" if kept else None
    recorder = nets.Recorder(path, task=xor_task, progress="none", generations=generations)
    evolve(xor_task, recorder)
    if closed:
        recorder.close()
    before = None if path is None else {p: p.read_bytes() for p in path.rglob("*.*")}
    random.seed(11)
    toolbox = nets.make_toolbox(xor_task, inherit="none")
    with pytest.raises(CallOrderError, match=r"recorded 4 generations.*new nets.Recorder for each"):
        algorithms.eaMuPlusLambda(
            fresh(xor_task, toolbox, recorder), toolbox, 8, 8, 0.3, 0.7, 3, stats=recorder,
            verbose=False,
        )  # fmt: skip
    assert len(recorder.logbook) == 4
    assert before is None or before == {p: p.read_bytes() for p in path.rglob("*.*")}


def fresh(task, toolbox, recorder):
    """Return a first population with no mask of the last generation: the task is tiny."""
    last = {ticket.digest for ticket in recorder._last}
    found = [t for t in toolbox.population(n=60) if t.digest not in last]
    return found[:8]


def test_a_run_that_its_algorithm_goes_on_with_is_one(xor_task):
    recorder = nets.Recorder(task=xor_task, progress="none", generations=3)
    random.seed(7)
    toolbox = nets.make_toolbox(xor_task, inherit="none")
    population = toolbox.population(n=8)
    for _ in range(2):
        population, _ = algorithms.eaMuPlusLambda(
            population, toolbox, 8, 8, 0.3, 0.7, 3, stats=recorder, verbose=False
        )
    assert len(recorder.logbook) == 8


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("algorithm", ["comma", "simple"])
def test_generations_of_clones_are_no_other_run(xor_task, own, algorithm):
    recorder = nets.Recorder(task=xor_task, progress="none", generations=6)
    random.seed(7)
    toolbox = nets.make_toolbox(xor_task, objectives=("val_loss",) if algorithm == "simple" else
        ("val_loss", "density"), inherit="none")  # fmt: skip
    if own:
        toolbox.register("evaluate", lambda t: (1 - t.density, t.density)[: len(t.fitness.weights)])
    population = toolbox.population(n=8)
    if algorithm == "comma":
        algorithms.eaMuCommaLambda(
            population, toolbox, 8, 16, 0.0, 1.0, 6, stats=recorder, verbose=False
        )
    else:
        toolbox.register("select", tools.selTournament, tournsize=3)
        algorithms.eaSimple(population, toolbox, 0.5, 1.0, 6, stats=recorder, verbose=False)
    assert len(recorder.logbook) == 7


def test_a_limit_of_dense_steps_stops_an_algorithm(xor_task):
    found = nets.search(
        xor_task, population=4, generations=99, inherit="none", max_dense_steps=100,
        progress="none",
    )  # fmt: skip
    assert "of 100 dense steps are spent" in found.stopped
    rows = found.logbook.select("dense_steps")
    assert rows[-1] >= 100 > rows[-2]
    assert all(d <= s for d, s in zip(rows, found.logbook.select("network_steps"), strict=True))
    with pytest.raises(ValueError, match=r"max_dense_steps must be in range"):
        nets.Recorder(task=xor_task, max_dense_steps=0)


@pytest.mark.parametrize("searched", [False, True])
def test_the_time_of_a_descent_is_the_runs(xor_task, monkeypatch, capsys, searched):
    task, train, clock = xor_task, Evaluator.train, [0.0]

    def slow(self, *args, **options):
        clock[0] += 100.0
        return train(self, *args, **options)

    monkeypatch.setattr(Evaluator, "train", slow)
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + clock[0])
    if searched:
        log = nets.search(task, population=4, generations=0, progress="lines").logbook
        rounds = clock[0] / 100 - 1  # beside the front
    else:
        box = nets.make_toolbox(task)
        population = box.population(n=4)
        rounds = clock[0] / 100
        recorder = nets.Recorder(task=task, progress="lines", generations=0)
        algorithms.eaMuPlusLambda(population, box, 4, 4, 0.5, 0.5, 0, stats=recorder, verbose=False)
        log = recorder.logbook
    assert rounds > 1
    minutes = re.search(r"(\d+) (s|min), 0 s left", capsys.readouterr().err)
    shown = int(minutes[1]) * (60 if minutes[2] == "min" else 1)
    for seconds in (log[0]["seconds"], shown + 60):
        assert 100 * rounds <= seconds < 100 * (rounds + 2)
