"""``ship``: of the networks that a run has trained, the best one that is fast enough, as a file.

One file: choosing, writing and measuring are read together.
"""

from __future__ import annotations

import copy
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nets_deap import _atomic, _checks
from nets_deap._table import table
from nets_deap.errors import InvalidValueError, NetsError
from nets_deap.experiments.compacting import TENSORS, check_suffix, write_tensors
from nets_deap.models.compact.footprint import count_multiply_adds
from nets_deap.models.compact.onnx import runtime_of, write_onnx
from nets_deap.models.compact.runtime import Runner, latencies, quantise, runner_of, session_of
from nets_deap.runs.networks import TrainedNetwork, networks_in
from nets_deap.training.batches import eval_batches
from nets_deap.training.result import TrainResult
from nets_deap.training.task import Task

FORMATS = ("onnx", "int8", "torch")
PROGRAM = ".pt2"  # torch.export's


@dataclass(frozen=True)
class Version:
    """One form of a network: how right, how large, how fast.

    Attributes:
        name: Which.
        accuracy: On the test split, or on the validation split where there is none; in [0, 1].
        bytes: Of its file, or of its parameters and buffers.
        multiply_adds: Of its linear and convolutional layers for one example.
        latency: Median seconds of a minibatch, by its size.
    """

    name: str
    accuracy: float
    bytes: int
    multiply_adds: int
    latency: dict[int, float]


@dataclass(frozen=True, eq=False)
class Shipment:
    """What was shipped, and beside what.

    Attributes:
        network: The one that was chosen.
        versions: The dense network, trained from W0; the chosen one, cut; both in onnxruntime; with
            int8 weights and activations.
        dense_steps: That the dense network was trained for.
        threads: That each might use.
        reference: Name of the version that factors of latency are over: dense, in the runtime of
            the file if it was measured there.
        notes: What is not in the table, and why.
        path: The file; None where none was asked for.
    """

    network: TrainedNetwork
    versions: list[Version]
    dense_steps: int
    threads: int
    reference: str = "dense"
    notes: list[str] = field(default_factory=list)
    path: Path | None = None

    def table(self) -> str:
        """Return it as text."""
        sizes = list(self.versions[0].latency)
        head = ["", "accuracy", "bytes", "multiply-adds", *(f"ms at B = {n}" for n in sizes)]
        rows, (first,) = [head], [one for one in self.versions if one.name == self.reference]
        for one in self.versions:
            times = [
                f"{1e3 * one.latency[n]:.3f}"
                + ("" if one is first else f" ({first.latency[n] / one.latency[n]:.1f}x)")
                for n in sizes
            ]
            accuracy = "-" if np.isnan(one.accuracy) else f"{100 * one.accuracy:.2f} %"
            rows.append([one.name, accuracy, f"{one.bytes:,}", f"{one.multiply_adds:,}", *times])
        many = "one thread" if self.threads == 1 else f"{self.threads} threads"
        trained = self.network.trained
        steps = f"{trained.inherited_steps} steps with its lineage"
        if trained.steps:
            steps += f", {trained.steps} more"
        foot = (
            f"The network had {steps}; dense had {self.dense_steps} from W0. "
            f"Medians in turns, {many}; times as fast as {self.reference}."
        )
        return "\n".join([table(rows, left=(0,)), foot, *self.notes])


