"""``Progress``: a bar on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from nets_deap import _checks

MODES = ("auto", "bar", "lines", "none")


class Progress:
    """Shows how far a search is, once a generation.

    Args:
        mode: ``"bar"``, ``"lines"`` or ``"none"``; ``"auto"`` is a bar on a terminal and in a
            notebook, else lines.
        generations: How many there will be, for the time left; None if unknown.
        stream: Where to; None for standard error.
    """

    def __init__(
        self, mode: str = "auto", generations: int | None = None, stream: TextIO | None = None
    ) -> None:
        self.mode = _checks.choice("progress", mode, MODES)
        self.generations = generations
        self._stream = stream
        self._start = time.monotonic()
        self._done = 0
        self._bar: Any = None
        if self.mode == "auto":
            self.mode = "bar" if self._interactive() else "lines"

    def go_on(self, generation: int, seconds: float) -> None:
        """Begin after a generation, with the time that was spent until then."""
        self._done, self._start = generation + 1, time.monotonic() - seconds

    def show(self, generation: int, facts: Mapping[str, float | int | None]) -> None:
        """Show a finished generation and its numbers."""
        if self.mode == "bar":
            self._show_bar(generation, facts)
        elif self.mode == "lines":
            text = "  ".join(f"{name} {_short(value)}" for name, value in facts.items())
            of = self._of(generation)
            self.line(f"generation {generation}{of}  {text}  {self._left(generation)}")

    def line(self, text: str) -> None:
        """Write one line, without harm to a bar."""
        if self.mode == "none":
            return
        if self._bar is not None:
            self._bar.write(text, file=self._out())
        else:
            self._out().write(text + "\n")
            self._out().flush()

    def close(self) -> None:
        """Finish the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show_bar(self, generation: int, facts: Mapping[str, float | int | None]) -> None:
        """Move the bar, which counts the first population as one step."""
        if self._bar is None:
            from tqdm.auto import tqdm

            total = None if self.generations is None else self.generations + 1
            self._bar = tqdm(
                total=total,
                initial=self._done,
                desc="generation 0",
                file=self._stream,
                unit="gen",
            )
        self._bar.set_description_str(f"generation {generation}", refresh=False)
        self._bar.set_postfix({k: _short(v) for k, v in facts.items()}, refresh=False)
        self._bar.update(1)

    def _left(self, generation: int) -> str:
        """Format the time spent and left."""
        spent = time.monotonic() - self._start
        if self.generations is None or generation > self.generations:
            return f"{spent:.0f} s"
        left = spent / (generation + 1) * (self.generations - generation)
        return f"{spent:.0f} s, {left:.0f} s left"

    def _of(self, generation: int) -> str:
        """Format the number of generations, if it is known and was right."""
        known = self.generations is not None and generation <= self.generations
        return f"/{self.generations}" if known else ""

    def _out(self) -> TextIO:
        """Return the stream; standard error is looked up late, as tests and notebooks swap it."""
        return sys.stderr if self._stream is None else self._stream

    def _interactive(self) -> bool:
        """Return whether a bar can be drawn."""
        # Other programs than kernels import ipykernel, too; only a kernel has a shell of its kind.
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        return type(shell).__name__ == "ZMQInteractiveShell" or self._out().isatty()


def _short(value: float | int | None) -> str:
    """Return a number with four digits; a dash for none."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4g}"
