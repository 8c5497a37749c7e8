"""SNIP, GraSP and SynFlow against hand-made derivatives, and SynFlow's laws."""

import numpy as np
import pytest
import torch
from support.baselining import make_task
from support.networks import Custom
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

import nets_deap as nets
from nets_deap import Recipe, Task
from nets_deap.baselines import grasp, saliency, snip, synflow
from nets_deap.baselines.scores import SynFlow, grasp_scores, snip_scores
from nets_deap.models import MLP

ROWS = np.array([3, 30, 7, 19, 11])
MSE = Recipe(lr=0.01, batch_size=10, loss="mse")


def gradient_at(task, flat, temperature=1.0):
    """The gradient of the loss over ``ROWS`` with the maskable weights ``flat``, by plain torch."""
    model = task.model.eval()
    named = dict(model.named_parameters())
    for name, part in task.layout.split(flat).items():
        named[name].data.copy_(torch.from_numpy(part.copy()))
    x, y = task.problem.train
    loss = F.mse_loss if task.recipe.loss == "mse" else F.cross_entropy
    loss(model(x[ROWS]) / temperature, y[ROWS]).backward()
    return task.layout.join({name: named[name].grad.numpy() for name in task.layout.names})


# ---- SNIP


def test_snip_scores_are_gradient_times_weight():
    task = make_task()
    wanted = abs(gradient_at(task, task.layout.initial) * task.layout.initial)
    found = snip_scores(task, ROWS)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-15)
    assert (found > 0).sum() > 50


def test_snip_scores_of_one_linear_layer_by_hand():
    model = nn.Linear(2, 1, bias=False).double()
    model.weight.data = torch.tensor([[2.0, -0.5]], dtype=torch.float64)
    x, y = np.array([[1.0, 1.0], [0.0, 2.0]]), np.array([[0.0], [1.0]])
    task = Task(model, train=(x, y), val=(x, y), recipe=Recipe(loss="mse", batch_size=2))
    # Residuals are 1.5 and -2; the gradient is mean(2 r x) = (1.5, -2.5).
    np.testing.assert_allclose(snip_scores(task, np.arange(2)), [3.0, 1.25])


# ---- GraSP


@pytest.mark.parametrize(
    ("loss", "temperature"), [("cross_entropy", 1.0), ("cross_entropy", 5.0), ("mse", 1.0)]
)
def test_grasp_scores_are_weight_times_hessian_times_gradient(loss, temperature):
    recipe = MSE if loss == "mse" else Recipe(lr=0.01, batch_size=10)
    task = make_task(recipe=recipe, activation="tanh")
    w = task.layout.initial
    g, h = gradient_at(task, w, temperature), 1e-6
    ahead, behind = (gradient_at(task, w + s * h * g, temperature) for s in (1, -1))
    wanted = w * (ahead - behind) / (2 * h)
    found = grasp_scores(task, ROWS, temperature)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * abs(wanted).max())
    assert (found > 0).any()
    assert (found < 0).any()


def test_grasp_prunes_what_least_lowers_the_norm_of_the_gradient():
    """Taking a little of the kept weights away must lower |g|^2 more than of the pruned ones."""
    task = make_task(activation="tanh")
    w, heat = task.layout.initial, 2.0
    (ticket,) = grasp(task, 0.3, examples=40, temperature=heat).tickets
    scores = grasp_scores(task, np.arange(40), heat)
    assert scores[ticket.mask].min() > scores[~ticket.mask].max()
    x, y = task.problem.train
    changes = {}
    for kept in (True, False):
        norms = []
        for scale in (0.0, 1e-6):
            flat = np.where(ticket.mask == kept, w * (1 - scale), w)
            leaves = {
                name: torch.from_numpy(part.copy()).requires_grad_()
                for name, part in task.layout.split(flat).items()
            }
            loss = F.cross_entropy(functional_call(task.model, leaves, (x,)) / heat, y)
            norms.append(sum((g**2).sum() for g in torch.autograd.grad(loss, leaves.values())))
        changes[kept] = float(norms[1] - norms[0])
    assert changes[True] < 0
    assert changes[True] < changes[False]


def test_the_temperature_is_that_of_the_paper_unless_given(monkeypatch):
    seen = []

    def scores(task, rows, temperature):
        seen.append((task.recipe.loss, temperature))
        return np.ones(task.layout.size)

    monkeypatch.setattr(saliency, "grasp_scores", scores)
    grasp(make_task(), 0.5)
    grasp(make_task(), 0.5, temperature=3)
    grasp(make_task(recipe=MSE), 0.5)
    assert seen == [("cross_entropy", 200.0), ("cross_entropy", 3.0), ("mse", 1.0)]
    with pytest.raises(
        ValueError, match=r"temperature must be left out where outputs are not logits"
    ):
        grasp(make_task(recipe=MSE), 0.5, temperature=200)


# ---- SNIP and GraSP


