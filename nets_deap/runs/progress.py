"""``Progress``: a bar on a terminal or in a notebook, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from nets_deap import _checks

logger = logging.getLogger("nets_deap")

MODES = ("auto", "bar", "lines", "none")
COLUMNS = 80  # of a terminal that does not tell
SHORTEST_BAR = 6


class Progress:
    """Shows how far a search is, once a generation.

    How much time is left is told by the generations after the first population, which takes as
    long as nothing that comes later; so that with it there is no word of that.

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
        # A generation, and the time that was spent by then: what the pace is measured from.
        self._since: tuple[int, float] | None = None
        self._bar: Any = None
        self._handler: logging.Handler = logging.NullHandler()
        if self.mode == "auto":
            self.mode = "bar" if self._interactive() else "lines"

    def go_on(self, generation: int, seconds: float) -> None:
        """Begin after a generation, with the time that was spent until then."""
        self._done, self._start = generation + 1, time.monotonic() - seconds
        self._since = (-1, 0.0)

    def began_by(self, start: float) -> None:
        """Take a time of the monotonic clock as the beginning, if it is earlier."""
        self._start = min(self._start, start)

    @contextlib.contextmanager
    def beginning(self) -> Iterator[None]:
        """Show that the first population is under way; where it comes to nothing, no more."""
        if self.mode == "bar":
            self._bar = self._new_bar("first population")
        try:
            yield
        except BaseException:
            self.close()
            raise

    def show(self, generation: int, facts: Mapping[str, float | int | str | None]) -> None:
        """Show a finished generation and its facts, the most important first."""
        spent, left = self._times(generation)
        texts = [f"{name} {_short(value)}" for name, value in facts.items()]
        title = f"generation {generation}{self._of(generation)}"
        if self.mode == "bar":
            self._show_bar([title, left or spent, *texts])
        elif self.mode == "lines":
            self.line(f"{title}  {'  '.join(texts)}  {spent}{left and f', {left}'}")

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
            logger.removeHandler(self._handler)

    def _new_bar(self, title: str) -> Any:
        """Return a bar, which counts the first population as one step."""
        # In a notebook without ipywidgets tqdm's own choice is a warning, and then the plain bar.
        widgets = importlib.util.find_spec("ipywidgets") is not None
        tqdm: Any = importlib.import_module("tqdm.auto" if widgets else "tqdm").tqdm
        if not logger.hasHandlers():  # what is logged would else be written into the bar
            self._handler = _Lines(self)
            logger.addHandler(self._handler)
        return tqdm(
            total=None if self.generations is None else self.generations + 1,
            initial=self._done,
            desc=title,
            file=self._stream,
            ncols=self._columns(),
            bar_format="|{bar}| {desc}",
        )

    def _show_bar(self, texts: list[str]) -> None:
        """Move the bar, with as many texts beside it as have room."""
        columns = self._columns()
        room = math.inf if columns is None else columns - SHORTEST_BAR - len("||  ")
        text = ", ".join(_fitting(texts, room))
        if self._bar is None:
            self._bar = self._new_bar(text)
        self._bar.ncols = columns
        self._bar.set_description_str(text, refresh=False)
        self._bar.update(1)

    def _times(self, generation: int) -> tuple[str, str]:
        """Return the time spent, and the time left or nothing."""
        spent = time.monotonic() - self._start
        before, self._since = self._since, self._since or (generation, spent)
        if self.generations is None or generation > self.generations:
            return _duration(spent), ""
        remaining = self.generations - generation
        if before is None:
            return _duration(spent), "0 s left" if remaining == 0 else ""
        pace = (spent - before[1]) / max(1, generation - before[0])
        return _duration(spent), f"{_duration(pace * remaining)} left"

    def _of(self, generation: int) -> str:
        """Format the number of generations, if it is known and was right."""
        known = self.generations is not None and generation <= self.generations
        return f"/{self.generations}" if known else ""

    def _out(self) -> TextIO:
        """Return the stream; standard error is looked up late, as tests and notebooks swap it."""
        return sys.stderr if self._stream is None else self._stream

    def _columns(self) -> int | None:
        """Return how wide a line may be; None where there is no terminal, as in a notebook."""
        try:  # a line that fills the last column wraps on some terminals
            return (os.get_terminal_size(self._out().fileno()).columns or COLUMNS) - 1
        except (OSError, ValueError):
            return None

    def _interactive(self) -> bool:
        """Return whether a bar can be drawn."""
        # Other programs than kernels import ipykernel, too; only a kernel has a shell of its kind.
        shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
        return type(shell).__name__ == "ZMQInteractiveShell" or self._out().isatty()


class _Lines(logging.Handler):
    """Writes what is logged as lines of a progress."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(logging.WARNING)
        self._progress = progress

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        self._progress.line(self.format(record))


def _fitting(texts: list[str], room: float) -> Iterator[str]:
    """Yield the first texts that fit with commas between into so many columns."""
    for text in texts:
        room -= len(text)
        if room < 0:
            return
        yield text
        room -= len(", ")


def _short(value: float | int | str | None) -> str:
    """Return a number with four digits, text as it is; a dash for none."""
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    """Format a duration for somebody who waits."""
    whole = round(seconds)
    if whole < 600:
        return f"{whole} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"
