"""Structured layouts: units and weights, densities, and what does not fit together."""

import copy
import gc
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.trained import set_trained
from torch import nn

import nets_deap as nets
from nets_deap import operators
from nets_deap.models import lenet5, lenet_300_100
from nets_deap.names import parse_unit
from nets_deap.tickets import bits
from nets_deap.tickets.genome import Genome
from nets_deap.tickets.layout import known_layout
from nets_deap.tickets.layout_of import layout_of
from nets_deap.tickets.units import UnitLayout

quick = settings(deadline=None, max_examples=60)
SHAPES = [("a", (5, 7)), ("b", (4, 6, 3, 3)), ("c", (3, 4))]
WEIGHTS = nets.MaskLayout(SHAPES, np.random.default_rng(0).normal(size=35 + 216 + 12))
LAYOUTS = {
    "neuron": UnitLayout(WEIGHTS, "neuron", [(1, 7), (1, 54), None]),
    "block(4x1)": UnitLayout(WEIGHTS, "block(4x1)", [(4, 1)] * 3),
    "block(2x4)": UnitLayout(WEIGHTS, "block(2x4)", [(2, 4)] * 3),
    "2:4": UnitLayout(WEIGHTS, "2:4", [(1, 1)] * 3),
}
every_unit = pytest.mark.parametrize("unit", LAYOUTS)


def drawn(layout, density, seed=0):
    return nets.Ticket(np.random.default_rng(seed).random(layout.size) < density, layout)


def by_hand(unit, gates):
    """Expand bits the slow way."""
    masks, place = [], 0
    for (_, shape), last in zip(SHAPES, (False, False, True), strict=True):
        matrix = np.zeros((shape[0], int(np.prod(shape[1:]))), dtype=bool)
        if unit == "neuron":
            r, c = 1, matrix.shape[1]
        else:
            r, c = parse_unit("unit", unit)[1]
        for i in range(0, matrix.shape[0], r):
            for j in range(0, matrix.shape[1], c):
                if unit == "neuron" and last:
                    matrix[i : i + r, j : j + c] = True
                    continue
                matrix[i : i + r, j : j + c] = gates[place]
                place += 1
        masks.append(matrix.reshape(-1))
    return np.concatenate(masks)


@pytest.mark.parametrize("unit", ["neuron", "block(4x1)", "block(2x4)"])
def test_bits_expand_to_whole_units(unit):
    layout = LAYOUTS[unit]
    for seed in range(10):
        ticket = drawn(layout, 0.5, seed)
        expected = by_hand(unit, ticket.gates)
        np.testing.assert_array_equal(ticket.mask, expected)
        np.testing.assert_array_equal(bits.unpack(ticket.packed_mask, 263), expected)
        assert ticket.kept == expected.sum()
        assert ticket.density == expected.sum() / 263
        fixed = 12 if unit == "neuron" else 0
        sizes = layout.sizes()
        assert layout.counts(ticket.packed).sum() + fixed == ticket.kept
        assert sizes.sum() + fixed == 263 == layout.unit_sizes.sum() + fixed
        assert ticket.layer_densities == {
            name: part.mean() for name, part in WEIGHTS.split(expected).items()
        }


@quick
@given(density=st.floats(0, 1), seed=st.integers(0, 999))
def test_of_four_inputs_the_two_of_largest_weight_stay(density, seed):
    layout = LAYOUTS["2:4"]
    ticket = drawn(layout, density, seed)
    masks, sizes = WEIGHTS.split(ticket.mask), WEIGHTS.split(np.abs(WEIGHTS.initial))
    for name, gates in layout.split(ticket.gates).items():
        kept, set_, w = (
            np.moveaxis(part, 1, -1).reshape(-1, part.shape[1])
            for part in (masks[name], gates, sizes[name])
        )
        for row in range(len(kept)):
            for i in range(0, kept.shape[1], 4):
                group = slice(i, i + 4)
                k, s = kept[row, group], set_[row, group]
                assert k.sum() == min(2, s.sum())
                assert not (k & ~s).any()
                lost = s & ~k
                if lost.any():
                    assert w[row, group][lost].max() <= w[row, group][k].min()
    again = nets.Ticket(ticket.mask, layout)
    np.testing.assert_array_equal(again.mask, ticket.mask)


