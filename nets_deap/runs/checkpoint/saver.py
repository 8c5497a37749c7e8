"""``Saver``: what a recorder saves so that its run can go on."""

from __future__ import annotations

import logging
import time

from nets_deap.errors import NetsError
from nets_deap.runs.checkpoint.checkpoints import Checkpoints
from nets_deap.runs.checkpoint.partial import Partial
from nets_deap.runs.checkpoint.snapshot import Moment, Noted
from nets_deap.runs.storage.folder import RunFolder
from nets_deap.training.executor import journal_of, set_journal
from nets_deap.training.task import Task

logger = logging.getLogger("nets_deap")


class Saver:
    """Saves the state of a run into its folder.

    Args:
        folder: The run folder.
        task: The task, whose outcomes within a generation are kept, too.
        generation: The generation that comes next.
    """

    def __init__(self, folder: RunFolder, task: Task, generation: int) -> None:
        self._folder = folder
        self._checkpoints = Checkpoints(folder.path)
        self._partial = Partial(folder, generation)
        self._noted: Noted | None = None
        self._saved = generation - 1
        self._problem = task.problem
        set_journal(self._problem, self._partial)

    def save(self, moment: Moment, *, now: bool) -> None:
        """Save the state after a generation.

        Where generations take fractions of a second not each one is saved: saving costs at most 2 %
        of the run. The first and the last always are, and on closing the one before.

        Args:
            moment: The run after that generation.
            now: Save it whatever it costs.

        Raises:
            FileAccessError: The folder cannot be written; earlier checkpoints are still there.
        """
        with self._folder.writing():
            self._noted = moment.noted(self._folder.path)
        if now or self._checkpoints.is_due():
            self._write(self._noted)
        self._partial.forget(moment.generation)

    def close(self) -> None:
        """Let go of the task, unless it is another run's by now, and save the last generation.

        That is done if it has not been done yet; a failure is told, and no more.

        Tickets that are evaluated again may have changed since: then the checkpoint before stays.
        """
        if journal_of(self._problem) is self._partial:
            set_journal(self._problem, None)
        noted, self._noted = self._noted, None
        if noted is None or noted.again or noted.generation == self._saved:
            return
        try:
            self._folder.check()
            self._write(noted)
        except NetsError as error:
            logger.warning("The last generation could not be saved: %s", error)

    def _write(self, noted: Noted) -> None:
        """Write a checkpoint."""
        began = time.monotonic()
        with self._folder.writing():
            content, packer = noted.pack()
            self._checkpoints.save(noted.generation, content, packer, began=began)
        self._saved = noted.generation