@pytest.mark.parametrize("method", [snip, grasp])
def test_densities_are_cut_from_one_global_ranking(method):
    baseline = method(make_task(), (0.1, 0.6, 0.3), seed=2)
    assert [ticket.kept for ticket in baseline.tickets] == [62, 31, 10]
    assert baseline.nested
    assert method(make_task(), 0.3, seed=2).tickets == [baseline.tickets[1]]
    assert len({level.search_steps for level in baseline.levels}) == 1


@pytest.mark.parametrize(("examples", "cost"), [(1, 1), (10, 1), (11, 2), (None, 4)])
def test_examples_are_distinct_and_paid_by_the_minibatch(examples, cost, monkeypatch):
    seen = []

    def scores(task, rows):
        seen.append(rows)
        return np.ones(task.layout.size)

    monkeypatch.setattr(saliency, "snip_scores", scores)
    assert snip(make_task(), 0.5, examples=examples).search_steps == cost
    assert len(set(seen[0].tolist())) == len(seen[0]) == (examples or 40)
    assert seen[0].max() < 40


def test_equal_scores_are_kept_at_random(monkeypatch):
    monkeypatch.setattr(saliency, "snip_scores", lambda task, rows: np.zeros(task.layout.size))
    masks = [snip(make_task(), 0.5, seed=seed).tickets[0].mask for seed in range(40)]
    share = np.mean(masks, axis=0)
    assert (abs(share - 0.5) < 0.42).all()


# ---- SynFlow


def flow_sums(task, mask):
    """The sum of the scores in each layer."""
    scores = SynFlow(task).scores(mask)
    assert not scores[~mask].any()
    return np.array([scores[layer.start : layer.stop].sum() for layer in task.layout.layers])


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_flow_is_conserved_from_layer_to_layer(activation):
    task = make_task(activation=activation)
    for density in (1.0, 0.5):
        mask = np.random.default_rng(1).random(103) < density
        tensors = task.layout.split(abs(task.layout.initial) * mask).values()
        total = np.ones(6)
        for weights in tensors:
            total = weights @ total
        np.testing.assert_allclose(flow_sums(task, mask), total.sum(), rtol=1e-12)


def test_biases_take_part_with_their_absolute_values():
    model = MLP((1, 1, 1)).double()
    for p, value in zip(model.parameters(), (-2.0, -3.0, -5.0, 7.0), strict=True):
        p.data.fill_(value)
    x, y = np.ones((2, 1)), np.ones((2, 1))
    task = Task(model, train=(x, y), val=(x, y), recipe=Recipe(loss="mse", batch_size=2))
    # R = 5 (2 + 3) + 7: the first weight scores 2 * 5, the second 5 * (2 + 3).
    np.testing.assert_allclose(SynFlow(task).scores(np.ones(2, bool)), [10.0, 25.0])


def test_activations_that_a_module_uses_twice_are_all_linear():
    act = nn.Tanh()
    layers = [nn.Linear(6, 8), act, nn.Linear(8, 5), act, nn.Linear(5, 3)]
    for layer in layers[::2]:
        nn.init.zeros_(layer.bias)
    task = make_task(model=nn.Sequential(*layers).double())
    np.testing.assert_allclose(np.ptp(flow_sums(task, np.ones(103, bool))), 0, atol=1e-12)
    assert isinstance(task.problem.model[3], nn.Tanh)


def test_rounds_follow_the_exponential_schedule(monkeypatch):
    kept, scores = [], SynFlow.scores

    def watch(self, mask):
        kept.append(int(mask.sum()))
        return scores(self, mask)

    monkeypatch.setattr(SynFlow, "scores", watch)
    baseline = synflow(make_task(), (0.4, 0.1), rounds=5)
    half, tenth = ([round(103 * d ** (n / 5)) for n in range(6)] for d in (0.4, 0.1))
    assert kept == half[:5] + tenth[:5]
    assert [ticket.kept for ticket in baseline.tickets] == [half[5], tenth[5]]
    assert [level.search_steps for level in baseline.levels] == [5, 10]


def test_rounds_keep_the_largest_flow_of_what_is_left():
    task = make_task()
    mask = np.ones(103, bool)
    for n in range(1, 5):
        scores = SynFlow(task).scores(mask)
        mask = np.isin(np.arange(103), np.argsort(-scores)[: round(103 * 0.2 ** (n / 4))])
    assert synflow(task, 0.2, rounds=4).tickets[0] == task.ticket(mask)


def test_many_rounds_keep_all_layers_where_one_round_loses_some():
    """Tanaka et al. 2020: iterating avoids layer collapse, down to one path through the network."""
    model = MLP((20, 20, 2, 20, 3)).double()
    x, y = np.ones((4, 20)), np.zeros(4, dtype=int)
    task = Task(model, train=(x, y), val=(x, y), recipe=Recipe(batch_size=4))
    density = 8 / task.layout.size
    (ticket,) = synflow(task, density, rounds=200).tickets
    assert ticket.kept == 8
    assert min(ticket.layer_densities.values()) > 0
    (ticket,) = synflow(task, density, rounds=1).tickets
    assert min(ticket.layer_densities.values()) == 0


