"""``Saver``: what a recorder saves so that its run can go on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nets_deap.runs.checkpoints import Checkpoints
from nets_deap.runs.folder import RunFolder
from nets_deap.runs.snapshot import gather
from nets_deap.runs.unfinished import Unfinished
from nets_deap.task import Task
from nets_deap.training.keeper import set_keeper

if TYPE_CHECKING:
    from nets_deap.runs.recorder import Recorder


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
        self._unfinished = Unfinished(folder, generation)
        set_keeper(task.problem, self._unfinished)

    def save(self, recorder: Recorder, population: Sequence[Any], *, now: bool) -> None:
        """Save the state after a generation.

        Where generations take fractions of a second not each one is saved: saving costs at most 2 %
        of the run. The first and the last always are.

        Args:
            recorder: The recorder, which has taken note of the generation.
            population: The population after selection.
            now: Save it whatever it costs.

        Raises:
            FileAccessError: The folder cannot be written; earlier checkpoints are still there.
        """
        began = time.monotonic()
        if now or self._checkpoints.is_due():
            with self._folder.writing():
                content, packer = gather(recorder, population, self._folder.path)
                self._checkpoints.save(recorder.generation, content, packer, began=began)
        self._unfinished.forget(recorder.generation)
