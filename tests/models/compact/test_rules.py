"""The rules of functions: the registry, and what of each is exact."""

import pytest
import torch
from torch import nn

from nets_deap.models.compact import rules
from nets_deap.models.compact.compact import compact
from nets_deap.models.compact.rules import RULES


class Warped(nn.Module):
    """Functions of torch between two layers."""

    def __init__(self, function):
        super().__init__()
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 2)
        self.function = function

    def forward(self, x):
        return self.two(self.function(self.one(x)))


def test_a_function_is_a_line_of_the_registry(monkeypatch):
    model = Warped(torch.special.erfc).double()
    with torch.no_grad():
        model.one.weight[:3] = 0
    assert compact(model).one.out_features == 6  # what is not known there stays
    monkeypatch.setitem(RULES, "special_erfc", rules.one_by_one)
    small, x = compact(model), torch.randn(5, 4, dtype=torch.float64)
    torch.testing.assert_close(small(x), model(x), rtol=1e-12, atol=1e-12)
    assert small.one.out_features == 3


@pytest.mark.parametrize(
    "function",
    [
        *(torch.relu, torch.tanh, torch.exp, torch.cos, lambda x: x + 1, lambda x: 2 - x),
        *(lambda x: x**2 / 3, lambda x: x.clamp(-0.5, 0.7), lambda x: x * torch.sigmoid(x)),
        *(lambda x: torch.where(x > 0, x, 0.1 * x), lambda x: x.masked_fill(x < 0, 0.5)),
        *(lambda x: torch.maximum(x, -x), lambda x: (x[:, None] + x[:, None]).squeeze(1)),
        *(lambda x: torch.cat([x[:, :2], x[:, 2:]], 1), lambda x: torch.stack(x.unbind(1), 1)),
        *(lambda x: x.view(-1, 2, 3).transpose(1, 2).reshape(-1, 6), lambda x: x.flip(1)),
        *(lambda x: torch.cat(x.chunk(3, 1)[::-1], 1), lambda x: x.roll(1, 1)),
        *(lambda x: x.unsqueeze(1).expand(-1, 4, -1).mean(1), lambda x: x.softmax(1)),
        *(lambda x: x - x.mean(1, keepdim=True), lambda x: x.index_select(1, torch.arange(6))),
        *(lambda x: x.cumsum(1), lambda x: x.sort(1)[0], lambda x: x.clone().add_(1).detach()),
    ],
)
def test_functions_between_layers_stay_exact(function):
    torch.manual_seed(0)
    model = Warped(function).double()
    with torch.no_grad():
        model.one.weight[[0, 1, 4]] = 0
        model.two.weight[:, [1, 2, 5]] = 0
    small, x = compact(model), torch.randn(7, 4, dtype=torch.float64)
    torch.testing.assert_close(small(x), model(x), rtol=1e-12, atol=1e-12)


def test_prelu_has_a_slope_for_each_channel():
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(1, 4, 3), nn.PReLU(4), nn.Conv2d(4, 3, 3, padding=1), nn.PReLU(3)),
        *(nn.Flatten(), nn.Linear(3 * 36, 2)),
    ).double()
    with torch.no_grad():
        model[0].weight[:3] = 0
        model[0].bias.copy_(torch.tensor([-1.0, 2.0, -3.0, 0.5]))
        model[1].weight.copy_(torch.tensor([0.5, 0.1, 0.9, 0.2]))
    small, x = compact(model), torch.randn(5, 1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(small(x), model(x), rtol=1e-12, atol=1e-12)
    assert (small[0].out_channels, small[1].num_parameters) == (2, 2)