@_checks.signed
def ship(
    path: str | Path,
    task: Task,
    *,
    max_latency: float | None = None,
    speedup: float | None = None,
    batch: int = 1,
    threads: int = 1,
    to: str = "onnx",
    out: str | Path | None = None,
    steps: int = 0,
    dense_steps: int | None = None,
    batches: Sequence[int] = (1, 64),
    repeats: int = 100,
) -> Shipment:
    """Write the best network of a run's lineages that is fast enough, and measure it.

    The best by validation accuracy, else by validation loss, of those that are fast enough in the
    form that is asked for, as int8 where the file is; the first of them where several are level.
    Validation is that of the network in float32.

    Args:
        path: The run folder.
        task: The task of the run.
        max_latency: Seconds that a minibatch may take; None for any.
        speedup: How many times as fast as the dense network in float32 in the same runtime it is at
            least, with minibatches of all sizes in ``batches``; None for any.
        batch: Examples in the minibatch that ``max_latency`` is for.
        threads: That the runtime may use.
        to: ``"onnx"``; ``"int8"``: ONNX with int8 weights and activations; or ``"torch"``: the
            small network itself, or its tensors.
        out: The file, ``.onnx``; with ``to="torch"`` ``.pt2``, which ``torch.export.load(path)
            .module()`` gives back without this package, or the tensors alone as ``.safetensors``,
            ``.pt`` or ``.pth``, for ``found.network.compact()``; None for no file. It takes what
            the network takes: normalised inputs.
        steps: Of fine-tuning the chosen network first; 0 for none.
        dense_steps: Of training the dense network that it is compared with, from W0; None for as
            many as the chosen one has had, with its lineage and now.
        batches: Sizes of the minibatches that are timed.
        repeats: Timed calls of each.

    Returns:
        What was shipped, with a table.

    Raises:
        InvalidValueError: Nothing is fast enough, the run holds no trained networks, those take
            several inputs, or cannot be written in that form.
        MissingExtraError: onnxruntime is not installed.
    """
    kind = _checks.choice("to", to, FORMATS)
    sizes = _check_numbers(
        max_latency, speedup, batch, threads, steps, dense_steps, batches, repeats
    )
    formats = (PROGRAM, *TENSORS) if kind == "torch" else (".onnx",)
    target = None if out is None else check_suffix(out, formats, "out")
    if kind != "torch":
        runtime_of(f"Shipping to {kind}")
    networks = networks_in(path, task)
    if not networks:
        raise _checks.bad_value(
            "path", "hold trained networks", "a run that trained some", str(path)
        )
    inputs = _examples(task)
    clock = _Clock(task, inputs, kind, threads, repeats)
    fits = clock.within(networks, batch, max_latency)
    chosen = min(clock.faster(fits, sizes, speedup), key=_worth)
    if steps:
        trained = task.train(chosen.ticket, start="inherited", steps=steps)
        chosen = replace(chosen, trained=trained)
    as_many = chosen.trained.inherited_steps + chosen.trained.steps
    dense = task.train(task.dense_ticket(), steps=as_many if dense_steps is None else dense_steps)
    return _Writer(task, inputs, threads, sizes, repeats).ship(chosen, dense, kind, target)


def _check_numbers(
    max_latency: float | None,
    speedup: float | None,
    batch: int,
    threads: int,
    steps: int,
    dense_steps: int | None,
    batches: Sequence[int],
    repeats: int,
) -> tuple[int, ...]:
    """Complain before anything takes long; return the sizes of minibatches."""
    for name, number in (("max_latency", max_latency), ("speedup", speedup)):
        if number is not None:
            _checks.real(name, number, low=0, open_low=True)
    for name, count in (("batch", batch), ("threads", threads), ("repeats", repeats)):
        _checks.whole(name, count)
    _checks.whole("steps", steps, low=0)
    if dense_steps is not None:
        _checks.whole("dense_steps", dense_steps)
    if not isinstance(batches, (tuple, list)) or not batches:
        raise _checks.bad_type("batches", "be sizes of minibatches", "one or more", batches)
    return tuple(_checks.whole("batches", n) for n in batches)


def _examples(task: Task) -> Tensor:
    """Return the inputs that networks are timed and compared on, on the CPU."""
    split = task.problem.test or task.problem.val
    parts = [x for _, x, _ in eval_batches(split)]
    if not all(isinstance(part, Tensor) for part in parts):
        raise _checks.bad_value(
            "task",
            "have networks of one input, to be timed",
            "a tensor",
            "several inputs",
            "found.networks has the trained networks; network.compact() cuts one, and "
            "network.ticket.to_onnx(network.module(), path, inputs) writes it.",
        )
    return torch.cat(parts).cpu()


