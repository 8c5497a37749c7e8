"""Ticket files: safetensors with packed bits, a JSON description and a SHA-256."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from nets_deap import _checks
from nets_deap.errors import FileAccessError, TicketFileError
from nets_deap.models.tensors import digest_of
from nets_deap.names import WEIGHT
from nets_deap.tickets import bits
from nets_deap.tickets.fitness import fitness_class
from nets_deap.tickets.layout import MaskLayout, known_layout
from nets_deap.tickets.units import UnitLayout

if TYPE_CHECKING:
    from nets_deap.tickets.ticket import Ticket

SCHEMA = 3  # 1: a bit is a weight; 2: structured tickets; 3: unit and origin of every ticket
_T = TypeVar("_T", bound="Ticket")


def save(ticket: Ticket, path: str | Path, *, include_initial: bool = False) -> Path:
    """Write ``ticket`` to ``path``: a temporary file first, then put in place."""
    from safetensors.numpy import save as to_bytes

    layout, fitness = ticket.layout, ticket.fitness
    packed, digest = ticket.packed, ticket.digest
    if isinstance(layout, UnitLayout) and layout.grouped:
        # Which bits count depends on W0, which a reader may not know: only those are written.
        packed = layout.expand(packed)
        digest = bits.digest(packed, layout.size)
    # A ticket from a file was not bred here: it has the parents that its origin tells of.
    parents = list(getattr(ticket, "parents", ())) or ticket.origin.get("parents", [])
    tensors: dict[str, NDArray[Any]] = {"mask": np.array(packed)}
    if include_initial:
        tensors["initial"] = np.array(layout.require_initial())
    description: dict[str, Any] = {
        "schema": SCHEMA,
        "size": layout.size,
        "layers": [[layer.name, list(layer.shape)] for layer in layout.weights.layers],
        "initial_digest": layout.initial_digest,
        "digest": digest,
        "density": ticket.density,
        "unit": layout.unit,
        "origin": {**ticket.origin, "parents": parents},
    }
    if isinstance(layout, UnitLayout):
        description.update(layout.describe())
    if fitness is not None:
        weights = list(fitness.weights)
        names = getattr(fitness, "names", ()) or [f"objective_{i}" for i in range(len(weights))]
        description["fitness"] = {
            "names": list(names),
            "weights": weights,
            "reference": list(getattr(fitness, "reference", ())),
            "values": [float(value) for value in fitness.values] if fitness.valid else None,
        }
    if ticket.trained is not None:
        metrics = {name: float(value) for name, value in ticket.trained.metrics.items()}
        description["metrics"] = {"steps": ticket.trained.steps, **metrics}
    text = json.dumps(description, sort_keys=True)
    metadata = {"nets_deap": text, "sha256": _checksum(tensors, text)}
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(_in_order(to_bytes(tensors, metadata)))
        os.replace(part, path)
    except OSError as error:
        with contextlib.suppress(OSError):  # a folder that is a file fails here too
            part.unlink(missing_ok=True)
        raise FileAccessError(
            f"path must be writable: cannot write the ticket to {path} ({error.strerror}). "
            "Choose another place."
        ) from error
    return path


def load(cls: type[_T], path: str | Path) -> _T:
    """Read a ticket of class ``cls``; its layout is the program's own if it is known."""
    tensors, metadata = _read(Path(path))
    text = metadata.get("nets_deap", "")
    if metadata.get("sha256") != _checksum(tensors, text):
        raise TicketFileError(
            f"{path} is damaged: its SHA-256 does not match. Get the file again."
            if text
            else f"{path} is not a ticket file: it has no description. Save one with Ticket.save."
        )
    try:
        description = json.loads(text)
        if description["schema"] > SCHEMA:
            raise TicketFileError(
                f"{path} must be of schema {SCHEMA} or older: got {description['schema']}. "
                "Update nets_deap to read it."
            )
        ticket = _build(cls, _migrated(description), tensors)
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        if isinstance(error, TicketFileError):
            raise
        raise TicketFileError(f"{path} is no valid ticket file: {error!r}") from error
    return ticket


def _migrated(description: dict[str, Any]) -> dict[str, Any]:
    """Return a description of any older schema as one of the present one."""
    if description["schema"] < 2:
        description = {**description, "unit": WEIGHT}
    if description["schema"] < 3:
        description = {**description, "origin": {}}
    return description


def _build(cls: type[_T], description: dict[str, Any], tensors: dict[str, Any]) -> _T:
    """Make the ticket from what was read."""
    layout = weights = MaskLayout(
        description["layers"],
        tensors.get("initial"),
        initial_digest=str(description["initial_digest"]),
    )
    if layout.initial_digest != description["initial_digest"]:
        raise TicketFileError("the initial weights do not match their digest")
    if description["unit"] != WEIGHT:
        layout = UnitLayout(weights, description["unit"], description["tiles"])
    known = known_layout(layout.key)
    if known is not None and layout.initial is None:
        layout = known
    packed = tensors["mask"]
    _checks.shape("mask", packed.shape, (layout.n_bytes,), "(ceil(D / 8),)")
    mask = bits.unpack(packed, layout.size)
    if not np.array_equal(bits.pack(mask), packed):
        raise TicketFileError("the padding bits of the mask are not zero")
    if description["size"] != layout.size or description["digest"] != bits.digest(
        packed, layout.size
    ):
        raise TicketFileError("size and digest do not match the mask")
    stored, origin = description.get("fitness"), description["origin"]
    if not isinstance(origin, dict):
        raise TicketFileError("its origin is not a mapping")
    ticket = cls(mask, layout=layout)
    ticket.origin = origin
    if stored and not getattr(ticket.fitness, "weights", None):
        kind = fitness_class(*(tuple(stored[part]) for part in ("names", "weights", "reference")))
        ticket.fitness = kind()
    if stored and stored["values"] is not None:
        signs, own = (np.sign(w).tolist() for w in (stored["weights"], ticket.fitness.weights))
        if signs != own:
            raise TicketFileError(
                f"the fitness of {cls.__name__} must have the objectives of the file: expected "
                f"weights of signs {signs}, got {own}. Load it with nets.Ticket.load."
            )
        ticket.fitness.values = tuple(v for v, _ in zip(stored["values"], own, strict=True))
    return ticket


def _in_order(content: bytes) -> bytes:
    """Return a safetensors file with its header sorted: the same ticket gives the same bytes."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8:end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[end:]


def _read(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """Read tensors and metadata of a safetensors file."""
    from safetensors import SafetensorError, safe_open

    if path.exists() and not path.is_file():  # of a pipe nothing may ever come
        raise FileAccessError(f"path must be readable: cannot open {path} (it is not a file).")
    try:
        with safe_open(str(path), framework="np") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except OSError as error:
        raise FileAccessError(f"path must be readable: cannot open {path} ({error}).") from error
    except (SafetensorError, TypeError, AttributeError) as error:  # not NumPy's dtype
        raise TicketFileError(
            f"{path} is not a safetensors file, or is damaged: {error}."
        ) from error


def _checksum(tensors: dict[str, NDArray[Any]], text: str) -> str:
    """Return the SHA-256 over the tensors, by name, and the description."""
    total = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        total.update(f"{name}:{digest_of(tensors[name])}".encode())
    return total.hexdigest()
