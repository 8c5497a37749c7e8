"""Tickets applied to models in torch's own ways, and taken back from them."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize, prune
from torch.optim import swa_utils

import nets_deap as nets
from nets_deap.errors import InvalidTypeError, InvalidValueError
from nets_deap.models import MLP, lenet5, masking
from nets_deap.models.masking import Masked, plain
from nets_deap.tickets.apply import WAYS

SIZES = (6, 8, 3)


def ticket_of(model, density=0.3, seed=0, **options):
    layout = nets.MaskLayout.of(model, **options)
    return nets.Ticket(np.random.default_rng(seed).random(layout.size) < density, layout)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attend = nn.MultiheadAttention(6, 2, batch_first=True)
        self.read = nn.LSTM(6, 5, batch_first=True)
        self.out = nn.Linear(5, 3)

    def forward(self, x):
        x = x[:, None].expand(-1, 4, -1)
        x = self.attend(x, x, x, need_weights=False)[0]
        return self.out(self.read(x)[0][:, -1])


def make(kind):
    torch.manual_seed(3)
    if kind == "mlp":
        return MLP(SIZES, seed=3), torch.randn(5, 6)
    if kind == "one layer":
        return nn.Linear(6, 3), torch.randn(5, 6)
    if kind == "conv":
        return lenet5(seed=3), torch.randn(2, 1, 28, 28)
    return Attention(), torch.randn(5, 6)


KINDS = ("mlp", "one layer", "conv", "attention")
PAIRS = [
    (k, h) for k in KINDS for h in ("prune", "parametrize") if (k, h) != ("attention", "prune")
]


def ticket_for(kind, model):
    names = [n for n, p in model.named_parameters() if p.ndim > 1]
    return ticket_of(model, maskable=names if kind == "attention" else None)


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_computes_the_same_function(kind):
    model, x = make(kind)
    ticket = ticket_for(kind, model)
    expected = ticket.apply(copy.deepcopy(model))(x)
    for how in [h for k, h in PAIRS if k == kind]:
        applied = copy.deepcopy(model)
        assert ticket.apply(applied, how) is applied
        assert torch.equal(applied(x), expected), how
    before = copy.deepcopy(model.state_dict())
    parameters = ticket.apply(model, how="functional")
    assert torch.equal(torch.func.functional_call(model, parameters, (x,)), expected)
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert set(parameters) == {name for name, _ in model.named_parameters()}
    assert not any(t.requires_grad for t in parameters.values())


@pytest.mark.parametrize(("kind", "how"), PAIRS)
def test_pruned_weights_stay_pruned_in_training_and_come_back(kind, how):
    model, x = make(kind)
    ticket = ticket_for(kind, model)
    fresh = copy.deepcopy(model)
    ticket.apply(model, how)
    assert nets.Ticket.from_pruned(model) == ticket  # the layout's key holds W0's digest
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    for original, mask in originals(model, how):
        assert original.grad is not None
        assert (original.grad[~mask] == 0).all()
    masked = plain(model)
    for name, mask in ticket.masks().items():
        values = dict(masked.named_parameters())[name]
        assert (values[~mask] == 0).all()
        assert values.requires_grad
        assert values.is_leaf
    assert torch.equal(masked(x), model(x))
    assert {n for n, _ in masked.named_parameters()} == {n for n, _ in fresh.named_parameters()}
    # Trained weights are not W0: that comes from a model or a layout.
    assert nets.Ticket.from_pruned(model) != ticket
    for source in (fresh, ticket.layout):
        assert nets.Ticket.from_pruned(model, source) == ticket
    again = torch.optim.SGD(model.parameters(), lr=0.1)  # the original still trains
    model(x).sum().backward()
    again.step()
    assert not torch.equal(masked(x), model(x))


def originals(model, how):
    for module in model.modules():
        if how == "prune":
            for name, _ in list(module.named_buffers(recurse=False)):
                yield getattr(module, f"{name[:-5]}_orig"), getattr(module, name).bool()
        elif parametrize.is_parametrized(module):
            for steps in module.parametrizations.values():
                yield steps.original, steps[0].mask


def test_masks_of_torchs_own_pruning_are_read():
    model = MLP(SIZES, seed=1)
    fresh = copy.deepcopy(model)
    prune.l1_unstructured(model.layers[0], "weight", amount=0.5)
    prune.random_unstructured(model.layers[1], "weight", amount=3)
    ticket = nets.Ticket.from_pruned(model)
    assert ticket.layout.names == ("layers.0.weight", "layers.1.weight")
    assert ticket.kept == 24 + 21
    x = torch.randn(4, 6)
    assert torch.equal(ticket.apply(fresh)(x), model(x))
    with pytest.raises(InvalidValueError, match=r"masks must name layers: expected at least one"):
        nets.Ticket.from_pruned(fresh)


@pytest.mark.parametrize("unit", ["weight", "neuron"])
def test_layers_that_nothing_prunes_are_whole_in_the_layout_of_a_task(unit):
    model = MLP(SIZES, seed=1)
    layout = nets.MaskLayout.of(model, unit=unit)
    with pytest.raises(InvalidValueError, match=r"masks must name every layer"):
        nets.Ticket.from_pruned(model, layout)
    prune.ln_structured(model.layers[0], "weight", amount=2, n=2, dim=0)
    ticket = nets.Ticket.from_pruned(model, layout)
    masks = ticket.masks()
    assert torch.equal(masks["layers.0.weight"], model.layers[0].weight_mask.bool())
    assert all(mask.all() for name, mask in masks.items() if name != "layers.0.weight")
    prune.random_unstructured(model.layers[1], "bias", amount=1)
    with pytest.raises(InvalidValueError, match=r"masks must name every layer"):
        nets.Ticket.from_pruned(model, layout)
    with pytest.raises(InvalidTypeError, match="masks must be by name"):
        nets.Ticket.from_masks(list(masks.values()), layout)


def test_a_parametrized_state_dict_holds_the_masks():
    model = MLP(SIZES, seed=1)
    ticket = ticket_of(model)
    ticket.apply(model, "parametrize")
    other = ticket_of(MLP(SIZES, seed=1), seed=9)
    again = other.apply(MLP(SIZES, seed=1), "parametrize")
    again.load_state_dict(model.state_dict())
    assert nets.Ticket.from_pruned(again) == ticket
    parametrize.remove_parametrizations(again.layers[0], "weight")
    assert torch.equal(again.layers[0].weight, ticket.apply(MLP(SIZES, seed=1)).layers[0].weight)


@pytest.mark.parametrize("use_buffers", [True, False])
@pytest.mark.parametrize("how", ["mean", "multi_avg_fn", "avg_fn"])
def test_averages_of_parametrized_models_are_those_of_their_weights(how, use_buffers):
    makers = {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn, "avg_fn": swa_utils.get_ema_avg_fn}
    decay = 0.7
    options = {} if how == "mean" else {how: makers[how](decay)}
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3))
    model.register_buffer("scale", torch.ones(2))
    ticket = ticket_of(model)
    ticket.apply(model, "parametrize")
    average = swa_utils.AveragedModel(model, use_buffers=use_buffers, **options)
    seen = []
    for _ in range(4):
        with torch.no_grad():
            model.scale += 1
            for p in model.parameters():
                p += torch.randn_like(p)
        average.update_parameters(model)
        seen.append((model[0].weight.detach().clone(), model.scale.clone()))
    weight, scale = seen[0]
    for i, (w, s) in enumerate(seen[1:], start=1):
        share = 1 / (i + 1) if how == "mean" else 1 - decay
        weight, scale = weight + share * (w - weight), scale + share * (s - scale)
    torch.testing.assert_close(average.module[0].weight, weight)
    torch.testing.assert_close(average.module.scale, scale if use_buffers else seen[-1][1])
    assert nets.Ticket.from_pruned(average.module).digest == ticket.digest


def test_a_parametrized_mask_goes_along():
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    ticket = ticket_of(model)
    ticket.apply(model, "parametrize")
    x = torch.randn(5, 6)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(masking.plain(model)))):
        assert torch.equal(other(x), model(x))
    before = model(x)
    assert torch.equal(torch.func.functional_call(model, model.state_dict(), (x,)), before)
    key = "0.parametrizations.weight.0.mask"
    state = model.state_dict()
    assert state[key].dtype == torch.bool
    assert key not in dict(model.named_buffers())
    del state[key]
    with pytest.raises(RuntimeError, match="Missing key"):
        model.load_state_dict(state)
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_state_dict(state | {key: torch.ones(2, 2, dtype=torch.bool)})
    assert torch.equal(model(x), before)
    doubled = model.double()
    assert doubled[0].parametrizations.weight[0].mask.dtype == torch.bool
    torch.testing.assert_close(doubled(x.double()).float(), before)
    assert model.to("meta")[0].parametrizations.weight[0].mask.is_meta


def test_an_infinite_original_stays_pruned():
    layer = nn.Linear(2, 1)
    parametrize.register_parametrization(layer, "weight", Masked(torch.tensor([[True, False]])))
    with torch.no_grad():
        layer.parametrizations.weight.original[0, 1] = torch.inf
    assert torch.isfinite(layer(torch.ones(1, 2)))


@pytest.mark.parametrize("how", WAYS)
def test_w0_is_that_of_the_ticket(tmp_path, how):
    path = ticket_of(MLP(SIZES, seed=77)).save(tmp_path / "a")
    back = nets.Ticket.load(path)  # the layout is gone: only the digest is known
    other = MLP(SIZES, seed=78)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(InvalidValueError, match="model must hold the ticket's initial weights"):
        back.apply(other, how)
    assert all(torch.equal(before[n], t) for n, t in other.state_dict().items())
    back.apply(MLP(SIZES, seed=77), how)


def test_what_cannot_be_applied_is_refused():
    model = MLP(SIZES, seed=1)
    ticket = ticket_of(model)
    with pytest.raises(InvalidValueError, match=r"how must be a known name: .*'prune'"):
        ticket.apply(model, "pruned")
    ticket.apply(model, "prune")
    with pytest.raises(
        InvalidValueError, match=r"model must hold its weights plainly: .* is masked already"
    ):
        ticket.apply(model, "prune")


def test_the_output_of_attention_is_not_pruned_in_vain():
    model = make("attention")[0]
    with pytest.raises(InvalidValueError, match=r"Attention reads 'attend\.out_proj\.weight'"):
        ticket_for("attention", model).apply(model, "prune")


def test_tied_parameters_are_not_untied():
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    ticket = ticket_of(tied)
    for how in ("prune", "parametrize"):
        with pytest.raises(InvalidValueError, match=r"These are one: 0\.weight, 1\.weight"):
            ticket.apply(tied, how)
    x = torch.randn(3, 4)
    parameters = ticket.apply(tied, "functional")
    out = torch.func.functional_call(tied, parameters, (x,))
    assert torch.equal(out, ticket.apply(tied)(x))


# ---- masks by name


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32, torch.int64, np.bool_, np.uint8])
def test_masks_by_name_go_round(dtype):
    model = MLP(SIZES, seed=5)
    ticket = ticket_of(model)
    masks = ticket.masks()
    assert all(mask.dtype == torch.bool for mask in masks.values())
    numpy = not isinstance(dtype, torch.dtype)
    cast = {n: m.numpy().astype(dtype) if numpy else m.to(dtype) for n, m in masks.items()}
    shuffled = dict(reversed(cast.items()))
    assert nets.Ticket.from_masks(shuffled, model) == ticket
    assert nets.Ticket.from_masks(shuffled, ticket.layout) == ticket
    masks["layers.0.weight"].fill_(False)
    assert ticket.masks()["layers.0.weight"].any()


def test_masks_of_part_of_a_model_lay_out_that_part():
    model = MLP(SIZES, seed=5)
    ticket = nets.Ticket.from_masks({"layers.1.weight": np.eye(3, 8)}, model)
    assert ticket.layout.names == ("layers.1.weight",)
    assert ticket.kept == 3


def test_structured_tickets_take_masks_of_whole_units():
    task = nets.tasks.xor(hidden=6, unit="neuron")
    ticket = task.ticket([1, 0, 1, 1, 0, 1])
    assert nets.Ticket.from_masks(ticket.masks(), task.layout) == ticket
    parts = ticket.masks()
    next(iter(parts.values()))[0, 0] = False
    with pytest.raises(InvalidValueError):
        nets.Ticket.from_masks(parts, task.layout)


def test_masks_that_are_none_are_refused():
    model = MLP(SIZES, seed=5)
    masks = ticket_of(model).masks()
    with pytest.raises(InvalidValueError, match=r"masks\['a'\] must be a mask: .*ones, got 0\.5"):
        nets.Ticket.from_masks({"a": torch.tensor([0.5, 1])}, model)
    with pytest.raises(InvalidValueError, match="masks' layers must be a known name"):
        nets.Ticket.from_masks({"a": torch.ones(2)}, model)
    with pytest.raises(InvalidValueError, match="masks must name every layer"):
        nets.Ticket.from_masks({}, ticket_of(model).layout)
    masks["layers.0.weight"] = torch.ones(8, 5)
    with pytest.raises(InvalidValueError, match="must have the right shape"):
        nets.Ticket.from_masks(masks, model)


def test_a_model_without_values_is_refused_in_every_way():
    model, empty = MLP(SIZES, seed=1), MLP(SIZES, seed=1).to("meta")
    ticket = ticket_of(model)
    for how in WAYS:
        with pytest.raises(InvalidValueError, match=r"model must hold values: .* meta device"):
            ticket.apply(empty, how)
    for operation in (
        ticket.compact,
        ticket.to_csr,
        lambda m: nets.Ticket.from_masks(ticket.masks(), m),
    ):
        with pytest.raises(InvalidValueError, match="model must hold values"):
            operation(empty)


def test_half_precision_is_operation_too():
    model = MLP(SIZES, seed=1).bfloat16()
    masks = {"layers.0.weight": torch.rand(SIZES[1], SIZES[0]) < 0.5}
    ticket = nets.Ticket.from_masks(masks, model)
    ticket.apply(model)
    x = torch.randn(4, SIZES[0]).bfloat16()
    torch.testing.assert_close(ticket.compact(model)(x), model(x), rtol=0.02, atol=0.02)
    assert torch.equal(model.get_parameter("layers.0.weight") != 0, masks["layers.0.weight"])


@pytest.mark.parametrize("how", ["prune", "parametrize"])
def test_what_is_masked_for_good_has_its_parameters_in_the_order_of_the_layers(how):
    """Optimiser states are saved by the places of parameters."""
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    applied = ticket_of(model).apply(copy.deepcopy(model), how)
    assert [*plain(applied).state_dict()] == [*model.state_dict()]


# ---- W0, or what the model holds


def trained_mlp(seed=3):
    model = MLP(SIZES, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    return model


def values_in(applied, how):
    if how == "functional":
        return applied
    if how in ("parametrize", "prune"):
        return dict(plain(applied).named_parameters())
    return dict(applied.named_parameters())


@pytest.mark.parametrize("how", WAYS)
def test_trained_weights_are_kept_or_replaced_as_one_says(how):
    ticket = ticket_of(MLP(SIZES, seed=3))
    with pytest.raises(InvalidValueError, match=r"values must say which weights are meant: .*own"):
        ticket.apply(model := trained_mlp(), how)
    for name, tensor in trained_mlp().state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor)
    for values, source in (("own", trained_mlp()), ("initial", MLP(SIZES, seed=3))):
        found = values_in(ticket.apply(trained_mlp(), how, values=values), how)
        for name, mask in ticket.masks().items():
            expected = torch.where(mask, source.get_parameter(name), 0)
            assert torch.equal(found[name], expected)
        assert torch.equal(found["layers.0.bias"], trained_mlp().layers[0].bias)
    with pytest.raises(
        InvalidValueError, match=r"values must be a known name: .*Did you mean 'own'"
    ):
        ticket.apply(trained_mlp(), how, values="owns")


@pytest.mark.parametrize("how", ["prune", "parametrize"])
def test_a_mask_on_own_weights_computes_the_same_and_loses_nothing(how, xor_task):
    ticket = xor_task.ticket(np.arange(xor_task.layout.size) % 3 > 0)
    module = xor_task.train(ticket).module()
    x = xor_task.problem.val[0]
    expected = module(x)
    assert torch.equal(ticket.apply(module, how, values="own")(x), expected)
    dense = trained_mlp()
    before = {name: tensor.clone() for name, tensor in dense.named_parameters()}
    other = ticket_of(MLP(SIZES, seed=3))
    other.apply(dense, how, values="own")
    kept = dict(originals(dense, how))
    assert [torch.equal(one, before[n]) for n, one in zip(other.masks(), kept, strict=True)] == [
        True,
        True,
    ]


@pytest.mark.parametrize("how", WAYS)
def test_a_model_that_holds_w0_masked_or_not_needs_no_words(how):
    model = MLP(SIZES, seed=3)
    ticket, other = ticket_of(model, seed=1), ticket_of(model, seed=2)
    other.apply(model)
    found = values_in(ticket.apply(model, how), how)  # of the other one nothing is left
    for name, mask in ticket.masks().items():
        expected = torch.where(mask, MLP(SIZES, seed=3).get_parameter(name), 0)
        assert torch.equal(found[name], expected)


def test_own_weights_need_no_digest(tmp_path):
    back = nets.Ticket.load(ticket_of(MLP(SIZES, seed=77)).save(tmp_path / "a"))
    model = back.apply(trained_mlp(), values="own")
    for name, mask in back.masks().items():
        expected = torch.where(mask, trained_mlp().get_parameter(name), 0)
        assert torch.equal(model.get_parameter(name), expected)
    with pytest.raises(InvalidValueError, match=r"initial weights.*values='own' masks the weights"):
        back.apply(trained_mlp(), values="initial")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("how", WAYS)
def test_w0_is_known_in_any_dtype(how, dtype):
    ticket = ticket_of(MLP(SIZES, seed=3))
    expected = ticket.apply(MLP(SIZES, seed=3)).to(dtype)
    found = values_in(ticket.apply(MLP(SIZES, seed=3).to(dtype), how), how)
    for name in ticket.masks():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], expected.get_parameter(name))


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager")])
@pytest.mark.parametrize("how", WAYS)
def test_wrapped_models_are_masked_inside(how, wrap):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    ticket, x = ticket_of(model), torch.randn(4, 6)
    expected = ticket.apply(copy.deepcopy(model))(x)
    wrapped = wrap(model)
    applied = ticket.apply(wrapped, how)
    if how == "functional":
        assert set(applied) == {name for name, _ in wrapped.named_parameters()}
        if not isinstance(wrapped, nn.DataParallel):  # which torch does not call in this way
            assert torch.equal(torch.func.functional_call(wrapped, applied, (x,)), expected)
        return
    assert applied is wrapped
    assert torch.equal(applied(x), expected)
    torch.testing.assert_close(ticket.compact(applied)(x), expected)
    torch.testing.assert_close(ticket.to_csr(applied)(x), expected)
    if how != "inplace":
        assert nets.Ticket.from_pruned(applied) == ticket


@pytest.mark.parametrize("how", ["prune", "parametrize"])
def test_what_torch_does_not_copy_goes_by_its_state(how, tmp_path):
    ticket = ticket_of(MLP(SIZES, seed=3))
    model = ticket.apply(trained_mlp(), how, values="own")
    torch.save(model.state_dict(), tmp_path / "state.pt")
    again = ticket.apply(MLP(SIZES, seed=3), how)
    again.load_state_dict(torch.load(tmp_path / "state.pt"))
    x = torch.randn(5, 6)
    assert torch.equal(again(x), model(x))
