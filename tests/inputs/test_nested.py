"""Tensors in tuples and dictionaries."""

from typing import NamedTuple

import torch

from nets_deap.inputs.nested import each, leaves_of, length_of, named, shapes_of, structure_of


class Pair(NamedTuple):
    x: object
    y: object


THING = {"a": torch.zeros(4, 2), "b": (torch.ones(4), Pair(torch.ones(4, 1), [torch.zeros(4)]))}


def test_every_leaf_is_visited_once_in_order_and_named():
    names = [name for name, _ in named("x", THING)]
    assert names == ["x['a']", "x['b'][0]", "x['b'][1][0]", "x['b'][1][1][0]"]
    assert [leaf.shape for leaf in leaves_of(THING)] == [(4, 2), (4,), (4, 1), (4,)]
    assert leaves_of(3) == [3]


def test_tuples_lists_and_dictionaries_keep_their_kind():
    doubled = each(THING, lambda tensor: tensor.shape)
    assert isinstance(doubled["b"][1], Pair)
    assert isinstance(doubled["b"][1].y, list)
    assert structure_of(THING) == (
        "{'a': 'tensor', 'b': ('tensor', Pair(x='tensor', y=['tensor']))}"
    )
    assert structure_of(torch.ones(2)) == "tensor"


def test_the_first_leaf_says_how_many_examples_there_are():
    assert length_of(THING) == length_of(THING["a"]) == 4


def test_shapes_read_well():
    assert shapes_of(THING["a"]) == (4, 2)
    assert shapes_of(THING["b"][:1]) == "[0] (4,) of torch.float32"
