"""``Checkpoints``: the last few states of a run in its folder."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nets_deap._atomic import sweep
from nets_deap.errors import RunFileError
from nets_deap.runs.storage import npz
from nets_deap.runs.storage.paths import CHECKPOINTS, checkpoints_in
from nets_deap.runs.storage.plain import Packer, Unpacker

logger = logging.getLogger("nets_deap")

SCHEMA = 1
KEPT = 3
# What saving may cost of the time of a run.
SHARE = 0.02

Content = dict[str, Any]
# What makes content of a schema that of the next one.
MIGRATIONS: dict[int, Callable[[Content], Content]] = {}


class Checkpoints:
    """The checkpoints of one run: the newest three, each written whole or not at all.

    Args:
        path: The run folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path / CHECKPOINTS
        self._cost, self._last = 0.0, float("-inf")

    @property
    def files(self) -> list[Path]:
        """The checkpoints that are there, newest first."""
        return checkpoints_in(self.path)

    def is_due(self) -> bool:
        """Return whether saving costs little enough of the time since the last one."""
        return (time.monotonic() - self._last) * SHARE >= self._cost

    def save(self, generation: int, content: Content, packer: Packer, *, began: float) -> None:
        """Write a checkpoint, and remove all but the newest three.

        Args:
            generation: Which generation it is of.
            content: JSON.
            packer: The arrays.
            began: ``time.monotonic()`` when gathering it began, for its cost.

        Raises:
            OSError: It cannot be written; the earlier ones are still there.
        """
        self.path.mkdir(exist_ok=True)
        npz.write(self.path / f"{generation:08d}.npz", {"schema": SCHEMA, **content}, packer)
        for old in self.files[KEPT:]:
            old.unlink(missing_ok=True)
        self._last = time.monotonic()
        self._cost = self._last - began

    def newest(self) -> tuple[Content, Unpacker] | None:
        """Return the newest checkpoint that is whole; None where there is none at all.

        Raises:
            RunFileError: There are some, and all are damaged; or one is of a newer schema.
        """
        problems: list[str] = []
        for file in self.files:
            try:
                content, flat = npz.read(file)
                content = migrated(content, str(file))
                if content["generation"] != int(file.stem):
                    raise RunFileError(f"{file} holds generation {content['generation']}.")
            except NewerSchema:
                raise
            except (OSError, RunFileError, KeyError, ValueError) as error:
                problems.append(str(error))
                continue
            for problem in problems:
                logger.warning("%s The one before it is used.", problem)
            return content, Unpacker(flat)
        if problems:
            raise RunFileError(
                f"no checkpoint in {self.path} can be read: {' '.join(problems)} Nothing was "
                "changed. Start the run again in another folder."
            )
        return None

    def drop_after(self, generation: int) -> None:
        """Remove checkpoints later than a generation: the run goes on from there."""
        for file in self.files:
            if int(file.stem) > generation:
                file.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what writers that died have left."""
        sweep(self.path)


class NewerSchema(RunFileError):
    """A file is of a schema that this version does not know."""


def migrated(content: Mapping[str, Any], name: str) -> Content:
    """Return content as of the present schema.

    Raises:
        RunFileError: It has no schema, or a newer one.
    """
    found = dict(content)
    schema = found.get("schema")
    if type(schema) is not int or schema < 1:
        raise RunFileError(f"{name} has no schema.")
    if schema > SCHEMA:
        raise NewerSchema(
            f"{name} must be of schema {SCHEMA} or older: got {schema}. Update nets_deap to read "
            "it."
        )
    for step in range(schema, SCHEMA):
        found = {**MIGRATIONS[step](found), "schema": step + 1}
    return found
