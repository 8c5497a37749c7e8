"""DataFrames of logs and fronts, from folders and from live objects."""

import pytest
from deap import algorithms, base, creator, tools

import nets_deap as nets
from nets_deap.errors import FileAccessError, InvalidTypeError, MissingExtraError

pandas = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def recorder(tmp_path_factory):
    """A recorder after three generations of a tiny search, with its folder."""
    task = nets.tasks.xor(hidden=4)
    toolbox = nets.make_toolbox(task, inherit="none")
    path = tmp_path_factory.mktemp("frames") / "run"
    recorder = nets.Recorder(path, task=task, progress="none")
    algorithms.eaMuPlusLambda(
        toolbox.population(n=6), toolbox, 6, 6, 0.3, 0.7, 2, stats=recorder, verbose=False
    )
    return recorder


def test_a_log_is_the_same_from_the_folder_and_from_the_recorder(recorder):
    frame = nets.frames.log(recorder)
    assert frame.index.name == "generation"
    assert list(frame.index) == [0, 1, 2]
    assert frame["hypervolume"].iloc[-1] == recorder.logbook[-1]["hypervolume"]
    for folder in (recorder.folder.path, str(recorder.folder.path)):
        pandas.testing.assert_frame_equal(nets.frames.log(folder), frame)


def test_a_front_is_the_same_from_the_folder_and_from_the_recorder(recorder):
    frame = nets.frames.front(recorder)
    assert list(frame.columns) == ["ticket", "kept", "density", "val_loss"]
    assert len(frame) == len(recorder.front)
    assert frame["density"].is_monotonic_decreasing
    for run in (recorder.folder.path, recorder.front):
        pandas.testing.assert_frame_equal(nets.frames.front(run), frame)


def test_digests_of_digits_stay_text(tmp_path):
    (tmp_path / "front.csv").write_text("ticket,kept\n0012345678901234,3\n")
    assert nets.frames.front(tmp_path)["ticket"][0] == "0012345678901234"


def test_chapters_become_columns():
    fitness = tools.Statistics(lambda ind: ind[0])
    size = tools.Statistics(len)
    for part in (fitness, size):
        part.register("max", max)
    both = tools.MultiStatistics(fitness=fitness, size=size)
    logbook = tools.Logbook()
    for generation, population in enumerate([[[1.0], [2.0, 3.0]], [[4.0]]]):
        logbook.record(gen=generation, evals=2, **both.compile(population))
    frame = nets.frames.log(logbook)
    assert list(frame.columns) == ["evals", "fitness_max", "size_max"]
    assert frame.loc[0].tolist() == [2, 2.0, 2]
    assert frame.loc[1].tolist() == [2, 4.0, 1]


def test_individuals_of_other_classes_have_objectives_only():
    creator.create("FrameFitness", base.Fitness, weights=(-1.0, 1.0))
    creator.create("FrameIndividual", list, fitness=creator.FrameFitness)
    member = creator.FrameIndividual([1])
    member.fitness.values = (0.5, 2.0)
    assert nets.frames.front([member]).to_dict("list") == {
        "objective_0": [0.5],
        "objective_1": [2.0],
    }


def test_what_has_neither_is_refused(tmp_path, monkeypatch):
    for read in (nets.frames.log, nets.frames.front):
        with pytest.raises(FileAccessError, match="run must be a run folder: cannot read"):
            read(tmp_path)
    with pytest.raises(InvalidTypeError, match="run must have a log"):
        nets.frames.log([1])
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"\.\[pandas\]"):
        nets.frames.log(tmp_path)


def test_a_last_line_that_a_kill_cut_off_is_left_out(recorder, tmp_path):
    lines = (recorder.folder.path / "log.jsonl").read_text().splitlines()
    log = tmp_path / "log.jsonl"
    log.write_text("\n".join([*lines[:2], lines[2][:-20]]))
    assert list(nets.frames.log(tmp_path).index) == [0, 1]
    log.write_text("\n".join([lines[0], lines[1][:-20], lines[2]]))
    with pytest.raises(FileAccessError, match="a generation a line: line 2 is none"):
        nets.frames.log(tmp_path)
    log.write_bytes(b"\xff\xfe")
    with pytest.raises(FileAccessError, match="must be a text file"):
        nets.frames.log(tmp_path)


def test_a_front_that_is_not_a_table_is_named(tmp_path):
    (tmp_path / "front.csv").write_text("")
    with pytest.raises(FileAccessError, match=r"front\.csv must be a table"):
        nets.frames.front(tmp_path)