@every_unit
def test_a_mask_of_whole_units_can_be_assigned_and_no_other(unit):
    one, other = drawn(LAYOUTS[unit], 0.5), drawn(LAYOUTS[unit], 0.5, 1)
    one.mask = other.mask
    np.testing.assert_array_equal(one.mask, other.mask)
    torn = other.mask
    if unit == "2:4":
        torn[:4] = True
    else:
        torn[0] ^= True
    with pytest.raises(ValueError, match=rf"mask must be made of whole units of '{unit[0]}.*gates"):
        one.mask = torn
    with pytest.raises(ValueError, match="mask must have the right length: expected D = 263"):
        one.mask = torn[1:]
    with pytest.raises(ValueError, match="gates must have the right length"):
        one.gates = torn[1:]


@every_unit
def test_it_is_a_list_of_bits_for_deap(unit):
    from deap import tools

    one, other = drawn(LAYOUTS[unit], 0.5), drawn(LAYOUTS[unit], 0.5, 1)
    before = one.gates.astype(int) + other.gates
    tools.cxTwoPoint(one, other)
    np.testing.assert_array_equal(one.gates.astype(int) + other.gates, before)
    tools.mutFlipBit(one, indpb=0.2)
    assert len(one) == LAYOUTS[unit].size == len(one[:]) == len(list(one))
    assert one.mask.shape == (263,)
    one.gates = np.ones(len(one))
    assert 0 not in one
    assert 1 in one


@every_unit
def test_copies_and_pickles_keep_all(unit):
    ticket = drawn(LAYOUTS[unit], 0.5)
    for twin in (copy.deepcopy(ticket), pickle.loads(pickle.dumps(ticket))):
        assert twin == ticket
        assert (twin.kept, twin.unit, twin.density) == (ticket.kept, unit, ticket.density)
        assert twin.units is LAYOUTS[unit]
    assert f"units '{unit}'" in repr(ticket)
    assert f"{ticket.kept} of 263 weights" in repr(ticket)


def test_without_its_layout_a_structured_ticket_says_so():
    weights = nets.MaskLayout([("a", (3, 2)), ("b", (2, 3))], initial_digest="elsewhere")
    ticket = nets.Ticket([1, 0, 1], UnitLayout(weights, "neuron", [(1, 2), None]))
    data, key = pickle.dumps(ticket), ticket.layout_key
    del ticket, weights
    gc.collect()
    assert known_layout(key) is None
    lost = pickle.loads(data)
    assert repr(lost) == "Ticket(2 of 3 units 'neuron', fitness ())"
    for read in ("mask", "kept", "density", "n_weights", "packed_mask"):
        with pytest.raises(nets.NetsError, match="The ticket has no layout: it came from another"):
            getattr(lost, read)


# ---- layouts of models


def test_neurons_and_filters_of_all_layers_but_the_last():
    layout = layout_of(lenet5(), unit="filter")
    assert [layer.shape for layer in layout.layers] == [(6,), (16,), (120,), (84,)]
    assert (layout.unit, layout.fixed, layout.weights.size) == ("neuron", 840, 61_470 + 226)
    assert layout.key == layout_of(lenet5(), unit="neuron").key
    # The output layer keeps its bias, which is none of the layout's.
    assert "11.bias" not in layout.weights.names
    assert layout.follows == {f"{i}.bias": f"{i}.weight" for i in (0, 3, 7, 9)}
    assert layout_of(lenet5()).key == nets.MaskLayout.of(lenet5()).key


def test_filters_of_transposed_convolutions_lie_on_the_second_axis():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.ConvTranspose2d(4, 6, 3, bias=False), nn.ReLU(), nn.Conv2d(6, 2, 1, bias=False)
    )
    layout = layout_of(model, unit="filter")
    assert [layer.shape for layer in layout.layers] == [(6,)]
    x = torch.randn(2, 4, 5, 5)
    for i in range(6):
        ticket = nets.Ticket(np.arange(6) != i, layout)
        assert ticket.kept == 4 * 6 * 9 * 5 // 6 + 12
        masked = ticket.apply(copy.deepcopy(model))
        dead = masked[0](x).abs().sum((0, 2, 3)) == 0
        assert dead.tolist() == [j == i for j in range(6)]


