"""Which parameters are maskable, and the reasons given."""

import pytest
import torch
from torch import nn

import nets_deap as nets
from nets_deap.errors import InvalidTypeError, InvalidValueError
from nets_deap.models.maskable import parameters_of
from nets_deap.tickets.layout import MaskLayout


class Net(nn.Module):
    """One of everything: recurrent, attention, embedding tied to the output, norms, a scale."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(7, 4)
        self.lstm = nn.LSTM(4, 4, num_layers=2, proj_size=2)
        self.attend = nn.MultiheadAttention(4, 2, add_bias_kv=True)
        self.norm = nn.LayerNorm((3, 4))
        self.out = nn.Linear(4, 7)
        self.out.weight = self.embed.weight
        self.scale = nn.Parameter(torch.ones(3))


LSTM = tuple(f"lstm.weight_{kind}_l{i}" for i in (0, 1) for kind in ("ih", "hh", "hr"))


@pytest.mark.parametrize(
    ("maskable", "names"),
    [
        (nn.LSTM, LSTM),
        (nn.RNNBase, LSTM),
        (nn.MultiheadAttention, ("attend.in_proj_weight",)),
        (nn.Linear, ("embed.weight", "attend.out_proj.weight")),
        ([nn.Embedding], ("embed.weight",)),
        ((nn.MultiheadAttention, "scale"), ("scale", "attend.in_proj_weight")),
        (["attend.bias_k", nn.Embedding, "*.out_proj.*"], ("embed.weight", "attend.bias_k",
            "attend.out_proj.weight", "attend.out_proj.bias")),
        ("out.weight", ("embed.weight",)),
    ],
)  # fmt: skip
def test_types_select_the_weights_that_their_modules_own(maskable, names):
    net = Net()
    assert MaskLayout.of(net, maskable).names == names
    chosen = [p.name for p in parameters_of(net, maskable) if p.maskable]
    assert chosen == list(names)


def test_every_parameter_has_a_reason():
    net = Net()
    net.attend.out_proj.weight.requires_grad_(False)
    why = {p.name: p.why for p in parameters_of(net)}
    assert list(why) == [n for n, _ in net.named_parameters(remove_duplicate=False)]
    assert why["embed.weight"] == "weight of a linear layer"  # by its other name
    assert why["out.weight"] == "tied to embed.weight"
    assert why["attend.out_proj.weight"] == "weight of a linear layer, frozen"
    assert why["lstm.weight_ih_l0"] == "weight of LSTM"
    assert why["attend.in_proj_weight"] == "weight of MultiheadAttention"
    for name in ("lstm.bias_ih_l0", "attend.bias_k", "attend.in_proj_bias", "out.bias"):
        assert why[name] == "bias"
    assert {why["norm.weight"], why["scale"]} == {"normalisation", "vector"}
    why = {p.name: p.why for p in parameters_of(net, [nn.LSTM, "sc*"])}
    assert why["lstm.weight_hr_l1"] == "weight of LSTM"
    assert why["scale"] == "chosen by 'sc*'"
    assert why["embed.weight"] == "not chosen by maskable="
    why = {p.name: p.why for p in parameters_of(net, lambda name, p: name == "scale")}
    assert (why["scale"], why["embed.weight"]) == ("chosen", "not chosen")


@pytest.mark.parametrize("model", [nn.Conv1d(2, 2, 3), nn.ConvTranspose3d(2, 2, 3)])
def test_a_module_that_is_one_layer(model):
    (weight, bias) = parameters_of(model)
    assert (weight.name, weight.maskable, weight.why) == ("weight", True, "weight of a convolution")
    assert (bias.maskable, bias.module) == (False, type(model).__name__)


@pytest.mark.parametrize(
    ("maskable", "error", "text"),
    [
        (nn.GRU, InvalidValueError, r"expected one of Embedding, LSTM, .*got GRU"),
        (nn.LayerNorm, InvalidValueError, r"maskable must name types .*got LayerNorm"),
        ([nn.Linear, nn.Conv2d], InvalidValueError, r"maskable must name types .*got Conv2d"),
        (int, InvalidTypeError, r"maskable must hold names and types of modules: .*got type"),
        ([nn.Linear, 3], InvalidTypeError, r"maskable must hold names and types .*got int"),
        (["embd.weight"], InvalidValueError, r"Did you mean 'embed\.weight'"),
    ],
)
def test_what_selects_nothing_is_refused(maskable, error, text):
    with pytest.raises(error, match=text):
        parameters_of(Net(), maskable)


def test_a_name_with_brackets_selects_its_parameter_alone():
    model = nn.Module()
    model.table = nn.ParameterDict({f"w{end}": nn.Parameter(torch.ones(2, 2)) for end in "01"})
    model.table["w[0]"] = nn.Parameter(torch.ones(3, 2))
    model.table["w[01]"] = nn.Parameter(torch.ones(3, 3))
    model.add_module("deep[a]", nn.Linear(2, 2))
    assert MaskLayout.of(model, "table.w[0]").names == ("table.w[0]",)
    assert MaskLayout.of(model, ["deep[a].weight", "table.w1"]).names == (
        "table.w1", "deep[a].weight",
    )  # fmt: skip
    assert MaskLayout.of(model, "table.w[01]").names == ("table.w[01]",)
    assert MaskLayout.of(model, "table.w[0-1]").names == ("table.w0", "table.w1")


def test_what_is_looked_up_scales_or_shifts_is_left_out():
    class Blocks(nn.Module):
        def __init__(self):
            super().__init__()
            self.proj = nn.Parameter(torch.ones(4, 5))
            self.text_projection = nn.Parameter(torch.ones(1, 4, 5))
            self.gamma = nn.Parameter(torch.ones(7, 1, 1))
            self.pos_embedding = nn.Parameter(torch.ones(1, 9, 4))
            self.positional = nn.Parameter(torch.ones(9, 4))
            self.relative_position_bias_table = nn.Parameter(torch.ones(9, 4))
            self.class_token = nn.Parameter(torch.ones(2, 4))
            self.pe = nn.Parameter(torch.ones(9, 4))
            self.position = LayerNorm2d()
            self.lookup = nn.EmbeddingBag(4, 5)
            self.narrow = nn.Linear(5, 1)
            self.counts = nn.Parameter(torch.ones(4, 4).long(), requires_grad=False)

    why = {p.name: p.why for p in parameters_of(Blocks())}
    chosen = {name for name, reason in why.items() if reason.startswith("weight of")}
    assert chosen == {"proj", "text_projection", "narrow.weight"}
    assert why["gamma"] == "vector"
    assert why["position.weight"] == "normalisation"
    assert why["counts"] == "not floating-point, frozen"
    assert {why[n] for n in ("pos_embedding", "pe", "class_token", "lookup.weight")} == {
        "embedding"
    }


class LayerNorm2d(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 3))


class Reader(nn.Module):
    """The last output of an LSTM, read by a linear layer."""

    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(3, 5, batch_first=True), nn.Linear(5, 2)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


def test_the_weights_of_an_lstm_are_masked_through_training():
    x = torch.randn(40, 4, 3)
    split = (x, (x.sum((1, 2)) > 0).long())
    task = nets.Task(
        Reader(), train=split, val=split, maskable=(nn.LSTM, nn.Linear), device="cpu",
        engine="loop",
        recipe=nets.Recipe(steps=5, batch_size=8),
    )  # fmt: skip
    assert task.layout.names == ("lstm.weight_ih_l0", "lstm.weight_hh_l0", "out.weight")
    mask = torch.rand(task.layout.size).numpy() < 0.5
    trained = dict(task.train(task.ticket(mask)).module().named_parameters())
    for name, keep in task.layout.split(mask).items():
        assert not trained[name].detach().numpy()[~keep].any()
        assert trained[name].detach().numpy()[keep].all()


def test_a_predicate_takes_name_and_parameter():
    net = nn.Linear(2, 3)
    with pytest.raises(InvalidTypeError, match=r"maskable must take what .* \(name, parameter\)"):
        parameters_of(net, lambda name: True)
    kept = [
        p.name for p in parameters_of(net, lambda name, p, least=2: p.dim() >= least) if p.maskable
    ]
    assert kept == ["weight"]
