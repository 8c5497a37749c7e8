"""Models that take several tensors: the same numbers give what one tensor gives, everywhere."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.networks import assert_same, masks_of, needs_cuda
from support.tokens import FORMS, RECIPE, Batch, Items, OneDict, Tokens, each_of, token_task, tokens
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import nets_deap as nets
from nets_deap.inputs.call import call
from nets_deap.inputs.nested import each, leaves_of
from nets_deap.training.engines import batched
from nets_deap.training.engines.cpu import engine as compiled
from nets_deap.training.engines.dispatch import pick_engine, train
from nets_deap.training.problem import Plan
from nets_deap.training.workers.transfer import SharedProblem, copied, n_bytes, owned

PLAN = Plan(steps=12, seed=3, curve_points=2, test=True, keep_states=True)
several = [form for form in FORMS if form != "one tensor"]


@pytest.fixture(scope="module")
def alone():
    """What the same numbers in one tensor give, network by network."""
    task = token_task("one tensor")
    return train(task.problem, masks_of(task), PLAN, engine="loop")


# ---- training


@pytest.mark.parametrize("form", several)
def test_several_tensors_train_as_the_same_numbers_in_one(form, alone):
    task = token_task(form)
    assert_same(train(task.problem, masks_of(task), PLAN, engine="vmap"), alone, rtol=1e-9)


@each_of("form", several, quick=["dict", "one tuple"])
def test_networks_one_by_one_train_as_the_same_numbers_in_one_tensor(form, alone):
    task = token_task(form)
    assert_same(train(task.problem, masks_of(task), PLAN, engine="loop"), alone, rtol=1e-9)


def test_engines_for_one_tensor_refuse_and_the_fastest_is_picked_among_the_others():
    task = token_task()
    assert pick_engine("auto", task.problem) == "vmap"
    x, y = np.random.default_rng(0).normal(size=(40, 4)), np.arange(40) % 3
    task = nets.Task(nn.Linear(4, 3), train=((x,), y), recipe=RECIPE, device="cpu")
    assert not compiled.suits(task.problem)
    assert not batched.suits(task.problem)
    one = nets.Task(task.model, train=(x, y), recipe=RECIPE, device="cpu")
    ours, theirs = (
        train(t.problem, masks_of(t), PLAN, engine=e) for t, e in ((task, "vmap"), (one, "auto"))
    )
    assert_same(ours, theirs, rtol=1e-4)
    with pytest.raises(ValueError, match="engine must suit the task"):
        nets.Task(nn.Linear(4, 3), train=((x,), y), recipe=RECIPE, engine="batched")


@pytest.mark.parametrize("form", ["tuple", "one dict"])
def test_a_ticket_trains_as_in_plain_torch_with_its_mask_reapplied(form):
    task = token_task(form)
    ticket = task.ticket(np.random.default_rng(0).random(task.layout.size) < 0.5)
    model, masks = task.model.train(), ticket.masks()
    named = dict(model.named_parameters())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

    def reapply():
        with torch.no_grad():
            for name, mask in masks.items():
                named[name] *= mask

    ids, mask, y = map(torch.from_numpy, tokens())
    reapply()
    for rows in PLAN.batches(len(ids), 8):
        optimizer.zero_grad()
        some = (ids[rows], mask[rows])
        batch = some if form == "tuple" else (dict(zip(("ids", "mask"), some, strict=True)),)
        F.cross_entropy(model(*batch), y[rows]).backward()
        optimizer.step()
        reapply()
    state = train(task.problem, [ticket.packed], PLAN).states[0]
    for name, tensor in model.state_dict().items():
        np.testing.assert_allclose(state[name], tensor, 1e-9, 1e-9, err_msg=name)


class Averaged(Tokens):
    """Padding counts: what stands there differs on torch's fast path for measuring."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encode = nn.TransformerEncoder(layer, 1)

    def forward(self, ids, mask):
        return self.last(self.encode(self.embed(ids), src_key_padding_mask=~mask).mean(1))


