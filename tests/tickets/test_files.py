"""Ticket files: round trips, applying to models, and refusing what is not a sound ticket file."""

import gc
import json
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch
from support.trained import set_trained

from nets_deap.errors import CallOrderError, FileAccessError, InvalidValueError, TicketFileError
from nets_deap.models import MLP, lenet_300_100
from nets_deap.tickets import files
from nets_deap.tickets.fitness import fitness_class
from nets_deap.tickets.layout import MaskLayout, known_layout
from nets_deap.tickets.ticket import Ticket

SIZES = (3, 4, 2)  # 20 maskable weights
KIND = fitness_class(("val_loss", "density"), (-1.0, -1.0), (2.3, 1.0))


def make(seed=0):
    """Return a ticket of half the weights of a small network."""
    layout = MaskLayout.of(MLP(SIZES, seed=seed))
    ticket = Ticket(np.arange(layout.size) % 2, layout=layout, fitness=KIND())
    ticket.fitness.values = (0.5, ticket.density)
    return ticket


@pytest.fixture
def ticket():
    return make()


def save_elsewhere(path, seed, **options):
    """Save a ticket as another process would: nothing here knows its layout afterwards."""
    ticket = make(seed)
    key = ticket.layout.key
    ticket.save(path, **options)
    del ticket
    gc.collect()
    assert known_layout(key) is None
    return path


def read(path):
    """Return the tensors and the description of a file."""
    with safe_open(str(path), framework="np") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["nets_deap"])


def write(path, tensors, description):
    """Write a file whose checksum is right, whatever it describes."""
    text = description if isinstance(description, str) else json.dumps(description)
    checksum = files._checksum(tensors, text)
    save_file(tensors, path, metadata={"nets_deap": text, "sha256": checksum})


# ---- round trips


@pytest.mark.parametrize("include_initial", [False, True])
def test_a_round_trip_keeps_bits_layout_and_fitness(ticket, tmp_path, include_initial):
    path = tmp_path / "a.safetensors"
    assert ticket.save(str(path), include_initial=include_initial) == path
    back = Ticket.load(path)
    assert back == ticket
    assert include_initial or back.layout is ticket.layout
    assert type(back.fitness) is KIND
    assert back.fitness.values == (0.5, 0.5)
    np.testing.assert_array_equal(back.layout.initial, ticket.layout.initial)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_a_ticket_of_lenet_is_small(tmp_path):
    layout = MaskLayout.of(lenet_300_100())
    ticket = Ticket(np.random.default_rng(0).random(layout.size) < 0.1, layout=layout)
    path = ticket.save(tmp_path / "lenet")
    assert 33_275 < path.stat().st_size < 40_000
    assert Ticket.load(path) == ticket
    with_initial = ticket.save(tmp_path / "full", include_initial=True).stat().st_size
    assert with_initial > 4 * layout.size


def test_a_ticket_without_a_valid_fitness_stays_so(ticket, tmp_path):
    del ticket.fitness.values
    back = Ticket.load(ticket.save(tmp_path / "a"))
    assert type(back.fitness) is KIND
    assert not back.fitness.valid
    assert Ticket.load(Ticket([1] * 20, layout=ticket.layout).save(tmp_path / "b")).fitness is None


def test_the_description_is_plain_json_even_of_numpy_numbers(ticket, tmp_path):
    ticket.fitness.values = (np.float32(0.25), np.float64(0.5))
    metrics = {"val_loss": np.float32(0.25), "val_accuracy": 0.75}
    set_trained(ticket, np.zeros(10), steps=30, metrics=metrics)
    description = read(ticket.save(tmp_path / "a"))[1]
    assert description["metrics"] == {"steps": 30, "val_loss": 0.25, "val_accuracy": 0.75}
    assert description["fitness"]["values"] == [0.25, 0.5]
    assert (description["digest"], description["size"]) == (ticket.digest, 20)
    assert Ticket.load(tmp_path / "a").fitness.values == (0.25, 0.5)


