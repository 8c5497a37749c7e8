"""ONNX files: a network written for other runtimes, and checked in one of them."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from nets_deap import _atomic, _checks, _optional
from nets_deap.models.modes import neutral

TOLERANCE = 1e-4  # of outputs, relative to the largest: kernels add up in other orders


@neutral()
def write_onnx(module: nn.Module, path: str | Path, example: Tensor) -> float:
    """Write a network as ONNX and run it in onnxruntime beside torch.

    Args:
        module: In evaluation mode, with one input and one output, on the CPU.
        path: Where to; written only if both agree.
        example: Inputs (N, ...), N >= 1, to trace and compare on; the file takes any N.

    Returns:
        The greatest difference between the two's outputs.

    Raises:
        InvalidValueError: The module is in training mode, cannot be exported or does not take the
            example, or the runtime's outputs differ.
        MissingExtraError: The extra ``onnx`` is not installed.
        FileAccessError: The file cannot be written.
    """
    runtime = _optional.require("onnxruntime", "onnx", "ONNX export")
    _optional.require("onnxscript", "onnx", "ONNX export")
    if module.training:
        raise _checks.bad_value(
            "module", "be in evaluation mode", "module.eval()", "one in training mode"
        )
    if not len(example):
        raise _checks.bad_value("example", "hold inputs", "N >= 1", 0)
    # Sizes of 0 and 1 would be traced as constants.
    inputs = example.repeat(2, *([1] * (example.ndim - 1))) if len(example) == 1 else example
    with torch.no_grad():
        try:
            expected = module(example)
        except RuntimeError as error:
            shown = f"{tuple(example.shape)} of {example.dtype}: {error}"
            raise _checks.bad_value(
                "example", "be inputs of the module", "shape and dtype that it takes", shown
            ) from error
    try:
        program = torch.onnx.export(
            module,
            (inputs,),
            dynamo=True,
            verbose=False,
            input_names=["input"],
            output_names=["output"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
        assert program is not None
        content = program.model_proto.SerializeToString()
        session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
        outputs = session.run(None, {"input": example.numpy()})
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