def test_engines_agree_where_torch_measures_otherwise_than_it_trains():
    before = torch.backends.mha.get_fastpath_enabled()
    ids, mask, y = tokens()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Averaged().double()
    task = nets.Task(model, train=((ids, mask), y), val=((ids, mask), y), recipe=RECIPE)
    outcomes = [train(task.problem, masks_of(task), PLAN, engine=e) for e in ("vmap", "loop")]
    assert_same(*outcomes, rtol=1e-9)
    assert torch.backends.mha.get_fastpath_enabled() == before


def test_weights_of_examples_and_holdout_are_as_for_one_tensor():
    found = []
    for form in ("dict", "one tensor"):
        ids, mask, y = tokens()
        weight = np.random.default_rng(4).integers(0, 3, len(y)).astype(float)
        data = (FORMS[form][1](ids, mask), y, weight)
        task = token_task(form, train=data, val=0.25)
        assert task.as_dict()["examples"] == {"train": 30, "val": 10}
        found.append(train(task.problem, masks_of(task), PLAN))
    assert_same(*found, rtol=1e-9)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("form", ["tuple", "dict", "deep"])
def test_several_tensors_train_on_cuda(form):
    cpu, cuda = token_task(form), token_task(form, device="cuda")
    ours = train(cuda.problem, masks_of(cuda), PLAN, engine="vmap")
    assert_same(ours, train(cpu.problem, masks_of(cpu), PLAN, engine="loop"), rtol=1e-7)


# ---- data


def as_items(ids, mask, y):
    return (ids, mask), y


ITEMS = {
    "tuple": ("tuple", as_items),
    "list": ("tuple", lambda ids, mask, y: [[ids, mask], y]),
    "dict": ("dict", lambda ids, mask, y: ({"mask": mask, "ids": torch.from_numpy(ids)}, y)),
    "labels": ("dict", lambda ids, mask, y: {"mask": mask, "labels": y, "ids": ids}),
    "named": ("named", lambda ids, mask, y: (Batch(ids, mask), y)),
    "deep": ("deep", lambda ids, mask, y: ((ids, {"masks": (mask,)}), y)),
}


@each_of("items", ITEMS, quick=["tuple", "labels"])
def test_data_sets_stream_what_they_give_in_memory(items, alone):
    form, put = ITEMS[items]
    data = {"train": Items(put), "val": Items(put, seed=1)}
    kept, streamed = (token_task(form, in_memory=m, **data) for m in (True, False))
    assert not streamed.problem.in_memory
    assert streamed.data_digest == kept.data_digest
    if items not in ("list", "deep"):  # whose inner lists are tuples here
        assert kept.data_digest == token_task(form).data_digest
    assert nets.describe(streamed).image == nets.describe(kept).image
    for task in (kept, streamed):
        assert_same(train(task.problem, masks_of(task), PLAN), alone, rtol=1e-9)


def test_one_dictionary_may_hold_inputs_and_labels(alone):
    data = {}
    for split, seed in (("train", 0), ("val", 1)):
        ids, mask, y = tokens(seed=seed)
        data[split] = {"ids": ids.tolist(), "label": y, "mask": torch.from_numpy(mask)}
    task = token_task("dict", **data)
    assert_same(train(task.problem, masks_of(task), PLAN), alone, rtol=1e-9)
    named = r"one entry 'labels' or 'label', got 'ids', 'mask'\. Or give \(inputs, targets\)"
    with pytest.raises(ValueError, match=f"train must name its targets: expected {named}"):
        token_task(train={"ids": ids, "mask": mask})


def test_the_data_digest_is_of_every_tensor_its_name_and_its_place():
    ids, mask, y = tokens()
    other = ids.copy()
    other[7, 1] = 1 + other[7, 1] % 8
    forms = [
        (Tokens, (ids, mask)),
        (Tokens, (other, mask)),
        (Tokens, (ids, np.ones_like(mask))),
        (Tokens, {"ids": ids, "mask": mask}),
        (OneDict, {"ids": ids, "mask": mask, "more": mask}),
        (OneDict, {"ids": ids, "mask": mask, "rest": mask}),
        (OneDict, {"mask": mask, "ids": ids}),
    ]
    tasks = [nets.Task(m().double(), train=(x, y), val=0.2, recipe=RECIPE) for m, x in forms]
    assert len({task.data_digest for task in tasks}) == len(forms)
    assert len({task.fingerprint for task in tasks}) == len(forms)
    again = nets.Task(Tokens().double(), train=((ids, mask), y), val=0.2, recipe=RECIPE)
    assert again.fingerprint == tasks[0].fingerprint


