"""Batch scripts for SLURM: filled in right, and run on a real cluster of two nodes."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.cluster import Cluster, missing
from support.running import left_by, start

from nets_deap.cli import main
from nets_deap.cli.slurm import KINDS, job
from nets_deap.errors import NetsError

pytestmark = pytest.mark.extra

LONG = ["--set", "search.generations=600", "--set", "search.population=60"]
SHORT = ["--set", "recipe.steps=20", "--set", "final.steps=20", "--set", "final.members=1"]
SMALL = ["--set", "search.generations=2", "--set", "search.population=4", *SHORT]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    lacking = missing()
    if lacking:
        pytest.skip(f"needs SLURM: {', '.join(lacking)} not found (slurm-wlm and munge in Debian)")
    with Cluster(tmp_path_factory.mktemp("cluster"), Path(sys.executable).parent) as running:
        yield running


def submit(cluster, script, *options):
    file = cluster.folder / f"{time.monotonic_ns()}.sh"
    file.write_text(script)
    return cluster.run("sbatch", "--parsable", *options, file).strip()


def log_of(cluster, name):
    return "".join(p.read_text() for p in sorted(cluster.folder.glob(f"{name}*.log")))


@pytest.mark.parametrize("kind", KINDS)
def test_scripts_are_valid_bash_with_everything_filled_in(kind):
    script = job(kind, "xor-mlp10", gpus=2, out="a folder", settings=["--set", "x=(1, 2)"])
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert "#SBATCH --gpus-per-node=2\n" in script
    assert "'a folder'" in script
    assert "'x=(1, 2)'" in script
    assert "#SBATCH --gpus" not in job(kind, "xor-mlp10")
    if shutil.which("shellcheck"):
        done = subprocess.run(
            ["shellcheck", "-"], input=script, text=True, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "arrays"}, r"kind must be a known name.*did you mean 'array'|kind must"),
        ({"preset": "x; rm -r /"}, "preset must be one word"),
        ({"time": "2 hours"}, "time must be one word.*HOURS"),
        ({"memory": "8G\n#SBATCH --uid=0"}, "memory must be one word"),
        ({"nodes": 2}, "nodes must be left out"),
        ({"kind": "ray", "seeds": 3}, "seeds must be left out"),
        ({"cpus": 0}, "cpus must be"),
        ({"out": ""}, "out must be a folder"),
        ({"out": "--x"}, "out must be a folder"),
    ],
)
def test_what_no_script_can_say_is_refused(options, message):
    with pytest.raises(NetsError, match=message):
        job(**{"kind": "array", "preset": "xor-mlp10", **options})


def test_the_command_prints_a_script_and_refuses_unknown_fields(capsys):
    assert main.main(["slurm", "array", "xor-mlp10", "--seeds", "3", *SHORT]) == 0
    printed = capsys.readouterr().out
    assert "#SBATCH --array=0-2\n" in printed
    assert "--set recipe.steps=20" in printed
    assert main.main(["slurm", "array", "xor-mlp10", "--set", "recipe.step=20"]) == 2
    assert "recipe.steps" in capsys.readouterr().err


@pytest.mark.slow
def test_an_array_is_warned_queues_again_and_ends_as_if_undisturbed(cluster, tmp_path):
    whole = [
        start("run", "xor-mlp10", "--seed", s, "--out", tmp_path / f"xor-mlp10-seed{s}",
              "--progress", "none", *LONG, *SHORT)
        for s in (0, 1)
    ]  # fmt: skip
    for process in whole:
        assert process.communicate()[1] == ""
    script = job("array", "xor-mlp10", seeds=2, time="1", warning=50, cpus=1, memory="1G",
                 settings=[*LONG, *SHORT])  # fmt: skip
    number = submit(cluster, script)
    end, warned = time.monotonic() + 900, set()
    while set((states := cluster.parts(number)).values()) != {"COMPLETED"}:
        assert time.monotonic() < end, (states, log_of(cluster, "xor-mlp10"))
        assert not set(states.values()) & {"FAILED", "TIMEOUT", "CANCELLED"}, log_of(
            cluster, "xor-mlp10"
        )
        for part, state in states.items():
            if state == "PENDING" and part not in warned and cluster.restarts(part):
                warned.add(part)
                cluster.start_soon(part)
        time.sleep(1)
    said = log_of(cluster, "xor-mlp10")
    assert warned, "the runs ended before SLURM warned them"
    assert "nets-deap resume" in said
    assert said.count("exit code 138") >= len(warned)
    for seed in (0, 1):
        name = f"xor-mlp10-seed{seed}"
        assert left_by(cluster.folder / "runs" / name) == left_by(tmp_path / name)


@pytest.mark.slow
def test_compare_over_an_array_is_summed_up_by_a_job_that_depends_on_it(cluster):
    methods = ["--methods", "evolution,imp", "--densities", "0.5", "--budget", "800"]
    script = job("compare", "xor-mlp10", seeds=2, cpus=1, memory="1G", time="9",
                 settings=[*SMALL, *methods])  # fmt: skip
    number = submit(cluster, script)
    table = submit(
        cluster, script, f"--dependency=afterok:{number}", "--array=0", "--export=ALL,TABLE=yes"
    )
    cluster.wait(table, 300)
    said = log_of(cluster, "compare")
    assert set(cluster.parts(table).values()) == {"COMPLETED"}, said
    folder = cluster.folder / "runs" / "compare-xor-mlp10"
    assert {p.name.partition("-")[0] for p in (folder / "results").iterdir()} == {"seed0", "seed1"}
    assert "evolution" in (folder / "summary.txt").read_text()


def page_script():
    text = (Path(__file__).parent.parent.parent / ".docs" / "how-to" / "clusters.md").read_text()
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.S))


INTERRUPTED = """
import os, signal, time
import numpy as np
job = executor.submit(Search(1))
while not Path("runs/seed1/checkpoints").is_dir():
    time.sleep(0.05)
