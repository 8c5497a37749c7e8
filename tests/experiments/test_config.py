import dataclasses
import json

import pytest
from torch import nn

from nets_deap import Budget, tasks
from nets_deap.errors import InvalidTypeError, InvalidValueError
from nets_deap.experiments.config import Config, SearchConfig
from nets_deap.experiments.presets import PRESETS, preset
from nets_deap.experiments.run import build_task


@pytest.mark.parametrize("name", PRESETS)
def test_every_field_of_a_preset_can_be_set_to_its_own_value_as_text(name):
    config = preset(name)
    overrides = {}
    for field, value in config.settable().items():
        is_tuple = isinstance(value, tuple)
        overrides[field] = ",".join(map(str, value)) if is_tuple else str(value)
    assert config.override(overrides) == config


def test_settable_names_every_field_of_every_part():
    names = set(Config(about="").settable())
    for part in ("task", "recipe", "search", "final"):
        for field in dataclasses.fields(getattr(Config(about=""), part)):
            assert f"{part}.{field.name}" in names
    assert "seed" in names


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("recipe.lr", "0.5", 0.5),
        ("recipe.nesterov", "false", False),
        ("recipe.milestones", "0.25,0.5", (0.25, 0.5)),
        ("search.objectives", "val_accuracy,density", ("val_accuracy", "density")),
        ("search.flips", "none", None),
        ("search.max_steps", "100", 100),
        ("search.budget", "100", 100),
        ("search.budget", "0.5", 0.5),
        ("search.budget_unit", "steps", "steps"),
        ("seed", "9", 9),
    ],
)
def test_text_is_read_as_the_fields_type(field, text, value):
    assert preset("quickstart").override({field: text}).settable()[field] == value


def test_epochs_instead_of_steps():
    config = preset("quickstart").override({"recipe.steps": "none", "recipe.epochs": "2"})
    assert config.recipe.total_steps(600) == 20


def test_all_bad_fields_are_told_together():
    with pytest.raises(InvalidValueError) as caught:
        preset("quickstart").override(
            {
                "recipe.lr": "-1",
                "recipe.batch_size": "0",
                "recipe.lrr": "1",
                "search.population": "x",
                "final.steps": "0",
                "task.dataset": "mnits",
            }
        )
    text = str(caught.value)
    for part in ("recipe.lr must", "recipe.batch_size must", "Did you mean 'recipe.lr'"):
        assert part in text
    for part in ("search.population must be readable", "final.steps must", "Did you mean 'mnist'"):
        assert part in text


@pytest.mark.parametrize(
    ("name", "settings", "text"),
    [
        ("quickstart", {"task.kind": "lenet7"}, "Did you mean 'lenet'"),
        ("quickstart", {"task.dataset": "cifar10"}, r"task\.dataset must suit the network lenet"),
        (
            "quickstart",
            {"task.model": "resnet18"},
            r"task\.kind must stand .* task\.model=resnet18",
        ),
        ("quickstart", {"task.kind": "torchvision"}, r"task\.model must be given"),
        ("quickstart", {"task.hidden": "5"}, r"task\.kind must stand without .*task\.hidden=5"),
        ("xor-mlp10", {"task.dataset": "kmnist"}, r"kind 'xor' .* task\.dataset=kmnist"),
        ("xor-mlp100", {"task.kind": "lenet5"}, r"kind 'lenet5' .* task\.hidden=100"),
    ],
)
def test_networks_and_data_that_do_not_go_together_are_refused(name, settings, text):
    with pytest.raises(InvalidValueError, match=text):
        preset(name).override(settings)


@pytest.mark.parametrize("name", PRESETS)
def test_the_task_of_a_preset_is_one_that_can_be_built(name, monkeypatch):
    config, asked = preset(name), []
    function = "conv" if config.task.kind.startswith("conv") else config.task.kind
    monkeypatch.setattr(tasks, function, lambda *args, **options: asked.append((args, options)))
    build_task(config)
    ((args, options),) = asked
    assert args == ((int(config.task.kind[4:]),) if function == "conv" else ())
    assert options["recipe"] == config.recipe
    assert options.get("dataset", config.task.dataset) == config.task.dataset


def test_any_model_of_torchvision_and_what_is_masked_can_be_set(monkeypatch):
    asked = []
    monkeypatch.setattr(
        tasks, "torchvision", lambda *args, **options: asked.append((args, options))
    )
    build_task(
        preset("resnet20-cifar10").override(
            {
                "task.kind": "torchvision", "task.model": "vgg11", "task.dataset": "cifar100",
                "task.maskable": "Conv2d,classifier.*.weight",
            }
        )
    )  # fmt: skip
    ((args, options),) = asked
    assert (args, options["dataset"]) == (("vgg11",), "cifar100")
    assert options["maskable"] == [nn.Conv2d, "classifier.*.weight"]


def test_unknown_presets_are_guessed():
    with pytest.raises(InvalidValueError, match="Did you mean 'quickstart'"):
        preset("quickstrt")


def test_wrong_kinds_are_refused():
    with pytest.raises(InvalidTypeError, match=r"final\.steps must be a whole number"):
        preset("quickstart").override({"final.steps": 1.5})


def test_a_configuration_is_json():
    assert json.loads(json.dumps(preset("xor-mlp10").as_dict()))["task"]["hidden"] == 10


def test_a_budget_is_held_as_numbers_and_names():
    budget = Budget(50, unit="steps", growth=2)
    search = SearchConfig(budget=budget, generations=3)
    assert (search.budget, search.budget_unit, search.growth) == (50, "steps", 2.0)
    with pytest.raises(InvalidValueError, match="be planned for the generations of the search"):
        SearchConfig(budget=Budget(50, generations=4), generations=3)