class Residual(nn.Module):
    """Two blocks on a path of 6 channels."""

    def __init__(self, norm=nn.BatchNorm2d):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 6, 3, padding=1), norm(6)
        self.one, self.two = nn.Conv2d(6, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.two(torch.relu(self.one(x)))
        return self.head(x.mean((2, 3)))


def test_filters_that_are_added_are_one_unit(tmp_path):
    model = Residual()
    layout = layout_of(model, unit="filter")
    assert layout_of(nn.DataParallel(model), unit="filter").key == layout.key
    assert [(la.name, la.shape) for la in layout.layers] == [
        ("stem.weight", (6,)),
        ("one.weight", (4,)),
    ]
    assert layout.fixed == 18  # the outputs
    gates = np.ones(10)
    gates[[1, 7]] = 0
    ticket = nets.Ticket(gates, layout)
    masks = layout.weights.split(ticket.mask)
    assert np.flatnonzero(~masks["stem.weight"].any((1, 2, 3))).tolist() == [1]
    assert np.flatnonzero(~masks["two.weight"].any((1, 2, 3))).tolist() == [1]
    assert np.flatnonzero(~masks["one.weight"].any((1, 2, 3))).tolist() == [1]
    # With the biases of both convolutions, and a factor and a term.
    assert layout.unit_sizes.tolist() == [18 + 36 + 4] * 6 + [54 + 1] * 4
    assert layout.counts(ticket.packed).tolist() == [5 * 58, 3 * 55]
    for name in ("stem.bias", "two.bias", "norm.weight", "norm.bias", "one.bias"):
        assert np.flatnonzero(~masks[name]).tolist() == [1], name
    assert layout.sizes().sum() + layout.fixed == layout.weights.size
    squares = layout.root_mean_square(np.ones(layout.weights.size))
    np.testing.assert_allclose(squares, 1)
    np.testing.assert_array_equal(layout.bits_of(ticket.mask), gates)
    back = nets.Ticket.load(ticket.save(tmp_path / "t"))
    assert (back.layout_key, back.layout) == (ticket.layout_key, layout)
    torn = masks["two.weight"].copy()
    torn[0] = False
    mask = layout.weights.join({**masks, "two.weight": torn})
    with pytest.raises(ValueError, match="mask must be made of whole units"):
        ticket.mask = mask


def test_what_a_file_says_of_ties_is_checked():
    weights = nets.MaskLayout([("a", (3, 2)), ("b", (3, 3))], np.ones(15))
    tiles = [(1, 2), (1, 3)]
    assert UnitLayout(weights, "neuron", tiles, [[0, -1, 1], [1, 0, 2]]).size == 3
    for ties in ([[0, 2, 1], [0, 0, 4]], [[1, 0, 0], [0, 0, 0]], [[0, -2, 0], [0, 0, 0]]):
        if ties[0] == [1, 0, 0]:
            continue
        with pytest.raises(ValueError, match="ties must count bits"):
            UnitLayout(weights, "neuron", tiles, ties)
    with pytest.raises(ValueError, match="ties must have the right shape"):
        UnitLayout(weights, "neuron", tiles, [[0, 1], [0, 0, 0]])
    with pytest.raises(ValueError, match="leave something to gate"):
        UnitLayout(weights, "neuron", tiles, [[-1] * 3, [-1] * 3])


def test_what_cannot_be_cut_is_kept_whole_and_named(caplog):
    layout = layout_of(Residual(lambda n: nn.GroupNorm(1, n)), unit="filter")
    assert layout.names == ("one.weight",)
    assert layout.whole["stem.weight"] == "group_norm in 'norm' (GroupNorm)"
    assert layout.whole["head.weight"] == "they are the network's outputs"
    data = torch.randn(8, 2, 6, 6), torch.arange(8) % 3
    options = {"train": data, "unit": "filter", "recipe": nets.Recipe(batch_size=4, steps=1)}
    task = nets.Task(Residual(lambda n: nn.GroupNorm(1, n)), **options)
    assert "'stem.weight' (group_norm in 'norm' (GroupNorm))" in caplog.text
    assert "group_norm in 'norm' (GroupNorm)" in str(nets.describe(task))


class Deciding(Residual):
    def forward(self, x):
        return super().forward(x if x.sum() > 0 else -x)


def test_what_cannot_be_followed_is_refused_before_anything_trains():
    data = torch.randn(8, 2, 6, 6), torch.arange(8) % 3
    with pytest.raises(ValueError, match=r"followed: .*__bool__ in Deciding .* on numbers"):
        nets.Task(Deciding(), train=data, unit="filter", recipe=nets.Recipe(batch_size=4))


def attending():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 4, 12, batch_first=True)
    return nn.Sequential(nn.Linear(3, 8), nn.TransformerEncoder(layer, 1), nn.Linear(8, 2)).eval()


