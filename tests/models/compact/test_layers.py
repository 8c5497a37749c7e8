"""The registry of layer types: what is in it, and one more."""

import copy

import pytest
import torch
from torch import nn

from nets_deap.models.compact.compact import compact
from nets_deap.models.compact.layers import LAYERS, step_of
from nets_deap.models.compact.step import Step, places


class Slopes(Step):
    """PReLU: below zero each channel is multiplied by a slope of its own."""

    def pass_constants(self, inputs):
        below = self.module.weight.detach().double() * inputs.constant
        return inputs.mapped(torch.where(inputs.constant > 0, inputs.constant, below))

    def compact(self, later):
        prelu = copy.deepcopy(self.module)
        if later is not None:
            here = places(later.live_channels, prelu.weight)
            prelu.weight = nn.Parameter(prelu.weight.detach()[here])
            prelu.num_parameters = len(here)
        return prelu


@pytest.mark.parametrize("padding", [0, 1])
def test_a_layer_type_is_a_class_and_a_line_of_the_registry(monkeypatch, padding):
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.PReLU(4), nn.Conv2d(4, 3, 3, padding=padding), nn.PReLU(3)),
        *(nn.Flatten(), nn.Linear(3 * (4 + 2 * padding) ** 2, 2)),
    ).double()
    with torch.no_grad():
        model[0].weight[:3] = 0
        model[0].bias.copy_(torch.tensor([-1.0, 2.0, -3.0, 0.5]))
        model[1].weight.copy_(torch.tensor([0.5, 0.1, 0.9, 0.2]))
    with pytest.raises(ValueError, match=r"module must be sequential: .* got '1', PReLU"):
        compact(model)
    monkeypatch.setitem(LAYERS, nn.PReLU, Slopes)
    small, x = compact(model), torch.randn(5, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(small(x), model(x), rtol=1e-12, atol=1e-12)
    left = 2 if padding else 1  # beside a border of zeros one constant stands in for all
    assert (small[0].out_channels, small[1].num_parameters) == (left, left)


def test_a_subclass_may_do_anything_and_is_refused():
    with pytest.raises(ValueError, match=r"module must be sequential: .* got 'a', Mine"):
        step_of("a", type("Mine", (nn.ReLU,), {})())
