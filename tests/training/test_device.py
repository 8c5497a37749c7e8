"""Devices, random states and numbers of threads, which belong to the whole process."""

import json
import os
import subprocess
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from support.networks import make_task
from torch import nn

import nets_deap as nets
from nets_deap import baselines, models
from nets_deap.experiments.presets import preset
from nets_deap.training import device as device_module
from nets_deap.training.device import memory_of, pick_device, threads_allowed, threads_limited
from nets_deap.training.engines.chunk import fitting
from nets_deap.training.workers import ray_worker


def number_in_new_thread():
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


@pytest.mark.usefixtures("_two_threads")
def test_a_thread_that_begins_meanwhile_does_not_leave_the_lower_number_behind():
    inside, leave = threading.Event(), threading.Event()

    def second():
        with threads_limited(1):
            inside.set()
            leave.wait(20)
        return threads_allowed()

    with ThreadPoolExecutor(1) as pool:
        with threads_limited(1):
            waiting = pool.submit(second)
            assert inside.wait(20)
        leave.set()
        assert waiting.result() == 2
    assert torch.get_num_threads() == number_in_new_thread() == 2


@pytest.mark.usefixtures("_two_threads")
def test_several_devices_leave_the_number_of_threads_as_it_was():
    task = make_task("mlp", nets.Recipe(), device=["cpu", "cpu"])
    task.train_all([task.dense_ticket(), task.dense_ticket()], steps=2)
    assert torch.get_num_threads() == number_in_new_thread() == 2


DEVICES = (torch.device("cpu"), [torch.device("cpu")], ("cpu", torch.device("cpu")))


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_devices_are_taken_as_torch_names_them(device):
    task = nets.tasks.xor(hidden=2, device=device)
    assert task.as_dict()["device"] == "cpu"
    config = preset("xor-mlp10").override({"task.device": DEVICES[0]})
    assert json.dumps(config.task.device) == '"cpu"'


@pytest.mark.parametrize("device", [3.5, None, ["cpu", None]])
def test_what_is_no_device_is_refused(device):
    with pytest.raises(TypeError, match="device must be a device: expected a name or a torch"):
        nets.tasks.xor(hidden=2, device=device)


def search(seed, **more):
    task = nets.tasks.xor(hidden=2)
    options = {"population": 2, "generations": 0, "budget": 2, "progress": "none", **more}
    return nets.search(task, seed=seed, **options, inherit="none").population[0].packed.tolist()


SEEDED = {
    "task": lambda seed: json.dumps(make_task("mlp", nets.Recipe(), seed=seed).origin()["seed"]),
    "ready task": lambda seed: json.dumps(nets.tasks.xor(hidden=2, seed=seed).origin()),
    "model": lambda seed: models.lenet5(seed=seed)[0].bias.sum().item(),
    "search": search,
    "island": lambda seed: search(0, islands=[nets.Island(seed=seed)]),
    "baseline": lambda seed: baselines.snip(nets.tasks.xor(), 0.5, seed=seed).levels[0].ticket.kept,
    "configuration": lambda seed: json.dumps(preset("quickstart").override({"seed": seed}).seed),
}


@pytest.mark.parametrize("entry", SEEDED)
def test_seeds_of_any_size_and_of_numpy_are_taken_and_others_refused(entry):
    draw = SEEDED[entry]
    for seed in (2**63, 2**64 + 5, np.uint64(2**63)):
        if entry in ("ready task", "model"):  # torch draws the weights, from a generator's own seed
            with pytest.raises(ValueError, match=r"seed must be in range: expected an int in \[0"):
                draw(seed)
        else:
            assert draw(seed) is not None
    assert draw(np.int64(7)) == draw(7)
    for seed, message in ((-1, "seed must be in range"), (1.5, "seed must be a whole number")):
        with pytest.raises((ValueError, TypeError), match=message):
            draw(seed)


def test_operators_refuse_a_seed_for_a_generator():
    ticket = nets.tasks.xor(hidden=2).dense_ticket()
    with pytest.raises(TypeError, match=r"rng must be a generator: .*default_rng\(seed\)"):
        nets.operators.mut_flip(ticket, indpb=0.1, rng=3)