def test_heads_of_attention_are_units():
    model = attending()
    layout = layout_of(model, unit="head", example=torch.zeros(1, 5, 3))
    name = "1.layers.0.self_attn.in_proj_weight"
    assert [(la.name, la.shape) for la in layout.layers] == [(name, (4,))]
    ticket = nets.Ticket([1, 0, 0, 1], layout)
    kept = layout.weights.split(ticket.mask)[name].all(1)
    assert kept.reshape(3, 4, 2).tolist() == [[[1] * 2, [0] * 2, [0] * 2, [1] * 2]] * 3
    masked, x = ticket.apply(model), torch.randn(3, 5, 3)
    small = ticket.compact(masked, x[:1])
    torch.testing.assert_close(small(x), masked(x), rtol=1e-5, atol=1e-6)
    assert small[1].layers[0].self_attn.num_heads == 2


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"unit": "row"}, "unit must be a known name: expected one of 'weight', 'neuron', .*"),
        ({"unit": "block(RxC)"}, r"unit must say how large a block is: .* as in 'block\(4x1\)'"),
        ({"unit": "block(0x1)"}, "unit must be a known name"),
        ({"unit": 3}, "unit must be a known name"),
        (
            {"unit": "neuron", "maskable": "2.weight"},
            "maskable must leave something to gate by unit 'neuron': .* besides the network's own",
        ),
        (
            {"unit": "neuron", "maskable": "*.bias"},
            "maskable must leave something to gate by unit 'neuron'",
        ),
        ({"unit": "2:4", "maskable": "0.bias"}, "maskable must have units '2:4'"),
    ],
)
def test_what_has_no_units_is_refused(options, text):
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 2))
    with pytest.raises(ValueError, match=text):
        layout_of(model, **options)


def test_2_of_4_refuses_transposed_convolutions():
    with pytest.raises(ValueError, match=r"maskable must have units '2:4': .* not transposed, got"):
        layout_of(nn.ConvTranspose1d(4, 4, 3), unit="2:4")


@pytest.mark.parametrize(
    ("unit", "tiles", "text"),
    [
        ("weight", [(1, 1)] * 3, "unit must gate more than a weight"),
        ("neuron", [(1, 7)], "tiles must have the right length: expected L = 3, got 1"),
        ("neuron", [None] * 3, "maskable must leave something to gate"),
        ("neuron", [(0, 7), None, None], "tiles must be in range"),
        ("block(2x2)", [(2, 1)] * 3, r"tiles must be those of the unit: expected \(2, 2\)"),
    ],
)
def test_tiles_that_make_no_sense_are_refused(unit, tiles, text):
    with pytest.raises(ValueError, match=text):
        UnitLayout(WEIGHTS, unit, tiles)


def test_genomes_have_a_gate_for_each_weight():
    with pytest.raises(ValueError, match="layout must have a gate for each weight of a genome"):
        Genome(np.ones(9), LAYOUTS["neuron"])


# ---- rates are shares of weights


@every_unit
@pytest.mark.parametrize("density", [0.3, 0.4, 0.5])
@pytest.mark.parametrize("distribution", ["uniform", "erk"])
def test_random_tickets_have_the_density_asked_for(unit, density, distribution):
    layout, rng = LAYOUTS[unit], np.random.default_rng(0)
    largest = 1 if layout.unit_sizes is None else int(layout.unit_sizes.max())
    for _ in range(5):
        ticket = operators.init_density(
            nets.Ticket, layout, density=density, distribution=distribution, rng=rng
        )
        # Ragged units are drawn by their own sizes: half of one in each layer.
        assert abs(ticket.kept - density * 263) <= largest * 1.5 + 1
        assert layout.counts(ticket.packed).min() > 0
        assert unit != "2:4" or ticket.kept == round(density * 263) == ticket.gates.sum()


@every_unit
def test_densities_out_of_reach_are_refused_or_taken_into_range(unit):
    layout = LAYOUTS[unit]
    low, high = layout.density_range
    assert (high < 1) == (unit == "2:4")
    with pytest.raises(ValueError, match=r"density must suit the units '.*': expected in \["):
        operators.init_density(nets.Ticket, layout, density=low / 2)
    first, *_, last = operators.init_log_spaced(nets.Ticket, layout, 4, low=1e-9, high=1.0)
    assert first.density == high
    largest = [1] if layout.unit_sizes is None else layout.split(layout.unit_sizes).values()
    assert low <= last.density <= low + sum(np.max(part) for part in largest) / 263


