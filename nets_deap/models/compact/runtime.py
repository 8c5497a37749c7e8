"""Networks as functions of arrays that can be timed: in torch or onnxruntime, also as int8."""

from __future__ import annotations

import contextlib
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nets_deap import _checks, _optional
from nets_deap.models.compact.onnx import write_onnx

Runner = Callable[[NDArray[Any]], NDArray[Any]]

RUNTIMES = ("torch", "onnxruntime")
CALIBRATION = 200  # examples that ranges of activations are taken from


def runner_of(module: nn.Module, example: Tensor, runtime: str, threads: int) -> Runner:
    """Return a network as a function of inputs (N, ...) that runs in a runtime.

    Args:
        module: In evaluation mode, on the CPU, of one input and one output.
        example: Inputs (N, ...).
        runtime: ``"torch"`` or ``"onnxruntime"``.
        threads: Of onnxruntime; of torch those that are set when it is called.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        InvalidValueError: The network cannot be exported.
    """
    if _checks.choice("runtime", runtime, RUNTIMES) == "torch":

        def run(inputs: NDArray[Any]) -> NDArray[Any]:
            with torch.no_grad():
                found: NDArray[Any] = module(torch.from_numpy(inputs)).numpy()
            return found

        return run
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        write_onnx(module, path, example)
        return session_of(path, threads)


def session_of(path: Path, threads: int) -> Runner:
    """Return an ONNX file as a function of its one input, in onnxruntime with so many threads."""
    ort = _optional.require("onnxruntime", "onnx", "Running ONNX files")
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    session = ort.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(inputs: NDArray[Any]) -> NDArray[Any]:
        found: NDArray[Any] = session.run(None, {name: inputs})[0]
        return found

    return run


def quantise(source: Path, target: Path, examples: NDArray[Any]) -> str:
    """Write an ONNX file with int8 weights and activations; return why it cannot be, or nothing.

    Ranges of activations are those of the examples (N, ...); weights have a scale a channel.

    Reference:
        Jacob et al. 2018, https://arxiv.org/abs/1712.05877.
    """
    try:
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        return f"onnxruntime's quantization is not there ({error})"

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Hands the examples over, a few at a time."""

        def __init__(self, name: str) -> None:
            parts = np.array_split(examples[:CALIBRATION], 8)
            self._parts = iter([{name: part} for part in parts if len(part)])

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(self._parts, None)

    ort = _optional.require("onnxruntime", "onnx", "int8")
    name = ort.InferenceSession(source.read_bytes()).get_inputs()[0].name
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # it advises on the root logger
    try:
        ready = target.with_suffix(".ready.onnx")
        quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
        quantization.quantize_static(
            str(ready), str(target), Reader(name), per_channel=True, reduce_range=False
        )
        ready.unlink()
    except Exception as error:  # it has errors of many kinds of its own
        return f"onnxruntime cannot quantise it ({type(error).__name__}: {error})"
    finally:
        logger.setLevel(level)
    return ""


def latencies(
    runners: Mapping[str, Runner], inputs: NDArray[Any], *, repeats: int, threads: int
) -> dict[str, float]:
    """Return the median seconds of each function for these inputs; all run once in each repeat.

    Taking turns, a slow moment of the machine meets each of them.

    Args:
        runners: The functions, by name.
        inputs: A minibatch (B, ...).
        repeats: Timed calls of each, >= 1; a tenth as many go before untimed.
        threads: That torch may use meanwhile.
    """
    taken: dict[str, list[float]] = {name: [] for name in runners}
    with _torch_threads(threads):
        for repeat in range(-max(3, repeats // 10), repeats):
            for name, run in runners.items():
                begin = time.perf_counter()
                run(inputs)
                if repeat >= 0:
                    taken[name].append(time.perf_counter() - begin)
    return {name: statistics.median(times) for name, times in taken.items()}


@contextlib.contextmanager
def _torch_threads(n: int) -> Iterator[None]:
    """Let torch use so many threads meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def activation_bytes(module: nn.Module, example: Tensor) -> int:
    """Return the most bytes that a layer's inputs and outputs take together, for one example.

    What an engine needs at least that runs one layer after the other and keeps nothing else; what
    skips layers, as in residual networks, comes on top.

    Args:
        module: In evaluation mode.
        example: One input (1, ...).
    """
    most = 0

    def look(layer: nn.Module, given: Any, output: Any) -> None:
        nonlocal most
        tensors = [t for t in (*given, output) if isinstance(t, Tensor)]
        most = max(most, sum(t.numel() * t.element_size() for t in tensors))

    leaves = [m for m in module.modules() if not any(True for _ in m.children())]
    hooks = [leaf.register_forward_hook(look) for leaf in leaves]
    try:
        with torch.no_grad():
            module(example)
    finally:
        for hook in hooks:
            hook.remove()
    return most
