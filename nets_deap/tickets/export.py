"""``Exportable``: what a ticket goes into: files, models, masks by name, other formats.

One file: each way out is a few lines, and what it takes and gives is most of them.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from nets_deap import _checks
from nets_deap.errors import InvalidValueError, TicketFileError
from nets_deap.tickets import bits, files
from nets_deap.tickets.genotype import Genotype
from nets_deap.tickets.layout import MaskLayout

if TYPE_CHECKING:
    from torch import Tensor, nn

Self = TypeVar("Self", bound="Exportable")

# Suffixes that promise what a ticket's file is not.
OTHER_FORMATS = (".pt", ".pth", ".pt2", ".onnx", ".npz", ".npy", ".pkl", ".pickle")

_NOWHERE: Mapping[str, Any] = MappingProxyType({})


class Exportable(Genotype):
    """A genotype that can be saved, loaded, applied to models and given to other tools.

    Every method imports what it needs when it is called, so that tickets cost no import of torch.
    """

    __slots__ = ()

    @property
    def origin(self) -> Mapping[str, Any]:
        """Where the ticket was found, as plain data (see ``Task.origin``).

        Empty where nobody said so, and again once bits change. Assign to it to replace it.

        Raises:
            InvalidTypeError: What is assigned is not a mapping.
        """
        found: Mapping[str, Any] = self._known.get("origin", _NOWHERE)
        return found

    @origin.setter
    def origin(self, origin: Mapping[str, Any]) -> None:
        if not isinstance(origin, Mapping):
            raise _checks.bad_type(
                "origin",
                "say where the ticket was found",
                "a mapping, as Task.origin returns it",
                origin,
                "Keep data of your own under another name.",
            )
        self._known["origin"] = copy.deepcopy(dict(origin))

    # ---- files

    def save(self, path: str | Path, *, include_initial: bool = False, task: Any = None) -> Path:
        """Save as safetensors: packed bits, layout, objectives, origin and a SHA-256.

        Args:
            path: Where to; written to a temporary file first, then put in place.
            include_initial: Also store W0 (4 bytes a weight); else only its digest.
            task: The ``nets.Task`` that it was found on, for ``origin``; None leaves that as it
                is: of tickets from a recorder or a file it is known.

        Returns:
            The path.

        Raises:
            InvalidValueError: The path's suffix is that of another format.
            FileAccessError: It cannot be written.
        """
        if _checks.path("path", path).suffix.lower() in OTHER_FORMATS:
            raise _checks.bad_value(
                "path", "be that of a safetensors file", "the suffix .safetensors", str(path),
                "'nets-deap ticket export', ticket.to_onnx and torch.save(ticket.masks(), path) "
                "write other formats.",
            )  # fmt: skip
        if task is not None:
            self.origin = task.origin()
        return files.write(path, files.Record.of(self), include_initial=include_initial)

    @classmethod
    def load(cls: type[Self], path: str | Path) -> Self:
        """Load a saved ticket; nothing in the file is ever executed.

        Raises:
            TicketFileError: The file is damaged, of a newer schema or no ticket.
        """
        return _ticket_of(cls, files.read(path))

    # ---- models

    def apply(self, model: nn.Module, how: str = "inplace", *, values: str | None = None) -> Any:
        """Mask the maskable weights of ``model``: W0 times the mask, or its own times the mask.

        A ticket that knows only W0's digest takes the model's own weights as W0, verified by it.
        Parameters that are not maskable, biases among them, stay as they are.

        Args:
            model: A model with the layers of the ticket, compiled or data-parallel or not.
            how: ``"inplace"``: set the weights, and leave it to the caller that pruned ones stay
                zero. ``"prune"``: weights in ``*_orig`` and masks by ``torch.nn.utils.prune``.
                ``"parametrize"``: weights and masks in ``torch.nn.utils.parametrize``, pruned
                weights zero and without gradient. ``"functional"``: leave the model untouched.
            values: Which weights are masked: ``"initial"``: W0, put over what the model holds;
                ``"own"``: what it holds, such as trained weights. None: W0, for a model that
                holds it, masked or not; for any other it must be said.

        Returns:
            The model; with ``"functional"`` all its parameters as detached copies by name, for
            ``torch.func.functional_call(model, parameters, inputs)``.

        Raises:
            InvalidValueError: The model has other layers, or other weights than W0 and ``values``
                is None; or torch cannot mask it this way: tied parameters, the output of
                attention by ``"prune"``.

        Note:
            torch copies no module of ``"prune"`` by ``copy.deepcopy`` and pickles none of
            ``"parametrize"`` whole. Of both, save ``model.state_dict()``, and load it into a fresh
            model to which the ticket has been applied in the same way.
        """
        from nets_deap.tickets import apply

        return apply.apply(self.layout.weights, self.masks(), model, how, values)

    def masks(self) -> dict[str, Tensor]:
        """Return the mask of each layer by its parameter's name: bool tensors, 1 = kept."""
        import torch

        from nets_deap.models.modes import neutral

        split = self.layout.weights.split(self.mask)
        with neutral():
            return {name: torch.from_numpy(np.array(mask)) for name, mask in split.items()}

    @classmethod
    def from_masks(
        cls: type[Self], masks: Mapping[str, Any], source: nn.Module | MaskLayout
    ) -> Self:
        """Return a ticket of masks by name, as other programs keep them.

        Args:
            masks: Tensors or arrays of zeros and ones, 1 = kept, by parameter name.
            source: The model that holds W0 now, whose masked parameters become the layout; or a
                layout with just these layers, such as ``task.layout``.

        Raises:
            InvalidTypeError: Masks are not by name.
            InvalidValueError: Masks are not of zeros and ones, or not those of these layers.
        """
        from nets_deap.models import masking
        from nets_deap.tickets import apply

        given: Any = masks
        if not isinstance(given, Mapping):
            expected = "a mapping of parameter names to arrays, such as {'0.weight': mask}"
            raise _checks.bad_type("masks", "be by name", expected, masks)
        flat = {name: masking.as_bool(name, mask).numpy() for name, mask in masks.items()}
        layout = source if isinstance(source, MaskLayout) else apply.layout_with(flat, source)
        if set(flat) != set(layout.weights.names):
            expected = f"the names {layout.weights.names}"
            hint = "Layers that nothing prunes have masks of ones. Is the model pruned at all?"
            raise _checks.bad_value("masks", "name every layer", expected, tuple(flat), hint)
        mask = layout.weights.join(flat)
        if layout.weights is layout:
            return cls(mask, layout=layout)
        ticket = cls(np.zeros(layout.size, dtype=np.bool_), layout=layout)
        ticket.mask = mask
        return ticket

    @classmethod
    def from_pruned(
        cls: type[Self], model: nn.Module, source: nn.Module | MaskLayout | None = None
    ) -> Self:
        """Return the ticket of a model that ``torch.nn.utils.prune`` or ``apply`` has masked.

        Args:
            model: With ``*_orig`` and ``*_mask``, or with masks by ``how="parametrize"``.
            source: Where W0 is: a model or a layout, as for ``from_masks``. Of the layers of a
                layout those that nothing masks are kept whole. None: the model's own unmasked
                weights are W0, which holds before training.

        Raises:
            InvalidValueError: Nothing is masked, or layers are that the source has not.
        """
        from nets_deap.models import masking

        masks = masking.masks_of(model)
        if masks and isinstance(source, MaskLayout):
            held = masking.unmasked(model)
            for name in [n for n in source.weights.names if n in held and n not in masks]:
                masks[name] = masking.as_bool(name, np.ones(held[name].shape))
        return cls.from_masks(masks, model if source is None else source)

    def compact(self, module: nn.Module, example: Any = None) -> nn.Module:
        """Return a smaller dense network with the function of a trained, masked one.

        Dead inputs, neurons, filters and heads are gone, of any network whose forward can be run;
        see ``models.compact.compact.compact``.

        Args:
            module: The ticket's network, as from ``TrainResult.module()`` or ``apply``, pruned
                or parametrized or not, in evaluation mode; it stays untouched.
            example: An input (1, ...), or several, that it takes; None to guess one.

        Raises:
            InvalidValueError: It cannot be followed, or holds weights that the ticket prunes.
        """
        from nets_deap.models import masking
        from nets_deap.models.compact import compact

        return compact.compact(masking.plain(module), self.masks(), example)

    def to_csr(self, module: nn.Module) -> nn.Module:
        """Return a copy of a trained, masked network on compressed sparse rows, for inference.

        Linear layers that the ticket masks become ``CsrLinear``: kept weights, 4 bytes each
        for their columns, no zeros. All else, convolutions and layers with hooks among it, stays
        dense.

        Args:
            module: The ticket's network, as for ``compact``; it stays untouched.

        Raises:
            InvalidValueError: No linear layer is masked, the module is not the ticket's, or torch
                has no sparse product for its numbers, such as bfloat16 on the CPU.
        """
        from nets_deap.models.compact import sparse

        return sparse.to_csr(module, self.masks())

    def to_semi_structured(
        self, module: nn.Module, *, dtype: str = "float16", device: str = "cuda"
    ) -> nn.Module:
        """Return a copy of a trained, masked network on sparse tensor cores, for inference.

        For tickets of ``unit="2:4"``. Linear layers that the ticket masks are computed by torch's
        semi-structured kernels, which skip half of their products; all else, convolutions too,
        stays dense. Nothing of that is saved to files: save the network that it is made from.

        Args:
            module: The ticket's network, as for ``compact``; it stays untouched.
            dtype: ``"float16"`` or ``"bfloat16"``, of what is returned and of its inputs.
            device: A CUDA GPU of compute capability 8.0 or higher. On the CPU torch has no kernels
                for 2 of 4 weights.

        Raises:
            InvalidValueError: The device has no such kernels, no linear layer is masked, one keeps
                more than 2 of 4 inputs, or the module is not the ticket's.
        """
        from nets_deap.models.compact import semi_structured

        return semi_structured.to_semi_structured(module, self.masks(), dtype=dtype, device=device)

    def to_onnx(
        self, module: nn.Module, path: str | Path, example: Any, *, compact: bool = True
    ) -> float:
        """Write a trained, masked network as ONNX, run it in onnxruntime and compare.

        Args:
            module: The ticket's network in evaluation mode on the CPU, as for ``compact``.
            path: Where to; written only if both agree.
            example: Inputs (N, ...), N >= 1, or tuples and dictionaries of them, to trace and
                compare on; the file takes any N.
            compact: Write the compact network; else the whole one with its zeros.

        Returns:
            The greatest difference between the outputs of torch and onnxruntime.

        Raises:
            InvalidValueError: The module is in training mode, holds weights that the ticket prunes
                or cannot be compacted, or outputs differ.
            MissingExtraError: The extra ``onnx`` is not installed.
            FileAccessError: The file cannot be written.
        """
        from nets_deap.models import masking
        from nets_deap.models.compact import onnx

        network = masking.plain(module)
        masking.check_masked(network, self.masks())
        try:
            network = self.compact(module, example) if compact else network
        except InvalidValueError as error:
            if module.training:  # which may be all that is wrong
                raise
            hint = "With compact=False the whole network is written, with its zeros."
            raise InvalidValueError(f"{error} {hint}") from error
        return onnx.write_onnx(network, path, example)


def _ticket_of(cls: type[Self], record: files.Record) -> Self:
    """Make a ticket of what its file holds.

    Raises:
        TicketFileError: The class has a fitness of its own, for other objectives.
    """
    ticket: Any = cls(bits.unpack(record.packed, record.layout.size), layout=record.layout)
    ticket.origin, stored = record.origin, record.fitness
    if stored is not None and not getattr(ticket.fitness, "weights", None):
        ticket.fitness = stored
    elif stored is not None and stored.valid:
        signs, own = (np.sign(one.weights).tolist() for one in (stored, ticket.fitness))
        if signs != own:
            raise TicketFileError(
                f"the fitness of {cls.__name__} must have the objectives of the file: expected "
                f"weights of signs {signs}, got {own}. Load it with nets.Ticket.load."
            )
        ticket.fitness.values = stored.values
    found: Self = ticket
    return found