@every_unit
def test_lenet_loses_the_share_of_weights_that_is_asked_for(unit):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(40, 60), nn.ReLU(), nn.Linear(60, 30), nn.ReLU(), nn.Linear(30, 8)
    )
    layout = layout_of(model, unit=unit)
    largest = 1 if layout.unit_sizes is None else int(layout.unit_sizes.max())
    rng = np.random.default_rng(0)
    for seed in range(5):
        ticket, other = (
            operators.init_density(nets.Ticket, layout, density=d, rng=rng) for d in (0.45, 0.3)
        )
        kept = ticket.kept
        operators.mut_prune(ticket, fraction=0.2, rng=rng)
        assert abs(ticket.kept - 0.8 * kept) <= largest / 2 + 1
        kept = ticket.kept
        operators.mut_regrow(ticket, fraction=0.3, rng=rng)
        assert abs(ticket.kept - 1.3 * kept) <= largest / 2 + 1
        kept = ticket.kept
        operators.mut_swap(ticket, fraction=0.3, rng=rng)
        assert abs(ticket.kept - kept) <= 2 * len(layout.layers)
        both = ticket.kept + other.kept
        operators.cx_interpolate(ticket, other, rng=rng)
        assert abs(ticket.kept + other.kept - both) <= largest + 1
        bounded = operators.keep_density(0.25, 0.3, rng=rng)(lambda *tickets: tickets)
        ticket.gates = np.random.default_rng(seed).random(layout.size) < 0.02
        other.gates = np.ones(layout.size)
        for child in bounded(ticket, other):
            assert 0.25 - largest / layout.weights.size <= child.density
            assert child.density <= 0.3 + largest / layout.weights.size
            assert layout.counts(child.packed).min() > 0


def test_the_units_of_least_mean_square_go_first():
    layout = UnitLayout(
        nets.MaskLayout(
            [("a", (3, 2)), ("b", (2, 3))], np.array([3, 3, 1, 2, 4, 0, 1, 1, 1, 5, 5, 5.0])
        ),
        "neuron",
        [(1, 2), (1, 3)],
    )
    ticket = nets.Ticket(np.ones(5), layout)
    # Root mean squares: 3, 1.58, 2.83, 1, 5.
    for lost in ([3], [3, 1], [3, 1, 2]):
        again = copy.deepcopy(ticket)
        n = sum(int(layout.unit_sizes[i]) for i in lost)
        operators.mut_prune(again, fraction=n / 12)
        assert np.flatnonzero(~again.gates).tolist() == sorted(lost)


def test_units_are_regrown_where_the_gradient_was_largest():
    layout = LAYOUTS["block(4x1)"]
    gates = np.zeros(layout.size)
    gates[::2] = True
    ticket = nets.Ticket(gates, layout)
    first = np.array([5, 61, 7, 33, 51])
    set_trained(ticket, np.ones(ticket.kept), gradients=np.ones(ticket.kept), candidates=first)
    n = layout.unit_sizes[first[:3]].sum()
    operators.mut_regrow(ticket, fraction=n / ticket.kept, by="gradient")
    assert np.flatnonzero(ticket.gates != gates).tolist() == [5, 7, 61]
    assert ticket.trained is None


def test_operators_that_see_columns_refuse_units():
    task = nets.tasks.xor(hidden=4, unit="neuron")
    for operator in operators.NEURONS:
        tickets = [task.dense_ticket() for _ in range(2 if "cx" in operator.__name__ else 1)]
        with pytest.raises(
            ValueError, match=r"layout must be feedforward: .* a bit for each weight"
        ):
            operator(*tickets)


# ---- tasks


