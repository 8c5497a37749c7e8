"""Objectives of what is shipped, and the shipping of a run's networks."""

import pytest
import torch
from torch import nn

import nets_deap as nets
from nets_deap.cli.ship import _seconds
from nets_deap.errors import NetsError
from nets_deap.evolution import measures
from nets_deap.evolution.measured import Measured
from nets_deap.evolution.objectives import latency, resolve
from nets_deap.experiments import shipping
from nets_deap.experiments.shipping import ship
from nets_deap.models.compact.footprint import measure_latency


def task_of(**options):
    recipe = nets.Recipe(lr=0.05, batch_size=4, steps=20)
    loss = "binary_cross_entropy"
    return nets.tasks.xor(hidden=16, unit="neuron", recipe=recipe, loss=loss, **options)


def value(objective, task, gates):
    (one,) = resolve(objective)
    return one.measure(Measured(task.ticket(gates), {}, 0, task=task))


def test_parameters_and_activations_are_those_of_the_compact_network():
    task = task_of()
    dense, half = [1] * 16, [1] * 8 + [0] * 8
    assert value("parameters", task, dense) == 2 * 16 + 16 + 16 + 1
    assert value("parameters", task, half) == 2 * 8 + 8 + 8 + 1
    assert value("activation_memory", task, dense) == 4 * (16 + 16)
    assert value("activation_memory", task, half) == 4 * (8 + 8)


def test_latency_is_measured_and_says_of_what():
    task = task_of()
    assert 0 < value("latency:2", task, [1] * 8 + [0] * 8) < 1000
    assert resolve("latency:64")[0].name == "latency_64"
    other = latency(4, runtime="onnxruntime", threads=2)
    assert other.name == "latency_4_onnxruntime_threads_2"
    assert resolve("latency_onnxruntime:4")[0].name == "latency_4_onnxruntime"
    with pytest.raises(NetsError, match="batch must be"):
        latency(0.5)
    with pytest.raises(NetsError, match="runtime must be a known name"):
        latency(1, runtime="tflite")


def test_what_is_timed_on_the_cpu_is_there_whatever_the_default_device_is():
    task, x, net = task_of(), torch.randn(3, 4), nn.Linear(4, 2)
    with torch.device("meta"):  # as after torch.set_default_device("cuda")
        assert measures._rows(task.problem, 8).tolist() == task.problem.val[0][:8].tolist()
        assert shipping._batch(x, 7).tolist() == x[[0, 1, 2, 0, 1, 2, 0]].tolist()
        (seconds,) = measure_latency({"net": net}, x, batch_sizes=[7], repeats=1)["net"].values()
    assert seconds > 0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    task = task_of()
    nets.search(
        task, objectives=("val_loss", "multiply_adds"), population=4, generations=1, path=path,
        progress="none",
    )  # fmt: skip
    return path, task


def test_the_best_network_that_is_fast_enough_is_written(run, tmp_path):
    path, task = run
    found = ship(path, task, max_latency=10.0, to="torch", out=tmp_path / "a", repeats=2)
    assert found.path.exists()
    names = [version.name for version in found.versions]
    assert names[:2] == ["dense", "cut"]
    best = max(one.trained.val_accuracy for one in nets_of(path, task))
    assert found.network.trained.val_accuracy == best
    text = found.table()
    assert "multiply-adds" in text
    assert "one thread" in text
    with pytest.raises(NetsError, match="max_latency must be within reach: expected at least"):
        ship(path, task, max_latency=1e-9, to="torch", repeats=1)
    with pytest.raises(NetsError, match="speedup must be within reach: expected at most"):
        ship(path, task, speedup=1e6, to="torch", repeats=1)


def test_a_speedup_is_over_the_dense_network_at_every_size(run, monkeypatch):
    path, task = run
    networks = sorted(nets_of(path, task), key=lambda one: one.ticket.kept)
    assert len(networks) > 1

    def made_up(runners, inputs, **_):
        # Dense first: the others are twice as fast, at 64 the largest alone.
        times = [2.0, *(1.0 if len(inputs) == 1 or one is networks[-1] else 1.5 for one in order)]
        return dict(zip(runners, times, strict=True))

    order = nets_of(path, task)
    order = [next(n for n in networks if n.ticket.digest == one.ticket.digest) for one in order]
    monkeypatch.setattr("nets_deap.experiments.shipping.latencies", made_up)
    monkeypatch.setattr(shipping._Writer, "ship", lambda self, chosen, *rest: chosen)
    found = ship(path, task, speedup=2, to="torch", batches=(1, 64))
    assert found.ticket.digest == networks[-1].ticket.digest


def nets_of(path, task):
    from nets_deap.runs.networks import networks_in

    return networks_in(path, task)


