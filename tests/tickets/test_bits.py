"""Packed bits against plain NumPy bool vectors."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nets_deap.errors import InvalidTypeError, InvalidValueError
from nets_deap.tickets import bits

masks = st.lists(st.booleans(), max_size=70).map(lambda flags: np.array(flags, dtype=np.bool_))
unhurried = settings(deadline=None)


@unhurried
@given(masks)
def test_pack_and_unpack_are_inverse_and_padding_is_zero(mask):
    packed = bits.pack(mask)
    assert packed.dtype == np.uint8
    assert packed.shape == (bits.n_bytes(mask.size),) == (-(-mask.size // 8),)
    back = bits.unpack(packed, mask.size)
    assert back.dtype == np.bool_
    np.testing.assert_array_equal(back, mask)
    assert not bits.unpack(packed, 8 * packed.size)[mask.size :].any()


def test_the_first_bit_is_the_least_significant():
    mask = np.zeros(12, dtype=np.bool_)
    mask[[0, 9]] = True
    assert bits.pack(mask).tolist() == [1, 2]


@unhurried
@given(st.binary(min_size=1, max_size=9), st.integers(0, 7))
def test_clear_padding_zeroes_the_padding_and_nothing_else(data, n_padding):
    packed = np.frombuffer(data, dtype=np.uint8).copy()
    size = 8 * len(packed) - n_padding
    before = bits.unpack(packed, size)
    bits.clear_padding(packed, size)
    np.testing.assert_array_equal(packed, bits.pack(before))


@pytest.mark.parametrize("size", [37, 40])
def test_ranges_agree_with_numpy(size):
    mask = np.random.default_rng(size).random(size) < 0.6
    packed = bits.pack(mask)
    assert bits.count(packed) == np.count_nonzero(mask)
    for start in range(size + 1):
        assert bits.count(packed, start) == np.count_nonzero(mask[start:])
        for stop in range(start, size + 1):
            np.testing.assert_array_equal(bits.unpack_range(packed, start, stop), mask[start:stop])
            assert bits.count(packed, start, stop) == np.count_nonzero(mask[start:stop])


@unhurried
@given(
    size=st.integers(0, 300),
    density=st.sampled_from([0.0, 0.02, 0.09, 0.3, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_places_index_as_the_mask_does(size, density, seed):
    mask = np.random.default_rng(seed).random(size) < density
    places, values = bits.places(mask), np.arange(size)
    assert values[places].tolist() == values[mask].tolist()
    assert isinstance(places, slice) == bool(mask.all())


@unhurried
@given(masks, masks)
@example(np.zeros(3, dtype=np.bool_), np.zeros(4, dtype=np.bool_))
def test_the_digest_tells_masks_apart_as_equality_does(one, other):
    digests = [bits.digest(bits.pack(mask), mask.size) for mask in (one, other)]
    assert (digests[0] == digests[1]) == np.array_equal(one, other)


def test_the_digest_is_the_same_on_every_machine():
    packed = bits.pack(np.array([True, False, True]))
    assert bits.digest(packed, 3) == "444e42c1a7868690d9fe145a97b8b376"


@unhurried
@given(masks, st.integers(0, 2**32 - 1))
def test_overlap_is_the_jaccard_index(one, seed):
    other = np.random.default_rng(seed).random(one.size) < 0.5
    union, common = np.count_nonzero(one | other), np.count_nonzero(one & other)
    packed, packed_other = bits.pack(one), bits.pack(other)
    assert bits.overlap(packed, packed_other) == (common / union if union else 1.0)
    with pytest.raises(InvalidValueError, match=r"other must have the right length: .*, got 99"):
        bits.overlap(packed, np.zeros(99, np.uint8))


@pytest.mark.parametrize(
    "values", [[1, 0], (1.0, 0.0), iter([True, 0]), np.array([1, 0], np.uint8), [True, False]]
)
def test_as_mask_takes_bits_of_any_kind(values):
    mask = bits.as_mask(values)
    assert mask.dtype == np.bool_
    assert mask.tolist() == [True, False]
    assert bits.as_mask([]).dtype == bits.as_mask(np.zeros(0)).dtype == np.bool_


@pytest.mark.parametrize("values", [[0, 2], [-1], [0.5], [float("nan")], ["1"], [None], [1j]])
def test_as_mask_refuses_what_are_not_bits(values):
    with pytest.raises(InvalidValueError, match=r"genes must hold bits: expected bool, or numbers"):
        bits.as_mask(values, "genes")


@pytest.mark.parametrize("values", [np.zeros((2, 3)), np.array(1), [[0, 1], [1, 0]]])
def test_as_mask_refuses_what_is_not_a_vector(values):
    with pytest.raises(InvalidValueError, match=r"mask must be a vector: .*got \(.*Flatten it"):
        bits.as_mask(values)


@pytest.mark.parametrize(
    "masks", [{"0.weight": np.ones((2, 3))}, [np.ones((2, 3)), np.ones((1, 2))], [np.ones(3)]]
)
def test_as_mask_says_what_takes_masks_of_layers(masks):
    with pytest.raises(InvalidTypeError, match=r"mask must be a vector.*Ticket.from_masks"):
        bits.as_mask(masks)


@unhurried
@given(masks, st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_what_is_chosen_of_ones_is_put_where_they_stand(mask, share, seed):
    chosen = np.random.default_rng(seed).random(np.count_nonzero(mask)) < share
    expected = mask.copy()
    expected[mask] = chosen
    packed = bits.deposit(bits.pack(mask), chosen)
    np.testing.assert_array_equal(packed, bits.pack(expected))
    for known in (False, True):
        ones = bits.Ones(mask)
        assert not known or ones.places is not None
        np.testing.assert_array_equal(ones.marked(chosen), expected)