@pytest.mark.parametrize("unit", ["neuron", "block(2x1)", "2:4"])
def test_training_sees_the_mask_of_weights(unit):
    task = nets.tasks.xor(
        hidden=6,
        recipe=nets.Recipe(lr=0.05, batch_size=4, steps=20),
        unit=unit,
        loss="binary_cross_entropy",
    )
    names = list(task.layout.weights.names)  # biases follow their neurons
    plain = nets.tasks.xor(hidden=6, recipe=task.recipe, maskable=names)
    gates = np.arange(task.layout.size) % 3 != 0
    ticket = task.ticket(gates)
    same = plain.ticket(ticket.mask)
    assert same.density == ticket.density < 1
    results = [task.train(ticket), plain.train(same), task.train(same)]
    assert results[0] == results[1] == results[2]
    state = results[0].module().state_dict()
    for name, mask in plain.layout.split(ticket.mask).items():
        assert not state[name].numpy()[~mask].any()
    assert task.fingerprint != plain.fingerprint
    assert task.as_dict()["unit"] == unit
    assert task.dense_ticket().density == 1.0
    task.train(task.dense_ticket(), steps=1)
    task.train(nets.Ticket(gates), steps=1)
    with pytest.raises(ValueError, match="ticket must belong to this task"):
        task.train(nets.tasks.xor(hidden=5, unit=unit).dense_ticket())


def test_multiply_adds_count_what_is_left_of_the_whole_network():
    task = nets.tasks.xor(hidden=6, unit="neuron")
    evaluator = nets.Evaluator(task, ("multiply_adds", "live_inputs", "density"))
    ticket = task.ticket([1, 1, 0, 0, 0, 0])
    assert evaluator(ticket) == (2 * 2 + 2 * 1, 2, (4 + 2 + 6) / 24)


@pytest.mark.parametrize("inherit", ["none", "weights"])
@pytest.mark.parametrize("unit", ["neuron", "block(2x1)", "2:4"])
def test_a_search_with_gradients_and_inheritance(unit, inherit):
    task = nets.tasks.xor(hidden=8, unit=unit)
    found = nets.search(
        task,
        population=6,
        generations=4,
        budget=1200,
        inherit=inherit,
        gradient=True,
        density=(0.2, 1.0),
        cxpb=0.4,
        mutpb=0.6,
        progress="none",
    )
    assert len(found.front) > 1
    for ticket in found.front:
        assert ticket.trained.values.shape == (ticket.kept,)
        assert ticket.layout is task.layout
        assert task.layout.counts(ticket.packed).min() > 0
        assert ticket.fitness.values[1] == ticket.density >= 0.2


def test_baselines_that_rank_weights_refuse_units_and_others_do_not():
    from nets_deap import baselines

    task = nets.tasks.xor(hidden=8, unit="neuron")
    with pytest.raises(
        ValueError, match="task must gate single weights, which this baseline ranks"
    ):
        baselines.snip(task, [0.5])
    with pytest.raises(ValueError, match="task must gate single weights"):
        baselines.imp(nets.tasks.xor(hidden=8, unit="2:4"), rounds=2, steps=5)
    [ticket] = baselines.random_erk(task, [0.5]).tickets
    assert ticket.unit == "neuron"
    assert ticket.density == 17 / 32  # 8 of outputs, and whole neurons of 3


def test_a_check_shuffles_units():
    task = nets.tasks.xor(hidden=8, unit="neuron")
    report = nets.sanity.check(task.ticket([1, 0] * 4), task, steps=5, seeds=2)
    densities = {name: variant.density for name, variant in report.variants.items()}
    assert densities.pop("dense") == 1.0
    assert set(densities.values()) == {(8 + 4 + 8) / 32}


def test_lenet_expands_quickly_enough_to_keep_no_copy():
    layout = layout_of(lenet_300_100(), unit="neuron")
    ticket = nets.Ticket(np.ones(layout.size), layout)
    assert len(pickle.dumps(ticket)) < 1000


class Turned(nn.Module):
    """Registers its outputs before the layer that runs first."""

    def __init__(self, soft):
        super().__init__()
        self.soft, self.head, self.body = soft, nn.Linear(8, 3), nn.Linear(6, 8)
        if not soft:
            self.other = nn.Linear(8, 2)

    def forward(self, x):
        h = torch.relu(self.body(x))
        if self.soft:
            return self.head(h).softmax(1)
        return self.head(h), self.other(h).reshape(-1, 2, 1)


@pytest.mark.parametrize("soft", [False, True])
def test_neurons_that_are_outputs_are_those_of_the_layers_that_make_them(soft):
    def loss(output, target):
        return (output if soft else output[0]).mean()

    data = (np.random.default_rng(0).normal(size=(20, 6)), np.arange(20) % 3)
    recipe = nets.Recipe(batch_size=5, steps=2)
    task = nets.Task(Turned(soft), train=data, loss=loss, unit="neuron", recipe=recipe)
    assert task.layout.names == ("body.weight",)
    assert task.layout.weights.size == 24 + 48 + 8 + (0 if soft else 16)


