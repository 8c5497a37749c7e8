"""Files of structured tickets: round trips, applying, and refusing what makes no sense."""

import contextlib
import json
import tracemalloc

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from torch import nn

import nets_deap as nets
from nets_deap.errors import TicketFileError
from nets_deap.tickets import bits, files
from nets_deap.tickets.fitness import fitness_class
from nets_deap.tickets.layout_of import layout_of
from nets_deap.tickets.units import UnitLayout

KIND = fitness_class(("val_loss", "density"), (-1.0, -1.0), (2.3, 1.0))
UNITS = ("neuron", "block(2x3)", "2:4")


def model(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.ConvTranspose1d(2, 4, 3, groups=2), nn.Linear(6, 4), nn.Linear(4, 3))


def make(unit, seed=0, **options):
    maskable = "[12].weight" if unit == "2:4" else None
    layout = layout_of(model(seed), maskable, unit)
    ticket = nets.Ticket(np.arange(layout.size) % 2, layout, KIND())
    ticket.fitness.values = (0.5, ticket.density)
    return ticket


def read(path):
    with safe_open(str(path), framework="np") as file:
        return {"mask": file.get_tensor("mask")}, json.loads(file.metadata()["nets_deap"])


def write(path, tensors, description):
    text = json.dumps(description)
    checksum = files._checksum(tensors, text)
    save_file(tensors, path, metadata={"nets_deap": text, "sha256": checksum})


@pytest.mark.parametrize("include_initial", [False, True])
@pytest.mark.parametrize("unit", UNITS)
def test_a_round_trip_keeps_bits_units_and_fitness(unit, include_initial, tmp_path):
    ticket = make(unit)
    back = nets.Ticket.load(ticket.save(tmp_path / "a", include_initial=include_initial))
    assert back == ticket
    assert (back.unit, back.density, back.fitness.values) == (
        unit,
        ticket.density,
        (0.5, ticket.density),
    )
    np.testing.assert_array_equal(back.mask, ticket.mask)
    tensors, description = read(tmp_path / "a")
    assert tensors["mask"].nbytes == -(-len(ticket) // 8)
    assert (description["schema"], description["unit"]) == (3, unit)


def test_files_of_single_weights_need_no_tiles(tmp_path):
    ticket = make("weight")
    description = read(ticket.save(tmp_path / "a"))[1]
    assert (description["schema"], description["unit"]) == (3, "weight")
    assert "tiles" not in description


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("include_initial", [False, True])
def test_where_the_layout_is_unknown_the_file_brings_it(unit, include_initial, tmp_path):
    seed = 100 + UNITS.index(unit) + 10 * include_initial
    ticket = make(unit, seed)
    if unit == "2:4":  # more bits than count
        ticket.gates = np.ones(len(ticket))
    mask, key = ticket.mask, ticket.layout_key
    ticket.save(tmp_path / "a", include_initial=include_initial)
    del ticket
    back = nets.Ticket.load(tmp_path / "a")
    assert back.layout_key == key
    assert (back.layout.initial is not None) == include_initial
    np.testing.assert_array_equal(back.mask, mask)
    fresh, applied = model(seed), back.apply(model(seed))
    masks = back.layout.weights.split(back.mask)
    for (name, got), old in zip(applied.named_parameters(), fresh.parameters(), strict=True):
        expected = old * torch.from_numpy(masks[name]) if name in masks else old
        torch.testing.assert_close(got, expected, rtol=0, atol=0)


@pytest.mark.parametrize("unit", UNITS)
def test_any_flipped_bit_is_noticed(unit, tmp_path):
    path = make(unit).save(tmp_path / "a")
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(TicketFileError):
            nets.Ticket.load(path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"unit": "rows"}, "unit must be a known name"),
        ({"unit": "weight"}, "mask must have the right shape"),
        ({"unit": None}, "unit must be a known name"),
        ({"unit": "block(9x9)"}, "tiles must be those of the unit"),
        ({"tiles": None}, "not a valid ticket file: TypeError"),
        ({"tiles": [[1, 6]]}, "tiles must have the right length"),
        ({"tiles": [None] * 4}, "maskable must leave something to gate"),
        (
            {"tiles": [[1], *[None] * 3]},
            "tiles must have the right length: expected rows and columns = 2, got 1",
        ),
        ({"tiles": [["1", 6], *[None] * 3]}, "not a valid ticket file: InvalidTypeError"),
        ({"tiles": [[-1, 6], *[None] * 3]}, "tiles must be in range"),
        ({"tiles": [[1, 1], *[None] * 3]}, "ties must have the right shape"),
        ({"ties": None}, "ties must say whose they are"),
        ({"ties": [[0, 1]]}, "ties must have the right length"),
        ({"size": 9}, "size and digest do not match the mask"),
        ({"schema": 1}, "mask must have the right shape"),
    ],
)
def test_descriptions_that_make_no_sense_are_refused(change, text, tmp_path):
    ticket = make("neuron")
    tensors, description = read(ticket.save(tmp_path / "a"))
    write(tmp_path / "a", tensors, description)
    assert nets.Ticket.load(tmp_path / "a") == ticket
    write(tmp_path / "a", tensors, {**description, **change})
    with pytest.raises(TicketFileError, match=text):
        nets.Ticket.load(tmp_path / "a")


def test_more_than_two_of_four_need_the_initial_weights():
    layout = UnitLayout(nets.MaskLayout([("a", (2, 4))], initial_digest="x"), "2:4", [(1, 1)])
    assert nets.Ticket([1, 1, 0, 0, 0, 1, 0, 1], layout).kept == 4
    assert layout.density_range == (1 / 8, 0.5)
    with pytest.raises(nets.NetsError, match="The initial weights are not known here"):
        nets.Ticket(np.ones(8), layout).mask


@pytest.mark.parametrize(
    ("unit", "shape", "tile"),
    [
        ("neuron", (10**9, 10), [1, 10]),
        ("neuron", (2**40, 2**40), [1, 2**40]),
        ("block(100000x100000)", (10**5, 10**5), [10**5, 10**5]),
        ("2:4", (10**5, 10**5), [1, 1]),
    ],
)
def test_no_memory_is_taken_for_weights_that_a_file_only_speaks_of(unit, shape, tile, tmp_path):
    tensors, description = read(make("neuron").save(tmp_path / "a"))
    tensors["mask"] = np.ones(1, np.uint8)
    size = 1 if unit.startswith("block") else 8
    more = {"layers": [["a", shape]], "unit": unit, "tiles": [tile], "size": size}
    more["digest"] = bits.digest(tensors["mask"], size)
    write(tmp_path / "a", tensors, {**description, **more})
    tracemalloc.start()
    with contextlib.suppress(TicketFileError):
        nets.Ticket.load(tmp_path / "a")
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2**24