def test_floating_point_inputs_take_the_dtype_of_the_model_and_others_stay():
    class Takes(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 3)

        def forward(self, x, ids, mask, added):
            assert (x.dtype, added.dtype) == (torch.float32, torch.float32)
            assert (ids.dtype, mask.dtype) == (torch.int32, torch.bool)
            return self.linear(x + ids) * mask + added.clamp(-1)

    x = np.random.default_rng(0).normal(size=(40, 4))
    added = np.where(np.arange(40)[:, None] % 2, 0.0, -np.inf)  # as attention masks are
    inputs = (x, np.ones((40, 1), np.int32), np.ones((40, 1), bool), added)
    task = nets.Task(Takes(), train=(inputs, np.arange(40) % 3), recipe=RECIPE)
    result = task.train(task.dense_ticket())
    assert np.isfinite(result.val_loss)
    assert [leaf.dtype for leaf in leaves_of(task.problem.train[0])] == [
        torch.float32, torch.int32, torch.bool, torch.float32,
    ]  # fmt: skip


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))


ROWS = np.random.default_rng(0).normal(size=(8, 4))


@pytest.mark.parametrize(
    "rows",
    [
        list(ROWS), tuple(ROWS), ROWS.tolist(), tuple(map(tuple, ROWS.tolist())),
        [torch.from_numpy(row) for row in ROWS], tuple(torch.from_numpy(row) for row in ROWS),
    ],
)  # fmt: skip
def test_as_many_rows_as_targets_are_one_tensor(rows):
    task = nets.Task(mlp(), train=(rows, np.arange(8) % 3), val=0.5,
                     recipe=replace(RECIPE, batch_size=2))  # fmt: skip
    whole = nets.Task(mlp(), train=(ROWS, np.arange(8) % 3), val=0.5,
                      recipe=replace(RECIPE, batch_size=2))  # fmt: skip
    assert task.data_digest == whole.data_digest


def test_tuples_of_numbers_in_items_are_one_tensor():
    items = [(tuple(row), i % 3) for i, row in enumerate(ROWS.tolist())]

    class Set(Items):
        def __init__(self):
            self.data = (items,)

        def __getitem__(self, i):
            return items[i]

    task = nets.Task(mlp(), train=Set(), val=0.5, recipe=replace(RECIPE, batch_size=2))
    assert task.problem.train[0].shape == (4, 4)
    assert nets.Task(mlp(), train=TensorDataset(torch.from_numpy(ROWS), torch.arange(8) % 3),
                     val=0.5, recipe=replace(RECIPE, batch_size=2))  # fmt: skip


IDS, MASK, Y = tokens()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((IDS, MASK[:39]), r"train inputs\[1\] must have the right length: expected N \(as many as "
         r"train inputs\[0\]\) = 40, got 39"),
        ({"mask": MASK[:39], "ids": IDS}, r"train inputs\['ids'\] must .* as train inputs\['mask'\]"
         r"\) = 39, got 40"),
        ({"ids": IDS, "mask": [MASK.astype(float) * np.nan]}, r"train inputs\['mask'\]\[0\] must"),
        ({"ids": IDS, "mask": np.array(1)}, r"train inputs\['mask'\] must hold examples: expected N"
         r" >= 1, got shape \(\)"),
        ({}, r"train inputs must hold tensors: expected at least one"),
        ((IDS[:30], MASK[:30]), r"train targets must have the right length: .* = 30, got 40"),
        ((IDS, MASK * np.nan), r"train inputs\[1\] must be finite"),
        ({"ids": IDS, "mask": ["a"] * 40}, r"train inputs\['mask'\] must be numbers"),
        ((IDS, MASK, IDS), r"train inputs must fit the model: expected what its forward takes, got "
         r"\[0\] \(40, 5\) of torch.int64, .*forward\(ids, mask\) takes neither 3 inputs nor one"),
        ({"ids": IDS, "masks": MASK}, r"got \['ids'\] .*takes neither these names nor one"),
        (IDS, r"fit the model: .*Give several tensors as a tuple or a dictionary"),
        ((IDS, MASK[:, :2]), r"train inputs must fit the model: .*got \[0\] \(40, 5\) of .*"
         r"It was called with 2 inputs, as its forward\(ids, mask\) takes them\. The model said"),
    ],
)  # fmt: skip
def test_inputs_that_do_not_fit_are_refused_by_name(inputs, message):
    with pytest.raises(ValueError, match=message):
        token_task(train=(inputs, Y))


