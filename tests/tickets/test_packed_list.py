"""A ticket does what a list of the numbers 0 and 1 does, but for growing; NumPy sees a mask."""

import heapq
import json
import random
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nets_deap as nets
from nets_deap.errors import InvalidTypeError, InvalidValueError

BITS, OTHERS = [1, 0, 1, 1, 0, 1], [0, 0, 0, 1, 1, 1]
flags = st.lists(st.integers(0, 1), max_size=20)


@pytest.fixture
def ticket():
    return nets.Ticket(BITS)


def sorts(bits):
    bits.sort()


def reverses(bits):
    bits.reverse()


def shuffles(bits):
    random.Random(5).shuffle(bits)


def halves(bits):
    half = len(bits) // 2
    bits[:half], bits[half:] = bits[half:], bits[:half]


def smooths(bits):
    """Write ahead of an iteration, which goes through what is written."""
    for i, bit in enumerate(bits):
        if bit and i + 1 < len(bits):
            bits[i + 1] = 0


def rewrites(bits):
    """Write all bits while they are gone through twice."""
    total = 0
    for one, other in zip(bits, reversed(bits), strict=True):
        bits[:] = [1 - one] * len(bits)
        total += 2 * one + other
    bits[0] = total % 2


READINGS = {
    "text": lambda bits: "".join(map(str, bits)),
    "number": lambda bits: int("".join(map(str, bits)), 2),
    "json": lambda bits: json.dumps([list(bits), bits[1:4]]),
    "halves joined": lambda bits: bits[:2] + bits[2:],
    "list around": lambda bits: OTHERS + bits[4:] + OTHERS,
    "joined": lambda bits: (bits + OTHERS, OTHERS + bits, bits + bits),
    "repeated": lambda bits: (bits * 2, 2 * bits, bits[:2] * 3, bits * 0),
    "counted": lambda bits: (bits.count(1), bits.count(False), bits.count(2), bits.count("1")),
    "found": lambda bits: (bits.index(0), bits.index(1, 1), bits.index(True, -2)),
    "in": lambda bits: (1 in bits, 0.0 in bits, 2 in bits, "1" in bits, None in bits, [1] in bits),
    "ordered": lambda bits: (bits < OTHERS, bits >= BITS, bits <= [1], max(OTHERS, bits) == BITS),
    "equal": lambda bits: (bits == BITS, bits == OTHERS, bits == [True, *BITS[1:]], bits in [BITS]),
    "other kinds": lambda bits: (bits == tuple(BITS), bits == "101101", bits == None, bits != 1),  # noqa: E711
    "sums": lambda bits: (sum(bits), max(bits), min(bits), len(bits), bool(bits), any(bits)),
    "sample": lambda bits: random.Random(3).sample(bits, 4),
    "choices": lambda bits: (random.Random(3).choice(bits), random.Random(3).choices(bits, k=9)),
    "backwards": lambda bits: (list(reversed(bits)), bits[::-1], bits[-1], bits[-4:-1]),
    "set": lambda bits: set(map(tuple, [bits, BITS, OTHERS])),
    "slice, changed": lambda bits: [*bits[:3].__iadd__([9]), bits[1:].pop(), bits[2:4].copy()],
    "slices": lambda bits: (
        bits[:3] == [1, 0, 1],
        bits[:3] == (1, 0, 1),
        bits[1:1],
        bits[:3] < [2],
    ),
    "types": lambda bits: [type(each) for each in (bits[0], *bits, *bits[1:])],
    "numbers": lambda bits: [1 - bit for bit in bits] + [bits[0] / 2, -bits[2]],
    "heap": lambda bits: heapq.nsmallest(1, [(0, bits), (0, OTHERS)])[0][1] == OTHERS,
}


@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS)
def test_reading_gives_what_a_list_gives(ticket, read):
    assert read(ticket) == read(list(BITS))
    assert ticket == BITS


@pytest.mark.parametrize("change", [sorts, reverses, shuffles, halves, smooths, rewrites])
def test_changing_gives_what_a_list_gives(change):
    for bits in (BITS, OTHERS, [1, 1, 0, 0, 1, 0] * 5):
        ticket, plain = nets.Ticket(bits), list(bits)
        change(ticket)
        change(plain)
        assert ticket == plain
        assert ticket.kept == sum(plain)


@settings(deadline=None)
@given(flags, flags)
def test_order_and_equality_are_those_of_lists(one, other):
    first, second = nets.Ticket(one), nets.Ticket(other)
    for others in (second, other, second[:]):
        assert (first == others, first < others, first >= others) == (
            *(one == other, one < other),
            one >= other,
        )


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.append(1), lambda t: t.extend([1]), lambda t: t.insert(0, 1), lambda t: t.pop(),
        lambda t: t.remove(1), lambda t: t.clear(), lambda t: t.__delitem__(0),
        lambda t: t.__iadd__([1]), lambda t: t.__imul__(2),
        lambda t: t.__setitem__(slice(0, 2), [1]),
    ],
)  # fmt: skip
def test_the_length_is_fixed(ticket, change):
    with pytest.raises(InvalidValueError, match=r"keep its length|Length is fixed"):
        change(ticket)
    assert ticket == BITS


