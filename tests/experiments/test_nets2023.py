"""The experiment of 2023: its fitness trains, selects low losses, and presses on density."""

import random
from dataclasses import replace

import numpy as np
import pytest
from deap import algorithms

import nets_deap as nets
from nets_deap.errors import InvalidValueError
from nets_deap.experiments.config import SearchConfig
from nets_deap.experiments.nets2023 import SELECTIONS, search_options, toolbox_2023
from nets_deap.tickets.genome import Genome

SIZE = {"population": 5, "offspring": 5, "cxpb": 0.3, "mutpb": 0.7, "progress": "none"}


def test_the_first_population_holds_five_different_genomes(xor_task):
    random.seed(3)
    first = toolbox_2023(xor_task, first_density=(0.3, 0.9)).population(n=5)
    assert all(type(genome) is Genome for genome in first)
    assert len({genome.digest for genome in first}) == 5
    assert len({id(genome.fitness) for genome in first}) == 5


def test_every_fitness_comes_from_training_and_from_global_density(xor_task):
    box = toolbox_2023(xor_task, target_density=0.5)
    genomes, before = [box.individual() for _ in range(3)], xor_task.ledger.network_steps
    genomes[1].mask = [1] * xor_task.layout.size
    genomes[2].mask = [1] * 11 + [0]
    values = list(box.map(box.evaluate, genomes))
    assert xor_task.ledger.network_steps - before == 3 * xor_task.steps
    for genome, (value,) in zip(genomes, values, strict=True):
        trained = genome.trained
        assert trained.steps == xor_task.steps
        excess = (genome.kept / xor_task.layout.size - 0.5) / 0.5
        assert value == pytest.approx(trained.metrics["val_loss"] + excess**2)


@pytest.mark.parametrize("select", SELECTIONS)
def test_low_fitness_is_selected_more_often_and_the_best_always(xor_task, select):
    box = toolbox_2023(xor_task, select=select, elite=1)
    genomes = box.population(n=3)
    for genome, value in zip(genomes, (0.9, 0.1, 0.5), strict=True):
        genome.fitness.values = (value,)
    counts = np.zeros(3)
    for _ in range(300):
        chosen = [next(i for i in range(3) if g is genomes[i]) for g in box.select(genomes, 4)]
        assert chosen[0] == 1
        counts += np.bincount(chosen[1:], minlength=3)
    assert counts[1] > counts[2] > counts[0]


@pytest.mark.parametrize("select", SELECTIONS)
def test_a_search_presses_towards_the_target_and_never_loses_its_best(xor_task, select):
    box = toolbox_2023(xor_task, target_density=0.4, first_density=1.0, select=select)
    result = nets.search(xor_task, toolbox=box, generations=12, seed=1, **SIZE)
    best = result.front[0]
    least = min(genome.fitness.values[0] for genome in result.population)
    assert best.fitness.values[0] == least
    assert best.density < 0.8
    assert len(result.population) == 5
    assert all(genome.trained.steps == xor_task.steps for genome in result.population)


def test_zero_generations_give_the_first_population(xor_task):
    result = nets.search(xor_task, toolbox=toolbox_2023(xor_task), generations=0, **SIZE)
    assert len(result.population) == 5
    assert all(genome.fitness.valid for genome in result.population)
    assert len(result.logbook) == 1


def test_equal_seeds_give_equal_searches(xor_task):
    def run(seed):
        result = nets.search(
            xor_task, toolbox=toolbox_2023(xor_task), generations=4, seed=seed, **SIZE
        )
        return [genome.digest for genome in result.population]

    assert run(4) == run(4) != run(5)


def test_stock_algorithms_evolve_weights_too(xor_task):
    box = toolbox_2023(xor_task, sigma=1.0, resample=0.5)
    population, _ = algorithms.eaSimple(box.population(n=8), box, 0.5, 0.9, 4, verbose=False)
    initial = xor_task.layout.initial
    assert any(not np.array_equal(genome.weights, initial) for genome in population)


def test_a_run_folder_holds_the_best_genome_with_its_weights(xor_task, tmp_path):
    box = toolbox_2023(xor_task)
    result = nets.search(xor_task, toolbox=box, generations=2, path=tmp_path / "run", **SIZE)
    files = list((tmp_path / "run" / "tickets").iterdir())
    assert len(files) == len(result.front)
    back = Genome.load(files[0], layout=xor_task.layout)
    assert any(back == genome for genome in result.front)
    assert files[0].name.startswith(back.digest[:16])


def test_a_configuration_gives_the_arguments_of_a_search(xor_task):
    config = SearchConfig(
        population=5, generations=1, cxpb=0.3, mutpb=0.7, objectives=("penalised:0.35",), flips=1.0
    )
    options = search_options(xor_task, config, select="roulette")
    result = nets.search(xor_task, **options, progress="none")
    assert len(result.population) == 5
    genome = result.population[0]
    value = genome.trained.metrics["val_loss"] + ((genome.density - 0.35) / 0.65) ** 2
    assert genome.fitness.values[0] == pytest.approx(value)
    for objectives in (("val_loss", "density"), ("penalised:0.2", "density")):
        with pytest.raises(InvalidValueError, match="be the penalised one alone"):
            search_options(xor_task, replace(config, objectives=objectives))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"target_density": 1.0}, "target_density must be in range"),
        ({"first_density": 0.0}, r"density\[0\] must be a density"),
        ({"select": "rulette"}, r"select must be a known name.*Did you mean 'roulette'"),
        ({"elite": -1}, "elite must be in range"),
        ({"prune": (0.4, 0.1)}, "prune must be ordered"),
        ({"flips": 1.5}, "flips must be in range"),
        ({"sigma": -0.1}, "sigma must be in range"),
        ({"resample": 2.0}, "resample must be in range"),
    ],
)
def test_bad_options(xor_task, options, text):
    with pytest.raises(InvalidValueError, match=text):
        toolbox_2023(xor_task, **options)
