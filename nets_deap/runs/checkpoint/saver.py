"""``Saver``: what a recorder saves so that its run can go on."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any

from nets_deap.errors import NetsError
from nets_deap.runs.checkpoint.checkpoints import Checkpoints
from nets_deap.runs.checkpoint.partial import Partial
from nets_deap.runs.checkpoint.snapshot import Moment, Noted
from nets_deap.runs.storage.folder import RunFolder
from nets_deap.runs.storage.paths import again
from nets_deap.runs.storage.reader import UNSETTLED, RunReader
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

    def __init__(
        self, folder: RunFolder, task: Task, generation: int, *, searched: bool = False
    ) -> None:
        self._folder = folder
        self._checkpoints = Checkpoints(folder.path)
        self._partial = Partial(folder, generation, self._end, searched=searched)
        self._again = again(folder.path, searched=searched)
        self._noted: Noted | None = None
        self._state: dict[str, Any] | None = None  # of the recorder, as last noted
        self._saved = generation - 1
        self._owner = os.getpid()
        self._told = False  # how to go on, because a signal ends the program
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
            self._noted, self._told = moment.noted(self._folder.path), False
        self._state = moment.recorder
        if now or self._checkpoints.is_due():
            self._write(self._noted)
        self._partial.forget(moment.generation)

    def close(self, *, ended: bool = False) -> None:
        """Let go of the task, unless it is another run's by now, and save the last generation.

        That is done if it has not been done yet; a failure is told, and no more.

        Args:
            ended: Whether the run has come to its end, which is saved with it.
        """
        if journal_of(self._problem) is self._partial:
            set_journal(self._problem, None)
        if ended and self._noted is not None:
            self._noted.plain["recorder"]["ended"] = True
        self._save_last(again=ended)
        self._noted = None

    def _end(self) -> None:
        """Save the last generation, as a signal ends the program, which is told elsewhere."""
        self._told = True
        self._save_last()

    def _save_last(self, *, again: bool = False) -> None:
        """Save the last generation, unless it is saved; a failure is told, and no more.

        Not where its tickets have been changed since, by a loop that makes no copies: then the
        checkpoint before stays.

        Args:
            again: Save it also where it is saved.
        """
        noted = self._noted
        if noted is None or (noted.generation == self._saved and not again):
            return
        if not noted.is_current:
            return
        try:
            self._folder.check()
            self._write(noted)
        except NetsError as error:
            logger.warning("The last generation could not be saved: %s", error)

    def let_go(self) -> None:
        """Close, as the recorder is gone or the program ends, and tell what is not done yet.

        Nothing is trained here, so that the front stays unmeasured where it takes a training.
        """
        if os.getpid() != self._owner:  # a child process: the run is its parent's
            return
        if self._noted is not None and self._folder.is_held:  # not another run's, or removed
            self.close()
            failed = (
                getattr(sys, "last_value", None) is not None
            )  # what ends the program, if it ends
            self.tell(failed=failed)
        self._folder.close()

    def tell(self, *, failed: bool = True) -> None:
        """Tell of a run that has been closed how to go on, unless it has come to its end.

        Args:
            failed: Whether something has ended the program before its own end.
        """
        state, settled = self._state, RunReader(self._folder.path).is_settled()
        if state is None or state["ended"] or self._told or self._saved < 0:
            return
        planned, stopped = state["generations"], state["stopped"] is not None
        left = not stopped and (planned is None or self._saved < planned)
        if settled and not (left and (failed or planned is not None)):
            return
        self._told = True
        of = "" if planned is None else f" of {planned}"
        front = "" if settled else f" It has no front yet: {UNSETTLED}."
        end = ", or end a run by recorder.close()" if not settled and planned is None else ""
        logger.warning(
            "%s is saved until generation %d%s.%s Go on with %s%s.",
            self._folder.path, self._saved, of, front, self._again, end,
        )  # fmt: skip

    def _write(self, noted: Noted) -> None:
        """Write a checkpoint."""
        began = time.monotonic()
        with self._folder.writing():
            content, packer = noted.pack()
            self._checkpoints.save(noted.generation, content, packer, began=began)
        self._saved = noted.generation