class _Clock:
    """Times networks in turns, and says which are fast enough; each is cut and written once.

    Args:
        task: The task.
        inputs: Examples (N, ...) to time on.
        kind: The form to time, as in ``ship``.
        threads: That each may use.
        repeats: Timed calls of each.
    """

    def __init__(self, task: Task, inputs: Tensor, kind: str, threads: int, repeats: int) -> None:
        self.inputs, self.kind, self.threads, self.repeats = inputs, kind, threads, repeats
        self.runtime = "torch" if kind == "torch" else "onnxruntime"
        self.where = f"{self.runtime}{' as int8' * (kind == 'int8')} with {threads} threads"
        self._task = task
        self._known: dict[str, Runner] = {}

    def within(
        self, networks: Sequence[TrainedNetwork], batch: int, most: float | None
    ) -> list[TrainedNetwork]:
        """Return the networks that take at most so many seconds for a minibatch."""
        if most is None:
            return list(networks)
        found = self._seconds([self._runner(one) for one in networks], batch)
        if min(found) > most:
            raise _checks.bad_value(
                "max_latency",
                "be within reach",
                f"at least {1e3 * min(found):.3g} ms, what the fastest of {len(found)} networks "
                f"takes for {batch} in {self.where}",
                f"{1e3 * most:.3g} ms",
                "Allow more, or search for smaller networks: a lower density or floor.",
            )
        return [one for one, seconds in zip(networks, found, strict=True) if seconds <= most]

    def faster(
        self,
        networks: Sequence[TrainedNetwork],
        batches: Sequence[int],
        least: float | None,
    ) -> list[TrainedNetwork]:
        """Return those that are so many times as fast as the dense one, whatever the minibatch."""
        if least is None:
            return list(networks)
        dense = self._task.model.eval()  # a copy, on the CPU
        whole = runner_of(dense, self.inputs[:2], self.runtime, self.threads)
        ratios = self._ratios(whole, list(map(self._runner, networks)), batches)
        if ratios.max() < least:
            sizes = " and ".join(map(str, batches))
            hint = "Ask for less, or search for smaller networks: a lower density or floor."
            if self.kind == "int8":
                fastest = networks[int(ratios.argmax())].compact()
                small = runner_of(fastest, self.inputs[:2], self.runtime, self.threads)
                (factor,) = self._ratios(whole, [small], batches)
                hint = f"As float32 (to='onnx') it is {factor:.3g} times as fast. {hint}"
            raise _checks.bad_value(
                "speedup",
                "be within reach",
                f"at most {ratios.max():.3g}, what the fastest of {len(networks)} networks reaches "
                f"for {sizes} in {self.where}",
                f"{least:.3g}",
                hint,
            )
        return [one for one, ratio in zip(networks, ratios, strict=True) if ratio >= least]

    def _ratios(
        self, whole: Runner, runners: Sequence[Runner], batches: Sequence[int]
    ) -> NDArray[np.float64]:
        """Return how many times as fast functions are as a whole one, for all sizes at least."""
        found = np.array([self._seconds([whole, *runners], n) for n in batches])
        ratios: NDArray[np.float64] = (found[:, :1] / found[:, 1:]).min(axis=0)
        return ratios

    def _runner(self, network: TrainedNetwork) -> Runner:
        """Return a network, cut, as a function."""
        key = network.ticket.digest
        if key not in self._known:
            self._known[key] = self._made(network.compact())
        return self._known[key]

    def _made(self, module: nn.Module) -> Runner:
        """Return a module as a function in its form."""
        if self.kind != "int8":
            return runner_of(module, self.inputs[:2], self.runtime, self.threads)
        with tempfile.TemporaryDirectory() as folder:
            whole, small = Path(folder) / "a.onnx", Path(folder) / "b.onnx"
            write_onnx(module, whole, self.inputs[:2])
            if why := quantise(whole, small, _calibration(self._task)):
                raise _impossible("int8", why)
            return session_of(small, self.threads)

    def _seconds(self, runners: Sequence[Runner], batch: int) -> list[float]:
        """Return the median seconds of functions for a minibatch."""
        named, inputs = {str(i): run for i, run in enumerate(runners)}, _batch(self.inputs, batch)
        found = latencies(named, inputs, repeats=self.repeats, threads=self.threads)
        return list(found.values())


def _worth(one: TrainedNetwork) -> tuple[float, float]:
    """Return what networks are sorted by, the best first."""
    accuracy = one.trained.val_accuracy
    return (-accuracy if np.isfinite(accuracy) else 0.0), one.trained.val_loss


def _calibration(task: Task) -> NDArray[Any]:
    """Return training inputs (200, ...) that ranges of activations are taken from."""
    _, inputs, _ = next(eval_batches(task.problem.train, 200))
    return _batch(inputs.cpu(), 200)


def _impossible(kind: str, why: str) -> NetsError:
    """Return the error for a form that a network cannot have."""
    return _checks.bad_value("to", "be possible for this network", "'torch'", kind, why)


def _batch(inputs: Tensor, n: int) -> NDArray[Any]:
    """Return inputs (n, ...), some more than once where there are fewer."""
    found: NDArray[Any] = inputs[torch.arange(n, device="cpu") % len(inputs)].contiguous().numpy()
    return found


