"""What programs set on tickets is theirs: under names of their own, and never shared by copies."""

import copy
import pickle

import numpy as np
import pytest
from deap import base, creator, tools

import nets_deap as nets
from nets_deap.errors import InvalidTypeError, InvalidValueError
from nets_deap.tickets.genome import Genome
from nets_deap.tickets.layout import MaskLayout

MASK = [1, 0, 1, 1]
# Names that programs of DEAP's, or of lists, use.
FREE = (
    *("strategy", "parents", "best", "speed", "smin", "smax", "age", "history_index", "rank"),
    *("niche", "genes", "notes", "weights", "index", "count", "copy", "append", "sort", "bestfit"),
)


@pytest.fixture
def create():
    """Return ``creator.create`` for one class, which is forgotten afterwards."""

    def make(parent=nets.Ticket, **attributes):
        creator.create("MineFitness", base.Fitness, weights=(-1.0,))
        creator.create("Mine", parent, fitness=creator.MineFitness, **attributes)
        return creator.Mine

    yield make
    for name in ("Mine", "MineFitness"):
        vars(creator).pop(name, None)


@pytest.mark.parametrize("name", FREE)
@pytest.mark.parametrize("attribute", [list, None], ids=repr)
def test_names_of_programs_are_theirs(create, name, attribute):
    one = create(**{name: attribute})(MASK)
    first = attribute() if isinstance(attribute, type) else attribute
    assert getattr(one, name) == first
    for value in ([1, 2], None, np.float64(0.5)):
        setattr(one, name, value)
        for twin in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
            assert getattr(twin, name) == value
            assert type(getattr(twin, name)) is type(value)
            assert twin == one
    tools.mutFlipBit(one, 1.0)
    assert one == [0, 1, 0, 0]


TAKEN = (
    *("mask", "density", "kept", "digest", "layout", "unit", "trained", "inherited", "origin"),
    *("adaptation", "evaluations", "diverged", "parent_digests", "save", "apply", "_packed"),
)


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("attribute", [int, None], ids=repr)
def test_data_under_a_name_of_the_package_is_refused(create, name, attribute):
    with pytest.raises(InvalidValueError, match=f"Mine.{name} must have a name of its own"):
        create(**{name: attribute})


@pytest.mark.parametrize("name", [name for name in TAKEN if not name.startswith("_")])
def test_what_the_package_keeps_of_a_ticket_is_not_overwritten(name):
    with pytest.raises((InvalidValueError, InvalidTypeError, AttributeError)):
        setattr(nets.Ticket(MASK), name, object())


def test_weights_are_a_genomes(create):
    with pytest.raises(InvalidValueError, match=r"Mine\.weights must"):
        create(Genome, weights=list)


def test_methods_may_be_overridden(create):
    class Loud(nets.Ticket):
        def save(self, path, **options):
            return f"{path}!"

        @property
        def density(self):
            return 2 * super().density

    one = create(Loud)(MASK)
    assert (one.save("a"), one.density) == ("a!", 1.5)


def test_nothing_that_can_be_changed_is_shared_by_copies():
    ticket = nets.Ticket(MASK, MaskLayout([("a", (2, 2))]))
    ticket.strategy, ticket.parents, ticket.speed = [1.0], ["x"], np.zeros(2)
    ticket.adaptation, ticket.origin = {"a": 1.0}, {"recipe": {"lr": 0.1}}
    for clone in (copy.deepcopy, copy.copy, nets.Ticket.copy, base.Toolbox().clone):
        twin = clone(ticket)
        twin.strategy[0], twin.speed[0] = 5.0, 5.0
        twin.parents.append("y")
        twin.origin["recipe"]["lr"] = 5
        twin.adaptation = {**twin.adaptation, "a": 5.0}
        assert (ticket.strategy, ticket.parents, ticket.speed.tolist()) == ([1.0], ["x"], [0, 0])
        assert (ticket.origin, ticket.adaptation) == ({"recipe": {"lr": 0.1}}, {"a": 1.0})
        with pytest.raises(TypeError):
            ticket.adaptation["a"] = 5.0


def test_parameters_that_evolve_are_numbers_by_name():
    ticket, given = nets.Ticket(MASK), {"a": 1}
    ticket.adaptation = given
    given["a"] = 2
    assert ticket.adaptation == {"a": 1.0}
    for wrong, text in (([1.0], "a mapping"), ({"a": "x"}, r"adaptation\['a'\]")):
        with pytest.raises(InvalidTypeError, match=text):
            ticket.adaptation = wrong


def test_attributes_can_be_taken_from_another():
    """An idiom of programs: the bits stay each one's own."""
    one, other = nets.Ticket(MASK), nets.Ticket([0, 0, 0, 1])
    other.age = 3
    one.__dict__.update(other.__dict__)
    assert (one.age, one == MASK, vars(one)) == (3, True, {"age": 3})
    other[0] = 1
    assert one == MASK


class Slotted(nets.Ticket):
    __slots__ = ("__secret", "_age", "unset")

    def __init__(self, age, mask=MASK):
        self._age, self.__secret = age, [len(self)]
        super().__init__(mask)

    @property
    def told(self):
        return self._age, self.__secret


def test_subclasses_may_have_slots_and_an_own_init():
    one = Slotted([3])
    for twin in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert twin.told == ([3], [0])
        assert twin == MASK
        assert not hasattr(twin, "unset")
        twin.told[0].append(4)
        assert one.told == ([3], [0])


def test_a_class_need_not_call_init():
    class Empty(nets.Ticket):
        def __init__(self):
            pass

    assert Empty() == []
    assert copy.deepcopy(Empty()) == []