def test_no_data_are_used():
    one = make_task()
    other = make_task()
    other.problem.train[0].mul_(-3)
    assert synflow(one, 0.3).tickets == synflow(other, 0.3).tickets


def test_float32_networks_flow_in_float64():
    model = MLP((4, *[4] * 60, 3))
    for p in model.parameters():
        p.data.fill_(3.0)
    x, y = np.ones((4, 4), np.float32), np.zeros(4, dtype=int)
    task = Task(model, train=(x, y), val=(x, y), recipe=Recipe(batch_size=4))
    scores = SynFlow(task).scores(np.ones(task.layout.size, bool))
    assert scores.dtype == np.float64
    assert scores.max() > np.finfo(np.float32).max
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(1e20)
    with pytest.raises(ValueError, match=r"model must have a finite synaptic flow: .*got inf"):
        synflow(Task(model, train=(x, y), val=(x, y), recipe=Recipe(batch_size=4)), 0.5, rounds=1)


def test_weights_without_a_gradient_count_as_useless():
    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(6, 3), nn.Linear(6, 3)

        def forward(self, x):
            return self.used(x)

    for method in (snip, grasp, synflow):
        task = make_task(model=Part().double())
        (ticket,) = method(task, 4 / 36).tickets
        assert ticket.layer_densities == {"used.weight": 4 / 18, "unused.weight": 0.0}


def test_xor_takes_all_examples():
    task = nets.tasks.xor(hidden=4)
    for method in (snip, grasp, synflow):
        (ticket,) = method(task, 0.5).tickets
        assert ticket.kept == 6


def read_by(kind):
    """A task of sequences in double precision, read by recurrent layers or by attention."""
    torch.manual_seed(1)
    if kind == "gru":
        read = nn.GRU(4, 3, batch_first=True)
        model = Custom(lambda m, x: m.out(m.read(x)[0][:, -1]), read=read, out=nn.Linear(3, 3))
    else:
        layer = nn.TransformerEncoderLayer(4, 2, 6, dropout=0.0, batch_first=True)
        model = Custom(lambda m, x: m.out(m.read(x).mean(1)), read=layer, out=nn.Linear(4, 3))
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 5, 4)), rng.integers(0, 3, 30)
    recipe = nets.Recipe(batch_size=10, steps=3)
    return nets.Task(model.double(), train=(x, y), val=(x, y), recipe=recipe, device="cpu")


@pytest.mark.parametrize("kind", ["gru", "transformer"])
def test_second_derivatives_of_recurrent_layers_and_attention(kind):
    task = read_by(kind)
    rows, w = np.arange(30), task.layout.require_initial()

    def at(values):
        model = task.model.train()  # fused attention in evaluation mode has no gradient of its own
        named = dict(model.named_parameters())
        for name, part in task.layout.split(values).items():
            named[name].data.copy_(torch.from_numpy(part.copy()))
        x, y = task.problem.train
        F.cross_entropy(model(x), y).backward()
        return task.layout.join({name: named[name].grad.numpy() for name in task.layout.names})

    g = at(w)
    np.testing.assert_allclose(snip_scores(task, rows), np.abs(g * w), rtol=1e-9, atol=1e-12)
    step = 1e-4 / np.abs(g).max()
    product = (at(w + step * g) - at(w - step * g)) / (2 * step)
    np.testing.assert_allclose(grasp_scores(task, rows, 1.0), w * product, rtol=1e-3, atol=1e-7)


def test_tokens_with_sparse_gradients_are_scored():
    tokens, y = torch.arange(40).reshape(20, 2) % 7, torch.arange(20) % 2
    model = nn.Sequential(nn.Embedding(7, 3, sparse=True), nn.Flatten(), nn.Linear(6, 2))
    recipe = nets.Recipe(batch_size=10, steps=3)
    task = nets.Task(model, train=(tokens, y), maskable="2.weight", recipe=recipe, device="cpu")
    for baseline in (snip, grasp, synflow):
        assert baseline(task, 0.5).levels[0].ticket.kept == 6


def test_outputs_under_names_are_scored_as_the_tensor_in_them():
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.arange(30) % 3

    def task_with(wrap, loss):
        torch.manual_seed(1)
        model = Custom(lambda m, x: wrap(m.out(torch.tanh(m.body(x)))),
                       body=nn.Linear(4, 5), out=nn.Linear(5, 3))  # fmt: skip
        recipe = nets.Recipe(batch_size=10, steps=3, loss=loss)
        return nets.Task(model.double(), train=(x, y), val=(x, y), recipe=recipe, device="cpu")

    entropy = F.cross_entropy
    plain = task_with(lambda out: out, entropy)
    named = task_with(lambda out: {"a": [out, None]}, lambda out, y: entropy(out["a"][0], y))
    for kind in ("snip", "grasp", "synflow"):
        prune = getattr(nets.baselines, kind)
        masks = [prune(task, 0.4).levels[0].ticket.mask for task in (plain, named)]
        assert np.array_equal(*masks)
