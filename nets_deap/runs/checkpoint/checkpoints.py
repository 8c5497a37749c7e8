"""``Checkpoints``: the last few states of a run in its folder."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from nets_deap._atomic import sweep
from nets_deap.errors import RunFileError
from nets_deap.runs.storage import npz
from nets_deap.runs.storage.paths import CHECKPOINTS, checkpoints_in
from nets_deap.runs.storage.plain import Packer, Unpacker
from nets_deap.runs.storage.schema import SCHEMA, Content, NewerSchema, migrated

logger = logging.getLogger("nets_deap")

KEPT = 3
# What saving may cost of the time of a run.
SHARE = 0.02


@dataclass(frozen=True)
class Found:
    """A checkpoint that is whole.

    Attributes:
        file: Where it is.
        content: Its JSON, of the present schema.
        unpacker: Gives its arrays.
    """

    file: Path
    content: Content
    unpacker: Unpacker


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

    def find(self) -> tuple[Found | None, list[Exception]]:
        """Return the newest checkpoint that is whole, if any, and what is wrong with newer ones."""
        problems: list[Exception] = []
        for file in self.files:
            try:
                content, flat = npz.read(file)
                content = migrated(content, str(file))
                if content["generation"] != int(file.stem):
                    raise RunFileError(f"{file} holds generation {content['generation']}.")
                return Found(file, content, Unpacker(flat)), problems
            except (OSError, RunFileError, KeyError) as error:
                problems.append(error)
        return None, problems

    def newest(self) -> Found | None:
        """Return the newest checkpoint that is whole; None where there is none at all.

        Raises:
            RunFileError: There are some, and all are damaged; or one is of a newer schema.
        """
        found, problems = self.find()
        for problem in problems:
            if isinstance(problem, NewerSchema):  # to go on from before it would lose its work
                raise problem
        words = " ".join(map(str, problems))
        if found is None and problems:
            raise RunFileError(
                f"no checkpoint in {self.path} can be read: {words} Nothing was changed. Start the "
                "run again in another folder."
            )
        for problem in problems:
            logger.warning("%s The one before it is used.", problem)
        return found

    def drop_after(self, generation: int) -> None:
        """Remove checkpoints later than a generation: the run goes on from there."""
        for file in self.files:
            if int(file.stem) > generation:
                file.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what writers that died have left."""
        sweep(self.path)