class Noisy(nn.Module):
    """Draws from torch's global generator while it trains."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        hidden = self.first(x)
        return self.last(hidden + torch.randn_like(hidden) if self.training else hidden)


def test_searches_and_trainings_in_threads_give_what_each_gives_alone():
    """And leave all settings of the process as they were."""
    recipe = nets.Recipe(lr=0.01)
    made = [
        make_task("transformer", recipe, torch.float32),
        make_task("dropout", recipe, torch.float64),
        make_task("mlp", recipe, model=Noisy(), engine="loop"),
        make_task("mlp", recipe, augment=lambda x: x + torch.randn_like(x), engine="loop"),
    ]

    def search(seed):
        result = nets.search(
            made[seed % 4],
            population=3,
            generations=1,
            seed=seed,
            budget=60,
            progress="none",
            inherit="none",
        )
        return [ticket.fitness.values for ticket in result.population]

    def train(seed):
        task = made[seed % 4]
        return task.train(task.dense_ticket(), steps=6, seed=seed).val_loss

    def settings():
        backends = torch.backends
        return (
            backends.mha.get_fastpath_enabled(),
            backends.cuda.flash_sdp_enabled(),
            backends.cuda.mem_efficient_sdp_enabled(),
            nn.functional.dropout,
            torch.get_default_dtype(),
            torch.get_num_threads(),
            number_in_new_thread(),
            torch.get_rng_state().sum().item(),
        )

    alone = [work(seed) for seed in range(4) for work in (search, train)]
    before = settings()
    with ThreadPoolExecutor(5) as pool:
        futures = [pool.submit(work, seed) for seed in range(4) for work in (search, train)]
        assert [future.result() for future in futures] == alone
    assert settings() == before


FORKING = """
import multiprocessing, sys
import numpy as np, torch
from torch import nn
import nets_deap as nets

torch.set_num_threads(2)
torch.manual_seed(0)
x, y = torch.randn(80, 700), torch.arange(80) % 10
model = nn.Sequential(nn.Linear(700, 300), nn.ReLU(), nn.Linear(300, 10))
recipe = nets.Recipe(batch_size=20, steps=3)
engines = sys.argv[1:]
tasks = [nets.Task(model, train=(x, y), recipe=recipe, device="cpu", engine=e) for e in engines]

def work(i):
    return tasks[i].train(tasks[i].dense_ticket()).val_loss

alone = [work(i) for i in range(len(tasks))]
with multiprocessing.get_context("fork").Pool(2) as pool:
    np.testing.assert_allclose(pool.map(work, range(len(tasks))), alone, rtol=1e-5)
assert torch.get_num_threads() == 2
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs forked processes")
@pytest.mark.parametrize(
    "engines",
    [["batched", "loop"], pytest.param(["vmap", "compiled"], marks=pytest.mark.slow)],
    ids=" and ".join,
)
def test_children_forked_after_training_train_too(engines):
    """They would wait for ever for threads that stayed in the parent process."""
    subprocess.run([sys.executable, "-c", FORKING, *engines], check=True, timeout=120)


# ---- GPUs, without one


def test_tests_that_do_not_ask_for_a_gpu_see_none():
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""


def test_a_gpu_without_a_number_is_the_one_that_is_current_now(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    for name in ("auto", "cuda", torch.device("cuda"), "cuda:1"):
        assert pick_device(name) == torch.device("cuda", 1)
    assert pick_device("cuda:0") == torch.device("cuda", 0)


def test_a_worker_with_a_share_of_a_gpu_takes_that_share_of_its_memory(monkeypatch):
    gpu, told = torch.device("cuda", 0), []
    like = types.SimpleNamespace(total_memory=1000)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: like)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda *how: told.append(how)
    )
    monkeypatch.setattr(device_module, "_shares", {})
    monkeypatch.setattr(ray_worker, "pick_device", lambda name: gpu)
    monkeypatch.setattr(ray_worker.signal, "signal", lambda *how: None)
    shared = types.SimpleNamespace(on=lambda device: device)
    assert ray_worker.Worker(shared, "cuda", 1).problem == gpu
    assert (memory_of(gpu), fitting(gpu, 10), told) == (1000, 40, [])
    ray_worker.Worker(shared, "cuda", 1, 0.25)
    assert (memory_of(gpu), fitting(gpu, 10), told) == (250, 10, [(0.25, gpu)])
