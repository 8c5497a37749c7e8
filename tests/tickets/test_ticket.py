"""The ticket: a fixed-length list of bits, its layout, and what was trained."""

import copy
import gc
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.trained import set_trained

from nets_deap.errors import CallOrderError, InvalidValueError
from nets_deap.tickets import bits
from nets_deap.tickets.fitness import fitness_class
from nets_deap.tickets.layout import MaskLayout, known_layout
from nets_deap.tickets.ticket import Ticket

unhurried = settings(deadline=None)
flags = st.lists(st.booleans(), max_size=40)
MASK = [1, 0, 1, 1, 0, 0, 1, 0, 1, 1]


@pytest.fixture
def layout():
    return MaskLayout([("a", (2, 3)), ("b", (4,))], np.arange(10, dtype=np.float32))


@pytest.fixture
def ticket(layout):
    ticket = Ticket(MASK, layout=layout)
    values = layout.initial[ticket.mask] + np.float32(0.5)
    set_trained(ticket, values, steps=20, metrics={"val_loss": 0.25})
    return ticket


# ---- a list of bits


@unhurried
@given(flags, st.data())
def test_reading_agrees_with_a_list(flags, data):
    ticket = Ticket(flags)
    assert len(ticket) == len(flags)
    assert list(ticket) == flags
    assert [ticket[i] for i in range(-len(flags), len(flags))] == flags + flags
    assert {type(ticket[i]) for i in range(len(flags))} | set(map(type, ticket)) <= {int}
    for bit in (True, False, 1, 0, 2, "1"):
        assert (bit in ticket) == (bit in flags)
    key = data.draw(st.slices(len(flags)))
    assert ticket[key].tolist() == flags[key]
    assert (ticket.kept, ticket.density) == (sum(flags), sum(flags) / max(1, len(flags)))


@unhurried
@given(flags, st.data())
def test_writing_agrees_with_a_list(flags, data):
    ticket = Ticket(flags)
    key = data.draw(st.slices(len(flags)))
    new = data.draw(st.lists(st.booleans(), min_size=len(flags[key]), max_size=len(flags[key])))
    ticket[key] = new
    flags[key] = new
    if flags:
        i = data.draw(st.integers(-len(flags), len(flags) - 1))
        ticket[i] = flags[i] = data.draw(st.booleans())
    assert list(ticket) == flags
    np.testing.assert_array_equal(ticket.packed, bits.pack(np.array(flags, dtype=np.bool_)))


def test_slices_and_the_mask_are_copies():
    ticket = Ticket(MASK)
    for part in (ticket[2:7], ticket[::2], ticket[::-1], ticket[:], ticket.mask):
        part[:] = ~part
        assert list(ticket) == MASK


def test_the_packed_view_is_read_only_and_assign_copies_and_clears_the_padding():
    ticket = Ticket(MASK)
    with pytest.raises(ValueError, match="read-only"):
        ticket.packed[0] = 0
    packed = np.array([255, 255], dtype=np.uint8)
    ticket.assign(packed)
    packed[:] = 0
    assert ticket == Ticket([1] * 10)
    assert ticket.packed.tolist() == [255, 3]


def test_tickets_are_equal_where_bits_and_layouts_are(layout):
    ticket = Ticket(MASK, layout=layout)
    assert ticket == Ticket(MASK, layout=layout)
    for other in (Ticket(MASK), Ticket([0, *MASK[1:]], layout=layout), [0, *MASK[1:]], MASK[1:]):
        assert ticket != other
    assert Ticket([1, 0]) != Ticket([1, 0, 0])
    with pytest.raises(TypeError, match="unhashable"):
        hash(ticket)


def test_a_ticket_of_no_bits():
    ticket = Ticket()
    assert (len(ticket), ticket.kept, ticket.density, list(ticket)) == (0, 0, 0.0, [])
    assert ticket == copy.deepcopy(ticket) == pickle.loads(pickle.dumps(ticket))
    with pytest.raises(IndexError, match="out of range"):
        ticket[0]


@pytest.mark.parametrize(
    ("key", "value", "error", "text"),
    [
        (10, 1, IndexError, r"ticket index out of range: expected -10\.\.9, got 10"),
        (-11, 1, IndexError, r"ticket index out of range: expected -10\.\.9, got -11"),
        ("a", 1, TypeError, "cannot be interpreted as an integer"),
        (1.0, 1, TypeError, "cannot be interpreted as an integer"),
        (0, 2, InvalidValueError, "value must hold bits"),
        (0, "1", InvalidValueError, "value must hold bits"),
        (slice(0, 2), [0, 2], InvalidValueError, "value must hold bits"),
        (slice(0, 9, 4), [1, 0], InvalidValueError, r"slice = 3, got 2\. Length is fixed"),
    ],
)
def test_bad_items_are_refused_and_change_nothing(key, value, error, text):
    ticket = Ticket(MASK)
    with pytest.raises(error, match=text):
        ticket[key] = value
    if error in (IndexError, TypeError):
        with pytest.raises(error, match=text):
            ticket[key]
    assert list(ticket) == MASK