def test_a_class_with_a_fitness_of_its_own_keeps_it(ticket, tmp_path):
    class Mine(Ticket):
        def __init__(self, mask, layout):
            super().__init__(mask, layout, fitness_class(("x", "y"), self.weights)())

    path = ticket.save(tmp_path / "a")
    Mine.weights = (-2.0, -1.0)
    back = Mine.load(path)
    assert type(back) is Mine
    assert (back.fitness.names, back.fitness.values) == (("x", "y"), (0.5, 0.5))
    for Mine.weights in ((-1.0, 1.0), (-1.0,)):
        with pytest.raises(TicketFileError, match=r"fitness of Mine must have the objectives of"):
            Mine.load(path)


def test_where_the_layout_is_unknown_the_file_brings_it(tmp_path):
    back = Ticket.load(save_elsewhere(tmp_path / "a", 101))
    assert back.layout.initial is None
    assert back.layout.names == ("layers.0.weight", "layers.1.weight")
    assert list(back) == [False, True] * 10
    back.save(tmp_path / "again")
    assert Ticket.load(tmp_path / "again") == back
    with pytest.raises(CallOrderError, match="only their digest"):
        back.save(tmp_path / "full", include_initial=True)
    assert back == make(101)


# ---- applying


def check_applied(model, ticket, fresh):
    """Assert that ``model`` is ``fresh`` with its weights times the mask and all else untouched."""
    masks = ticket.layout.split(ticket.mask)
    for (name, got), old in zip(model.named_parameters(), fresh.parameters(), strict=True):
        expected = old * torch.from_numpy(masks[name]) if name in masks else old
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
        assert got.requires_grad


def test_apply_sets_known_initial_weights_whatever_the_model_holds(ticket):
    model, fresh = MLP(SIZES, seed=7), MLP(SIZES, seed=0)
    with torch.no_grad():
        for layer in (*model.layers, *fresh.layers):
            layer.bias.fill_(3.0)
    parameters = list(model.parameters())
    assert ticket.apply(model, values="initial") is model
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    check_applied(model, ticket, fresh)


def test_apply_with_initial_weights_from_the_file(tmp_path):
    back = Ticket.load(save_elsewhere(tmp_path / "a", 102, include_initial=True))
    model = back.apply(MLP(SIZES, seed=7), values="initial")
    check_applied(model, back, MLP(SIZES, seed=102))


def test_apply_with_unknown_initial_weights_needs_a_model_that_holds_them(tmp_path):
    back = Ticket.load(save_elsewhere(tmp_path / "a", 103))
    other = MLP(SIZES, seed=7)
    with pytest.raises(
        InvalidValueError, match=r"model must hold the ticket's initial weights: .*"
    ):
        back.apply(other)
    for got, old in zip(other.parameters(), MLP(SIZES, seed=7).parameters(), strict=True):
        assert torch.equal(got, old)
    check_applied(back.apply(MLP(SIZES, seed=103)), back, MLP(SIZES, seed=103))


def test_apply_refuses_models_of_other_layers(ticket):
    with pytest.raises(InvalidValueError, match=r"layers\.1\.weight must .*\(2, 4\), got \(5, 4\)"):
        ticket.apply(MLP((3, 4, 5)))
    with pytest.raises(InvalidValueError, match=r"layer must be a known name.*another model"):
        ticket.apply(MLP((3, 4)))


def test_a_ticket_without_a_layout_can_be_neither_saved_nor_applied(tmp_path):
    for use in (lambda t: t.save(tmp_path / "a"), lambda t: t.apply(MLP(SIZES))):
        with pytest.raises(CallOrderError, match="The ticket has no layout"):
            use(Ticket([1] * 20))
    assert not list(tmp_path.iterdir())


# ---- damage


def test_any_flipped_bit_is_noticed(ticket, tmp_path):
    path = ticket.save(tmp_path / "a", include_initial=True)
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        with pytest.raises(TicketFileError) as caught:
            Ticket.load(path)
    assert (
        str(caught.value) == f"{path} is damaged: its SHA-256 does not match. Get the file again."
    )


