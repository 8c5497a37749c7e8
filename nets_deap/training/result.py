"""``TrainResult``: one trained ticket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from nets_deap.models.modes import neutral
from nets_deap.models.private import copied, set_state
from nets_deap.training.problem import METRICS, Outcome, State


@dataclass(frozen=True)
class TrainResult:
    """One trained ticket: its numbers, and the trained network.

    Losses are those of a split, all rows together; ``train_loss`` is the mean over the minibatches
    of the last tenth of the steps. Accuracies lie in [0, 1]; ``test_loss`` and ``test_accuracy``
    are NaN without test data, accuracies also where the loss defines none. ``curve`` holds pairs
    (step, validation loss), where points were asked for. ``start`` is where the training began:
    ``"initial"``, W0, which makes the network a lottery ticket's; or ``"inherited"``, weights that
    ancestors had trained for ``inherited_steps`` steps, whatever was pruned meanwhile.
    """

    density: float
    steps: int
    train_loss: float
    val_loss: float
    val_accuracy: float
    test_loss: float
    test_accuracy: float
    _model: nn.Module = field(repr=False, compare=False)
    _state: State = field(repr=False, compare=False)
    curve: tuple[tuple[int, float], ...] = field(default=(), repr=False)
    start: str = "initial"
    inherited_steps: int = 0

    @neutral()
    def module(self) -> nn.Module:
        """Return a new module that holds the trained, masked network, on the CPU, in eval mode."""
        model = copied(self._model).cpu()
        set_state(model, self._state)
        return model.eval()


def results_of(
    model: nn.Module, densities: Sequence[float], steps: int, outcome: Outcome
) -> list[TrainResult]:
    """Return the results of P networks of these densities from an outcome with states."""
    numbers = [
        {name: float(outcome.metrics[name][i]) for name in METRICS} for i in range(len(densities))
    ]
    return [
        TrainResult(
            density=density,
            steps=steps,
            _model=model,
            _state=outcome.states[i],
            curve=tuple(zip(outcome.curve_steps, outcome.curve[i].tolist(), strict=True)),
            train_loss=numbers[i]["train_loss"],
            val_loss=numbers[i]["val_loss"],
            val_accuracy=numbers[i]["val_accuracy"],
            test_loss=numbers[i]["test_loss"],
            test_accuracy=numbers[i]["test_accuracy"],
        )
        for i, density in enumerate(densities)
    ]
