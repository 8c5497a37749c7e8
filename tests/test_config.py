import dataclasses
import json

import pytest

from nets_deap.errors import InvalidTypeError, InvalidValueError
from nets_deap.experiments.config import Config
from nets_deap.experiments.presets import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_every_field_of_a_preset_can_be_set_to_its_own_value_as_text(name):
    config = preset(name)
    texts = {}
    for field, value in config.settable().items():
        is_tuple = isinstance(value, tuple)
        texts[field] = ",".join(map(str, value)) if is_tuple else str(value)
    assert config.override(texts) == config


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


def test_unknown_presets_are_guessed():
    with pytest.raises(InvalidValueError, match="Did you mean 'quickstart'"):
        preset("quickstrt")


def test_wrong_kinds_are_refused():
    with pytest.raises(InvalidTypeError, match=r"final\.steps must be a whole number"):
        preset("quickstart").override({"final.steps": 1.5})


def test_a_configuration_is_json():
    assert json.loads(json.dumps(preset("xor-mlp10").as_dict()))["task"]["hidden"] == 10