@dataclass(frozen=True)
class _Writer:
    """Writes a network's forms and measures them side by side."""

    task: Task
    inputs: Tensor
    threads: int
    batches: tuple[int, ...]
    repeats: int

    def ship(
        self, chosen: TrainedNetwork, trained: TrainResult, kind: str, target: Path | None
    ) -> Shipment:
        """Write the file, and return the table."""
        dense, small, notes = trained.module(), chosen.compact(), []
        with tempfile.TemporaryDirectory() as folder:
            files = {"onnx": Path(folder) / "a.onnx", "int8": Path(folder) / "b.onnx"}
            runners: dict[str, Runner] = {
                "dense": runner_of(dense, self.inputs[:2], "torch", self.threads),
                "cut": runner_of(small, self.inputs[:2], "torch", self.threads),
            }
            sizes = {"dense": _bytes(dense), "cut": _bytes(small)}
            whole = Path(folder) / "dense.onnx"
            if lacking := self._export(dense, whole):
                notes.append(f"Not measured, dense in onnxruntime: {lacking}.")
            else:
                runners["dense, onnxruntime"] = session_of(whole, self.threads)
                sizes["dense, onnxruntime"] = whole.stat().st_size
            why = self._export(small, files["onnx"])
            if not why:
                runners["cut, onnxruntime"] = session_of(files["onnx"], self.threads)
                sizes["cut, onnxruntime"] = files["onnx"].stat().st_size
                why = quantise(files["onnx"], files["int8"], _calibration(self.task))
            if not why:
                runners["cut, int8"] = session_of(files["int8"], self.threads)
                sizes["cut, int8"] = files["int8"].stat().st_size
            if why:
                notes.append(f"Not measured: {why}.")
            if target is not None:
                self._write(small, kind, files, target, why)
            versions = self._measured(runners, sizes, dense, small)
        times = {one.name: one.latency for one in versions}
        if (int8 := times.get("cut, int8")) and all(
            int8[n] > seconds for n, seconds in times["cut, onnxruntime"].items()
        ):
            notes.append("On this machine int8 is slower than float32 for a network this small.")
        reference = "dense, onnxruntime"
        if kind == "torch" or reference not in runners:
            reference = "dense"
        return Shipment(chosen, versions, trained.steps, self.threads, reference, notes, target)

    def _export(self, module: nn.Module, path: Path) -> str:
        """Write a network as ONNX; return why it cannot be, or nothing."""
        try:
            runtime_of("ONNX export")
            write_onnx(module, path, self.inputs[:2])
        except (InvalidValueError, ImportError) as error:
            return str(error)
        return ""

    def _write(
        self, small: nn.Module, kind: str, files: dict[str, Path], target: Path, why: str
    ) -> None:
        """Write the file that was asked for."""
        if kind == "torch" and target.suffix.lower() in ("", PROGRAM):
            _atomic.save(target, self._program(small), argument="out")
        elif kind == "torch":
            write_tensors(small.state_dict(), target, str(small))
        elif not files[kind].exists():
            raise _impossible(kind, why)
        else:
            _atomic.save(target, files[kind].read_bytes(), argument="out")

    def _program(self, small: nn.Module) -> bytes:
        """Return the bytes of a network as torch.export has it, for minibatches of any size."""
        inputs, buffer = _batch(self.inputs, 2), io.BytesIO()
        sizes = ({0: torch.export.Dim("batch")},)
        try:
            program = torch.export.export(small, (torch.from_numpy(inputs),), dynamic_shapes=sizes)
            torch.export.save(program, buffer)
        except Exception as error:  # it has errors of many kinds
            reason = str(error).strip().partition("\n")[0]
            raise _checks.bad_value(
                "out", "be possible for this network", "'.safetensors', the tensors alone",
                PROGRAM, f"torch.export cannot write it ({type(error).__name__}: {reason})",
            ) from error  # fmt: skip
        return buffer.getvalue()

    def _measured(
        self, runners: dict[str, Runner], sizes: dict[str, int], dense: nn.Module, small: nn.Module
    ) -> list[Version]:
        """Return all forms, measured in turns."""
        example, task = self.inputs[:1], self.task
        split = task.problem.test or task.problem.val
        adds = {m: count_multiply_adds(copy.deepcopy(m), example) for m in (dense, small)}
        times = {
            n: latencies(
                runners, _batch(self.inputs, n), repeats=self.repeats, threads=self.threads
            )
            for n in self.batches
        }
        return [
            Version(
                name,
                accuracy_of(run, split),
                sizes[name],
                adds[dense if name.startswith("dense") else small],
                {n: found[name] for n, found in times.items()},
            )
            for name, run in runners.items()
        ]


def accuracy_of(run: Runner, split: Any) -> float:
    """Return the share of examples that are right; NaN where targets are no classes."""
    if not isinstance(split[1], Tensor) or split[1].is_floating_point():
        return float("nan")
    right = total = 0
    for n, x, y in eval_batches(split, 500):
        right += int((run(x.cpu().numpy()).argmax(1) == y.cpu().numpy()).sum())
        total += n
    return right / total


def _bytes(module: nn.Module) -> int:
    """Return the bytes of a network's parameters and buffers."""
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
