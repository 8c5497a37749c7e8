"""Files that earlier versions wrote: their names are read in one place, as the present ones."""

import json
import re
import shutil
from pathlib import Path

import pytest
from support.running import NGEN, go, new_task, new_toolbox

import nets_deap as nets
from nets_deap.errors import RunChangedError, RunFileError
from nets_deap.evolution.archives import NicheArchive, ParetoFront
from nets_deap.experiments.methods import METHODS
from nets_deap.experiments.resume import config_of
from nets_deap.plots.report import command_of
from nets_deap.runs.storage import npz, schema
from nets_deap.runs.storage.plain import Packer
from nets_deap.runs.storage.reader import RunReader
from nets_deap.tickets.genome import Genome
from nets_deap.training.engines.dispatch import ENGINES

SAMPLE = Path(__file__).parent.parent.parent / "samples" / "run-schema1"


def task_of(engine):
    return new_task(engine=engine)


@pytest.fixture
def old(tmp_path):
    """Return a run of schema 1 whose task had an engine by the name that it had then."""

    def make(engine):
        path = shutil.copytree(SAMPLE, tmp_path / "run")
        config = path / "config.json"
        config.write_text(config.read_text().replace('"auto"', f'"{engine}"'))
        for file in (path / "checkpoints").iterdir():
            content, flat = npz.read(file)
            assert content["schema"] == 1
            content["facts"]["task"]["engine"] = engine
            packer = Packer()
            packer.parts = {name: [array] for name, array in flat.items()}
            npz.write(file, content, packer)
        return path

    return make


# "layered", now "batched", trains a network like this one on CUDA only.
@pytest.mark.parametrize(
    "engine",
    ["stacked", *(pytest.param(e, marks=pytest.mark.slow) for e in ("one_by_one", "threaded"))],
)
def test_a_run_goes_on_with_its_engine_by_its_present_name(old, engine):
    path, now = old(engine), schema.ENGINES[engine]
    assert RunReader(path).config()["task"]["engine"] == now
    task = task_of(now)
    run = nets.resume(path, task=task, progress="none")
    go("plus", new_toolbox(task, {}), run.population, run.recorder, run.remaining)
    assert run.recorder.generation == NGEN
    assert f'"{engine}"' not in json.dumps(run.recorder.facts)


def test_another_engine_than_the_runs_is_still_refused(old):
    with pytest.raises(RunChangedError, match="engine was 'vmap', is 'loop'"):
        nets.resume(old("stacked"), task=task_of("loop"), progress="none")


def test_present_names_are_known_and_old_ones_are_not():
    assert set(schema.ENGINES.values()) <= set(ENGINES)
    assert not set(schema.ENGINES) & set(ENGINES)
    assert set(schema.METHODS.values()) <= set(METHODS)
    assert not set(schema.METHODS) & set(METHODS)


def test_the_configuration_of_an_old_run_makes_it_again():
    facts = {
        "preset": "xor-mlp10",
        "config": {"task": {"kind": "xor", "engine": "one_by_one"}, "seed": 3},
    }
    assert config_of(schema.renamed(facts)).task.engine == "loop"
    assert "--set task.engine=loop" in command_of(schema.renamed(facts))
    assert facts["config"]["task"]["engine"] == "one_by_one"  # its own copy


@pytest.mark.parametrize("facts", [{}, {"task": None}, {"config": 3, "task": {"engine": [1]}}])
def test_facts_without_a_task_stay_as_they_are(facts):
    assert schema.renamed(facts) == facts


def test_classes_of_the_package_have_no_modules_in_files():
    for kind in (nets.Ticket, Genome, ParetoFront, NicheArchive):
        assert schema.name_of(kind) == f"nets_deap.{kind.__name__}"
    assert schema.name_of(Path) == "pathlib.Path"
    held = {"attributes": {"_size": 0, "_packed": {}, "_layout_key": ""}, "fitness": None}
    kinds = "nets_deap.ticket.Ticket", "my.Ticket"
    first = {"facts": {}, "tickets": [{"class": kind, **held} for kind in kinds]}
    first |= {"schema": 1, "archive": {"class": "nets_deap.fronts.ParetoFront"}}
    found = schema.migrated(first, "x")
    assert [ticket["class"] for ticket in found["tickets"]] == ["nets_deap.Ticket", "my.Ticket"]
    assert found["archive"]["class"] == "nets_deap.ParetoFront"


@pytest.mark.parametrize("part", [{"tickets": 3}, {"archive": None}, {"facts": 3}])
def test_content_that_is_not_of_its_schema_is_refused(part):
    content = {"schema": 1, "facts": {}, "tickets": [], "archive": {"class": "x"}}
    assert schema.migrated(content, "x")["schema"] == schema.SCHEMA
    with pytest.raises(RunFileError, match=re.escape("x does not hold what its schema says")):
        schema.migrated({**content, **part}, "x")