def test_it_is_a_sequence_that_lists_never_are_taken_for(ticket):
    assert isinstance(ticket, Sequence)
    assert not isinstance(ticket, list)
    with pytest.raises(TypeError, match="unhashable"):
        hash(ticket)
    with pytest.raises(ValueError, match="not in list"):
        nets.Ticket([1]).index(0)


# ---- values


@pytest.mark.parametrize(
    "value", [True, 1, 1.0, np.True_, np.int64(1), np.float32(1), np.array(1), torch.tensor(1)]
)
def test_whatever_equals_a_bit_is_one(value):
    ticket = nets.Ticket([0, 0])
    ticket[1] = value
    ticket[np.int64(0)] = value
    assert ticket == [1, 1]
    assert value in ticket


@pytest.mark.parametrize(
    "value", [~True, ~1, 2, -1, 0.5, float("nan"), None, "1", [1], np.array([1]), torch.tensor(2)]
)
def test_what_is_no_bit_is_refused(ticket, value):
    with pytest.raises(InvalidValueError, match="value must hold bits: expected 0, 1"):
        ticket[0] = value
    assert ticket == BITS


@pytest.mark.parametrize(
    "bits",
    [tuple(BITS), (b for b in BITS), np.array(BITS), np.array(BITS, bool), np.array(BITS, float),
     torch.tensor(BITS), nets.Ticket(BITS), nets.Ticket(BITS)[:], [np.int8(b) for b in BITS],
     [bool(b) for b in BITS], [float(b) for b in BITS]],
)  # fmt: skip
def test_bits_are_taken_from_anything_that_holds_them(ticket, bits):
    made = nets.Ticket(bits)
    assert made == ticket
    other = nets.Ticket([0] * 6)
    other[:] = made
    assert other == ticket


@pytest.mark.parametrize(
    ("bits", "error", "text"),
    [(5, InvalidTypeError, "bits, shape"), (None, InvalidTypeError, "bits, shape"),
     ("101", InvalidValueError, "dtype <U1"), ([2, 1], InvalidValueError, "hold bits"),
     ([[1], [0]], InvalidValueError, "shape"), ([1, None], InvalidValueError, "hold bits")],
)  # fmt: skip
def test_what_holds_no_bits_is_refused(bits, error, text):
    with pytest.raises(error, match=text):
        nets.Ticket(bits)


# ---- NumPy and others


def test_to_numpy_it_is_a_mask(ticket):
    weights, mask = np.arange(6.0), np.array(BITS, bool)
    assert np.asarray(ticket).dtype == bool
    np.testing.assert_array_equal(np.asarray(ticket), mask)
    np.testing.assert_array_equal(np.array(ticket, dtype=np.int64), BITS)
    np.testing.assert_array_equal(weights[ticket], weights[mask])
    np.testing.assert_array_equal(weights * ticket, weights * mask)
    np.testing.assert_array_equal(ticket * weights, weights * mask)
    np.testing.assert_array_equal(
        np.array([ticket, nets.Ticket(OTHERS)]).sum(axis=0), [1, 0, 1, 2, 1, 2]
    )
    assert (np.sum(ticket), np.mean(ticket)) == (4, 4 / 6)
    assert torch.tensor(ticket).tolist() == BITS
    array = np.asarray(ticket)
    array[:] = False
    assert ticket == BITS
    assert (ticket == mask).all()
    with pytest.raises(ValueError, match="always a copy"):
        np.asarray(ticket, copy=False)


def test_tables_hold_numbers():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([nets.Ticket(BITS), nets.Ticket(OTHERS)])
    assert frame.to_numpy().tolist() == [BITS, OTHERS]


@pytest.mark.parametrize(
    "key",
    [np.array([0, 2, -1]), np.array(BITS, bool), np.array([], int), [4, 1], [],
     torch.tensor([2, 3]), nets.Ticket(OTHERS).gates],
)  # fmt: skip
def test_arrays_of_places_and_of_bools_are_indices(ticket, key):
    array = np.array(BITS, bool)
    places = np.asarray(key) if len(key) else []
    assert ticket[key] == array[places].tolist()
    new = [1 - bit for bit in ticket[key]]
    ticket[key], array[places] = new, new
    assert ticket == array.tolist()
    ticket[key], array[places] = 1, True
    assert ticket == array.tolist()


@pytest.mark.parametrize("key", [np.zeros((2, 2), int), np.ones(5, bool), np.array([6])])
def test_arrays_that_are_no_indices_are_refused(ticket, key):
    with pytest.raises((InvalidValueError, IndexError)):
        ticket[key]


def test_a_number_fills_a_slice(ticket):
    ticket[1:5] = 0
    assert ticket == [1, 0, 0, 0, 0, 1]


def test_an_array_is_not_joined_with_bits(ticket):
    for bits in (ticket, ticket[:3]):
        with pytest.raises(InvalidTypeError, match=r"other must be a list.*np\.concatenate"):
            bits + ticket.gates[3:]
    with pytest.raises(TypeError, match="tuple"):
        ticket + (1, 0)  # noqa: RUF005


def test_an_array_compares_bit_by_bit_as_with_lists(ticket):
    for one in (np.array(OTHERS), np.array(BITS)):
        for found in (ticket == one, one == ticket):
            assert found.tolist() == (one == BITS).tolist()
        assert (ticket != one).tolist() == (one != BITS).tolist()
    assert ticket != tuple(BITS)
    assert ticket != "bits"
