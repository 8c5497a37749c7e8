"""A small transformer over padded tokens that takes its inputs in many forms, for tests."""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

import nets_deap as nets

VOCABULARY, LENGTH = 9, 5
RECIPE = nets.Recipe(optimizer="adam", lr=1e-2, batch_size=8, steps=12)


class Tokens(nn.Module):
    """Classes of token sequences; padding neither attends nor counts."""

    def __init__(self):
        super().__init__()
        generator = torch.random.get_rng_state()
        torch.manual_seed(0)
        self.embed = nn.Embedding(VOCABULARY, 8)
        # No biases: that of the keys has no gradient but rounding, which Adam blows up.
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, bias=False, batch_first=True)
        self.encode = layer
        self.last = nn.Linear(8, 3)
        torch.random.set_rng_state(generator)

    def forward(self, ids, mask):
        h = self.encode(self.embed(ids), src_key_padding_mask=~mask)
        return self.last((h * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True))


class OneTensor(Tokens):
    """The same numbers side by side in one tensor (N, 2, T)."""

    def forward(self, both):
        return super().forward(both[:, 0], both[:, 1].bool())


class OneTuple(Tokens):
    def forward(self, pair):
        ids, mask = pair
        return super().forward(ids, mask)


class OneDict(Tokens):
    def forward(self, batch, scale=1.0):
        return scale * super().forward(batch["ids"], batch["mask"])


class OneBatch(Tokens):
    def forward(self, batch):
        return super().forward(batch.ids, batch.mask)


class Deep(Tokens):
    def forward(self, ids, more):
        return super().forward(ids, more["masks"][0])


class Anything(Tokens):
    def forward(self, **batch):
        return super().forward(batch["ids"], batch["mask"])


class Batch(NamedTuple):
    ids: object
    mask: object


# What each form of the inputs is, and the model that takes it.
FORMS = {
    "tuple": (Tokens, lambda ids, mask: (ids, mask)),
    "list": (Tokens, lambda ids, mask: [ids, mask]),
    "dict": (Tokens, lambda ids, mask: {"mask": mask, "ids": ids}),
    "keywords": (Anything, lambda ids, mask: {"ids": ids, "mask": mask}),
    "one tuple": (OneTuple, lambda ids, mask: (ids, mask)),
    "tuple of one": (OneTuple, lambda ids, mask: ((ids, mask),)),
    "one dict": (OneDict, lambda ids, mask: {"ids": ids, "mask": mask}),
    "named": (Tokens, Batch),
    "one named": (OneBatch, Batch),
    "deep": (Deep, lambda ids, mask: (ids, {"masks": [mask]})),
    "one tensor": (OneTensor, lambda ids, mask: np.stack([ids, mask], 1)),
}


def each_of(argument, values, quick):
    """Run a test with each of some values by name; those that are not quick are slow tests."""
    marked = [pytest.param(v, marks=[] if v in quick else [pytest.mark.slow], id=v) for v in values]
    return pytest.mark.parametrize(argument, marked)


def tokens(n=40, seed=0):
    """Return ids (N, T), padded with 0, their mask, and classes that follow from the ids."""
    rng = np.random.default_rng(seed)
    mask = np.arange(LENGTH) < rng.integers(2, LENGTH + 1, n)[:, None]
    ids = np.where(mask, rng.integers(1, VOCABULARY, (n, LENGTH)), 0)
    return ids, mask, ids.max(1) % 3


def token_task(form="tuple", **more):
    """Return a task of the transformer whose inputs come in a form."""
    build, put = FORMS[form]
    ids, mask, y = tokens()
    val, val_mask, val_y = tokens(seed=1)
    data = {"train": (put(ids, mask), y), "val": (put(val, val_mask), val_y)}
    return nets.Task(build().double(), **{"device": "cpu", "recipe": RECIPE, **data, **more})


class Items(Dataset):
    """Examples one by one, in a form."""

    def __init__(self, form, n=40, seed=0):
        self.put, self.data = form, tokens(n, seed)

    def __len__(self):
        return len(self.data[0])

    def __getitem__(self, i):
        return self.put(*(part[i] for part in self.data))