@pytest.mark.parametrize(
    ("put", "message"),
    [
        (lambda ids, mask, y: ((ids, mask[: 2 + int(ids[0])]), y), r"train inputs\[1\] must be alik"
         r"e: expected \(\d,\) of torch.bool, as the first example, got \(\d,\) of torch.bool at"),
        (lambda ids, mask, y: ((ids, mask) if ids[0] < 8 else ids, y), r"train inputs must be alike"
         r": expected \('tensor', 'tensor'\), as the first example, got tensor at"),
        (lambda ids, mask, y: {"ids": ids, "mask": mask, "text": "a", "label": y}, r"\['text'\]"),
        (lambda ids, mask, y: {"ids": ids, "mask": mask}, r"train must name its targets"),
        (lambda ids, mask, y: ((), y), r"train inputs"),
    ],
)  # fmt: skip
def test_examples_that_do_not_fit_each_other_are_refused(put, message):
    with pytest.raises(ValueError, match=message):
        token_task(train=Items(put))


# ---- augmentation and normalisation


def shifted(batch):
    """Cyclic shifts, ids and mask alike, drawn anew for each minibatch."""
    by = int(torch.randint(5, ()))
    return {name: torch.roll(tensor, by, 1) for name, tensor in batch.items()}


def test_augment_gets_and_returns_the_same_structure():
    one = token_task("dict", augment=shifted)
    outcomes = [train(one.problem, masks_of(one), PLAN, engine=e) for e in ("vmap", "loop")]
    assert_same(*outcomes, rtol=1e-9)

    def both(x):
        return torch.stack(list(shifted({"ids": x[:, 0], "mask": x[:, 1]}).values()), 1)

    other = token_task("one tensor", augment=both)
    assert_same(outcomes[0], train(other.problem, masks_of(other), PLAN), rtol=1e-9)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (lambda batch: batch["ids"], r"expected \{'mask': 'tensor', 'ids': 'tensor'\}, got"),
        (lambda b: {**b, "ids": b["ids"][:1]}, r"2 inputs\['ids'\] of torch.int64, got .*\(1, 5\)"),
        (lambda b: {**b, "mask": b["mask"].int()}, r"2 inputs\['mask'\] of torch.bool, got "),
    ],
)
def test_augment_that_returns_other_inputs_is_refused(augment, message):
    with pytest.raises(ValueError, match=f"augment must return as many inputs: .*{message}"):
        token_task("dict", augment=augment)


