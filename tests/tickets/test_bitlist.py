"""Slices of tickets: lists in all that lists do, and bool vectors to NumPy."""

import copy
import pickle
import random

import numpy as np
import pytest

import nets_deap as nets
from nets_deap.tickets.bitlist import CHANGES, BitList

BITS = [1, 0, 1, 1, 0]


@pytest.fixture
def part():
    return nets.Ticket([0, *BITS, 0])[1:-1]


def test_it_is_a_list_of_numbers(part):
    assert type(part) is BitList
    assert isinstance(part, list)
    assert part == BITS
    assert (repr(part), str(part[0])) == ("[1, 0, 1, 1, 0]", "1")
    assert (part.tolist(), type(part.tolist())) == (BITS, list)


def test_numpy_sees_a_bool_vector(part):
    array = np.array(BITS, bool)
    assert np.asarray(part).dtype == bool
    np.testing.assert_array_equal(np.asarray(part), array)
    assert (part.sum(), part.mean(), part.any(), part.all()) == (3, 0.6, True, False)
    assert (part.shape, part.dtype, part.size) == ((5,), bool, 5)
    np.testing.assert_array_equal(~part, ~array)
    np.testing.assert_array_equal(part & BITS[::-1], array & array[::-1])
    np.testing.assert_array_equal(part | part, array)
    np.testing.assert_array_equal(part ^ array, array ^ array)
    np.testing.assert_array_equal(part * np.arange(5), array * np.arange(5))
    with pytest.raises(AttributeError):
        part.nothing_of_the_kind


def test_parts_of_it_are_such_lists_again(part):
    for found in (part[1:4], part[np.array([1, 2, 3])], part[np.array([0, 1, 1, 1, 0], bool)]):
        assert type(found) is BitList
        assert found == BITS[1:4]
        assert found.sum() == 2
    part.append(7)
    assert part[-2:] == [0, 7]
    assert (part[-1], part[np.int64(0)]) == (7, 1)


# A change by every method that lists have for it.
BY = {
    "__setitem__": lambda bits: bits.__setitem__(0, 0),
    "__delitem__": lambda bits: bits.__delitem__(0),
    "__iadd__": lambda bits: bits.__iadd__([0, 1]),
    "__imul__": lambda bits: bits.__imul__(2),
    "append": lambda bits: bits.append(1),
    "clear": lambda bits: bits.clear(),
    "extend": lambda bits: bits.extend([1, 1]),
    "insert": lambda bits: bits.insert(0, 0),
    "pop": lambda bits: bits.pop(),
    "remove": lambda bits: bits.remove(0),
    "reverse": lambda bits: bits.reverse(),
    "sort": lambda bits: bits.sort(reverse=True),
}


@pytest.mark.parametrize("name", CHANGES)
def test_after_a_change_numpy_sees_what_the_list_holds(part, name):
    plain = list(BITS)
    BY[name](plain)
    BY[name](part)
    assert part == plain
    assert np.asarray(part).tolist() == plain
    ticket = nets.Ticket([0] * len(plain))
    ticket[:] = part
    assert ticket == plain
    assert plain != BITS


def test_all_changes_that_lists_know_are_noticed():
    reads = {"copy", "count", "index"}
    assert {n for n in vars(list) if not n.startswith("_")} - reads <= set(CHANGES)


def test_it_may_hold_anything_as_lists_may(part):
    part.append(7)
    part[0] = "a"
    assert part == ["a", *BITS[1:], 7]
    with pytest.raises(nets.NetsError, match="hold bits"):
        nets.Ticket(part)


def test_after_a_shuffle_the_right_bits_are_written(part):
    random.seed(2)
    random.shuffle(part)
    plain = list(BITS)
    random.seed(2)
    random.shuffle(plain)
    ticket = nets.Ticket(part)
    assert ticket == plain != BITS


@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))]
)
def test_copies_are_equal_and_independent(part, clone):
    twin = clone(part)
    twin[0] = 0
    assert (part, twin) == (BITS, [0, *BITS[1:]])
    assert clone(twin) == twin


def test_it_is_independent_of_what_it_was_made_of():
    array = np.array(BITS, bool)
    part = BitList(array)
    array[:] = False
    assert np.asarray(part).tolist() == BITS == part
    part.gates[:] = False
    assert np.asarray(part).tolist() == BITS
