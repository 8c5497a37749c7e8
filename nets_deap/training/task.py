"""``Task``: a model, its data and a recipe; the layout and initial weights that follow.

One file: it is one class, and half of it says what its arguments and methods take.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ParamSpec

import numpy as np
from torch import nn

from nets_deap import _checks
from nets_deap.inputs.nested import length_of
from nets_deap.models.coverage import coverage_note
from nets_deap.models.maskable import Selector, parameters_of
from nets_deap.models.modes import neutral
from nets_deap.models.private import copied, private_copy, set_state
from nets_deap.names import parse_unit
from nets_deap.tickets.genotype import packed_mask_for
from nets_deap.tickets.layout_of import layout_of, whole_note
from nets_deap.tickets.ticket import Ticket, several
from nets_deap.tickets.trained import TrainedState
from nets_deap.tickets.units import UnitLayout
from nets_deap.training.batches import checked_augment
from nets_deap.training.cost import ticket_share, uses
from nets_deap.training.engines.dispatch import pick_engine, train
from nets_deap.training.examples import Examples
from nets_deap.training.guard import guarded
from nets_deap.training.inherited import as_they_are, held_by, own_start
from nets_deap.training.losses import Loss
from nets_deap.training.model_checks import digest_of_model, dtype_of, first_input
from nets_deap.training.precision import check_precision
from nets_deap.training.problem import Outcome, Plan, Problem, Start
from nets_deap.training.recipe import Recipe, name_of
from nets_deap.training.result import TrainResult, results_of
from nets_deap.training.versions import versions
from nets_deap.training.workers.devices import Device, pick_devices, share_between

logger = logging.getLogger("nets_deap")

FINAL_TRAINING = 2**31 - 1
STARTS = ("initial", "inherited")
# The place in the random sequence of a dense training that others start from: after its seed.
REWINDING = (7002, 0, 1)
More = ParamSpec("More")


def _neutrally(build: Callable[More, None]) -> Callable[More, None]:
    """Let a task be built in torch's plain modes, and with the default dtype of its model."""

    @functools.wraps(build)
    def built(*args: More.args, **kwargs: More.kwargs) -> None:
        model = kwargs["model"] if "model" in kwargs else args[1] if len(args) > 1 else None
        known = model.parameters() if isinstance(model, nn.Module) else ()
        dtypes = {p.dtype for p in known if p.is_floating_point()}
        with neutral(dtype=dtypes.pop() if len(dtypes) == 1 else None):
            build(*args, **kwargs)

    return built


# Networks, steps x networks, diverged networks, dense steps.
Totals = tuple[int, int, int, float]


@dataclass
class Ledger:
    """What a task has spent so far.

    Attributes:
        networks: Networks trained.
        network_steps: Steps x networks.
        diverged: Networks that diverged.
        dense_steps: Multiply-adds, in those of a training step of the dense network; see
            ``training.cost.dense_share``.
    """

    networks: int = 0
    network_steps: int = 0
    diverged: int = 0
    dense_steps: float = 0.0

    def totals(self) -> Totals:
        """Return all four as they are now."""
        return self.networks, self.network_steps, self.diverged, self.dense_steps

    def since(self, before: Totals) -> Totals:
        """Return what has been spent since it had these totals."""
        return (
            self.networks - before[0],
            self.network_steps - before[1],
            self.diverged - before[2],
            self.dense_steps - before[3],
        )

    def add(self, networks: int, network_steps: int, diverged: int, dense_steps: float) -> None:
        """Enter what was spent elsewhere."""
        self.networks += networks
        self.network_steps += network_steps
        self.diverged += diverged
        self.dense_steps += dense_steps


def check_task(name: str, task: Any) -> None:
    """Raise unless what is given is a task."""
    if not isinstance(task, Task):
        hint = "Make one of a network and its data: nets.Task(model, train=(X, y))."
        raise _checks.bad_type(name, "be a task", "a nets.Task", task, hint)


