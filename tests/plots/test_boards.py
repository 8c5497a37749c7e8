"""TensorBoard's and Optuna's own readers see what a run folder holds."""

import json
import random
from wsgiref.util import setup_testing_defaults

import numpy as np
import pytest
import torch
from deap import algorithms

import nets_deap as nets
from nets_deap.errors import FileAccessError, InvalidValueError, MissingExtraError

pytestmark = pytest.mark.extra


@pytest.fixture(scope="module")
def recorder(tmp_path_factory):
    # With other seeds a mask may come back from a later generation with other values.
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    task = nets.tasks.xor(hidden=4)
    toolbox = nets.make_toolbox(task, inherit="none")
    path = tmp_path_factory.mktemp("boards") / "run"
    recorder = nets.Recorder(path, task=task, progress="none")
    algorithms.eaMuPlusLambda(
        toolbox.population(n=20), toolbox, 20, 4, 0.3, 0.7, 2, stats=recorder, verbose=False
    )
    return recorder


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's own dependencies
def test_tensorboard_reads_scalars_front_and_masks(recorder, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for _ in range(2):  # the second time supersedes the first
        assert nets.boards.to_tensorboard(recorder.folder.path, tmp_path / "tb") == tmp_path / "tb"
    events = EventAccumulator(str(tmp_path / "tb")).Reload()
    tags = events.Tags()
    points = events.Scalars("search/hypervolume")
    assert [p.step for p in points] == [0, 1, 2]
    expected = [row["hypervolume"] for row in recorder.logbook]
    assert [p.value for p in points] == pytest.approx(expected)
    assert "objectives/val_loss_min" in tags["scalars"]
    assert "front" in tags["images"]
    for ticket in recorder.front:
        for name, density in ticket.layer_densities.items():
            assert f"{ticket.digest[:8]}/{name}" in tags["images"]
            found = events.Scalars(f"layer density/{ticket.digest[:8]}/{name}")
            assert [p.value for p in found] == pytest.approx([density])
    image = events.Images(f"{recorder.front[0].digest[:8]}/layers.0.weight")[0]
    assert (image.height, image.width) == (4, 2)


def test_optunas_front_is_ours(recorder, tmp_path):
    optuna = pytest.importorskip("optuna")
    storage = f"sqlite:///{tmp_path / 'front.db'}"
    front, last = list(recorder.front), recorder.history[-1].population
    digests = {ticket.digest[:16] for ticket in front} | {member.digest for member in last}
    assert len(digests) > len(front), "some of the last population should be dominated"
    assert len(nets.boards.to_optuna(front, storage).trials) == len(front)
    for run in (recorder.folder.path, recorder, front):
        study = nets.boards.to_optuna(run, storage)
        assert {t.user_attrs["ticket"][:16] for t in study.trials} == digests
        assert len(study.trials) == len(digests)
    again = optuna.load_study(study_name="nets_deap", storage=storage)
    assert again.metric_names == ["val_loss", "density"]
    ours = {ticket.digest: ticket for ticket in recorder.front}
    assert {t.user_attrs["ticket"] for t in again.best_trials} == set(ours)
    behind = {member.digest: member for member in last}
    for trial in again.trials:
        if len(trial.user_attrs["ticket"]) == 16:
            member = behind[trial.user_attrs["ticket"]]
            assert tuple(trial.values) == member.fitness.values
            assert trial.user_attrs["density"] == member.density
            continue
        ticket = ours[trial.user_attrs["ticket"]]
        assert tuple(trial.values) == ticket.fitness.values
        assert trial.user_attrs["generation"] == ticket.origin["generation"]
        assert trial.params == {f"density {n}": d for n, d in ticket.layer_densities.items()}


def test_dominated_tickets_of_a_result_are_trials_with_all_that_is_known():
    pytest.importorskip("optuna")
    found = nets.search(
        nets.tasks.xor(hidden=4), population=20, generations=0, progress="none", inherit="none"
    )
    trials = nets.boards.to_optuna(found).trials
    tickets = {ticket.digest: ticket for ticket in [*found.front, *found.population]}
    assert len(trials) == len(tickets) > len(found.front)
    for trial in trials:
        ticket = tickets[trial.user_attrs["ticket"]]
        assert (trial.user_attrs["kept"], tuple(trial.values)) == (
            ticket.kept,
            ticket.fitness.values,
        )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's own dependencies
def test_a_live_board_has_each_generation_at_once(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    live, seen = nets.boards.LiveTensorBoard(tmp_path / "tb"), []

    def read(recorder, row):
        events = EventAccumulator(str(tmp_path / "tb")).Reload()
        points = [(p.step, p.value) for p in events.Scalars("search/hypervolume")]
        seen.append(points[-1] == (recorder.generation, pytest.approx(row["hypervolume"])))

    task = nets.tasks.xor(hidden=4)
    options = {"population": 4, "cxpb": 0.3, "mutpb": 0.7, "progress": "none"}
    path = tmp_path / "run"
    nets.search(task, generations=2, path=path, callbacks=[live, read], **options, inherit="none")
    live.close()
    assert seen == [True] * 3
    again = nets.boards.LiveTensorBoard(tmp_path / "tb")
    events = EventAccumulator(str(tmp_path / "tb"))
    nets.search(
        nets.tasks.xor(hidden=4), generations=4, path=path, resume=True, force=True,
        callbacks=[again], **options, inherit="none"
    )  # fmt: skip
    again.close()
    assert [p.step for p in events.Reload().Scalars("objectives/val_loss_min")] == [0, 1, 2, 3, 4]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the dashboard's own dependencies
def test_the_dashboard_serves_the_front(recorder):
    optuna = pytest.importorskip("optuna")
    dashboard = pytest.importorskip("optuna_dashboard")
    storage = optuna.storages.InMemoryStorage()
    nets.boards.to_optuna(recorder, storage)
    app, status = dashboard.wsgi(storage), []

    def get(path):
        environ = {"PATH_INFO": path, "QUERY_STRING": "after=0"}
        setup_testing_defaults(environ)
        body = app(environ, lambda line, *_: status.append(line))
        return json.loads(b"".join(body))

    found = get("/api/studies/0")
    assert status == ["200 OK"]
    assert len(found["trials"]) > len(recorder.front)
    assert len(found["best_trials"]) == len(recorder.front)
    assert found["objective_names"] == ["val_loss", "density"]
    assert found["directions"] == ["minimize", "minimize"]


def test_what_cannot_be_shown_is_refused(recorder, tmp_path, monkeypatch):
    optuna = pytest.importorskip("optuna")
    pytest.importorskip("tensorboard")
    with pytest.raises(FileAccessError, match="run must be a run folder"):
        nets.boards.to_tensorboard(tmp_path, tmp_path / "tb")
    with pytest.raises(InvalidValueError, match="run must have a front"):
        nets.boards.to_optuna(tmp_path)
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(storage=storage, study_name="nets_deap", directions=["maximize"])
    with pytest.raises(InvalidValueError, match="name must be that of a study with these"):
        nets.boards.to_optuna(recorder, storage)
    for name in ("optuna", "tensorboard"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(MissingExtraError, match=r"\.\[optuna\]"):
        nets.boards.to_optuna(recorder)
    with pytest.raises(MissingExtraError, match=r"\.\[tensorboard\]"):
        nets.boards.to_tensorboard(recorder.folder.path, tmp_path / "tb")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's own dependencies
def test_places_that_cannot_be_written_are_named(recorder, tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FileAccessError, match="path must be a folder that can be written"):
            nets.boards.to_tensorboard(recorder.folder.path, place)


def test_a_storage_that_cannot_be_opened_is_named(recorder, tmp_path):
    pytest.importorskip("optuna")
    for storage in (f"sqlite:///{tmp_path}/none/front.db", "no address"):
        with pytest.raises(FileAccessError, match="storage must be one that Optuna can open"):
            nets.boards.to_optuna(recorder, storage)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's own dependencies
def test_a_writer_that_was_closed_early_goes_on_in_another_file(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    live = nets.boards.LiveTensorBoard(tmp_path / "tb")
    early = lambda recorder, row: live.close() if recorder.generation == 1 else None  # noqa: E731
    options = {"population": 6, "generations": 3, "callbacks": [live, early], "progress": "none"}
    nets.search(nets.tasks.xor(hidden=4), **options, inherit="none")
    live.close()
    points = EventAccumulator(str(tmp_path / "tb")).Reload().Scalars("search/hypervolume")
    assert [point.step for point in points] == [0, 1, 2, 3]
