"""Dropout from keys: what torch's own does, with patterns that nothing else can disturb."""

import threading

import numpy as np
import pytest
import torch
from support.networks import PLAN, RECIPES, assert_same, make_task, masks_of, reference
from torch import nn
from torch.func import vmap
from torch.nn import functional as F

from nets_deap.training.engines.dropout import at_step, keyed, keys_of
from nets_deap.training.engines.vmap import train_vmap

CPU = torch.device("cpu")
KEYS = keys_of([np.array([i], dtype=np.uint8) for i in range(200)], 5, CPU)
KINDS = {
    "dropout": (F.dropout, (40, 30)),
    "dropout1d": (F.dropout1d, (40, 30, 3)),
    "dropout2d": (F.dropout2d, (40, 30, 2, 2)),
    "dropout3d": (F.dropout3d, (40, 30, 2, 2, 2)),
    "alpha": (F.alpha_dropout, (40, 30)),
    "feature_alpha": (F.feature_alpha_dropout, (40, 30, 4)),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def drawn(key, kind, p=0.3, x=None, **more):
    function, shape = KINDS[kind]
    with keyed(key):
        return getattr(F, function.__name__)(torch.ones(shape) if x is None else x, p, True, **more)


@each_kind
def test_each_value_is_one_that_torch_gives_and_as_often(kind):
    function, shape = KINDS[kind]
    ones = torch.ones(shape)
    torch.manual_seed(0)
    theirs = torch.stack([function(ones, 0.3, True) for _ in range(50)])
    ours = torch.stack([drawn(key, kind) for key in KEYS[:50]])
    values, counts = theirs.unique(return_counts=True)
    own, own_counts = ours.unique(return_counts=True)
    torch.testing.assert_close(own, values)
    share = (counts / counts.sum())[0].item()
    units = ours.numel() / (1 if len(shape) == 2 else np.prod(shape[2:]))
    error = 5 * np.sqrt(share * (1 - share) / units)
    assert (own_counts / own_counts.sum())[0].item() == pytest.approx(share, abs=2 * error)
    channels = ours.reshape(50, *shape[:2], -1)
    assert (channels == channels[..., :1]).all(), "a channel is dropped as a whole"


@each_kind
@pytest.mark.parametrize("p", [0.0, 1.0])
def test_the_ends_of_the_range(kind, p):
    function, shape = KINDS[kind]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(drawn(KEYS[0], kind, p, x), function(x.clone(), p, True))
    y = x.clone()
    result = drawn(KEYS[0], kind, 0.5, y, inplace=True)
    assert result.data_ptr() == y.data_ptr()
    torch.testing.assert_close(result, drawn(KEYS[0], kind, 0.5, x))
    with keyed(KEYS[0]):
        assert getattr(F, function.__name__)(x, 0.5, False) is x


def test_patterns_of_networks_steps_and_places_are_independent():
    def pattern(step):
        def one(key):
            with keyed(key):
                return torch.stack([F.dropout(torch.ones(50, 80), 0.5) for _ in range(2)])

        return vmap(one)(at_step(KEYS, step)) != 0

    bits = torch.cat([pattern(0), pattern(1)]).reshape(800, -1).double() * 2 - 1
    correlation = bits @ bits.T / bits.shape[1]
    correlation.fill_diagonal_(0)
    sd = bits.shape[1] ** -0.5
    assert correlation.std().item() == pytest.approx(sd, rel=0.02)
    assert correlation.abs().max().item() < 6 * sd
    along = (bits[:, 1:] * bits[:, :-1]).mean().item()
    assert abs(along) < 5 / np.sqrt(bits.numel())


def test_a_key_holds_in_its_own_thread_and_is_gone_afterwards():
    before = {name: getattr(F, name) for name in ("dropout", "scaled_dot_product_attention")}
    x, found = torch.ones(1000), {}

    def elsewhere():
        torch.manual_seed(3)
        found["other"] = F.dropout(x)

    with keyed(KEYS[0]) as count:
        one = F.dropout(x)
        with keyed(KEYS[1]):
            F.dropout(x)
        assert count() == 1, "the outer key goes on where it was"
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        two = F.dropout(x)
    assert {name: getattr(F, name) for name in before} == before
    torch.manual_seed(3)
    assert torch.equal(found["other"], F.dropout(x))
    assert not torch.equal(one, two)
    with keyed(KEYS[0]):
        assert torch.equal(F.dropout(x), one)
        assert torch.equal(F.dropout(x), two)


@pytest.mark.parametrize("kind", ["plain", "causal", "bool", "float", "scale", "gqa"])
def test_attention_without_its_dropout_is_torchs_own(kind):
    rng = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, 5, 8, generator=rng)
    k, v = (torch.randn(2, 2 if kind == "gqa" else 4, 6, 8, generator=rng) for _ in range(2))
    mask = torch.rand(5, 6, generator=rng) > 0.3
    mask[:, 0] = True
    more = {
        "plain": {}, "causal": {"is_causal": True}, "bool": {"attn_mask": mask},
        "float": {"attn_mask": mask.float()}, "scale": {"scale": 0.3}, "gqa": {"enable_gqa": True},
    }[kind]  # fmt: skip
    expected = F.scaled_dot_product_attention(q, k, v, **more)
    with keyed(KEYS[0]):
        torch.testing.assert_close(F.scaled_dot_product_attention(q, k, v, **more), expected)
        tiny = F.scaled_dot_product_attention(q, k, v, dropout_p=1e-12, **more)
    torch.testing.assert_close(tiny, expected)


def test_networks_drop_out_independently_and_the_same_in_any_company():
    task = make_task("dropout", RECIPES["sgd"])
    masks = masks_of(task, (0.9, 0.8, 0.7, 0.6))
    whole = train_vmap(task.problem, masks, PLAN)
    part = train_vmap(task.problem, masks[2:], PLAN, chunk=1)
    assert_same(part, whole, rtol=1e-11, places=[2, 3])


def test_two_networks_that_differ_in_a_weight_without_effect_see_other_patterns():
    class Spare(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3))
            self.spare = nn.Linear(3, 1)

        def forward(self, x):
            return self.body(x)

    task = make_task("mlp", RECIPES["sgd"], model=Spare())
    mask = np.ones(task.layout.size, dtype=bool)
    other = mask.copy()
    other[-1] = False
    masks = [task.ticket(m).packed for m in (mask, other)]
    for engine in (train_vmap, reference):
        losses = engine(task.problem, masks, PLAN).metrics["val_loss"]
        assert abs(losses[0] - losses[1]) > 1e-4