def test_masks_of_another_length_are_refused(layout):
    ticket = Ticket(MASK)
    with pytest.raises(InvalidValueError, match=r"mask must have the right length: .*= 10, got 9"):
        ticket.mask = MASK[1:]
    with pytest.raises(InvalidValueError, match=r"packed must .*\(2,\), got \(3,\)"):
        ticket.assign(np.zeros(3, dtype=np.uint8))
    with pytest.raises(InvalidValueError, match=r"mask must .*D = 10, got 9.*another layout"):
        Ticket(MASK[1:], layout=layout)


# ---- layout


def test_densities_by_layer_and_in_all(ticket):
    assert ticket.layer_densities == {"a": 0.5, "b": 0.75}
    assert repr(ticket) == "Ticket(6 of 10 weights, density 0.6000, fitness ())"
    ticket.fitness = fitness_class(("loss",), (-1.0,))()
    ticket.fitness.values = (0.25,)
    assert repr(ticket).endswith("fitness (0.25,))")
    with pytest.raises(CallOrderError, match="has no layout: it was made without one"):
        Ticket(MASK).layer_densities


def test_pickles_hold_no_layout_and_find_it_when_it_is_built_again():
    initial = np.linspace(5, 6, 10)
    ticket = Ticket(MASK, layout=MaskLayout([("gone", (10,))], initial))
    key, data = ticket.layout.key, pickle.dumps(ticket)
    assert b"gone" not in data
    del ticket
    gc.collect()
    assert known_layout(key) is None
    back = pickle.loads(data)
    assert list(back) == MASK
    assert not back.has_layout
    with pytest.raises(CallOrderError, match="it came from another process"):
        back.layout
    assert back.layout_key == key
    again = MaskLayout([("gone", (10,))], initial)
    assert back.layout is again
    assert pickle.loads(data).layout is again


# ---- what was trained

CHANGES = {
    "bit": lambda ticket: ticket.__setitem__(1, 1),
    "slice": lambda ticket: ticket.__setitem__(slice(0, 3), [0, 0, 0]),
    "mask": lambda ticket: setattr(ticket, "mask", [0] * 10),
    "assign": lambda ticket: ticket.assign(np.array([1, 0], dtype=np.uint8)),
    "behind its back": lambda ticket: ticket._packed.__setitem__(0, 1),
}


@pytest.mark.parametrize("name", [name for name in CHANGES if name != "behind its back"])
def test_count_and_digest_follow_every_change_and_copies_go_their_own_way(ticket, name):
    before = ticket.kept, ticket.digest
    twin = copy.deepcopy(ticket)
    CHANGES[name](ticket)
    fresh = Ticket(ticket.mask)
    assert (ticket.kept, ticket.digest) == (fresh.kept, fresh.digest)
    assert ticket.kept != before[0]
    assert ticket.digest != before[1]
    assert (twin.kept, twin.digest) == before
    assert pickle.loads(pickle.dumps(ticket)).kept == ticket.kept


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_other_bits_are_not_trained_but_inherit(ticket, change):
    state = ticket.trained
    assert state.metrics == {"val_loss": 0.25}
    change(ticket)
    assert ticket.trained is None
    assert ticket.inherited is state
    ticket.mask = MASK
    assert ticket.trained is state


def test_writing_the_same_bits_forgets_nothing(ticket):
    ticket[0] = ticket[0]
    ticket[2:5] = ticket[2:5]
    ticket.mask = ticket.mask
    ticket.assign(ticket.packed)
    assert ticket.trained.steps == 20


def test_trained_must_belong_to_the_mask(ticket):
    other = Ticket([1] * 10)
    with pytest.raises(InvalidValueError, match=r"trained\.values must .*\(10,\), got \(6,\)"):
        other.trained = ticket.trained
    other.mask = MASK[::-1]
    with pytest.raises(
        InvalidValueError, match=r"trained must belong to this mask: expected digest"
    ):
        other.trained = ticket.trained
    assert other.trained is None
    ticket.trained = None
    assert ticket.trained is None


# ---- copies


@pytest.mark.parametrize(
    "clone", [copy.copy, copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))]
)
def test_copies_keep_everything_and_are_independent(ticket, clone):
    ticket.notes = ["kept"]
    other = clone(ticket)
    assert other == ticket
    assert other.layout is ticket.layout
    assert (other.trained.steps, other.trained.metrics) == (20, {"val_loss": 0.25})
    np.testing.assert_array_equal(other.trained.values, ticket.trained.values)
    assert not other.trained.values.flags.writeable
    other.notes.append("new")
    other[1] = 1
    assert (list(ticket), ticket.notes, ticket.trained.steps) == (MASK, ["kept"], 20)
    assert other.trained is None


def test_deepcopy_keeps_references_among_copies(ticket):
    ticket.me = ticket
    first, second = copy.deepcopy([ticket, ticket])
    assert first is second
    assert first.me is first