class Pictures(nn.Module):
    """A picture and some numbers about it."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 4), nn.Linear(6, 3)

    def forward(self, image, numbers):
        return self.last(torch.cat([torch.tanh(self.first(image.flatten(1))), numbers], 1))


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize(("image", "numbers"), [("image", "numbers"), (0, 1)])
def test_images_among_several_inputs_are_normalised_by_name_or_place(image, numbers, in_memory):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 2, 2, 2)).astype(np.uint8)
    mean, std = np.array([0.4, 0.5]).reshape(2, 1, 1), np.array([0.2, 0.3]).reshape(2, 1, 1)
    floats, more = (images / 255 - mean) / std, rng.normal(size=(40, 2))

    class Set(Items):
        def __init__(self, pictures):
            self.data = (pictures, more, np.arange(40) % 3)
            named = {"image": lambda i, n, y: ({"image": i, "numbers": n}, y)}
            self.put = named.get(image, lambda i, n, y: ((i, n), y))

    model = Pictures()
    normalize = {image: ((0.4, 0.5), (0.2, 0.3))}
    ours, plain = (
        nets.Task(model, train=Set(x), recipe=RECIPE, in_memory=in_memory, normalize=n)
        for x, n in ((images, normalize), (floats, None))
    )
    outcomes = [train(task.problem, masks_of(task), PLAN) for task in (ours, plain)]
    assert_same(*outcomes, rtol=2e-4)
    assert ours.as_dict()["normalize"] == {
        "entries": {image: {"mean": (0.4, 0.5), "std": (0.2, 0.3)}}
    }
    assert ours.fingerprint != plain.fingerprint


@pytest.mark.parametrize(
    ("normalize", "message"),
    [
        ((0.5, 0.2), r"be images of bytes: expected one tensor, got several\. Say which of them: no"
         r"rmalize=\{'mask': \(mean, std\)\}"),
        ({"image": (0.5, 0.2)}, r"normalize must name tensors: expected some of 'mask', 'ids'"),
        ({"ids": (0.5, 0.2)}, r"inputs\['ids'\] must be images of bytes: expected uint8"),
        ({"ids": 0.5}, r"normalize must be a pair"),
        ({}, r"normalize must be a pair"),
    ],
)  # fmt: skip
def test_normalisation_that_fits_no_input_is_refused(normalize, message):
    with pytest.raises((ValueError, TypeError), match=message):
        token_task("dict", normalize=normalize)
    if normalize == {"ids": (0.5, 0.2)}:
        with pytest.raises(ValueError, match=r"be several: .* Give normalize=\(mean, std\)"):
            token_task("one tensor", normalize=normalize)


# ---- elsewhere


@each_of("form", ["tuple", "dict", "named", "deep"], quick=["deep"])
def test_problems_go_to_other_processes_and_devices_with_all_their_inputs(form, alone):
    task = token_task(form)
    sent = owned(SharedProblem.of(task.problem).on(torch.device("cpu")))
    assert n_bytes(sent.train) == sum(leaf.nbytes for leaf in leaves_of(task.problem.train))
    for problem in (sent, copied(task.problem, torch.device("cpu"))):
        assert_same(train(problem, masks_of(task), PLAN), alone, rtol=1e-9)


def test_two_devices_train_what_one_does(alone):
    task = token_task("dict", device=["cpu", "cpu"])
    assert_same(train(task.problem, masks_of(task), PLAN), alone, rtol=1e-9)


def test_a_task_is_described_with_the_shape_of_each_input():
    found = nets.describe(token_task("dict"))
    assert found.image == {"['mask']": (5,), "['ids']": (5,)}
    assert "train 40, val 40; inputs ['mask'] 5, ['ids'] 5" in str(found)
    assert nets.describe(token_task("one tensor")).image == (2, 5)
    inner = re.escape("inputs [0] 5, [1]['masks'][0] 5")
    assert re.search(inner, str(nets.describe(token_task("deep"))))


def test_structured_tickets_find_the_layers_that_make_the_outputs():
    several, one = (token_task(form, unit="neuron").layout for form in ("dict", "one tensor"))
    assert several.key == one.key
    whole = token_task("dict", unit="neuron", train=token_task().problem.train)
    assert "last.weight" not in [layer.name for layer in several.layers if layer.size == 3]
    assert whole.layout.key == one.key


def test_a_result_is_a_module_that_is_called_as_ever():
    task = token_task("dict")
    result = task.train(task.dense_ticket())
    inputs, targets = task.problem.val
    with torch.no_grad():
        output = call(result.module().eval(), each(inputs, torch.clone))
    assert float(F.cross_entropy(output, targets)) == pytest.approx(result.val_loss, rel=1e-6)