@_checks.signed
class Task:
    """Everything that training a ticket needs; built once, never changed.

    The initial weights W0 are the weights that ``model`` has now. The module, its state and the
    global random state stay untouched.

    Args:
        model: Any module whose forward takes a batch of inputs. It trains in training mode;
            submodules that are in evaluation mode while it is not, frozen normalisation say, stay.
        train: Inputs (N, ...) and targets (N, ...), with weights (N,) of the examples or not:
            tensors or arrays, or tuples and dictionaries of them; or a dictionary of inputs with
            the targets under ``"labels"`` or ``"label"``; or a map-style torch data set of the
            same. A tuple of inputs is spread over the arguments of forward where it takes as many,
            a dictionary over those of its names; else either is passed whole: ``inputs.call``.
        val: The same for validation; or the share of ``train`` that is held out for it, by class.
        test: The same for the final test, if there is one.
        guard: Share of the validation part, by class, that neither trains nor selects: from it
            ``nets.Recorder`` tells how far selection has learnt the rest. None keeps all of it for
            selection.
        loss: Overrides ``recipe.loss``. A module with several outputs needs a function.
        recipe: How networks are trained during the search.
        maskable: What is masked: names, patterns, types of modules or a predicate; see
            ``models.maskable.parameters_of``. None: all weights but those of embeddings and
            normalisation; a warning says so where that is less than half of the parameters.
        unit: What one bit of a ticket gates: ``"weight"``, ``"neuron"``, ``"filter"``,
            ``"head"``, ``"block(RxC)"`` or ``"2:4"``; see ``tickets.layout_of.layout_of``.
        floor: Share of the neurons, filters or heads of each layer, in [0, 1], that operators leave
            it at least, one or more: no layer collapses. Other units have none.
        seed: Seed of all minibatches, and of the validation holdout.
        device: ``"auto"`` (CUDA when there), ``"cpu"``, ``"cuda:N"``, ``"cuda:all"``, a
            ``torch.device``, or a list of devices.
        normalize: Mean and standard deviation, of all pixels or of each channel, by which uint8
            images become (x / 255 - mean) / std; they stay bytes until they are on the device. Of
            several inputs, by name or place: ``{"image": (mean, std)}``. None: as they are.
        augment: Called with the inputs (B, ...) of each training minibatch, on the device; returns
            as many, in the same tuples and dictionaries. What it draws from torch's generators is
            the same for all networks of a step.
        in_memory: Whether the inputs of a data set are read once and kept, or again for each
            minibatch, which all networks of a chunk share; None: kept if they take at most half of
            the free memory.
        chunk: Networks trained at once; None chooses by memory.
        engine: What trains a generation: ``"compiled"`` (fully connected networks, and
            convolutional ones, residual ones among them, on the CPU, each layer by its kept weights
            alone or, fully connected, as a matrix, whichever is faster; needs numba, the extra
            ``fast``), ``"batched"`` (fully connected ones by batched products on any device),
            ``"vmap"`` (any module, as a batch), ``"loop"`` (any module, each network alone, on the
            CPU a network a thread; it alone takes random numbers other than those of dropout), or
            ``"auto"``: the fastest that can.
        precision: Of matrix products: ``"float32"``, ``"tf32"`` (CUDA) or ``"bf16"`` (what the
            batched engine can train); see ``training.precision``.
        name: What the task is called in logs.

    Raises:
        InvalidValueError: Data, labels or shapes do not fit; nothing is maskable; no CUDA.
        InvalidTypeError: An argument is of the wrong kind.
    """

    initial_seed: int | None = None  # that W0 was drawn with, where this package made the model
    rewound_steps = 0  # of dense training that W0 has had; see ``rewound``

    @_neutrally
    def __init__(
        self,
        model: nn.Module,
        *,
        train: Any,
        val: Any = 0.1,
        test: Any = None,
        guard: float | None = None,
        loss: Loss | None = None,
        recipe: Recipe | None = None,
        maskable: Selector = None,
        unit: str = "weight",
        floor: float = 0.1,
        seed: int = 0,
        device: Device | Sequence[Device] = "auto",
        normalize: Any = None,
        augment: Callable[[Any], Any] | None = None,
        in_memory: bool | None = None,
        chunk: int | None = None,
        engine: str = "auto",
        precision: str = "float32",
        name: str = "task",
    ) -> None:
        private = private_copy(model)
        recipe = Recipe() if recipe is None else recipe
        if not isinstance(recipe, Recipe):
            raise _checks.bad_type("recipe", "be a recipe", "a nets.Recipe", recipe)
        self.name = name
        self.seed = _checks.whole("seed", seed, low=0)
        self.recipe = recipe if loss is None else replace(recipe, loss=loss)
        self.chunk = None if chunk is None else _checks.whole("chunk", chunk)
        self.engine = engine
        self._devices = pick_devices(device)
        self.device = self._devices[0]
        dtype = dtype_of(model)
        self.precision = check_precision(precision, dtype, self.device)
        self.parameters = tuple(parameters_of(model, maskable, parse_unit("unit", unit)[0]))
        if maskable is None and (note := coverage_note(self.parameters)):
            logger.warning("%s", note)
        self.ledger = Ledger()
        self._modes = {name: module.training for name, module in private.named_modules()}
        self.model_digest = digest_of_model(private)
        given = {"train": train, "val": val, **({} if test is None else {"test": test})}
        examples = Examples.of(
            given, private, self.recipe, dtype, normalize,
            seed=self.seed, in_memory=in_memory, device=self.device,
        )  # fmt: skip
        self.data_digest, self.normalize = examples.digest, examples.normalize
        self._example = first_input(examples.splits["train"][0], examples.normalize, dtype)
        self.layout = layout_of(model, maskable, unit, example=self._example, floor=floor)
        if note := whole_note(self.layout):
            logger.warning("%s", note)
        self.chance_loss, self.has_accuracy = examples.chance_loss, examples.has_accuracy
        follows = self.layout.follows if isinstance(self.layout, UnitLayout) else {}
        self.parameters = tuple(
            replace(p, maskable=True, why=f"follows {follows[p.name]}") if p.name in follows else p
            for p in self.parameters
        )
        private.to(self.device)
        on_device = examples.on(self.device, dtype)
        self.guard = _checks.unless_none(_checks.inner_share, "guard", guard)
        val, means, kept = on_device["val"], examples.weight_means, None
        if self.guard is not None:
            val, kept, share = guarded(val, self.guard, self.seed)
            means = means[0], means[1] * share
        self.problem = Problem(
            model=private,
            layout=self.layout.weights,
            initial={n: p.detach().clone() for n, p in private.named_parameters()},
            frozen=frozenset(n for n, p in private.named_parameters() if not p.requires_grad),
            buffers={n: b.detach().clone() for n, b in private.named_buffers()},
            recipe=self.recipe.on(self.device),
            train=on_device["train"],
            val=val,
            test=on_device.get("test"),
            augment=checked_augment(augment, on_device["train"][0], self.recipe.batch_size),
            resting=frozenset(
                name for name, training in self._modes.items() if self._modes[""] and not training
            ),
            precision=self.precision,
            ignored=examples.ignored,
            weight_means=means,
            guard=kept,
        )
        pick_engine(self.engine, self.problem)
        share_between(self.problem, self._devices)

    @property
    @neutral()
    def model(self) -> nn.Module:
        """A fresh copy of the model with its initial weights, on the CPU."""
        model = copied(self.problem.model).cpu()
        set_state(model, {**self.problem.initial, **self.problem.buffers})
        for name, module in model.named_modules():
            module.training = self._modes[name]
        return model

    @property
    def weight_costs(self) -> dict[str, float]:
        """What a kept weight of each layer costs, in multiply-adds; see ``training.cost.uses``."""
        return dict(zip(self.problem.layout.names, uses(self.problem).tolist(), strict=True))

    @property
    def steps(self) -> int:
        """Optimiser steps that the recipe takes."""
        return self.recipe.total_steps(self.problem.n_examples)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over model, layout, data, recipe and seed, on which a ticket's number depends.

        Of the model its initial parameters and buffers, which are frozen, and how it prints.
        """
        parts = [self.layout.key, self.model_digest, self.data_digest, self.recipe.as_dict()]
        more: list[Any] = [] if self.precision == "float32" else [self.precision]
        if self.normalize is not None:
            more.append(asdict(self.normalize))
        if self.problem.augment is not None:
            more.append(name_of(self.problem.augment))
        if self.guard is not None:
            more.append(["guard", self.guard])
        return hashlib.sha256(json.dumps([*parts, self.seed, *more]).encode()).hexdigest()

    @_checks.signed
    def rewound(self, steps: int, *, seed: int = 0) -> Task:
        """Return the task whose W0 is this one's dense network after some steps: late rewinding.

        Whatever searches, prunes or trains on it starts from there, with a fresh optimiser and the
        schedule from its beginning. Its tickets are other ones than this task's: masks over other
        weights. The same steps and seed give the same W0, so that a run on it can be resumed.

        Args:
            steps: Optimiser steps of the dense training, a schedule running over these alone; 0
                for this task itself.
            seed: Of its minibatches; ``baselines.imp`` with the same ``seed`` and ``rewind_to``
                starts from the same weights.

        Returns:
            A task that shares the data. Its ledger begins with the dense training, which this
            task's ledger has, too.

        Raises:
            InvalidValueError: The training diverged.

        Reference:
            Frankle et al. 2020, Linear Mode Connectivity and the Lottery Ticket Hypothesis,
            https://arxiv.org/abs/1912.05671.
        """
        if _checks.whole("steps", steps, low=0) == 0:
            return self
        place = self.derived_seed(_checks.whole("seed", seed, low=0), *REWINDING)
        outcome = self.run([self.dense_ticket()], Plan(int(steps), place, keep_states=True))
        if not np.isfinite(outcome.trained[0].values).all():
            self.ledger.diverged += 1
            raise _checks.bad_value(
                "steps",
                "train the dense network without diverging",
                "finite weights",
                f"others after {steps} steps",
                "Try a smaller learning rate.",
            )
        (state,) = outcome.states
        later = copy.copy(self)
        later.initial_seed, later.rewound_steps = None, self.rewound_steps + int(steps)
        spent = later.rewound_steps
        later.ledger = Ledger(networks=1, network_steps=spent, dense_steps=float(spent))
        later.problem = replace(
            self.problem,
            initial={name: state[name].to(self.device) for name in self.problem.initial},
            buffers={name: state[name].to(self.device) for name in self.problem.buffers},
        )
        model = later.model
        later.model_digest = digest_of_model(model)
        masked = list(self.layout.weights.names)
        later.layout = layout_of(
            model, masked, self.layout.unit, example=self._example,
            floor=getattr(self.layout, "floor", 0.0),
        )  # fmt: skip
        later.problem = replace(later.problem, layout=later.layout.weights)
        share_between(later.problem, self._devices)
        return later

    def with_recipe(self, recipe: Recipe) -> Task:
        """Return the same task, trained by another recipe; its ledger begins anew.

        Args:
            recipe: With the loss of this task's, which decides what its data must be.

        Raises:
            InvalidValueError: The loss is another one, or a minibatch is larger than the data.
        """
        if recipe.loss is not self.recipe.loss and recipe.loss != self.recipe.loss:
            expected, got = name_of(self.recipe.loss), name_of(recipe.loss)
            hint = "Give it to the task itself."
            raise _checks.bad_value("recipe.loss", "stay that of the task", expected, got, hint)
        n = self.problem.n_examples
        if recipe.batch_size > n:
            rule, most = "fit the training data", f"at most N = {n}"
            raise _checks.bad_value("recipe.batch_size", rule, most, recipe.batch_size)
        other = copy.copy(self)
        other.recipe, other.ledger = recipe, Ledger()
        other.problem = replace(self.problem, recipe=recipe.on(self.device))
        if recipe != self.recipe:  # else the same engine trains it, and has been told of
            pick_engine(other.engine, other.problem)
        share_between(other.problem, self._devices)
        return other

    def ticket(self, mask: Any) -> Ticket:
        """Return a ticket of this task from its bits: a mask (D,), or one bit a unit (G,)."""
        return Ticket(mask, layout=self.layout)

    def dense_ticket(self) -> Ticket:
        """Return the ticket that keeps every weight: the dense baseline.

        A plain ticket of weights where tickets of this task cannot keep all, as with ``"2:4"``.
        """
        layout = self.layout if self.layout.density_range[1] == 1 else self.layout.weights
        return Ticket(np.ones(layout.size, dtype=np.bool_), layout=layout)

    @_checks.signed
    def train(
        self,
        ticket: Ticket,
        *,
        steps: int | None = None,
        seed: int | None = None,
        start: str = "initial",
    ) -> TrainResult:
        """Train one ticket; see ``train_all``."""
        return self.train_all([ticket], steps=steps, seed=seed, start=start)[0]

    @_checks.signed
    def train_all(
        self,
        tickets: Iterable[Ticket],
        *,
        steps: int | None = None,
        seed: int | None = None,
        on_chunk: Callable[[int], None] | None = None,
        starts: Sequence[Start] | None = None,
        start: str = "initial",
        points: int = 0,
    ) -> list[TrainResult]:
        """Train tickets from W0, all on the same minibatches, and measure them on every split.

        Args:
            tickets: Tickets of this task's layout.
            steps: Optimiser steps; None for the recipe's. With ``start="inherited"`` 0 measures the
                networks that the tickets hold as they are.
            seed: Seed of the minibatches; None for one that the search never uses.
            on_chunk: Called with the number of networks that have just been trained.
            starts: Weights to start from instead of W0, for controls; None for W0.
            start: ``"initial"``: from W0, or ``starts``; or ``"inherited"``: fine-tune the weights
                that the tickets have got from their lineage, a search's or a baseline's.
            points: How often to measure the validation loss meanwhile, for ``result.curve``.

        Returns:
            One result each, in order; empty for no tickets.

        Raises:
            InvalidValueError: A ticket has inherited nothing; or both kinds of starts are given.
        """
        tickets = several(
            tickets, "task.train(ticket) trains one; baselines have .tickets, searches .front."
        )
        states: list[TrainedState | None] = [None] * len(tickets)
        if _checks.choice("start", start, STARTS) == "inherited":
            if starts is not None:
                raise _checks.bad_value("starts", "come with start='initial'", "None", "weights")
            states = [held_by(ticket) for ticket in tickets]
            starts = [own_start(ticket) for ticket in tickets]
            if steps == 0:
                outcome = as_they_are(self.problem, tickets, starts)
                return self._results(tickets, 0, outcome, states)
        recipe = self.recipe if steps is None else self.recipe.with_steps(steps)
        plan = Plan(
            steps=recipe.total_steps(self.problem.n_examples),
            seed=self.derived_seed(FINAL_TRAINING)
            if seed is None
            else _checks.whole("seed", seed, low=0, high=2**63 - 1),
            curve_points=_checks.whole("points", points, low=0),
            test=True,
            keep_states=True,
        )
        if not tickets:
            return []
        outcome = self.run(tickets, plan, on_chunk, starts=starts)
        return self._results(tickets, plan.steps, outcome, states)

    def _results(
        self,
        tickets: Sequence[Ticket],
        steps: int,
        outcome: Outcome,
        states: Sequence[TrainedState | None],
    ) -> list[TrainResult]:
        """Return the results of tickets that started from W0, or from states."""
        found = results_of(self.problem.model, [t.density for t in tickets], steps, outcome)
        return [
            one if state is None else replace(one, start="inherited", inherited_steps=state.steps)
            for one, state in zip(found, states, strict=True)
        ]

    def run(
        self,
        tickets: Sequence[Ticket],
        plan: Plan,
        on_chunk: Callable[[int], None] | None = None,
        *,
        starts: Sequence[Start] | None = None,
    ) -> Outcome:
        """Train tickets by a plan with this task's engine, and enter the cost in the ledger.

        Args:
            tickets: Tickets of this task's layout, not empty.
            plan: Steps, seed and what to measure.
            on_chunk: Called with the number of networks that have just been trained.
            starts: Where each training starts; None for the ticket's own initial weights, which
                are W0 unless its class has others.
        """
        masks = [packed_mask_for(self.layout, ticket) for ticket in tickets]
        begin: list[Start] = []
        for ticket, start in zip(tickets, starts or [None] * len(masks), strict=True):
            own = ticket.own_values() if start is None else None
            begin.append(start if own is None else TrainedState(own))
        outcome = train(
            self.problem, masks, plan, engine=self.engine,
            starts=begin, chunk=self.chunk, on_chunk=on_chunk,
        )  # fmt: skip
        self.ledger.networks += len(masks)
        self.ledger.network_steps += len(masks) * plan.steps
        self.ledger.dense_steps += plan.steps * sum(ticket_share(self.problem, t) for t in tickets)
        return outcome

    def derived_seed(self, *place: int) -> int:
        """Return a seed for one place in a run (a generation, say) from the task's own seed."""
        words = np.random.SeedSequence([self.seed, *place]).generate_state(2, np.uint32)
        return int(words[0]) << 31 | int(words[1]) >> 1

    def __repr__(self) -> str:
        held = f"{self.layout.size} bits over {self.layout.weights.size} maskable weights"
        return f"Task({self.name!r}, {held}, {self.steps} steps, {self.device})"

    def as_dict(self) -> dict[str, Any]:
        """Return the task as plain data, for a run's configuration; see also ``nets.describe``."""
        sizes = {
            name: length_of(getattr(self.problem, name)[0])
            for name in ("train", "val", "test", "guard")
            if getattr(self.problem, name) is not None
        }
        return {
            "name": self.name,
            "seed": self.seed,
            "device": str(self.device),
            "dtype": str(self.problem.dtype).removeprefix("torch."),
            "normalize": None if self.normalize is None else asdict(self.normalize),
            "engine": self.engine,
            "precision": self.precision,
            "chunk": self.chunk,
            "maskable_weights": self.layout.weights.size,
            "unit": self.layout.unit,
            "layers": [[layer.name, list(layer.shape)] for layer in self.layout.weights.layers],
            "initial_digest": self.layout.initial_digest,
            "examples": sizes,
            "data_digest": self.data_digest,
            "augment": None if self.problem.augment is None else name_of(self.problem.augment),
            "recipe": self.recipe.as_dict(),
            "fingerprint": self.fingerprint,
            **self._rewinding(),
        }

    def _rewinding(self) -> dict[str, int]:
        """Return the steps that W0 has had, where it has had any."""
        return {"rewound_steps": self.rewound_steps} if self.rewound_steps else {}

    def origin(self, *, generation: int | None = None) -> dict[str, Any]:
        """Return what a reader of a ticket's file needs to find this task again, as plain data.

        Args:
            generation: The generation in which the ticket was first on the front; None where there
                was none.

        Returns:
            ``initial_seed`` (of W0; None where the caller made the model), ``model_digest``,
            ``data`` (name and digest), ``recipe``, ``seed`` (of the task), ``fingerprint``,
            ``generation`` and ``versions``; ``rewound_steps`` where W0 has had any.
        """
        facts = {
            "initial_seed": self.initial_seed,
            "model_digest": self.model_digest,
            "data": {"name": self.name, "digest": self.data_digest},
            "recipe": self.recipe.as_dict(),
            "seed": self.seed,
            "fingerprint": self.fingerprint,
            "generation": generation,
            "versions": versions(),
            **self._rewinding(),
        }
        plain: dict[str, Any] = json.loads(json.dumps(facts))  # as a file gives it back
        return plain