def test_dense_has_as_many_steps_as_the_network_and_the_table_says_so(run):
    path, task = run
    found = ship(path, task, to="torch", steps=3, repeats=1)
    as_many = found.network.trained.inherited_steps + 3
    assert found.dense_steps == as_many
    assert f"dense had {as_many} from W0" in found.table()
    assert ship(path, task, to="torch", dense_steps=7, repeats=1).dense_steps == 7


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"threads": 0}, "threads must be in range"),
        ({"repeats": 0}, "repeats must be in range"),
        ({"batch": 0}, "batch must be in range"),
        ({"batches": ()}, "batches must be sizes"),
        ({"batches": (1, 0)}, "batches must be in range"),
        ({"steps": -1}, "steps must be in range"),
        ({"max_latency": 0.0}, "max_latency must be"),
        ({"speedup": -1.0}, "speedup must be"),
        ({"out": "a.onnx"}, "out must name a format that is written"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(run, monkeypatch, options, text):
    path, task = run
    monkeypatch.setattr(shipping, "networks_in", lambda *_: pytest.fail("too late"))
    with pytest.raises(NetsError, match=text):
        ship(path, task, **{"to": "torch", **options})


def test_networks_of_several_inputs_are_cut_and_not_timed(tmp_path):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other, self.out = nn.Linear(3, 6), nn.Linear(2, 6), nn.Linear(6, 2)

        def forward(self, one, other):
            return self.out(torch.relu(self.one(one) + self.other(other)))

    torch.manual_seed(0)
    inputs, targets = (torch.randn(16, 3), torch.randn(16, 2)), torch.arange(16) % 2
    recipe = nets.Recipe(batch_size=8, steps=4)
    split = (inputs, targets)
    task = nets.Task(Two(), train=split, val=split, unit="neuron", recipe=recipe, engine="loop")
    found = nets.search(
        task, objectives=("val_loss", "multiply_adds"), population=3, generations=1,
        path=tmp_path / "run", progress="none",
    )  # fmt: skip
    for one in found.networks:
        torch.testing.assert_close(one.compact()(*inputs), one.module()(*inputs))
    with pytest.raises(NetsError, match="task must have networks of one input"):
        ship(tmp_path / "run", task, to="torch")


@pytest.mark.extra
@pytest.mark.parametrize("to", ["onnx", "int8"])
def test_onnx_files_give_what_the_network_gives(run, tmp_path, to):
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path, task = run
    found = ship(path, task, to=to, out=tmp_path / "a.onnx", steps=5, repeats=2)
    assert found.network.trained.steps == 5
    names = [version.name for version in found.versions]
    assert names == ["dense", "cut", "dense, onnxruntime", "cut, onnxruntime", "cut, int8"]
    session = ort.InferenceSession(str(tmp_path / "a.onnx"))
    inputs = task.problem.val[0]
    got = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})[0]
    expected = found.network.compact()(inputs).detach()
    assert found.reference == "dense, onnxruntime"
    assert "(" not in next(line for line in found.table().splitlines() if "dense, onnx" in line)
    if to == "onnx":
        torch.testing.assert_close(torch.from_numpy(got), expected, atol=1e-4, rtol=0)
    assert ((torch.from_numpy(got) > 0) == (expected > 0)).float().mean() > 0.95


@pytest.mark.extra
def test_what_is_promised_holds_for_the_form_that_is_written(run, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path, task = run
    timed, made = [], {}
    latencies = shipping.latencies

    def look(runners, inputs, **options):
        timed.append([made.get(one) for one in runners.values()])
        return latencies(runners, inputs, **options)

    def session(file, threads, session_of=shipping.session_of):
        run = session_of(file, threads)
        made[run] = "int8" if file.name == "b.onnx" else "float32"
        return run

    monkeypatch.setattr(shipping, "latencies", look)
    monkeypatch.setattr(shipping, "session_of", session)
    ship(path, task, max_latency=10.0, to="int8", repeats=1)
    assert set(timed[0]) == {"int8"}
    timed.clear()
    ship(path, task, speedup=1e-3, to="int8", repeats=1)
    assert timed[0][0] != "int8"  # the dense network
    assert set(timed[0][1:]) == {"int8"}
    monkeypatch.setattr(shipping, "quantise", lambda *_: "made up")
    with pytest.raises(NetsError, match=r"to must be possible for this network.*made up"):
        ship(path, task, speedup=1e-3, to="int8", repeats=1)


def test_the_small_network_as_a_file_of_its_own(run, tmp_path):
    path, task = run
    found = ship(path, task, to="torch", out=tmp_path / "small.pt2", repeats=1)
    assert found.reference == "dense"
    again = torch.export.load(found.path).module()
    inputs = task.problem.val[0]
    for n in (1, 3, len(inputs)):
        torch.testing.assert_close(again(inputs[:n]), found.network.compact()(inputs[:n]))


def test_another_task_is_refused_with_what_differs(run):
    path, _ = run
    other = nets.tasks.xor(
        hidden=16, unit="neuron", recipe=nets.Recipe(lr=0.5, batch_size=4, steps=20),
        loss="binary_cross_entropy",
    )  # fmt: skip
    with pytest.raises(NetsError, match=r"task must be that of the run.*lr was 0.05, is 0.5"):
        ship(path, other, to="torch")


def test_times_have_units():
    assert [_seconds(text) for text in ("2ms", "150us", "0.5 s")] == [2e-3, 150e-6, 0.5]
    with pytest.raises(NetsError, match="--max-latency must be a time"):
        _seconds("2")