@pytest.mark.parametrize(
    "shapes", [[("a", (6, 8)), ("b", (3, 4))], [("a", (5, 7)), ("b", (3, 6, 2))]]
)
@pytest.mark.parametrize("kind", ["keys", "random", "initial"])
def test_as_many_of_four_fit_as_there_is_room_for(shapes, kind):
    rng = np.random.default_rng(0)
    size = sum(int(np.prod(shape)) for _, shape in shapes)
    weights = nets.MaskLayout(shapes, rng.normal(size=size).round(1))
    layout = UnitLayout(weights, "2:4", [(1, 1)] * 2)
    groups = [
        part.reshape(-1)[i : i + 4]
        for places in layout.split(np.arange(size)).values()
        for part in np.moveaxis(places, 1, -1).reshape(-1, places.shape[1])
        for i in range(0, len(part), 4)
    ]
    capacity = sum(min(2, len(group)) for group in groups)
    assert layout.capacity().sum() == capacity
    for share in (0.2, 0.7, 1.0):
        held = rng.random(size) < 0.2
        wanted = (rng.random(size) < share) & ~held
        keys = rng.integers(0, 4, size) / 3
        given_keys = {"keys": keys, "random": np.random.default_rng(1), "initial": None}[kind]
        fit = layout.fitting(wanted, given_keys, held)
        order = np.abs(weights.initial) if kind == "initial" else keys
        for group in groups:
            room = max(0, 2 - held[group].sum())
            own = group[wanted[group]]
            assert fit[group].sum() == min(room, len(own))
            if kind != "random":
                best = own[np.argsort(-order[own], kind="stable")][:room]
                assert fit[best].all()
        assert not (fit & ~wanted).any()


@every_unit
def test_the_packed_mask_is_worked_out_once_for_the_same_bits(unit, monkeypatch):
    ticket, calls = drawn(LAYOUTS[unit], 0.5), []
    plain = UnitLayout.expand
    monkeypatch.setattr(
        UnitLayout, "expand", lambda self, packed: calls.append(self) or plain(self, packed)
    )
    first = ticket.packed_mask
    twin = copy.deepcopy(ticket)
    assert ticket.packed_mask is first is twin.packed_mask
    assert (len(calls), ticket.kept, twin.mask.sum()) == (1, ticket.mask.sum(), ticket.kept)
    place = int(np.flatnonzero(ticket.mask if unit == "2:4" else ticket.gates)[0])
    twin[place] = 0
    assert (twin.kept, ticket.kept) == (twin.mask.sum(), ticket.mask.sum())
    assert not np.array_equal(twin.mask, ticket.mask)
    assert len(calls) == 2
    with pytest.raises(ValueError, match="read-only"):
        first[0] = 0


@pytest.mark.parametrize("tile", [(4, 4), (1, 4), (4, 1), (5, 9), (3, 30)])
def test_sums_and_order_of_blocks_are_those_of_their_weights(tile):
    from nets_deap.tickets.choice_of_units import smallest_of

    rng, (rows, columns) = np.random.default_rng(0), tile
    weights = nets.MaskLayout([("a", (13, 22)), ("b", (4, 9))], rng.normal(size=322))
    layout = UnitLayout(weights, f"block({rows}x{columns})", [tile] * 2)
    blocks = [
        part[i : i + rows, j : j + columns]
        for part in weights.split(weights.initial).values()
        for i in range(0, part.shape[0], rows)
        for j in range(0, part.shape[1], columns)
    ]
    expected = [np.sqrt((block**2).mean()) for block in blocks]
    scores = layout.root_mean_square(weights.initial)
    np.testing.assert_allclose(scores, expected, rtol=1e-12)
    sizes, kept = np.array([block.size for block in blocks]), rng.random(layout.size) < 0.8
    places = np.flatnonzero(kept)
    for own in (scores[kept], scores[kept].round(1)):  # with ties, too
        order = places[np.argsort(own, kind="stable")]
        for k in (0, 1, 20, 60, 150, 1000):
            chosen = places[smallest_of(layout, places, own, k, at_least=True)]
            n = np.searchsorted(np.cumsum(sizes[order]), k) + 1 if k else 0
            assert set(chosen) == set(order[:n])