pid = int(job.job_id)
(task,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
os.kill(int(task), signal.SIGUSR2)  # as submitit has SLURM do it
again = job.result()
assert (Path("runs") / "seed1" / "log.jsonl").read_text().count("\\n") == 41
np.testing.assert_array_equal(
    [(d, *v) for d, v in again], [(d, *v) for d, v in Search(1, "whole")()]
)
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["slurm", "local"])
def test_the_recipe_for_submitit_runs_and_goes_on(where, tmp_path, request):
    pytest.importorskip("submitit")
    script, folder, environment = page_script(), tmp_path, {**os.environ, "OMP_NUM_THREADS": "1"}
    if where == "slurm":
        cluster = request.getfixturevalue("cluster")
        folder, environment = cluster.folder, cluster.environment
    else:
        script = script.partition("jobs = [")[0]
        script = script.replace('AutoExecutor("jobs")', 'AutoExecutor("jobs", cluster="local")')
        script = script.replace("def __init__(self, seed)", "def __init__(self, seed, to='runs')")
        script = script.replace("self.seed = seed\n", "self.seed, self.to = seed, to\n", 1)
        script = script.replace('Path("runs") / f', "Path(self.to) / f") + INTERRUPTED
    (folder / "recipe.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "recipe.py"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    logs = "".join(p.read_text() for p in (folder / "jobs").glob("*.err"))
    assert done.returncode == 0, done.stderr + logs
    if where == "local":
        assert "Caught signal" in logs + "".join(
            p.read_text() for p in (folder / "jobs").glob("*.out")
        )
    else:
        assert sum(line.isdigit() for line in done.stdout.splitlines()) == 2, done.stdout
        assert len(list((folder / "jobs").glob("*_submission.sh"))) == 2


@pytest.mark.slow
def test_one_run_over_two_nodes_through_ray_is_that_of_one_process(cluster, tmp_path):
    pytest.importorskip("ray")
    settings = [*SMALL, "--set", "task.dtype=float64"]
    whole = start("run", "xor-mlp10", "--out", tmp_path / "whole", "--progress", "none", *settings)
    assert whole.communicate()[1] == ""
    script = job("ray", "xor-mlp10", cpus=1, memory="1G", time="9", settings=settings)
    number = submit(cluster, script)
    cluster.wait(number, 300)
    said = log_of(cluster, "xor-mlp10-ray")
    assert set(cluster.parts(number).values()) == {"COMPLETED"}, said
    there = cluster.folder / "runs" / "xor-mlp10-seed0-ray"
    assert (there / "front.csv").read_text() == (tmp_path / "whole" / "front.csv").read_text()
    assert "2 of 2 nodes have joined Ray." in said
