"""Ticket files: safetensors with packed bits, a JSON description and a SHA-256."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nets_deap import _atomic, _checks
from nets_deap.errors import FileAccessError, TicketFileError
from nets_deap.models.tensors import digest_of
from nets_deap.names import WEIGHT
from nets_deap.tickets import bits
from nets_deap.tickets.fitness import fitness_class
from nets_deap.tickets.layout import MaskLayout, known_layout
from nets_deap.tickets.units import UnitLayout

SCHEMA = 3  # 1: a bit is a weight; 2: structured tickets; 3: unit and origin of every ticket


@dataclass(frozen=True, eq=False)
class Record:
    """What the file of a ticket holds, as plain data: a ticket makes it, and itself of one.

    Attributes:
        packed: The packed bits, shape (ceil(G / 8),).
        layout: What they belong to, with W0 where that is known.
        fitness: A DEAP fitness, with or without values; None for none. One that was read is
            a ``TicketFitness``.
        metrics: Of the last training, by name, and its ``steps``; empty for none.
        origin: Where the ticket was found, and its parents.
        names: Of its objectives, where its fitness has none; empty for made-up ones.
    """

    packed: bits.Bytes
    layout: MaskLayout
    fitness: Any = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    names: Sequence[str] = ()

    @classmethod
    def of(cls, ticket: Any, names: Sequence[str] = ()) -> Record:
        """Return what the file of a ticket is to hold.

        Args:
            ticket: The ticket.
            names: Of its objectives, for a fitness that does not know them.
        """
        state = ticket.trained
        # A ticket from a file was not bred here: it has the parents that its origin tells of.
        parents = list(ticket.parent_digests) or ticket.origin.get("parents", [])
        metrics = {} if state is None else {n: float(v) for n, v in state.metrics.items()}
        return cls(
            packed=ticket.packed,
            layout=ticket.layout,
            fitness=ticket.fitness,
            metrics={} if state is None else {"steps": state.steps, **metrics},
            origin={**ticket.origin, "parents": parents},
            names=tuple(names),
        )


def write(path: str | Path, record: Record, *, include_initial: bool = False) -> Path:
    """Write the file of a ticket, whole or not at all; return its path.

    Raises:
        CallOrderError: ``include_initial``, and W0 is not known.
        FileAccessError: It cannot be written.
    """
    from safetensors.numpy import save as to_bytes

    layout, packed = record.layout, record.packed
    kept = bits.count(layout.expand(packed) if isinstance(layout, UnitLayout) else packed)
    if isinstance(layout, UnitLayout) and layout.grouped:
        # Which bits count depends on W0, which a reader may not know: only those are written.
        packed = layout.expand(packed)
    tensors: dict[str, NDArray[Any]] = {"mask": np.array(packed)}
    if include_initial:
        tensors["initial"] = np.array(layout.require_initial())
    description: dict[str, Any] = {
        "schema": SCHEMA,
        "size": layout.size,
        "layers": [[layer.name, list(layer.shape)] for layer in layout.weights.layers],
        "initial_digest": layout.initial_digest,
        "digest": bits.digest(packed, layout.size),
        "density": kept / layout.weights.size,
        "unit": layout.unit,
        "origin": dict(record.origin),
    }
    if isinstance(layout, UnitLayout):
        description.update(layout.describe())
    fitness = record.fitness
    if fitness is not None:
        weights = list(fitness.weights)
        names = getattr(fitness, "names", ()) or record.names
        names = names or [f"objective_{i}" for i in range(len(weights))]
        description["fitness"] = {
            "names": list(names),
            "weights": weights,
            "reference": list(getattr(fitness, "reference", ())),
            "values": [float(value) for value in fitness.values] if fitness.valid else None,
        }
    if record.metrics:
        description["metrics"] = dict(record.metrics)
    text = json.dumps(description, sort_keys=True)
    metadata = {"nets_deap": text, "sha256": _checksum(tensors, text)}
    return _atomic.save(path, _in_order(to_bytes(tensors, metadata)))


def read(path: str | Path) -> Record:
    """Read the file of a ticket; its layout is the program's own if it is known.

    Raises:
        FileAccessError: It cannot be read.
        TicketFileError: It is damaged, of a newer schema or no ticket.
    """
    tensors, metadata = _read(_checks.path("path", path))
    text = metadata.get("nets_deap", "")
    # Nothing that the description says is believed before its checksum is right.
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
        return _record(_migrated(description), tensors)
    except TicketFileError:
        raise
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise TicketFileError(f"{path} is not a valid ticket file: {error!r}") from error


def _migrated(description: dict[str, Any]) -> dict[str, Any]:
    """Return a description of any older schema as one of the present one."""
    if description["schema"] < 2:
        description = {**description, "unit": WEIGHT}
    if description["schema"] < 3:
        description = {**description, "origin": {}}
    return description


def _record(description: dict[str, Any], tensors: dict[str, Any]) -> Record:
    """Return what was read, after everything in it has been compared with all else."""
    layout = weights = MaskLayout(
        description["layers"],
        tensors.get("initial"),
        initial_digest=str(description["initial_digest"]),
    )
    if layout.initial_digest != description["initial_digest"]:
        raise TicketFileError("the initial weights do not match their digest")
    if description["unit"] != WEIGHT:
        layout = UnitLayout(
            weights, description["unit"], description["tiles"], description.get("ties")
        )
    known = known_layout(layout.key)
    if known is not None and layout.initial is None:
        layout = known
    packed = tensors["mask"]
    _checks.shape("mask", packed.shape, (layout.n_bytes,), "(ceil(D / 8),)")
    if not np.array_equal(bits.pack(bits.unpack(packed, layout.size)), packed):
        raise TicketFileError("the padding bits of the mask are not zero")
    if description["size"] != layout.size or description["digest"] != bits.digest(
        packed, layout.size
    ):
        raise TicketFileError("size and digest do not match the mask")
    if not isinstance(description["origin"], dict):
        raise TicketFileError("its origin is not a mapping")
    metrics = description.get("metrics", {})
    if not all(isinstance(value, Real) for value in metrics.values()):
        raise TicketFileError("its metrics are not all numbers")
    fitness, stored = None, description.get("fitness")
    if stored:
        kind = fitness_class(*(tuple(stored[part]) for part in ("names", "weights", "reference")))
        fitness = kind()
        if stored["values"] is not None:
            pairs = zip(stored["values"], fitness.weights, strict=True)
            fitness.values = tuple(value for value, _ in pairs)
    return Record(
        packed=packed,
        layout=layout,
        fitness=fitness,
        metrics=metrics,
        origin=description["origin"],
    )


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
