"""``Graph``: one training step, captured once as a CUDA graph and replayed; a call elsewhere.

Reference: the notes on CUDA graphs in torch's "CUDA semantics",
https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nets_deap.training import interrupt
from nets_deap.training.device import seeded
from nets_deap.training.shortage import is_shortage

logger = logging.getLogger("nets_deap")

WARM_UP_STEPS = 3
# Their results have a size or a value that the host waits for.
_WAITING = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output}
_COPIES = ("aten::copy_", "aten::_to_copy")
# By a mask, whose entries are counted first, or by places, which nothing waits for.
_BY_INDEX = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_")


class Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the first operation of this thread for which the host waits for the device.

    Such a step cannot be captured, and an attempt would leave an invalid capture behind. torch's
    own ``set_sync_debug_mode`` belongs to the whole process: other threads would be told, too.

    Attributes:
        seen: The operation; empty for none.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if not self.seen and _waits(func, args, tree_leaves([args, kwargs, found])):
            self.seen = func.name()
        return found


def _waits(func: Any, args: tuple[Any, ...], leaves: list[Any]) -> bool:
    """Return whether the host waits for the device in an operation."""
    name = func.name().split(".")[0]
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    # A number may stand on the host beside tensors of the device; to copy it takes waiting.
    if len({one.device.type for one in tensors if one.ndim or name in _COPIES}) > 1:
        return True
    if name in _BY_INDEX:
        return any(one is not None and one.dtype in (torch.bool, torch.uint8) for one in args[1])
    return bool(_WAITING & {*func.tags})


class Graph:
    """A step without arguments or results, which reads and writes memory that stays where it is.

    On the CPU it is called. On CUDA it is captured at the first ``prepare`` and replayed: the host
    then launches one graph a step instead of every kernel, which is what small kernels wait for. A
    graph repeats kernels with the addresses that they were recorded with, and no Python: hence
    memory that stays where it is, and a counter on the device. A step that cannot be captured is
    called there, too, after one warning: slower, never wrong.

    The step is passed to each call and not kept: its owner would hold itself through it, and its
    memory would outlive it until Python looks for cycles.

    What a step needs of the host, such as a minibatch that is read or changed there, is fed to it
    before: into memory that stays where it is, too.

    Args:
        device: Where the step runs.
        captures: Whether the step does all of its work on the device; else it is called.

    Attributes:
        untried: Whether the step is still to be captured.
    """

    def __init__(self, device: torch.device, *, captures: bool = True) -> None:
        self._device = device
        self._graph: torch.cuda.CUDAGraph | None = None
        self.untried = device.type == "cuda" and captures

    @property
    def captured(self) -> bool:
        """Whether a graph is replayed."""
        return self._graph is not None

    def prepare(self, step: Callable[[], None]) -> bool:
        """Capture the step if that has not been tried; return whether steps were taken for that."""
        if not self.untried:
            return False
        # A capture that fails may leave its stream the current one: the outer context puts it back.
        with (
            torch.cuda.device(self._device),
            seeded(0, self._device),
            torch.cuda.stream(torch.cuda.current_stream()),
        ):
            self.untried = False
            # One stream for both: handles and workspaces of libraries belong to a stream.
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                # Libraries choose kernels and take workspaces in first calls, which is not
                # permitted while a stream is captured.
                for _ in range(WARM_UP_STEPS - 1):
                    step()
                with Waits() as waits:
                    step()
            torch.cuda.current_stream().wait_stream(stream)
            if waits.seen:
                _warn(f"the host waits for the device in {waits.seen}")
            else:
                self._capture(step, stream)
        return True

    def _capture(self, step: Callable[[], None], stream: torch.cuda.Stream) -> None:
        """Record the step on a stream; warn if that cannot be."""
        graph = torch.cuda.CUDAGraph()
        # A workspace that cuBLAS holds for this stream would be written into the graph, and freed
        # with the next graph of a stream that is the same: there are 32. A workspace that is taken
        # while the graph is captured is the graph's own; nothing else may use it after.
        _drop_workspaces()
        try:
            # The default generator is registered with every graph: each replay draws anew, from
            # the seed that is set by then.
            # Other threads may take memory of other devices meanwhile.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                step()
        except Exception as error:  # an error of the step itself comes up when it is called
            if is_shortage(error):
                raise
            _warn(f"torch says: {error.__cause__ or error}")
            torch.cuda.synchronize()
            return
        finally:
            _drop_workspaces()
        self._graph = graph

    def give_up(self, why: str) -> None:
        """Call the step from now on, after a warning."""
        self._graph = None
        _warn(why)

    def __call__(
        self,
        step: Callable[[], None],
        steps: Iterable[int],
        feed: Callable[[int], None] | None = None,
    ) -> None:
        """Take some steps; on CUDA this returns before they are done.

        Args:
            step: What is taken each time.
            steps: Which steps of the plan these are.
            feed: Called with the number of each step before it.
        """
        interrupt.check()
        for number in steps:
            if feed is not None:
                feed(number)
            if self._graph is None:
                step()
            else:
                self._graph.replay()
            if feed is not None or self._graph is None:
                interrupt.check()  # work on the host may take long; a replay is only begun


def _drop_workspaces() -> None:
    """Let cuBLAS take new workspaces when it needs some: torch keeps one for each stream."""
    torch._C._cuda_clearCublasWorkspaces()


def _warn(why: str) -> None:
    """Warn that a step is called instead of replayed."""
    logger.warning(
        "A training step cannot be replayed as a CUDA graph and runs without, slower: %s", why
    )
