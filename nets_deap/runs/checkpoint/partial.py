"""``Partial``: outcomes of a generation that is still being trained, saved between chunks."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from nets_deap.errors import NetsError, RunFileError
from nets_deap.runs.signals import listening
from nets_deap.runs.storage import npz
from nets_deap.runs.storage.folder import RunFolder
from nets_deap.runs.storage.paths import CHECKPOINTS, PARTIAL, again
from nets_deap.runs.storage.plain import BROKEN, Packer, Unpacker
from nets_deap.runs.storage.schema import SCHEMA, migrated
from nets_deap.tickets import bits
from nets_deap.tickets.trained import TrainedState
from nets_deap.training import interrupt
from nets_deap.training.problem import METRICS, Outcome, Plan, Start

logger = logging.getLogger("nets_deap")

MINUTES = 5.0

Part = tuple[list[str], Outcome]


class Partial:
    """Keeps outcomes between chunks, every few minutes and when a generation is cut short.

    The generation is then made again from the same random states, and what was trained already is
    not trained again: a network is known by its mask, start, steps and seed.

    Args:
        folder: The run folder.
        generation: The generation that comes next.
        on_end: Called where a signal ends the program while it trains.
        searched: Whether the run is one of ``nets.search``.
    """

    def __init__(
        self,
        folder: RunFolder,
        generation: int,
        on_end: Callable[[], object] = lambda: None,
        *,
        searched: bool = False,
    ) -> None:
        self._folder, self._generation, self._on_end = folder, generation, on_end
        self._searched = searched
        self._file = folder.path / CHECKPOINTS / PARTIAL
        self._held: list[Part] | None = None
        self._fresh: list[Part] = []
        self._keys: list[str] = []
        self._last = time.monotonic()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Interrupt at a signal that nobody else listens to, with what has been trained saved."""
        go_on = again(self._folder.path, searched=self._searched)
        if not self._generation:
            go_on = "overwrite=True, as no generation is finished yet"
        saved = False
        try:
            with listening(only_free=True, ctrl_c=True, advice=go_on):
                try:
                    yield
                except interrupt.Interrupted:
                    saved = True
                    self.cut_short()  # before anybody says that it is done
                    raise
        except interrupt.Interrupted:
            if not saved:  # it came too late for what is inside
                self.cut_short()
            raise

    def begin(self, masks: list[bits.Bytes], plan: Plan, starts: list[Start]) -> dict[int, Outcome]:
        """Return the outcomes that are kept from an earlier call, by place."""
        if self._held is None:
            self._held = self._read()
        what = plan.steps, plan.seed, plan.curve_points, plan.test, plan.keep_states
        head = repr(what if plan.fold is None else (*what, tuple(plan.fold)))
        self._keys = []
        self._what = (masks, head, starts)
        if not self._held:
            return {}
        places = {key: place for place, key in enumerate(self._all_keys())}
        parts = [
            (keys, part)
            for keys, part in self._held
            if all(
                key in places and len(state.values) == bits.count(masks[places[key]])
                for key, state in zip(keys, part.trained, strict=True)
            )
        ]
        # Fewer networks than threads would share the threads in another way, and round otherwise.
        while parts and 0 < len(masks) - sum(len(k) for k, _ in parts) < torch.get_num_threads():
            parts.pop()
        return {
            places[key]: outcome
            for keys, part in parts
            for key, outcome in zip(keys, part.split(), strict=True)
        }

    def part(self, places: Sequence[int], outcome: Outcome) -> None:
        """Take what has just been trained; save it if that is due."""
        self._folder.check()
        self._fresh.append(([self._all_keys()[place] for place in places], outcome))
        if time.monotonic() - self._last >= 60 * MINUTES:
            self._save()

    def cut_short(self) -> None:
        """Save what has been trained, and what else a program saves that ends here."""
        if self._fresh:
            self._save()
        self._on_end()

    def forget(self, generation: int) -> None:
        """Forget what belongs to a generation that is finished."""
        held = self._held
        if self._generation <= generation or (held is None and not self._file.exists()):
            self._generation, self._fresh, self._held = generation + 1, [], []
            self._file.unlink(missing_ok=True)
        self._last = time.monotonic()

    def _all_keys(self) -> list[str]:
        """Return what the networks of this call are known by, worked out when first asked for."""
        if not self._keys:
            masks, head, starts = self._what
            self._keys = [
                _key(head, packed, start) for packed, start in zip(masks, starts, strict=True)
            ]
        return self._keys

    def _save(self) -> None:
        """Write everything; a failure costs time later, and nothing else."""
        packer = Packer()
        parts = [*(self._held or []), *self._fresh]
        try:
            content = {
                "schema": SCHEMA,
                "kind": "unfinished",
                "generation": self._generation,
                "parts": [packer.pack({"keys": k, **_plain(part)}) for k, part in parts],
            }
            self._file.parent.mkdir(exist_ok=True)
            npz.write(self._file, content, packer)
        except OSError as error:
            logger.warning("The generation under way could not be saved: %s.", error)
        self._last = time.monotonic()

    def _read(self) -> list[Part]:
        """Return what the file holds; nothing if it is damaged."""
        if not self._file.exists():
            return []
        try:
            content, flat = npz.read(self._file)
            content, unpacker = migrated(content, str(self._file)), Unpacker(flat)
            self._generation = int(content["generation"])
            plain = [unpacker.unpack(part) for part in content["parts"]]
            return [(list(map(str, part["keys"])), _outcome(part)) for part in plain]
        except (NetsError, *BROKEN) as error:
            logger.warning("%s The generation is trained from its beginning.", error)
            return []


def _key(head: str, packed: bits.Bytes, start: Start) -> str:
    """Return what a network's training is known by."""
    total = hashlib.sha256(head.encode())
    total.update(np.ascontiguousarray(packed).data)
    if start is not None:
        for name, values in (("", start.values), *sorted(start.unmasked.items())):
            total.update(f"{name} {values.dtype} {values.shape}".encode())
            total.update(np.ascontiguousarray(values).reshape(-1).data)
    return total.hexdigest()


def _plain(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as plain data."""
    return {
        "metrics": outcome.metrics,
        "curve_steps": outcome.curve_steps,
        "curve": outcome.curve,
        "values": [state.values for state in outcome.trained],
        "others": [dict(state.unmasked) for state in outcome.trained],
        "states": [{n: t.numpy() for n, t in state.items()} for state in outcome.states],
    }


def _outcome(plain: dict[str, Any]) -> Outcome:
    """Return an outcome of plain data."""
    networks = len(plain["keys"])
    found = Outcome(
        metrics={name: plain["metrics"][name] for name in METRICS},
        curve_steps=plain["curve_steps"],
        curve=plain["curve"],
        trained=list(map(TrainedState, plain["values"], plain["others"])),
        states=[
            {n: torch.from_numpy(np.array(a)) for n, a in state.items()}
            for state in plain["states"]
        ],
    )
    curves = (networks, len(found.curve_steps))
    shapes = {found.curve.shape == curves, len(plain["values"]) == len(plain["others"]) == networks}
    shapes |= {vector.shape == (networks,) for vector in found.metrics.values()}
    shapes |= {s.values.ndim == 1 and s.values.dtype.kind == "f" for s in found.trained}
    if shapes != {True} or len(found.states) not in (0, networks):
        raise RunFileError("an outcome has other numbers than networks.")
    return found
