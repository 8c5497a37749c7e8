"""A real notebook kernel that is interrupted: population, front and folder stay usable."""

import time

import pytest

pytestmark = pytest.mark.extra

pytest.importorskip("ipykernel", reason="a notebook kernel needs ipykernel")
manager = pytest.importorskip("jupyter_client", reason="a notebook kernel needs jupyter_client")

SETUP = """
import os; os.environ["OMP_NUM_THREADS"] = "1"
from deap import algorithms
import nets_deap as nets
path = {path!r}
recipe = nets.Recipe(lr=0.05, batch_size=4, steps=300, loss="binary_cross_entropy")
def begin(name, ngen):
    import random; random.seed(1)
    task = nets.tasks.xor(hidden=10, recipe=recipe)
    toolbox = nets.make_toolbox(task, inherit="none")
    recorder = nets.Recorder(f"{{path}}/{{name}}", task=task, generations=ngen, progress="none")
    return task, toolbox, toolbox.population(n=8), recorder
def go(toolbox, population, recorder, ngen):
    algorithms.eaMuPlusLambda(population, toolbox, 8, 8, 0.2, 0.8, ngen, stats=recorder,
                              halloffame=recorder.front, verbose=False)
task, toolbox, population, recorder = begin("cut", 10**4)
"""
AFTER = """
assert all(ticket.fitness.valid for ticket in population)
assert len(recorder.front) >= 1
reached = recorder.generation
assert reached >= 1
run = nets.resume(f"{path}/cut", task=task, generations=reached + 3, progress="none")
assert run.generation <= reached
go(toolbox, run.population, run.recorder, run.remaining)
task, toolbox, population, recorder = begin("whole", reached + 3)
go(toolbox, population, recorder, reached + 3)
files = [open(f"{path}/{name}/front.csv", "rb").read() for name in ("cut", "whole")]
assert files[0] == files[1]
print("as if nothing had happened")
"""


class Kernel:
    """A kernel, and what its cells answer."""

    def __init__(self):
        self.manager = manager.KernelManager(kernel_name="python3")
        self.manager.start_kernel()
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code, interrupt=lambda: False):
        """Run a cell; return what it printed or raised."""
        cell, out = self.client.execute(code), []
        while interrupt():
            time.sleep(0.05)
        if interrupt.__name__ != "<lambda>":
            self.manager.interrupt_kernel()
        while True:
            message = self.client.get_iopub_msg(timeout=120)
            if message["parent_header"].get("msg_id") != cell:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                out.append(content["text"])
            elif kind == "error":
                out.append(f"{content['ename']}: {content['evalue']}")
            elif kind == "status" and content["execution_state"] == "idle":
                return "".join(out)


@pytest.fixture
def kernel():
    found = Kernel()
    yield found
    found.client.stop_channels()
    found.manager.shutdown_kernel(now=True)
    found.manager.cleanup_resources()


@pytest.mark.slow
def test_an_interrupted_cell_leaves_everything_usable(tmp_path, kernel):
    log = tmp_path / "cut" / "log.jsonl"

    def early():
        return not log.exists() or log.read_text().count("\n") < 3

    assert kernel.run(SETUP.format(path=str(tmp_path))) == ""
    answer = kernel.run("go(toolbox, population, recorder, 10**4)", interrupt=early)
    assert answer.startswith("KeyboardInterrupt")
    assert kernel.run(AFTER) == "as if nothing had happened\n"
