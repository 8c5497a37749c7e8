"""ONNX files: a network written for other runtimes, and checked in one of them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nets_deap import _atomic, _checks, _optional
from nets_deap.inputs.call import call
from nets_deap.inputs.nested import each, leaves_of, length_of, named, shapes_of
from nets_deap.models.modes import neutral

TOLERANCE = 1e-4  # of outputs, relative to the largest: kernels add up in other orders


@neutral()
def runtime_of(purpose: str) -> Any:
    """Return the runtime; raise where it, or what writes its files, is not installed."""
    for module in ("onnx", "onnxscript"):
        _optional.require(module, "onnx", purpose)
    return _optional.require("onnxruntime", "onnx", purpose)


def write_onnx(module: nn.Module, path: str | Path, example: Any) -> float:
    """Write a network as ONNX and run it in onnxruntime beside torch.

    Args:
        module: In evaluation mode, with one output, on the CPU.
        path: Where to; written only if both agree.
        example: Inputs (N, ...), N >= 1, or tuples and dictionaries of them, to trace and compare
            on; the file takes any N. There one tensor is called ``input``, those of a dictionary as
            in it, and those of a tuple ``input_0``, ``input_1``, ...

    Returns:
        The greatest difference between the two's outputs.

    Raises:
        InvalidValueError: The module is in training mode, cannot be exported or does not take the
            example, or the runtime's outputs differ.
        MissingExtraError: The extra ``onnx`` is not installed.
        FileAccessError: The file cannot be written.
    """
    runtime = runtime_of("ONNX export")
    if module.training:
        raise _checks.bad_value(
            "module", "be in evaluation mode", "module.eval()", "one in training mode"
        )
    if not leaves_of(example) or not (n := length_of(example)):
        raise _checks.bad_value("example", "hold inputs", "N >= 1", 0)
    # Sizes of 0 and 1 would be traced as constants.
    inputs = each(example, lambda tensor: torch.cat([tensor, tensor])) if n == 1 else example
    sizes = ({0: torch.export.Dim("batch")},) * len(leaves_of(inputs))
    is_one, names = isinstance(example, Tensor), _names(example)
    with torch.no_grad():
        try:
            expected = call(module, example)
        except (RuntimeError, TypeError) as error:
            first = f" of {example.dtype}" if is_one else ""
            shown = f"{shapes_of(example)}{first}: {error}"
            raise _checks.bad_value(
                "example", "be inputs of the module", "shape and dtype that it takes", shown
            ) from error
    try:
        with warnings.catch_warnings():
            # That all inputs have the batch in common is meant.
            warnings.filterwarnings("ignore", message="# The axis name: batch")
            program = torch.onnx.export(
                module if is_one else _Flat(module, example),
                tuple(leaves_of(inputs)),
                dynamo=True,
                verbose=False,
                input_names=names,
                output_names=["output"],
                dynamic_shapes=sizes if is_one else (sizes,),
            )
        assert program is not None
        content = program.model_proto.SerializeToString()
        session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
        values = dict(zip(names, leaves_of(example), strict=True))
        taken = [one.name for one in session.get_inputs()]  # without those that change nothing
        outputs = session.run(None, {name: values[name].numpy() for name in taken})
    except Exception as error:  # both have errors of their own, of no common base
        reason = str(error).strip().partition("\n")[0]
        raise _checks.bad_value(
            "module",
            "be one that ONNX can hold",
            "operations that torch exports and onnxruntime runs",
            f"{type(module).__name__} ({type(error).__name__}: {reason})",
        ) from error
    got = torch.from_numpy(outputs[0])
    _checks.shape("output of onnxruntime", got.shape, expected.shape, "torch's")
    difference = float((got - expected).abs().max())
    bound = TOLERANCE * max(1.0, float(expected.abs().max()))
    if not difference <= bound:
        raise _checks.bad_value(
            "output of onnxruntime", "be torch's", f"a difference of at most {bound:g}", difference
        )
    _atomic.save(path, content)
    return difference


class _Flat(nn.Module):
    """A module that takes the tensors of its inputs one by one, in order.

    Args:
        module: In evaluation mode.
        example: Inputs as the module takes them.
    """

    def __init__(self, module: nn.Module, example: Any) -> None:
        super().__init__()
        self.module, self._places = module, each(example, lambda _: None)
        self.eval()

    def forward(self, *tensors: Tensor) -> Any:
        rest = iter(tensors)
        return call(self.module, each(self._places, lambda _: next(rest)))


def _names(inputs: Any) -> list[str]:
    """Return what a file calls the inputs, in order."""
    if isinstance(inputs, Tensor):
        return ["input"]
    found = []
    for path, _ in named("", inputs):
        words = [word.strip("'") for word in path.strip("[]").split("][")]
        found.append("_".join(["input", *words] if words[0].isdecimal() else words))
    return found
