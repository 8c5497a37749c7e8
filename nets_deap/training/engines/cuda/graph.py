"""``Graph``: one training step, captured once as a CUDA graph and replayed; a call elsewhere.

Reference: the notes on CUDA graphs in torch's "CUDA semantics",
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from nets_deap.training import interrupt
from nets_deap.training.device import seeded

logger = logging.getLogger("nets_deap")

WARM_UP_STEPS = 3


class Graph:
    """A step without arguments or results, which reads and writes memory that stays where it is.

    On the CPU it is called. On CUDA it is captured at the first ``prepare`` and replayed: the host
    then launches one graph a step instead of every kernel, which is what small kernels wait for. A
    graph repeats kernels with the addresses that they were recorded with, and no Python: hence
    memory that stays where it is, and a counter on the device. A step that cannot be captured is
    called there, too, after one warning: slower, never wrong.

    The step is passed to each call and not kept: its owner would hold itself through it, and its
    memory would outlive it until Python looks for cycles.

    Args:
        device: Where the step runs.
        capture: Whether it may be captured; else it does work on the host, and is called.
    """

    def __init__(self, device: torch.device, *, capture: bool = True) -> None:
        self._device = device
        self._graph: torch.cuda.CUDAGraph | None = None
        self._tried = device.type != "cuda" or not capture

    @property
    def captured(self) -> bool:
        """Whether a graph is replayed."""
        return self._graph is not None

    def prepare(self, step: Callable[[], None]) -> bool:
        """Capture the step if that has not been tried; return whether steps were taken for that."""
        if self._tried:
            return False
        with torch.cuda.device(self._device), seeded(0, self._device):
            # One stream for both: handles and workspaces of libraries belong to a stream.
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                # Libraries choose kernels and take workspaces in first calls, which is not
                # permitted while a stream is captured.
                for _ in range(WARM_UP_STEPS):
                    step()
            torch.cuda.current_stream().wait_stream(stream)
            self._tried = True
            graph = torch.cuda.CUDAGraph()
            try:
                # The default generator is registered with every graph: each replay draws anew,
                # from the seed that is set by then.
                # Other threads may take memory of other devices meanwhile.
                mode = "thread_local"
                with torch.cuda.graph(graph, stream=stream, capture_error_mode=mode):
                    step()
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # an error of the step itself comes up when it is called
                logger.warning(
                    "A training step could not be captured as a CUDA graph and runs without, "
                    "slower. torch says: %s",
                    error,
                )
                torch.cuda.synchronize()
                return True
        self._graph = graph
        return True

    def __call__(self, step: Callable[[], None], times: int) -> None:
        """Take the step some times; on CUDA this returns before it is done."""
        interrupt.check()
        if self._graph is not None:
            for _ in range(times):
                self._graph.replay()
            return
        for _ in range(times):
            step()
            interrupt.check()  # a step on the host may take long; a replay is only begun
