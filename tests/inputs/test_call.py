"""How a model is called with one tensor or with several: one rule."""

from collections import UserDict

import pytest
import torch
from torch import nn

from nets_deap.inputs.call import arguments, call, call_with, how_called

A, B = torch.ones(2, 3), torch.zeros(2, 3)


class Takes(nn.Module):
    """A module with a given function as forward."""

    def __init__(self, forward):
        super().__init__()
        self.forward = forward


def two(ids, mask):
    return ids, mask


def one(batch):
    return batch


def optional(x, mask=None, *, scale=1.0):
    return x, mask, scale


@pytest.mark.parametrize(
    ("forward", "inputs", "expected"),
    [
        (one, A, ((A,), {})),
        (two, (A, B), ((A, B), {})),
        (two, [A, B], ((A, B), {})),
        (two, {"mask": B, "ids": A}, ((), {"mask": B, "ids": A})),
        (two, UserDict(ids=A, mask=B), ((), {"ids": A, "mask": B})),
        (one, (A, B), (((A, B),), {})),
        (one, {"ids": A, "mask": B}, (({"ids": A, "mask": B},), {})),
        (one, {"batch": A}, ((), {"batch": A})),
        (one, {0: A, 1: B}, (({0: A, 1: B},), {})),
        (one, (A,), ((A,), {})),
        (one, ((A, B),), (((A, B),), {})),
        (one, ({"ids": A},), (({"ids": A},), {})),
        (optional, (A, B), ((A, B), {})),
        (optional, ((A, B),), (((A, B),), {})),
        (optional, {"x": A, "scale": B}, ((), {"x": A, "scale": B})),
        (optional, {"x": A, "other": B}, (({"x": A, "other": B},), {})),
        (lambda *args: args, (A, B), ((A, B), {})),
        (lambda **kwargs: kwargs, {"p": A}, ((), {"p": A})),
    ],
)
def test_tuples_are_spread_dictionaries_are_keywords_what_is_not_taken_so_is_passed_whole(
    forward, inputs, expected
):
    positional, keywords = arguments(Takes(forward), inputs)
    assert (len(positional), list(keywords)) == (len(expected[0]), list(expected[1]))
    for got, value in zip((*positional, *keywords.values()), [*expected[0], *expected[1].values()],
                          strict=True):  # fmt: skip
        assert str(got) == str(value)
    call(Takes(forward), inputs)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_scripted_module_takes_its_inputs_as_python_would():
    class Sum(nn.Module):
        def forward(self, x, y):
            return x + 2 * y

    scripted = torch.jit.script(Sum())
    assert torch.equal(call(scripted, (A, B)), A)
    assert torch.equal(call(scripted, {"y": A, "x": B}), 2 * A)


def test_other_parameters_are_called_with_the_same_inputs():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x, y=None):
            return self.weight * x + (0 if y is None else y)

    state = {"weight": torch.tensor(3.0)}
    assert torch.equal(call_with(Scaled(), state, A), 3 * A)
    assert torch.equal(call_with(Scaled(), state, (A, A)), 4 * A)
    assert torch.equal(call_with(Scaled(), state, {"y": A, "x": B}), A)


@pytest.mark.parametrize(
    ("forward", "inputs", "words"),
    [
        (one, A, ""),
        (two, A, "One tensor is not what its forward(ids, mask) takes. Give several tensors as a"),
        (two, (A, B), "It was called with 2 inputs, as its forward(ids, mask) takes them."),
        (
            two,
            {"mask": A, "ids": B},
            "called with the keywords mask, ids of its forward(ids, mask)",
        ),
        (one, (A, B), "Its forward(batch) does not take 2 inputs: it got the tuple whole, as one"),
        (one, {"ids": A}, "Its forward(batch) does not take these names: it got the dictionary"),
        (two, (A, B, A), "Its forward(ids, mask) takes neither 3 inputs nor one argument: a tuple"),
        (two, {"ids": A, "m": B}, "Its forward(ids, mask) takes neither these names nor one argum"),
    ],
)
def test_how_a_model_is_called_is_told_in_words(forward, inputs, words):
    found = how_called(Takes(forward), inputs)
    assert words in found
    assert bool(words) == bool(found)
