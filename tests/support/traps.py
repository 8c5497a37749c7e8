"""Networks whose training goes wrong in a worker, in the ways that processes do."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import nn

import nets_deap as nets

HERE = os.getpid()  # goes with the module: the process of the test
# What happens where a ticket keeps so many weights of the first layer.
WAYS = {
    10: "SIGKILL", 11: "SIGSEGV", 12: "exit", 13: "SIGSTOP", 14: "raise", 15: "memory",
}  # fmt: skip


class Trap(nn.Module):
    """A small network that springs in any process but the test's, by what its ticket keeps.

    Each way springs as often as its file in the folder says, less once each time; without a file
    it never does.
    """

    def __init__(self, folder, seconds=0.0):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 2)
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)
        self.folder, self.home, self.seconds = Path(folder), HERE, seconds

    def forward(self, x):
        if os.getpid() != self.home and self.training:
            time.sleep(self.seconds)
            how = WAYS.get(int(torch.count_nonzero(self.first.weight)), "")
            if how and self._springs(how):
                spring(how)
        return self.last(torch.tanh(self.first(x)))

    def _springs(self, how):
        try:
            left = int((self.folder / how).read_text())
        except FileNotFoundError:
            return False
        if left > 0:
            set_trap(self.folder, how, left - 1)
        return left > 0


def set_trap(folder, how, times):
    """Let one way spring so many times."""
    (Path(folder) / how).write_text(str(times))


def spring(how):
    """Go wrong."""
    if how == "raise":
        raise ArithmeticError("sprung")
    if how == "exit":
        os._exit(3)
    if how == "memory":
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: made up")
    os.kill(os.getpid(), getattr(signal, how))
    time.sleep(60)  # it does not go on until the signal has come


def task(folder, **options):
    """Return a task of a trap, in float64, one network at a time."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 6, generator=generator, dtype=torch.float64)
    y = (x[:, 0] * x[:, 1] > 0).long()
    return nets.Task(
        Trap(folder, **options).double(),
        train=(x[:40], y[:40]),
        val=(x[40:], y[40:]),
        recipe=nets.Recipe(lr=0.02, batch_size=8, steps=12),
        device="cpu",
        engine="loop",
        seed=3,
    )


def tickets(task, kept):
    """Return tickets with so many kept weights in the first layer, and all of the second."""
    found = []
    for n in kept:
        mask = torch.ones(task.layout.size, dtype=torch.bool).numpy()
        mask[n:48] = False
        found.append(task.ticket(mask))
    return found