def test_a_truncated_file_is_refused(ticket, tmp_path):
    path = ticket.save(tmp_path / "a")
    data = path.read_bytes()
    for length in (0, 4, 8, 100, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(TicketFileError, match="is not a safetensors file, or is damaged"):
            Ticket.load(path)


def test_a_pickle_is_refused(ticket, tmp_path):
    (tmp_path / "a").write_bytes(pickle.dumps(ticket))
    with pytest.raises(TicketFileError, match="is not a safetensors file"):
        Ticket.load(tmp_path / "a")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
def test_other_safetensors_files_are_refused(tmp_path, dtype):
    save_torch({"weight": torch.zeros(3, dtype=dtype)}, tmp_path / "a")
    with pytest.raises(TicketFileError, match=r"is not a ticket file|is not a safetensors file"):
        Ticket.load(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"schema": 4}, r"^\S+ must be of schema 3 or older: got 4\. Update nets_deap"),
        ({"unit": "neuron"}, "not a valid ticket file: KeyError"),
        ({"origin": 1}, "its origin is not a mapping"),
        ({"metrics": {"val_loss": "x"}}, "its metrics are not all numbers"),
        ({"metrics": [1]}, "not a valid ticket file: AttributeError"),
        ({"schema": "1"}, "not a valid ticket file: TypeError"),
        ({"layers": []}, "layers must hold weights"),
        ({"layers": [["a", [-4, -5]]]}, "layers must hold weights"),
        ({"layers": [["a", [10]], ["a", [10]]]}, "layers must have names of their own"),
        ({"layers": [["a", [30]]]}, "initial must have the right shape"),
        ({"layers": 3}, "not a valid ticket file: TypeError"),
        ({"initial_digest": "0"}, "the initial weights do not match their digest"),
        ({"fitness": {"names": ["a"]}}, "not a valid ticket file: KeyError"),
        (
            {"fitness": {"names": ["a"], "weights": [1.0], "reference": [], "values": [1.0, 2.0]}},
            "not a valid ticket file: ValueError",
        ),
    ],
)
def test_descriptions_that_make_no_sense_are_refused(ticket, tmp_path, change, text):
    tensors, description = read(ticket.save(tmp_path / "a", include_initial=True))
    write(tmp_path / "a", tensors, description)
    assert Ticket.load(tmp_path / "a") == ticket
    write(tmp_path / "a", tensors, {**description, **change})
    with pytest.raises(TicketFileError, match=text):
        Ticket.load(tmp_path / "a")


@pytest.mark.parametrize("description", ["no json", "[]", "null", "{}"])
def test_what_is_not_a_description_is_refused(tmp_path, description):
    write(tmp_path / "a", {"mask": np.zeros(1, dtype=np.uint8)}, description)
    with pytest.raises(TicketFileError, match="is not a valid ticket file"):
        Ticket.load(tmp_path / "a")


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (np.full(3, 255, dtype=np.uint8), "the padding bits of the mask are not zero"),
        (np.zeros(4, dtype=np.uint8), "mask must have the right shape"),
        (np.zeros(3, dtype=np.float32), "not a valid ticket file: TypeError"),
    ],
)
def test_masks_that_make_no_sense_are_refused(ticket, tmp_path, mask, text):
    description = read(ticket.save(tmp_path / "a"))[1]
    write(tmp_path / "a", {"mask": mask}, description)
    with pytest.raises(TicketFileError, match=text):
        Ticket.load(tmp_path / "a")


# ---- places


def test_places_that_cannot_be_written_leave_nothing_behind(ticket, tmp_path):
    (tmp_path / "file").write_text("here first")
    (tmp_path / "folder").mkdir()
    for name in ("file/a", "missing/a", "folder"):
        with pytest.raises(FileAccessError, match=rf"path must be writable: .*{name} \(.*Choose"):
            ticket.save(tmp_path / name)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == ["file", "folder"]
    assert (tmp_path / "file").read_text() == "here first"


def test_a_failed_save_keeps_the_old_file(ticket, tmp_path, monkeypatch):
    path = ticket.save(tmp_path / "a")
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    ticket[0] = 1
    with pytest.raises(FileAccessError, match="No space left on device"):
        ticket.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_places_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("missing", "file/a", "."):
        with pytest.raises(FileAccessError, match="path must be readable: cannot open"):
            Ticket.load(tmp_path / name)


def test_nobody_waits_for_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "t.safetensors")
    with pytest.raises(FileAccessError, match="it is not a file"):
        Ticket.load(tmp_path / "t.safetensors")


@pytest.mark.parametrize("name", ["a.pt", "a.NPZ", "a.onnx"])
def test_a_suffix_of_another_format_is_refused(ticket, tmp_path, name):
    with pytest.raises(InvalidValueError, match=r"path must be that of a safetensors file.*export"):
        ticket.save(tmp_path / name)
    assert not list(tmp_path.iterdir())
