import csv
import json
import random

import pytest
from deap import algorithms, base, creator, tools

import nets_deap as nets
from nets_deap.errors import InvalidTypeError, InvalidValueError
from nets_deap.evolution.fronts import costs_of, hypervolume


def read_csv(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def evolve(task, recorder, ngen=3, n=8, toolbox=None):
    random.seed(7)
    toolbox = toolbox or nets.make_toolbox(task)
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
    toolbox = nets.make_toolbox(xor_task, objectives=("val_accuracy", "density"))
    recorder = nets.Recorder(task=xor_task, progress="none")
    evolve(xor_task, recorder, ngen=2, toolbox=toolbox)
    assert 0 < recorder.logbook[-1]["hypervolume"] <= 1


def test_a_fitness_without_names_gets_made_up_ones_and_a_reference(xor_task):
    creator.create("PlainFitness", base.Fitness, weights=(-1.0, -2.0))
    try:
        toolbox = nets.make_toolbox(xor_task)
        make = toolbox.population.func

        def population(n):
            tickets = make(n)
            for ticket in tickets:
                ticket.fitness = creator.PlainFitness()
            return tickets

        toolbox.register("population", population)
        recorder = nets.Recorder(task=xor_task, progress="none")
        evolve(xor_task, recorder, ngen=1, toolbox=toolbox)
        assert "objective_1_min" in recorder.logbook[0]
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
    toolbox = nets.make_toolbox(xor_task)
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
    toolbox = nets.make_toolbox(xor_task)
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
    toolbox = nets.make_toolbox(xor_task)
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
    toolbox = nets.make_toolbox(xor_task, objectives=("val_loss", objective))
    recorder = nets.Recorder(tmp_path, task=xor_task, progress="none")
    with pytest.raises(nets.SearchStopped, match=r"of this generation diverged.*recipe\.lr"):
        evolve(xor_task, recorder, toolbox=toolbox)
    assert recorder.logbook[0]["diverged"] == recorder.logbook[0]["evaluations"]
    recorder.close()


def test_a_few_diverged_ones_are_counted_and_the_front_is_clean(xor_task):
    objective = nets.Objective(
        "odd", "min", 1e6, lambda m: float("nan") if m.ticket[0] else m.ticket.density, 1.0
    )
    toolbox = nets.make_toolbox(xor_task, objectives=("val_loss", objective))
    recorder = nets.Recorder(task=xor_task, progress="none")
    population = toolbox.population(n=9)
    for i, ticket in enumerate(population):
        ticket[0] = i < 4
    for ticket, values in zip(population, toolbox.map(toolbox.evaluate, population), strict=True):
        ticket.fitness.values = values
    row = recorder.compile(population)
    assert row["diverged"] == 4
    assert all(t.fitness.values[1] <= 1 for t in recorder.front)
